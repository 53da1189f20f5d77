//! The way to a running node: commands, reads and levels, for the API, for embedders and for tests. Cheap to clone.

use harbor_registry::{Answer, Command, Counts, Refusal, Registry};
use harbor_types::Now;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// Requests that may wait for the driver; beyond, calls are refused as busy.
pub(crate) const MAX_REQUESTS: usize = 1_024;

/// What a node is about.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Phase {
    /// Its restored services are not all decided yet.
    #[default]
    Starting,
    /// Every service is bound or conflicted.
    Ready,
    /// It stops: takes no orders, lets connections finish.
    Draining,
    /// It is over.
    Stopped,
}

/// Levels of a node: the latest of each, never a history.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Status {
    /// What it is about.
    pub phase: Phase,
    /// How much there is of everything.
    pub counts: Counts,
}

/// A look at the registry, between two of its steps.
type Look = Box<dyn FnOnce(&Registry, Now) + Send>;

/// What the driver is asked.
pub(crate) enum Request {
    /// Carry out a command.
    Command(Command, oneshot::Sender<Result<Answer, Refusal>>),
    /// Look at the registry.
    Read(Look),
    /// Take no orders any more.
    BeginDrain,
    /// Stop accepting everywhere, let connections finish; tell how many had to be cut.
    CloseListeners(oneshot::Sender<usize>),
}

/// The node does not answer any more: it has stopped.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the node has stopped")]
pub struct Stopped;

/// A running node. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    pub(crate) requests: mpsc::Sender<Request>,
    pub(crate) status: watch::Receiver<Status>,
    pub(crate) hurry: CancellationToken,
}

impl Handle {
    /// Carries out a command. What was answered is durable, and every relay thread knows it.
    ///
    /// # Errors
    /// The registry's [`Refusal`]; [`Refusal::Busy`] when too many requests wait, [`Refusal::Draining`] when the node
    /// has stopped.
    ///
    /// # Cancel safety
    /// Dropping the future does not undo the command; its outcome can be read.
    pub async fn command(&self, command: Command) -> Result<Answer, Refusal> {
        let (reply, answer) = oneshot::channel();
        match self.requests.try_send(Request::Command(command, reply)) {
            Ok(()) => answer.await.unwrap_or(Err(Refusal::Draining)),
            Err(mpsc::error::TrySendError::Full(_)) => Err(Refusal::Busy),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Refusal::Draining),
        }
    }

    /// Looks at the registry, between two of its steps. `look` runs on the driver: it must be quick.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Registry, Now) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let (reply, answer) = oneshot::channel();
        let read = Request::Read(Box::new(move |registry, now| {
            // A caller that went away needs no answer.
            let _ = reply.send(look(registry, now));
        }));
        self.requests.send(read).await.map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }

    /// The node's levels; wait on them with [`watch::Receiver::wait_for`].
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Whether every service is bound or conflicted and the node is not stopping.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.status.borrow().phase == Phase::Ready
    }

    /// Makes a stopping node skip the rest of its waits: connections that still run are cut.
    pub fn hurry(&self) {
        self.hurry.cancel();
    }
}
