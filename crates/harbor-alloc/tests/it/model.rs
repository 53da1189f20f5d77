//! Random calls against a map that says what each port is used for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use harbor_alloc::{LeaseError, PortAllocator, PortUse};
use harbor_types::{Port, PortRanges, ServiceId};
use proptest::prelude::*;

/// Two ranges of 12 ports, among 20 numbers.
const FIRST: u16 = 20_000;
const RANGES: &str = "20000-20007,20012-20015";

#[derive(Clone, Debug)]
enum Op {
    Lease(u128),
    LeaseExact(Port, u128),
    Restore(Port, u128),
    Release(Port, u64),
    RestoreRest(Port, u64),
    EndRest(Port),
    Unlease(Port),
    SetAside(Port, u64),
    Pass(u64),
}

fn any_op() -> impl Strategy<Value = Op> {
    let port = || (FIRST..FIRST + 20).prop_map(|number| Port::new(number).unwrap());
    prop_oneof![
        4 => (0..6u128).prop_map(Op::Lease),
        2 => (port(), 0..6u128).prop_map(|(p, h)| Op::LeaseExact(p, h)),
        1 => (port(), 0..6u128).prop_map(|(p, h)| Op::Restore(p, h)),
        3 => (port(), 0..9u64).prop_map(|(p, t)| Op::Release(p, t)),
        1 => (port(), 0..9u64).prop_map(|(p, t)| Op::RestoreRest(p, t)),
        2 => port().prop_map(Op::EndRest),
        1 => port().prop_map(Op::Unlease),
        2 => (port(), 0..9u64).prop_map(|(p, t)| Op::SetAside(p, t)),
        2 => (0..5u64).prop_map(Op::Pass),
    ]
}

struct World {
    real: PortAllocator,
    used: BTreeMap<Port, PortUse>,
    reported: BTreeSet<Port>,
    ranges: PortRanges,
    now: Instant,
}

impl World {
    fn step(&mut self, op: Op) -> Result<(), TestCaseError> {
        let (now, holder) = (self.now, ServiceId::from_u128);
        let after = |seconds| now + Duration::from_secs(seconds);
        match op {
            Op::Lease(h) => match self.real.lease(holder(h)) {
                Ok(port) => {
                    prop_assert!(self.ranges.contains(port));
                    prop_assert_eq!(self.used.insert(port, PortUse::Leased(holder(h))), None);
                }
                Err(error) => {
                    prop_assert_eq!(error, LeaseError::Exhausted(self.real.counts()));
                    prop_assert!(self.ranges.iter().all(|port| self.used.contains_key(&port)));
                }
            },
            Op::LeaseExact(port, h) => {
                let want = match self.used.get(&port) {
                    _ if !self.ranges.contains(port) => Err(LeaseError::Outside(port)),
                    Some(PortUse::Leased(holder)) => Err(LeaseError::Taken { port, holder: *holder }),
                    Some(PortUse::Resting { until }) => Err(LeaseError::Resting { port, until: *until }),
                    Some(PortUse::SetAside { .. }) | None => Ok(()),
                };
                prop_assert_eq!(self.real.lease_exact(port, holder(h)), want);
                if want.is_ok() {
                    self.used.insert(port, PortUse::Leased(holder(h)));
                }
            }
            Op::Restore(port, h) => {
                let theirs = matches!(self.used.get(&port), Some(PortUse::Leased(other)) if *other != holder(h));
                prop_assert_eq!(self.real.restore(port, holder(h)).is_err(), theirs);
                if !theirs {
                    self.used.insert(port, PortUse::Leased(holder(h)));
                }
            }
            Op::Release(port, seconds) => {
                let leased = matches!(self.used.get(&port), Some(PortUse::Leased(_)));
                prop_assert_eq!(self.real.release(port, after(seconds)), leased);
                if leased {
                    self.rest(port, after(seconds));
                }
            }
            Op::RestoreRest(port, seconds) => {
                self.real.restore_rest(port, after(seconds));
                self.rest(port, after(seconds));
            }
            Op::EndRest(port) => {
                let resting = matches!(self.used.get(&port), Some(PortUse::Resting { .. }));
                prop_assert_eq!(self.real.end_rest(port), resting);
                if resting {
                    self.used.remove(&port);
                }
            }
            Op::Unlease(port) => {
                let leased = matches!(self.used.get(&port), Some(PortUse::Leased(_)));
                prop_assert_eq!(self.real.unlease(port), leased);
                if leased {
                    self.used.remove(&port);
                }
            }
            Op::SetAside(port, seconds) => {
                self.real.set_aside(port, after(seconds));
                if !matches!(self.used.get(&port), Some(PortUse::Resting { .. })) {
                    self.used.insert(port, PortUse::SetAside { until: after(seconds) });
                }
            }
            Op::Pass(seconds) => self.pass(seconds)?,
        }
        prop_assert!(self.real.used().eq(self.used.iter().map(|(port, what)| (*port, *what))));
        prop_assert_eq!(self.real.check_invariants(), Ok(()));
        Ok(())
    }

    fn rest(&mut self, port: Port, until: Instant) {
        self.used.insert(port, PortUse::Resting { until });
        self.reported.remove(&port);
    }

    fn pass(&mut self, seconds: u64) -> Result<(), TestCaseError> {
        self.now += Duration::from_secs(seconds);
        let now = self.now;
        let mut rested = self.real.on_deadline(now);
        rested.sort();
        self.used.retain(|_, what| !matches!(what, PortUse::SetAside { until } if *until <= now));
        let due = |(port, what): (&Port, &PortUse)| match what {
            PortUse::Resting { until } if *until <= now && !self.reported.contains(port) => Some(*port),
            _ => None,
        };
        let want = self.used.iter().filter_map(due).collect::<Vec<_>>();
        prop_assert_eq!(&rested, &want, "each rest that is over is reported once");
        self.reported.extend(rested);
        prop_assert!(self.real.next_deadline().is_none_or(|at| at > now));
        Ok(())
    }
}

proptest! {
    #[test]
    fn allocator_agrees_with_a_map(ops in proptest::collection::vec(any_op(), 1..150), seed in any::<u64>()) {
        #[expect(clippy::disallowed_methods, reason = "tests need some moment to count from")]
        let now = Instant::now();
        let ranges: PortRanges = RANGES.parse().unwrap();
        let real = PortAllocator::new(ranges.clone(), seed);
        let mut world = World { real, used: BTreeMap::new(), reported: BTreeSet::new(), ranges, now };
        for op in ops {
            world.step(op)?;
        }
    }
}
