//! Owns how the C library keeps memory that was freed. Called by the app, before any thread is
//! started.

/// Heaps that threads share, the first one included. Left alone the C library makes one for nearly
/// each of the threads that connections have, eight times as many as there are cores, and each
/// keeps what it once had; what verbs allocate is far too little for them to wait for each other.
#[cfg(target_env = "gnu")]
const HEAPS: i32 = 2;

/// Bytes from which memory is a mapping of its own and goes back to the system when it is freed: a
/// ledger while it is rewritten, the listing of a full host. Left alone the C library raises this to
/// the largest such piece that it has seen, and keeps as much from then on.
#[cfg(target_env = "gnu")]
const MAPPED: i32 = 128 << 10;

/// Keeps little. A C library that does not know a word of this does as it always did.
pub fn keep_little() {
    #[cfg(target_env = "gnu")]
    for (what, value) in [(libc::M_ARENA_MAX, HEAPS), (libc::M_MMAP_THRESHOLD, MAPPED)] {
        // SAFETY: sets a number within the C library; no pointer is passed, and no other thread
        // runs yet.
        let taken = unsafe { libc::mallopt(what, value) } == 1;
        if !taken {
            tracing::debug!(what, value, "the C library keeps memory as it likes");
        }
    }
}
