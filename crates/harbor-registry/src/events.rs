//! The latest events, for people who look at what happened. Kept in memory only; decides nothing.

use std::collections::VecDeque;

use harbor_types::WallTime;
use harbor_types::wire::{EventKind, EventList, EventView};
use harbor_types::{ServiceId, ServiceName};

/// Events that are kept: enough to see what a bad quarter of an hour looked like.
const KEPT: usize = 1_024;

#[derive(Debug, Default)]
pub(crate) struct Events {
    latest: u64,
    kept: VecDeque<EventView>,
}

impl Events {
    pub(crate) fn push(
        &mut self,
        at: WallTime,
        kind: EventKind,
        service: Option<(ServiceId, &ServiceName)>,
        detail: String,
    ) {
        self.latest += 1;
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(EventView {
            sequence: self.latest,
            at: at.to_rfc3339(),
            kind,
            service: service.map(|(id, _)| id),
            service_name: service.map(|(_, name)| name.clone()),
            detail,
        });
    }

    pub(crate) fn since(&self, since: u64, limit: usize) -> EventList {
        let first = self.kept.front().map_or(self.latest + 1, |event| event.sequence);
        // Sequences are without gaps, so the place of the first wanted one is a subtraction.
        let skip = usize::try_from((since.saturating_add(1)).saturating_sub(first)).unwrap_or(usize::MAX);
        let events = self.kept.iter().skip(skip).take(limit).cloned().collect();
        EventList { events, latest: self.latest, missed: since.saturating_add(1) < first }
    }
}
