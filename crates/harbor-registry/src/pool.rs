//! One service's pool: who may receive traffic, in which order, and who is out for how long.
//!
//! Kept by the backends room, one pool a service; members come from committed records, health from the relays' reports.
//! Knows no store and publishes nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use harbor_types::{
    Backend, BackendRecord, Failure, Generation, InstanceId, Lifetime, Observed, Protocol, Protocols, Revision, Verdict,
};

use crate::state::Committed;
use crate::timers::doubled;

/// Failures in a row after which a backend is out for TCP. UDP: the first one.
const TCP_FAILURES: u32 = 3;
/// First time out.
const FIRST_OUT: Duration = Duration::from_secs(10);
/// Longest time out.
const LONGEST_OUT: Duration = Duration::from_secs(300);
/// A backend that was eligible for so long before it failed starts again with the first time out. TCP needs it rarely,
/// since a success says the same; UDP may never hear of one.
const FORGIVEN_AFTER: Duration = LONGEST_OUT;

/// Health of one member on one protocol.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    failures: u32,
    out_until: Option<Instant>,
    times_out: u32,
    eligible_since: Instant,
    /// Reports about older snapshots were made before the latest ejection.
    since: Generation,
    /// Place in the UDP queue: a later one queues behind.
    rank: u64,
    pub(crate) last_failure: Option<Failure>,
}

/// One registered instance.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) addr: SocketAddr,
    pub(crate) joined: Revision,
    index: u32,
    /// As asked for last; the record may hold another time to live.
    pub(crate) lifetime: Lifetime,
    /// When the registration runs out; `None`: never.
    pub(crate) deadline: Option<Instant>,
    /// Earliest timer that looks at the deadline.
    pub(crate) armed: Option<Instant>,
    /// It ran out: no traffic any more, whatever the store still says.
    pub(crate) expired: bool,
    tcp: Health,
    udp: Health,
}

impl Member {
    pub(crate) fn health(&self, protocol: Protocol) -> &Health {
        match protocol {
            Protocol::Tcp => &self.tcp,
            Protocol::Udp => &self.udp,
        }
    }

    fn health_mut(&mut self, protocol: Protocol) -> &mut Health {
        match protocol {
            Protocol::Tcp => &mut self.tcp,
            Protocol::Udp => &mut self.udp,
        }
    }

    /// Whether it may receive traffic.
    pub(crate) fn eligible(&self, protocol: Protocol) -> bool {
        !self.expired && self.health(protocol).out_until.is_none()
    }

    /// TCP: from the first failure, or an ejection, to the next success. UDP: only after a suspension, since a refusal
    /// that moves nothing is no reason to publish.
    fn on_trial(&self, protocol: Protocol) -> bool {
        let health = self.health(protocol);
        health.times_out > 0 || (protocol == Protocol::Tcp && health.failures > 0)
    }

    fn order(&self, protocol: Protocol) -> (u64, Revision, u32) {
        let rank = match protocol {
            Protocol::Tcp => 0,
            Protocol::Udp => self.udp.rank,
        };
        (rank, self.joined, self.index)
    }
}

/// What a report led to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reaction {
    /// Nothing that anybody sees.
    None,
    /// Its trial began or ended.
    Trial,
    /// It is out until then.
    Ejected(Instant),
}

#[derive(Clone, Debug)]
pub(crate) struct Pool {
    protocols: Protocols,
    members: BTreeMap<InstanceId, Member>,
    latest_rank: u64,
}

impl Pool {
    pub(crate) fn new(protocols: Protocols) -> Self {
        Self { protocols, members: BTreeMap::new(), latest_rank: 0 }
    }

    pub(crate) fn member_mut(&mut self, instance: &InstanceId) -> Option<&mut Member> {
        self.members.get_mut(instance)
    }

    /// Members that have not expired, in arrival order.
    pub(crate) fn live(&self) -> Vec<(&InstanceId, &Member)> {
        let mut live: Vec<_> = self.members.iter().filter(|(_, member)| !member.expired).collect();
        live.sort_by_key(|(_, member)| member.order(Protocol::Tcp));
        live
    }

    pub(crate) fn expired(&self) -> impl Iterator<Item = &InstanceId> {
        self.members.iter().filter(|(_, member)| member.expired).map(|(instance, _)| instance)
    }

    /// A new registration takes the last place, with a clean slate.
    pub(crate) fn join(&mut self, now: Instant, backend: &Committed<BackendRecord>) {
        self.latest_rank += 1;
        let health = Health {
            failures: 0,
            out_until: None,
            times_out: 0,
            eligible_since: now,
            since: Generation(0),
            rank: self.latest_rank,
            last_failure: None,
        };
        let record = &backend.record;
        let member = Member {
            addr: record.addr,
            joined: backend.revision,
            index: backend.index,
            lifetime: record.lifetime,
            deadline: None,
            armed: None,
            expired: false,
            tcp: health.clone(),
            udp: health,
        };
        self.members.insert(record.instance.clone(), member);
    }

    pub(crate) fn leave(&mut self, instance: &InstanceId) -> Option<Member> {
        self.members.remove(instance)
    }

    fn count_eligible(&self, protocol: Protocol) -> usize {
        self.members.values().filter(|member| member.eligible(protocol)).count()
    }

    /// Members that have not expired.
    pub(crate) fn count_live(&self) -> usize {
        self.members.values().filter(|member| !member.expired).count()
    }

    /// Members that may receive traffic of some protocol.
    pub(crate) fn count_serving(&self) -> usize {
        let serving = |member: &&Member| self.protocols.iter().any(|protocol| member.eligible(protocol));
        self.members.values().filter(serving).count()
    }

    /// Takes in a report made under the latest published snapshot, `latest`, or an earlier one. What was seen of an
    /// earlier registration, or before the latest ejection, no longer counts; the last eligible member is never ejected.
    pub(crate) fn observe(&mut self, now: Instant, latest: Generation, seen: &Observed) -> Reaction {
        let protocol = seen.protocol;
        let others = self.count_eligible(protocol) > 1;
        let Some(member) = self.members.get_mut(&seen.instance) else { return Reaction::None };
        if member.joined != seen.joined || !member.eligible(protocol) || !self.protocols.contains(protocol) {
            return Reaction::None;
        }
        let was_on_trial = member.on_trial(protocol);
        let health = member.health_mut(protocol);
        if seen.generation < health.since {
            return Reaction::None;
        }
        match seen.verdict {
            Verdict::Succeeded => {
                (health.failures, health.times_out, health.last_failure) = (0, 0, None);
            }
            Verdict::Failed(failure) => {
                health.failures = health.failures.saturating_add(1);
                health.last_failure = Some(failure);
                let enough = if protocol == Protocol::Tcp { TCP_FAILURES } else { 1 };
                if others && health.failures >= enough {
                    if now.saturating_duration_since(health.eligible_since) >= FORGIVEN_AFTER {
                        health.times_out = 0;
                    }
                    let until = now + doubled(FIRST_OUT, health.times_out, LONGEST_OUT);
                    health.times_out = health.times_out.saturating_add(1);
                    health.failures = 0;
                    health.out_until = Some(until);
                    health.since = latest.next();
                    return Reaction::Ejected(until);
                }
            }
        }
        if member.on_trial(protocol) == was_on_trial { Reaction::None } else { Reaction::Trial }
    }

    /// Takes back whose time out is over. Returns them with the protocol.
    pub(crate) fn readmit_due(&mut self, now: Instant, instance: &InstanceId) -> Vec<Protocol> {
        let due = |member: &Member, protocol| member.health(protocol).out_until.is_some_and(|until| until <= now);
        let protocols = Protocols::Both
            .iter()
            .filter(|protocol| self.members.get(instance).is_some_and(|member| due(member, *protocol)));
        let protocols: Vec<_> = protocols.collect();
        for protocol in &protocols {
            self.readmit(now, instance, *protocol);
        }
        protocols
    }

    /// Where nobody is eligible any more, because the others left, those who are out come back at once: trying them beats
    /// refusing every client.
    pub(crate) fn readmit_if_none_is_left(&mut self, now: Instant) -> Vec<(InstanceId, Protocol)> {
        let mut back = Vec::new();
        for protocol in self.protocols.iter() {
            if self.count_eligible(protocol) == 0 {
                let mut out: Vec<_> = self.members.iter().filter(|(_, member)| !member.expired).collect();
                out.sort_by_key(|(_, member)| member.order(protocol));
                back.extend(out.into_iter().map(|(instance, _)| (instance.clone(), protocol)));
            }
        }
        for (instance, protocol) in &back {
            self.readmit(now, instance, *protocol);
        }
        back
    }

    /// It queues last for UDP; for TCP it is picked in its old turn.
    fn readmit(&mut self, now: Instant, instance: &InstanceId, protocol: Protocol) {
        self.latest_rank += 1;
        let rank = self.latest_rank;
        if let Some(member) = self.members.get_mut(instance) {
            let health = member.health_mut(protocol);
            health.out_until = None;
            health.eligible_since = now;
            health.rank = rank;
        }
    }

    /// Who may receive traffic of `protocol`, in the order in which it is picked.
    pub(crate) fn eligible(&self, protocol: Protocol) -> Arc<[Backend]> {
        if !self.protocols.contains(protocol) {
            return Arc::new([]);
        }
        let mut members: Vec<_> = self.members.iter().filter(|(_, member)| member.eligible(protocol)).collect();
        members.sort_by_key(|(_, member)| member.order(protocol));
        let backend = |(instance, member): (&InstanceId, &Member)| Backend {
            instance: instance.clone(),
            addr: member.addr,
            joined: member.joined,
            on_trial: member.on_trial(protocol),
        };
        members.into_iter().map(backend).collect()
    }
}
