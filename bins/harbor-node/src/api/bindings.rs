//! Bindings of services to apps.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use harbor_registry::{Answer, Command, Refusal};
use harbor_types::wire::{BindingList, BindingView, CreateBinding, Problem};
use harbor_types::{AppName, BindingId, OrgName, SpaceName};
use serde::Deserialize;

use super::App;
use super::extract::{Asked, InSpace, Input, Segments, find};
use super::problem::Failure;
use super::services::view;
use crate::clock;

/// The apps a service is bound to.
#[utoipa::path(get, path = "/v1/services/{service}/bindings", tag = "bindings",
    params(("service" = String, Path, description = "Id, or name in the space"),
           ("org" = Option<String>, Query, description = "Organisation of the name; `default` if absent"),
           ("space" = Option<String>, Query, description = "Space of the name; `default` if absent")),
    responses((status = 200, description = "Its bindings", body = BindingList),
              (status = "default", description = "Refused", body = Problem)))]
pub(super) async fn of_service(
    State(api): App,
    Segments(named): Segments<String>,
    Asked(space): Asked<InSpace>,
) -> Result<Json<BindingList>, Failure> {
    let service = find(&api, &named, space).await?;
    let service = view(&api, service).await?.ok_or(Refusal::UnknownService { service })?;
    Ok(Json(BindingList { bindings: service.bindings }))
}

/// Binds a service to an app. Bound already: answered with the binding that is there.
#[utoipa::path(post, path = "/v1/services/{service}/bindings", tag = "bindings", request_body = CreateBinding,
    params(("service" = String, Path, description = "Id, or name in the space"),
           ("org" = Option<String>, Query, description = "Organisation of the name; `default` if absent"),
           ("space" = Option<String>, Query, description = "Space of the name; `default` if absent")),
    responses((status = 201, description = "Bound", body = BindingView),
              (status = 200, description = "It was bound already", body = BindingView),
              (status = "default", description = "Refused", body = Problem)))]
pub(super) async fn create(
    State(api): App,
    Segments(named): Segments<String>,
    Asked(space): Asked<InSpace>,
    Input(order): Input<CreateBinding>,
) -> Result<(StatusCode, Json<BindingView>), Failure> {
    let service = find(&api, &named, space).await?;
    let random = clock::random().map_err(|error| {
        let message = format!("no random bytes for an id: {error}");
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "no_random", message, "ask again")
    })?;
    let command = Command::Bind { id: BindingId::from_random_bytes(random), service, app: order.app };
    let Answer::Bound { id, new } = api.handle.command(command).await? else { return Err(Failure::gone_meanwhile()) };
    let service = view(&api, service).await?.ok_or_else(Failure::gone_meanwhile)?;
    let binding = service.bindings.into_iter().find(|binding| binding.id == id).ok_or_else(Failure::gone_meanwhile)?;
    Ok((if new { StatusCode::CREATED } else { StatusCode::OK }, Json(binding)))
}

/// Ends a binding.
#[utoipa::path(delete, path = "/v1/services/{service}/bindings/{app}", tag = "bindings",
    params(("service" = String, Path, description = "Id, or name in the space"),
           ("app" = String, Path, description = "The app"),
           ("org" = Option<String>, Query, description = "Organisation of the name; `default` if absent"),
           ("space" = Option<String>, Query, description = "Space of the name; `default` if absent")),
    responses((status = 204, description = "Unbound"),
              (status = "default", description = "Refused", body = Problem)))]
pub(super) async fn remove(
    State(api): App,
    Segments((named, app)): Segments<(String, AppName)>,
    Asked(space): Asked<InSpace>,
) -> Result<StatusCode, Failure> {
    let service = find(&api, &named, space).await?;
    api.handle.command(Command::Unbind { service, app }).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    app: Option<AppName>,
    org: Option<OrgName>,
    space: Option<SpaceName>,
}

/// Bindings of one app, or all.
#[utoipa::path(get, path = "/v1/bindings", tag = "bindings",
    params(("app" = Option<String>, Query, description = "Only those of this app"),
           ("org" = Option<String>, Query, description = "Only those of services of this organisation"),
           ("space" = Option<String>, Query, description = "Only those of services of spaces with this name")),
    responses((status = 200, description = "The bindings, by service and app", body = BindingList),
              (status = "default", description = "Refused", body = Problem)))]
pub(super) async fn list(State(api): App, Asked(filter): Asked<Filter>) -> Result<Json<BindingList>, Failure> {
    let services = api.handle.read(|registry, now| registry.services(now)).await?;
    let bindings = services
        .into_iter()
        .filter(|service| filter.org.as_ref().is_none_or(|org| *org == service.org))
        .filter(|service| filter.space.as_ref().is_none_or(|space| *space == service.space))
        .flat_map(|service| service.bindings)
        .filter(|binding| filter.app.as_ref().is_none_or(|app| *app == binding.app))
        .collect();
    Ok(Json(BindingList { bindings }))
}
