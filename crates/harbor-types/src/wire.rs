//! Shapes of the node's HTTP API (`/v1`): what the node answers and its clients send, as JSON.
//!
//! Requests refuse unknown fields, so that a misspelt word is an error and not silently nothing; answers may grow fields.
//! Times are RFC 3339 in UTC, lengths of time are written like `30s`.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::{
    Access, AppName, BindingId, Credentials, Failure, Generation, InstanceId, OrgName, Port, Protocol, Protocols,
    ServiceId, ServiceName, SpaceName, Span,
};

/// `POST /v1/services` and `PUT /v1/services/{id}`: order a service.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreateService {
    /// Its name; prefix and suffix decide the kind.
    #[cfg_attr(feature = "openapi", schema(value_type = String, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"))]
    pub name: ServiceName,
    /// Organisation; `default` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub org: Option<OrgName>,
    /// Space; `default` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub space: Option<SpaceName>,
    /// Wins over what the name says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocols>,
    /// Wins over what the name says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub https: Option<bool>,
    /// This external port and no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<u16>, minimum = 1))]
    pub port: Option<Port>,
    /// This container port and no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<u16>, minimum = 1))]
    pub int_port: Option<Port>,
    /// Reachable on the public addresses; default: whatever the node allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<bool>,
}

impl CreateService {
    /// The plainest order: only a name.
    #[must_use]
    pub fn named(name: ServiceName) -> Self {
        Self { name, org: None, space: None, protocol: None, https: None, port: None, int_port: None, public: None }
    }
}

/// Whether a service's sockets are held.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ServiceState {
    /// Being restored; nothing is decided yet.
    Binding,
    /// Every socket is held.
    Bound,
    /// Another process has the port; retried, never moved to another number.
    Conflicted,
}

/// A service, as listed and shown.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServiceView {
    /// Its id.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
    pub id: ServiceId,
    /// Its name.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub name: ServiceName,
    /// Organisation.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub org: OrgName,
    /// Space.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub space: SpaceName,
    /// Protocols of the external port.
    pub protocol: Protocols,
    /// TLS is terminated in the application's container.
    pub https: bool,
    /// External port.
    #[cfg_attr(feature = "openapi", schema(value_type = u16))]
    pub port: Port,
    /// Port in the application's container.
    #[cfg_attr(feature = "openapi", schema(value_type = u16))]
    pub int_port: Port,
    /// Who can reach it.
    pub access: Access,
    /// Whether its sockets are held.
    pub state: ServiceState,
    /// Why they are not, when they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflict: Option<String>,
    /// Addresses it listens on.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub listen: Vec<SocketAddr>,
    /// Number of the latest published snapshot.
    #[cfg_attr(feature = "openapi", schema(value_type = u64))]
    pub generation: Generation,
    /// When it was created, RFC 3339.
    pub created: String,
    /// What the application is told.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub credentials: Credentials,
    /// Apps it is bound to.
    pub bindings: Vec<BindingView>,
    /// Its pool, in arrival order.
    pub backends: Vec<BackendView>,
    /// What may surprise about the name; only in the answer to its creation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
}

/// `GET /v1/services`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServiceList {
    /// By organisation, space and name.
    pub services: Vec<ServiceView>,
}

/// `POST /v1/services/{service}/bindings`: bind a service to an app.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreateBinding {
    /// The app.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub app: AppName,
}

/// A binding.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BindingView {
    /// Its id.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
    pub id: BindingId,
    /// The service's id.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
    pub service: ServiceId,
    /// The service's name.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub service_name: ServiceName,
    /// The app.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub app: AppName,
    /// When it was made, RFC 3339.
    pub created: String,
}

/// `PUT /v1/services/{service}/backends/{instance}`: register an instance, or refresh its registration.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RegisterBackend {
    /// Where it listens: an IP literal and a port.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub addr: SocketAddr,
    /// Time to live after each heartbeat; the node's default if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub ttl: Option<Span>,
    /// Stays until it is deregistered, without heartbeats; excludes `ttl`.
    #[serde(default)]
    pub permanent: bool,
}

/// Whether a backend gets traffic of one protocol.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum BackendHealth {
    /// It does.
    Eligible,
    /// It failed, and gets none until its time out is over.
    Ejected,
}

/// One protocol of a backend.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BackendProtocolView {
    /// Which.
    pub protocol: Protocol,
    /// Whether it gets traffic.
    pub health: BackendHealth,
    /// Place among the eligible, from 0; 0 is the primary of UDP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<usize>,
    /// The latest failure, until an attempt succeeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<Failure>,
}

/// A backend in a service's pool.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BackendView {
    /// The instance.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub instance: InstanceId,
    /// Where it listens.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub addr: SocketAddr,
    /// Time to live; absent when permanent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub ttl: Option<Span>,
    /// Time left without a heartbeat; absent when permanent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub expires_in: Option<Span>,
    /// Per protocol of the service.
    pub protocols: Vec<BackendProtocolView>,
}

/// `GET /v1/services/{service}/bindings` and `GET /v1/bindings?app=`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BindingList {
    /// By service and app.
    pub bindings: Vec<BindingView>,
}

/// `GET /v1/services/{service}/backends`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BackendList {
    /// In arrival order.
    pub backends: Vec<BackendView>,
}

/// `POST /v1/services/{service}/backends/{instance}/heartbeat`: the answer.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HeartbeatView {
    /// Time to live from now on; absent when permanent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub ttl: Option<Span>,
}

/// `GET /v1/ports`: what the range is used for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PortsView {
    /// The configured ranges, as text.
    pub range: String,
    /// Free ports.
    pub free: usize,
    /// Ports promised to services (also such outside the range, from an earlier configuration).
    pub leased: usize,
    /// Released ports that rest.
    pub quarantined: usize,
    /// Ports some other process held when they were tried.
    pub held_by_others: usize,
    /// Every port that is not free, lowest first.
    pub ports: Vec<PortView>,
}

/// What one port is used for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PortView {
    /// The number.
    #[cfg_attr(feature = "openapi", schema(value_type = u16))]
    pub port: Port,
    /// What for.
    pub state: PortState,
    /// The service that leases it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub service: Option<ServiceName>,
    /// Time until it is free, for resting ports and those held by others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub free_in: Option<Span>,
}

/// State of a port that is not free.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum PortState {
    /// Promised to a service, or about to be.
    Leased,
    /// Released, resting.
    Quarantined,
    /// Some other process held it when it was tried.
    HeldByOthers,
}

/// What an [`EventView`] tells of.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub enum EventKind {
    /// A service was created.
    ServiceCreated,
    /// A service was deleted.
    ServiceDeleted,
    /// A service's port is held again.
    ServiceBound,
    /// A service's port is held by another process.
    ServiceConflicted,
    /// A service was bound to an app.
    Bound,
    /// A binding ended.
    Unbound,
    /// An instance joined.
    BackendJoined,
    /// An instance left or was deregistered.
    BackendLeft,
    /// An instance's registration ran out.
    BackendExpired,
    /// An instance failed and is out for a while.
    BackendEjected,
    /// An instance that was out may receive traffic again.
    BackendReturned,
    /// A candidate port was held by another process and set aside.
    PortSetAside,
}

/// Something that happened.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EventView {
    /// Number of the event, from 1 since the node started.
    pub sequence: u64,
    /// When, RFC 3339.
    pub at: String,
    /// What.
    pub kind: EventKind,
    /// The service's id, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub service: Option<ServiceId>,
    /// The service's name, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub service_name: Option<ServiceName>,
    /// Instance, app, port or reason, in words.
    pub detail: String,
}

/// `GET /v1/events?since=N`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EventList {
    /// Events after `since`, oldest first.
    pub events: Vec<EventView>,
    /// Sequence of the newest event there is; ask with it next time.
    pub latest: u64,
    /// Events between `since` and the first one listed are no longer kept.
    pub missed: bool,
}

/// `GET /v1/apps/{app}/env`: the environment of an app with all its bound services.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AppEnvironment {
    /// The app.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub app: AppName,
    /// Variable → value.
    pub variables: BTreeMap<String, String>,
}

/// The body of every answer that is not a success.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// A word that programs can tell apart, for example `service_not_found`.
    pub error: String,
    /// What is wrong, with the values concerned.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}
