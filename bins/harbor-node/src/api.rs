//! The HTTP API: the one table of routes, and what every request passes on its way to a handler.
//!
//! Handlers turn requests into commands and reads of the [`Handle`](crate::Handle); they decide nothing about services.
//! Whatever goes wrong is answered as [`wire::Problem`](harbor_types::wire::Problem).

mod backends;
mod bindings;
mod extract;
mod health;
mod openapi;
mod problem;
mod server;
mod services;
mod views;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};

use crate::handle::Handle;
use crate::metrics::Metrics;
use crate::observations::Observations;
use crate::token::Token;
use problem::Failure;
pub(crate) use server::serve;

/// Largest request body. The largest order is well below 1 KiB.
const MAX_BODY: usize = 64 * 1024;

/// What handlers share.
pub(crate) struct Api {
    pub(crate) handle: Handle,
    pub(crate) token: Arc<TokenSlot>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) observations: Arc<Observations>,
    /// How long a handler may take: a delete drains for as long as its connections may go on.
    pub(crate) limit: Duration,
}

/// The admin's token, replaceable while the node runs.
#[derive(Debug)]
pub struct TokenSlot(RwLock<Token>);

impl TokenSlot {
    pub(crate) const fn new(token: Token) -> Self {
        Self(RwLock::new(token))
    }

    /// From now on this token opens the API, and the one before does not.
    pub fn replace(&self, token: Token) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = token;
    }

    fn matches(&self, presented: &str) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).matches(presented)
    }
}

/// State of every handler.
type App = State<Arc<Api>>;

/// A method on a path.
struct Route {
    method: Method,
    path: &'static str,
    handler: fn(MethodFilter) -> MethodRouter<Arc<Api>>,
}

/// Every route there is. The OpenAPI document has the same ones, by a test.
fn routes() -> Vec<Route> {
    fn route(method: Method, path: &'static str, handler: fn(MethodFilter) -> MethodRouter<Arc<Api>>) -> Route {
        Route { method, path, handler }
    }
    vec![
        route(Method::GET, "/livez", |method| on(method, health::livez)),
        route(Method::GET, "/readyz", |method| on(method, health::readyz)),
        route(Method::GET, "/metrics", |method| on(method, health::metrics)),
        route(Method::GET, "/openapi.json", |method| on(method, openapi::document)),
        route(Method::GET, "/v1/services", |method| on(method, services::list)),
        route(Method::POST, "/v1/services", |method| on(method, services::create)),
        route(Method::PUT, "/v1/services/{service}", |method| on(method, services::create_with_id)),
        route(Method::GET, "/v1/services/{service}", |method| on(method, services::show)),
        route(Method::DELETE, "/v1/services/{service}", |method| on(method, services::remove)),
        route(Method::GET, "/v1/services/{service}/bindings", |method| on(method, bindings::of_service)),
        route(Method::POST, "/v1/services/{service}/bindings", |method| on(method, bindings::create)),
        route(Method::DELETE, "/v1/services/{service}/bindings/{app}", |method| on(method, bindings::remove)),
        route(Method::GET, "/v1/bindings", |method| on(method, bindings::list)),
        route(Method::GET, "/v1/services/{service}/backends", |method| on(method, backends::list)),
        route(Method::PUT, "/v1/services/{service}/backends/{instance}", |method| on(method, backends::register)),
        route(Method::DELETE, "/v1/services/{service}/backends/{instance}", |method| on(method, backends::deregister)),
        route(Method::POST, "/v1/services/{service}/backends/{instance}/heartbeat", |method| {
            on(method, backends::heartbeat)
        }),
        route(Method::GET, "/v1/apps/{app}/env", |method| on(method, views::environment)),
        route(Method::GET, "/v1/ports", |method| on(method, views::ports)),
        route(Method::GET, "/v1/events", |method| on(method, views::events)),
    ]
}

/// The router of the whole API.
fn router(api: Arc<Api>) -> Router {
    let mut router = Router::new();
    for Route { method, path, handler } in routes() {
        let Ok(method) = MethodFilter::try_from(method) else { unreachable!("the table has standard methods only") };
        router = router.route(path, handler(method));
    }
    router
        .fallback(async |request: Request| Failure::no_route(request.uri().path()))
        .method_not_allowed_fallback(async |request: Request| {
            let path = request.uri().path();
            Failure::wrong_method(request.method(), path)
        })
        .layer(from_fn_with_state(Arc::clone(&api), authorise))
        .layer(from_fn_with_state(Arc::clone(&api), in_time))
        .with_state(api)
}

/// Lets a request through when its path is open to everybody or it carries the admin's token.
async fn authorise(State(api): App, request: Request, next: Next) -> Response {
    if matches!(request.uri().path(), "/livez" | "/readyz") {
        return next.run(request).await;
    }
    let mut presented = request.headers().get_all(header::AUTHORIZATION).iter();
    let presented = match (presented.next(), presented.next()) {
        (None, _) => return Failure::no_token().into_response(),
        (Some(value), None) => value.to_str().unwrap_or_default(),
        // What stands between may have looked at the other one.
        (Some(_), Some(_)) => return Failure::two_tokens().into_response(),
    };
    let token = presented
        .split_once(' ')
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    match token {
        Some(token) if api.token.matches(token) => next.run(request).await,
        _ => Failure::wrong_token().into_response(),
    }
}

/// Answers 504 to a request that takes too long. What it asked for may still happen.
async fn in_time(State(api): App, request: Request, next: Next) -> Response {
    match tokio::time::timeout(api.limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Failure::too_slow().into_response(),
    }
}
