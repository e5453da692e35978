//! The options of a node.

use super::{node::Node, segment::Segment};

/// The options of a node. The engine is that of the suite in `PONTOON_ENGINE`, by default of this distribution.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub(super) args: Vec<String>,
    pub(super) flags: Vec<String>,
}

impl Options {
    /// Default options.
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

    /// Mounts a directory of this machine in the node, as DIR or as DIR:PATH.
    pub fn bind(self, dir: &str) -> Self {
        self.arg("--bind").arg(dir)
    }

    /// A host with additional programs: well-known servers and their clients, firewalld and ufw.
    pub fn full(self) -> Self {
        self.arg("--full")
    }

    /// Enables IP forwarding before the engine starts.
    pub fn forwarding(self) -> Self {
        self.arg("--forwarding")
    }

    /// A host for the same segment without engine, otherwise with the same programs.
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

    /// Creates the node and waits until its engine answers.
    #[track_caller]
    pub fn up(self) -> Node {
        Node::with(&self)
    }

    fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }
}
