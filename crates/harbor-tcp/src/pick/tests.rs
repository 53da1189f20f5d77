//! Picking, against rules and against a count.

use std::collections::BTreeMap;

use harbor_types::{InstanceId, Revision};
use proptest::prelude::*;

use super::*;

fn backend(number: u16) -> Backend {
    Backend {
        instance: InstanceId::parse(&format!("i{number}")).unwrap(),
        addr: ([10, 0, 0, 1], 1024 + number).into(),
        joined: Revision(u64::from(number)),
        on_trial: false,
    }
}

fn snapshot(generation: u64, numbers: impl IntoIterator<Item = u16>) -> BackendSnapshot {
    let tcp = numbers.into_iter().map(backend).collect();
    BackendSnapshot { tcp, ..BackendSnapshot::empty(Generation(generation)) }
}

#[expect(clippy::disallowed_methods, reason = "some instant to count from")]
fn start() -> Instant {
    Instant::now()
}

fn limits(tries: u32) -> Limits {
    Limits { connect: Span::secs(6), tries, ..Limits::default() }
}

#[test]
fn retries_go_around_the_ring_and_never_move_the_cursor() {
    let (now, cursor, backends) = (start(), Cursor::starting_at(1), snapshot(1, 0..4));
    let mut attempts = Attempts::new(now, &limits(3));
    let mut order = Vec::new();
    while let Some(attempt) = attempts.pick(now, &backends, &cursor, |_| true) {
        order.push(attempt.backend.clone());
        attempts.on_failed(attempt.backend);
    }
    assert_eq!(order, [backend(1), backend(2), backend(3)]);
    assert_eq!(attempts.begun(), 3);
    assert_eq!(cursor.next(), 2, "one connection, one position");
}

#[test]
fn each_try_looks_at_the_newest_snapshot() {
    let (now, cursor) = (start(), Cursor::default());
    let mut attempts = Attempts::new(now, &limits(3));
    let first = attempts.pick(now, &snapshot(1, [0, 1, 2]), &cursor, |_| true).unwrap();
    assert_eq!((first.backend.clone(), first.generation), (backend(0), Generation(1)));
    attempts.on_failed(first.backend);
    let second = attempts.pick(now, &snapshot(2, [0, 2]), &cursor, |_| true).unwrap();
    assert_eq!((second.backend.clone(), second.generation), (backend(2), Generation(2)));
    attempts.on_failed(second.backend);
    assert_eq!(attempts.pick(now, &snapshot(3, [0, 2]), &cursor, |_| true), None, "both failed already");
}

#[test]
fn a_try_gets_its_share_of_the_time_left() {
    let (now, cursor) = (start(), Cursor::default());
    let second = Duration::from_secs(1);
    for (backends, tries, elapsed, want) in [(3, 3, 0, 2), (9, 3, 0, 2), (1, 3, 0, 6), (2, 3, 0, 3), (2, 3, 2, 2)] {
        let mut attempts = Attempts::new(now, &limits(tries));
        let attempt = attempts.pick(now + elapsed * second, &snapshot(1, 0..backends), &cursor, |_| true).unwrap();
        assert_eq!(attempt.wait, Span::secs(want), "{backends} backends, {tries} tries, {elapsed} s gone");
    }
    let mut attempts = Attempts::new(now, &limits(3));
    let first = attempts.pick(now, &snapshot(1, 0..3), &cursor, |_| true).unwrap();
    attempts.on_failed(first.backend);
    let early = attempts.pick(now, &snapshot(1, 0..3), &cursor, |_| true).unwrap();
    assert_eq!(early.wait, Span::secs(3), "time the first try did not use");
    assert_eq!(attempts.pick(now + 6 * second, &snapshot(1, 0..3), &cursor, |_| true), None, "no time left");
}

#[test]
fn without_backends_the_cursor_stays() {
    let (now, cursor) = (start(), Cursor::default());
    let mut attempts = Attempts::new(now, &limits(3));
    assert_eq!(attempts.pick(now, &snapshot(1, []), &cursor, |_| true), None);
    assert_eq!((attempts.begun(), cursor.next()), (0, 0));
}

#[test]
fn what_is_not_allowed_is_not_picked() {
    let (now, cursor) = (start(), Cursor::default());
    let mut attempts = Attempts::new(now, &limits(3));
    let odd = |backend: &Backend| backend.joined.0 % 2 == 1;
    let attempt = attempts.pick(now, &snapshot(1, 0..3), &cursor, odd).unwrap();
    assert_eq!((attempt.backend, attempt.wait), (backend(1), Span::secs(6)));
    assert_eq!(Attempts::new(now, &limits(3)).pick(now, &snapshot(1, [0, 2]), &cursor, odd), None);
}

proptest! {
    #[test]
    fn choices_are_the_ring_from_the_first(length in 0_u16..40, first in any::<u64>()) {
        let backends: Vec<_> = (0..length).map(backend).collect();
        let mut model = backends.clone();
        if !model.is_empty() {
            model.rotate_left(usize::try_from(first % u64::from(length)).unwrap());
        }
        prop_assert_eq!(choices(&backends, first).cloned().collect::<Vec<_>>(), model);
    }

    #[test]
    fn round_robin_is_exact_whatever_retries_and_threads_do(
        length in 1_u16..8, rounds in 1_u64..6, position in 0..u64::MAX / 2, failures in 0_u32..4, threads in 1_u64..4,
    ) {
        let (now, cursor, backends) = (start(), Cursor::starting_at(position), snapshot(1, 0..length));
        let connections = rounds * u64::from(length) * threads;
        let first_choices: Vec<Backend> = std::thread::scope(|scope| {
            let run = || (0..connections / threads).map(|_| {
                let mut attempts = Attempts::new(now, &limits(4));
                let first = attempts.pick(now, &backends, &cursor, |_| true).unwrap().backend;
                let mut last = first.clone();
                for _ in 0..failures {
                    attempts.on_failed(last.clone());
                    let Some(next) = attempts.pick(now, &backends, &cursor, |_| true) else { break };
                    last = next.backend;
                }
                first
            }).collect::<Vec<_>>();
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
            workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
        });
        let mut counts = BTreeMap::new();
        for backend in first_choices {
            *counts.entry(backend.instance).or_insert(0_u64) += 1;
        }
        prop_assert_eq!(counts.len(), usize::from(length));
        prop_assert!(counts.values().all(|count| *count == rounds * threads), "{:?}", counts);
    }
}
