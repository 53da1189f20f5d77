//! Port numbers for one test alone, where the kernel's own choice (port 0) does not fit: ranges for allocators, and numbers
//! that a child process will bind.

use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

/// Numbers in a block, its guard included.
const BLOCK: u16 = 64;
/// Below Linux's ephemeral range. Tests that want very many ports take them below this region, on an address of their own
/// ([`own_loopback`]), where no wildcard socket of another test can meet them.
const REGION: Range<u16> = 20_032..32_640;
/// Guards are bound here, so that they never stand in the way of what is tested.
const GUARD: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 1);

/// A block of numbers that no other test has, in this process or another, for as long as it lives.
#[derive(Debug)]
pub struct PortBlock {
    first: u16,
    _guard: UdpSocket,
}

impl PortBlock {
    /// Takes a block in which nobody holds a port.
    ///
    /// # Panics
    /// When all blocks are taken.
    #[must_use]
    #[expect(clippy::panic, reason = "a rig that cannot be set up fails its test")]
    pub fn reserve() -> Self {
        static START: AtomicU32 = AtomicU32::new(0);
        let blocks = (REGION.end - REGION.start) / BLOCK;
        // Processes start at different places, so that they seldom try the same block.
        let start = START.fetch_add(1, Ordering::Relaxed).wrapping_add(std::process::id().wrapping_mul(7_919));
        for step in 0..u32::from(blocks) {
            let block = u16::try_from(start.wrapping_add(step) % u32::from(blocks)).unwrap_or(0);
            let guard = REGION.start + block * BLOCK;
            let Ok(socket) = UdpSocket::bind((GUARD, guard)) else { continue };
            let block = Self { first: guard + 1, _guard: socket };
            if block.iter().all(is_free) {
                return block;
            }
        }
        panic!("no block of {BLOCK} free ports is left in {REGION:?}")
    }

    /// The lowest number.
    #[must_use]
    pub fn first(&self) -> u16 {
        self.first
    }

    /// All numbers, lowest first: 63 of them.
    pub fn iter(&self) -> impl Iterator<Item = u16> + use<> {
        self.first..self.first + (BLOCK - 1)
    }

    /// `FIRST-LAST` of the `count` lowest numbers from `skip` on.
    ///
    /// # Panics
    /// When the block is smaller.
    #[must_use]
    pub fn range(&self, skip: u16, count: u16) -> String {
        assert!(count > 0 && skip + count < BLOCK, "a block has {} ports", BLOCK - 1);
        format!("{}-{}", self.first + skip, self.first + skip + count - 1)
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() && UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
}

/// A loopback address that no other test has: every port of it is free, whatever others do.
///
/// Linux only: the whole of 127.0.0.0/8 is loopback there.
#[must_use]
pub fn own_loopback() -> IpAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let process = std::process::id().to_be_bytes();
    let next = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    // 127.128–255.y.z: fifteen bits of the process's number, eight of the count.
    IpAddr::V4(Ipv4Addr::new(127, 0x80 | process[2], process[3], next[3].wrapping_add(1).max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_do_not_overlap() {
        let blocks: Vec<_> = (0..4).map(|_| PortBlock::reserve()).collect();
        let mut numbers: Vec<_> = blocks.iter().flat_map(PortBlock::iter).collect();
        let all = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), all);
        assert_ne!(own_loopback(), own_loopback());
    }
}
