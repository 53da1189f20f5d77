//! A small seeded sequence of numbers (SplitMix64): spreads choices, protects nothing, replays from its seed.

/// Numbers that follow from a seed. Good enough to spread choices; never for secrets.
///
/// # Source
/// Steele, Lea, Flood: "Fast splittable pseudorandom number generators" (2014).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Seeded {
    state: u64,
}

impl Seeded {
    /// The sequence of `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 when `bound` is 0. The bias is below `bound` / 2^64.
    pub fn below(&mut self, bound: usize) -> usize {
        let wide = u128::from(self.next_u64()) * u128::try_from(bound).unwrap_or_default();
        usize::try_from(wide >> 64).unwrap_or_default()
    }
}
