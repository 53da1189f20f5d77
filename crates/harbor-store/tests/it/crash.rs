//! The power is cut at every write and every sync of a long history: what was acknowledged is there, nothing else than a
//! prefix of the history is, and the store works on.

use std::num::NonZeroU64;

use harbor_store::{RedbStore, Retention, Store, StoreError};
use harbor_types::{CommitOutcome, Loaded, Revision};

use crate::disk_model::{Event, ModelDisk, apply, torn};
use crate::model::Model;
use crate::script::{Dice, creation, history};

const OPERATIONS: usize = 500;
const RETENTION: Retention = Retention(match NonZeroU64::new(40) {
    Some(kept) => kept,
    None => NonZeroU64::MIN,
});

/// What went to the disk, and the state after each revision.
struct Recording {
    journal: Vec<Event>,
    states: Vec<Loaded>,
}

/// Runs the history: mostly single commits, some groups, and a restart now and then, which shrinks the file.
fn recording() -> Recording {
    let disk = ModelDisk::default();
    disk.record();
    let mut store = RedbStore::create_on(Box::new(disk.clone()), RETENTION).unwrap();
    disk.note(Event::Acknowledged(0));
    let mut model = Model::default();
    let mut states = vec![model.state.clone()];
    let mut dice = Dice(7);
    let history = history(11, OPERATIONS);
    let mut rest = history.as_slice();
    let mut until_restart = 90;
    while !rest.is_empty() {
        let size = if dice.below(6) == 0 { 2 + dice.below(4) } else { 1 };
        let (group, later) = rest.split_at(size.min(rest.len()));
        rest = later;
        let want: Vec<CommitOutcome> = group
            .iter()
            .map(|commit| {
                let outcome = model.commit(commit);
                states.push(model.state.clone());
                outcome
            })
            .collect();
        disk.note(Event::Issued(model.state.revision.0));
        assert_eq!(store.commit_all(group), want);
        disk.note(Event::Acknowledged(model.state.revision.0));
        until_restart -= 1;
        if until_restart == 0 {
            until_restart = 90;
            drop(store);
            store = RedbStore::open_on(Box::new(disk.clone()), RETENTION).unwrap();
        }
    }
    drop(store);
    assert_eq!(states.len(), OPERATIONS + 1, "every commit of the history commits");
    Recording { journal: disk.journal(), states }
}

/// Walks along a journal and knows what the disk holds at each point.
struct Walk<'a> {
    states: &'a [Loaded],
    /// Nothing is acknowledged, not even an empty store.
    made: bool,
    acknowledged: u64,
    issued: u64,
    synced: Vec<u8>,
    waiting: Vec<Event>,
}

impl<'a> Walk<'a> {
    fn new(states: &'a [Loaded]) -> Self {
        Self { states, made: false, acknowledged: 0, issued: 0, synced: Vec::new(), waiting: Vec::new() }
    }

    /// Takes the event; answers whether it was one of the disk's.
    fn step(&mut self, event: &Event) -> bool {
        match event {
            Event::Issued(revision) => self.issued = *revision,
            Event::Acknowledged(revision) => (self.acknowledged, self.made) = (*revision, true),
            Event::Sync => {
                for event in self.waiting.drain(..) {
                    apply(&mut self.synced, &event);
                }
            }
            Event::Write { .. } | Event::SetLen(_) => self.waiting.push(event.clone()),
        }
        !matches!(event, Event::Issued(_) | Event::Acknowledged(_))
    }

    fn with_waiting<'e>(&self, events: impl Iterator<Item = &'e Event>) -> Vec<u8> {
        let mut image = self.synced.clone();
        events.for_each(|event| apply(&mut image, event));
        image
    }

    /// Everything that was issued.
    fn everything(&self) -> Vec<u8> {
        self.with_waiting(self.waiting.iter())
    }

    /// Some of what waits, in order, the last of it torn.
    fn a_part(&self, dice: &mut Dice) -> Vec<u8> {
        let mut kept: Vec<Event> = self.waiting.iter().filter(|_| dice.below(2) == 0).cloned().collect();
        kept.extend(self.waiting.last().map(|last| torn(last, dice)));
        self.with_waiting(kept.iter())
    }

    /// Opens an image and compares; answers the store, if there is one already.
    fn check(&self, image: Vec<u8>, context: &str) -> Option<(RedbStore, ModelDisk, u64)> {
        let disk = ModelDisk::holding(image);
        let mut store = match RedbStore::open_on(Box::new(disk.clone()), RETENTION) {
            Ok(store) => store,
            Err(StoreError::Corrupt { .. }) if !self.made => return None,
            Err(error) => panic!("{context}: {error:?}"),
        };
        let found = store.load().unwrap();
        let revision = found.revision.0;
        assert!(
            (self.acknowledged..=self.issued).contains(&revision),
            "{context}: revision {revision}, acknowledged {}, issued {}",
            self.acknowledged,
            self.issued
        );
        assert_eq!(found, self.states[usize::try_from(revision).unwrap()], "{context}");
        Some((store, disk, revision))
    }
}

/// Cuts at every event whose number is `share` modulo 2.
fn cut_everywhere(recording: &Recording, share: usize) -> usize {
    let mut walk = Walk::new(&recording.states);
    let mut opened = 0;
    for (number, event) in recording.journal.iter().enumerate() {
        if matches!(event, Event::Sync) && number % 2 == share {
            // Just before the sync: the latest point at which the disk may hold only what the sync before left there.
            // Nothing is issued between two syncs that the earlier points would allow and this one would not.
            walk.check(walk.synced.clone(), &format!("synced before event {number}"));
            opened += 1;
        }
        if !walk.step(event) || number % 2 != share {
            continue;
        }
        let context = format!("cut after event {number}");
        let continued = walk.check(walk.everything(), &context);
        walk.check(walk.a_part(&mut Dice(u64::try_from(number).unwrap())), &format!("{context}, a part of it"));
        opened += 2;
        if let Some((mut store, _, revision)) = continued.filter(|_| number % 64 == share) {
            store.verify().unwrap();
            let outcome = store.commit(&creation(9, 9_999, 65_000));
            assert_eq!(outcome, CommitOutcome::Committed(Revision(revision + 1)), "{context}");
        }
    }
    opened
}

#[test]
fn every_cut_leaves_a_prefix_with_all_that_was_acknowledged() {
    let recording = recording();
    let opened = std::thread::scope(|scope| {
        let even = scope.spawn(|| cut_everywhere(&recording, 0));
        cut_everywhere(&recording, 1) + even.join().unwrap()
    });
    let syncs = recording.journal.iter().filter(|event| matches!(event, Event::Sync)).count();
    let grown = recording.journal.iter().filter(|event| matches!(event, Event::SetLen(_))).count();
    println!("{} events, {syncs} syncs, {grown} new lengths, {opened} images opened", recording.journal.len());
    assert!(syncs > OPERATIONS, "two syncs a commit: {syncs}");
}

#[test]
fn a_cut_during_recovery_loses_nothing_either() {
    let recording = recording();
    let mut walk = Walk::new(&recording.states);
    for (number, event) in recording.journal.iter().enumerate() {
        if !walk.step(event) || number % 701 != 0 || !walk.made {
            continue;
        }
        // The recovery of this image is cut in turn.
        let image = walk.a_part(&mut Dice(u64::try_from(number).unwrap()));
        let disk = ModelDisk::holding(image.clone());
        disk.record();
        drop(RedbStore::open_on(Box::new(disk.clone()), RETENTION).unwrap());
        let mut second = Walk {
            made: true,
            acknowledged: walk.acknowledged,
            issued: walk.issued,
            synced: image,
            ..Walk::new(&recording.states)
        };
        for (inner, event) in disk.journal().iter().enumerate() {
            second.step(event);
            let context = format!("event {inner} of the recovery from event {number}");
            second.check(second.everything(), &context);
            second.check(second.a_part(&mut Dice(u64::try_from(inner).unwrap())), &context);
            second.check(second.synced.clone(), &context);
        }
    }
}

#[test]
fn what_a_killed_process_left_in_the_cache_is_durable_once_it_was_read() {
    let recording = recording();
    let mut walk = Walk::new(&recording.states);
    let mut in_cache_only = 0;
    for (number, event) in recording.journal.iter().enumerate() {
        if !walk.step(event) || !walk.made || walk.waiting.is_empty() || number % 3 != 0 {
            continue;
        }
        let disk = ModelDisk::after_kill(walk.synced.clone(), walk.waiting.clone());
        let mut store = RedbStore::open_on(Box::new(disk.clone()), RETENTION).unwrap();
        let told = store.load().unwrap();
        let (mut later, _, revision) = walk.check(disk.durable(), &format!("power cut after event {number}")).unwrap();
        assert_eq!(revision, told.revision.0, "event {number}");
        assert_eq!(later.load().unwrap(), told, "event {number}");
        in_cache_only += u32::from(told.revision.0 > walk.acknowledged);
    }
    assert!(in_cache_only > 50, "the interesting case is among them: {in_cache_only}");
}
