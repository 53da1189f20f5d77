//! What the node answers, put into words for people. Pure: views in, text out.

use harbor_types::wire::{
    BackendHealth, BackendView, EventKind, EventList, PortState, PortsView, ServiceState, ServiceView,
};
use harbor_types::{Access, OrgName, Protocol, Protocols, SpaceName, Span};
use serde::Serialize;

use crate::output::{clean, columns};

/// The list of all services.
pub(crate) fn services(services: &[ServiceView]) -> String {
    let elsewhere = |view: &ServiceView| view.org != OrgName::fallback() || view.space != SpaceName::fallback();
    let rows = services.iter().map(|view| {
        [
            view.name.to_string(),
            kind(view),
            view.port.to_string(),
            view.int_port.to_string(),
            access(view).into(),
            state(view).into(),
            format!("{}/{}", view.backends.iter().filter(|backend| is_eligible(backend)).count(), view.backends.len()),
            apps(view),
        ]
    });
    let header = ["NAME", "KIND", "PORT", "INT_PORT", "ACCESS", "STATE", "BACKENDS", "BOUND TO"];
    if !services.iter().any(elsewhere) {
        return columns(header, &rows.collect::<Vec<_>>());
    }
    let [a, b, c, d, e, f, g, h] = header;
    let rows: Vec<_> = services
        .iter()
        .zip(rows)
        .map(|(view, [a, b, c, d, e, f, g, h])| [format!("{}/{}", view.org, view.space), a, b, c, d, e, f, g, h])
        .collect();
    columns(["SPACE", a, b, c, d, e, f, g, h], &rows)
}

/// Settings of one service, without its backends and credentials.
pub(crate) fn settings(view: &ServiceView) -> String {
    let listen: Vec<_> = view.listen.iter().map(ToString::to_string).collect();
    let mut rows = vec![
        ("id", view.id.to_string()),
        ("kind", kind(view)),
        ("port", view.port.to_string()),
        ("int_port", view.int_port.to_string()),
        ("access", access(view).into()),
        ("state", state(view).into()),
    ];
    rows.extend(view.conflict.clone().map(|conflict| ("conflict", conflict)));
    rows.push(("listens on", listen.join(", ")));
    rows.push(("created", view.created.clone()));
    rows.push(("bound to", apps(view)));
    rows.iter().map(|(key, value)| format!("  {key:<10}  {}", clean(value)).trim_end().to_owned() + "\n").collect()
}

/// Everything about one service.
pub(crate) fn service(view: &ServiceView) -> String {
    let credentials = serde_json::to_string_pretty(&view.credentials).unwrap_or_default();
    let backends = if view.backends.is_empty() { "  none\n".into() } else { indent(&backends(view)) };
    format!("{}\n{}\nbackends\n{backends}\ncredentials\n{credentials}\n", view.name, settings(view))
}

/// Kind, port and internal port of a service in one phrase.
pub(crate) fn brief(view: &ServiceView) -> String {
    format!("{} port {}, int_port {}", kind(view), view.port, view.int_port)
}

fn backends(view: &ServiceView) -> String {
    let health = |backend: &BackendView, protocol: Protocol| {
        let Some(found) = backend.protocols.iter().find(|found| found.protocol == protocol) else {
            return "-".to_owned();
        };
        match (&found.health, found.place, found.last_failure) {
            (BackendHealth::Eligible, Some(0), _) if protocol == Protocol::Udp => "primary".into(),
            (BackendHealth::Eligible, Some(place), _) if protocol == Protocol::Udp => format!("queued {place}"),
            (BackendHealth::Eligible, _, _) => "eligible".into(),
            (BackendHealth::Ejected, _, None) => "ejected".into(),
            (BackendHealth::Ejected, _, Some(failure)) => format!("ejected: {}", word(&failure)),
        }
    };
    let rows: Vec<_> = view
        .backends
        .iter()
        .map(|backend| {
            [
                backend.instance.to_string(),
                backend.addr.to_string(),
                health(backend, Protocol::Tcp),
                health(backend, Protocol::Udp),
                backend.expires_in.map_or_else(|| "never".into(), seconds),
            ]
        })
        .collect();
    columns(["INSTANCE", "ADDRESS", "TCP", "UDP", "EXPIRES IN"], &rows)
}

/// What the port range is used for.
pub(crate) fn ports(view: &PortsView) -> String {
    let PortsView { range, free, leased, quarantined, held_by_others, ports } = view;
    let summary =
        format!("{range}: {free} free, {leased} leased, {quarantined} quarantined, {held_by_others} held by others\n");
    if ports.is_empty() {
        return clean(summary.trim_end()) + "\n";
    }
    let rows: Vec<_> = ports
        .iter()
        .map(|port| {
            let state = match port.state {
                PortState::Leased => "leased",
                PortState::Quarantined => "quarantined",
                PortState::HeldByOthers => "held by others",
            };
            let service = port.service.as_ref().map(ToString::to_string).unwrap_or_default();
            let free_in = port.free_in.map(seconds).unwrap_or_default();
            [port.port.to_string(), state.into(), service, free_in]
        })
        .collect();
    clean(summary.trim_end()) + "\n\n" + &columns(["PORT", "STATE", "SERVICE", "FREE IN"], &rows)
}

/// What happened.
pub(crate) fn events(list: &EventList) -> String {
    let rows: Vec<_> = list
        .events
        .iter()
        .map(|event| {
            [
                event.sequence.to_string(),
                event.at.clone(),
                word::<EventKind>(&event.kind).replace('_', " "),
                event.service_name.as_ref().map(ToString::to_string).unwrap_or_default(),
                event.detail.clone(),
            ]
        })
        .collect();
    columns(["NUMBER", "AT", "WHAT", "SERVICE", "DETAIL"], &rows)
}

fn kind(view: &ServiceView) -> String {
    let protocols = match view.protocol {
        Protocols::Both => "tcp+udp".into(),
        one => one.to_string(),
    };
    protocols + if view.https { "+https" } else { "" }
}

fn access(view: &ServiceView) -> &'static str {
    match view.access {
        Access::Internal => "internal",
        Access::Public => "public",
    }
}

fn state(view: &ServiceView) -> &'static str {
    match view.state {
        ServiceState::Binding => "binding",
        ServiceState::Bound => "bound",
        ServiceState::Conflicted => "conflicted",
    }
}

fn apps(view: &ServiceView) -> String {
    let apps: Vec<_> = view.bindings.iter().map(|binding| binding.app.to_string()).collect();
    if apps.is_empty() { "-".into() } else { apps.join(", ") }
}

fn is_eligible(backend: &BackendView) -> bool {
    backend.protocols.iter().any(|protocol| protocol.health == BackendHealth::Eligible)
}

/// The word that the API uses for a value.
fn word<T: Serialize>(value: &T) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Whole seconds: what a person reads, not what a program compares.
fn seconds(left: Span) -> String {
    Span::secs(left.as_millis().div_ceil(1_000)).to_string()
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}
