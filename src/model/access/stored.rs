//! Lists that an operator set for a network or an endpoint that exists, in addition to those of its options.

use serde::{Deserialize, Serialize};

use super::AllowList;

/// See the module documentation. `None` means that nothing is stored for the direction, which is then restricted by the
/// options alone, if at all.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StoredLists {
    /// What may be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<AllowList>,
    /// What may reach it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<AllowList>,
    /// Whether the lists refuse nothing, whatever the options say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<bool>,
}

impl StoredLists {
    /// Whether nothing is stored.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The same, where what `change` says replaces what was stored about it.
    pub fn changed(&self, change: &Self) -> Self {
        let or = |new: &Option<AllowList>, old: &Option<AllowList>| new.clone().or_else(|| old.clone());
        let (egress, ingress) = (or(&change.egress, &self.egress), or(&change.ingress, &self.ingress));
        Self { egress, ingress, audit: change.audit.or(self.audit) }
    }
}
