//! The pool of a service: instances registered, kept alive, deregistered.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use harbor_registry::{Answer, Command, Refusal};
use harbor_types::wire::{BackendList, BackendView, HeartbeatView, Problem, RegisterBackend};
use harbor_types::{InstanceId, Lifetime};

use super::App;
use super::extract::{Asked, InSpace, Input, Segments, find};
use super::problem::Failure;
use super::services::view;

/// The instances of a service, in arrival order.
#[utoipa::path(get, path = "/v1/services/{service}/backends", tag = "backends",
    params(("service" = String, Path, description = "Id, or name in the space"),
           ("org" = Option<String>, Query, description = "Organisation of the name; `default` if absent"),
           ("space" = Option<String>, Query, description = "Space of the name; `default` if absent")),
    responses((status = 200, description = "Its pool", body = BackendList),
              (status = "default", description = "Refused", body = Problem)))]
pub(super) async fn list(
    State(api): App,
    Segments(named): Segments<String>,
    Asked(space): Asked<InSpace>,
) -> Result<Json<BackendList>, Failure> {
    let service = find(&api, &named, space).await?;
    let service = view(&api, service).await?.ok_or(Refusal::UnknownService { service })?;
    Ok(Json(BackendList { backends: service.backends }))
}

/// Registers an instance, or refreshes its registration. Answered once new connections may reach it.
#[utoipa::path(put, path = "/v1/services/{service}/backends/{instance}", tag = "backends", request_body = RegisterBackend,
    params(("service" = String, Path, description = "Id, or name in the space"),
           ("instance" = String, Path, description = "The instance, a name of the caller's choice"),
           ("org" = Option<String>, Query, description = "Organisation of the name; `default` if absent"),
           ("space" = Option<String>, Query, description = "Space of the name; `default` if absent")),
    responses((status = 201, description = "It joined", body = BackendView),
              (status = 200, description = "Its registration was refreshed", body = BackendView),
              (status = "default", description = "Refused", body = Problem)))]
pub(super) async fn register(
    State(api): App,
    Segments((named, instance)): Segments<(String, InstanceId)>,
    Asked(space): Asked<InSpace>,
    Input(order): Input<RegisterBackend>,
) -> Result<(StatusCode, Json<BackendView>), Failure> {
    let lifetime = match (order.ttl, order.permanent) {
        (Some(_), true) => {
            let remedy = "give ttl, or permanent, or neither";
            let message = "a permanent registration has no ttl";
            return Err(Failure::new(StatusCode::UNPROCESSABLE_ENTITY, "ttl_and_permanent", message, remedy));
        }
        (Some(ttl), false) => Some(Lifetime::Leased(ttl)),
        (None, true) => Some(Lifetime::Permanent),
        (None, false) => None,
    };
    let service = find(&api, &named, space).await?;
    let command = Command::Register { service, instance: instance.clone(), addr: order.addr, lifetime };
    let answer = api.handle.command(command).await?;
    let service = view(&api, service).await?.ok_or_else(Failure::gone_meanwhile)?;
    let backend = service.backends.into_iter().find(|backend| backend.instance == instance);
    let status = match answer {
        Answer::Registered { joined: true, .. } => StatusCode::CREATED,
        _ => StatusCode::OK,
    };
    Ok((status, Json(backend.ok_or_else(Failure::gone_meanwhile)?)))
}

/// Takes an instance out of the pool. Answered once no new connection goes there.
#[utoipa::path(delete, path = "/v1/services/{service}/backends/{instance}", tag = "backends",
    params(("service" = String, Path, description = "Id, or name in the space"),
           ("instance" = String, Path, description = "The instance"),
           ("org" = Option<String>, Query, description = "Organisation of the name; `default` if absent"),
           ("space" = Option<String>, Query, description = "Space of the name; `default` if absent")),
    responses((status = 204, description = "Deregistered"),
              (status = "default", description = "Refused", body = Problem)))]
pub(super) async fn deregister(
    State(api): App,
    Segments((named, instance)): Segments<(String, InstanceId)>,
    Asked(space): Asked<InSpace>,
) -> Result<StatusCode, Failure> {
    let service = find(&api, &named, space).await?;
    api.handle.command(Command::Deregister { service, instance }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Says that an instance still lives.
#[utoipa::path(post, path = "/v1/services/{service}/backends/{instance}/heartbeat", tag = "backends",
    params(("service" = String, Path, description = "Id, or name in the space"),
           ("instance" = String, Path, description = "The instance"),
           ("org" = Option<String>, Query, description = "Organisation of the name; `default` if absent"),
           ("space" = Option<String>, Query, description = "Space of the name; `default` if absent")),
    responses((status = 200, description = "It counted", body = HeartbeatView),
              (status = "default", description = "Refused; 404: register again", body = Problem)))]
pub(super) async fn heartbeat(
    State(api): App,
    Segments((named, instance)): Segments<(String, InstanceId)>,
    Asked(space): Asked<InSpace>,
) -> Result<Json<HeartbeatView>, Failure> {
    let service = find(&api, &named, space).await?;
    match api.handle.command(Command::Heartbeat { service, instance }).await? {
        Answer::Refreshed { ttl } => Ok(Json(HeartbeatView { ttl })),
        _ => Err(Failure::gone_meanwhile()),
    }
}
