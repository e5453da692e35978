//! Owns the options of networks and endpoints: one table gives the parser, the messages, the
//! help text and the table in docs/options.md.
//!
//! A key that nobody knows, or a value that does not parse, is an error that names the nearest
//! known one. Built-in option names keep the built-in driver's meaning.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::IfName;

/// How one option behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// Pontoon honours it.
    Pontoon,
    /// The engine itself honours it for every driver; Pontoon only lets it pass.
    Engine,
    /// The built-in driver has it, this release of Pontoon does not.
    NotYet,
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct OptionRow {
    /// The key as typed after `-o` or `--driver-opt`.
    pub key: &'static str,
    /// What a value looks like.
    pub value: &'static str,
    /// What holds when the option is absent.
    pub default: &'static str,
    /// Who honours it.
    pub support: Support,
    /// What it does, one sentence.
    pub help: &'static str,
}

const fn row(
    key: &'static str,
    value: &'static str,
    default: &'static str,
    support: Support,
    help: &'static str,
) -> OptionRow {
    OptionRow { key, value, default, support, help }
}

const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
const MTU: &str = "com.docker.network.driver.mtu";
const ENABLE_ICC: &str = "com.docker.network.bridge.enable_icc";
const ENABLE_MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
const INHIBIT_IPV4: &str = "com.docker.network.bridge.inhibit_ipv4";
const IFACE_PREFIX: &str = "com.docker.network.container_iface_prefix";
const SYSCTLS: &str = "com.docker.network.endpoint.sysctls";

/// Options of `docker network create -o`.
pub const NETWORK_OPTIONS: &[OptionRow] = &[
    row(
        BRIDGE_NAME,
        "link name",
        "derived from the network id",
        Support::Pontoon,
        "Name of the bridge; one that exists is used, and never deleted or re-addressed.",
    ),
    row(
        MTU,
        "68 to 65535, bytes",
        "that of the default route's link",
        Support::Pontoon,
        "MTU of the bridge and of every endpoint; at least 1280 with IPv6.",
    ),
    row(
        ENABLE_ICC,
        "true or false",
        "true",
        Support::Pontoon,
        "false keeps the containers of this network from reaching each other (bridge port isolation).",
    ),
    row(
        ENABLE_MASQUERADE,
        "true or false",
        "true",
        Support::Pontoon,
        "Traffic to the outside takes the address of the host's outgoing link.",
    ),
    row(
        INHIBIT_IPV4,
        "true or false",
        "false",
        Support::Pontoon,
        "true keeps the IPv4 gateway address off the bridge.",
    ),
    row(
        IFACE_PREFIX,
        "1 to 12 characters",
        "eth",
        Support::Pontoon,
        "Links in a container are called by this prefix and a number.",
    ),
    row("com.docker.network.enable_ipv4", "true or false", "true", Support::Engine, "The same as --ipv4."),
    row("com.docker.network.enable_ipv6", "true or false", "false", Support::Engine, "The same as --ipv6."),
    row(
        "com.docker.network.advertise_addr_nmsgs",
        "0 to 3",
        "3",
        Support::Engine,
        "How many unsolicited ARP/NA messages announce an endpoint.",
    ),
    row(
        "com.docker.network.advertise_addr_ms",
        "milliseconds",
        "1000",
        Support::Engine,
        "Time between those messages.",
    ),
    row(
        "com.docker.network.bridge.gateway_mode_ipv4",
        "nat, nat-unprotected, routed or isolated",
        "nat",
        Support::NotYet,
        "How IPv4 leaves and enters.",
    ),
    row(
        "com.docker.network.bridge.gateway_mode_ipv6",
        "nat, nat-unprotected, routed or isolated",
        "nat",
        Support::NotYet,
        "How IPv6 leaves and enters.",
    ),
    row(
        "com.docker.network.bridge.host_binding_ipv4",
        "address",
        "0.0.0.0",
        Support::NotYet,
        "Host address of published ports.",
    ),
    row(
        "com.docker.network.bridge.trusted_host_interfaces",
        "link names joined by ':'",
        "",
        Support::NotYet,
        "Links that may reach containers directly.",
    ),
    row(
        "com.docker.network.bridge.default_bridge",
        "true or false",
        "false",
        Support::NotYet,
        "Only for the engine's own docker0.",
    ),
    row("com.docker.network.host_ipv4", "address", "", Support::NotYet, "Source address of outbound IPv4."),
    row("com.docker.network.host_ipv6", "address", "", Support::NotYet, "Source address of outbound IPv6."),
];

/// Options of `docker run --network name=N,driver-opt=K=V` and `docker network connect --driver-opt`.
pub const ENDPOINT_OPTIONS: &[OptionRow] = &[
    row(
        SYSCTLS,
        "sysctls joined by ','",
        "",
        Support::Engine,
        "Sysctls of the link in the container; engines from 27 on apply them.",
    ),
    row(
        "com.docker.network.endpoint.ifname",
        "link name",
        "",
        Support::NotYet,
        "Name of the link in the container: engines before 29.8 do not pass it on to remote drivers, use com.docker.network.container_iface_prefix.",
    ),
];

/// Why options are refused. Each message is one line with the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// No row has this key.
    #[error("option {key:?} is not known{}", suggestion(.nearest))]
    Unknown {
        /// The key as given.
        key: String,
        /// The known key that looks most like it.
        nearest: Option<&'static str>,
    },
    /// The value is not of the row's form.
    #[error("option {key}={given:?} does not parse: expected {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// The value as given.
        given: String,
        /// What the row says a value looks like.
        expected: String,
    },
    /// The row says [`Support::NotYet`].
    #[error("option {key} is not supported by Pontoon {}; remove it ({help})", env!("CARGO_PKG_VERSION"))]
    NotYet {
        /// The key.
        key: &'static str,
        /// What the built-in driver does with it.
        help: &'static str,
    },
}

fn suggestion(nearest: &Option<&'static str>) -> String {
    match nearest {
        Some(key) => format!(", did you mean {key:?}?"),
        None => "; docs/options.md lists the known ones".to_owned(),
    }
}

/// The parsed `-o` options of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkOptions {
    /// The bridge's name, when the user chose one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge_name: Option<IfName>,
    /// MTU in bytes, when the user chose one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Whether endpoints reach each other.
    pub icc: bool,
    /// Whether outbound traffic is masqueraded.
    pub masquerade: bool,
    /// Whether the IPv4 gateway address stays off the bridge.
    pub inhibit_ipv4: bool,
    /// What links in containers are called, without the number.
    pub iface_prefix: String,
}

impl Default for NetworkOptions {
    fn default() -> Self {
        Self {
            bridge_name: None,
            mtu: None,
            icc: true,
            masquerade: true,
            inhibit_ipv4: false,
            iface_prefix: "eth".to_owned(),
        }
    }
}

impl NetworkOptions {
    /// Parses the map under `com.docker.network.generic`.
    pub fn parse(generic: &BTreeMap<String, String>) -> Result<Self, OptionError> {
        let mut options = Self::default();
        for (key, given) in generic {
            let row = find(NETWORK_OPTIONS, key)?;
            let text = given.trim();
            match row.key {
                BRIDGE_NAME => {
                    options.bridge_name = Some(IfName::parse(text).map_err(|e| refused(row, given, &e.to_string()))?);
                }
                // The built-in driver takes 0 as "not given".
                MTU => match text.parse::<u32>() {
                    Ok(0) => {}
                    Ok(mtu @ 68..=65535) => options.mtu = Some(mtu),
                    _ => return Err(refused(row, given, row.value)),
                },
                ENABLE_ICC => options.icc = flag(row, given)?,
                ENABLE_MASQUERADE => options.masquerade = flag(row, given)?,
                INHIBIT_IPV4 => options.inhibit_ipv4 = flag(row, given)?,
                IFACE_PREFIX => options.iface_prefix = iface_prefix(row, given)?,
                _ => {}
            }
        }
        Ok(options)
    }
}

/// Checks the options that a user gave for one endpoint; the engine's own keys are not here.
pub fn check_endpoint_option(key: &str) -> Result<(), OptionError> {
    find(ENDPOINT_OPTIONS, key).map(|_| ())
}

fn find(rows: &'static [OptionRow], key: &str) -> Result<&'static OptionRow, OptionError> {
    let Some(row) = rows.iter().find(|row| row.key == key) else {
        return Err(OptionError::Unknown { key: shorten(key), nearest: nearest(rows, key) });
    };
    match row.support {
        Support::NotYet => Err(OptionError::NotYet { key: row.key, help: row.help }),
        Support::Pontoon | Support::Engine => Ok(row),
    }
}

/// The row that a typing error most likely meant: equal last words win, then edit distance.
fn nearest(rows: &'static [OptionRow], key: &str) -> Option<&'static str> {
    let key: String = key.chars().take(100).collect::<String>().to_ascii_lowercase();
    let last = key.rsplit('.').next().unwrap_or(&key);
    rows.iter()
        .filter(|row| row.support != Support::NotYet)
        .map(|row| {
            let row_last = row.key.rsplit('.').next().unwrap_or(row.key);
            let whole = strsim::levenshtein(&key, row.key);
            let words = strsim::levenshtein(last, row_last);
            (whole.min(words), row_last.len(), row.key)
        })
        .filter(|(distance, len, _)| *distance * 2 <= *len)
        .min()
        .map(|(_, _, key)| key)
}

fn shorten(text: &str) -> String {
    if text.chars().count() <= 100 { text.to_owned() } else { text.chars().take(100).chain("...".chars()).collect() }
}

fn refused(row: &OptionRow, given: &str, expected: &str) -> OptionError {
    OptionError::Value { key: row.key, given: shorten(given), expected: expected.to_owned() }
}

/// The words of Go's `strconv.ParseBool`, which the built-in driver uses.
fn flag(row: &OptionRow, given: &str) -> Result<bool, OptionError> {
    match given.trim() {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(refused(row, given, row.value)),
    }
}

fn iface_prefix(row: &OptionRow, given: &str) -> Result<String, OptionError> {
    // The engine appends a number; three digits must fit.
    match IfName::parse(given.trim()) {
        Ok(name) if name.as_str().len() <= 12 => Ok(name.into()),
        Ok(_) => Err(refused(row, given, row.value)),
        Err(e) => Err(refused(row, given, &e.to_string())),
    }
}

/// The table as Markdown, for docs/options.md and `pontoon options`.
pub fn markdown() -> String {
    let mut text = String::new();
    for (title, rows) in
        [("Network options (`-o`)", NETWORK_OPTIONS), ("Endpoint options (`--driver-opt`)", ENDPOINT_OPTIONS)]
    {
        let _ = writeln!(
            text,
            "### {title}\n\n| option | value | default | honoured by | meaning |\n|---|---|---|---|---|"
        );
        for row in rows {
            let who = match row.support {
                Support::Pontoon => "Pontoon",
                Support::Engine => "the engine",
                Support::NotYet => "not yet: refused",
            };
            let _ = writeln!(text, "| `{}` | {} | {} | {who} | {} |", row.key, row.value, row.default, row.help);
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<NetworkOptions, OptionError> {
        NetworkOptions::parse(&pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect())
    }

    #[test]
    fn nothing_given_is_the_default() {
        assert_eq!(parse(&[]).unwrap(), NetworkOptions::default());
    }

    #[test]
    fn every_supported_row_parses_to_its_field() {
        let options = parse(&[
            (BRIDGE_NAME, "br-test"),
            (MTU, "1400"),
            (ENABLE_ICC, "false"),
            (ENABLE_MASQUERADE, "0"),
            (INHIBIT_IPV4, "T"),
            (IFACE_PREFIX, "net"),
            ("com.docker.network.enable_ipv6", "true"),
        ])
        .unwrap();
        let expected = NetworkOptions {
            bridge_name: Some(IfName::parse("br-test").unwrap()),
            mtu: Some(1400),
            icc: false,
            masquerade: false,
            inhibit_ipv4: true,
            iface_prefix: "net".into(),
        };
        assert_eq!(options, expected);
        assert_eq!(parse(&[(MTU, "0")]).unwrap().mtu, None);
    }

    #[test]
    fn a_typing_error_names_the_option_that_was_meant() {
        for (typed, meant) in [
            ("com.docker.network.bridge.enable_ic", ENABLE_ICC),
            ("com.docker.network.bridge.enable_IP_masqerade", ENABLE_MASQUERADE),
            ("mtu", MTU),
            ("com.docker.network.drivr.mtu", MTU),
            ("bridge.name", BRIDGE_NAME),
        ] {
            let error = parse(&[(typed, "1")]).unwrap_err();
            assert_eq!(error, OptionError::Unknown { key: typed.into(), nearest: Some(meant) });
            assert!(error.to_string().contains(meant) && error.to_string().contains(typed));
        }
        let far = parse(&[("colour", "red")]).unwrap_err().to_string();
        assert!(far.contains("colour") && far.contains("docs/options.md"), "{far}");
        assert!(parse(&[(&"x".repeat(5000), "")]).unwrap_err().to_string().len() < 300);
    }

    #[test]
    fn bad_values_name_option_value_and_form() {
        for (key, value) in [
            (MTU, "67"),
            (MTU, "65536"),
            (MTU, "-1"),
            (MTU, "big"),
            (MTU, ""),
            (ENABLE_ICC, "yes"),
            (ENABLE_ICC, ""),
            (BRIDGE_NAME, "a/b"),
            (BRIDGE_NAME, ""),
            (IFACE_PREFIX, "thirteenchars"),
            (IFACE_PREFIX, ""),
            (IFACE_PREFIX, "e h"),
        ] {
            let text = parse(&[(key, value)]).unwrap_err().to_string();
            assert!(text.contains(key) && text.contains(&format!("{value:?}")), "{text}");
        }
    }

    #[test]
    fn what_the_next_release_brings_is_refused_by_name() {
        let text = parse(&[("com.docker.network.bridge.gateway_mode_ipv4", "routed")]).unwrap_err().to_string();
        assert!(text.contains("gateway_mode_ipv4") && text.contains("not supported"), "{text}");
    }

    #[test]
    fn endpoint_options() {
        assert!(check_endpoint_option(SYSCTLS).is_ok());
        assert!(check_endpoint_option("com.docker.network.endpoint.sysctl").unwrap_err().to_string().contains(SYSCTLS));
        assert!(
            check_endpoint_option("com.docker.network.endpoint.ifname")
                .unwrap_err()
                .to_string()
                .contains("container_iface_prefix")
        );
    }
}
