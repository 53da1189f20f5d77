//! Harbor's UDP relay: one session per client, one connected backend socket per session.
//!
//! [`SessionTable`] decides (pure: no socket, no clock); `serve` owns the sockets and asks it. A program binds a
//! `UdpListener`, describes the service in a `UdpService`, and hands both to `serve` with a `watch` of snapshots.
//! Nothing here knows how ports are allocated or where backends come from.

mod budget;
#[cfg(feature = "io")]
mod buffers;
#[cfg(feature = "io")]
mod fault;
mod holds;
mod limits;
#[cfg(feature = "io")]
mod listener;
mod record;
mod refusal;
#[cfg(feature = "io")]
mod serve;
#[cfg(feature = "io")]
mod service;
mod session;
mod sessions;
#[cfg(feature = "io")]
mod upstreams;

pub use budget::{Budget, ServiceBudget, Slot};
pub use limits::{IDLE, Limits, SESSIONS, SESSIONS_PER_SOURCE, UNANSWERED_GRACE};
#[cfg(feature = "io")]
pub use listener::UdpListener;
pub use record::{CloseReason, Observer, SessionRecord, Tally};
pub use refusal::Refusal;
#[cfg(feature = "io")]
pub use serve::{ServeError, ServeReport, serve};
#[cfg(feature = "io")]
pub use service::{Traffic, UdpService};
pub use session::{ClientAddr, SessionId};
pub use sessions::{Output, Payload, SessionTable};
