//! Owns the settings under `/proc/sys/net` that a datapath needs: forwarding, and IPv6 on a
//! bridge (Documentation/networking/ip-sysctl.rst).
//!
//! Never writes what already has the wanted value, so a read-only `/proc/sys` with the right
//! values is enough. The files belong to the network namespace of the calling thread. Called by
//! `LinuxKernel` and by `observe`.

use std::io;
use std::path::PathBuf;

use super::netlink::Failure;
use crate::model::IfName;

/// The tree of settings.
#[derive(Debug, Clone)]
pub struct Sysctls {
    root: PathBuf,
}

impl Sysctls {
    /// `root` is where `net` is: `/proc/sys/net`, or the host's at another path.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Whether packets of the family are forwarded; false when the kernel has no such family.
    pub fn forwarding(&self, v6: bool) -> bool {
        self.read(forwarding(v6)).is_ok_and(|value| value != "0")
    }

    /// Turns forwarding on.
    ///
    /// # Errors
    /// A refusal that names the setting, when the file cannot be written.
    pub fn forward(&self, v6: bool) -> Result<(), Failure> {
        if self.forwarding(v6) {
            return Ok(());
        }
        self.write(forwarding(v6), "1")
    }

    /// Whether IPv6 is on for this link.
    pub fn ipv6(&self, link: &IfName) -> bool {
        self.read(&of_link(link, "disable_ipv6")).is_ok_and(|value| value == "0")
    }

    /// Turns IPv6 on for a link: addresses of its own, but none learnt from routers.
    ///
    /// # Errors
    /// A refusal that names the setting: the link is gone, or IPv6 is off in this kernel, or the
    /// file cannot be written.
    pub fn enable_ipv6(&self, link: &IfName) -> Result<(), Failure> {
        self.ensure(&of_link(link, "accept_ra"), "0")?;
        self.ensure(&of_link(link, "disable_ipv6"), "0")
    }

    /// Turns IPv6 off for a link. Nothing relies on it, so a failure is only logged.
    pub fn disable_ipv6(&self, link: &IfName) {
        if let Err(failure) = self.ensure(&of_link(link, "disable_ipv6"), "1") {
            tracing::debug!(%link, ?failure, "IPv6 stays on for a bridge that does not need it");
        }
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
                    format!("{shown} cannot be written here, set it to {value} on the host")
                }
                Some(libc::ENOENT) => format!("{shown} does not exist"),
                _ => format!("writing {value} to {shown}"),
            };
            Failure::refused(error.raw_os_error().unwrap_or(libc::EIO), &words)
        })
    }
}

fn forwarding(v6: bool) -> &'static str {
    if v6 { "ipv6/conf/all/forwarding" } else { "ipv4/ip_forward" }
}

fn of_link(link: &IfName, setting: &str) -> String {
    format!("ipv6/conf/{link}/{setting}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_only_what_differs_and_says_what_failed() {
        let root = std::env::temp_dir().join(format!("pontoon-sysctl-{}", std::process::id()));
        std::fs::create_dir_all(root.join("ipv4")).unwrap();
        std::fs::write(root.join("ipv4/ip_forward"), "0\n").unwrap();
        let sysctls = Sysctls::new(root.clone());
        assert!(!sysctls.forwarding(false) && !sysctls.forwarding(true));
        sysctls.forward(false).unwrap();
        assert!(sysctls.forwarding(false));
        let Failure::Refused(verdict) = sysctls.forward(true).unwrap_err() else { panic!("a refusal") };
        assert_eq!(verdict.errno, libc::ENOENT);
        assert!(verdict.message.contains("ipv6/conf/all/forwarding"), "{}", verdict.message);
        std::fs::remove_dir_all(root).unwrap();
    }
}
