//! The other process's side: a log that answers through its owner.
//!
//! Invariants
//! * One request at a time per connection; clones share it.

use std::io::{BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::protocol::{ANSWER_LINE_BYTES_MAX, Answer, Request, TopicLine, read_bytes, read_line};
use super::{failed, with_socket_path};
use crate::consumer::FetchSource;
use crate::error::{Error, Result};
use crate::ids::{Offset, Timestamp, TopicId};
use crate::partition::{FetchBound, Fetched, PartitionOffsets};
use crate::topic::Topic;

/// How long an owner may take for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A log that another process owns, through its socket. Clones share one connection.
#[derive(Clone, Debug)]
pub struct AttachedLog {
    dir: Arc<Path>,
    connection: Arc<Mutex<BufReader<UnixStream>>>,
}

impl AttachedLog {
    /// Connects to the process that owns the log in `dir`.
    ///
    /// # Errors
    ///
    /// [`Error::Owner`]: nobody answers.
    pub fn connect(dir: impl AsRef<Path>) -> Result<Self> {
        let dir: Arc<Path> = Arc::from(dir.as_ref());
        let connect = |path: &Path| {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(stream)
        };
        let stream = with_socket_path(&dir, connect).map_err(failed(&dir))?;
        Ok(Self { dir, connection: Arc::new(Mutex::new(BufReader::new(stream))) })
    }

    fn ask(&self, request: &Request) -> Result<(Answer, Bytes)> {
        let mut connection = self.connection.lock();
        let mut exchange = || {
            let mut line = serde_json::to_vec(request)?;
            line.push(b'\n');
            connection.get_mut().write_all(&line)?;
            let line = read_line(&mut *connection, ANSWER_LINE_BYTES_MAX)?
                .ok_or_else(|| std::io::Error::other("the owner hung up"))?;
            let answer: Answer = serde_json::from_str(&line)?;
            let batches = match &answer {
                Answer::Fetched(fetched) => read_bytes(&mut *connection, fetched.bytes)?,
                _ => Bytes::new(),
            };
            Ok((answer, batches))
        };
        let (answer, batches) = exchange().map_err(failed(&self.dir))?;
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
            Answer::Failed(reason) => Err(failed(&self.dir)(std::io::Error::other(reason))),
            answer => Ok(answer),
        }
    }

    fn unexpected<T>(&self) -> Result<T> {
        Err(failed(&self.dir)(std::io::Error::other("the answer does not fit the request")))
    }
}

impl FetchSource for AttachedLog {
    fn topics(&self) -> Result<Vec<Topic>> {
        let (Answer::Topics(lines), _) = self.ask(&Request::Topics)? else {
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
        match self.ask(&request)? {
            (Answer::Fetched(fetched), batches) => Ok(fetched.into_fetched(batches)),
            _ => self.unexpected(),
        }
    }

    fn offsets(&self, topic: TopicId, partition: u32) -> Result<PartitionOffsets> {
        match self.ask(&Request::Offsets { topic: topic.to_string(), partition })? {
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
        match self.ask(&request)? {
            (Answer::OffsetForTime(found), _) => Ok(found),
            _ => self.unexpected(),
        }
    }

    fn changes(&self) -> Result<u64> {
        match self.ask(&Request::Changes)? {
            (Answer::Changes(seen), _) => Ok(seen),
            _ => self.unexpected(),
        }
    }

    fn wait(&self, seen: u64, timeout: Duration) -> Result<u64> {
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        match self.ask(&Request::Wait { seen, timeout_ms })? {
            (Answer::Changes(seen), _) => Ok(seen),
            _ => self.unexpected(),
        }
    }
}
