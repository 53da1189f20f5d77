//! Failures that relays report: who is out, for how long, and where those who return stand.

use std::time::Duration;

use harbor_registry::Outcome;
use harbor_types::wire::{BackendHealth, EventKind};
use harbor_types::{Failure, Generation, Observed, Protocol, Revision, Verdict};

use crate::world::{World, addr, id};
use Protocol::{Tcp, Udp};

fn world(instances: u8) -> World {
    let mut world = World::new("20000-20009");
    world.create(1, "both-a");
    for n in 0..instances {
        let permanent = Some(harbor_types::Lifetime::Permanent);
        world.ask(World::registration(1, &format!("i{n}"), addr(n + 1), permanent)).unwrap();
    }
    world
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn three_tcp_failures_in_a_row_eject_for_ten_seconds() {
    let mut world = world(3);
    world.fail(1, "i1", Tcp);
    assert_eq!(world.snapshots[&id(1)].tcp.iter().map(|it| it.on_trial).collect::<Vec<_>>(), [false, true, false]);
    world.fail(1, "i1", Tcp);
    assert_eq!(world.serving(1, Tcp), ["i0", "i1", "i2"]);
    world.fail(1, "i1", Tcp);
    assert_eq!(world.serving(1, Tcp), ["i0", "i2"]);
    assert_eq!(world.serving(1, Udp), ["i0", "i1", "i2"], "eligibility is per protocol");
    let view = world.view(1).backends[1].clone();
    assert_eq!(view.protocols[0].health, BackendHealth::Ejected);
    assert_eq!((view.protocols[0].place, view.protocols[1].place), (None, Some(1)));
    assert_eq!(view.protocols[0].last_failure, Some(Failure::Refused));
    world.pass(secs(10) - Duration::from_millis(1));
    assert_eq!(world.serving(1, Tcp), ["i0", "i2"]);
    world.pass(Duration::from_millis(1));
    assert_eq!(world.serving(1, Tcp), ["i0", "i1", "i2"], "back in its old turn");
    assert_eq!((world.events(EventKind::BackendEjected), world.events(EventKind::BackendReturned)), (1, 1));
}

#[test]
fn a_success_in_between_starts_the_count_again() {
    let mut world = world(2);
    for _ in 0..5 {
        world.fail(1, "i0", Tcp);
        world.fail(1, "i0", Tcp);
        world.observe(1, "i0", Tcp, Verdict::Succeeded);
        assert!(!world.snapshots[&id(1)].tcp[0].on_trial);
        assert_eq!(world.view(1).backends[0].protocols[0].last_failure, None);
    }
    assert_eq!(world.serving(1, Tcp), ["i0", "i1"]);
}

#[test]
fn times_out_double_up_to_five_minutes_and_a_success_resets_them() {
    let mut world = world(2);
    let eject = |world: &mut World| {
        (0..3).for_each(|_| world.fail(1, "i0", Tcp));
        assert_eq!(world.serving(1, Tcp), ["i1"]);
    };
    for seconds in [10, 20, 40, 80, 160, 300, 300] {
        eject(&mut world);
        world.pass(secs(seconds) - Duration::from_millis(1));
        assert_eq!(world.serving(1, Tcp), ["i1"], "{seconds}");
        world.pass(Duration::from_millis(1));
        assert_eq!(world.serving(1, Tcp), ["i0", "i1"], "{seconds}");
        assert!(world.snapshots[&id(1)].tcp[0].on_trial, "the relays are to say when it works again");
    }
    world.observe(1, "i0", Tcp, Verdict::Succeeded);
    eject(&mut world);
    world.pass(secs(10));
    assert_eq!(world.serving(1, Tcp), ["i0", "i1"]);
}

#[test]
fn the_last_eligible_one_is_never_ejected() {
    let mut world = world(2);
    (0..3).for_each(|_| world.fail(1, "i0", Tcp));
    world.fail(1, "i0", Udp);
    let publishes = world.publishes;
    (0..9).for_each(|_| world.fail(1, "i1", Tcp));
    assert_eq!(world.publishes, publishes + 1, "only its trial is news");
    world.fail(1, "i1", Udp);
    assert_eq!(world.publishes, publishes + 1, "a refusal that moves nothing is none");
    assert_eq!((world.serving(1, Tcp), world.serving(1, Udp)), (vec!["i1"], vec!["i1"]));
    world.pass(secs(10));
    assert_eq!((world.serving(1, Tcp), world.serving(1, Udp)), (vec!["i0", "i1"], vec!["i1", "i0"]));
    world.fail(1, "i1", Tcp);
    assert_eq!(world.serving(1, Tcp), ["i0"], "now there is another, and it failed often enough");
}

#[test]
fn who_is_out_comes_back_at_once_when_all_others_leave() {
    let mut world = world(3);
    world.fail(1, "i0", Udp);
    world.fail(1, "i1", Udp);
    assert_eq!(world.serving(1, Udp), ["i2"]);
    world.deregister(1, "i2").unwrap();
    assert_eq!(world.serving(1, Udp), ["i0", "i1"]);
    world.pass(secs(60));
    assert_eq!(world.serving(1, Udp), ["i0", "i1"]);
}

#[test]
fn the_first_udp_refusal_moves_the_service_and_the_returning_one_queues_last() {
    let mut world = world(3);
    world.fail(1, "i0", Udp);
    assert_eq!((world.serving(1, Udp), world.serving(1, Tcp)), (vec!["i1", "i2"], vec!["i0", "i1", "i2"]));
    world.pass(secs(10));
    assert_eq!(world.serving(1, Udp), ["i1", "i2", "i0"]);
    world.ask(World::registration(1, "i3", addr(9), None)).unwrap();
    assert_eq!(world.serving(1, Udp), ["i1", "i2", "i0", "i3"], "who arrives later queues behind it");
    world.fail(1, "i1", Udp);
    assert_eq!(world.serving(1, Udp), ["i2", "i0", "i3"]);
}

#[test]
fn udp_suspensions_double_until_the_backend_was_well_for_a_while() {
    let mut world = world(2);
    for seconds in [10, 20] {
        world.fail(1, "i0", Udp);
        world.pass(secs(seconds) - Duration::from_millis(1));
        assert_eq!(world.serving(1, Udp), ["i1"], "{seconds}");
        world.pass(Duration::from_millis(1));
        assert_eq!(world.serving(1, Udp), ["i1", "i0"], "{seconds}");
    }
    world.pass(secs(300));
    world.fail(1, "i0", Udp);
    world.pass(secs(10));
    assert_eq!(world.serving(1, Udp), ["i1", "i0"], "five quiet minutes are forgiveness");
    world.fail(1, "i0", Udp);
    world.pass(secs(20));
    world.observe(1, "i0", Udp, Verdict::Succeeded);
    world.fail(1, "i0", Udp);
    world.pass(secs(10));
    assert_eq!(world.serving(1, Udp), ["i1", "i0"], "and so is an answer");
}

#[test]
fn reports_about_what_no_longer_is_do_not_count() {
    let mut world = world(2);
    let joined = world.snapshots[&id(1)].udp[0].joined;
    let seen = |instance: &str, joined, generation| {
        let verdict = Verdict::Failed(Failure::Refused);
        let instance = instance.parse().unwrap();
        Outcome::Observed(Observed { service: id(1), instance, joined, protocol: Udp, generation, verdict })
    };
    let before = world.snapshots[&id(1)].generation;
    world.registry.outcome(world.now, seen("i0", Revision(999), before));
    world.registry.outcome(world.now, seen("nobody", joined, before));
    world.run();
    assert_eq!(world.serving(1, Udp), ["i0", "i1"]);
    world.fail(1, "i0", Udp);
    world.pass(secs(10));
    world.registry.outcome(world.now, seen("i0", joined, before));
    world.registry.outcome(world.now, seen("i0", joined, Generation(0)));
    world.run();
    assert_eq!(world.serving(1, Udp), ["i1", "i0"], "seen before its suspension");
}

#[test]
fn a_new_registration_has_a_clean_slate() {
    let mut world = world(2);
    (0..3).for_each(|_| world.fail(1, "i0", Tcp));
    world.deregister(1, "i0").unwrap();
    world.register(1, "i0", addr(1)).unwrap();
    assert_eq!(world.serving(1, Tcp), ["i1", "i0"]);
    assert!(!world.snapshots[&id(1)].tcp[1].on_trial);
    world.pass(secs(10));
    assert_eq!(world.serving(1, Tcp), ["i1", "i0"]);
}
