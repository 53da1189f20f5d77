//! Requests taken apart: JSON bodies, path parts and queries, each refused with the place that is wrong.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use harbor_types::{OrgName, ServiceId, ServiceName, SpaceName};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::problem::Failure;
use super::{Api, MAX_BODY};

/// How long a client may take to send a body.
const BODY_LIMIT: Duration = Duration::from_secs(10);

/// A JSON body of this shape.
pub(super) struct Input<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<Api>> for Input<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &Arc<Api>) -> Result<Self, Failure> {
        let kind = request.headers().get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default());
        let essence = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            let message = match kind {
                Some(kind) => format!("the body is declared as {kind:?}"),
                None => "the body has no Content-Type".into(),
            };
            let remedy = "send JSON with the header `Content-Type: application/json`";
            return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", message, remedy));
        }
        let body = body(request.into_body()).await?;
        serde_json::from_slice(&body).map(|Object(inner)| Self(inner)).map_err(|error| {
            let (word, remedy) = match error.classify() {
                serde_json::error::Category::Data => {
                    ("bad_value", "correct the field; see /openapi.json for the shape")
                }
                _ => ("bad_json", "send one JSON object; mind quotes and commas"),
            };
            Failure::new(StatusCode::BAD_REQUEST, word, format!("the body: {error}"), remedy)
        })
    }
}

/// A shape that comes as a JSON object: serde takes an array for a struct as well, each value for the field at its place.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(Fields(PhantomData))
    }
}

async fn body(body: Body) -> Result<bytes::Bytes, Failure> {
    let too_large = || {
        Failure::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            format!("the body is larger than {MAX_BODY} bytes"),
            "send less: no request needs more than a few hundred bytes",
        )
    };
    // Declared too large: said at once, and before a client that asked is told to go on.
    if usize::try_from(body.size_hint().lower()).is_ok_and(|least| least > MAX_BODY) {
        return Err(too_large());
    }
    let read = tokio::time::timeout(BODY_LIMIT, Limited::new(body, MAX_BODY).collect()).await;
    match read {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(Failure::new(
            StatusCode::BAD_REQUEST,
            "body_broken",
            format!("the body broke off: {error}"),
            "send it again",
        )),
        Err(_) => Err(Failure::new(
            StatusCode::REQUEST_TIMEOUT,
            "body_too_slow",
            format!("the body was not complete within {} s", BODY_LIMIT.as_secs()),
            "send it again, faster",
        )),
    }
}

/// The variable parts of the path.
pub(super) struct Segments<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<Api>> for Segments<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Failure> {
        Path::from_request_parts(parts, api)
            .await
            .map(|Path(inner)| Self(inner))
            .map_err(|rejection| Failure::bad_path(rejection.body_text()))
    }
}

/// The query. Shapes refuse unknown fields.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Arc<Api>> for Asked<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Api>) -> Result<Self, Failure> {
        Query::try_from_uri(&parts.uri)
            .map(|Query(inner)| Self(inner))
            .map_err(|rejection| Failure::bad_query(rejection.body_text()))
    }
}

/// A query that only says in which space a name is looked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InSpace {
    org: Option<OrgName>,
    space: Option<SpaceName>,
}

impl InSpace {
    pub(super) fn new(org: Option<OrgName>, space: Option<SpaceName>) -> Self {
        Self { org, space }
    }

    pub(super) fn decide(self) -> (OrgName, SpaceName) {
        (self.org.unwrap_or_else(OrgName::fallback), self.space.unwrap_or_else(SpaceName::fallback))
    }
}

/// Finds the service that a path names: by id, else by its name in the space.
pub(super) async fn find(api: &Api, named: &str, space: InSpace) -> Result<ServiceId, Failure> {
    let (org, space) = space.decide();
    let id = named.parse::<ServiceId>().ok();
    let name = ServiceName::parse(named).map_err(Failure::bad_path)?;
    let (in_org, in_space, of_name) = (org.clone(), space.clone(), name.clone());
    let found = api
        .handle
        .read(move |registry, _| {
            let known = id.filter(|id| registry.credentials(*id).is_some());
            known.or_else(|| registry.find(&in_org, &in_space, &of_name))
        })
        .await?;
    found.ok_or_else(|| Failure::no_service(name.as_str(), org.as_str(), &space))
}
