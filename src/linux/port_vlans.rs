//! VLANs of the ports of bridges that filter them (`br_vlan_msg`, `BRIDGE_VLANDB_*`, `bridge_vlan_info`,
//! include/uapi/linux/if_bridge.h): reads them and sets those of one port.
//!
//! Changes only the port that the caller names. Called by `object::veth`, `observe` and `survey`; `watch` parses
//! notifications with it.

use std::collections::{BTreeMap, BTreeSet};

use super::link::{HEADER, IFLA_AF_SPEC};
use super::netlink::{Failure, Socket};
use super::tlv::{Attributes, Writer, native16, native32};
use crate::model::{PortVlans, Vid, Vids};

/// `RTM_NEWVLAN`, `RTM_DELVLAN` and `RTM_GETVLAN` (include/uapi/linux/rtnetlink.h, Linux 5.6).
pub const NEW: u16 = 112;
/// See [`NEW`].
pub const DELETED: u16 = 113;
const GET: u16 = 114;

/// Bytes of `struct br_vlan_msg`: the family, and after four bytes the index of the port.
const PORT_HEADER: usize = 8;
const ENTRY: u16 = 1;
const ENTRY_INFO: u16 = 1;
const ENTRY_RANGE: u16 = 2;

/// `IFLA_BRIDGE_VLAN_INFO`, and the flags in its value.
const VLAN_INFO: u16 = 2;
const PVID: u16 = 1 << 1;
const UNTAGGED: u16 = 1 << 2;
const RANGE_BEGIN: u16 = 1 << 3;
const RANGE_END: u16 = 1 << 4;

/// The VLANs of these ports, by index; those of all ports if `of` is `None`. A bridge itself counts as a port. Ports
/// without any VLAN are left out.
///
/// # Errors
/// `EOPNOTSUPP` on a kernel without VLAN filtering of bridges.
pub fn list(socket: &mut Socket, of: Option<&BTreeSet<u32>>) -> Result<BTreeMap<u32, PortVlans>, Failure> {
    let wanted = |index: &u32| of.is_none_or(|of| of.contains(index));
    let messages = socket.list(GET, &query(0), |kind, payload| {
        let index = parse_index(payload).filter(|_| kind == NEW).filter(wanted)?;
        Some((index, entries(payload)))
    })?;
    let mut ports: BTreeMap<u32, PortVlans> = BTreeMap::new();
    for (index, entries) in messages {
        let port = ports.entry(index).or_default();
        entries.into_iter().for_each(|entry| entry.add_to(port));
    }
    Ok(ports)
}

/// The VLANs of one port.
fn of_port(socket: &mut Socket, index: u32) -> Result<PortVlans, Failure> {
    let messages = socket.list(GET, &query(index), |kind, payload| (kind == NEW).then(|| entries(payload)))?;
    let mut port = PortVlans::default();
    messages.into_iter().flatten().for_each(|entry| entry.add_to(&mut port));
    Ok(port)
}

/// Gives a port exactly these VLANs.
///
/// # Errors
/// The kernel's; the port may then have lost VLANs that it should not have, and has no others.
pub fn set(socket: &mut Socket, index: u32, want: &PortVlans) -> Result<(), Failure> {
    let have = of_port(socket, index)?;
    if have == *want {
        return Ok(());
    }
    let extra = have.all().without(&want.all());
    if !extra.is_empty() {
        let ranges = extra.ranges().into_iter().map(|(first, last)| (first, last, 0));
        socket.execute(libc::RTM_DELLINK, 0, &change(index, ranges))?;
    }
    let untagged = want.untagged.ranges().into_iter().flat_map(|(first, last)| {
        // The kernel takes no range with the VLAN of incoming frames.
        (first.get()..=last.get()).filter_map(|vid| Vid::new(vid).ok()).map(|vid| {
            let pvid = if want.untagged_in == Some(vid) { PVID } else { 0 };
            (vid, vid, UNTAGGED | pvid)
        })
    });
    let tagged = want.tagged.ranges().into_iter().map(|(first, last)| (first, last, 0));
    let tagged_in = want.untagged_in.filter(|vid| !want.untagged.contains(*vid)).map(|vid| (vid, vid, PVID));
    let all: Vec<_> = untagged.chain(tagged).chain(tagged_in).collect();
    if all.is_empty() { Ok(()) } else { socket.execute(libc::RTM_SETLINK, 0, &change(index, all.into_iter())) }
}

/// Whether the kernel filters VLANs on bridges.
///
/// # Errors
/// `EOPNOTSUPP` when it does not.
pub fn offered(socket: &mut Socket) -> Result<(), Failure> {
    socket.list(GET, &query(0), |_, _| None::<()>).map(drop)
}

/// The index of the port that a notification is about.
pub fn parse_index(payload: &[u8]) -> Option<u32> {
    payload.get(4..).and_then(native32)
}

fn query(index: u32) -> Vec<u8> {
    Writer::with_header(&header::<PORT_HEADER>(index)).finish()
}

/// A message's header: family and index are at the same places in `struct br_vlan_msg` and `struct ifinfomsg`.
fn header<const N: usize>(index: u32) -> [u8; N] {
    let mut header = [0; N];
    let bytes = [[libc::AF_BRIDGE as u8, 0, 0, 0], index.to_ne_bytes()].concat();
    header.iter_mut().zip(bytes).for_each(|(slot, byte)| *slot = byte);
    header
}

/// A request about VLANs of a port, each range with its flags. One message: the kernel carries out all of it or, at an
/// error, the first part.
fn change(index: u32, ranges: impl Iterator<Item = (Vid, Vid, u16)>) -> Vec<u8> {
    let mut body = Writer::with_header(&header::<HEADER>(index));
    body.nest(IFLA_AF_SPEC, |spec| {
        for (first, last, flags) in ranges {
            let mut one = |flags: u16, vid: Vid| {
                let info = [flags.to_ne_bytes(), vid.get().to_ne_bytes()].concat();
                spec.bytes(VLAN_INFO, &info);
            };
            if first == last {
                one(flags, first);
            } else {
                one(flags | RANGE_BEGIN, first);
                one(flags | RANGE_END, last);
            }
        }
    });
    body.finish()
}

/// VLANs with the same flags.
struct Entry {
    first: Vid,
    last: Vid,
    flags: u16,
}

impl Entry {
    fn add_to(&self, port: &mut PortVlans) {
        let set: &mut Vids = if self.flags & UNTAGGED != 0 { &mut port.untagged } else { &mut port.tagged };
        set.insert(self.first, self.last);
        if self.flags & PVID != 0 {
            port.untagged_in = Some(self.first);
        }
    }
}

fn entries(payload: &[u8]) -> Vec<Entry> {
    let of = |value: &[u8]| {
        let entry = Attributes::new(value);
        let info = entry.find(ENTRY_INFO)?;
        let (flags, first) = (native16(info)?, native16(info.get(2..)?).and_then(|vid| Vid::new(vid).ok())?);
        let last = entry.find(ENTRY_RANGE).and_then(native16).and_then(|vid| Vid::new(vid).ok()).unwrap_or(first);
        Some(Entry { first, last, flags })
    };
    Attributes::after(payload, PORT_HEADER)
        .filter(|(kind, _)| *kind == ENTRY)
        .filter_map(|(_, value)| of(value))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vid(number: u16) -> Vid {
        Vid::new(number).unwrap()
    }

    #[test]
    fn reads_ranges_and_the_untagged_vlan() {
        let mut body = Writer::with_header(&[libc::AF_BRIDGE as u8, 0, 0, 0, 7, 0, 0, 0]);
        let mut entry = |flags: u16, first: u16, last: Option<u16>| {
            body.nest(ENTRY, |entry| {
                entry.bytes(ENTRY_INFO, &[flags.to_ne_bytes(), first.to_ne_bytes()].concat());
                if let Some(last) = last {
                    entry.bytes(ENTRY_RANGE, &last.to_ne_bytes());
                }
            });
        };
        entry(PVID | UNTAGGED, 40, None);
        entry(0, 50, Some(59));
        let bytes = body.finish();
        let mut port = PortVlans::default();
        entries(&bytes).iter().for_each(|entry| entry.add_to(&mut port));
        assert_eq!(port, PortVlans::of(vid(40), "50-59".parse().unwrap()));
        assert_eq!(parse_index(&bytes), Some(7));
        for end in 0..bytes.len() {
            entries(&bytes[..end]);
        }
    }

    #[test]
    fn one_message_has_all_vlans_and_ranges_in_two_parts() {
        let body = change(9, [(vid(40), vid(40), PVID | UNTAGGED), (vid(50), vid(59), 0)].into_iter());
        let (kind, spec) = Attributes::after(&body, HEADER).next().unwrap();
        let infos: Vec<_> = Attributes::new(spec)
            .map(|(kind, info)| (kind, native16(info).unwrap(), native16(&info[2..]).unwrap()))
            .collect();
        assert_eq!(kind, IFLA_AF_SPEC);
        assert_eq!(infos, [(2, PVID | UNTAGGED, 40), (2, RANGE_BEGIN, 50), (2, RANGE_END, 59)]);
    }
}
