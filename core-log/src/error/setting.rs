//! What is wrong with a setting that came as text, by the name that Kafka gives it.
//!
//! Why its own enum: every kind of handle has settings, and all of them refuse in the same words.
//!
//! Invariants
//! * A hint is a name that would be taken.

/// A setting that was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingError {
    /// Nothing has this name.
    #[error("there is no setting {name:?}{}", did_you_mean(*hint))]
    Unknown {
        /// The name as it was given.
        name: String,
        /// The name that is nearest to it, if one is near.
        hint: Option<&'static str>,
    },
    /// Kafka has this setting; a log inside the process has no use for it.
    #[error("{name} is not taken here: {reason}")]
    NotTaken {
        /// The setting.
        name: &'static str,
        /// Why, and what there is instead.
        reason: &'static str,
    },
    /// The value is none that the setting can have.
    #[error("{name} cannot be {value:?}: it takes {expected}")]
    Value {
        /// The setting.
        name: &'static str,
        /// The value as it was given.
        value: String,
        /// What it takes.
        expected: &'static str,
    },
}

fn did_you_mean(hint: Option<&str>) -> String {
    hint.map_or_else(String::new, |hint| format!(": did you mean {hint:?}?"))
}

impl SettingError {
    /// Refuses a name that nothing has; the hint is the nearest of `known`.
    pub(crate) fn unknown(name: &str, known: impl IntoIterator<Item = &'static str>) -> Self {
        Self::Unknown { name: name.to_owned(), hint: nearest(name, known) }
    }
}

/// The name of `known` that `name` was probably meant to be.
fn nearest(name: &str, known: impl IntoIterator<Item = &'static str>) -> Option<&'static str> {
    // Longer than any name with a third of it mistyped: also bounds the work.
    if name.len() > 80 {
        return None;
    }
    let plain = |text: &str| text.to_ascii_lowercase().replace(['_', '-', ' '], ".");
    let wanted = plain(name);
    let near = |known: &'static str| (distance(&wanted, &plain(known)), known);
    let (distance, hint) = known.into_iter().map(near).min()?;
    (distance * 3 <= hint.len()).then_some(hint)
}

/// How many letters must be put in, taken out or replaced.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 3] = ["auto.offset.reset", "max.poll.records", "isolation.level"];

    #[test]
    fn a_mistyped_name_is_answered_with_the_one_that_was_meant() {
        for (typed, meant) in [
            ("auto.ofset.reset", Some("auto.offset.reset")),
            ("AUTO_OFFSET_RESET", Some("auto.offset.reset")),
            ("max.pol.record", Some("max.poll.records")),
            ("isolation-levels", Some("isolation.level")),
            ("color", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, KNOWN), meant, "{typed}");
        }
        assert_eq!(nearest(&"x".repeat(100_000), KNOWN), None);
    }

    #[test]
    fn each_refusal_says_what_to_do() {
        let unknown = SettingError::unknown("max.pol.records", KNOWN);
        assert_eq!(
            unknown.to_string(),
            "there is no setting \"max.pol.records\": did you mean \"max.poll.records\"?"
        );
        assert_eq!(SettingError::unknown("x", KNOWN).to_string(), "there is no setting \"x\"");
    }
}
