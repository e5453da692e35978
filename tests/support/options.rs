//! Options: how a node is made.

use super::{node::Node, segment::Segment};

/// How a node is made. The engine is that of the suite in `PONTOON_ENGINE`, or else this distribution's.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub(super) args: Vec<String>,
    pub(super) flags: Vec<String>,
}

impl Options {
    pub fn new() -> Self {
        Self::default()
    }

    /// The engine of this suite: bookworm, trixie or forky.
    pub fn suite(self, suite: &str) -> Self {
        self.arg("--suite").arg(suite)
    }

    /// An uplink: 192.168.77.N and fd77::N on the segment.
    pub fn uplink(self, segment: &Segment, n: u8) -> Self {
        self.arg("--switch").arg(segment.name()).arg("--address").arg(&n.to_string())
    }

    /// Shows a directory of this machine in the node, as DIR or as DIR:PATH.
    pub fn bind(self, dir: &str) -> Self {
        self.arg("--bind").arg(dir)
    }

    /// A host that has more than its engine: well-known servers and their clients, firewalld and ufw.
    pub fn full(self) -> Self {
        self.arg("--full")
    }

    /// IP forwarding is on before the engine starts.
    pub fn forwarding(self) -> Self {
        self.arg("--forwarding")
    }

    /// A host for the same segment with no engine, as full as this one.
    pub fn beside(&self) -> Self {
        let full = self.args.iter().any(|arg| arg == "--full");
        if full { Self::new().full().bare() } else { Self::new().bare() }
    }

    /// No engine: a bare host.
    pub fn bare(self) -> Self {
        self.arg("--no-dockerd")
    }

    /// A flag for dockerd.
    pub fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }

    #[track_caller]
    pub fn up(self) -> Node {
        Node::with(&self)
    }

    fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }
}
