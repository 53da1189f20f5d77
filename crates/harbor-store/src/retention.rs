//! How many changes a store keeps to tell those who ask what happened since. Pure arithmetic, used by every store.

use std::num::NonZeroU64;

use harbor_types::Revision;

/// Changes kept when nobody says otherwise: minutes of a busy node, and a few megabytes.
pub const RETENTION: Retention = Retention(match NonZeroU64::new(4096) {
    Some(count) => count,
    None => NonZeroU64::MIN,
});

/// How many of the latest changes are kept; at least one. Who asks for older ones gets the whole state.
///
/// A caller that commits groups keeps more than its largest group, or it cannot learn the fate of an unknown one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Retention(pub NonZeroU64);

impl Retention {
    /// Whether the change `revision` is no longer kept once `latest` is committed.
    pub(crate) const fn forgets(self, revision: Revision, latest: Revision) -> bool {
        latest.0.saturating_sub(revision.0) >= self.0.get()
    }
}

impl Default for Retention {
    fn default() -> Self {
        RETENTION
    }
}
