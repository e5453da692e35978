//! Queries the tunnel offloads of a link: the features that `ethtool -k` shows as on (generic netlink, family
//! `ethtool`, include/uapi/linux/ethtool_netlink.h).
//!
//! Reads only. Called by `survey`.

use super::netlink::{Failure, Socket};
use super::tlv::{Attributes, Writer, native16, text};

/// `GENL_ID_CTRL` and the request to it (include/uapi/linux/genetlink.h).
const CONTROL: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

const FEATURES_GET: u8 = 11;
const FEATURES_HEADER: u16 = 1;
const FEATURES_ACTIVE: u16 = 4;
const HEADER_DEVICE: u16 = 2;
const BITSET_BITS: u16 = 3;
const BIT_NAME: u16 = 2;

/// Bytes of `struct genlmsghdr`.
const HEADER: usize = 4;

/// Names of the enabled features of a link that concern sending or receiving tunnel packets.
///
/// # Errors
/// `ENOENT` when this kernel has no such family, `ENODEV` when there is no such link.
pub fn of_tunnels(generic: &mut Socket, link: &str) -> Result<Vec<String>, Failure> {
    let mut question = Writer::with_header(&[GET_FAMILY, 1, 0, 0]);
    question.text(FAMILY_NAME, "ethtool");
    let answer = generic.get(CONTROL, &question.finish())?;
    let family = Attributes::after(&answer, HEADER).find(FAMILY_ID).and_then(native16);
    let family = family.ok_or(Failure::Malformed("a family without a number"))?;
    let mut question = Writer::with_header(&[FEATURES_GET, 1, 0, 0]);
    question.nest(FEATURES_HEADER, |header| {
        header.text(HEADER_DEVICE, link);
    });
    let answer = generic.get(family, &question.finish())?;
    Ok(active(&answer).into_iter().filter(|name| name.contains("udp_tnl")).collect())
}

/// The names in the list of enabled features.
fn active(payload: &[u8]) -> Vec<String> {
    let set = Attributes::new(Attributes::after(payload, HEADER).find(FEATURES_ACTIVE).unwrap_or_default());
    let bits = Attributes::new(set.find(BITSET_BITS).unwrap_or_default());
    let name = |(_, bit)| Attributes::new(bit).find(BIT_NAME).and_then(text).map(str::to_owned);
    bits.filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_names_of_what_is_on() {
        let mut answer = Writer::with_header(&[11, 1, 0, 0]);
        answer.nest(FEATURES_ACTIVE, |set| {
            set.nest(BITSET_BITS, |bits| {
                for name in ["tx-udp_tnl-segmentation", "rx-gro"] {
                    bits.nest(1, |bit| {
                        bit.native(1, 4).text(BIT_NAME, name);
                    });
                }
            });
        });
        let bytes = answer.finish();
        assert_eq!(active(&bytes), ["tx-udp_tnl-segmentation", "rx-gro"]);
        for end in 0..bytes.len() {
            let _ = active(&bytes[..end]);
        }
    }
}
