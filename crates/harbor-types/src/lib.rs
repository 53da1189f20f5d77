//! Harbor's words: names, kinds, ports, ids, backends, credentials, committed records and wire shapes.
//!
//! Every crate speaks through these types; they are checked once, where text or numbers enter, and hold afterwards.
//! Nothing here opens a socket, reads a clock or keeps state.

mod backend;
mod bind;
mod credentials;
mod id;
mod kind;
mod name;
mod network;
mod port;
mod record;
mod time;
pub mod wire;

pub use backend::{Backend, BackendSnapshot, Failure, Generation, Observed, Verdict};
pub use bind::{BindError, Claim};
pub use credentials::{Credentials, Host, HostName, HostNameError};
pub use id::{BindingId, BindingTag, Id, ServiceId, ServiceTag};
pub use kind::{KindError, NameHint, ServiceKind};
pub use name::{
    AppName, AppTag, InstanceId, InstanceTag, Name, NameError, NameTag, NodeId, NodeTag, OrgName, OrgTag, ServiceName,
    ServiceNameTag, SpaceName, SpaceTag, env_suffix,
};
pub use network::{AddressError, BackendNetworks};
pub use port::{Port, PortError, PortRange, PortRangeError, PortRanges, Protocol, Protocols};
pub use record::{
    Access, BackendRecord, BindingRecord, Change, Changes, Commit, CommitOutcome, CommitToken, Conflict, Expectation,
    Lifetime, Loaded, QuarantineRecord, Record, RecordKey, Revision, ServiceRecord, Stored, UniqueKey, Write,
};
pub use time::{Now, Span, SpanError, WallTime};
