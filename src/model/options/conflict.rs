//! The rows of options against address conflicts.

use super::table::{OptionRow, Support, row};

/// Key of the option for what happens when another host has the address of an endpoint.
pub const CONFLICT: &str = "pontoon.conflict";
/// Key of the option for the wait for the answer to a probe.
pub const CONFLICT_WAIT: &str = "pontoon.conflict.wait";

pub(super) const CONFLICT_ROW: OptionRow = row(
    CONFLICT,
    "refuse, report or off",
    "refuse",
    Support::Pontoon,
    "What happens when another host already has the address of a container, on a bridge of the user, macvlan or ipvlan l2: refuse does not start the container, and Pontoon's IPAM skips such addresses; report starts it and reports the conflict; off neither asks nor listens.",
);

pub(super) const CONFLICT_WAIT_ROW: OptionRow = row(
    CONFLICT_WAIT,
    "0 to 2000, milliseconds",
    "120",
    Support::Pontoon,
    "How long a start waits for another host to answer that it has the address, unless Pontoon asked in advance; 0 does not wait.",
);
