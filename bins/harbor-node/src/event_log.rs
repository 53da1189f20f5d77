//! The registry's events as lines of the log: what an operator reads when nobody was there to ask the API.
//!
//! Called by the driver after each step. Decides nothing but how loud each kind is.

use harbor_registry::Registry;
use harbor_types::wire::{EventKind, EventView};

/// Target of the lines.
const EVENT: &str = "harbor::event";

/// Remembers what was told already.
#[derive(Debug, Default)]
pub(crate) struct EventLog {
    told: u64,
}

impl EventLog {
    /// Tells what is new.
    pub(crate) fn tell(&mut self, registry: &Registry) {
        let new = registry.events(self.told, usize::MAX);
        if new.missed {
            tracing::warn!(target: EVENT, "more happened at once than is kept; the oldest events are not in the log");
        }
        new.events.iter().for_each(line);
        self.told = new.latest;
    }
}

fn line(event: &EventView) {
    use tracing::field::display;
    let (service, name) = (event.service.map(display), event.service_name.as_ref().map(display));
    let detail = event.detail.as_str();
    match words(event.kind) {
        (Tone::Warning, what) => tracing::warn!(target: EVENT, service, name, detail, "{what}"),
        (Tone::News, what) => tracing::info!(target: EVENT, service, name, detail, "{what}"),
    }
}

/// Whether somebody may have to do something.
#[derive(Clone, Copy, Debug)]
enum Tone {
    News,
    Warning,
}

const fn words(kind: EventKind) -> (Tone, &'static str) {
    match kind {
        EventKind::ServiceCreated => (Tone::News, "service created"),
        EventKind::ServiceDeleted => (Tone::News, "service deleted"),
        EventKind::ServiceBound => (Tone::News, "service has its port again"),
        EventKind::ServiceConflicted => (Tone::Warning, "service is conflicted: its port cannot be held"),
        EventKind::Bound => (Tone::News, "service bound to an app"),
        EventKind::Unbound => (Tone::News, "service unbound from an app"),
        EventKind::BackendJoined => (Tone::News, "instance joined"),
        EventKind::BackendLeft => (Tone::News, "instance left"),
        EventKind::BackendExpired => (Tone::Warning, "instance fell silent"),
        EventKind::BackendEjected => (Tone::Warning, "instance failed and is out for a while"),
        EventKind::BackendReturned => (Tone::News, "instance may receive traffic again"),
        EventKind::PortSetAside => (Tone::Warning, "port is held by another process and set aside"),
        _ => (Tone::News, "something happened"),
    }
}
