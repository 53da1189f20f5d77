//! Ordering services: what is promised, what is refused, what identical orders get.

use std::collections::BTreeSet;

use harbor_registry::{Answer, Command, Refusal};
use harbor_types::wire::{EventKind, ServiceState};
use harbor_types::{Access, AppName, Claim, Conflict, OrgName, Port, Protocol, Protocols, SpaceName, UniqueKey};

use crate::world::{Fate, Kind, World, config, id, order};

fn port(number: u16) -> Port {
    Port::new(number).unwrap()
}

#[test]
fn an_order_is_answered_once_held_committed_and_published() {
    let mut world = World::new("20000-20009");
    for kind in [Kind::Bind, Kind::Commit, Kind::Publish] {
        world.hold_back(kind);
    }
    let call = world.begin(Command::Provision(order(1, "my-port")));
    assert_eq!(world.held[&id(1)].claim, Claim::Fresh);
    assert_eq!(world.registry.counts().ports_leased, 1, "reserved while the call is in flight");
    assert!(world.store.changes.is_empty(), "nothing is committed before the port is held");
    world.let_go(Kind::Bind);
    assert_eq!((world.reply(call), world.registry.services(world.now).len()), (None, 0));
    world.let_go(Kind::Commit);
    assert_eq!(world.reply(call), None, "no relay thread has the listener yet");
    assert_eq!(world.view(1).state, ServiceState::Bound);
    assert!(!world.registry.is_idle());
    world.let_go(Kind::Publish);
    assert_eq!(world.reply(call), Some(&Ok(Answer::Created(id(1)))));
    assert_eq!(world.snapshots[&id(1)].generation.0, 1);
    assert!(world.registry.is_idle());
}

#[test]
fn the_credentials_are_those_of_the_document() {
    let mut config = config("30134");
    config.node_id = "harbor_node_1".parse().unwrap();
    config.host = "192.168.68.111".parse().unwrap();
    let public = config.public.as_mut().unwrap();
    public.ext_host = "15.185.104.122".parse().unwrap();
    public.ext_hostname = Some("ports.example.com".parse().unwrap());
    let mut world = World::with(config);
    world.create(0xcf7f_868a_8b7b_4ac8_ab4d_9fd8_7efb_7c09, "my-port");
    let it = world.view(0xcf7f_868a_8b7b_4ac8_ab4d_9fd8_7efb_7c09).credentials;
    assert_eq!(it.hostname.to_string(), "192.168.68.111", "no internal name is configured");
    assert_eq!((it.port, it.int_port), (port(30134), port(4100)));
    assert_eq!(it.name.to_string(), "cf7f868a-8b7b-4ac8-ab4d-9fd87efb7c09");
    assert_eq!(it.ext_hostname.unwrap().to_string(), "ports.example.com");
    assert_eq!(it.ext_host.unwrap().to_string(), "15.185.104.122");
    assert_eq!((it.protocol, it.https), (None, None));
}

#[test]
fn what_departs_from_the_name_is_said_and_internal_services_name_no_public_address() {
    let mut world = World::new("20000-20009");
    let mut order = order(1, "udp-dns");
    (order.protocol, order.https, order.access) = (Some(Protocols::Both), Some(true), Some(Access::Internal));
    world.ask(Command::Provision(order)).unwrap();
    let it = world.view(1).credentials;
    assert_eq!((it.protocol, it.https), (Some(Protocols::Both), Some(true)));
    assert_eq!((it.ext_host, it.ext_hostname), (None, None));
    assert_eq!(world.held[&id(1)].access, Access::Internal);
}

#[test]
fn half_the_range_in_foreign_hands_is_skipped_and_set_aside() {
    let mut world = World::new("20000-20019");
    world.foreign = (20000..20020).step_by(2).collect();
    let ports: BTreeSet<u16> = (1..=10).map(|n| world.create(n, &format!("port-{n}"))).collect();
    assert_eq!(ports, (20001..20020).step_by(2).collect());
    let tried: BTreeSet<u16> = world.tried.iter().copied().collect();
    assert_eq!(tried.len(), world.tried.len(), "no port is tried twice");
    assert_eq!(world.events(EventKind::PortSetAside), world.registry.counts().ports_held_by_others);
}

#[test]
fn an_exhausted_range_is_refused_with_its_counts() {
    let mut world = World::new("20000-20004");
    world.foreign = [20001, 20003].into();
    (1..=3).for_each(|n| _ = world.create(n, &format!("port-{n}")));
    world.delete(2).unwrap();
    let refusal = world.order(9, "one-more").unwrap_err();
    let text = refusal.to_string();
    assert_eq!(
        text, "no free port in 20000-20004: 2 leased, 1 resting after release, 2 held by other processes",
        "{refusal:?}"
    );
    assert_eq!(world.registry.counts().calls, 0);
}

#[test]
fn a_port_set_aside_is_tried_again_after_a_while() {
    let mut world = World::new("20000");
    world.foreign = [20000].into();
    assert!(matches!(world.order(1, "a"), Err(Refusal::Exhausted { held_by_others: 1, .. })));
    world.foreign.clear();
    assert!(matches!(world.order(1, "a"), Err(Refusal::Exhausted { held_by_others: 1, .. })));
    world.pass(world.registry.config().set_aside.as_duration());
    assert_eq!(world.create(1, "a"), 20000);
}

#[test]
fn a_bind_that_fails_otherwise_fails_the_call_and_sets_nothing_aside() {
    let mut world = World::new("20000-20001");
    world.broken = [20000, 20001].into();
    let refusal = world.order(1, "a").unwrap_err();
    assert!(matches!(&refusal, Refusal::BindFailed { reason, .. } if reason == "permission denied"), "{refusal:?}");
    let counts = world.registry.counts();
    assert_eq!((world.tried.len(), counts.ports_free, counts.ports_held_by_others), (1, 2, 0));
}

#[test]
fn an_explicit_port_is_had_or_refused() {
    let mut world = World::new("20000-20009");
    let ask = |world: &mut World, number, name: &str, at: u16| {
        let mut order = order(number, name);
        order.port = Some(port(at));
        world.ask(Command::Provision(order))
    };
    assert_eq!(ask(&mut world, 1, "a", 20003), Ok(Answer::Created(id(1))));
    assert_eq!(world.port(1), 20003);
    assert_eq!(ask(&mut world, 2, "b", 20003), Err(Refusal::PortTaken { port: port(20003) }));
    assert!(matches!(ask(&mut world, 2, "b", 30000), Err(Refusal::PortOutside { .. })));
    world.foreign = [20005].into();
    let held = Err(Refusal::PortHeld { port: port(20005), protocol: Protocol::Tcp });
    assert_eq!(ask(&mut world, 2, "b", 20005), held);
    assert_eq!(ask(&mut world, 2, "b", 20005), held, "set aside, and tried again all the same");
    world.foreign.clear();
    assert_eq!(ask(&mut world, 2, "b", 20005), Ok(Answer::Created(id(2))));
    world.delete(1).unwrap();
    let resting = ask(&mut world, 3, "c", 20003).unwrap_err();
    assert_eq!(resting.to_string(), "port 20003 was released lately and rests for 10m");
    assert_eq!(world.registry.counts().ports_leased, 1, "the refused orders left nothing behind");
}

#[test]
fn container_ports_are_the_lowest_free_of_the_space() {
    let mut world = World::new("20000-20009");
    for (number, name, want) in [(1, "a", 4100), (2, "both-b", 4101), (3, "c", 4102)] {
        world.create(number, name);
        assert_eq!(world.view(number).int_port.get(), want, "{name}");
    }
    world.delete(2).unwrap();
    world.create(4, "d");
    assert_eq!(world.view(4).int_port.get(), 4101);
    let mut order = order(5, "e");
    order.int_port = Some(port(4102));
    assert!(matches!(world.ask(Command::Provision(order.clone())), Err(Refusal::IntPortTaken { .. })));
    order.space = "other".parse().unwrap();
    assert_eq!(world.ask(Command::Provision(order)), Ok(Answer::Created(id(5))), "another space, another row");
}

#[test]
fn orders_in_flight_never_share_a_number_or_a_name() {
    let mut world = World::new("20000-20009");
    world.hold_back(Kind::Commit);
    let calls: Vec<_> = (1..=5).map(|n| world.begin(Command::Provision(order(n, &format!("p-{n}"))))).collect();
    assert!(matches!(world.order(6, "p-1"), Err(Refusal::NameTaken { .. })));
    let mut asked = order(7, "p-7");
    asked.int_port = Some(port(4102));
    assert!(matches!(world.ask(Command::Provision(asked)), Err(Refusal::IntPortTaken { .. })));
    world.let_go(Kind::Commit);
    assert!(calls.iter().all(|call| matches!(world.reply(*call), Some(Ok(Answer::Created(_))))));
    let views = world.registry.services(world.now);
    assert_eq!(views.iter().map(|view| view.port).collect::<BTreeSet<_>>().len(), 5);
    assert_eq!(views.iter().map(|view| view.int_port.get()).collect::<BTreeSet<_>>(), (4100..4105).collect());
}

#[test]
fn sixty_four_parallel_orders_of_one_id_get_one_port() {
    let mut world = World::new("20000-20099");
    world.hold_back(Kind::Commit);
    let calls: Vec<_> = (0..64).map(|_| world.begin(Command::Provision(order(1, "a")))).collect();
    world.let_go(Kind::Commit);
    assert_eq!(world.reply(calls[0]), Some(&Ok(Answer::Created(id(1)))));
    assert!(calls[1..].iter().all(|call| world.reply(*call) == Some(&Ok(Answer::Existing(id(1))))));
    assert_eq!((world.tried.len(), world.store.changes.len(), world.registry.counts().ports_leased), (1, 1, 1));
}

#[test]
fn identical_orders_that_wait_share_the_refusal() {
    let mut world = World::new("20000-20001");
    world.broken = [20000, 20001].into();
    world.hold_back(Kind::Bind);
    let calls: Vec<_> = (0..8).map(|_| world.begin(Command::Provision(order(1, "a")))).collect();
    world.let_go(Kind::Bind);
    assert_eq!(world.tried.len(), 1);
    assert!(calls.iter().all(|call| matches!(world.reply(*call), Some(Err(Refusal::BindFailed { .. })))));
}

#[test]
fn the_same_id_is_the_same_order_only_with_the_same_attributes() {
    let mut world = World::new("20000-20009");
    world.create(1, "udp-a");
    let mut again = order(1, "udp-a");
    assert_eq!(world.ask(Command::Provision(again.clone())), Ok(Answer::Existing(id(1))));
    (again.protocol, again.access) = (Some(Protocols::Udp), Some(Access::Public));
    again.port = Some(port(world.port(1)));
    assert_eq!(
        world.ask(Command::Provision(again.clone())),
        Ok(Answer::Existing(id(1))),
        "what was decided, said aloud"
    );
    again.protocol = Some(Protocols::Both);
    let refusal = world.ask(Command::Provision(again)).unwrap_err();
    assert_eq!(refusal.to_string(), format!("service {} exists with other attributes: kind is udp, not both", id(1)));
    assert!(matches!(world.order(1, "b"), Err(Refusal::IdTaken { .. })));
    assert!(matches!(world.order(2, "udp-a"), Err(Refusal::NameTaken { .. })));
}

#[test]
fn what_cannot_be_provided_is_refused_before_anything_is_held() {
    let mut plain = config("20000-20009");
    plain.public = None;
    let mut world = World::with(plain);
    assert!(matches!(world.order(1, "udp-https"), Err(Refusal::Kind(_))));
    let mut public = order(1, "a");
    public.access = Some(Access::Public);
    assert_eq!(world.ask(Command::Provision(public)), Err(Refusal::PublicNotAllowed));
    world.create(2, "b");
    assert_eq!(world.view(2).access, Access::Internal);
    assert_eq!(world.tried.len(), 1);
}

#[test]
fn a_conflict_on_the_port_takes_the_next_one_and_a_conflict_on_the_name_refuses() {
    let mut world = World::new("20000-20009");
    world.hold_back(Kind::Commit);
    let call = world.begin(Command::Provision(order(1, "a")));
    let first = port(*world.tried.last().unwrap());
    world.fates.push_back(Fate::Conflict(Conflict::Taken(UniqueKey::Port(first))));
    world.let_go(Kind::Commit);
    assert_eq!(world.reply(call), Some(&Ok(Answer::Created(id(1)))));
    assert_ne!(world.port(1), first.get());
    let key = UniqueKey::Name(OrgName::fallback(), SpaceName::fallback(), "b".parse().unwrap());
    world.fates.push_back(Fate::Conflict(Conflict::Taken(key)));
    assert!(matches!(world.order(2, "b"), Err(Refusal::NameTaken { .. })));
    assert_eq!(world.held.len(), 1, "its sockets are let go");
}

#[test]
fn a_conflict_on_the_container_port_takes_the_next_one_with_the_same_sockets() {
    let mut world = World::new("20000-20009");
    let key = UniqueKey::IntPort(OrgName::fallback(), SpaceName::fallback(), port(4100));
    world.fates.push_back(Fate::Conflict(Conflict::Taken(key.clone())));
    world.create(1, "a");
    assert_eq!((world.view(1).int_port.get(), world.tried.len()), (4101, 1));
    let mut asked = order(2, "b");
    asked.int_port = Some(port(4100));
    world.fates.push_back(Fate::Conflict(Conflict::Taken(key)));
    assert!(matches!(world.ask(Command::Provision(asked)), Err(Refusal::IntPortTaken { .. })));
}

#[test]
fn two_services_whose_variable_would_be_the_same_cannot_share_an_app() {
    let mut world = World::new("20000-20009");
    for (number, name) in [(1, "a-b"), (2, "a_b"), (3, "c")] {
        world.create(number, name);
    }
    let first = world.bind(1, "web").unwrap();
    assert!(matches!(first, Answer::Bound { new: true, .. }));
    let Answer::Bound { id: binding, .. } = first else { panic!("{first:?}") };
    assert_eq!(world.bind(1, "web"), Ok(Answer::Bound { id: binding, new: false }));
    let refusal = world.bind(2, "web").unwrap_err();
    assert_eq!(refusal.to_string(), "services a-b and a_b would both be A_B in app web");
    world.bind(3, "web").unwrap();
    world.bind(2, "other").unwrap();
    let (org, space, app): (_, _, AppName) = (OrgName::fallback(), SpaceName::fallback(), "web".parse().unwrap());
    let names: Vec<_> = world.registry.bindings(&org, &space, &app).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["a-b", "c"]);
    assert_eq!(world.registry.binding_views(&org, &space, Some(&app)).len(), 2);
    assert_eq!(world.registry.binding_views(&org, &space, None).len(), 3);
    let unbind = |service| Command::Unbind { service: id(service), app: "web".parse().unwrap() };
    assert_eq!(world.ask(unbind(1)), Ok(Answer::Unbound));
    assert!(matches!(world.ask(unbind(1)), Err(Refusal::UnknownBinding { .. })));
    world.bind(2, "web").unwrap();
}

#[test]
fn two_bindings_in_flight_never_share_a_variable() {
    let mut world = World::new("20000-20009");
    world.create(1, "a-b");
    world.create(2, "a_b");
    world.hold_back(Kind::Commit);
    let bind = |number: u128| Command::Bind {
        id: harbor_types::BindingId::from_u128(number),
        service: id(number),
        app: "web".parse().unwrap(),
    };
    let first = world.begin(bind(1));
    assert!(matches!(world.ask(bind(2)), Err(Refusal::SameVariable { .. })));
    world.fates.push_back(Fate::NotCommitted);
    world.let_go(Kind::Commit);
    assert!(matches!(world.reply(first), Some(Err(Refusal::StoreFailed { .. }))));
    assert!(matches!(world.ask(bind(2)), Ok(Answer::Bound { new: true, .. })), "the variable is free again");
}

#[test]
fn calls_for_one_service_wait_in_line_up_to_a_bound() {
    let mut small = config("20000-20009");
    small.max_waiting = 2;
    let mut world = World::with(small);
    world.hold_back(Kind::Commit);
    let calls: Vec<_> = (0..4).map(|_| world.begin(Command::Provision(order(1, "a")))).collect();
    assert_eq!(world.reply(calls[3]), Some(&Err(Refusal::Busy)));
    world.let_go(Kind::Commit);
    assert_eq!(world.reply(calls[2]), Some(&Ok(Answer::Existing(id(1)))));
}

#[test]
fn a_draining_node_finishes_what_is_in_flight_and_takes_nothing_new() {
    let mut world = World::new("20000-20009");
    world.create(1, "a");
    world.register(1, "i0", "10.2.0.1:4100".parse().unwrap()).unwrap();
    world.hold_back(Kind::Commit);
    let call = world.begin(Command::Provision(order(2, "b")));
    world.registry.begin_drain(world.now);
    assert!(world.registry.is_draining() && !world.registry.is_idle());
    assert_eq!(world.order(3, "c"), Err(Refusal::Draining));
    assert_eq!(world.delete(1), Err(Refusal::Draining));
    assert!(world.heartbeat(1, "i0").is_ok());
    world.let_go(Kind::Commit);
    assert_eq!(world.reply(call), Some(&Ok(Answer::Created(id(2)))));
    assert_eq!(world.deregister(1, "i0"), Ok(Answer::Deregistered));
    assert!(world.registry.is_idle());
}
