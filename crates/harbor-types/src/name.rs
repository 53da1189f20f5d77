//! Names that people choose: services, apps, instances, nodes, organisations and spaces share one grammar.

use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest name, in bytes.
const MAX_LEN: usize = 63;

/// What a [`Name`] names; appears in error messages.
pub trait NameTag: Copy + fmt::Debug + Ord + Hash + Send + Sync + 'static {
    /// The word for it, as in "service name".
    const WHAT: &'static str;
}

/// A name: `[A-Za-z0-9][A-Za-z0-9._-]{0,62}` without `..`. Cheap to clone.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Name<T: NameTag>(Arc<str>, PhantomData<T>);

/// Tag of [`ServiceName`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ServiceNameTag {}
/// Tag of [`AppName`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum AppTag {}
/// Tag of [`InstanceId`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum InstanceTag {}
/// Tag of [`NodeId`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum NodeTag {}
/// Tag of [`OrgName`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum OrgTag {}
/// Tag of [`SpaceName`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum SpaceTag {}

impl NameTag for ServiceNameTag {
    const WHAT: &'static str = "service name";
}
impl NameTag for AppTag {
    const WHAT: &'static str = "app name";
}
impl NameTag for InstanceTag {
    const WHAT: &'static str = "instance id";
}
impl NameTag for NodeTag {
    const WHAT: &'static str = "node id";
}
impl NameTag for OrgTag {
    const WHAT: &'static str = "organisation";
}
impl NameTag for SpaceTag {
    const WHAT: &'static str = "space";
}

/// Name of a service, unique within its space; its prefix and suffix decide the kind ([`ServiceKind`](crate::ServiceKind)).
pub type ServiceName = Name<ServiceNameTag>;
/// Name of an application that services are bound to.
pub type AppName = Name<AppTag>;
/// One running instance of an application, chosen by whoever registers it; unique within a service.
pub type InstanceId = Name<InstanceTag>;
/// A gateway node, for example `harbor_node_1`.
pub type NodeId = Name<NodeTag>;
/// An organisation: the outer tenant.
pub type OrgName = Name<OrgTag>;
/// A space within an organisation: service names and internal ports are unique in it.
pub type SpaceName = Name<SpaceTag>;

/// Why a text is no [`Name`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{what} {text:?} is not valid: {reason}")]
pub struct NameError {
    /// What the text should have named.
    pub what: &'static str,
    /// The text, cut after 80 characters.
    pub text: String,
    /// Which rule it breaks.
    pub reason: &'static str,
}

impl<T: NameTag> Name<T> {
    /// Checks `text` against the grammar.
    ///
    /// # Errors
    /// [`NameError`] naming the rule that is broken.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        match broken_rule(text) {
            None => Ok(Self(text.into(), PhantomData)),
            Some(reason) => Err(NameError { what: T::WHAT, text: text.chars().take(80).collect(), reason }),
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl OrgName {
    /// The organisation `default`, used until somebody names another.
    #[must_use]
    pub fn fallback() -> Self {
        Self("default".into(), PhantomData)
    }
}

impl SpaceName {
    /// The space `default`, used until somebody names another.
    #[must_use]
    pub fn fallback() -> Self {
        Self("default".into(), PhantomData)
    }
}

fn broken_rule(text: &str) -> Option<&'static str> {
    let Some(first) = text.bytes().next() else { return Some("it is empty; give 1 to 63 characters") };
    if text.len() > MAX_LEN {
        return Some("it is longer than 63 bytes");
    }
    if !first.is_ascii_alphanumeric() {
        return Some("it must start with a letter A-Z, a-z or a digit");
    }
    if !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
        return Some("only letters A-Z a-z, digits, '.', '_' and '-' are allowed");
    }
    text.contains("..").then_some("'..' is not allowed")
}

/// The form a name takes inside an environment variable: upper-cased, `-` and `.` become `_`.
///
/// # Source
/// The user's document, "Harbor Environment Variables" (upper-cased, hyphens become underscores); `.` is ours.
/// ```
/// assert_eq!(harbor_types::env_suffix("udp-port"), "UDP_PORT");
/// ```
#[must_use]
pub fn env_suffix(name: &str) -> String {
    name.chars().map(|c| if matches!(c, '-' | '.') { '_' } else { c.to_ascii_uppercase() }).collect()
}

impl<T: NameTag> fmt::Display for Name<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<T: NameTag> fmt::Debug for Name<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<T: NameTag> FromStr for Name<T> {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

impl<T: NameTag> AsRef<str> for Name<T> {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl<T: NameTag> Borrow<str> for Name<T> {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl<T: NameTag> Serialize for Name<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de, T: NameTag> Deserialize<'de> for Name<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grammar_of_names() {
        let longest = "a".repeat(63);
        for (text, valid) in [
            ("debug-port", true),
            ("9", true),
            ("a.b_c-D", true),
            (longest.as_str(), true),
            ("", false),
            ("-a", false),
            (".a", false),
            ("_a", false),
            ("a..b", false),
            ("a/b", false),
            ("a b", false),
            ("ä", false),
            ("a\n", false),
        ] {
            assert_eq!(ServiceName::parse(text).is_ok(), valid, "{text:?}");
        }
        assert!(ServiceName::parse(&"a".repeat(64)).is_err());
    }

    #[test]
    fn error_names_what_and_why() {
        let error = ServiceName::parse("a..b").unwrap_err();
        assert_eq!(error.to_string(), "service name \"a..b\" is not valid: '..' is not allowed");
    }
}
