//! How long does it take to lease a port, and to give it back, when nine of ten are leased?

#![expect(clippy::expect_used, reason = "a benchmark that cannot begin has nobody to tell but its runner")]

use criterion::{Criterion, criterion_group, criterion_main};
use harbor_alloc::PortAllocator;
use harbor_types::{PortRange, ServiceId};

fn alloc(criterion: &mut Criterion) {
    let range: PortRange = "20000-29999".parse().expect("the default range");
    let mut ports = PortAllocator::new(range, 7);
    for holder in 0..9_000 {
        ports.lease(ServiceId::from_u128(holder)).expect("a thousand are left");
    }
    let holder = ServiceId::from_u128(9_000);
    criterion.bench_function("alloc/lease_ns_at_90pct_full", |bencher| {
        bencher.iter(|| {
            let port = ports.lease(holder).expect("a thousand are left");
            ports.unlease(port)
        });
    });
}

criterion_group!(benches, alloc);
criterion_main!(benches);
