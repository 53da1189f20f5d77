//! Ten thousand services with a backend each: loaded, bound, beaten and expired. No time is asserted here.

use std::time::Duration;

use harbor_registry::{Answer, Command, Registry};
use harbor_types::{
    Access, BackendRecord, Commit, CommitToken, Lifetime, OrgName, Port, Record, ServiceId, ServiceKind, ServiceRecord,
    SpaceName, Span, WallTime, Write,
};

use crate::world::{World, addr, config, id};

const SERVICES: u16 = 10_000;

fn records(n: u16) -> [Record; 2] {
    let home: harbor_types::NodeId = "node_1".parse().unwrap();
    let service = ServiceRecord {
        id: ServiceId::from_u128(n.into()),
        org: OrgName::fallback(),
        space: SpaceName::fallback(),
        name: format!("service-{n}").parse().unwrap(),
        kind: ServiceKind::TCP,
        port: Port::new(20_000 + n).unwrap(),
        int_port: Port::new(4_100 + n).unwrap(),
        access: Access::Internal,
        home: home.clone(),
        created: WallTime::default(),
    };
    let lifetime = Lifetime::Leased(Span::secs(30));
    let instance = "i0".parse().unwrap();
    let backend = BackendRecord { service: service.id, instance, addr: addr(1), lifetime, home };
    [Record::Service(service), Record::Backend(backend)]
}

#[test]
fn ten_thousand_services_are_restored_served_and_expired() {
    let mut world = World::new("20000-39999");
    let loaded = harbor_types::Loaded {
        revision: harbor_types::Revision(10_000),
        records: (0..SERVICES)
            .flat_map(|n| {
                let revision = harbor_types::Revision(u64::from(n) + 1);
                records(n).map(|record| harbor_types::Stored { revision, record })
            })
            .collect(),
    };
    world.registry = Registry::new(config("20000-39999"), 5);
    world.registry.load(world.now, loaded);
    // The fake world searches its sockets one by one, so this one answers by itself.
    let mut effects = 0;
    let now = world.now;
    while let Some(effect) = world.registry.next_effect() {
        effects += 1;
        let outcome = match effect {
            harbor_registry::Effect::Bind(order) => harbor_registry::Outcome::Bound {
                service: order.service,
                port: order.port,
                result: Ok(vec![([10, 1, 0, 1], order.port.get()).into()]),
            },
            harbor_registry::Effect::Publish { service, snapshot } => {
                harbor_registry::Outcome::Published { service, generation: snapshot.generation }
            }
            other => panic!("{other:?}"),
        };
        world.registry.outcome(now, outcome);
    }
    assert_eq!(effects, 2 * usize::from(SERVICES));
    assert!(world.registry.is_ready());
    world.registry.check_invariants().unwrap();
    let counts = world.registry.counts();
    assert_eq!(
        (counts.services, counts.backends, counts.eligible, counts.ports_free),
        (10_000, 10_000, 10_000, 10_000)
    );
    for n in 0..SERVICES {
        let beat = Command::Heartbeat { service: id(n.into()), instance: "i0".parse().unwrap() };
        world.registry.command(now, harbor_registry::CallId(n.into()), beat);
    }
    let mut beaten = 0;
    while let Some(harbor_registry::Effect::Reply { answer, .. }) = world.registry.next_effect() {
        assert!(matches!(answer, Ok(Answer::Refreshed { .. })));
        beaten += 1;
    }
    assert_eq!(beaten, SERVICES);
    let at = world.registry.next_deadline().unwrap();
    assert_eq!(at - now.mono, Duration::from_secs(30));
    world.registry.on_deadline(harbor_types::Now { mono: at, wall: now.wall });
    let mut commits = 0;
    while let Some(effect) = world.registry.next_effect() {
        commits += usize::from(matches!(effect, harbor_registry::Effect::Commit(_)));
    }
    assert_eq!((commits, world.registry.counts().eligible), (10_000, 0), "each leaves its pool");
}

#[test]
fn the_fake_store_keeps_unique_keys() {
    let mut store = crate::store::FakeStore::default();
    let [service, _] = records(1);
    let mut put = |record: Record| {
        let writes = vec![Write::Put(record)];
        store.commit(&Commit { token: CommitToken(1), expectations: Vec::new(), writes })
    };
    assert!(matches!(put(service.clone()), harbor_types::CommitOutcome::Committed(_)));
    let Record::Service(mut thief) = service else { panic!("{service:?}") };
    thief.id = id(99);
    assert!(matches!(put(Record::Service(thief)), harbor_types::CommitOutcome::Conflict(_)));
}
