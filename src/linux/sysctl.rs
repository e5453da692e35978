//! The settings under `/proc/sys/net` that a datapath needs: forwarding, IPv6 and 127.0.0.0/8 on a bridge,
//! the host's ports (Documentation/networking/ip-sysctl.rst).
//!
//! Never writes a setting that already has the desired value, so a read-only `/proc/sys` with the right
//! values is sufficient. The files belong to the network namespace of the calling thread. Called by
//! `LinuxKernel` and by `observe`.

use std::io;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::netlink::Failure;
use crate::model::Family;
use crate::model::IfName;

/// The value that Pontoon writes to turn forwarding on. The kernel treats every value except zero as on, and
/// every other program that turns it on writes 1, whether the value is 0 or this one before, because Docker
/// and others check for 1. Therefore this value means that no program but Pontoon has turned it on since the
/// host was booted, and nothing else has to be persisted.
pub const FORWARDED_BY_PONTOON: u32 = 706;

/// The tree of settings.
#[derive(Debug, Clone)]
pub struct Sysctls {
    root: PathBuf,
}

impl Sysctls {
    /// `root` is the directory of `net`: `/proc/sys/net`, or the host's at another path.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Whether packets of the family are forwarded; false when the kernel does not support the family.
    pub fn forwarding(&self, family: Family) -> bool {
        self.read(forwarding(family)).is_ok_and(|value| value != "0")
    }

    /// Whether Pontoon alone turned forwarding of the family on.
    pub fn forwarded_by_pontoon(&self, family: Family) -> bool {
        self.read(forwarding(family)).is_ok_and(|value| value == FORWARDED_BY_PONTOON.to_string())
    }

    /// Turns forwarding on.
    ///
    /// # Errors
    /// An error that names the setting, when the file cannot be written.
    pub fn forward(&self, family: Family) -> Result<(), Failure> {
        if self.forwarding(family) {
            return Ok(());
        }
        self.write(forwarding(family), &FORWARDED_BY_PONTOON.to_string())
    }

    /// Turns forwarding off again, if Pontoon alone turned it on; true when it did.
    ///
    /// # Errors
    /// An error that names the setting, when the file cannot be written.
    pub fn stop_forwarding(&self, family: Family) -> Result<bool, Failure> {
        let own = self.forwarded_by_pontoon(family);
        if own {
            self.write(forwarding(family), "0")?;
        }
        Ok(own)
    }

    /// Restores the setting that packets from this link are forwarded: writing the setting of all links
    /// overwrote the link's own. Only IPv4 has that.
    ///
    /// # Errors
    /// An error that names the setting: the link is gone, or the file cannot be written.
    pub fn forward_from(&self, link: &IfName) -> Result<(), Failure> {
        self.ensure(&format!("ipv4/conf/{link}/forwarding"), "1")
    }

    /// Whether IPv6 is on for this link.
    pub fn ipv6(&self, link: &IfName) -> bool {
        self.read(&of_link(link, "disable_ipv6")).is_ok_and(|value| value == "0")
    }

    /// Enables IPv6 on a link: addresses of its own, but none learned from forwarding_links.
    ///
    /// # Errors
    /// An error that names the setting: the link is gone, or IPv6 is disabled in this kernel, or the file
    /// cannot be written.
    pub fn enable_ipv6(&self, link: &IfName) -> Result<(), Failure> {
        self.ensure(&of_link(link, "accept_ra"), "0")?;
        self.ensure(&of_link(link, "disable_ipv6"), "0")
    }

    /// Enables IPv6 on a link without any other setting.
    ///
    /// # Errors
    /// As for [`Sysctls::enable_ipv6`].
    pub fn ensure_ipv6(&self, link: &IfName) -> Result<(), Failure> {
        self.ensure(&of_link(link, "disable_ipv6"), "0")
    }

    /// Disables IPv6 on a link. Nothing depends on it, so a failure is only logged.
    pub fn disable_ipv6(&self, link: &IfName) {
        if let Err(failure) = self.ensure(&of_link(link, "disable_ipv6"), "1") {
            tracing::debug!(%link, ?failure, "cannot disable IPv6 on a bridge without IPv6 subnet");
        }
    }

    /// Keeps the IPv6 addresses of a link that is taken down, if it has any: a failure is only logged, because a
    /// repair adds them again.
    pub fn keep_addresses(&self, link: &IfName) {
        if let Err(failure) = self.ensure(&of_link(link, "keep_addr_on_down"), "1") {
            tracing::debug!(%link, ?failure, "cannot keep the IPv6 addresses of a link");
        }
    }

    /// Whether 127.0.0.0/8 is routed to and from this link.
    pub fn localnet(&self, link: &IfName) -> bool {
        self.read(&localnet(link)).is_ok_and(|value| value == "1")
    }

    /// Enables routing of 127.0.0.0/8 to and from a link.
    ///
    /// # Errors
    /// An error that names the setting: the link is gone, or the file cannot be written.
    pub fn route_localnet(&self, link: &IfName) -> Result<(), Failure> {
        self.ensure(&localnet(link), "1")
    }

    /// Whether the kernel can pass frames of bridges to iptables.
    pub fn has_bridge_netfilter(&self) -> bool {
        self.root.join("bridge/bridge-nf-call-iptables").exists()
    }

    /// Whether bridges pass IPv4 frames to iptables; false without br_netfilter.
    pub fn bridges_call_iptables(&self) -> bool {
        self.read("bridge/bridge-nf-call-iptables").is_ok_and(|value| value != "0")
    }

    /// The range of ephemeral ports, and the ports excluded from it.
    pub fn ephemeral_ports(&self) -> Result<(RangeInclusive<u16>, Vec<RangeInclusive<u16>>), Failure> {
        let read = |setting| {
            self.read(setting).map_err(|error| {
                let shown = self.root.join(setting);
                Failure::refused(error.raw_os_error().unwrap_or(libc::EIO), &format!("reading {}", shown.display()))
            })
        };
        let range = parse_range(&read("ipv4/ip_local_port_range")?, char::is_whitespace);
        // A kernel without that setting excludes nothing.
        let reserved = read("ipv4/ip_local_reserved_ports").unwrap_or_default();
        let reserved = reserved.split(',').filter(|part| !part.is_empty()).map(|part| parse_range(part, |c| c == '-'));
        match (range, reserved.collect()) {
            (Some(range), Some(reserved)) => Ok((range, reserved)),
            _ => Err(Failure::Malformed("ip_local_port_range or ip_local_reserved_ports")),
        }
    }

    /// Whether a setting has this value, or this kernel does not have it because it is built or booted without IPv6.
    pub(super) fn is(&self, setting: &str, value: &str) -> bool {
        match self.read(setting) {
            Ok(now) => now == value,
            Err(error) => error.kind() == io::ErrorKind::NotFound && setting.starts_with("ipv6/"),
        }
    }

    /// Sets a setting, unless [`Sysctls::is`].
    ///
    /// # Errors
    /// An error that names the setting: the link is gone, or the file cannot be written.
    pub(super) fn ensure_supported(&self, setting: &str, value: &str) -> Result<(), Failure> {
        if self.is(setting, value) { Ok(()) } else { self.write(setting, value) }
    }

    fn ensure(&self, setting: &str, value: &str) -> Result<(), Failure> {
        if self.read(setting).is_ok_and(|now| now == value) { Ok(()) } else { self.write(setting, value) }
    }

    fn read(&self, setting: &str) -> io::Result<String> {
        Ok(std::fs::read_to_string(self.root.join(setting))?.trim().to_owned())
    }

    fn write(&self, setting: &str, value: &str) -> Result<(), Failure> {
        let path = self.root.join(setting);
        std::fs::write(&path, value).map_err(|error| {
            let shown = path.display();
            let words = match error.raw_os_error() {
                Some(libc::EROFS | libc::EACCES | libc::EPERM) => {
                    // The settings of a link exist only while the link does: they cannot be set beforehand.
                    let of_link = setting.contains("/conf/") && !setting.contains("/conf/all/");
                    let remedy = if of_link {
                        "mount /proc/sys writable for Pontoon, at the path in PONTOON_SYSCTL_ROOT".to_owned()
                    } else {
                        format!("set it on the host: sysctl -w net.{}={value}", setting.replace('/', "."))
                    };
                    format!("{shown} cannot be written here; {remedy}")
                }
                Some(libc::ENOENT) => format!("{shown} does not exist"),
                _ => format!("writing {value} to {shown}"),
            };
            Failure::refused(error.raw_os_error().unwrap_or(libc::EIO), &words)
        })
    }
}

fn forwarding(family: Family) -> &'static str {
    if family.is_v6() { "ipv6/conf/all/forwarding" } else { "ipv4/ip_forward" }
}

fn localnet(link: &IfName) -> String {
    format!("ipv4/conf/{link}/route_localnet")
}

/// Two ports, or one that is both ends of the range.
fn parse_range(text: &str, between: impl Fn(char) -> bool) -> Option<RangeInclusive<u16>> {
    let mut ports = text.split(between).filter(|part| !part.is_empty()).map(|part| part.trim().parse());
    let first: u16 = ports.next()?.ok()?;
    let last = ports.next().unwrap_or(Ok(first)).ok()?;
    (first <= last && ports.next().is_none()).then_some(first..=last)
}

fn of_link(link: &IfName, setting: &str) -> String {
    format!("ipv6/conf/{link}/{setting}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_hosts_ports() {
        let root = std::env::temp_dir().join(format!("pontoon-ports-{}", std::process::id()));
        std::fs::create_dir_all(root.join("ipv4")).unwrap();
        let sysctls = Sysctls::new(root.clone());
        assert_eq!(sysctls.ephemeral_ports().unwrap_err().errno(), Some(libc::ENOENT));
        let write = |setting: &str, text: &str| std::fs::write(root.join("ipv4").join(setting), text).unwrap();
        write("ip_local_port_range", "32768\t60999\n");
        assert_eq!(sysctls.ephemeral_ports().unwrap(), (32768..=60999, vec![]));
        write("ip_local_reserved_ports", "8080,9148-9150\n");
        assert_eq!(sysctls.ephemeral_ports().unwrap().1, [8080..=8080, 9148..=9150]);
        write("ip_local_reserved_ports", "9-8\n");
        assert!(matches!(sysctls.ephemeral_ports(), Err(Failure::Malformed(_))));
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn writes_only_what_differs_and_says_what_failed() {
        let root = std::env::temp_dir().join(format!("pontoon-sysctl-{}", std::process::id()));
        std::fs::create_dir_all(root.join("ipv4")).unwrap();
        std::fs::write(root.join("ipv4/ip_forward"), "0\n").unwrap();
        let sysctls = Sysctls::new(root.clone());
        assert!(!sysctls.forwarding(Family::V4) && !sysctls.forwarding(Family::V6));
        sysctls.forward(Family::V4).unwrap();
        assert!(sysctls.forwarding(Family::V4));
        let Failure::Refused(verdict) = sysctls.forward(Family::V6).unwrap_err() else { panic!("a refusal") };
        assert_eq!(verdict.errno, libc::ENOENT);
        assert!(verdict.message.contains("ipv6/conf/all/forwarding"), "{}", verdict.message);
        std::fs::remove_dir_all(root).unwrap();
    }
}
