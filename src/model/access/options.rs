//! Options about who may talk to whom, of networks and of endpoints.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{AllowList, GroupName};
use crate::model::options::value::flag;
use crate::model::options::{OptionError, OptionRow, refused};

/// Maximum number of groups of an endpoint.
pub const MOST_GROUPS: usize = 16;

/// Key of the option for the directions in which a network's endpoints are restricted.
pub const POLICY: &str = "pontoon.policy";
/// Key of the option for what endpoints may reach.
pub const EGRESS_ALLOW: &str = "pontoon.egress.allow";
/// Key of the option for what may reach endpoints.
pub const INGRESS_ALLOW: &str = "pontoon.ingress.allow";
/// Key of the option for the groups of an endpoint.
pub const GROUP: &str = "pontoon.group";

/// Key of the option for lists that refuse nothing.
pub const AUDIT: &str = "pontoon.policy.audit";

/// Directions in which a network's endpoints are restricted although no list was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Denied {
    /// None.
    #[default]
    Open,
    /// What containers send.
    DenyEgress,
    /// What is sent to containers.
    DenyIngress,
    /// Both.
    Deny,
}

impl Denied {
    fn egress(self) -> bool {
        matches!(self, Denied::DenyEgress | Denied::Deny)
    }

    fn ingress(self) -> bool {
        matches!(self, Denied::DenyIngress | Denied::Deny)
    }
}

/// See the module documentation. `None` as list means that these options do not restrict the direction.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AccessOptions {
    /// What is restricted without a list; of networks only.
    #[serde(default, skip_serializing_if = "is_open")]
    pub denied: Denied,
    /// What the endpoint may reach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<AllowList>,
    /// What may reach the endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<AllowList>,
    /// Whether what the lists do not allow is recorded and passes; `None` if it was not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<bool>,
    /// The groups that the endpoint is in; of endpoints only.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub groups: BTreeSet<GroupName>,
}

fn is_open(denied: &Denied) -> bool {
    *denied == Denied::Open
}

impl AccessOptions {
    /// Takes one of these options of the table; false if `row` is another.
    ///
    /// # Errors
    /// The value does not have the form that the row requires, or has a DNS name for incoming connections.
    pub fn take(&mut self, row: &OptionRow, given: &str) -> Result<bool, OptionError> {
        match row.key {
            EGRESS_ALLOW => self.egress = Some(list(row, given)?),
            INGRESS_ALLOW => self.ingress = Some(list(row, given)?),
            POLICY => {
                self.denied = match given.trim() {
                    "open" => Denied::Open,
                    "deny-egress" => Denied::DenyEgress,
                    "deny-ingress" => Denied::DenyIngress,
                    "deny" => Denied::Deny,
                    _ => return Err(refused(row, given, row.value)),
                }
            }
            AUDIT => self.audit = Some(flag(row, given)?),
            GROUP => self.groups = groups(given).ok_or_else(|| refused(row, given, row.value))?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Whether no option was given.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The first option that was given.
    pub fn given(&self) -> Option<&'static str> {
        let given = [
            (self.denied != Denied::Open, POLICY),
            (self.egress.is_some(), EGRESS_ALLOW),
            (self.ingress.is_some(), INGRESS_ALLOW),
            (self.audit == Some(true), AUDIT),
            (!self.groups.is_empty(), GROUP),
        ];
        given.into_iter().find_map(|(given, key)| given.then_some(key))
    }

    /// What an endpoint with these options may reach; `None` if it is not restricted.
    pub fn egress(&self) -> Option<AllowList> {
        self.egress.clone().or_else(|| self.denied.egress().then(AllowList::default))
    }

    /// What may reach an endpoint with these options; `None` if it is not restricted.
    pub fn ingress(&self) -> Option<AllowList> {
        self.ingress.clone().or_else(|| self.denied.ingress().then(AllowList::default))
    }
}

/// Names joined by one of the separators of lists; `None` if one is invalid, or if there are none or too many.
fn groups(given: &str) -> Option<BTreeSet<GroupName>> {
    let names = given.split(['+', ';', ',']).take(MOST_GROUPS + 1);
    let groups: Vec<_> = names.map(|name| GroupName::parse(name.trim())).collect::<Option<_>>()?;
    (groups.len() <= MOST_GROUPS).then(|| groups.into_iter().collect())
}

fn list(row: &OptionRow, given: &str) -> Result<AllowList, OptionError> {
    let list: AllowList = given.parse().map_err(|error: super::ListError| refused(row, given, &error.to_string()))?;
    match list.name().filter(|_| row.key == INGRESS_ALLOW) {
        Some(name) => Err(OptionError::DnsName { key: row.key, name: name.to_owned() }),
        None => Ok(list),
    }
}
