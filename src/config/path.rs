//! Where in the configuration something stands: `sources.github.resources.issues.paginator.type`.

use std::fmt;

/// One step of a [`Path`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

/// The keys and indexes from the top of the file to a value.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Path(Vec<Step>);

impl Path {
    /// A path of keys.
    pub(super) fn of(keys: &[&str]) -> Self {
        Self(keys.iter().map(|key| Step::Key((*key).to_owned())).collect())
    }

    /// This path, one key further.
    pub(super) fn key(&self, key: &str) -> Self {
        self.with(Step::Key(key.to_owned()))
    }

    /// This path, one index further.
    pub(super) fn index(&self, index: usize) -> Self {
        self.with(Step::Index(index))
    }

    fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }

    /// The steps, outermost first.
    pub(super) fn steps(&self) -> &[Step] {
        &self.0
    }

    /// The key at a depth, if there is a key.
    pub(super) fn key_at(&self, depth: usize) -> Option<&str> {
        match self.0.get(depth) {
            Some(Step::Key(key)) => Some(key),
            _ => None,
        }
    }

    /// The last key, indexes after it left aside.
    pub(super) fn last_key(&self) -> Option<&str> {
        self.0.iter().rev().find_map(|step| match step {
            Step::Key(key) => Some(key.as_str()),
            Step::Index(_) => None,
        })
    }

    /// The table or list around it.
    pub(super) fn parent(&self) -> Option<Self> {
        let (_, rest) = self.0.split_last()?;
        Some(Self(rest.to_vec()))
    }

    /// The variable that overrides this place.
    pub(super) fn variable(&self) -> String {
        let steps = self.0.iter().map(|step| match step {
            Step::Key(key) => key.to_uppercase().replace('-', "_"),
            Step::Index(index) => index.to_string(),
        });
        format!("HIGHWATER_{}", steps.collect::<Vec<_>>().join("__"))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) => {
                    let dot = if i == 0 { "" } else { "." };
                    let bare = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
                    if bare {
                        write!(f, "{dot}{key}")?;
                    } else {
                        write!(f, "{dot}\"{}\"", key.escape_debug())?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Path;

    #[test]
    fn a_path_reads_like_the_keys_of_the_file() {
        let path = Path::of(&["sources", "my-api", "client", "params", "created[gte]"]).index(2);
        assert_eq!(path.to_string(), "sources.my-api.client.params.\"created[gte]\"[2]");
        assert_eq!(path.last_key(), Some("created[gte]"));
        assert_eq!(
            Path::of(&["sources", "my-api", "client", "timeout"]).variable(),
            "HIGHWATER_SOURCES__MY_API__CLIENT__TIMEOUT"
        );
    }
}
