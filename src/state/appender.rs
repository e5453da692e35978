//! Appends lines to the ledger: a line is written completely or not at all.

use std::fs::File;
use std::io::{self, ErrorKind, Write};

/// The file operations of an append. A trait, so that tests can make each of them fail.
pub(super) trait Sink {
    /// One `write(2)` at the end; may be short.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// `fdatasync(2)`.
    fn sync(&mut self) -> io::Result<()>;
    /// `ftruncate(2)` to `len` bytes.
    fn cut(&mut self, len: u64) -> io::Result<()>;
}

impl Sink for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(self, bytes)
    }
    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }
}

/// Why a line was not written.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The write or the sync failed; nothing of the line counts.
    Write(io::Error),
    /// Part of an earlier line is still there and cannot be truncated.
    Ragged(io::Error),
}

/// The end of the ledger. Invariant: the first `good` bytes are complete lines, and nothing follows them unless
/// `ragged`.
#[derive(Debug)]
pub(super) struct Appender<S> {
    sink: S,
    good: u64,
    ragged: bool,
}

impl<S: Sink> Appender<S> {
    /// `sink` is open for appending and contains `good` bytes of complete lines.
    pub fn new(sink: S, good: u64) -> Self {
        Self { sink, good, ragged: false }
    }

    /// The number of bytes in complete lines.
    pub fn good(&self) -> u64 {
        self.good
    }

    /// Appends `line` with one write, and syncs it if `sync`. After a failure the file is truncated to its
    /// earlier length; if even that fails, every later append first tries again, so that a line is never written
    /// after an incomplete one.
    pub fn append(&mut self, line: &[u8], sync: bool) -> Result<(), Refusal> {
        if self.ragged {
            self.sink.cut(self.good).map_err(Refusal::Ragged)?;
            self.ragged = false;
        }
        let wrote = self.write(line).and_then(|()| if sync { self.sink.sync() } else { Ok(()) });
        match wrote {
            Ok(()) => {
                self.good += line.len() as u64;
                Ok(())
            }
            Err(error) => {
                self.ragged = self.sink.cut(self.good).is_err();
                Err(Refusal::Write(error))
            }
        }
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let wrote = loop {
            match self.sink.write(line) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        if wrote == line.len() {
            return Ok(());
        }
        // When space runs out, the kernel shortens a write and reports the reason only for the next one.
        let what = format!("only {wrote} of {} bytes were written", line.len());
        Err(io::Error::new(ErrorKind::WriteZero, what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Breakable {
        bytes: Vec<u8>,
        short: bool,
        no_sync: bool,
        no_cut: bool,
        interrupts: u32,
    }

    impl Sink for Breakable {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.interrupts > 0 {
                self.interrupts -= 1;
                return Err(ErrorKind::Interrupted.into());
            }
            let len = if self.short { bytes.len() / 2 } else { bytes.len() };
            self.bytes.extend_from_slice(&bytes[..len]);
            Ok(len)
        }
        fn sync(&mut self) -> io::Result<()> {
            if self.no_sync { Err(ErrorKind::Other.into()) } else { Ok(()) }
        }
        fn cut(&mut self, len: u64) -> io::Result<()> {
            if self.no_cut {
                return Err(ErrorKind::Other.into());
            }
            self.bytes.truncate(len as usize);
            Ok(())
        }
    }

    #[test]
    fn a_failure_leaves_the_end_where_it_was() {
        let mut tail = Appender::new(Breakable::default(), 0);
        tail.append(b"one\n", false).unwrap();
        tail.sink.short = true;
        let Err(Refusal::Write(error)) = tail.append(b"two\n", false) else { panic!() };
        assert_eq!(error.to_string(), "only 2 of 4 bytes were written");
        assert_eq!(tail.sink.bytes, b"one\n");
        tail.sink = Breakable { bytes: std::mem::take(&mut tail.sink.bytes), no_sync: true, ..Breakable::default() };
        assert!(matches!(tail.append(b"three\n", true), Err(Refusal::Write(_))));
        assert_eq!((tail.sink.bytes.as_slice(), tail.good()), (b"one\n".as_slice(), 4));
        tail.sink.interrupts = 2;
        tail.append(b"four\n", false).unwrap();
        assert_eq!((tail.sink.bytes.as_slice(), tail.good()), (b"one\nfour\n".as_slice(), 9));
    }

    #[test]
    fn nothing_follows_half_a_line() {
        let mut tail = Appender::new(Breakable { short: true, no_cut: true, ..Breakable::default() }, 0);
        assert!(matches!(tail.append(b"one\n", false), Err(Refusal::Write(_))));
        tail.sink.short = false;
        for _ in 0..2 {
            assert!(matches!(tail.append(b"two\n", false), Err(Refusal::Ragged(_))));
            assert_eq!(tail.sink.bytes, b"on");
        }
        tail.sink.no_cut = false;
        tail.append(b"three\n", false).unwrap();
        assert_eq!(tail.sink.bytes, b"three\n");
    }
}
