//! What can go wrong in a run, its exit code and its remedy.

use std::io;

use harbor_client::ClientError;

/// Done.
pub(crate) const SUCCESS: u8 = 0;
/// Refused by the node, or failed.
const FAILED: u8 = 1;
/// The command line is wrong.
pub(crate) const USAGE: u8 = 2;
/// The node cannot be reached: nothing was changed.
const UNREACHABLE: u8 = 69;
/// No token, or settings that cannot be used.
const SETTINGS: u8 = 78;

/// Why a command did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Options that do not go together.
    #[error("{what}")]
    Usage { what: String, remedy: String },
    /// No token, or an address or token that cannot be used.
    #[error("{what}")]
    Settings { what: String, remedy: String },
    /// A call failed; `hint` says where the address or the token came from.
    #[error("{error}")]
    Call { error: Box<ClientError>, hint: Option<String> },
    /// Something on this side: a manifest, a backend that is not there, a form that cannot be written.
    #[error("{}", what.join("; "))]
    Failed { what: Vec<String>, remedy: String },
    /// Whoever reads the results has gone.
    #[error("nobody reads the results")]
    NobodyReads,
    /// The results cannot be written.
    #[error("the results cannot be written: {0}")]
    Write(io::Error),
}

impl Failure {
    pub(crate) fn failed(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Failed { what: vec![what.into()], remedy: remedy.into() }
    }

    /// The sentences after `error:`.
    pub(crate) fn what(&self) -> Vec<String> {
        match self {
            Self::Call { error, .. } => vec![error.what()],
            Self::Failed { what, .. } => what.clone(),
            other => vec![other.to_string()],
        }
    }

    /// The sentence after `try:`.
    pub(crate) fn remedy(&self) -> Option<String> {
        match self {
            Self::Usage { remedy, .. } | Self::Settings { remedy, .. } | Self::Failed { remedy, .. } => {
                Some(remedy.clone())
            }
            Self::Call { error, hint: None } => Some(error.remedy()),
            Self::Call { error, hint: Some(hint) } => Some(format!("{} ({hint})", error.remedy())),
            Self::NobodyReads => None,
            Self::Write(_) => Some("look whether the disk is full; changes on the node were made".into()),
        }
    }

    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage { .. } => USAGE,
            Self::Settings { .. } => SETTINGS,
            Self::Call { error, .. } if matches!(**error, ClientError::Unreachable { .. }) => UNREACHABLE,
            Self::NobodyReads => SUCCESS,
            Self::Call { .. } | Self::Failed { .. } | Self::Write(_) => FAILED,
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::NobodyReads } else { Self::Write(error) }
    }
}
