//! How long does it take to fold 10,000 records, half of them services and half their backends, into a registry?

#![expect(clippy::expect_used, reason = "a benchmark that cannot begin has nobody to tell but its runner")]

use std::time::Instant;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use harbor_registry::{Config, Registry};
use harbor_types::{
    Access, BackendRecord, Lifetime, Loaded, Now, OrgName, Port, Record, Revision, ServiceId, ServiceKind,
    ServiceRecord, SpaceName, Span, Stored, WallTime,
};

const SERVICES: u16 = 5_000;

fn records() -> Loaded {
    let home: harbor_types::NodeId = "node_1".parse().expect("a node's name");
    let port = |number| Port::new(number).expect("not 0");
    let records = (0..SERVICES).flat_map(|n| {
        let service = ServiceRecord {
            id: ServiceId::from_u128(n.into()),
            org: OrgName::fallback(),
            space: SpaceName::fallback(),
            name: format!("service-{n}").parse().expect("a service's name"),
            kind: ServiceKind::TCP,
            port: port(20_000 + n),
            int_port: port(4_100 + n),
            access: Access::Internal,
            home: home.clone(),
            created: WallTime::default(),
        };
        let backend = BackendRecord {
            service: service.id,
            instance: "i0".parse().expect("an instance's name"),
            addr: ([10, 2, 0, 1], 4_100 + n).into(),
            lifetime: Lifetime::Leased(Span::secs(30)),
            home: home.clone(),
        };
        let revision = Revision(u64::from(n) + 1);
        [Record::Service(service), Record::Backend(backend)].map(|record| Stored { revision, record })
    });
    Loaded { revision: Revision(SERVICES.into()), records: records.collect() }
}

fn fold(criterion: &mut Criterion) {
    let (node, host, ranges) = ("node_1".parse(), "10.1.0.1".parse(), "20000-29999".parse());
    let config =
        Config::new(node.expect("a node's name"), host.expect("an address"), ranges.expect("the default range"));
    #[expect(clippy::disallowed_methods, reason = "a benchmark needs some moment to count from")]
    let now = Now { mono: Instant::now(), wall: WallTime::from_millis(1_700_000_000_000) };
    let loaded = records();
    criterion.bench_function("registry/fold_ms_10000_records", |bencher| {
        bencher.iter_batched(
            || (Registry::new(config.clone(), 7), loaded.clone()),
            |(mut registry, loaded)| {
                registry.load(now, loaded);
                registry
            },
            BatchSize::LargeInput,
        );
    });
}

criterion_group!(benches, fold);
criterion_main!(benches);
