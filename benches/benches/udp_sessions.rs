//! What the UDP session table costs per datagram when it holds as many sessions as a service may have. No sockets: the
//! rest of a datagram's cost is system calls.

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use harbor_types::{Backend, BackendSnapshot, Generation, InstanceId, Revision, ServiceId};
use harbor_udp::{Budget, ClientAddr, Limits, Output, ServiceBudget, SessionId, SessionTable};

/// As many as one service may have by default.
const SESSIONS: u16 = 10_000;

/// A question of common size.
const PAYLOAD: [u8; 64] = [7; 64];

fn client(n: u16) -> ClientAddr {
    // Sixteen sources, so that the cap per source is no matter.
    let [_, low] = n.to_be_bytes();
    ClientAddr { addr: SocketAddr::from(([192, 0, 2, low % 16], 20_000 + n)), local: None }
}

fn filled(now: Instant, instance: InstanceId) -> (SessionTable, Vec<SessionId>) {
    let addr = SocketAddr::from(([10, 0, 0, 1], 4100));
    let backend = Backend { instance, addr, joined: Revision(1), on_trial: false };
    let snapshot = BackendSnapshot { udp: Arc::new([backend]), ..BackendSnapshot::empty(Generation(1)) };
    let limits = Limits::default();
    let budget = Arc::new(ServiceBudget::new(&limits, Arc::new(Budget::new(usize::from(SESSIONS)))));
    let mut table = SessionTable::new(ServiceId::from_u128(1), limits, budget, snapshot);
    let mut sessions = Vec::new();
    for n in 0..SESSIONS {
        table.on_client_datagram(now, client(n), &PAYLOAD);
        while let Some(output) = table.next_output() {
            if let Output::Opened { session, .. } = output {
                sessions.push(session);
            }
        }
    }
    (table, sessions)
}

fn session_table(criterion: &mut Criterion) {
    let Ok(instance) = InstanceId::parse("app-0") else { return };
    let now = clock();
    let (mut table, sessions) = filled(now, instance);
    assert_eq!(sessions.len(), usize::from(SESSIONS), "the table is not full");
    // A stride that meets every session, and none while it is still in the nearest cache.
    let mut last = 0;
    let mut turn = || {
        last = (last + 4_099) % SESSIONS;
        last
    };
    let mut group = criterion.benchmark_group("udp");

    group.throughput(Throughput::Elements(1));
    group.bench_function("session_table_ns_per_datagram_10k_sessions", |bench| {
        bench.iter(|| {
            let n = turn();
            table.on_client_datagram(now, client(n), black_box(&PAYLOAD));
            while let Some(output) = table.next_output() {
                black_box(output);
            }
        });
    });

    group.bench_function("session_table_ns_per_question_and_answer_10k_sessions", |bench| {
        bench.iter(|| {
            let n = turn();
            table.on_client_datagram(now, client(n), black_box(&PAYLOAD));
            if let Some(session) = sessions.get(usize::from(n)) {
                table.on_backend_datagram(now, *session, PAYLOAD.len());
            }
            while let Some(output) = table.next_output() {
                black_box(output);
            }
        });
    });
    group.finish();
}

#[expect(clippy::disallowed_methods, reason = "the table needs some instant to count from")]
fn clock() -> Instant {
    Instant::now()
}

criterion_group!(benches, session_table);
criterion_main!(benches);
