//! The rows of options for how much endpoints may send and receive.

use super::table::{OptionRow, Support, row};

/// Key of the option for the rate at which an endpoint receives.
pub const RATE_IN: &str = "pontoon.rate.in";
/// Key of the option for the rate at which an endpoint sends.
pub const RATE_OUT: &str = "pontoon.rate.out";
/// Key of the option for what may exceed the rate at once.
pub const RATE_BURST: &str = "pontoon.rate.burst";

/// Key of the option for the number of connections of an endpoint.
pub const CONN_MAX: &str = "pontoon.conn.max";
/// Key of the option for the number of connections that an endpoint opens or accepts in a second.
pub const CONN_RATE: &str = "pontoon.conn.rate";
/// Key of the option for the number of packets that an endpoint sends in a second.
pub const PACKET_RATE: &str = "pontoon.packet.rate";

const RATE: &str = "rate, such as 500kbit, 50mbit or 1.5gbit";
const BYTES: &str = "bytes, such as 32kb or 1mb";

pub(super) const IN_ROW: OptionRow =
    row(RATE_IN, RATE, "unlimited", Support::Pontoon, "What each container of a network with a bridge may receive.");

pub(super) const OUT_ROW: OptionRow =
    row(RATE_OUT, RATE, "unlimited", Support::Pontoon, "What each container of a network with a bridge may send.");

pub(super) const BURST_ROW: OptionRow = row(
    RATE_BURST,
    BYTES,
    "what the rate amounts to in 4 ms, at least 16kb",
    Support::Pontoon,
    "How much a container may send or receive at once above its rate, after a pause.",
);

pub(super) const CONN_MAX_ROW: OptionRow = row(
    CONN_MAX,
    "1 to 10000000",
    "unlimited",
    Support::Pontoon,
    "How many tracked connections each container of a network with a bridge of Pontoon may have at a time, opened by it or to it, of each address family.",
);

pub(super) const CONN_RATE_ROW: OptionRow = row(
    CONN_RATE,
    "number per second, such as 50/s",
    "unlimited",
    Support::Pontoon,
    "How many such connections may be opened in a second; a tenth of it, at least 5, may exceed it at once.",
);

pub(super) const PACKET_RATE_ROW: OptionRow = row(
    PACKET_RATE,
    "number per second, such as 5000/s",
    "unlimited",
    Support::Pontoon,
    "How many packets each container of a network with a bridge may send in a second; a tenth of it, at least 5, may exceed it at once.",
);

pub(super) const ENDPOINT_CONN_MAX_ROW: OptionRow =
    row(CONN_MAX, "1 to 10000000", "the network's", Support::Pontoon, "As for the network, for this container only.");

pub(super) const ENDPOINT_CONN_RATE_ROW: OptionRow = row(
    CONN_RATE,
    "number per second",
    "the network's",
    Support::Pontoon,
    "As for the network, for this container only.",
);

pub(super) const ENDPOINT_PACKET_RATE_ROW: OptionRow = row(
    PACKET_RATE,
    "number per second",
    "the network's",
    Support::Pontoon,
    "As for the network, for this container only.",
);

pub(super) const ENDPOINT_IN_ROW: OptionRow =
    row(RATE_IN, RATE, "the network's", Support::Pontoon, "What this container may receive.");

pub(super) const ENDPOINT_OUT_ROW: OptionRow =
    row(RATE_OUT, RATE, "the network's", Support::Pontoon, "What this container may send.");

pub(super) const ENDPOINT_BURST_ROW: OptionRow =
    row(RATE_BURST, BYTES, "the network's", Support::Pontoon, "As for the network, for this container only.");
