//! Harbor's TCP relay: exclusive listeners, exact round robin, half-close and resets kept.
//!
//! Pure, without tokio: which backend next ([`Cursor`], [`choices`], [`Attempts`]), when a connection has been quiet
//! for too long ([`Lifecycle`]), what a socket error means ([`accept_policy`], [`connect_failure`]), and the words for
//! it ([`Limits`], [`ConnectionRecord`]). Behind the default feature `io`: the sockets and the tasks that drive them.
//! A service's snapshots arrive from outside; this crate knows no registry and keeps no state on disk.

mod lifecycle;
mod limits;
mod pick;
mod policy;
mod record;

#[cfg(feature = "io")]
mod accept;
#[cfg(feature = "io")]
mod buffer;
#[cfg(feature = "io")]
mod connect;
#[cfg(feature = "io")]
mod forward;
#[cfg(feature = "io")]
mod leash;
#[cfg(feature = "io")]
mod listener;
#[cfg(feature = "io")]
mod pool;
#[cfg(feature = "io")]
mod relay;
#[cfg(feature = "io")]
mod serve;
#[cfg(feature = "io")]
mod stream;

pub use lifecycle::{Lifecycle, Way};
pub use limits::Limits;
pub use pick::{Attempt, Attempts, Cursor, choices};
pub use policy::{AcceptPolicy, accept_policy, connect_failure};
pub use record::{CloseReason, ConnectionRecord, Ending, Side};

#[cfg(feature = "io")]
pub use accept::{AcceptError, AcceptReport, accept};
#[cfg(feature = "io")]
pub use forward::forward;
#[cfg(feature = "io")]
pub use listener::{BACKLOG, Listener};
#[cfg(feature = "io")]
pub use pool::{Observer, Pool};
#[cfg(feature = "io")]
pub use relay::{Meter, relay};
#[cfg(feature = "io")]
pub use serve::{ServeReport, serve};
#[cfg(feature = "io")]
pub use stream::{TcpHandle, reset_of};
