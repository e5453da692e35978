//! The confinement of the daemon, seen from outside and from inside: the privileges of a running daemon's threads, and
//! the refusals that a confined process gets. Needs root.

mod attempts;
mod engine;
mod operators;
mod process;
mod shell;
mod watch;
