//! Configures how the C library keeps freed memory. Called by the app before any thread is started.

/// Number of arenas that threads share, including the main one. By default glibc creates one for almost every
/// thread of a connection, up to eight times the number of cores, and each keeps its peak size; verbs allocate
/// too little to contend for them.
#[cfg(target_env = "gnu")]
const ARENAS: i32 = 2;

/// Size in bytes from which an allocation is a separate mapping that returns to the system when freed: for
/// example a ledger during compaction, or the listing of a full host. By default glibc raises this threshold to
/// the largest mapping it has freed, and from then on keeps as much.
#[cfg(target_env = "gnu")]
const MAPPED: i32 = 128 << 10;

/// Caps glibc arenas; no-op on other libcs.
pub fn limit_arenas() {
    #[cfg(target_env = "gnu")]
    for (what, value) in [(libc::M_ARENA_MAX, ARENAS), (libc::M_MMAP_THRESHOLD, MAPPED)] {
        // SAFETY: sets a number within the C library; no pointer is passed, and no other thread
        // runs yet.
        let taken = unsafe { libc::mallopt(what, value) } == 1;
        if !taken {
            tracing::debug!(what, value, "mallopt refused; allocator defaults stay");
        }
    }
}
