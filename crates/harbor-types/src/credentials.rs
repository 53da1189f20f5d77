//! The credentials object an application finds under its service's name.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{NodeId, Port, Protocols, ServiceId};

/// A host name: 1 to 253 bytes of dot-separated labels of letters, digits, `-` and `_` (RFC 1123, and `_` as found in
/// practice); not an IP literal.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct HostName(Arc<str>);

/// Why a text is no [`HostName`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{text:?} is not a host name")]
pub struct HostNameError {
    text: String,
}

impl FromStr for HostName {
    type Err = HostNameError;
    fn from_str(text: &str) -> Result<Self, HostNameError> {
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if text.len() <= 253 && text.split('.').all(label) && text.parse::<IpAddr>().is_err() {
            Ok(Self(text.into()))
        } else {
            Err(HostNameError { text: text.chars().take(80).collect() })
        }
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Serialize for HostName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for HostName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A host by name, or by address where none is configured.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Host {
    /// An IP address.
    Ip(IpAddr),
    /// A name.
    Name(HostName),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// What the application is told about one service. Serialised in the order and with the types of the user's example;
/// keys that do not apply are absent, never `null` or empty.
///
/// # Source
/// The user's document, "Requesting a Port".
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Credentials {
    /// Internal host name of the node, or its internal IP where no name is configured.
    pub hostname: Host,
    /// Internal IP of the node.
    pub host: IpAddr,
    /// External port number.
    pub port: Port,
    /// Service instance id.
    pub name: ServiceId,
    /// The node.
    pub node_id: NodeId,
    /// Port the application (or the container proxy) listens on in its container.
    pub int_port: Port,
    /// Public host name, or the public IP where no name is configured; only with public access.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ext_hostname: Option<Host>,
    /// Public IP; only with public access.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ext_host: Option<IpAddr>,
    /// Only where the protocols depart from what the name says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocols>,
    /// Only where it departs from what the name says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub https: Option<bool>,
}
