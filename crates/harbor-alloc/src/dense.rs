//! The free ports as a dense list with positions: any of them is drawn, entered or removed in constant time.
//! Used by the allocator only; decides nothing.

use harbor_types::{Port, PortRanges};

/// Position of a port that is not in the list. No list is that long: there are 65,535 ports, at positions 0 to 65,534.
const NOWHERE: u16 = u16::MAX;

#[derive(Clone, Debug)]
pub(crate) struct FreeList {
    ports: Vec<Port>,
    /// By port number, counted from `lowest`.
    positions: Vec<u16>,
    lowest: u16,
}

impl FreeList {
    /// The list of all `ports`, the only ones that it can ever hold.
    pub(crate) fn of(ports: &PortRanges) -> Self {
        let lowest = ports.iter().next().map_or(0, Port::get);
        let span = ports.iter().last().map_or(0, |highest| usize::from(highest.get() - lowest) + 1);
        let mut list = Self { ports: Vec::new(), positions: vec![NOWHERE; span], lowest };
        ports.iter().for_each(|port| list.insert(port));
        list
    }

    pub(crate) fn len(&self) -> usize {
        self.ports.len()
    }

    pub(crate) fn nth(&self, position: usize) -> Option<Port> {
        self.ports.get(position).copied()
    }

    pub(crate) fn contains(&self, port: Port) -> bool {
        self.position(port).is_some()
    }

    pub(crate) fn insert(&mut self, port: Port) {
        if !self.contains(port) {
            self.place(port, self.ports.len());
            self.ports.push(port);
        }
    }

    /// Whether it was in the list.
    pub(crate) fn remove(&mut self, port: Port) -> bool {
        let Some(position) = self.position(port) else { return false };
        self.ports.swap_remove(position);
        if let Some(moved) = self.nth(position) {
            self.place(moved, position);
        }
        if let Some(slot) = self.slot(port).and_then(|slot| self.positions.get_mut(slot)) {
            *slot = NOWHERE;
        }
        true
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        let lost = self.ports.iter().enumerate().find(|(position, port)| self.position(**port) != Some(*position));
        if let Some((position, port)) = lost {
            return Err(format!("free port {port} is not where it should be, at {position}"));
        }
        let placed = self.positions.iter().filter(|position| **position != NOWHERE).count();
        if placed == self.ports.len() { Ok(()) } else { Err(format!("{placed} positions for {} ports", self.len())) }
    }

    fn position(&self, port: Port) -> Option<usize> {
        let at = self.positions.get(self.slot(port)?)?;
        (*at != NOWHERE).then_some(usize::from(*at))
    }

    fn place(&mut self, port: Port, position: usize) {
        let slot = self.slot(port).and_then(|slot| self.positions.get_mut(slot));
        if let (Some(slot), Ok(position)) = (slot, u16::try_from(position)) {
            *slot = position;
        }
    }

    fn slot(&self, port: Port) -> Option<usize> {
        port.get().checked_sub(self.lowest).map(usize::from)
    }
}
