//! What the registry wants done, and how the doing went: effects, outcomes.

use harbor_types::{
    Access, BackendSnapshot, Changes, Claim, Commit, CommitOutcome, Generation, InstanceId, Observed, Port, Protocol,
    Protocols, Revision, ServiceId, ServiceName,
};

use std::net::SocketAddr;

use crate::{Answer, CallId, Refusal};

/// Something the driver does for the registry, in the order in which the effects come out. Each effect but
/// [`Release`](Self::Release), [`Dismiss`](Self::Dismiss) and [`Reply`](Self::Reply) is answered by exactly one [`Outcome`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Effect {
    /// Hold the port's sockets for this service. Answer: [`Outcome::Bound`].
    Bind(BindOrder),
    /// Let go of sockets that were held and never published. No answer.
    Release {
        /// Whose sockets.
        service: ServiceId,
    },
    /// Commit to the store. Answer: [`Outcome::Committed`].
    Commit(Commit),
    /// Read what was committed after `since`. Answer: [`Outcome::Changes`].
    ReadChanges {
        /// Latest revision that is folded.
        since: Revision,
    },
    /// Hand the snapshot to every relay thread; the first one starts accepting. Answer: [`Outcome::Published`], once every
    /// relay thread has confirmed it.
    Publish {
        /// The service.
        service: ServiceId,
        /// Its backends.
        snapshot: BackendSnapshot,
    },
    /// A backend has left, and snapshots to come are without it: what still runs to it may finish until the drain limit
    /// and is cut then. Not told of one that expired: nobody took that back, and what runs may run well. No answer.
    Dismiss {
        /// Of which service.
        service: ServiceId,
        /// Which instance.
        instance: InstanceId,
        /// Its join; a later registration of the same instance is none of this.
        joined: Revision,
    },
    /// Stop accepting, close the listening sockets, drain, cut at the limit. Answer: [`Outcome::Retired`].
    Retire {
        /// The service.
        service: ServiceId,
    },
    /// Answer a call. No outcome.
    Reply {
        /// Which call.
        call: CallId,
        /// What to say.
        answer: Result<Answer, Refusal>,
    },
}

/// An order to hold a port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BindOrder {
    /// For which service.
    pub service: ServiceId,
    /// Its name, for logs and metrics.
    pub name: ServiceName,
    /// The port.
    pub port: Port,
    /// On which protocols: all of them or none.
    pub protocols: Protocols,
    /// On which addresses.
    pub access: Access,
    /// Whether the port was this service's before.
    pub claim: Claim,
}

/// Why a bind failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum BindFailure {
    /// Somebody else has it.
    InUse {
        /// On this protocol.
        protocol: Protocol,
        /// At this address.
        addr: SocketAddr,
    },
    /// Any other error.
    Other {
        /// The operating system's answer, with the address.
        reason: String,
    },
}

/// How an effect went, or something seen by the relays.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Answer to [`Effect::Bind`].
    Bound {
        /// The service.
        service: ServiceId,
        /// The port that was tried.
        port: Port,
        /// Addresses that are held, or why none is.
        result: Result<Vec<SocketAddr>, BindFailure>,
    },
    /// Answer to [`Effect::Commit`].
    Committed {
        /// Token of the commit.
        token: harbor_types::CommitToken,
        /// What came of it.
        outcome: CommitOutcome,
    },
    /// Answer to [`Effect::ReadChanges`].
    Changes {
        /// What was committed, or why it could not be read.
        result: Result<Changes, String>,
    },
    /// Answer to [`Effect::Publish`].
    Published {
        /// The service.
        service: ServiceId,
        /// Number of the snapshot.
        generation: Generation,
    },
    /// Answer to [`Effect::Retire`].
    Retired {
        /// The service.
        service: ServiceId,
    },
    /// A relay's report.
    Observed(Observed),
}
