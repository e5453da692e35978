//! The command `pontoon uninstall`: lists what Pontoon left in this network namespace, and removes it if no
//! daemon runs and only containers are attached that the operator named.

use std::collections::BTreeSet;

use serde_json::json;

use super::AppError;
use crate::cli::Uninstall;
use crate::datapath::KernelError;
use crate::linux;
use crate::linux::singleton::{Singleton, SingletonError};
use crate::linux::uninstall::{Remains, Uninstaller};
use crate::output;

/// Why nothing is removed.
#[derive(Debug, thiserror::Error)]
pub enum UninstallError {
    /// An error of the kernel.
    #[error(transparent)]
    App(#[from] AppError),
    /// A running daemon would create all of it again.
    #[error(
        "removed nothing: Pontoon is running in this network namespace; stop it first (docker plugin disable, or systemctl stop pontoon)"
    )]
    Served,
    /// Containers would lose their network.
    #[error("removed nothing: containers are attached to {}, or may be if it is a VLAN link; stop them, or disconnect them with --yes{}", .0.join(", "), cut(.0))]
    Attached(Vec<String>),
}

fn cut(links: &[String]) -> String {
    links.iter().map(|link| format!(" --cut {link}")).collect()
}

impl From<KernelError> for UninstallError {
    fn from(error: KernelError) -> Self {
        UninstallError::App(error.into())
    }
}

/// `pontoon uninstall`.
///
/// # Errors
/// See [`UninstallError`].
pub fn run(options: &Uninstall) -> Result<(), UninstallError> {
    let mut uninstaller = Uninstaller::open(linux::Options::default().sysctl_root)?;
    if !options.yes {
        show(&uninstaller.look()?, options.json);
        return Ok(());
    }
    let _alone = match Singleton::acquire() {
        Err(SingletonError::Taken) => return Err(UninstallError::Served),
        claim => claim.map_err(AppError::from)?,
    };
    let remains = uninstaller.look()?;
    let named: BTreeSet<&String> = options.cut.iter().collect();
    let attached: Vec<String> = remains.attached.iter().filter(|link| !named.contains(link)).cloned().collect();
    if !attached.is_empty() {
        return Err(UninstallError::Attached(attached));
    }
    uninstaller.remove()?;
    if options.json {
        output::line(&words(&remains));
    } else {
        let Remains { links, tables, rules, .. } = remains;
        output::line(&format!(
            "removed {} links, {} tables of nftables, {rules} rules of iptables' FORWARD chains",
            links.len(),
            tables.len()
        ));
    }
    Ok(())
}

fn show(remains: &Remains, as_json: bool) {
    if as_json {
        return output::line(&words(remains));
    }
    for link in &remains.links {
        let attached = if remains.attached.contains(link) { "   # a container is attached" } else { "" };
        output::line(&format!("link {link}{attached}"));
    }
    for family in &remains.tables {
        output::line(&format!("table {} pontoon", family_name(*family)));
    }
    if remains.rules > 0 {
        output::line(&format!("{} accepting rules in FORWARD of ip filter and ip6 filter", remains.rules));
    }
    let next =
        if remains.is_empty() { "# Pontoon left nothing here" } else { "# remove it with: pontoon uninstall --yes" };
    output::line(&next);
}

fn words(remains: &Remains) -> serde_json::Value {
    let tables: Vec<String> = remains.tables.iter().map(|family| family_name(*family)).collect();
    json!({"links": remains.links, "attached": remains.attached, "tables": tables, "rules": remains.rules})
}

/// The name that `nft` uses (include/uapi/linux/netfilter.h).
fn family_name(family: u8) -> String {
    let names = [(1, "inet"), (2, "ip"), (3, "arp"), (5, "netdev"), (7, "bridge"), (10, "ip6")];
    names
        .iter()
        .find(|(number, _)| *number == family)
        .map_or_else(|| family.to_string(), |(_, name)| (*name).to_owned())
}
