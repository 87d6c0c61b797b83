//! Topics that are named by a pattern: which names it takes. Pure.
//!
//! Why a regular expression over the whole name: it is what Kafka's `stream(Pattern)` takes. Matching
//! takes time in proportion to the name, whatever the pattern is.
//!
//! Invariants
//! * topics that the job keeps for itself, and those of the log, are never taken.

use regex::Regex;

use super::{Graph, Kind, clock_topic};
use crate::letter::letters_topic;

/// Ends of the names of internal topics.
const INTERNAL: [&str; 2] = ["-changelog", "-repartition"];

/// Which topics a stream reads.
#[derive(Debug)]
pub(crate) struct Pattern(Regex);

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(crate) fn new(pattern: &str) -> Result<Self, String> {
        let whole = Regex::new(&format!("^(?:{pattern})$")).map_err(|e| e.to_string())?;
        // What closes the group and opens another would be another pattern.
        Regex::new(pattern).map_err(|e| e.to_string())?;
        Ok(Self(whole))
    }

    /// Whether it takes this name.
    pub(crate) fn takes(&self, name: &str) -> bool {
        self.0.is_match(name)
    }

    /// The names that a job of this id may read, in order, each once.
    pub(crate) fn choose(&self, id: &str, names: &[String]) -> Vec<String> {
        let may_be_read = |name: &&String| self.takes(name) && !is_own(id, name);
        let mut taken: Vec<String> = names.iter().filter(may_be_read).cloned().collect();
        taken.sort_unstable();
        taken.dedup();
        taken
    }
}

/// Whether a job of this id, or the log, keeps a topic for itself.
fn is_own(id: &str, name: &str) -> bool {
    let rest = name.strip_prefix(id).and_then(|rest| rest.strip_prefix('-'));
    name.starts_with("__")
        || name == clock_topic(id)
        || name == letters_topic(id)
        || rest.is_some_and(|rest| INTERNAL.iter().any(|end| rest.ends_with(end)))
}

impl Graph {
    /// Whether records may name the topics that they go to.
    pub(crate) fn names_topics(&self) -> bool {
        self.nodes.iter().any(|node| node.kind == Kind::SinkOf)
    }

    /// Why records may not go to a topic of this name; `None`: they may.
    pub(crate) fn refuses_to_write(&self, name: &str) -> Option<String> {
        let read = self.user_sources().contains(&name)
            || self.patterns.iter().any(|p| Pattern::new(p).is_ok_and(|p| p.takes(name)));
        if read {
            return Some(format!("it names topic `{name}`, which the job reads"));
        }
        is_own(&self.id, name).then(|| {
            format!("it names topic `{name}`, which is kept for the job or the log itself")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_takes_whole_names_and_none_of_the_jobs_own() {
        let names: Vec<String> = [
            "clicks-b",
            "clicks-a",
            "old-clicks-a",
            "clicks-a-2",
            "job-clicks-changelog",
            "job-clicks-repartition",
            "job-clock",
            "job-dlq",
            "__commits",
        ]
        .map(str::to_owned)
        .into();
        let choose = |pattern: &str| Pattern::new(pattern).unwrap().choose("job", &names);
        assert_eq!(choose("clicks-[a-z]"), ["clicks-a", "clicks-b"]);
        assert_eq!(choose("clicks-a|clicks-b"), ["clicks-a", "clicks-b"]);
        assert_eq!(choose(".*"), ["clicks-a", "clicks-a-2", "clicks-b", "old-clicks-a"]);
        assert!(Pattern::new("clicks-(").is_err());
        assert!(Pattern::new("a)|(b").is_err());
    }
}
