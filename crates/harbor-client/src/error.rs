//! How a call can fail, and what to do about each way. Shown to people by the programs, told apart by their code.

use std::error::Error;
use std::fmt;
use std::io;

use harbor_types::Span;
use harbor_types::wire::Problem;

use crate::NodeUrl;

/// A call that did not succeed. `Display` says what is wrong and what to do; [`what`](Self::what) and
/// [`remedy`](Self::remedy) give the two apart.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No connection: the node is down, elsewhere, or a network is in between. Nothing was sent.
    Unreachable {
        /// Where it should be.
        url: NodeUrl,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The node did not answer in time. Whether a change was made is unknown.
    Timeout {
        /// Where it is.
        url: NodeUrl,
        /// Method and path.
        call: String,
        /// The deadline.
        after: Span,
    },
    /// The connection broke before the answer was complete. Whether a change was made is unknown.
    Interrupted {
        /// Where it is.
        url: NodeUrl,
        /// Method and path.
        call: String,
        /// What broke.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The token is missing there or not the right one. Nothing was changed.
    Unauthorized {
        /// Where it is.
        url: NodeUrl,
        /// The node's own words, if it said any.
        problem: Option<Problem>,
    },
    /// The node said no, and why. Nothing was changed.
    Refused {
        /// HTTP status, 4xx or 5xx.
        status: u16,
        /// What the node says.
        problem: Problem,
    },
    /// The answer is none that a node gives. Whether a change was made is unknown.
    BadAnswer {
        /// Where it came from.
        url: NodeUrl,
        /// Method and path.
        call: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The request could not be put into words.
    Request {
        /// Method and path.
        call: String,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl ClientError {
    /// What is wrong, in one sentence with the values concerned.
    #[must_use]
    pub fn what(&self) -> String {
        match self {
            Self::Unreachable { url, source } => format!("the node at {url} cannot be reached: {source}"),
            Self::Timeout { url, call, after } => {
                format!("the node at {url} did not answer within {after} ({call})")
            }
            Self::Interrupted { url, call, .. } => {
                format!("the connection to {url} broke before the answer was complete ({call})")
            }
            Self::Unauthorized { url, problem: None } => format!("the node at {url} does not accept the token"),
            Self::Unauthorized { url, problem: Some(problem) } => {
                format!("the node at {url} does not accept the token: {}", problem.message)
            }
            Self::Refused { problem, .. } => problem.message.clone(),
            Self::BadAnswer { url, call, reason } => format!("the answer of {url} is not a node's ({call}): {reason}"),
            Self::Request { call, source } => format!("{call} cannot be written as a request: {source}"),
        }
    }

    /// What to do about it, in one sentence.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Unreachable { .. } => {
                "start it (harbor-node serve, or harbor-node dev to try things out), or give the address it listens on"
                    .into()
            }
            Self::Timeout { .. } | Self::Interrupted { .. } => {
                "look at the node's log; a change may have been made all the same, so list before you repeat it".into()
            }
            Self::Unauthorized { .. } => {
                "give the token that this node was started with, or the one of its .harbor folder".into()
            }
            Self::Refused { problem, .. } => problem.remedy.clone(),
            Self::BadAnswer { url, .. } => {
                format!("check that {url} is the API of a harbor-node of this version, and not of another server")
            }
            Self::Request { .. } => "this is a mistake in the program; report it with the command".into(),
        }
    }

    /// The word that a refusal carries, for example `service_not_found`; `None` for other errors.
    #[must_use]
    pub fn refusal(&self) -> Option<&str> {
        match self {
            Self::Refused { problem, .. } => Some(&problem.error),
            _ => None,
        }
    }

    /// Whether the same call may well succeed later, with nothing changed on this side: the node is away or busy.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Timeout { .. } | Self::Interrupted { .. } => true,
            Self::Refused { status, .. } => *status >= 500 || *status == 429,
            Self::Unauthorized { .. } | Self::BadAnswer { .. } | Self::Request { .. } => false,
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what(), self.remedy())
    }
}
