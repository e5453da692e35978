//! VLANs (IEEE 802.1Q): their ids, sets of them as users write them, and the VLANs of a bridge's port.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The form of a VLAN id, for messages.
pub const VID_FORM: &str = "1 to 4094";

/// The form of a set of VLANs, for messages.
pub const VIDS_FORM: &str = "VLAN ids from 1 to 4094 and ranges like 50-59, joined by ','";

/// A text or number that is no VLAN id, or no set of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {0}")]
pub struct VlanError(&'static str);

/// The id of a VLAN, 1 to 4094.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Vid(u16);

impl Vid {
    /// Checks the range; 0 and 4095 are reserved.
    pub fn new(number: u16) -> Result<Self, VlanError> {
        if (1..=4094).contains(&number) { Ok(Self(number)) } else { Err(VlanError(VID_FORM)) }
    }

    /// The id as a number.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for Vid {
    type Error = VlanError;
    fn try_from(number: u16) -> Result<Self, VlanError> {
        Self::new(number)
    }
}

impl From<Vid> for u16 {
    fn from(vid: Vid) -> u16 {
        vid.0
    }
}

impl FromStr for Vid {
    type Err = VlanError;
    fn from_str(text: &str) -> Result<Self, VlanError> {
        text.trim().parse().map_err(|_| VlanError(VID_FORM)).and_then(Self::new)
    }
}

impl fmt::Display for Vid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A set of VLANs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Vids(BTreeSet<Vid>);

impl Vids {
    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it has this one.
    pub fn contains(&self, vid: Vid) -> bool {
        self.0.contains(&vid)
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = Vid> {
        self.0.iter().copied()
    }

    /// Those of this set that are not in the other one.
    pub fn without(&self, other: &Self) -> Self {
        Self(self.0.difference(&other.0).copied().collect())
    }

    /// Those of both sets.
    pub fn with(&self, other: &Self) -> Self {
        Self(self.0.union(&other.0).copied().collect())
    }

    /// Adds those from `first` to `last`, both included.
    pub fn insert(&mut self, first: Vid, last: Vid) {
        self.0.extend((first.0..=last.0).map(Vid));
    }

    /// The fewest ranges that make up the set, each as first and last.
    pub fn ranges(&self) -> Vec<(Vid, Vid)> {
        let mut ranges: Vec<(Vid, Vid)> = Vec::new();
        for vid in self.iter() {
            match ranges.last_mut() {
                Some((_, last)) if last.0 + 1 == vid.0 => *last = vid,
                _ => ranges.push((vid, vid)),
            }
        }
        ranges
    }
}

impl From<Vid> for Vids {
    fn from(vid: Vid) -> Self {
        Self([vid].into())
    }
}

impl From<(Vid, Vid)> for Vids {
    fn from((first, last): (Vid, Vid)) -> Self {
        let mut vids = Self::default();
        vids.insert(first, last);
        vids
    }
}

impl FromStr for Vids {
    type Err = VlanError;
    fn from_str(text: &str) -> Result<Self, VlanError> {
        let wrong = |_| VlanError(VIDS_FORM);
        let mut vids = Self::default();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (Vid, Vid) = (first.parse().map_err(wrong)?, last.parse().map_err(wrong)?);
            if first > last {
                return Err(VlanError(VIDS_FORM));
            }
            vids.insert(first, last);
        }
        Ok(vids)
    }
}

impl TryFrom<String> for Vids {
    type Error = VlanError;
    fn try_from(text: String) -> Result<Self, VlanError> {
        text.parse()
    }
}

impl From<Vids> for String {
    fn from(vids: Vids) -> String {
        vids.to_string()
    }
}

impl fmt::Display for Vids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.ranges().into_iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            if first == last { write!(f, "{comma}{first}")? } else { write!(f, "{comma}{first}-{last}")? }
        }
        Ok(())
    }
}

/// The VLANs of a port of a bridge.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PortVlans {
    /// The VLAN of frames that come in without a tag; without one the bridge drops them.
    pub untagged_in: Option<Vid>,
    /// The VLANs whose frames go out without a tag.
    pub untagged: Vids,
    /// The VLANs whose frames have a tag.
    pub tagged: Vids,
}

impl PortVlans {
    /// The VLANs of a port with one untagged VLAN, and others with a tag.
    pub fn of(access: Vid, tagged: Vids) -> Self {
        Self { untagged_in: Some(access), untagged: access.into(), tagged }
    }

    /// All its VLANs.
    pub fn all(&self) -> Vids {
        self.untagged.with(&self.tagged)
    }

    /// Whether it carries a VLAN.
    pub fn carries(&self, vid: Vid) -> bool {
        self.untagged.contains(vid) || self.tagged.contains(vid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_written_as_they_are_read_and_in_the_shortest_form() {
        for (given, shown) in [
            ("40", "40"),
            ("50-59,70", "50-59,70"),
            (" 70 , 50-55, 56-59 ", "50-59,70"),
            ("1-4094", "1-4094"),
            ("7-7", "7"),
        ] {
            let vids: Vids = given.parse().unwrap();
            assert_eq!(vids.to_string(), shown);
            assert_eq!(serde_json::to_string(&vids).unwrap(), format!("{shown:?}"));
            assert_eq!(serde_json::from_str::<Vids>(&format!("{shown:?}")).unwrap(), vids);
        }
        for bad in ["", ",", "0", "4095", "9-5", "5-", "-5", "1-4095", "x", "1 2", "70000"] {
            assert!(bad.parse::<Vids>().is_err(), "{bad:?}");
        }
        for bad in ["", "0", "4095", "70000", "5-6", "x"] {
            assert!(bad.parse::<Vid>().is_err(), "{bad:?}");
        }
        assert!(serde_json::from_str::<Vid>("4095").is_err());
    }

    #[test]
    fn a_port_carries_what_is_tagged_and_what_is_not() {
        let vid = |number| Vid::new(number).unwrap();
        let port = PortVlans::of(vid(40), "50-52".parse().unwrap());
        assert!(port.carries(vid(40)) && port.carries(vid(51)) && !port.carries(vid(53)));
        assert_eq!(port.all().to_string(), "40,50-52");
        assert_eq!(port.all().without(&port.tagged).to_string(), "40");
    }
}
