//! Published ports, gateway modes and isolation with real engines, verified by packets.
//!
//! Where behaviour should match, a scenario runs on the engine's own bridge driver first, so that a wrong expectation
//! fails there, and then on Pontoon. `PONTOON_ENGINE` selects the engine. Servers and clients are `tool.pl`, run in the
//! containers, in their network namespaces, on the node and on a host outside.

mod allow;
mod broadcast;
mod conflicts;
mod firewalls;
mod forms;
mod intrusion;
mod life;
mod many;
mod matrix;
mod moves;
mod neighbours;
mod probe;
mod sctp;
mod security;
mod servers;
mod several;
mod spoof;
mod topology;
mod udp;
