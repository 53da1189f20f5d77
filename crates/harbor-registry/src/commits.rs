//! Commits on their way to the store, and how their outcomes become folded state.
//!
//! The store decides: a change is folded once it is known to be committed, in revision order, whoever wrote it. An outcome
//! that got lost is looked up in the changes before anything is concluded from it. Owners are told how it went.

use std::collections::{BTreeMap, BTreeSet};

use harbor_alloc::Seeded;
use harbor_types::{
    Change, Changes, Commit, CommitOutcome, CommitToken, Conflict, Expectation, Loaded, Now, Revision, ServiceId, Write,
};

use crate::timers::{Timer, read_back_off};
use crate::{Effect, Registry};

/// Who is told how a commit went.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Owner {
    /// The active operation of this service's lane.
    Lane(ServiceId),
    /// The end of rests.
    Rests,
}

/// What the owner is told.
#[derive(Clone, Debug)]
pub(crate) enum Resolution {
    /// It is committed, and folded.
    Committed,
    /// Something stood in its way; nothing changed.
    Conflict(Conflict),
    /// It is certain that nothing changed.
    Failed(String),
}

#[derive(Debug)]
struct Pending {
    owner: Owner,
    writes: Vec<Write>,
    /// Latest revision that was folded when it was asked for.
    issued: Revision,
    /// The store's words, once it has answered that it does not know.
    unknown: Option<String>,
}

/// A read of the changes that is on its way.
#[derive(Debug)]
struct Reading {
    /// Commits that were unknown before it began: what it does not show did not happen.
    covers: BTreeSet<CommitToken>,
}

#[derive(Debug)]
pub(crate) struct Commits {
    pending: BTreeMap<CommitToken, Pending>,
    /// Own commits whose predecessors are not folded yet.
    ahead: BTreeMap<Revision, CommitToken>,
    reading: Option<Reading>,
    /// Something came up that the read on its way may not show.
    read_again: bool,
    failed_reads: u32,
    /// A timer will start the next read.
    retry_armed: bool,
    seeded: Seeded,
    salt: u64,
}

impl Commits {
    pub(crate) fn new(seed: u64) -> Self {
        // Another sequence than the allocator's: the two must not move in step.
        let mut seeded = Seeded::new(seed ^ 0x6861_7262_6f72);
        let salt = seeded.next_u64();
        Self {
            pending: BTreeMap::new(),
            ahead: BTreeMap::new(),
            reading: None,
            read_again: false,
            failed_reads: 0,
            retry_armed: false,
            seeded,
            salt,
        }
    }

    /// Tells the tokens of this process apart from those of an earlier one with the same seed.
    pub(crate) fn salt(&mut self, revision: Revision) {
        self.salt ^= Seeded::new(revision.0).next_u64();
    }

    fn next_token(&mut self) -> CommitToken {
        CommitToken((u128::from(self.salt) << 64) | u128::from(self.seeded.next_u64()))
    }

    pub(crate) fn owners(&self) -> impl Iterator<Item = Owner> {
        self.pending.values().map(|pending| pending.owner)
    }
}

impl Registry {
    pub(crate) fn commit(&mut self, owner: Owner, expectations: Vec<Expectation>, writes: Vec<Write>) {
        let token = self.commits.next_token();
        let issued = self.state.revision;
        self.commits.pending.insert(token, Pending { owner, writes: writes.clone(), issued, unknown: None });
        self.effects.push_back(Effect::Commit(Commit { token, expectations, writes }));
    }

    pub(crate) fn on_committed(&mut self, now: Now, token: CommitToken, outcome: CommitOutcome) {
        // Not pending any more: a read showed it earlier.
        let Some(pending) = self.commits.pending.get_mut(&token) else { return };
        match outcome {
            CommitOutcome::Committed(revision) if revision <= self.state.revision => {
                self.resolve(now, token, Resolution::Committed);
            }
            CommitOutcome::Committed(revision) => {
                pending.unknown = None;
                self.commits.ahead.insert(revision, token);
                self.fold_ahead(now);
                if !self.commits.ahead.is_empty() {
                    self.read_changes();
                }
            }
            CommitOutcome::Conflict(conflict) => {
                // Somebody else changed what we thought to know.
                self.read_changes();
                self.resolve(now, token, Resolution::Conflict(conflict));
            }
            CommitOutcome::NotCommitted(reason) => self.resolve(now, token, Resolution::Failed(reason)),
            CommitOutcome::Unknown(reason) => {
                pending.unknown = Some(reason);
                self.read_changes();
            }
        }
    }

    pub(crate) fn on_changes(&mut self, now: Now, result: Result<Changes, String>) {
        let Some(reading) = self.commits.reading.take() else { return };
        let known = match result {
            Ok(Changes::Since(changes)) => {
                for change in &changes {
                    if change.revision == self.state.revision.next() {
                        self.fold(now, change);
                    }
                }
                None
            }
            Ok(Changes::Whole(loaded, tokens)) => {
                self.fold_whole(now, &loaded);
                Some(tokens.into_iter().collect())
            }
            Err(_) => {
                self.commits.read_again = false;
                return self.retry_read(now);
            }
        };
        self.commits.failed_reads = 0;
        self.fold_ahead(now);
        self.resolve_read(now, &reading, known.as_ref());
        let open = self.commits.pending.values().any(|pending| pending.unknown.is_some());
        if std::mem::take(&mut self.commits.read_again) {
            self.read_changes();
        } else if open || !self.commits.ahead.is_empty() {
            self.retry_read(now);
        }
    }

    /// Decides about the commits that a read tells of. `known`: the tokens that came with a whole state.
    fn resolve_read(&mut self, now: Now, reading: &Reading, known: Option<&BTreeSet<CommitToken>>) {
        let ahead: BTreeSet<CommitToken> = self.commits.ahead.values().copied().collect();
        let mut decided = Vec::new();
        for (token, pending) in self.commits.pending.iter().filter(|(token, _)| !ahead.contains(token)) {
            // A store that no longer keeps the token still shows the state that it has led to; what a whole state brought
            // is folded, so no later read will tell of it again.
            let shown =
                |known: &BTreeSet<_>| known.contains(token) || self.state.shows(&pending.writes, pending.issued);
            if known.is_some_and(shown) {
                decided.push((*token, Resolution::Committed));
            } else if reading.covers.contains(token) {
                decided.push((*token, Resolution::Failed(pending.unknown.clone().unwrap_or_default())));
            }
        }
        for (token, resolution) in decided {
            self.resolve(now, token, resolution);
        }
    }

    pub(crate) fn on_read_retry(&mut self) {
        if std::mem::take(&mut self.commits.retry_armed) {
            self.read_changes();
        }
    }

    fn retry_read(&mut self, now: Now) {
        if !self.commits.retry_armed {
            self.commits.retry_armed = true;
            self.timers.arm(now.mono + read_back_off(self.commits.failed_reads), Timer::Read);
            self.commits.failed_reads = self.commits.failed_reads.saturating_add(1);
        }
    }

    fn read_changes(&mut self) {
        if self.commits.reading.is_some() {
            self.commits.read_again = true;
        } else if !self.commits.retry_armed {
            let unknown = self.commits.pending.iter().filter(|(_, pending)| pending.unknown.is_some());
            let covers = unknown.map(|(token, _)| *token).collect();
            self.commits.reading = Some(Reading { covers });
            self.effects.push_back(Effect::ReadChanges { since: self.state.revision });
        }
    }

    /// Folds own commits as long as the next one is known.
    fn fold_ahead(&mut self, now: Now) {
        while let Some((revision, token)) = self.commits.ahead.first_key_value().map(|(at, token)| (*at, *token)) {
            if revision > self.state.revision.next() {
                return;
            }
            if revision <= self.state.revision {
                self.commits.ahead.remove(&revision);
                self.resolve(now, token, Resolution::Committed);
                continue;
            }
            let writes = self.commits.pending.get(&token).map(|pending| pending.writes.clone());
            self.fold(now, &Change { revision, token, writes: writes.unwrap_or_default() });
        }
    }

    fn fold(&mut self, now: Now, change: &Change) {
        for delta in self.state.fold(change) {
            self.react(now, delta);
        }
        self.commits.ahead.remove(&change.revision);
        self.resolve(now, change.token, Resolution::Committed);
    }

    fn fold_whole(&mut self, now: Now, loaded: &Loaded) {
        if loaded.revision > self.state.revision {
            for delta in self.state.replace(loaded) {
                self.react(now, delta);
            }
        }
    }

    fn resolve(&mut self, now: Now, token: CommitToken, resolution: Resolution) {
        let Some(pending) = self.commits.pending.remove(&token) else { return };
        self.publish_changed(now);
        match pending.owner {
            Owner::Lane(service) => self.on_resolved(now, service, resolution),
            Owner::Rests => self.on_rests_resolved(now, &resolution),
        }
    }
}
