//! The calls themselves, one method a route. Each builds its request and reads its answer; sending is `exchange`'s.

use harbor_types::wire::{
    AppEnvironment, BackendList, BackendView, BindingList, BindingView, CreateBinding, CreateService, EventList,
    HeartbeatView, PortsView, RegisterBackend, ServiceList, ServiceView,
};
use harbor_types::{AppName, InstanceId, ServiceId, Span};
use hyper::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::exchange::{Reply, bad, exchange, quote};
use crate::request::{Request, service_target, target};
use crate::{ClientError, DeleteMode, NodeUrl, ServiceFilter, ServiceRef, Token};

/// How long each wait may take, and how much is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Until connected, name resolution included.
    pub connect: Span,
    /// From then until the answer is complete.
    pub call: Span,
    /// The same for deleting a service, which drains first: the node's drain limit and some more.
    pub delete: Span,
    /// Longest answer, in bytes; more is [`ClientError::BadAnswer`].
    pub answer: usize,
}

impl Default for Limits {
    /// 5 s, 30 s, 120 s (a drain is 20 s unless the operator says otherwise), 64 MiB (10,000 services are about a tenth).
    fn default() -> Self {
        Self { connect: Span::secs(5), call: Span::secs(30), delete: Span::secs(120), answer: 64 << 20 }
    }
}

/// What a node answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer<T> {
    /// The answer, read.
    pub value: T,
    /// The answer as the node wrote it, also with fields that this version does not know; empty for an empty body.
    pub json: String,
    /// Whether the call made something that was not there before (status 201).
    pub created: bool,
}

/// Whether a node has restored its ports.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Readiness {
    /// Every listener is bound or known to be conflicted.
    Ready,
    /// It is starting or draining.
    NotReady,
}

/// A node's API. Cheap to make and to clone; holds no connection.
#[derive(Clone, Debug)]
pub struct Client {
    url: NodeUrl,
    token: Token,
    limits: Limits,
}

/// Every call fails with [`ClientError`], and none is repeated on its own: a call that changes something and ends in
/// `Timeout`, `Interrupted` or `BadAnswer` may have changed it.
///
/// # Cancel safety
/// Dropping a call's future closes its connection; the node may have acted on the request.
impl Client {
    /// Calls to the node at `url`, with the default [`Limits`].
    #[must_use]
    pub fn new(url: NodeUrl, token: Token) -> Self {
        Self { url, token, limits: Limits::default() }
    }

    /// The same with other limits.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Where the node is.
    #[must_use]
    pub fn url(&self) -> &NodeUrl {
        &self.url
    }

    /// The limits of its calls.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// `GET /v1/services`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn services(&self, filter: &ServiceFilter) -> Result<Answer<ServiceList>, ClientError> {
        let mut query = Vec::new();
        query.extend(filter.org.as_ref().map(|org| ("org", org.to_string())));
        query.extend(filter.space.as_ref().map(|space| ("space", space.to_string())));
        query.extend(filter.name.as_ref().map(|name| ("name", name.to_string())));
        self.read(target("/v1/services", &query)).await
    }

    /// `POST /v1/services`: orders a service; the node chooses its id. Answers once the port is held and durable.
    ///
    /// # Errors
    /// [`ClientError`]; refused when the name is taken.
    pub async fn create_service(&self, order: &CreateService) -> Result<Answer<ServiceView>, ClientError> {
        self.change(Method::POST, "/v1/services".into(), order).await
    }

    /// `PUT /v1/services/{id}`: orders a service under an id of one's own. Harmless to repeat: the same order finds its
    /// service again ([`Answer::created`] is false).
    ///
    /// # Errors
    /// [`ClientError`]; refused when the id has another order.
    pub async fn put_service(&self, id: ServiceId, order: &CreateService) -> Result<Answer<ServiceView>, ClientError> {
        self.change(Method::PUT, service_target(&id.into(), "", &[]), order).await
    }

    /// `GET /v1/services/{service}`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn service(&self, service: &ServiceRef) -> Result<Answer<ServiceView>, ClientError> {
        self.read(service_target(service, "", &[])).await
    }

    /// `DELETE /v1/services/{service}`: answers once its sockets are closed, which may take as long as a drain does.
    ///
    /// # Errors
    /// [`ClientError`]; refused while it is bound, unless forced.
    pub async fn delete_service(&self, service: &ServiceRef, mode: DeleteMode) -> Result<Answer<()>, ClientError> {
        let force = [("force", "true".to_owned())];
        let query: &[_] = if mode == DeleteMode::Forced { &force } else { &[] };
        let target = service_target(service, "", query);
        self.remove(Request::new(Method::DELETE, target, self.limits.delete)).await
    }

    /// `GET /v1/services/{service}/bindings`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn bindings(&self, service: &ServiceRef) -> Result<Answer<BindingList>, ClientError> {
        self.read(service_target(service, "/bindings", &[])).await
    }

    /// `GET /v1/bindings?app=`: the bindings of one app, or all.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn all_bindings(&self, app: Option<&AppName>) -> Result<Answer<BindingList>, ClientError> {
        let query: Vec<_> = app.map(|app| ("app", app.to_string())).into_iter().collect();
        self.read(target("/v1/bindings", &query)).await
    }

    /// `POST /v1/services/{service}/bindings`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn bind_service(&self, service: &ServiceRef, app: &AppName) -> Result<Answer<BindingView>, ClientError> {
        let order = CreateBinding { app: app.clone() };
        self.change(Method::POST, service_target(service, "/bindings", &[]), &order).await
    }

    /// `DELETE /v1/services/{service}/bindings/{app}`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn unbind_service(&self, service: &ServiceRef, app: &AppName) -> Result<Answer<()>, ClientError> {
        let target = service_target(service, &format!("/bindings/{app}"), &[]);
        self.remove(Request::new(Method::DELETE, target, self.limits.call)).await
    }

    /// `GET /v1/services/{service}/backends`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn backends(&self, service: &ServiceRef) -> Result<Answer<BackendList>, ClientError> {
        self.read(service_target(service, "/backends", &[])).await
    }

    /// `PUT /v1/services/{service}/backends/{instance}`: registers an instance, or refreshes its registration. Answers
    /// once new connections may reach it. Harmless to repeat.
    ///
    /// # Errors
    /// [`ClientError`]; refused when the address is none a backend may have.
    pub async fn register(
        &self,
        service: &ServiceRef,
        instance: &InstanceId,
        order: &RegisterBackend,
    ) -> Result<Answer<BackendView>, ClientError> {
        self.change(Method::PUT, backend_target(service, instance, ""), order).await
    }

    /// `DELETE /v1/services/{service}/backends/{instance}`: answers once no new connection goes there.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn deregister(&self, service: &ServiceRef, instance: &InstanceId) -> Result<Answer<()>, ClientError> {
        let target = backend_target(service, instance, "");
        self.remove(Request::new(Method::DELETE, target, self.limits.call)).await
    }

    /// `POST /v1/services/{service}/backends/{instance}/heartbeat`: keeps a registration alive.
    ///
    /// # Errors
    /// [`ClientError`]; refused with status 404 when the registration has ended, so that it must be made anew.
    pub async fn heartbeat(
        &self,
        service: &ServiceRef,
        instance: &InstanceId,
    ) -> Result<Answer<HeartbeatView>, ClientError> {
        let target = backend_target(service, instance, "/heartbeat");
        self.fetch(Request::new(Method::POST, target, self.limits.call)).await
    }

    /// `GET /v1/apps/{app}/env`: the app's variables, with twins for each of `prefixes` (like `HELION`).
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn app_env(&self, app: &AppName, prefixes: &[String]) -> Result<Answer<AppEnvironment>, ClientError> {
        let query: Vec<_> = prefixes.iter().map(|prefix| ("prefix", prefix.clone())).collect();
        self.read(target(&format!("/v1/apps/{app}/env"), &query)).await
    }

    /// `GET /v1/ports`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn ports(&self) -> Result<Answer<PortsView>, ClientError> {
        self.read("/v1/ports".into()).await
    }

    /// `GET /v1/events`: those after `since`, at most `limit`; absent means from the start, and as many as the node gives.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn events(&self, since: Option<u64>, limit: Option<u64>) -> Result<Answer<EventList>, ClientError> {
        let mut query = Vec::new();
        query.extend(since.map(|since| ("since", since.to_string())));
        query.extend(limit.map(|limit| ("limit", limit.to_string())));
        self.read(target("/v1/events", &query)).await
    }

    /// `GET /livez`: whether the node's process answers at all.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn live(&self) -> Result<(), ClientError> {
        self.text("/livez").await.map(drop)
    }

    /// `GET /readyz`.
    ///
    /// # Errors
    /// [`ClientError`]; not being ready is no error.
    pub async fn ready(&self) -> Result<Readiness, ClientError> {
        match self.text("/readyz").await {
            Ok(_) => Ok(Readiness::Ready),
            Err(ClientError::Refused { status: 503, .. }) => Ok(Readiness::NotReady),
            Err(error) => Err(error),
        }
    }

    /// `GET /metrics`: OpenMetrics text.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn metrics(&self) -> Result<String, ClientError> {
        self.text("/metrics").await
    }

    /// `GET /openapi.json`: the description of the API, as text.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn openapi(&self) -> Result<String, ClientError> {
        self.text("/openapi.json").await
    }

    async fn read<T: DeserializeOwned>(&self, target: String) -> Result<Answer<T>, ClientError> {
        self.fetch(Request::new(Method::GET, target, self.limits.call)).await
    }

    async fn change<T: DeserializeOwned>(
        &self,
        method: Method,
        target: String,
        order: &impl Serialize,
    ) -> Result<Answer<T>, ClientError> {
        let request = Request::new(method, target, self.limits.call);
        let call = request.summary();
        let request =
            request.with_body(order).map_err(|source| ClientError::Request { call, source: source.into() })?;
        self.fetch(request).await
    }

    async fn fetch<T: DeserializeOwned>(&self, request: Request) -> Result<Answer<T>, ClientError> {
        let call = request.summary();
        let Reply { status, body } = exchange(&self.url, &self.token, &self.limits, request).await?;
        match serde_json::from_str(&body) {
            Ok(value) => Ok(Answer { value, json: body, created: status == StatusCode::CREATED }),
            Err(error) => {
                let quoted = quote(body.as_bytes());
                Err(bad(&self.url, &call, format!("{quoted} does not have the expected shape ({error})")))
            }
        }
    }

    async fn remove(&self, request: Request) -> Result<Answer<()>, ClientError> {
        let Reply { body, .. } = exchange(&self.url, &self.token, &self.limits, request).await?;
        Ok(Answer { value: (), json: body, created: false })
    }

    async fn text(&self, path: &str) -> Result<String, ClientError> {
        let request = Request::new(Method::GET, path.into(), self.limits.call);
        exchange(&self.url, &self.token, &self.limits, request).await.map(|reply| reply.body)
    }
}

fn backend_target(service: &ServiceRef, instance: &InstanceId, rest: &str) -> String {
    service_target(service, &format!("/backends/{instance}{rest}"), &[])
}
