//! What a request is told when it is not carried out: status, a word for programs, what is wrong and what to do.

use axum::Json;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use harbor_registry::Refusal;
use harbor_types::wire::Problem;
use harbor_types::{AddressError, SpaceName};

use crate::handle::Stopped;

/// An answer that is not a success.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    problem: Problem,
}

impl Failure {
    pub(crate) fn new(status: StatusCode, error: &str, message: impl ToString, remedy: &str) -> Self {
        let problem = Problem { error: error.into(), message: message.to_string(), remedy: remedy.into() };
        Self { status, problem }
    }

    pub(crate) fn no_route(path: &str) -> Self {
        let message = format!("there is nothing at {path}");
        Self::new(StatusCode::NOT_FOUND, "no_such_route", message, "see /openapi.json for the paths there are")
    }

    pub(crate) fn wrong_method(method: &Method, path: &str) -> Self {
        let message = format!("{path} does not take {method}");
        let remedy = "use one of the methods in the Allow header; see /openapi.json";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message, remedy)
    }

    pub(crate) fn no_token() -> Self {
        let remedy = "send the header `Authorization: Bearer TOKEN` with the admin's token";
        Self::new(StatusCode::UNAUTHORIZED, "token_missing", "this path needs a token", remedy)
    }

    pub(crate) fn wrong_token() -> Self {
        let remedy = "send `Authorization: Bearer TOKEN` with the token that the node's token_file or HARBOR_TOKEN has";
        Self::new(StatusCode::UNAUTHORIZED, "token_wrong", "the token is not the one of this node", remedy)
    }

    pub(crate) fn two_tokens() -> Self {
        let remedy = "send the header `Authorization: Bearer TOKEN` once";
        Self::new(StatusCode::UNAUTHORIZED, "token_twice", "the request has more than one Authorization header", remedy)
    }

    pub(crate) fn too_slow() -> Self {
        let remedy = "it may still be carried out: look at the state, then ask again";
        Self::new(StatusCode::GATEWAY_TIMEOUT, "too_slow", "the call took longer than the node waits", remedy)
    }

    pub(crate) fn bad_path(message: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_path", message, "correct that part of the path")
    }

    pub(crate) fn bad_query(message: impl ToString) -> Self {
        let remedy = "correct the part behind `?`; see /openapi.json for what it may have";
        Self::new(StatusCode::BAD_REQUEST, "bad_query", message, remedy)
    }

    /// No service has this name.
    pub(crate) fn no_service(name: &str, org: &str, space: &SpaceName) -> Self {
        let message = format!("there is no service {name} in {org}/{space}");
        let remedy = "list services with GET /v1/services; name the space with ?org= and ?space= if it is another one";
        Self::new(StatusCode::NOT_FOUND, "service_not_found", message, remedy)
    }

    /// What the answer should have shown went away before it could be shown.
    pub(crate) fn gone_meanwhile() -> Self {
        let remedy = "somebody else removed it at the same time; ask again if it should exist";
        Self::new(StatusCode::CONFLICT, "gone_meanwhile", "it was carried out, and removed again meanwhile", remedy)
    }
}

impl From<Stopped> for Failure {
    fn from(_: Stopped) -> Self {
        Refusal::Draining.into()
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        const CONFLICT: StatusCode = StatusCode::CONFLICT;
        const NOT_FOUND: StatusCode = StatusCode::NOT_FOUND;
        const INVALID: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;
        const UNAVAILABLE: StatusCode = StatusCode::SERVICE_UNAVAILABLE;
        let (status, error, remedy) = match &refusal {
            Refusal::Kind(_) => {
                (INVALID, "kind_not_possible", "take another name, or give protocol or https explicitly")
            }
            Refusal::IdTaken { .. } => (CONFLICT, "id_taken", "use a new id, or order with the attributes it has"),
            Refusal::NameTaken { .. } => {
                (CONFLICT, "name_taken", "take another name, or use the service that is there")
            }
            Refusal::PortOutside { .. } => (INVALID, "port_outside_range", "ask for a port of the range, or for none"),
            Refusal::PortTaken { .. } => (CONFLICT, "port_taken", "ask for another port, or for none"),
            Refusal::PortResting { .. } => {
                (CONFLICT, "port_resting", "wait for that long, ask for another port, or for none")
            }
            Refusal::PortHeld { .. } => (CONFLICT, "port_held", "stop that process, ask for another port, or for none"),
            Refusal::Exhausted { .. } => (
                UNAVAILABLE,
                "ports_exhausted",
                "delete services, wait until ports have rested, or have the operator widen port_range",
            ),
            Refusal::BindFailed { .. } => {
                (UNAVAILABLE, "bind_failed", "have the operator look at the cause, then ask again")
            }
            Refusal::IntPortTaken { .. } => (CONFLICT, "int_port_taken", "ask for another container port, or for none"),
            Refusal::IntPortsExhausted { .. } => {
                (UNAVAILABLE, "int_ports_exhausted", "delete services of the space, or use another space")
            }
            Refusal::PublicNotAllowed => {
                (INVALID, "public_not_allowed", "leave out public, or have the operator add a [public] block")
            }
            Refusal::UnknownService { .. } => (NOT_FOUND, "service_not_found", "list services with GET /v1/services"),
            Refusal::StillBound { .. } => (
                CONFLICT,
                "still_bound",
                "unbind it first, or force the deletion (force=true, --force), which ends its bindings too",
            ),
            Refusal::UnknownBinding { .. } => (NOT_FOUND, "binding_not_found", "list bindings with GET /v1/bindings"),
            Refusal::SameVariable { .. } => {
                (CONFLICT, "same_variable", "bind only one of them to the app, or rename one")
            }
            Refusal::UnknownInstance { .. } => (NOT_FOUND, "instance_not_found", "register it (again) with PUT"),
            Refusal::Address(AddressError::Outside { .. }) => (
                INVALID,
                "address_outside",
                "register an address of those networks, or have the operator widen backend_networks",
            ),
            Refusal::Address(_) => {
                (INVALID, "address_forbidden", "register the address and port the instance listens on")
            }
            Refusal::OwnListener { .. } => {
                (INVALID, "own_listener", "register the instance's own address, not the service's")
            }
            Refusal::BadTtl { .. } => (INVALID, "bad_ttl", "give 1s to 24h, or leave it out"),
            Refusal::StoreFailed { .. } => {
                (UNAVAILABLE, "store_failed", "have the operator look at the disk of the state file, then ask again")
            }
            Refusal::Conflict { .. } => (CONFLICT, "conflict", "look at the state and ask again"),
            Refusal::Draining => (UNAVAILABLE, "draining", "ask again when the node is back"),
            Refusal::Busy => (UNAVAILABLE, "busy", "ask again in a moment"),
            _ => (INVALID, "refused", "correct the request"),
        };
        Self::new(status, error, refusal, remedy)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.problem)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"harbor\""));
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
