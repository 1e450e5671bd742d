//! Numbers that depend on nothing but the seed: the same row in every process, computed without the rows before it.
//! Good enough for made-up data; not for secrets.

/// A splitmix64 generator (Steele, Lea and Flood, 2014): eight bytes of state, no dependency.
#[derive(Debug)]
pub(super) struct Random(u64);

/// The odd number closest to 2⁶⁴ divided by the golden ratio: consecutive states land far apart.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

impl Random {
    /// The generator of row `index` in the series `series`; neighbours have nothing in common.
    pub(super) fn new(seed: u64, series: u64, index: u64) -> Self {
        Self(mix(mix(mix(seed) ^ series) ^ index))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        scramble(self.0)
    }

    /// A number in `0..end`; 0 where `end` is 0. Its bias is far below what made-up data could show.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        let wide = u128::from(self.next()) * u128::from(end);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// True in one of `n` cases.
    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of the choices, of which there must be at least one.
    pub(super) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// A well spread number from any number.
pub(super) fn mix(value: u64) -> u64 {
    scramble(value.wrapping_add(STEP))
}

fn scramble(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
