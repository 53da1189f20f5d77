//! What the store keeps, how a change is asked for, and what came of it.
//!
//! State is what results from folding [`Change`]s in revision order. A change is a list of [`Write`]s; a put replaces the
//! record with the same [`RecordKey`], a delete removes it. Services own [`UniqueKey`]s, which no other may have.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::{
    AppName, BindingId, InstanceId, NodeId, OrgName, Port, ServiceId, ServiceKind, ServiceName, SpaceName, Span,
    WallTime,
};

/// Number of a committed change: 1, 2, 3… without gaps, across restarts. 0 is the empty store.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl Revision {
    /// The one after this.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Marks one attempt to commit, so that its writer finds it again when the answer got lost.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct CommitToken(pub u128);

/// Who can reach a service's port.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Access {
    /// Listens on the node's internal address only.
    Internal,
    /// Listens on the node's public addresses.
    Public,
}

/// How long a registration lasts.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Lifetime {
    /// Until this long after the latest heartbeat.
    Leased(Span),
    /// Until it is deregistered.
    Permanent,
}

/// A provisioned service: the promise of a port.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ServiceRecord {
    /// Its id.
    pub id: ServiceId,
    /// Organisation.
    pub org: OrgName,
    /// Space.
    pub space: SpaceName,
    /// Name, unique in the space.
    pub name: ServiceName,
    /// Protocols and HTTPS.
    pub kind: ServiceKind,
    /// External port.
    pub port: Port,
    /// Port in the application's container, unique in the space.
    pub int_port: Port,
    /// Who can reach the port.
    pub access: Access,
    /// Node that provisioned it.
    pub home: NodeId,
    /// When.
    pub created: WallTime,
}

/// A service bound to an app.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct BindingRecord {
    /// Its id.
    pub id: BindingId,
    /// The service.
    pub service: ServiceId,
    /// The app, by name, in the service's space.
    pub app: AppName,
    /// When.
    pub created: WallTime,
}

/// An application instance that joined a service's pool. Its place in the arrival order is the revision of this record.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct BackendRecord {
    /// The service.
    pub service: ServiceId,
    /// The instance, unique in the service.
    pub instance: InstanceId,
    /// Where it listens.
    pub addr: SocketAddr,
    /// How long the registration lasts.
    pub lifetime: Lifetime,
    /// Node that took the registration.
    pub home: NodeId,
}

/// A released port that rests.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct QuarantineRecord {
    /// The port.
    pub port: Port,
    /// When it was released; a clock before this went backwards, and the port rests in full again.
    pub released: WallTime,
    /// When it may be leased again.
    pub until: WallTime,
}

/// One record.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Record {
    /// A service.
    Service(ServiceRecord),
    /// A binding.
    Binding(BindingRecord),
    /// A backend.
    Backend(BackendRecord),
    /// A resting port.
    Quarantine(QuarantineRecord),
}

/// What identifies a record.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RecordKey {
    /// A service.
    Service(ServiceId),
    /// A binding.
    Binding(BindingId),
    /// An instance in a service's pool.
    Backend(ServiceId, InstanceId),
    /// A resting port.
    Quarantine(Port),
}

/// Something at most one live record may own.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum UniqueKey {
    /// An external port; owned by a service or a quarantine.
    Port(Port),
    /// A service name in a space.
    Name(OrgName, SpaceName, ServiceName),
    /// A container port in a space.
    IntPort(OrgName, SpaceName, Port),
}

impl Record {
    /// What identifies it.
    #[must_use]
    pub fn key(&self) -> RecordKey {
        match self {
            Self::Service(service) => RecordKey::Service(service.id),
            Self::Binding(binding) => RecordKey::Binding(binding.id),
            Self::Backend(backend) => RecordKey::Backend(backend.service, backend.instance.clone()),
            Self::Quarantine(rest) => RecordKey::Quarantine(rest.port),
        }
    }

    /// What it owns while it lives.
    #[must_use]
    pub fn unique_keys(&self) -> Vec<UniqueKey> {
        match self {
            Self::Service(s) => vec![
                UniqueKey::Port(s.port),
                UniqueKey::Name(s.org.clone(), s.space.clone(), s.name.clone()),
                UniqueKey::IntPort(s.org.clone(), s.space.clone(), s.int_port),
            ],
            Self::Quarantine(rest) => vec![UniqueKey::Port(rest.port)],
            Self::Binding(_) | Self::Backend(_) => Vec::new(),
        }
    }
}

/// One step of a change.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Write {
    /// Adds the record, or replaces the one with its key.
    Put(Record),
    /// Removes the record with this key, and with it what it owned; no effect when there is none.
    Delete(RecordKey),
}

/// What must hold for a commit to happen, checked against the state before its writes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Expectation {
    /// Nobody owns the key.
    Free(UniqueKey),
    /// No record has the key.
    Absent(RecordKey),
    /// The record exists and was last put at this revision.
    At(RecordKey, Revision),
}

/// A change that is asked for: all of it or none.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Commit {
    /// Marks the attempt.
    pub token: CommitToken,
    /// What must hold.
    pub expectations: Vec<Expectation>,
    /// The steps, in order. Even without expectations, a put that would take another record's unique key conflicts.
    pub writes: Vec<Write>,
}

/// What stood in a commit's way.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Conflict {
    /// The key is owned by another record.
    Taken(UniqueKey),
    /// The record exists, is gone, or has changed.
    Changed(RecordKey),
}

/// What came of a commit.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CommitOutcome {
    /// It is durable, as this revision.
    Committed(Revision),
    /// An expectation did not hold; nothing changed.
    Conflict(Conflict),
    /// It failed and certainly left nothing behind.
    NotCommitted(String),
    /// It failed, and may or may not have become durable: read the changes to learn which.
    Unknown(String),
}

/// A committed change.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Change {
    /// Its number.
    pub revision: Revision,
    /// The attempt that made it.
    pub token: CommitToken,
    /// Its steps, in order.
    pub writes: Vec<Write>,
}

/// A live record, with the revision of its latest put.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stored {
    /// When it was last put.
    pub revision: Revision,
    /// The record.
    pub record: Record,
}

/// A store's whole state.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Loaded {
    /// Revision of the latest change.
    pub revision: Revision,
    /// Live records, by revision, those of one change in the order of its writes.
    pub records: Vec<Stored>,
}

/// What happened since a revision.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Changes {
    /// Every change after it, in order.
    Since(Vec<Change>),
    /// The changes are no longer kept; this is the whole state instead, with the tokens that are still known.
    Whole(Loaded, Vec<CommitToken>),
}
