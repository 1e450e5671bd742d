//! Placeholders that are filled in for each request: what a read starts from, and what its partition stands for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};

/// A place in a text that is filled in for each request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Slot {
    /// `${incremental.start_value}`: the cursor value that a read starts from.
    StartValue,
    /// `${incremental.end_value}`: the cursor value that it ends before.
    EndValue,
    /// `${partition.KEY}`: a value of the partition.
    Partition(String),
    /// `${resources.PARENT.FIELD}`: a field of the parent's record.
    Parent {
        /// The parent, or one of its own parents.
        resource: String,
        /// The field.
        field: String,
    },
}

impl Slot {
    /// The key under which a partition keeps the value: `KEY`, or `PARENT.FIELD`.
    #[must_use]
    pub fn key(&self) -> Option<String> {
        match self {
            Self::StartValue | Self::EndValue => None,
            Self::Partition(key) => Some(key.clone()),
            Self::Parent { resource, field } => Some(format!("{resource}.{field}")),
        }
    }
}

impl FromStr for Slot {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let not_empty = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let found = match text.split_once('.') {
            Some(("incremental", "start_value")) => Some(Self::StartValue),
            Some(("incremental", "end_value")) => Some(Self::EndValue),
            Some(("partition", key)) => not_empty(key).map(Self::Partition),
            Some(("resources", rest)) => rest.split_once('.').and_then(|(resource, field)| {
                Some(Self::Parent { resource: not_empty(resource)?, field: not_empty(field)? })
            }),
            _ => None,
        };
        found.ok_or_else(|| match text.split_once('.') {
            Some(("incremental", _)) => {
                "there are `${incremental.start_value}` and `${incremental.end_value}`".to_owned()
            }
            Some(("resources", _)) => "it is written `${resources.PARENT.FIELD}`".to_owned(),
            _ => "it is written `${partition.KEY}`".to_owned(),
        })
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StartValue => f.write_str("${incremental.start_value}"),
            Self::EndValue => f.write_str("${incremental.end_value}"),
            Self::Partition(key) => write!(f, "${{partition.{key}}}"),
            Self::Parent { resource, field } => write!(f, "${{resources.{resource}.{field}}}"),
        }
    }
}

impl<'de> Deserialize<'de> for Slot {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::Slot;

    #[test]
    fn slots_are_read_and_written_the_same() {
        for text in ["incremental.start_value", "incremental.end_value", "partition.repo", "resources.issues.user.id"] {
            let slot: Slot = text.parse().unwrap();
            assert_eq!(slot.to_string(), format!("${{{text}}}"));
        }
        assert_eq!("resources.issues.user.id".parse::<Slot>().unwrap().key().unwrap(), "issues.user.id");
        for wrong in ["incremental.value", "partition.", "resources.issues", "resources..id", "other.x", "partition"] {
            assert!(wrong.parse::<Slot>().is_err(), "{wrong}");
        }
    }
}
