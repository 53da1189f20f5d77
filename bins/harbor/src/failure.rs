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
            Self::Call { error, hint } => {
                let remedy = own_words(error).map_or_else(|| error.remedy(), str::to_owned);
                Some(hint.as_ref().map_or_else(|| remedy.clone(), |hint| format!("{remedy} ({hint})")))
            }
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

/// What to do about a refusal, in words of this command line: the node's own remedies name HTTP paths and parameters.
fn own_words(error: &ClientError) -> Option<&'static str> {
    Some(match error.refusal()? {
        "service_not_found" => {
            "list the services there are: harbor services; one outside the space `default` is meant by its id"
        }
        "kind_not_possible" => "take another name, or give --protocol or --https",
        "port_outside_range" => "leave out --port, or ask for a port of the range: harbor ports",
        "port_taken" | "port_resting" | "port_held" => "leave out --port, or ask for another one: harbor ports",
        "int_port_taken" => "leave out --int-port, or ask for another one: harbor services",
        "public_not_allowed" => "leave out --public, or have the operator add a [public] block",
        "still_bound" => "unbind it first (harbor unbind-service), or delete it and its bindings with --force",
        "binding_not_found" => "see what it is bound to: harbor services",
        "instance_not_found" => "see which instances are registered: harbor service NAME",
        _ => return None,
    })
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::NobodyReads } else { Self::Write(error) }
    }
}
