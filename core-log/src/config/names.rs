//! Settings by name: a table says what each name reads and changes, or why it means nothing here.
//!
//! Why a table: what is parsed, printed, kept in files, sent to another process and documented is then
//! one list, and a name that is not in it is found out at once.
//!
//! ```text
//!   set("retention.msec", ..) --> table --> Knob: parse, change     | Fixed: only its one value
//!                                      '--> Refused: why            | nothing: did you mean ..?
//! ```
//!
//! Invariants
//! * What `get` answers can be `set` again.
//! * A value holds no space and no line break: lists of settings are kept in lines of text.
//!
//! Reference: Kafka `ConfigDef`.

use std::str::FromStr;

use crate::error::{Error, Result};

/// What a name stands for.
pub(crate) enum Meaning<S: 'static> {
    /// It can be read and changed.
    Knob { get: fn(&S) -> String, set: fn(&mut S, &str) -> Result<(), &'static str> },
    /// There is one way: its value is accepted, so that a list of all of Kafka's defaults is, and any
    /// other is refused.
    Fixed { value: &'static str, reason: &'static str },
    /// It means nothing here.
    Refused { reason: &'static str },
}

/// A line of a table.
pub(crate) struct Name<S: 'static> {
    pub(crate) name: &'static str,
    pub(crate) meaning: Meaning<S>,
}

/// All names of one kind of settings.
pub(crate) struct Names<S: 'static> {
    /// Whose settings, for errors: `topic`, `producer`.
    pub(crate) of: &'static str,
    pub(crate) table: &'static [Name<S>],
}

impl<S> Names<S> {
    fn find(&self, name: &str) -> Option<&'static Name<S>> {
        self.table.iter().find(|line| line.name == name)
    }

    /// Changes one setting.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownSetting`], [`Error::SettingRefused`]: nothing was changed.
    pub(crate) fn set(&self, settings: &mut S, name: &str, value: &str) -> Result<()> {
        let line = self.find(name).ok_or_else(|| Error::UnknownSetting {
            of: self.of,
            name: name.to_owned(),
            similar: self.similar(name),
        })?;
        let value = value.trim();
        let refused =
            |reason| Error::SettingRefused { setting: line.name, value: value.to_owned(), reason };
        match line.meaning {
            Meaning::Knob { set, .. } => set(settings, value).map_err(refused),
            Meaning::Fixed { value: only, .. } if only == value => Ok(()),
            Meaning::Fixed { reason, .. } | Meaning::Refused { reason } => Err(refused(reason)),
        }
    }

    /// The value of a setting; `None` for a name that means nothing here.
    pub(crate) fn get(&self, settings: &S, name: &str) -> Option<String> {
        match self.find(name)?.meaning {
            Meaning::Knob { get, .. } => Some(get(settings)),
            Meaning::Fixed { value, .. } => Some(value.to_owned()),
            Meaning::Refused { .. } => None,
        }
    }

    /// Every setting that can be changed, with its value.
    pub(crate) fn all(&self, settings: &S) -> Vec<(&'static str, String)> {
        let value = |line: &Name<S>| match line.meaning {
            Meaning::Knob { get, .. } => Some((line.name, get(settings))),
            Meaning::Fixed { .. } | Meaning::Refused { .. } => None,
        };
        self.table.iter().filter_map(value).collect()
    }

    /// The name that was probably meant.
    fn similar(&self, name: &str) -> Option<&'static str> {
        let wanted = plain(name);
        let distance = |line: &'static Name<S>| (distance(&wanted, &plain(line.name)), line.name);
        let (least, found) = self.table.iter().map(distance).min()?;
        // A third of the letters may be wrong: beyond that a hint would mislead.
        (least * 3 <= wanted.len()).then_some(found)
    }
}

/// Names are compared without what people mix up: case, and dots, dashes and underscores.
fn plain(name: &str) -> Vec<u8> {
    let letters = name.bytes().take(100).filter(u8::is_ascii_alphanumeric);
    letters.map(|letter| letter.to_ascii_lowercase()).collect()
}

/// How many letters must be put in, taken out or changed to make one of the other.
fn distance(one: &[u8], other: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

/// What everybody may do with settings that have a table: `by_name!(/// an example .. Settings, TABLE);`
macro_rules! by_name {
    ($(#[$example:meta])* $settings:ty, $names:expr) => {
        impl $settings {
            /// The defaults, changed by settings with Kafka's names.
            ///
            $(#[$example])*
            ///
            /// # Errors
            ///
            /// As [`set`](Self::set).
            pub fn from_kafka<'a>(
                settings: impl IntoIterator<Item = (&'a str, &'a str)>,
            ) -> $crate::error::Result<Self> {
                let mut changed = Self::default();
                for (name, value) in settings {
                    changed.set(name, value)?;
                }
                Ok(changed)
            }

            /// Changes the setting that Kafka calls `name`. Where there is only one way here, only the
            /// value that says so is accepted; what means nothing here is refused with the reason.
            ///
            /// # Errors
            ///
            /// [`Error::UnknownSetting`](crate::Error::UnknownSetting), with the name that was probably
            /// meant; [`Error::SettingRefused`](crate::Error::SettingRefused), with the reason. Nothing
            /// was changed.
            pub fn set(&mut self, name: &str, value: &str) -> $crate::error::Result<()> {
                $names.set(self, name, value)
            }

            /// The value of the setting that Kafka calls `name`; `None` when it means nothing here.
            #[must_use]
            pub fn get(&self, name: &str) -> Option<String> {
                $names.get(self, name)
            }

            /// Every setting that can be changed, by Kafka's name, with its value.
            #[must_use]
            pub fn to_kafka(&self) -> Vec<(&'static str, String)> {
                $names.all(self)
            }
        }
    };
}
pub(crate) use by_name;

/// Parses a number that `is_valid` accepts.
pub(crate) fn number<T: FromStr>(
    text: &str,
    is_valid: impl Fn(&T) -> bool,
    reason: &'static str,
) -> Result<T, &'static str> {
    text.parse().ok().filter(is_valid).ok_or(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: Names<u32> = Names {
        of: "test",
        table: &[
            Name {
                name: "linger.ms",
                meaning: Meaning::Knob {
                    get: u32::to_string,
                    set: |to, text| {
                        *to = number(text, |_| true, "it must be a number")?;
                        Ok(())
                    },
                },
            },
            Name {
                name: "preallocate",
                meaning: Meaning::Fixed { value: "false", reason: "files grow" },
            },
            Name { name: "log.dir", meaning: Meaning::Refused { reason: "it is an argument" } },
        ],
    };

    #[test]
    fn a_name_that_is_nearly_right_brings_a_hint_and_a_wild_one_none() {
        let hint = |name: &str| match NAMES.set(&mut 0, name, "1") {
            Err(Error::UnknownSetting { similar, .. }) => similar,
            other => panic!("{name}: {other:?}"),
        };
        for near in ["linger", "linger_ms", "LINGER.MS", "lingerms.", "lnger.ms"] {
            assert_eq!(hint(near), Some("linger.ms"), "{near}");
        }
        assert_eq!(hint("prealocate"), Some("preallocate"));
        for wild in ["", "compression.type", "\u{fc}", "x"] {
            assert_eq!(hint(wild), None, "{wild}");
        }
        assert_eq!(hint(&"linger.ms".repeat(10_000)), None);
    }

    #[test]
    fn one_value_of_a_fixed_setting_is_accepted_and_refusals_change_nothing() {
        let mut settings = 5;
        NAMES.set(&mut settings, "preallocate", "false").unwrap();
        for (name, value) in [("preallocate", "true"), ("log.dir", "/"), ("linger.ms", "soon")] {
            let refused = NAMES.set(&mut settings, name, value);
            assert!(matches!(refused, Err(Error::SettingRefused { .. })), "{name}");
        }
        assert_eq!(settings, 5);
        NAMES.set(&mut settings, "linger.ms", " 7 ").unwrap();
        assert_eq!(NAMES.get(&settings, "linger.ms").as_deref(), Some("7"));
        assert_eq!(NAMES.get(&settings, "preallocate").as_deref(), Some("false"));
        assert_eq!(NAMES.get(&settings, "log.dir"), None);
        assert_eq!(NAMES.all(&settings), [("linger.ms", "7".to_owned())]);
    }
}
