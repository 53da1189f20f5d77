//! A disk in memory with a page cache: what was written is seen at once, what was synced survives, and both can fail.
//!
//! A failed sync behaves like the worst real one: some of the waiting writes reached the disk, the others never will,
//! and the cache shows them all the same and counts them as clean.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use harbor_store::Disk;
use harbor_store::redb::StorageBackend;

use crate::script::Dice;

/// What reaches a disk, and what the test wants to remember between.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Write {
        offset: usize,
        data: Vec<u8>,
    },
    SetLen(usize),
    Sync,
    /// From here on up to this revision may exist.
    Issued(u64),
    /// From here on this revision must exist.
    Acknowledged(u64),
}

/// The next operations that fail.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure {
    /// How many operations succeed before.
    pub(crate) after: u64,
    /// How many fail then.
    pub(crate) count: u64,
    /// Decides what a failed operation leaves behind.
    pub(crate) seed: u64,
}

#[derive(Debug, Default)]
struct State {
    /// What a process sees.
    cache: Vec<u8>,
    /// What a power cut leaves.
    durable: Vec<u8>,
    /// Written and not synced.
    waiting: Vec<Event>,
    journal: Option<Vec<Event>>,
    failure: Option<Failure>,
    failed: u64,
    unreadable: bool,
    /// Handles given out; only the latest one may be used, and only until it is closed.
    handles: u64,
    open: bool,
}

/// The disk. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct ModelDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct ModelHandle {
    disk: ModelDisk,
    number: u64,
}

impl ModelDisk {
    pub(crate) fn holding(image: Vec<u8>) -> Self {
        let state = State { cache: image.clone(), durable: image, ..State::default() };
        Self(Arc::new(Mutex::new(state)))
    }

    /// What a killed process leaves: the kernel still has to write what was not synced.
    pub(crate) fn after_kill(durable: Vec<u8>, waiting: Vec<Event>) -> Self {
        let mut cache = durable.clone();
        waiting.iter().for_each(|event| apply(&mut cache, event));
        Self(Arc::new(Mutex::new(State { cache, durable, waiting, ..State::default() })))
    }

    pub(crate) fn record(&self) {
        self.0.lock().unwrap().journal = Some(Vec::new());
    }

    pub(crate) fn note(&self, event: Event) {
        self.0.lock().unwrap().journal.as_mut().unwrap().push(event);
    }

    pub(crate) fn journal(&self) -> Vec<Event> {
        self.0.lock().unwrap().journal.take().unwrap()
    }

    pub(crate) fn fail(&self, failure: Option<Failure>) {
        self.0.lock().unwrap().failure = failure;
    }

    /// Reads fail, or work again.
    pub(crate) fn set_unreadable(&self, unreadable: bool) {
        self.0.lock().unwrap().unreadable = unreadable;
    }

    /// How many operations failed so far.
    pub(crate) fn failed(&self) -> u64 {
        self.0.lock().unwrap().failed
    }

    /// Puts another file in the place of this one.
    pub(crate) fn replace(&self, image: Vec<u8>) {
        let mut state = self.0.lock().unwrap();
        state.waiting.clear();
        (state.cache, state.durable) = (image.clone(), image);
    }

    /// What a process that opens the file now sees.
    pub(crate) fn cached(&self) -> Vec<u8> {
        self.0.lock().unwrap().cache.clone()
    }

    /// What is there after the power was cut now.
    pub(crate) fn durable(&self) -> Vec<u8> {
        self.0.lock().unwrap().durable.clone()
    }
}

impl Disk for ModelDisk {
    fn storage(&mut self) -> io::Result<Box<dyn StorageBackend>> {
        let mut state = self.0.lock().unwrap();
        assert!(!state.open, "the earlier handle was not closed");
        state.open = true;
        state.handles += 1;
        Ok(Box::new(ModelHandle { disk: self.clone(), number: state.handles }))
    }

    fn path(&self) -> &Path {
        Path::new("model.redb")
    }
}

/// Applies a write or a new length to an image.
pub(crate) fn apply(image: &mut Vec<u8>, event: &Event) {
    match event {
        Event::Write { offset, data } => {
            let end = offset + data.len();
            if image.len() < end {
                image.resize(end, 0);
            }
            image[*offset..end].copy_from_slice(data);
        }
        Event::SetLen(len) => image.resize(*len, 0),
        Event::Sync | Event::Issued(_) | Event::Acknowledged(_) => {}
    }
}

/// The first bytes of a write, as many as the dice say.
pub(crate) fn torn(event: &Event, dice: &mut Dice) -> Event {
    match event {
        Event::Write { offset, data } => {
            let kept = dice.below(data.len() + 1);
            Event::Write { offset: *offset, data: data[..kept].to_vec() }
        }
        other => other.clone(),
    }
}

impl State {
    /// Whether the operation that comes now fails; if so, with which dice.
    fn fails(&mut self) -> Option<Dice> {
        let failure = self.failure.as_mut()?;
        if failure.after > 0 {
            failure.after -= 1;
            return None;
        }
        let dice = Dice(failure.seed ^ failure.count);
        failure.count -= 1;
        if failure.count == 0 {
            self.failure = None;
        }
        self.failed += 1;
        Some(dice)
    }

    fn change(&mut self, event: Event) -> io::Result<()> {
        if let Some(mut dice) = self.fails() {
            let part = torn(&event, &mut dice);
            if matches!(part, Event::Write { .. }) {
                apply(&mut self.cache, &part);
                self.waiting.push(part);
            }
            return Err(io::Error::other("injected write error"));
        }
        apply(&mut self.cache, &event);
        if let Some(journal) = &mut self.journal {
            journal.push(event.clone());
        }
        self.waiting.push(event);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        if let Some(mut dice) = self.fails() {
            for event in &waiting {
                if dice.below(2) == 0 {
                    apply(&mut self.durable, event);
                }
            }
            return Err(io::Error::other("injected sync error"));
        }
        for event in &waiting {
            apply(&mut self.durable, event);
        }
        if let Some(journal) = &mut self.journal {
            journal.push(Event::Sync);
        }
        Ok(())
    }
}

impl ModelHandle {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.disk.0.lock().unwrap();
        if !state.open || state.handles != self.number {
            return Err(io::Error::other("a handle was used after it was closed"));
        }
        act(&mut state)
    }
}

impl StorageBackend for ModelHandle {
    fn len(&self) -> io::Result<u64> {
        self.with(|state| Ok(u64::try_from(state.cache.len()).unwrap()))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.with(|state| {
            if state.unreadable {
                return Err(io::Error::other("injected read error"));
            }
            let start = usize::try_from(offset).unwrap();
            let bytes = state.cache.get(start..start.saturating_add(out.len()));
            out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|state| state.change(Event::SetLen(usize::try_from(len).unwrap())))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(State::sync)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.with(|state| state.change(Event::Write { offset: usize::try_from(offset).unwrap(), data: data.to_vec() }))
    }

    fn close(&self) -> io::Result<()> {
        self.with(|state| {
            state.open = false;
            Ok(())
        })
    }
}
