//! Damaged files: flipped bits, lost blocks, cut ends, foreign content. Either the damage is reported or the data is
//! right; a store never starts empty or with less than was acknowledged.

use harbor_store::{RETENTION, RedbStore, Store, StoreError};
use harbor_types::{CommitOutcome, Loaded};

use crate::disk_model::ModelDisk;
use crate::script::{Dice, history};

/// Where redb keeps the number of the current commit slot. See [`a_flipped_slot_number_costs_one_commit_at_most`].
const SLOT_NUMBER: usize = 9;
/// The header: magic number, layout, two commit slots.
const HEADER: usize = 320;

struct Sample {
    /// The file after it was closed in good order.
    closed: Vec<u8>,
    /// The file after the power was cut.
    cut: Vec<u8>,
    state: Loaded,
    /// The state before the latest commit.
    before: Loaded,
}

fn sample() -> Sample {
    let disk = ModelDisk::default();
    let mut store = RedbStore::create_on(Box::new(disk.clone()), RETENTION).unwrap();
    let mut before = store.load().unwrap();
    for commit in history(31, 160) {
        before = store.load().unwrap();
        assert!(matches!(store.commit(&commit), CommitOutcome::Committed(_)));
    }
    let state = store.load().unwrap();
    assert!(state.records.len() > 20);
    let cut = disk.durable();
    store.close().unwrap();
    Sample { closed: disk.durable(), cut, state, before }
}

/// What a damaged image turns out to be, as a starting node reads it.
fn read(image: Vec<u8>) -> Result<Loaded, StoreError> {
    RedbStore::open_on(Box::new(ModelDisk::holding(image)), RETENTION)?.load()
}

/// Reads it and checks; answers whether the damage was reported.
fn harmless(image: Vec<u8>, state: &Loaded, what: &str) -> bool {
    match read(image) {
        Ok(found) => {
            assert_eq!(found, *state, "{what}");
            false
        }
        Err(error) => {
            assert!(error.is_bad_state(), "{what}: {error:?}");
            true
        }
    }
}

fn flipped(image: &[u8], at: usize, bit: u32) -> Vec<u8> {
    let mut image = image.to_vec();
    image[at] ^= 1 << bit;
    image
}

#[test]
fn a_flipped_bit_is_reported_or_harmless() {
    let sample = sample();
    let mut dice = Dice(77);
    let mut reported = 0;
    for (name, image) in [("closed", &sample.closed), ("cut", &sample.cut)] {
        for at in 0..HEADER {
            let bit = u32::try_from(dice.below(8)).unwrap();
            if at != SLOT_NUMBER {
                let what = format!("{name}, bit {bit} of byte {at}");
                reported += u32::from(harmless(flipped(image, at, bit), &sample.state, &what));
            }
        }
        for _ in 0..400 {
            let (at, bit) = (dice.below(image.len()), u32::try_from(dice.below(8)).unwrap());
            if at != SLOT_NUMBER {
                let what = format!("{name}, bit {bit} of byte {at}");
                reported += u32::from(harmless(flipped(image, at, bit), &sample.state, &what));
            }
        }
    }
    println!("{reported} reported");
    assert!(reported > 100, "{reported}");
}

#[test]
fn another_digit_in_a_record_is_reported() {
    // The damage that no decoder can see: a record that is whole, and says something else.
    let sample = sample();
    let mut reported = 0;
    for (name, image) in [("closed", &sample.closed), ("cut", &sample.cut)] {
        let needle = b"\"created\":1700000000";
        for at in (0..image.len() - needle.len()).filter(|at| image[*at..].starts_with(needle)) {
            let what = format!("{name}, the digit before byte {}", at + needle.len());
            reported += u32::from(harmless(flipped(image, at + needle.len() - 1, 0), &sample.state, &what));
        }
    }
    println!("{reported} reported");
    assert!(reported > 40, "{reported}");
}

#[test]
fn a_flipped_slot_number_costs_one_commit_at_most() {
    // The one place where a flipped bit looks like something regular: a power cut before the latest commit was complete.
    // After a regular end, both slots hold the same records.
    let sample = sample();
    for bit in 0..8 {
        harmless(flipped(&sample.closed, SLOT_NUMBER, bit), &sample.state, &format!("closed, bit {bit}"));
        match read(flipped(&sample.cut, SLOT_NUMBER, bit)) {
            Ok(found) => assert!(found == sample.state || found == sample.before, "cut, bit {bit}"),
            Err(error) => assert!(error.is_bad_state(), "cut, bit {bit}: {error:?}"),
        }
    }
}

#[test]
fn lost_and_foreign_blocks_are_reported_or_harmless() {
    let sample = sample();
    let mut dice = Dice(78);
    let mut reported = 0;
    for (name, image) in [("closed", &sample.closed), ("cut", &sample.cut)] {
        for round in 0..250 {
            let size = [512, 4096, 16_384][dice.below(3)];
            let at = if round % 10 == 0 { 0 } else { dice.below(image.len() / 512) * 512 };
            let end = (at + size).min(image.len());
            let mut damaged = image.clone();
            match dice.below(3) {
                0 => damaged[at..end].fill(0),
                1 => damaged[at..end].iter_mut().for_each(|byte| *byte = dice.roll().to_le_bytes()[0]),
                // A block that was written to the wrong place.
                _ => {
                    let from = dice.below(image.len() - size);
                    damaged.copy_within(from..from + (end - at), at);
                }
            }
            reported += u32::from(harmless(damaged, &sample.state, &format!("{name}, {size} bytes at {at}")));
        }
    }
    println!("{reported} reported");
    assert!(reported > 100, "{reported}");
}

#[test]
fn a_cut_or_padded_file_is_reported_or_harmless() {
    let sample = sample();
    let mut dice = Dice(79);
    for (name, image) in [("closed", &sample.closed), ("cut", &sample.cut)] {
        let mut lengths = vec![0, 1, 8, 9, 10, 63, 64, 319, 320, 321, 4095, 4096, 4097, 8192, image.len() - 1];
        lengths.extend((0..60).map(|_| dice.below(image.len())));
        lengths.extend((1..image.len() / 4096).step_by(5).map(|pages| pages * 4096));
        for len in lengths {
            let what = format!("{name}, cut to {len} of {}", image.len());
            let reported = harmless(image[..len].to_vec(), &sample.state, &what);
            assert!(reported || len >= 4096, "{what} cannot be whole");
        }
        for more in [1, 512, 4096, 1 << 20] {
            let padded = [image.as_slice(), &vec![0; more]].concat();
            harmless(padded, &sample.state, &format!("{name}, {more} bytes more"));
        }
    }
}
