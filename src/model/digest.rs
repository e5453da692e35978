//! Stable digest that derives names and hardware addresses from an identifier.
//!
//! Invariant: the result never changes between releases, because the ledger and link names contain it;
//! therefore the standard library's hasher (documented as unstable) is not used.

/// A 64-bit digest of `parts`, the same on every machine and in every release.
///
/// FNV-1a over the parts with a separator, then a 64-bit finaliser so that every output bit
/// depends on every input bit. Not a security boundary: collisions are detected by callers.
pub(crate) fn digest<T: AsRef<[u8]>>(parts: impl IntoIterator<Item = T>) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for part in parts {
        for byte in part.as_ref().iter().chain(&[0]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::digest;

    #[test]
    fn is_frozen() {
        // Every installation has these values on disk: changing them is a change of the ledger's format.
        assert_eq!(digest(["a"]), 0x86fc_2d04_0750_2de5);
        assert_eq!(digest(["ab", "c"]), 0xe380_d1d2_5969_8919);
        assert_ne!(digest(["ab", "c"]), digest(["a", "bc"]));
        assert_eq!(digest(["mac", "0123456789ab"]), 0xc900_c335_6dcf_502c);
    }
}
