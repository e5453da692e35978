//! What a terminal needs in addition to the text of a command: output in place, and the end of a wait when it closes.

use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::output;

/// Whether standard output is a terminal that can draw in place.
pub fn draws() -> bool {
    io::stdout().is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb" && !term.is_empty())
}

/// Prints a text in place of what the screen shows. What does not fit is cut off, and said to be.
pub fn redraw(text: &str) {
    output::print(&frame(text, size()));
}

/// Control sequences (ECMA-48) that write over the screen: the cursor to its beginning, each line with the rest of its row
/// erased, and the rest of the screen erased.
fn frame(text: &str, size: Option<(usize, usize)>) -> String {
    let (rows, columns) = size.unwrap_or((usize::MAX, usize::MAX));
    let lines: Vec<&str> = text.lines().collect();
    // The last row stays empty: a line break there would scroll.
    let fit = if lines.len() < rows { lines.len() } else { rows.saturating_sub(2) };
    let mut frame = "\x1b[H".to_owned();
    let mut add = |line: &str| {
        frame.push_str(cut(line, columns));
        // A line that was cut in its colour.
        frame.push_str("\x1b[0m\x1b[K\n");
    };
    lines.iter().take(fit).for_each(|line| add(line));
    if fit < lines.len() {
        add(&format!("... {} more lines", lines.len() - fit));
    }
    frame.push_str("\x1b[J");
    frame
}

/// The beginning of a line that fits into a number of columns. Colours take none.
fn cut(line: &str, columns: usize) -> &str {
    let (mut used, mut colour) = (0, false);
    for (at, c) in line.char_indices() {
        match (colour, c) {
            (false, '\x1b') => colour = true,
            (true, c) => colour = c != 'm',
            (false, _) if used == columns => return line.get(..at).unwrap_or(line),
            (false, _) => used += 1,
        }
    }
    line
}

/// Rows and columns of the terminal, if it tells.
fn size() -> Option<(usize, usize)> {
    let mut size = nix::libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the descriptor is open, and TIOCGWINSZ writes one winsize, to which the pointer leads.
    let told = unsafe { nix::libc::ioctl(io::stdout().as_raw_fd(), nix::libc::TIOCGWINSZ, &raw mut size) };
    (told == 0 && size.ws_row > 0 && size.ws_col > 0).then(|| (size.ws_row.into(), size.ws_col.into()))
}

/// Waits. Ends early, with `false`, when nothing reads standard output any more.
pub fn wait(pause: Duration) -> bool {
    let end = Instant::now() + pause;
    loop {
        let rest = end.saturating_duration_since(Instant::now());
        if rest.is_zero() || output::is_closed() {
            return !output::is_closed();
        }
        let stdout = io::stdout();
        let mut polled = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
        // Rounded up, so that it does not return just before the end again and again.
        let timeout = PollTimeout::try_from(rest + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        match poll(&mut polled, timeout) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return false,
            Err(_) => std::thread::sleep(rest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_fits_into_the_screen() {
        let text = "NAME  STATE\none   up\ntwo   down\n";
        assert_eq!(frame(text, None).matches('\n').count(), 3);
        assert_eq!(frame(text, Some((4, 80))).matches('\n').count(), 3, "the last row stays empty");
        let small = frame(text, Some((3, 6)));
        assert!(small.starts_with("\x1b[HNAME  \x1b[0m\x1b[K\n... 2 \x1b[0m\x1b[K\n"), "{small:?}");
        assert!(small.ends_with("\x1b[J"), "{small:?}");
    }

    #[test]
    fn colours_take_no_columns() {
        assert_eq!(cut("\x1b[31mbroken\x1b[0m now", 6), "\x1b[31mbroken\x1b[0m");
        assert_eq!((cut("äöü", 2), cut("ab", 2), cut("ab", 0)), ("äö", "ab", ""));
    }
}
