//! A log that another process may own: looked at, never written.
//!
//! ```text
//!   with(ask) --- an owner answers ------> ask it; the connection is kept
//!             `-- nobody has it open ----> open it, ask, close it again
//! ```
//!
//! Why closed again each time: whoever owns a directory keeps everybody else out. A long reading takes
//! megabytes at a time and lets go while they are being worked on, so that a job that wants to start
//! does not meet it: the job waits for longer than one asking takes.
//!
//! Invariants
//! * nothing is ever created or appended. Opening a log that was killed recovers it, as anyone's would.
//! * a question may be asked again, of the next owner, when the one that was asked has left.

use std::path::{Path, PathBuf};

use core_log::{AttachedLog, Clock, FetchSource, GroupId, LogView, SystemClock, Topic};

use super::embedded::{position, topic_ref};
use super::{Position, TopicRef};
use crate::error::{Error, Result};

/// How often in a row the owner may leave before an answer is there.
const OWNERS_MAX: u32 = 20;

/// Who may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The owner, or the files themselves when there is none.
    Any,
    /// The owner that there was at first, and nobody else.
    Owner,
}

/// The log of a directory, as somebody who does not run a job on it sees it.
#[derive(Debug)]
pub(crate) struct View {
    dir: PathBuf,
    way: Way,
    attached: Option<AttachedLog>,
}

impl View {
    /// Of the log in `dir`, whether or not somebody has it open.
    pub(crate) fn of(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), way: Way::Any, attached: None }
    }

    /// Through its present owner only: this process never owns the log.
    ///
    /// # Errors
    ///
    /// Nobody answers.
    pub(crate) fn of_owner(dir: &Path) -> Result<Self> {
        let attached = Some(AttachedLog::connect(dir)?);
        Ok(Self { dir: dir.to_owned(), way: Way::Owner, attached })
    }

    /// The directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Wall clock, in milliseconds since 1970.
    pub(crate) fn now_ms() -> i64 {
        SystemClock::new().now_ms()
    }

    /// Asks the log something. What was done before an error is kept: `ask` may be called again.
    ///
    /// # Errors
    ///
    /// S006, S014 to S016: the log cannot be looked at; what `ask` says.
    pub(crate) fn with<T>(&mut self, mut ask: impl FnMut(&LogView) -> Result<T>) -> Result<T> {
        let mut owners = 0;
        loop {
            let view = match &self.attached {
                Some(attached) => LogView::Attached(attached.clone()),
                None => LogView::open(&self.dir)?,
            };
            let outcome = ask(&view);
            match view {
                LogView::Owned(log) => {
                    let closed = log.close();
                    let answer = outcome?;
                    closed?;
                    return Ok(answer);
                }
                LogView::Attached(attached) => self.attached = Some(attached),
            }
            match outcome {
                Err(error) if has_left(&error) && self.way == Way::Any && owners < OWNERS_MAX => {
                    self.attached = None;
                    owners += 1;
                }
                outcome => return outcome,
            }
        }
    }

    /// All topics.
    ///
    /// # Errors
    ///
    /// As [`with`](Self::with).
    pub(crate) fn topics(&mut self) -> Result<Vec<Topic>> {
        self.with(|log| Ok(log.topics()?))
    }

    /// The topic of this name.
    ///
    /// # Errors
    ///
    /// S004, with the topics that there are; as [`with`](Self::with).
    pub(crate) fn topic(&mut self, name: &str) -> Result<Topic> {
        let dir = self.dir.clone();
        self.with(|log| find_topic(log, &dir, name))
    }

    /// A topic as a job knows it.
    pub(crate) fn topic_ref(topic: &Topic) -> TopicRef {
        topic_ref(topic)
    }
}

/// The topic of this name, in the log of `dir`.
///
/// # Errors
///
/// S004, with the topics that there are; the log's own.
pub(crate) fn find_topic(log: &LogView, dir: &Path, name: &str) -> Result<Topic> {
    let topics = log.topics()?;
    let found = topics.iter().find(|topic| topic.name().as_str() == name);
    found.cloned().ok_or_else(|| Error::UnknownTopic {
        name: name.to_owned(),
        log: dir.display().to_string(),
        known: topics.iter().map(|topic| topic.name().to_string()).collect(),
    })
}

/// All topics, as a job knows them.
///
/// # Errors
///
/// The log's own.
pub(crate) fn topics_of(log: &LogView) -> Result<Vec<TopicRef>> {
    Ok(log.topics()?.iter().map(topic_ref).collect())
}

/// The positions that a group has committed.
///
/// # Errors
///
/// S024: no name for a group; the log's own.
pub(crate) fn committed(log: &LogView, group: &str) -> Result<Vec<Position>> {
    let group = GroupId::new(group).map_err(core_log::Error::from)?;
    Ok(log.committed(&group)?.into_iter().map(position).collect())
}

/// Whether the process that was asked does not answer any more.
pub(crate) fn has_left(error: &Error) -> bool {
    matches!(error, Error::Log(core_log::Error::Owner { .. }))
}
