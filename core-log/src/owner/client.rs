//! The other process's side: a log that answers through its owner.
//!
//! Invariants
//! * One request at a time per connection; clones share it.
//! * A connection that failed is never used again: an answer that came late would be taken for that of
//!   the next request. The next request connects anew.

use std::io::{self, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::locks::Mutex;
use bytes::Bytes;

use super::protocol::{
    ANSWER_LINE_BYTES_MAX, Answer, BATCH_BYTES_LIMIT, Request, TopicLine, read_bytes, read_line,
};
use super::{failed, with_socket_path};
use crate::commit::OffsetCommit;
use crate::consumer::FetchSource;
use crate::error::{Error, Result};
use crate::ids::{GroupId, Offset, Timestamp, TopicId};
use crate::log::answerer::ANSWER_BYTES_MAX;
use crate::log::directory::SOCKET;
use crate::partition::{FetchBound, Fetched, PartitionOffsets};
use crate::topic::Topic;

/// How long an owner may take for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A log that another process owns, through its socket. Clones share one connection.
#[derive(Clone, Debug)]
pub struct AttachedLog {
    dir: Arc<Path>,
    /// `None` once it has failed.
    connection: Arc<Mutex<Option<BufReader<UnixStream>>>>,
}

fn connect(dir: &Path) -> io::Result<BufReader<UnixStream>> {
    let stream = with_socket_path(dir, |path| UnixStream::connect(path))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(BufReader::new(stream))
}

fn exchange(
    connection: &mut BufReader<UnixStream>,
    request: &Request,
) -> io::Result<(Answer, Bytes)> {
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    connection.get_mut().write_all(&line)?;
    let line = read_line(connection, ANSWER_LINE_BYTES_MAX)?
        .ok_or_else(|| io::Error::other("the owner hung up"))?;
    let answer: Answer = serde_json::from_str(&line)?;
    let batches = match &answer {
        Answer::Fetched(fetched) => read_bytes(connection, fetched.bytes, BATCH_BYTES_LIMIT)?,
        Answer::Answered(bytes) => read_bytes(connection, *bytes, ANSWER_BYTES_MAX)?,
        _ => Bytes::new(),
    };
    Ok((answer, batches))
}

impl AttachedLog {
    /// The longest question, in bytes: escaped as JSON it still fits a request.
    pub const QUESTION_BYTES_MAX: usize = 8 << 10;

    /// Connects to the process that owns the log in `dir`.
    ///
    /// # Errors
    ///
    /// [`Error::Owner`]: nobody answers.
    pub fn connect(dir: impl AsRef<Path>) -> Result<Self> {
        let dir: Arc<Path> = Arc::from(dir.as_ref());
        let connection = connect(&dir).map_err(failed(&dir))?;
        Ok(Self { dir, connection: Arc::new(Mutex::new(Some(connection))) })
    }

    /// Asks the program that owns the log, and answers what it answers; see [`Log::answer_with`](crate::Log::answer_with). A
    /// question is at most [`QUESTION_BYTES_MAX`](Self::QUESTION_BYTES_MAX) long.
    ///
    /// # Errors
    ///
    /// * [`Error::NobodyAnswers`]: the owner answers no questions.
    /// * [`Error::Owner`]: no answer in time, or none that can be sent.
    pub fn ask(&self, question: &str) -> Result<String> {
        if question.len() > Self::QUESTION_BYTES_MAX {
            return Err(failed(&self.dir)(io::Error::other("the question is too long")));
        }
        let request = Request::Ask { question: question.to_owned() };
        let (Answer::Answered(_), text) = self.request(&request)? else {
            return self.unexpected();
        };
        String::from_utf8(text.into()).or_else(|_not_text| self.unexpected())
    }

    pub(super) fn request(&self, request: &Request) -> Result<(Answer, Bytes)> {
        let mut kept = self.connection.lock();
        let taken = kept.take().map_or_else(|| connect(&self.dir), Ok);
        let mut connection = taken.map_err(failed(&self.dir))?;
        let (answer, batches) = exchange(&mut connection, request).map_err(failed(&self.dir))?;
        *kept = Some(connection);
        drop(kept);
        self.refusal(answer).map(|answer| (answer, batches))
    }

    fn refusal(&self, answer: Answer) -> Result<Answer> {
        match answer {
            Answer::OutOfRange { requested, start, end } => {
                Err(Error::OffsetOutOfRange { requested, start, end })
            }
            Answer::UnknownPartition { topic, partition, partitions } => {
                Err(Error::UnknownPartition { topic, partition, partitions })
            }
            Answer::Damaged { topic, partition, path, position, offset, reason } => {
                Err(Error::Damaged {
                    topic,
                    partition,
                    path: path.into(),
                    position,
                    offset,
                    reason,
                })
            }
            Answer::UnknownTransactionalId(name) => Err(Error::UnknownTransactionalId { name }),
            Answer::NobodyAnswers => Err(Error::NobodyAnswers { path: self.dir.join(SOCKET) }),
            Answer::Failed(reason) => Err(failed(&self.dir)(io::Error::other(reason))),
            answer => Ok(answer),
        }
    }

    pub(super) fn unexpected<T>(&self) -> Result<T> {
        Err(failed(&self.dir)(io::Error::other("the answer does not fit the request")))
    }
}

impl FetchSource for AttachedLog {
    fn topics(&self) -> Result<Vec<Topic>> {
        let (Answer::Topics(lines), _) = self.request(&Request::Topics)? else {
            return self.unexpected();
        };
        let topics: Option<Vec<Topic>> = lines.iter().map(TopicLine::to_topic).collect();
        topics.map_or_else(|| self.unexpected(), Ok)
    }

    fn fetch(
        &self,
        topic: TopicId,
        partition: u32,
        offset: Offset,
        max_bytes: usize,
        bound: FetchBound,
    ) -> Result<Fetched> {
        let topic = topic.to_string();
        let bound = bound.into();
        let request = Request::Fetch { topic, partition, offset, max_bytes, bound };
        match self.request(&request)? {
            (Answer::Fetched(fetched), batches) => Ok(fetched.into_fetched(batches)),
            _ => self.unexpected(),
        }
    }

    fn offsets(&self, topic: TopicId, partition: u32) -> Result<PartitionOffsets> {
        match self.request(&Request::Offsets { topic: topic.to_string(), partition })? {
            (Answer::Offsets(offsets), _) => Ok(offsets.into()),
            _ => self.unexpected(),
        }
    }

    fn offset_for_time(
        &self,
        topic: TopicId,
        partition: u32,
        timestamp: Timestamp,
    ) -> Result<Option<(Offset, Timestamp)>> {
        let request = Request::OffsetForTime { topic: topic.to_string(), partition, timestamp };
        match self.request(&request)? {
            (Answer::OffsetForTime(found), _) => Ok(found),
            _ => self.unexpected(),
        }
    }

    fn committed(&self, group: &GroupId) -> Result<Vec<OffsetCommit>> {
        let request = Request::Committed { group: group.to_string() };
        let (Answer::Committed(lines), _) = self.request(&request)? else {
            return self.unexpected();
        };
        let positions: Option<_> = lines.into_iter().map(|line| line.into_commit(group)).collect();
        positions.map_or_else(|| self.unexpected(), Ok)
    }

    fn changes(&self) -> Result<u64> {
        match self.request(&Request::Changes)? {
            (Answer::Changes(seen), _) => Ok(seen),
            _ => self.unexpected(),
        }
    }

    fn wait(&self, seen: u64, timeout: Duration) -> Result<u64> {
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        match self.request(&Request::Wait { seen, timeout_ms })? {
            (Answer::Changes(seen), _) => Ok(seen),
            _ => self.unexpected(),
        }
    }
}
