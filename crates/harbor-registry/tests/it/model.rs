//! Random histories: commands, lost and late answers, refused binds, other writers, expiries, crashes and clocks that jump,
//! in any order; after each step the simulator checks what must always hold.

use harbor_registry::{Command, DeleteMode, Provision};
use harbor_types::{
    AppName, BindingId, Commit, CommitToken, Expectation, InstanceId, Lifetime, Port, Protocol, QuarantineRecord,
    Record, RecordKey, ServiceId, Span, Write,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::sim::{Mood, Sim};
use crate::world::{addr, order};

const NAMES: [&str; 5] = ["a-b", "a_b", "udp-c", "both-d", "web-https"];

#[derive(Clone, Debug)]
enum Op {
    Provision {
        id: u128,
        name: usize,
        port: Option<u16>,
        int_port: Option<u16>,
    },
    Deprovision {
        id: u128,
        forced: bool,
    },
    Bind {
        id: u128,
        binding: u128,
        app: u8,
    },
    Unbind {
        id: u128,
        app: u8,
    },
    Register {
        id: u128,
        instance: u8,
        addr: u8,
        ttl: Option<u64>,
    },
    Heartbeat {
        id: u128,
        instance: u8,
    },
    Deregister {
        id: u128,
        instance: u8,
    },
    Arrive(usize),
    Store(Mood),
    /// The store does all that it was asked and everything arrives.
    Flow,
    Pass(u64),
    Jump(i64),
    Foreign(u16),
    Observe {
        service: usize,
        backend: usize,
        tcp: bool,
        age: u64,
        good: bool,
    },
    Crash,
    Compact,
    OtherPuts {
        id: u128,
        port: u16,
        int_port: u16,
    },
    OtherDeletes {
        id: u128,
    },
}

fn any_mood() -> impl Strategy<Value = Mood> {
    prop_oneof![
        8 => Just(Mood::Well),
        1 => Just(Mood::NotCommitted),
        1 => Just(Mood::UnknownAndCommitted),
        1 => Just(Mood::UnknownAndNot),
        1 => any::<bool>().prop_map(|commits| Mood::UnknownUntilRead { commits }),
    ]
}

fn any_op() -> impl Strategy<Value = Op> {
    let id = || 1..6u128;
    let port = || 20_000..20_008u16;
    let asked = prop::option::weighted(0.15, port());
    let int_port = prop::option::weighted(0.05, 4_100..4_103u16);
    prop_oneof![
        12 => (id(), prop::option::weighted(0.1, 0..NAMES.len()), asked, int_port).prop_map(|(id, name, port, int_port)| {
            let own = usize::try_from(id).unwrap() - 1;
            Op::Provision { id, name: name.unwrap_or(own), port, int_port }
        }),
        3 => (id(), any::<bool>()).prop_map(|(id, forced)| Op::Deprovision { id, forced }),
        2 => (id(), 1..20u128, 0..2u8).prop_map(|(id, binding, app)| Op::Bind { id, binding, app }),
        1 => (id(), 0..2u8).prop_map(|(id, app)| Op::Unbind { id, app }),
        8 => (id(), 0..4u8, 1..4u8, prop::option::weighted(0.3, 0..5u64))
            .prop_map(|(id, instance, addr, ttl)| Op::Register { id, instance, addr, ttl }),
        3 => (id(), 0..4u8).prop_map(|(id, instance)| Op::Heartbeat { id, instance }),
        3 => (id(), 0..4u8).prop_map(|(id, instance)| Op::Deregister { id, instance }),
        30 => any::<usize>().prop_map(Op::Arrive),
        20 => any_mood().prop_map(Op::Store),
        8 => Just(Op::Flow),
        8 => prop_oneof![0..500u64, 500..3_000u64, 5_000..25_000u64].prop_map(Op::Pass),
        1 => (-60_000..60_000i64).prop_map(Op::Jump),
        3 => port().prop_map(Op::Foreign),
        6 => (any::<usize>(), any::<usize>(), any::<bool>(), 0..3u64, prop::bool::weighted(0.2))
            .prop_map(|(service, backend, tcp, age, good)| Op::Observe { service, backend, tcp, age, good }),
        1 => Just(Op::Crash),
        1 => Just(Op::Compact),
        1 => (6..9u128, port(), 4_100..4_104u16).prop_map(|(id, port, int_port)| Op::OtherPuts { id, port, int_port }),
        1 => (1..9u128).prop_map(|id| Op::OtherDeletes { id }),
    ]
}

fn instance(number: u8) -> InstanceId {
    format!("i{number}").parse().unwrap()
}

fn app(number: u8) -> AppName {
    format!("app{number}").parse().unwrap()
}

fn step(sim: &mut Sim, op: Op) -> Result<(), String> {
    let service = ServiceId::from_u128;
    match op {
        Op::Provision { id, name, port, int_port } => {
            let port = port.map(|number| Port::new(number).unwrap());
            let int_port = int_port.map(|number| Port::new(number).unwrap());
            sim.command(Command::Provision(Provision { port, int_port, ..order(id, NAMES[name]) }))
        }
        Op::Deprovision { id, forced } => {
            let mode = if forced { DeleteMode::Forced } else { DeleteMode::IfUnbound };
            sim.command(Command::Deprovision { service: service(id), mode })
        }
        Op::Bind { id, binding, app: number } => {
            let id_of_binding = BindingId::from_u128(binding);
            sim.command(Command::Bind { id: id_of_binding, service: service(id), app: app(number) })
        }
        Op::Unbind { id, app: number } => sim.command(Command::Unbind { service: service(id), app: app(number) }),
        Op::Register { id, instance: number, addr: at, ttl } => {
            let lifetime = ttl.map(|seconds| match seconds {
                0 => Lifetime::Permanent,
                seconds => Lifetime::Leased(Span::secs(seconds * 2)),
            });
            let (service, instance, addr) = (service(id), instance(number), addr(at));
            sim.command(Command::Register { service, instance, addr, lifetime })
        }
        Op::Heartbeat { id, instance: number } => {
            sim.command(Command::Heartbeat { service: service(id), instance: instance(number) })
        }
        Op::Deregister { id, instance: number } => {
            sim.command(Command::Deregister { service: service(id), instance: instance(number) })
        }
        Op::Arrive(pick) => sim.arrive(pick),
        Op::Store(mood) => sim.store_step(mood),
        Op::Flow => (0..12).try_for_each(|_| sim.store_step(Mood::Well).and_then(|()| sim.arrive(0))),
        Op::Pass(millis) => sim.pass(millis),
        Op::Jump(millis) => {
            sim.jump(millis);
            Ok(())
        }
        Op::Foreign(port) => {
            if !sim.foreign.remove(&port) {
                sim.foreign.insert(port);
            }
            Ok(())
        }
        Op::Observe { service, backend, tcp, age, good } => {
            sim.observe(service, backend, if tcp { Protocol::Tcp } else { Protocol::Udp }, age, good)
        }
        Op::Crash => sim.crash(),
        Op::Compact => {
            sim.store.compacted = sim.store.changes.len();
            Ok(())
        }
        Op::OtherPuts { .. } | Op::OtherDeletes { .. } if !sim.others => Ok(()),
        Op::OtherPuts { id, port, int_port } => sim.other_commits(&other_put(sim, id, port, int_port)),
        Op::OtherDeletes { id } => other_delete(sim, service(id)).map_or(Ok(()), |commit| sim.other_commits(&commit)),
    }
}

fn other_token(sim: &Sim) -> CommitToken {
    CommitToken(sim.store.changes.len().try_into().unwrap())
}

fn other_put(sim: &Sim, id: u128, port: u16, int_port: u16) -> Commit {
    let order = order(id, &format!("theirs-{id}"));
    let kind = harbor_types::ServiceKind::of(&order.name);
    let record = Record::Service(harbor_types::ServiceRecord {
        id: order.id,
        org: order.org,
        space: order.space,
        name: order.name,
        kind,
        port: Port::new(port).unwrap(),
        int_port: Port::new(int_port).unwrap(),
        access: harbor_types::Access::Internal,
        home: "node_2".parse().unwrap(),
        created: sim.now.wall,
    });
    let expectations = vec![Expectation::Absent(record.key())];
    Commit { token: other_token(sim), expectations, writes: vec![Write::Put(record)] }
}

fn other_delete(sim: &Sim, id: ServiceId) -> Option<Commit> {
    let port = sim.store.service(id)?.port;
    let loaded = sim.store.load().records;
    let keys = loaded.iter().map(|stored| (stored.record.key(), &stored.record)).filter(|(key, record)| match record {
        Record::Binding(binding) => binding.service == id,
        _ => matches!(key, RecordKey::Service(of) | RecordKey::Backend(of, _) if *of == id),
    });
    let mut writes: Vec<_> = keys.map(|(key, _)| Write::Delete(key)).collect();
    let (released, until) = (sim.now.wall, sim.now.wall.plus(Span::secs(20)));
    writes.push(Write::Put(Record::Quarantine(QuarantineRecord { port, released, until })));
    Some(Commit { token: other_token(sim), expectations: Vec::new(), writes })
}

fn play(ops: Vec<Op>, seed: u64, others: bool) -> Result<Sim, TestCaseError> {
    let mut sim = Sim::new(seed, others);
    for op in ops {
        step(&mut sim, op).map_err(TestCaseError::fail)?;
    }
    sim.calm().map_err(TestCaseError::fail)?;
    Ok(sim)
}

proptest! {
    #[test]
    fn promises_hold_through_any_history(ops in vec(any_op(), 1..250), seed in any::<u64>()) {
        play(ops, seed, false)?;
    }

    #[test]
    fn another_writer_confuses_nothing(ops in vec(any_op(), 1..250), seed in any::<u64>()) {
        play(ops, seed, true)?;
    }
}

/// A simulator in which nothing happens proves nothing.
#[test]
fn random_histories_reach_what_they_are_to_test() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let mut answers = std::collections::BTreeMap::new();
    for seed in 0..30 {
        let ops = vec(any_op(), 250).new_tree(&mut runner).unwrap().current();
        for (word, count) in play(ops, seed, false).unwrap().answers {
            *answers.entry(word).or_insert(0) += count;
        }
    }
    for word in ["created", "deleted", "joined", "left", "bound", "store failed", "conflict", "exhausted", "refused"] {
        assert!(answers.get(word).is_some_and(|count| *count >= 3), "{word} in {answers:?}");
    }
}
