//! What the allocator promises, by example.

use std::time::{Duration, Instant};

use harbor_alloc::{LeaseError, PortAllocator, PortCounts, PortUse};
use harbor_types::{Port, PortRange, PortRanges, ServiceId};

#[expect(clippy::disallowed_methods, reason = "tests need some moment to count from")]
fn start() -> Instant {
    Instant::now()
}

fn port(number: u16) -> Port {
    Port::new(number).unwrap()
}

fn holder(number: u128) -> ServiceId {
    ServiceId::from_u128(number)
}

fn allocator(ranges: &str, seed: u64) -> PortAllocator {
    PortAllocator::new(ranges.parse::<PortRanges>().unwrap(), seed)
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn same_seed_gives_the_same_ports_and_another_seed_others() {
    let draw = |seed| {
        let mut ports = allocator("20000-29999", seed);
        (0..50).map(|n| ports.lease(holder(n)).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
}

#[test]
fn every_port_of_all_ranges_is_leased_once_and_then_the_refusal_counts() {
    let mut ports = allocator("20000-20004,65534-65535", 3);
    let mut leased = (0..7).map(|n| ports.lease(holder(n)).unwrap().get()).collect::<Vec<_>>();
    leased.sort_unstable();
    assert_eq!(leased, [20000, 20001, 20002, 20003, 20004, 65534, 65535]);
    ports.release(port(20000), start());
    ports.set_aside(port(65535), start());
    let counts = PortCounts { free: 0, leased: 5, quarantined: 1, held_by_others: 1 };
    assert_eq!(ports.lease(holder(9)), Err(LeaseError::Exhausted(counts)));
}

#[test]
fn the_whole_port_space_can_be_a_range() {
    let mut ports = PortAllocator::new("1-65535".parse::<PortRange>().unwrap(), 11);
    for n in 0..65_535 {
        ports.lease(holder(n)).unwrap();
    }
    ports.check_invariants().unwrap();
    assert!(ports.lease(holder(70_000)).is_err());
}

#[test]
fn released_port_rests_until_its_rest_is_ended() {
    let (mut ports, now) = (allocator("20000", 1), start());
    ports.lease(holder(1)).unwrap();
    assert!(ports.release(port(20000), now + SECOND));
    assert_eq!(
        ports.lease_exact(port(20000), holder(2)),
        Err(LeaseError::Resting { port: port(20000), until: now + SECOND })
    );
    assert!(ports.on_deadline(now).is_empty());
    assert_eq!(ports.next_deadline(), Some(now + SECOND));
    assert_eq!(ports.on_deadline(now + SECOND), [port(20000)]);
    assert!(ports.lease(holder(2)).is_err(), "whoever keeps the record of the rest ends it");
    assert_eq!(ports.next_deadline(), None);
    assert!(ports.end_rest(port(20000)));
    assert_eq!(ports.lease(holder(2)), Ok(port(20000)));
}

#[test]
fn port_set_aside_is_free_again_after_its_time_and_tried_earlier_when_asked_for() {
    let (mut ports, now) = (allocator("20000-20001", 1), start());
    ports.set_aside(port(20000), now + SECOND);
    ports.set_aside(port(20001), now + SECOND);
    assert!(ports.lease(holder(1)).is_err());
    ports.lease_exact(port(20001), holder(1)).unwrap();
    assert!(ports.on_deadline(now + SECOND).is_empty(), "set aside is no rest");
    assert_eq!(ports.lease(holder(2)), Ok(port(20000)));
}

#[test]
fn ports_tried_already_are_passed_over() {
    let mut ports = allocator("20000-20002", 5);
    let tried = [port(20000), port(20002)].into();
    assert_eq!(ports.lease_except(holder(1), &tried), Ok(port(20001)));
    assert!(matches!(ports.lease_except(holder(1), &tried), Err(LeaseError::Exhausted(_))));
}

#[test]
fn restored_ports_keep_their_holder_also_outside_the_ranges() {
    let (mut ports, now) = (allocator("20000-20001", 1), start());
    ports.restore(port(30000), holder(1)).unwrap();
    ports.restore(port(30000), holder(1)).unwrap();
    assert!(matches!(ports.restore(port(30000), holder(2)), Err(LeaseError::Taken { .. })));
    assert_eq!(ports.counts_outside().leased, 1);
    ports.restore_rest(port(20001), now);
    ports.restore(port(20001), holder(2)).unwrap();
    assert_eq!(ports.next_deadline(), None, "no rest is left");
    assert!(ports.release(port(30000), now));
    assert!(ports.end_rest(port(30000)));
    assert_eq!(ports.state_of(port(30000)), None);
    assert_eq!(ports.lease_exact(port(30000), holder(3)), Err(LeaseError::Outside(port(30000))));
    assert_eq!(ports.used().collect::<Vec<_>>(), [(port(20001), PortUse::Leased(holder(2)))]);
}

#[test]
fn a_lease_that_was_never_promised_is_free_at_once() {
    let mut ports = allocator("20000", 1);
    let leased = ports.lease(holder(1)).unwrap();
    assert!(ports.unlease(leased));
    assert!(!ports.unlease(leased));
    assert_eq!(ports.lease(holder(2)), Ok(leased));
}
