//! What each call says: method, path, body and how long the answer may take. Pure; [`Client`](crate::Client) sends it.

use std::fmt;

use harbor_types::{OrgName, ServiceId, ServiceName, SpaceName, Span};
use hyper::Method;
use serde::Serialize;

/// A service, the way people and programs refer to one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ServiceRef {
    /// By its id.
    Id(ServiceId),
    /// By its name in a space; absent ones mean `default`.
    Name {
        /// The name.
        name: ServiceName,
        /// The organisation.
        org: Option<OrgName>,
        /// The space.
        space: Option<SpaceName>,
    },
}

impl From<ServiceId> for ServiceRef {
    fn from(id: ServiceId) -> Self {
        Self::Id(id)
    }
}

impl From<ServiceName> for ServiceRef {
    fn from(name: ServiceName) -> Self {
        Self::Name { name, org: None, space: None }
    }
}

impl fmt::Display for ServiceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name { name, .. } => name.fmt(f),
        }
    }
}

/// Which services are listed: those that match everything given.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ServiceFilter {
    /// Only of this organisation.
    pub org: Option<OrgName>,
    /// Only of this space.
    pub space: Option<SpaceName>,
    /// Only with this name.
    pub name: Option<ServiceName>,
}

/// What becomes of a service that is still bound to an app.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DeleteMode {
    /// The node refuses to delete it.
    OnlyUnbound,
    /// It is deleted, and its bindings with it.
    Forced,
}

/// One call, ready to send.
pub(crate) struct Request {
    pub(crate) method: Method,
    /// Path and query, percent-encoded.
    pub(crate) target: String,
    /// JSON.
    pub(crate) body: Option<Vec<u8>>,
    /// For the whole answer, once connected.
    pub(crate) deadline: Span,
}

impl Request {
    pub(crate) fn new(method: Method, target: String, deadline: Span) -> Self {
        Self { method, target, body: None, deadline }
    }

    pub(crate) fn with_body(self, body: &impl Serialize) -> Result<Self, serde_json::Error> {
        Ok(Self { body: Some(serde_json::to_vec(body)?), ..self })
    }

    /// For messages: `GET /v1/services`, without the query.
    pub(crate) fn summary(&self) -> String {
        format!("{} {}", self.method, self.target.split('?').next().unwrap_or_default())
    }
}

/// `/v1/services/{service}{rest}?{query}`; names and ids consist of characters that a path takes as they are.
pub(crate) fn service_target(service: &ServiceRef, rest: &str, query: &[(&str, String)]) -> String {
    let mut query = query.to_vec();
    if let ServiceRef::Name { org, space, .. } = service {
        query.extend(org.as_ref().map(|org| ("org", org.to_string())));
        query.extend(space.as_ref().map(|space| ("space", space.to_string())));
    }
    target(&format!("/v1/services/{service}{rest}"), &query)
}

/// `path?key=value&…`, values percent-encoded.
pub(crate) fn target(path: &str, query: &[(&str, String)]) -> String {
    let mut text = path.to_owned();
    for (index, (key, value)) in query.iter().enumerate() {
        text.push(if index == 0 { '?' } else { '&' });
        text.push_str(key);
        text.push('=');
        for byte in value.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(char::from(byte)),
                other => text.push_str(&format!("%{other:02X}")),
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_name_the_service_and_its_space() {
        let by_id = ServiceRef::from(ServiceId::from_u128(1));
        let by_name = ServiceRef::from(ServiceName::parse("my-port").unwrap());
        let elsewhere = ServiceRef::Name {
            name: "my-port".parse().unwrap(),
            org: Some("acme".parse().unwrap()),
            space: Some("prod".parse().unwrap()),
        };
        let force = [("force", "true".to_owned())];
        for (service, rest, query, want) in [
            (&by_id, "", &[][..], "/v1/services/00000000-0000-0000-0000-000000000001"),
            (&by_name, "/bindings", &[], "/v1/services/my-port/bindings"),
            (&by_name, "", &force, "/v1/services/my-port?force=true"),
            (&elsewhere, "", &force, "/v1/services/my-port?force=true&org=acme&space=prod"),
        ] {
            assert_eq!(service_target(service, rest, query), want);
        }
    }

    #[test]
    fn query_values_are_encoded() {
        assert_eq!(target("/p", &[("a", "x&y=ü z".into())]), "/p?a=x%26y%3D%C3%BC%20z");
    }
}
