//! The files at the top of a log directory: layouts, reading and replacing.
//!
//! ```text
//!   .lock              pid and since-ms of the process that owns the directory
//!   meta.properties    version=1, log.id=UUID                      written last when a log is made
//!   topics.checkpoint  one line per topic: id, name, then setting=value ...; adopted=OFFSET,.. says for
//!                      each partition below which offset another log wrote it
//!   clean-shutdown     commits OFFSET, then lines: topic id, partition, synced offset
//!   __commits-0/       see `commit`; `reserve` in it is room that is given up when the disk is full
//!   TOPIC-PARTITION/   see `partition`
//!   state, replay      belong to the layer above
//! ```
//!
//! Why text: a person can read what a log is; a checksum in the last line shows what is whole.
//!
//! Invariants
//! * A directory that holds something else and no `meta.properties` is not touched.
//! * A topic is there once `topics.checkpoint` names it; its partitions' directories are there before, and
//!   hold its id.
//!
//! On crash: every file is replaced as a whole. `clean-shutdown` is removed before anything is served,
//! and the names that were found are synced.
//! Reference: Kafka `meta.properties`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::config::TopicSettings;
use crate::error::{Error, Result};
use crate::ids::{LogId, Offset, TopicName, TopicPartition};
use crate::partition::text_file::{self, Text};
use crate::storage::Storage;
use crate::topic::Topic;

pub(crate) const META: &str = "meta.properties";
pub(crate) const TOPICS: &str = "topics.checkpoint";
pub(crate) const CLEAN: &str = "clean-shutdown";
pub(crate) const LOCK: &str = ".lock";
pub(crate) const SOCKET: &str = ".owner.sock";
pub(crate) const COMMITS_DIR: &str = "__commits-0";
/// In the directory of the commit records: whoever knows the log's files need not know one more.
pub(crate) const RESERVE: &str = "__commits-0/reserve";

const VERSION: &str = "1";

/// Names that may lie in a directory before it is a log: a creation that did not finish, and what
/// belongs to the layer above.
const TOLERATED: [&str; 10] = [
    LOCK,
    SOCKET,
    COMMITS_DIR,
    TOPICS,
    "meta.properties.tmp",
    "topics.checkpoint.tmp",
    "clean-shutdown.tmp",
    "state",
    "replay",
    "lost+found",
];

/// The directory of a partition.
pub(crate) fn partition_dir(dir: &Path, topic: &TopicName, partition: u32) -> PathBuf {
    dir.join(format!("{topic}-{partition}"))
}

/// The partition whose directory has this name.
pub(crate) fn parse_partition_dir(dir: &str) -> Option<(TopicName, u32)> {
    let (name, digits) = dir.rsplit_once('-')?;
    let number = digits.parse().ok().filter(|number: &u32| number.to_string() == digits)?;
    Some((TopicName::new(name).ok()?, number))
}

/// The log's id; `None` when the directory is not a log yet, but may become one.
///
/// # Errors
///
/// [`Error::NotALog`]: it holds something else. [`Error::UnsupportedVersion`]; [`Error::Damaged`]: it is
/// a log whose id cannot be read.
pub(crate) fn read_meta(storage: &dyn Storage, dir: &Path) -> Result<Option<LogId>> {
    let path = dir.join(META);
    match text_file::read(storage, &path)? {
        Text::Proven(text) => parse_meta(&path, &text).map(Some),
        Text::Damaged => Err(damaged(path, "its checksum does not fit")),
        Text::Missing => {
            let names = storage.list(dir).map_err(|e| Error::io(dir, "list", e))?;
            let has = |name: &str| names.iter().any(|found| found == name);
            let has_more = names.iter().any(|name| !TOLERATED.contains(&name.as_str()));
            // A topic's directories are made behind it.
            let has_topic = names.iter().any(|name| {
                let partition = parse_partition_dir(name);
                partition.is_some_and(|_| name != COMMITS_DIR)
            });
            let has_both = has(COMMITS_DIR) && has(TOPICS);
            if has_both && has_more || (has(COMMITS_DIR) || has(TOPICS)) && has_topic {
                return Err(damaged(path, "it is missing"));
            }
            match names.into_iter().find(|name| !TOLERATED.contains(&name.as_str())) {
                Some(found) => Err(Error::NotALog { path: dir.to_owned(), found }),
                None => Ok(None),
            }
        }
    }
}

/// Whether a directory holds a log, or what is left of one.
pub(crate) fn is_log(storage: &dyn Storage, dir: &Path) -> Result<bool> {
    let names = storage.list(dir).map_err(|e| Error::io(dir, "list", e))?;
    Ok(names.iter().any(|name| [META, TOPICS, COMMITS_DIR].contains(&name.as_str())))
}

/// The id in `meta.properties`.
pub(crate) fn parse_meta(path: &Path, text: &str) -> Result<LogId> {
    let value = |key| text.lines().find_map(|line| line.strip_prefix(key));
    let found = value("version=").unwrap_or_default();
    if found != VERSION {
        return Err(Error::UnsupportedVersion {
            path: path.to_owned(),
            found: found.to_owned(),
            supported: VERSION.to_owned(),
        });
    }
    let id = value("log.id=").and_then(|id| id.parse().ok());
    id.ok_or_else(|| damaged(path.to_owned(), "it holds no log id"))
}

/// Says which log this is; from now on the directory is one.
pub(crate) fn write_meta(storage: &dyn Storage, dir: &Path, id: LogId) -> Result<()> {
    text_file::write(storage, dir, META, &format!("version={VERSION}\nlog.id={id}\n"))
}

fn damaged(path: PathBuf, reason: &str) -> Error {
    let topic =
        path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    Error::Damaged { topic, partition: 0, path, position: 0, offset: 0, reason: reason.to_owned() }
}

/// The topics of the log.
pub(crate) fn read_topics(storage: &dyn Storage, dir: &Path) -> Result<Vec<Topic>> {
    let path = dir.join(TOPICS);
    let text = match text_file::read(storage, &path)? {
        Text::Missing => return Err(damaged(path, "it is missing")),
        Text::Damaged => return Err(damaged(path, "its checksum does not fit")),
        Text::Proven(text) => text,
    };
    let topics: Option<Vec<Topic>> = text.lines().map(parse_topic).collect();
    let topics = topics.ok_or_else(|| damaged(path.clone(), "a line is not a topic"))?;
    let names: BTreeSet<_> = topics.iter().map(Topic::name).collect();
    let ids: BTreeSet<_> = topics.iter().map(Topic::id).collect();
    if names.len() < topics.len() || ids.len() < topics.len() {
        return Err(damaged(path, "a topic is there twice"));
    }
    Ok(topics)
}

/// Replaces the list of topics.
pub(crate) fn write_topics<'a>(
    storage: &dyn Storage,
    dir: &Path,
    topics: impl Iterator<Item = &'a Topic>,
) -> Result<()> {
    let text: String = topics.map(topic_line).collect();
    text_file::write(storage, dir, TOPICS, &text)
}

fn topic_line(topic: &Topic) -> String {
    let settings = topic.settings();
    let mut line = format!("{} {} partitions={}", topic.id(), topic.name(), settings.partitions);
    for (name, value) in settings.to_kafka() {
        write!(line, " {name}={value}").expect("writing to a string cannot fail");
    }
    if !topic.adopted_below().is_empty() {
        let ends: Vec<_> = topic.adopted_below().iter().map(ToString::to_string).collect();
        write!(line, " adopted={}", ends.join(",")).expect("writing to a string cannot fail");
    }
    line.push('\n');
    line
}

/// One line of `topics.checkpoint`.
pub(crate) fn parse_topic(line: &str) -> Option<Topic> {
    let mut words = line.split(' ');
    let id = words.next()?.parse().ok()?;
    let name = TopicName::new(words.next()?).ok()?;
    let mut settings = TopicSettings::default();
    let mut adopted: Vec<Offset> = Vec::new();
    for word in words {
        match word.split_once('=')? {
            ("partitions", value) => settings.partitions = value.parse().ok()?,
            ("adopted", value) => {
                adopted = Vec::with_capacity(value.split(',').count());
                for end in value.split(',') {
                    adopted.push(end.parse().ok()?);
                }
            }
            (name, value) => settings.set(name, value).ok()?,
        }
    }
    settings.validate().ok()?;
    let is_whole = adopted.is_empty() || usize::try_from(settings.partitions) == Ok(adopted.len());
    is_whole.then(|| Topic::adopted(name, id, settings, adopted))
}

/// What a clean close left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CleanShutdown {
    /// Up to where `__commits` was synced.
    pub(crate) commits_end: Offset,
    pub(crate) witnesses: BTreeMap<TopicPartition, Offset>,
}

/// Reads what a clean close left; `None` after any other end.
pub(crate) fn read_clean(storage: &dyn Storage, dir: &Path) -> Result<Option<CleanShutdown>> {
    match text_file::read(storage, &dir.join(CLEAN))? {
        Text::Proven(text) => Ok(parse_clean(&text)),
        Text::Missing | Text::Damaged => Ok(None),
    }
}

/// The text of `clean-shutdown`.
pub(crate) fn parse_clean(text: &str) -> Option<CleanShutdown> {
    let mut lines = text.lines();
    let commits_end = lines.next()?.strip_prefix("commits ")?.parse().ok()?;
    let mut witnesses = BTreeMap::new();
    for line in lines {
        let mut words = line.split(' ');
        let topic = words.next()?.parse().ok()?;
        let partition = words.next()?.parse().ok()?;
        witnesses.insert(TopicPartition { topic, partition }, words.next()?.parse().ok()?);
    }
    Some(CleanShutdown { commits_end, witnesses })
}

/// Says that everything is synced and closed.
pub(crate) fn write_clean(storage: &dyn Storage, dir: &Path, clean: &CleanShutdown) -> Result<()> {
    let mut text = format!("commits {}\n", clean.commits_end);
    for (id, offset) in &clean.witnesses {
        writeln!(text, "{} {} {offset}", id.topic, id.partition)
            .expect("writing to a string cannot fail");
    }
    text_file::write(storage, dir, CLEAN, &text)
}

/// Removes the word of a clean close: the log is about to be written again. What was read here is on the
/// disk when this returns: whoever wrote it may have died, or failed, before the names were synced.
pub(crate) fn remove_clean(storage: &dyn Storage, dir: &Path) -> Result<()> {
    let path = dir.join(CLEAN);
    if storage.exists(&path).map_err(|e| Error::io(&path, "look for", e))? {
        storage.remove_file(&path).map_err(|e| Error::io(&path, "remove", e))?;
    }
    storage.sync_dir(dir).map_err(|e| Error::io(dir, "sync", e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Cleanup, CleanupPolicy, TimestampType};
    use crate::ids::TopicId;

    #[test]
    fn a_topic_reads_back_from_its_line() {
        let name = TopicName::new("page-counts.v2").unwrap();
        let id = TopicId::from_random([7; 16]);
        let unbounded = TopicSettings {
            partitions: 12,
            retention_ms: None,
            retention_bytes: Some(5),
            timestamp_after_max_ms: i64::MAX,
            timestamp_type: TimestampType::LogAppend,
            cleanup: Cleanup::with_policy(CleanupPolicy::CompactAndDelete),
            ..TopicSettings::default()
        };
        for settings in [TopicSettings::default(), unbounded] {
            let topic = Topic::new(name.clone(), id, settings);
            assert_eq!(parse_topic(topic_line(&topic).trim_end()), Some(topic));
        }
        let two = TopicSettings::with_partitions(2);
        let adopted = Topic::adopted(name, id, two, vec![7, 0]);
        let line = topic_line(&adopted);
        assert_eq!(parse_topic(line.trim_end()), Some(adopted));
        assert_eq!(parse_topic(&line.trim_end().replace("7,0", "7")), None);
    }

    #[test]
    fn a_line_of_a_log_with_fewer_settings_has_the_defaults_of_the_others() {
        let line = "00000000-0000-4000-8000-000000000000 t partitions=3 segment.bytes=1073741824 \
                    segment.ms=604800000 index.interval.bytes=4096 retention.ms=-1 \
                    retention.bytes=-1 max.message.bytes=1048588 \
                    message.timestamp.after.max.ms=3600000 \
                    message.timestamp.before.max.ms=9223372036854775807";
        let expected =
            TopicSettings { partitions: 3, retention_ms: None, ..TopicSettings::default() };
        assert_eq!(parse_topic(line).map(|topic| topic.settings().clone()), Some(expected));
    }

    #[test]
    fn lines_that_are_not_topics_are_refused() {
        for bad in ["", "x", "0 name", "00000000-0000-4000-8000-000000000000 ../up partitions=1"] {
            assert_eq!(parse_topic(bad), None, "{bad:?}");
        }
        let id = "00000000-0000-4000-8000-000000000000";
        assert!(parse_topic(&format!("{id} t partitions=10000 segment.bytes=256")).is_some());
        for bad in ["partitions=0", "partitions=4294967295", "segment.bytes=0", "segment.ms=-1"] {
            assert_eq!(parse_topic(&format!("{id} t {bad}")), None, "{bad}");
        }
    }
}
