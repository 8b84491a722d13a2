//! Small reproducible randomness.

/// SplitMix64.
pub(crate) struct Random(u64);

impl Random {
    /// The same numbers for the same seed.
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// A seed for a fixed trial: of the run's base (`VOLRESCUE_SEED`, or a constant) and the trial's name.
    pub(crate) fn seed_of(name: &str) -> u64 {
        let base =
            std::env::var("VOLRESCUE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(2026_1122);
        name.bytes().fold(base, |seed, byte| Self(seed ^ u64::from(byte)).next())
    }

    /// A seed that nobody has tried.
    pub(crate) fn fresh_seed() -> u64 {
        let nanoseconds = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos() as u64);
        Self(nanoseconds ^ u64::from(std::process::id()) << 40).next()
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// `count` different numbers below `bound`, in the order drawn.
    pub(crate) fn some_of(&mut self, count: usize, bound: usize) -> Vec<usize> {
        let mut drawn = Vec::new();
        while drawn.len() < count.min(bound) {
            let number = self.below(bound);
            if !drawn.contains(&number) {
                drawn.push(number);
            }
        }
        drawn
    }
}

/// A count from the environment.
pub(crate) fn count(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|count| count.parse().ok()).unwrap_or(default)
}
