//! Identifiers that the engine gives to networks and endpoints.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Maximum length of an identifier, in bytes. Engines send 64 (hex) or 25 (base 36, Swarm).
pub const MAX_ID: usize = 128;

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The field is missing or empty.
    #[error("{field} is empty: the engine sends an id in every request")]
    Empty {
        /// Name of the JSON field.
        field: &'static str,
    },
    /// More than [`MAX_ID`] bytes.
    #[error("{field} is {len} bytes long, the limit is {MAX_ID}")]
    TooLong {
        /// Name of the JSON field.
        field: &'static str,
        /// Actual length, in bytes.
        len: usize,
    },
    /// A character outside letters, digits, `-`, `_` and `.`.
    #[error("{field} has the character {found:?}, ids are letters, digits, '-', '_' and '.'")]
    Character {
        /// Name of the JSON field.
        field: &'static str,
        /// The first offending character.
        found: char,
    },
}

fn check(field: &'static str, text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty { field });
    }
    if text.len() > MAX_ID {
        return Err(IdError::TooLong { field, len: text.len() });
    }
    match text.chars().find(|c| !(c.is_ascii_alphanumeric() || "-_.".contains(*c))) {
        Some(found) => Err(IdError::Character { field, found }),
        None => Ok(()),
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $field:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Accepts any opaque id of the engine (hex or base 36); see [`IdError`].
            pub fn parse(text: &str) -> Result<Self, IdError> {
                check($field, text).map(|()| Self(text.to_owned()))
            }

            /// The id as the engine wrote it.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The first twelve characters, as Docker prints ids.
            pub fn short(&self) -> &str {
                &self.0[..self.0.len().min(12)]
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                check($field, &text).map(|()| Self(text))
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.short())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

id!(
    /// A network, as the engine names it: 64 hex digits, or 25 base-36 characters in a Swarm.
    NetworkId,
    "NetworkID"
);
impl NetworkId {
    /// Whether a Swarm assigned it: 25 letters and digits in base 36. Ids of a single engine are 64 hex
    /// digits.
    pub fn is_of_swarm(&self) -> bool {
        self.0.len() == 25
    }
}

id!(
    /// One attachment of a container to a network; a restarted container gets a new one.
    EndpointId,
    "EndpointID"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_hex_and_base36() {
        for id in ["adec5e726bb8aecb5e82e07e3f97960b5607cd74d7e10fffb9ae6b831f659072", "u4ylute1if55shzy1kj09qow0"] {
            assert_eq!(NetworkId::parse(id).unwrap().as_str(), id);
        }
        assert_eq!(NetworkId::parse("u4ylute1if55shzy1kj09qow0").unwrap().to_string(), "u4ylute1if55");
        assert!(NetworkId::parse("u4ylute1if55shzy1kj09qow0").unwrap().is_of_swarm());
        assert!(
            !NetworkId::parse("adec5e726bb8aecb5e82e07e3f97960b5607cd74d7e10fffb9ae6b831f659072")
                .unwrap()
                .is_of_swarm()
        );
    }

    #[test]
    fn refuses_absurd_ids() {
        assert_eq!(EndpointId::parse(""), Err(IdError::Empty { field: "EndpointID" }));
        assert!(matches!(EndpointId::parse(&"a".repeat(129)), Err(IdError::TooLong { len: 129, .. })));
        for bad in ["a/b", "a b", "a\0b", "é", "a\nb"] {
            assert!(matches!(EndpointId::parse(bad), Err(IdError::Character { .. })), "{bad:?}");
        }
    }
}
