//! Whether the node lives, whether it is ready, and its numbers.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use harbor_types::wire::Problem;

use super::App;
use super::problem::Failure;
use crate::handle::Phase;
use crate::metrics::CONTENT_TYPE;

/// Whether the process answers at all. Open to everybody.
#[utoipa::path(get, path = "/livez", tag = "health", security(()),
    responses((status = 200, description = "It does", body = String, content_type = "text/plain")))]
pub(super) async fn livez() -> &'static str {
    "ok\n"
}

/// Whether every restored service is bound or conflicted, and the node is not stopping. Open to everybody.
#[utoipa::path(get, path = "/readyz", tag = "health", security(()), responses(
    (status = 200, description = "Ready", body = String, content_type = "text/plain"),
    (status = 503, description = "Starting or stopping", body = Problem)))]
pub(super) async fn readyz(State(api): App) -> Response {
    let (message, remedy) = match api.handle.status().borrow().phase {
        Phase::Ready => return "ok\n".into_response(),
        Phase::Starting => ("the node is still taking hold of its ports", "wait"),
        Phase::Draining | Phase::Stopped => ("the node is shutting down", "use another node"),
    };
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", message, remedy).into_response()
}

/// The node's numbers in OpenMetrics text.
#[utoipa::path(get, path = "/metrics", tag = "health", responses(
    (status = 200, description = "Numbers", body = String, content_type = "application/openmetrics-text"),
    (status = "default", description = "Refused", body = Problem)))]
pub(super) async fn metrics(State(api): App) -> Result<Response, Failure> {
    let counts = api.handle.read(|registry, _| registry.counts()).await?;
    let text = api.metrics.render(&counts, api.handle.is_ready(), api.observations.folded());
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}
