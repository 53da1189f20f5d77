//! What applying a manifest comes down to. Pure: the manifest and what exists in, steps or differences out.

use std::collections::BTreeMap;

use harbor_env::manifest::{Manifest, Order};
use harbor_types::wire::{CreateService, ServiceView};
use harbor_types::{Access, AppName, ServiceKind, ServiceName};

/// One thing to do or to report, in this order: services first, then bindings.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// Order this service.
    Create(CreateService),
    /// This service is there as the manifest wants it.
    Keep(Box<ServiceView>),
    /// Bind this service to this app.
    Bind(ServiceName, AppName),
    /// This service is bound to this app already.
    KeepBinding(ServiceName, AppName),
}

/// Steps, and what people should know about them.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
    pub(crate) notes: Vec<String>,
}

/// The steps from what `existing` says to what `manifest` asks for; `file` is the manifest's name, for messages.
///
/// # Errors
/// One sentence for each service that exists and differs; nothing may be done then.
pub(crate) fn plan(
    manifest: &Manifest,
    file: &str,
    existing: &BTreeMap<ServiceName, ServiceView>,
) -> Result<Plan, Vec<String>> {
    let differences: Vec<_> =
        manifest.orders.iter().flat_map(|order| differences(order, file, existing.get(&order.service.name))).collect();
    if !differences.is_empty() {
        return Err(differences);
    }
    let mut plan = Plan::default();
    plan.notes.extend(manifest.notices.iter().map(|notice| format!("{file}:{notice}")));
    for order in &manifest.orders {
        plan.steps.push(match existing.get(&order.service.name) {
            None => Step::Create(order.service.clone()),
            Some(view) => Step::Keep(Box::new(view.clone())),
        });
    }
    for app in &manifest.apps {
        let mut names = app.ordered.clone();
        for listed in &app.listed {
            // Ordered elsewhere in the file counts as known: it exists by the time it is bound.
            let ordered = manifest.orders.iter().any(|order| order.service.name == listed.name);
            if ordered || existing.contains_key(&listed.name) {
                names.push(listed.name.clone());
            } else {
                let at = listed.at;
                plan.notes.push(format!("{file}:{at}: {} is skipped: the node has no such service", listed.name));
            }
        }
        let Some(name) = &app.name else {
            plan.notes.push(format!("{file} has no name: for the app, so no service is bound to it"));
            continue;
        };
        for service in names {
            let bound = existing.get(&service).is_some_and(|view| view.bindings.iter().any(|b| b.app == *name));
            let step = if bound { Step::KeepBinding } else { Step::Bind };
            plan.steps.push(step(service, name.clone()));
        }
    }
    Ok(plan)
}

fn differences(order: &Order, file: &str, existing: Option<&ServiceView>) -> Vec<String> {
    let Some(view) = existing else { return Vec::new() };
    let CreateService { port, int_port, public, .. } = &order.service;
    let mut found = Vec::new();
    let mut differ = |what: &str, there: String, wanted: String| {
        if there != wanted {
            found.push(format!(
                "{file}:{}: {} exists with {what} {there}, but the manifest asks for {wanted}",
                order.at, order.service.name
            ));
        }
    };
    let kind = ServiceKind { protocols: view.protocol, https: view.https };
    differ("kind", kind.to_string(), order.kind.to_string());
    if let Some(port) = port {
        differ("port", view.port.to_string(), port.to_string());
    }
    if let Some(int_port) = int_port {
        differ("int_port", view.int_port.to_string(), int_port.to_string());
    }
    if let Some(public) = public {
        differ("public", (view.access == Access::Public).to_string(), public.to_string());
    }
    found
}
