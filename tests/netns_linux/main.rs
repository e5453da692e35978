//! `LinuxKernel` on the real kernel: each test runs in its own network namespace, as root. Without one, the test fails.

mod access;
mod audit;
mod commands;
mod conflicts;
mod dhcp;
mod explain;
mod fastpath;
mod firewall;
mod golden;
mod limits;
mod links;
mod measure;
mod multicast;
mod names;
mod neighbours;
mod opposition;
mod overlay;
mod parsers;
mod paths;
mod publish;
mod reaper;
mod reserve;
mod services;
mod spoof;
mod watch;
