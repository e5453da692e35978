//! `LinuxKernel` on the real kernel: every test in a network namespace of its own, as root. A test
//! that cannot have one fails.

#[path = "../netns_support/mod.rs"]
mod netns_support;

mod fastpath;
mod firewall;
mod golden;
mod links;
mod measure;
mod multicast;
mod overlay;
mod parsers;
mod paths;
mod publish;
mod reaper;
mod reserve;
mod services;
mod spoof;
mod topology;
mod watch;
mod words;
