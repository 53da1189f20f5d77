//! What is only looked at: an app's environment, the ports of the range, what happened lately.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use harbor_env::Prefix;
use harbor_types::wire::{AppEnvironment, EventList, PortsView, Problem};
use harbor_types::{AppName, Name, NameTag};
use serde::Deserialize;

use super::App;
use super::extract::{Asked, InSpace, Segments};
use super::problem::Failure;

/// Events listed when nobody says how many.
const EVENTS: usize = 100;
/// Most events listed at once; the node keeps about as many.
const MAX_EVENTS: usize = 1_024;

/// The environment of an app: its variables for all services bound to it.
#[utoipa::path(get, path = "/v1/apps/{app}/env", tag = "apps",
    params(("app" = String, Path, description = "The app"),
           ("prefix" = Option<Vec<String>>, Query, description = "Twins of the STACKATO_ variables with this prefix, like HELION; repeated or separated by commas"),
           ("org" = Option<String>, Query, description = "Organisation; `default` if absent"),
           ("space" = Option<String>, Query, description = "Space; `default` if absent")),
    responses((status = 200, description = "Its variables", body = AppEnvironment),
              (status = "default", description = "Refused", body = Problem)))]
pub(super) async fn environment(
    State(api): App,
    Segments(app): Segments<AppName>,
    Asked(query): Asked<Vec<(String, String)>>,
) -> Result<Json<AppEnvironment>, Failure> {
    let (mut org, mut space, mut prefixes) = (None, None, Vec::new());
    for (key, value) in query {
        match key.as_str() {
            "org" => org = Some(name(&value)?),
            "space" => space = Some(name(&value)?),
            "prefix" => {
                for prefix in value.split(',') {
                    prefixes.push(prefix.trim().parse::<Prefix>().map_err(Failure::bad_query)?);
                }
            }
            other => return Err(Failure::bad_query(format!("unknown field `{other}`, expected org, space or prefix"))),
        }
    }
    let (org, space) = InSpace::new(org, space).decide();
    let of_app = app.clone();
    let services = api.handle.read(move |registry, _| registry.bindings(&org, &space, &of_app)).await?;
    let variables = harbor_env::render(&app, &services, &prefixes).map_err(|error| {
        Failure::new(
            StatusCode::CONFLICT,
            "environment_not_possible",
            error,
            "unbind one of the services, or change the prefix",
        )
    })?;
    Ok(Json(AppEnvironment { app, variables }))
}

fn name<T: NameTag>(text: &str) -> Result<Name<T>, Failure> {
    Name::parse(text).map_err(Failure::bad_query)
}

/// What the range is used for.
#[utoipa::path(get, path = "/v1/ports", tag = "ports",
    responses((status = 200, description = "The ports that are not free, and counts", body = PortsView),
              (status = "default", description = "Refused", body = Problem)))]
pub(super) async fn ports(State(api): App) -> Result<Json<PortsView>, Failure> {
    Ok(Json(api.handle.read(|registry, now| registry.ports(now)).await?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Window {
    #[serde(default)]
    since: u64,
    limit: Option<usize>,
}

/// What happened lately; the newest 1,024 events are kept, and none across a restart.
#[utoipa::path(get, path = "/v1/events", tag = "events",
    params(("since" = Option<u64>, Query, description = "Only events after the one with this number"),
           ("limit" = Option<u64>, Query, description = "At most so many, 100 if absent, 1024 at most")),
    responses((status = 200, description = "The events, oldest first", body = EventList),
              (status = "default", description = "Refused", body = Problem)))]
pub(super) async fn events(State(api): App, Asked(window): Asked<Window>) -> Result<Json<EventList>, Failure> {
    let limit = window.limit.unwrap_or(EVENTS).clamp(1, MAX_EVENTS);
    Ok(Json(api.handle.read(move |registry, _| registry.events(window.since, limit)).await?))
}
