//! Coming back: the same ports, or a visible conflict; and what a changed configuration leaves alone.

use std::time::Duration;

use harbor_registry::{Answer, Refusal};
use harbor_types::wire::{EventKind, ServiceState};
use harbor_types::{Claim, Protocol};

use crate::world::{Kind, World, addr, config, id};

#[test]
fn the_same_services_come_back_on_the_same_ports() {
    let mut world = World::new("20000-20009");
    let ports = [world.create(1, "a"), world.create(2, "udp-b")];
    world.hold_back(Kind::Bind);
    world.restart();
    assert!(!world.registry.is_ready());
    assert_eq!(world.view(1).state, ServiceState::Binding);
    assert!(world.held.values().all(|held| held.claim == Claim::Restore));
    world.let_go(Kind::Bind);
    assert!(world.registry.is_ready());
    assert_eq!([world.port(1), world.port(2)], ports);
    assert_eq!(world.view(2).state, ServiceState::Bound);
    assert_eq!(world.snapshots.len(), 2);
}

#[test]
fn an_empty_store_is_ready_at_once_and_nothing_is_before_the_load() {
    assert!(World::new("20000").registry.is_ready());
    assert!(!harbor_registry::Registry::new(config("20000"), 1).is_ready());
}

#[test]
fn a_stolen_port_makes_its_service_conflicted_and_nothing_else() {
    let mut world = World::new("20000-20009");
    let stolen = world.create(1, "a");
    world.create(2, "b");
    world.register(1, "i0", addr(1)).unwrap();
    world.foreign = [stolen].into();
    world.restart();
    assert!(world.registry.is_ready(), "conflicted is decided");
    assert_eq!((world.view(1).state, world.view(2).state), (ServiceState::Conflicted, ServiceState::Bound));
    assert!(world.view(1).conflict.unwrap().contains("held by another process"));
    assert_eq!(world.registry.counts().conflicted, 1);
    world.heartbeat(1, "i0").unwrap();
    assert!(world.register(1, "i1", addr(2)).is_ok(), "its pool lives on");
    let tries = |world: &World| world.tried.iter().filter(|port| **port == stolen).count();
    let before = tries(&world);
    for (seconds, more) in [(1, 1), (2, 2), (4, 3), (8, 4), (16, 5), (30, 6), (30, 7)] {
        world.pass(Duration::from_secs(seconds) - Duration::from_millis(1));
        assert_eq!(tries(&world), before + more - 1, "{seconds}");
        world.pass(Duration::from_millis(1));
        assert_eq!(tries(&world), before + more, "{seconds}");
        world.heartbeat(1, "i0").ok();
    }
    assert_eq!(world.events(EventKind::ServiceConflicted), 1, "told once, not with each try");
    world.foreign.clear();
    let i2 = world.register(1, "i2", addr(3));
    assert!(i2.is_ok());
    world.pass(Duration::from_secs(29));
    assert_eq!(world.view(1).state, ServiceState::Conflicted);
    world.heartbeat(1, "i2").unwrap();
    world.pass(Duration::from_secs(1));
    assert_eq!((world.view(1).state, world.port(1)), (ServiceState::Bound, stolen));
    assert_eq!(world.events(EventKind::ServiceBound), 1);
    assert!(world.serving(1, Protocol::Tcp).contains(&"i2"));
}

#[test]
fn a_conflicted_service_can_be_deleted() {
    let mut world = World::new("20000-20009");
    let stolen = world.create(1, "a");
    world.foreign = [stolen].into();
    world.restart();
    assert_eq!(world.delete(1), Ok(Answer::Deleted));
    assert_eq!(world.retired, 0, "there was nothing to close");
    world.pass(Duration::from_secs(60));
    assert_eq!(world.tried.iter().filter(|port| **port == stolen).count(), 2, "and nothing to try again");
}

#[test]
fn a_service_deleted_while_its_port_is_tried_lets_go_of_what_the_try_brings() {
    let mut world = World::new("20000");
    world.create(1, "a");
    world.hold_back(Kind::Bind);
    world.restart();
    let delete = harbor_registry::DeleteMode::IfUnbound;
    let call = world.begin(harbor_registry::Command::Deprovision { service: id(1), mode: delete });
    assert_eq!(world.reply(call), None, "the sockets may be open");
    world.let_go(Kind::Bind);
    assert_eq!(world.reply(call), Some(&Ok(Answer::Deleted)));
    assert!(world.held.is_empty() && world.registry.is_ready());
}

#[test]
fn services_outside_a_changed_range_keep_their_ports() {
    let mut world = World::new("20000-20009");
    let port = world.create(1, "a");
    world.restart_with(config("21000"));
    assert_eq!((world.port(1), world.view(1).state), (port, ServiceState::Bound));
    let view = world.registry.ports(world.now);
    assert_eq!((view.free, view.leased, view.ports.len()), (1, 1, 1));
    world.delete(1).unwrap();
    let view = world.registry.ports(world.now);
    assert_eq!((view.free, view.leased, view.quarantined), (1, 0, 1));
    world.pass(Duration::from_secs(600));
    assert!(world.registry.ports(world.now).ports.is_empty());
    assert_eq!(world.create(2, "b"), 21000);
    assert!(matches!(world.order(3, "c"), Err(Refusal::Exhausted { .. })));
}
