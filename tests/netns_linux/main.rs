//! `LinuxKernel` on the real kernel: every test in a network namespace of its own, as root. A test
//! that cannot have one fails.

#[path = "../netns_support/mod.rs"]
mod netns_support;

mod firewall;
mod golden;
mod links;
mod measure;
mod multicast;
mod overlay;
mod parsers;
mod publish;
mod reaper;
mod reserve;
mod services;
mod shortcut;
mod spoof;
mod town;
mod watch;
mod ways;
mod words;
