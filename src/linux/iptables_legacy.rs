//! Reads tables of iptables-legacy, which nf_tables does not show (`IPT_SO_GET_INFO` and
//! `IPT_SO_GET_ENTRIES`, include/uapi/linux/netfilter_ipv4/ip_tables.h).
//!
//! Reads only, and only tables that exist: asking for a missing table would create it. Called by `survey`, `ruleset` and `opposition`.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::tlv::{native16, native32};
use crate::datapath::host::LegacyChain;
use crate::model::Family;
use crate::model::ifname::PREFIX;

/// `IPT_SO_GET_INFO`, `IPT_SO_GET_ENTRIES`; IPv6 uses the same numbers.
const GET_INFO: libc::c_int = 64;
const GET_ENTRIES: libc::c_int = 65;

/// Length of a table's name in bytes (`XT_TABLE_MAXNAMELEN`).
const NAME: usize = 32;
/// Size of `struct ipt_getinfo` in bytes.
const INFO: usize = 84;
/// Offsets in it: the first and the last entry of hook FORWARD, and the size of all entries.
const FIRST: usize = 44;
/// The hooks that it has, as bits, and the first and the last entry of the first of five hooks.
const HOOKS: usize = 32;
const FIRST_OF_ALL: usize = 36;
const LAST_OF_ALL: usize = 56;
const LAST: usize = 64;
const SIZE: usize = 80;
/// Offset of the entries in `struct ipt_get_entries`.
const ENTRIES: usize = 40;
/// Offset of the verdict in a standard target, and the value that drops: `-NF_DROP - 1`.
const VERDICT: usize = 32;
const DROP: u32 = (-1i32) as u32;
/// Upper bound of a table's size in bytes, more than any table written by people.
const LARGEST: usize = 64 << 20;

/// A table with its entries.
#[derive(Debug)]
pub struct LegacyTable {
    /// Its family.
    pub family: Family,
    /// Its name.
    pub name: String,
    /// Its entries.
    pub entries: Vec<u8>,
    info: Vec<u8>,
}

impl LegacyTable {
    /// Offsets of the first entry and of the policy of a hook; `None` where the table has no chain.
    pub fn hook(&self, number: u32) -> Option<(usize, usize)> {
        let at = |place: usize| self.info.get(place..).and_then(native32).map(|offset| offset as usize);
        let valid = at(HOOKS)?;
        let place = number as usize * 4;
        (valid & (1 << number) != 0).then(|| Some((at(FIRST_OF_ALL + place)?, at(LAST_OF_ALL + place)?))).flatten()
    }
}

/// Those of these tables that exist and can be read, in this order.
pub fn tables(family: Family, wanted: &[&str]) -> Vec<LegacyTable> {
    let there = existing(family);
    let one = |name: &&str| {
        let Table { info, entries } = read(family, name).ok()?;
        Some(LegacyTable { family, name: (*name).to_owned(), entries: entries.get(ENTRIES..)?.to_vec(), info })
    };
    wanted.iter().filter(|name| there.iter().any(|there| there == *name)).filter_map(one).collect()
}

fn existing(family: Family) -> Vec<String> {
    names(family).unwrap_or_default()
}

/// Names of the tables that exist.
///
/// # Errors
/// They cannot be read. A kernel without iptables-legacy has none.
pub fn names(family: Family) -> io::Result<Vec<String>> {
    let names =
        if family.is_v6() { "/proc/thread-self/net/ip6_tables_names" } else { "/proc/thread-self/net/ip_tables_names" };
    match std::fs::read_to_string(names) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Chain FORWARD of table `filter`; `None` when the table does not exist.
pub fn forward(family: Family) -> Option<LegacyChain> {
    let there = existing(family).iter().any(|name| name == "filter");
    let table = there.then(|| read(family, "filter")).transpose();
    match table {
        Ok(table) => decode(&table?, family),
        Err(errno) => {
            tracing::debug!(%errno, %family, "cannot read table filter of iptables-legacy");
            None
        }
    }
}

/// A table as the kernel returns it: its description and its entries.
struct Table {
    info: Vec<u8>,
    entries: Vec<u8>,
}

fn read(family: Family, name: &str) -> Result<Table, Errno> {
    let socket_family = if family.is_v6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let fd = socket(socket_family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let level = if family.is_v6() { libc::IPPROTO_IPV6 } else { libc::IPPROTO_IP };
    let mut info = vec![0; INFO];
    info.splice(..name.len(), name.bytes());
    ask(&fd, level, GET_INFO, &mut info)?;
    let size = info.get(SIZE..).and_then(native32).map_or(0, |size| size as usize);
    if size > LARGEST {
        return Err(Errno::E2BIG);
    }
    let mut entries = vec![0; ENTRIES + size];
    entries.splice(..name.len(), name.bytes());
    entries.splice(NAME..NAME + 4, (size as u32).to_ne_bytes());
    ask(&fd, level, GET_ENTRIES, &mut entries)?;
    Ok(Table { info, entries })
}

/// The kernel reads the request from the buffer that it writes the reply to.
fn ask(fd: &OwnedFd, level: libc::c_int, option: libc::c_int, buffer: &mut [u8]) -> Result<(), Errno> {
    let mut len = buffer.len() as libc::socklen_t;
    // SAFETY: both pointers are to live values, and the kernel writes at most `len` bytes of the first.
    let result = unsafe { libc::getsockopt(fd.as_raw_fd(), level, option, buffer.as_mut_ptr().cast(), &raw mut len) };
    Errno::result(result).map(drop)
}

/// A chain's last entry is its policy.
fn decode(table: &Table, family: Family) -> Option<LegacyChain> {
    let at = |place: usize| table.info.get(place..).and_then(native32).map(|offset| offset as usize);
    let (first, last) = (at(FIRST)?, at(LAST)?);
    let entries = table.entries.get(ENTRIES..)?;
    let policy = entries.get(last..)?;
    // `target_offset`, after the match and one word.
    let target = policy.get(if family.is_v6() { 140 } else { 88 }..).and_then(native16)?;
    let verdict = policy.get(usize::from(target) + VERDICT..).and_then(native32)?;
    let rules = entries.get(first..last).unwrap_or_default();
    let names_ours = rules.windows(PREFIX.len()).any(|bytes| bytes == PREFIX.as_bytes());
    Some(LegacyChain { family, drops: verdict == DROP, names_ours })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_bytes_make_it_panic() {
        let mut info = vec![0; INFO];
        info.splice(LAST..LAST + 4, 8u32.to_ne_bytes());
        let mut entries = vec![0; ENTRIES + 200];
        entries.splice(ENTRIES + 8 + 88..ENTRIES + 8 + 90, 112u16.to_ne_bytes());
        entries.splice(ENTRIES + 8 + 112 + VERDICT..ENTRIES + 8 + 112 + VERDICT + 4, DROP.to_ne_bytes());
        let whole = decode(&Table { info: info.clone(), entries: entries.clone() }, Family::V4);
        assert_eq!(whole, Some(LegacyChain { family: Family::V4, drops: true, names_ours: false }));
        for end in 0..entries.len() {
            let _ = decode(&Table { info: info.clone(), entries: entries[..end].to_vec() }, Family::V4);
            let _ = decode(&Table { info: info[..end.min(INFO)].to_vec(), entries: entries.clone() }, Family::V6);
        }
        info.fill(0xff);
        assert_eq!(decode(&Table { info, entries }, Family::V4), None);
    }
}
