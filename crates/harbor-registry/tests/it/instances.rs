//! Instances that register, live, expire and leave.

use std::time::Duration;

use harbor_registry::{Answer, Command, DeleteMode, Refusal};
use harbor_types::wire::EventKind;
use harbor_types::{Lifetime, Protocol, Span};

use crate::world::{Fate, Kind, World, addr, id, order};

const TTL: Option<Span> = Some(Span::secs(30));

fn joined(reply: &Result<Answer, Refusal>) -> bool {
    matches!(reply, Ok(Answer::Registered { joined: true, .. }))
}

fn world() -> World {
    let mut world = World::new("20000-20009");
    world.create(1, "both-a");
    world
}

#[test]
fn a_registration_is_answered_once_every_relay_thread_knows() {
    let mut world = world();
    world.hold_back(Kind::Publish);
    let first = world.begin(World::registration(1, "i0", addr(1), None));
    assert_eq!(world.reply(first), None);
    assert_eq!(world.serving(1, Protocol::Tcp), ["i0"]);
    world.let_go(Kind::Publish);
    assert_eq!(world.reply(first), Some(&Ok(Answer::Registered { joined: true, ttl: TTL })));
    assert_eq!(world.snapshots[&id(1)].generation.0, 2);
}

#[test]
fn a_deregistration_is_answered_once_no_relay_thread_has_it() {
    let mut world = world();
    world.register(1, "i0", addr(1)).unwrap();
    world.hold_back(Kind::Publish);
    let call = world.begin(Command::Deregister { service: id(1), instance: "i0".parse().unwrap() });
    assert_eq!((world.reply(call), world.serving(1, Protocol::Udp).len()), (None, 0));
    world.let_go(Kind::Publish);
    assert_eq!(world.reply(call), Some(&Ok(Answer::Deregistered)));
    assert!(matches!(world.deregister(1, "i0"), Err(Refusal::UnknownInstance { .. })));
}

#[test]
fn what_runs_to_an_instance_that_was_taken_back_has_to_end_and_to_one_that_fell_silent_not() {
    let mut world = world();
    for (instance, n) in [("i0", 1), ("i1", 2), ("i2", 3)] {
        world.register(1, instance, addr(n)).unwrap();
    }
    world.deregister(1, "i0").unwrap();
    assert_eq!(world.dismissed, ["i0"]);
    world.register(1, "i1", addr(4)).unwrap();
    assert_eq!(world.dismissed, ["i0", "i1"], "a new address is a leave and a join");
    world.pass(Duration::from_secs(31));
    assert_eq!(world.view(1).backends.len(), 0);
    assert_eq!(world.dismissed.len(), 2);
}

#[test]
fn the_arrival_order_is_kept_and_a_new_address_queues_last() {
    let mut world = world();
    for (instance, n) in [("i2", 1), ("i0", 2), ("i1", 3)] {
        assert!(joined(&world.register(1, instance, addr(n))));
    }
    let changes = world.store.changes.len();
    assert_eq!(world.register(1, "i2", addr(1)), Ok(Answer::Registered { joined: false, ttl: TTL }));
    assert_eq!(world.store.changes.len(), changes, "a refresh is no record");
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        assert_eq!(world.serving(1, protocol), ["i2", "i0", "i1"]);
    }
    assert!(joined(&world.register(1, "i2", addr(9))));
    assert_eq!(world.store.changes.len(), changes + 1, "leave and join are one change");
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        assert_eq!(world.serving(1, protocol), ["i0", "i1", "i2"]);
    }
    world.restart();
    assert_eq!(world.serving(1, Protocol::Udp), ["i0", "i1", "i2"], "also after a restart");
}

#[test]
fn an_instance_that_falls_silent_is_out_at_once_and_its_leave_is_committed() {
    let mut world = world();
    world.register(1, "i0", addr(1)).unwrap();
    world.register(1, "i1", addr(2)).unwrap();
    world.pass(Duration::from_secs(20));
    world.heartbeat(1, "i1").unwrap();
    world.fates.push_back(Fate::NotCommitted);
    world.pass(Duration::from_secs(10));
    assert_eq!(world.serving(1, Protocol::Tcp), ["i1"]);
    assert!(matches!(world.heartbeat(1, "i0"), Err(Refusal::UnknownInstance { .. })));
    assert_eq!((world.view(1).backends.len(), world.registry.counts().backends), (1, 1));
    assert_eq!(world.store.load().records.len(), 3, "the first attempt to tell the store failed");
    world.pass(Duration::from_secs(1));
    assert_eq!(world.store.load().records.len(), 2);
    assert_eq!((world.events(EventKind::BackendExpired), world.events(EventKind::BackendLeft)), (1, 0));
}

#[test]
fn one_that_returns_after_its_expiry_queues_last_even_while_its_leave_is_on_its_way() {
    let mut world = world();
    world.register(1, "i0", addr(1)).unwrap();
    world.ask(World::registration(1, "i1", addr(2), Some(Lifetime::Permanent))).unwrap();
    world.hold_back(Kind::Commit);
    world.pass(Duration::from_secs(30));
    assert_eq!(world.serving(1, Protocol::Udp), ["i1"]);
    let back = world.begin(World::registration(1, "i0", addr(1), None));
    assert_eq!(world.reply(back), None, "it waits for the leave");
    world.let_go(Kind::Commit);
    assert!(joined(world.reply(back).unwrap()));
    assert_eq!(world.serving(1, Protocol::Udp), ["i1", "i0"]);
    world.restart();
    assert_eq!(world.serving(1, Protocol::Udp), ["i1", "i0"]);
}

#[test]
fn a_registration_that_waits_through_its_own_expiry_joins_anew() {
    let mut world = world();
    world.register(1, "i0", addr(1)).unwrap();
    world.hold_back(Kind::Commit);
    let other = world.begin(World::registration(1, "i1", addr(2), Some(Lifetime::Permanent)));
    let back = world.begin(World::registration(1, "i0", addr(1), None));
    world.pass(Duration::from_secs(30));
    world.let_go(Kind::Commit);
    assert!(joined(world.reply(other).unwrap()) && joined(world.reply(back).unwrap()));
    assert_eq!(world.serving(1, Protocol::Udp), ["i1", "i0"]);
    assert_eq!(world.view(1).backends.len(), 2);
}

#[test]
fn the_time_to_live_can_be_asked_for_changed_softly_and_given_up() {
    let mut world = world();
    let leased = |seconds| Some(Lifetime::Leased(Span::secs(seconds)));
    assert!(joined(&world.ask(World::registration(1, "i0", addr(1), leased(100)))));
    let changes = world.store.changes.len();
    let again = world.ask(World::registration(1, "i0", addr(1), leased(5)));
    assert_eq!(again, Ok(Answer::Registered { joined: false, ttl: Some(Span::secs(5)) }));
    assert_eq!(world.store.changes.len(), changes);
    world.pass(Duration::from_secs(4));
    assert_eq!(world.heartbeat(1, "i0"), Ok(Answer::Refreshed { ttl: Some(Span::secs(5)) }));
    world.pass(Duration::from_secs(4));
    assert_eq!(world.serving(1, Protocol::Tcp), ["i0"]);
    world.pass(Duration::from_secs(1));
    assert!(world.serving(1, Protocol::Tcp).is_empty(), "the shorter time counts");
    let permanent = Some(Lifetime::Permanent);
    world.register(1, "i0", addr(1)).unwrap();
    assert!(joined(&world.ask(World::registration(1, "i0", addr(1), permanent))), "leased to permanent is a new join");
    world.pass(Duration::from_secs(100_000));
    assert_eq!(world.heartbeat(1, "i0"), Ok(Answer::Refreshed { ttl: None }));
}

#[test]
fn times_to_live_and_addresses_that_cannot_be_are_refused() {
    let mut world = world();
    for ttl in [Span::ZERO, Span::millis(999), Span::secs(86_401)] {
        let reply = world.ask(World::registration(1, "i0", addr(1), Some(Lifetime::Leased(ttl))));
        assert_eq!(reply, Err(Refusal::BadTtl { ttl }));
    }
    for text in ["8.8.8.8:53", "169.254.169.254:80", "127.0.0.1:8700"] {
        let reply = world.register(1, "i0", text.parse().unwrap());
        assert!(matches!(reply, Err(Refusal::Address(_))), "{text} {reply:?}");
    }
    let own = std::net::SocketAddr::new("10.1.0.1".parse().unwrap(), world.port(1));
    assert_eq!(
        world.register(1, "i0", own),
        Err(Refusal::OwnListener { addr: own }),
        "the wildcard listener on our ip"
    );
    let own = std::net::SocketAddr::new("10.1.0.3".parse().unwrap(), world.port(1));
    assert_eq!(
        world.register(1, "i0", own),
        Err(Refusal::OwnListener { addr: own }),
        "and on another interface of ours"
    );
    let elsewhere = std::net::SocketAddr::new("10.1.0.2".parse().unwrap(), world.port(1));
    assert!(joined(&world.register(1, "i0", elsewhere)), "the same number on another host is none of ours");
    assert!(matches!(world.register(9, "i0", addr(1)), Err(Refusal::UnknownService { .. })));
    assert!(matches!(world.heartbeat(9, "i0"), Err(Refusal::UnknownService { .. })));
}

#[test]
fn known_backends_stay_for_one_full_time_to_live_after_a_restart() {
    let mut world = world();
    world.register(1, "i0", addr(1)).unwrap();
    world.pass(Duration::from_secs(29));
    world.restart();
    world.pass(Duration::from_secs(29));
    assert_eq!(world.serving(1, Protocol::Tcp), ["i0"]);
    world.pass(Duration::from_secs(1));
    assert!(world.serving(1, Protocol::Tcp).is_empty());
    assert_eq!(world.store.load().records.len(), 1);
}

#[test]
fn heartbeats_never_wait_and_write_nothing() {
    let mut world = world();
    world.register(1, "i0", addr(1)).unwrap();
    world.hold_back(Kind::Commit);
    world.begin(World::registration(1, "i1", addr(2), None));
    let changes = world.store.changes.len();
    assert_eq!(world.heartbeat(1, "i0"), Ok(Answer::Refreshed { ttl: TTL }));
    assert_eq!(world.store.changes.len(), changes);
}

#[test]
fn a_snapshot_is_published_only_when_it_differs() {
    let mut world = world();
    world.register(1, "i0", addr(1)).unwrap();
    let publishes = world.publishes;
    world.heartbeat(1, "i0").unwrap();
    world.register(1, "i0", addr(1)).unwrap();
    world.bind(1, "web").unwrap();
    world.pass(Duration::from_secs(5));
    assert_eq!(world.publishes, publishes);
}

#[test]
fn events_are_numbered_bounded_and_say_what_was_missed() {
    let mut world = world();
    for _ in 0..600 {
        world.register(1, "i0", addr(1)).unwrap();
        world.deregister(1, "i0").unwrap();
    }
    let all = world.registry.events(0, usize::MAX);
    assert_eq!((all.events.len(), all.latest, all.missed), (1_024, 1_201, true));
    let page = world.registry.events(1_200, 10);
    assert_eq!((page.events.len(), page.missed, page.events[0].sequence), (1, false, 1_201));
    assert_eq!(page.events[0].kind, EventKind::BackendLeft);
    let page = world.registry.events(200, 3);
    assert_eq!(page.events.iter().map(|event| event.sequence).collect::<Vec<_>>(), [201, 202, 203]);
    assert!(world.registry.events(5_000, 3).events.is_empty());
}

#[test]
fn a_leave_that_waits_behind_a_deletion_is_dropped_with_the_service() {
    let mut world = world();
    world.register(1, "i0", addr(1)).unwrap();
    world.hold_back(Kind::Commit);
    let delete = world.begin(Command::Deprovision { service: id(1), mode: DeleteMode::IfUnbound });
    world.pass(Duration::from_secs(30));
    let create = world.begin(Command::Provision(order(1, "both-a")));
    world.let_go(Kind::Commit);
    assert_eq!(world.reply(delete), Some(&Ok(Answer::Deleted)));
    assert_eq!(world.reply(create), Some(&Ok(Answer::Created(id(1)))));
    assert!(world.view(1).backends.is_empty());
}
