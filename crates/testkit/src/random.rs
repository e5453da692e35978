//! Repeatable random numbers: xorshift from a seed that is printed.

/// A source of numbers.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// From `CRASH_SEED` if that is set, mixed with the number of the stream.
    pub fn new(stream: u64) -> Self {
        let seed = std::env::var("CRASH_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0x9e37_79b9_7f4a_7c15);
        let mut random = Self((seed ^ stream.wrapping_mul(0x2545_f491_4f6c_dd1d)) | 1);
        for _ in 0..8 {
            random.below(2);
        }
        random
    }

    /// A number from 0 to `limit` - 1.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}
