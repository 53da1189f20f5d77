//! The OpenAPI document, made from the handlers and the wire shapes.

use axum::Json;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::{backends, bindings, health, services, views};

/// The document.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Harbor node",
        description = "Orders ports by name and keeps the pools behind them. Every answer that is not a success is a `Problem`."
    ),
    paths(
        health::livez,
        health::readyz,
        health::metrics,
        document,
        services::list,
        services::create,
        services::create_with_id,
        services::show,
        services::remove,
        bindings::of_service,
        bindings::create,
        bindings::remove,
        bindings::list,
        backends::list,
        backends::register,
        backends::deregister,
        backends::heartbeat,
        views::environment,
        views::ports,
        views::events,
    ),
    security(("token" = [])),
    modifiers(&Token)
)]
pub(super) struct Document;

struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("The admin's token")).build();
        let components = document.components.get_or_insert_with(Default::default);
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "health",
    responses((status = 200, description = "OpenAPI 3.1", body = Object)))]
pub(super) async fn document() -> Json<utoipa::openapi::OpenApi> {
    Json(Document::openapi())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_document_and_the_router_have_the_same_routes() {
        let routed: BTreeSet<(String, String)> = super::super::routes()
            .iter()
            .map(|route| (route.path.to_owned(), route.method.as_str().to_ascii_lowercase()))
            .collect();
        let document = serde_json::to_value(Document::openapi()).unwrap();
        assert_eq!(document["openapi"].as_str().unwrap()[..3], *"3.1");
        let mut documented = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for method in item.as_object().unwrap().keys().filter(|key| *key != "summary" && *key != "parameters") {
                documented.insert((path.clone(), method.clone()));
            }
        }
        assert_eq!(documented, routed);
    }

    #[test]
    fn every_shape_that_is_referred_to_is_in_the_document() {
        let document = serde_json::to_value(Document::openapi()).unwrap();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let text = document.to_string();
        let mut referred = 0;
        for reference in text.split("\"#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "{name}");
            referred += 1;
        }
        assert!(referred > 20, "{referred}");
    }
}
