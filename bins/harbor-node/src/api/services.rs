//! Services: ordered, listed, shown, deleted.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use harbor_registry::{Answer, Command, DeleteMode, Provision};
use harbor_types::wire::{CreateService, Problem, ServiceList, ServiceView};
use harbor_types::{Access, NameHint, OrgName, ServiceId, ServiceName, SpaceName};
use serde::Deserialize;

use super::extract::{Asked, InSpace, Input, Segments, find};
use super::problem::Failure;
use super::{Api, App};
use crate::clock;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    org: Option<OrgName>,
    space: Option<SpaceName>,
    name: Option<ServiceName>,
}

/// Services by organisation, space and name.
#[utoipa::path(get, path = "/v1/services", tag = "services",
    params(("org" = Option<String>, Query, description = "Only those of this organisation"),
           ("space" = Option<String>, Query, description = "Only those of spaces with this name"),
           ("name" = Option<String>, Query, description = "Only those with this name")),
    responses((status = 200, description = "The services", body = ServiceList),
              (status = "default", description = "Refused", body = Problem)))]
pub(super) async fn list(State(api): App, Asked(filter): Asked<Filter>) -> Result<Json<ServiceList>, Failure> {
    let services = api.handle.read(|registry, now| registry.services(now)).await?;
    let wanted = |service: &ServiceView| {
        filter.org.as_ref().is_none_or(|org| *org == service.org)
            && filter.space.as_ref().is_none_or(|space| *space == service.space)
            && filter.name.as_ref().is_none_or(|name| *name == service.name)
    };
    Ok(Json(ServiceList { services: services.into_iter().filter(wanted).collect() }))
}

/// Orders a service; the node chooses its id. Answered once the port is held and the order is durable.
#[utoipa::path(post, path = "/v1/services", tag = "services", request_body = CreateService,
    responses((status = 201, description = "Ordered", body = ServiceView),
              (status = "default", description = "Refused; nothing was allocated", body = Problem)))]
pub(super) async fn create(
    State(api): App,
    Input(order): Input<CreateService>,
) -> Result<(StatusCode, Json<ServiceView>), Failure> {
    let random = clock::random().map_err(|error| {
        let message = format!("no random bytes for an id: {error}");
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "no_random", message, "ask again")
    })?;
    provision(&api, ServiceId::from_random_bytes(random), order).await
}

/// Orders a service under an id of the caller's. The same order again finds the same service.
#[utoipa::path(put, path = "/v1/services/{service}", tag = "services", request_body = CreateService,
    params(("service" = String, Path, format = "uuid", description = "Id of the service to be")),
    responses((status = 201, description = "Ordered", body = ServiceView),
              (status = 200, description = "It was there, with the same attributes", body = ServiceView),
              (status = "default", description = "Refused; nothing was allocated", body = Problem)))]
pub(super) async fn create_with_id(
    State(api): App,
    Segments(id): Segments<String>,
    Input(order): Input<CreateService>,
) -> Result<(StatusCode, Json<ServiceView>), Failure> {
    let Ok(id) = id.parse::<ServiceId>() else {
        return Err(Failure::bad_path(format!("{id:?} is not a UUID, and only an id can be chosen here")));
    };
    provision(&api, id, order).await
}

async fn provision(api: &Api, id: ServiceId, order: CreateService) -> Result<(StatusCode, Json<ServiceView>), Failure> {
    let (org, space) = InSpace::new(order.org, order.space).decide();
    let hints = NameHint::of(&order.name).iter().map(ToString::to_string).collect();
    let provision = Provision {
        id,
        org,
        space,
        name: order.name,
        protocol: order.protocol,
        https: order.https,
        port: order.port,
        int_port: order.int_port,
        access: order.public.map(|public| if public { Access::Public } else { Access::Internal }),
    };
    let status = match api.handle.command(Command::Provision(provision)).await? {
        Answer::Created(_) => StatusCode::CREATED,
        _ => StatusCode::OK,
    };
    let view = view(api, id).await?.ok_or_else(Failure::gone_meanwhile)?;
    Ok((status, Json(ServiceView { hints, ..view })))
}

/// A service: settings, credentials, bindings and pool.
#[utoipa::path(get, path = "/v1/services/{service}", tag = "services",
    params(("service" = String, Path, description = "Id, or name in the space"),
           ("org" = Option<String>, Query, description = "Organisation of the name; `default` if absent"),
           ("space" = Option<String>, Query, description = "Space of the name; `default` if absent")),
    responses((status = 200, description = "The service", body = ServiceView),
              (status = "default", description = "Refused", body = Problem)))]
pub(super) async fn show(
    State(api): App,
    Segments(named): Segments<String>,
    Asked(space): Asked<InSpace>,
) -> Result<Json<ServiceView>, Failure> {
    let id = find(&api, &named, space).await?;
    view(&api, id).await?.map(Json).ok_or_else(|| harbor_registry::Refusal::UnknownService { service: id }.into())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Removal {
    org: Option<OrgName>,
    space: Option<SpaceName>,
    #[serde(default)]
    force: bool,
}

/// Deletes a service. Answered once its sockets are closed and its connections have finished or were cut.
#[utoipa::path(delete, path = "/v1/services/{service}", tag = "services",
    params(("service" = String, Path, description = "Id, or name in the space"),
           ("org" = Option<String>, Query, description = "Organisation of the name; `default` if absent"),
           ("space" = Option<String>, Query, description = "Space of the name; `default` if absent"),
           ("force" = Option<bool>, Query, description = "Also while it is bound; its bindings end with it")),
    responses((status = 204, description = "Deleted"),
              (status = "default", description = "Refused", body = Problem)))]
pub(super) async fn remove(
    State(api): App,
    Segments(named): Segments<String>,
    Asked(removal): Asked<Removal>,
) -> Result<StatusCode, Failure> {
    let service = find(&api, &named, InSpace::new(removal.org, removal.space)).await?;
    let mode = if removal.force { DeleteMode::Forced } else { DeleteMode::IfUnbound };
    api.handle.command(Command::Deprovision { service, mode }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The service as it stands.
pub(super) async fn view(api: &Api, id: ServiceId) -> Result<Option<ServiceView>, Failure> {
    Ok(api.handle.read(move |registry, now| registry.service(now, id)).await?)
}
