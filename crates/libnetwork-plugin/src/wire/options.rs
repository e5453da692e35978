//! Options of endpoints and containers, decoded lazily: three requests of each container have the
//! list of published ports, which may be megabytes long, and only one of them needs it.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::network::PortBinding;

/// Maximum number of options in one request; the engine sends about a dozen.
const MAX_OPTIONS: usize = 1024;

/// Maximum number of published ports of one container: all TCP ports, or all UDP ports.
pub const MAX_PORTS: usize = 65_536;

/// Options by key. A value is kept as received and decoded on access.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(transparent)]
pub struct Options(BTreeMap<String, Box<RawValue>>);

impl Options {
    /// A value; `None` when there is none.
    pub fn get(&self, key: &str) -> Option<Value> {
        read(self.0.get(key)?)
    }

    /// All values except those under `left_out`.
    pub fn without(&self, left_out: &[&str]) -> impl Iterator<Item = (&str, Value)> {
        let kept = self.0.iter().filter(|(key, _)| !left_out.contains(&key.as_str()));
        kept.filter_map(|(key, value)| Some((key.as_str(), read(value)?)))
    }

    /// The published ports under a key.
    ///
    /// # Errors
    /// The value is not a list of ports, or has more than [`MAX_PORTS`], and how many.
    pub fn ports(&self, key: &str) -> Result<Vec<PortBinding>, String> {
        let Some(value) = self.0.get(key) else { return Ok(Vec::new()) };
        let list: Option<PortList> = serde_json::from_str(value.get()).map_err(|error| error.to_string())?;
        let PortList { ports, more } = list.unwrap_or_default();
        match more {
            0 => Ok(ports),
            more => Err(format!("there are {} of them, a container can have {MAX_PORTS}", ports.len() + more)),
        }
    }
}

/// A raw value is valid JSON: decoding the request has checked it.
fn read(value: &RawValue) -> Option<Value> {
    serde_json::from_str(value.get()).ok()
}

impl<'de> Deserialize<'de> for Options {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(OptionsVisitor)
    }
}

struct OptionsVisitor;

impl<'de> Visitor<'de> for OptionsVisitor {
    type Value = Options;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object of options")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Options, A::Error> {
        let mut options = BTreeMap::new();
        while let Some((key, value)) = map.next_entry()? {
            options.insert(key, value);
            if options.len() > MAX_OPTIONS {
                return Err(A::Error::custom(format!("more than {MAX_OPTIONS} options")));
            }
        }
        Ok(Options(options))
    }
}

/// At most as many ports as a container can have, and how many more were sent.
#[derive(Default)]
struct PortList {
    ports: Vec<PortBinding>,
    more: usize,
}

impl<'de> Deserialize<'de> for PortList {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_seq(PortVisitor)
    }
}

struct PortVisitor;

impl<'de> Visitor<'de> for PortVisitor {
    type Value = PortList;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of published ports")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<PortList, A::Error> {
        let mut held = PortList::default();
        while held.ports.len() < MAX_PORTS {
            let Some(port) = list.next_element()? else { return Ok(held) };
            held.ports.push(port);
        }
        while list.next_element::<IgnoredAny>()?.is_some() {
            held.more += 1;
        }
        Ok(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(ports: usize) -> Options {
        let list = vec![r#"{"Proto":17,"Port":5}"#; ports].join(",");
        serde_json::from_str(&format!(r#"{{"p":[{list}],"n":null,"t":"x"}}"#)).unwrap()
    }

    #[test]
    fn ports_are_counted_and_stored_up_to_the_maximum() {
        assert_eq!(options(3).ports("p").unwrap().len(), 3);
        assert!(options(3).ports("n").unwrap().is_empty() && options(3).ports("q").unwrap().is_empty());
        assert!(options(3).ports("t").is_err());
        assert_eq!(options(MAX_PORTS).ports("p").unwrap().len(), MAX_PORTS);
        let error = options(70_000).ports("p").unwrap_err();
        assert!(error.contains("70000") && error.contains("65536"), "{error}");
    }

    #[test]
    fn other_options_are_decoded_on_demand() {
        let options = options(1);
        assert_eq!(options.get("t"), Some("x".into()));
        assert_eq!(options.without(&["p"]).map(|(key, _)| key).collect::<Vec<_>>(), ["n", "t"]);
        let many: BTreeMap<String, u8> = (0..2000).map(|n| (n.to_string(), 0)).collect();
        let text = serde_json::to_string(&many).unwrap();
        assert!(serde_json::from_str::<Options>(&text).unwrap_err().to_string().contains("more than 1024"));
    }
}
