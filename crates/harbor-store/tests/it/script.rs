//! Records, commits and long histories for the other tests; all of it decided by numbers.

use harbor_types::{
    Access, AppName, BackendRecord, BindingId, BindingRecord, Commit, CommitToken, Expectation, InstanceId, Lifetime,
    NodeId, OrgName, Port, QuarantineRecord, Record, RecordKey, ServiceId, ServiceKind, ServiceName, ServiceRecord,
    SpaceName, Span, UniqueKey, WallTime, Write,
};

/// A small random number generator (SplitMix64): the same seed, the same history.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.roll() % u64::try_from(bound).unwrap()).unwrap()
    }
}

pub(crate) fn port(number: u16) -> Port {
    Port::new(number).unwrap()
}

/// Service number `n`, with a name and an internal port of its own, on the external port `external`.
pub(crate) fn service(n: u16, external: u16) -> Record {
    let name = ServiceName::parse(&format!("service-{n}")).unwrap();
    Record::Service(ServiceRecord {
        id: service_id(n),
        org: OrgName::fallback(),
        space: SpaceName::fallback(),
        kind: ServiceKind::of(&name),
        name,
        port: port(external),
        int_port: port(4100 + n),
        access: Access::Public,
        home: NodeId::parse("harbor_node_1").unwrap(),
        created: WallTime::from_millis(1_700_000_000_000 + u64::from(n)),
    })
}

pub(crate) fn service_id(n: u16) -> ServiceId {
    ServiceId::from_u128(u128::from(n))
}

pub(crate) fn backend(n: u16, instance: u16) -> Record {
    Record::Backend(BackendRecord {
        service: service_id(n),
        instance: instance_id(instance),
        addr: format!("10.0.0.{}:{}", instance % 250 + 1, 4100 + n).parse().unwrap(),
        lifetime: if instance.is_multiple_of(2) { Lifetime::Permanent } else { Lifetime::Leased(Span::secs(30)) },
        home: NodeId::parse("harbor_node_1").unwrap(),
    })
}

pub(crate) fn instance_id(instance: u16) -> InstanceId {
    InstanceId::parse(&format!("instance-{instance}")).unwrap()
}

pub(crate) fn binding(n: u16) -> Record {
    Record::Binding(BindingRecord {
        id: BindingId::from_u128(u128::from(n)),
        service: service_id(n),
        app: AppName::parse("app").unwrap(),
        created: WallTime::from_millis(5),
    })
}

pub(crate) fn rest(external: u16) -> Record {
    Record::Quarantine(QuarantineRecord {
        port: port(external),
        released: WallTime::from_millis(1),
        until: WallTime::from_millis(600_001),
    })
}

pub(crate) fn commit(token: u128, writes: Vec<Write>) -> Commit {
    Commit { token: CommitToken(token), expectations: Vec::new(), writes }
}

pub(crate) fn expecting(token: u128, expectations: Vec<Expectation>, writes: Vec<Write>) -> Commit {
    Commit { token: CommitToken(token), expectations, writes }
}

/// The commit that creates service `n` the way the registry does.
pub(crate) fn creation(token: u128, n: u16, external: u16) -> Commit {
    let record = service(n, external);
    let mut expectations: Vec<Expectation> = record.unique_keys().into_iter().map(Expectation::Free).collect();
    expectations.push(Expectation::Absent(record.key()));
    expecting(token, expectations, vec![Write::Put(record)])
}

/// A history of `length` commits: services created and deleted into quarantine, backends that join and leave, bindings,
/// ports that come out of quarantine. All of them commit.
pub(crate) fn history(seed: u64, length: usize) -> Vec<Commit> {
    let mut dice = Dice(seed);
    let mut live: Vec<(u16, u16, Vec<u16>)> = Vec::new();
    let mut resting: Vec<u16> = Vec::new();
    let mut next = 0;
    let mut commits = Vec::new();
    while commits.len() < length {
        let token = u128::try_from(commits.len()).unwrap() + 1;
        let pick = if live.is_empty() { 0 } else { dice.below(live.len()) };
        // Around thirty services live at a time.
        let roll = if live.len() > 30 { 3 } else { dice.below(10) };
        let writes = match (roll, live.is_empty()) {
            (0..3, _) | (_, true) => {
                next += 1;
                live.push((next, 20_000 + next, Vec::new()));
                commits.push(creation(token, next, 20_000 + next));
                continue;
            }
            (3, false) => {
                let (n, external, joined) = live.swap_remove(pick);
                resting.push(external);
                let gone = joined.iter().map(|i| RecordKey::Backend(service_id(n), instance_id(*i)));
                let mut writes: Vec<Write> = gone.map(Write::Delete).collect();
                writes.push(Write::Delete(RecordKey::Service(service_id(n))));
                writes.push(Write::Put(rest(external)));
                writes
            }
            (4, false) if !resting.is_empty() => {
                vec![Write::Delete(RecordKey::Quarantine(port(resting.swap_remove(0))))]
            }
            (5..7, false) if !live[pick].2.is_empty() => {
                let n = live[pick].0;
                let instance = live[pick].2.swap_remove(0);
                vec![Write::Delete(RecordKey::Backend(service_id(n), instance_id(instance)))]
            }
            (7, false) => vec![Write::Put(binding(live[pick].0))],
            _ => {
                let instance = u16::try_from(dice.below(1000)).unwrap();
                let (n, _, joined) = &mut live[pick];
                if !joined.contains(&instance) {
                    joined.push(instance);
                }
                vec![Write::Put(backend(*n, instance))]
            }
        };
        commits.push(commit(token, writes));
    }
    commits
}

pub(crate) fn owns_port(number: u16) -> UniqueKey {
    UniqueKey::Port(port(number))
}
