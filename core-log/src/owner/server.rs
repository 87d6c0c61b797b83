//! The owner's side: answers whoever connects, one thread per client.
//!
//! Invariants
//! * A client never keeps the log open: the log is looked up for each request.
//! * A wait is answered within half a second, so that closing waits for nobody.

use std::io::{self, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;

use super::protocol::{Answer, BATCHES_BYTES_MAX, REQUEST_BYTES_MAX, Request, read_line};
use super::with_socket_path;
use crate::error::{Error, Result};
use crate::ids::{GroupId, TopicId};
use crate::log::answerer::Asked;
use crate::log::directory::SOCKET;
use crate::log::{Inner, Log};

const CLIENTS_MAX: usize = 16;
/// How long the server waits after a client could not be taken.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
const WAIT_MAX: Duration = Duration::from_millis(500);
/// How long whatever answers for this process may take.
const ASK_MAX: Duration = Duration::from_secs(5);

/// The listening socket: nobody answers once this is dropped. Its file is removed by the next owner.
#[derive(Debug)]
pub(crate) struct Server {
    dir: Arc<Path>,
    is_stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Listens in the log's directory. A log can be used without: then nobody can look at it meanwhile.
pub(crate) fn serve(inner: &Arc<Inner>) -> Option<Server> {
    let dir: Arc<Path> = Arc::from(inner.dir());
    match listen(inner, &dir) {
        Ok(server) => Some(server),
        Err(error) => {
            tracing::warn!(%error, "no owner's socket: the log cannot be looked at while it is open");
            None
        }
    }
}

fn listen(inner: &Arc<Inner>, dir: &Arc<Path>) -> io::Result<Server> {
    let path = dir.join(SOCKET);
    if inner.storage().exists(&path)? {
        // The owner before was killed: its lock is ours now.
        inner.storage().remove_file(&path)?;
    }
    let listener = with_socket_path(dir, |path| UnixListener::bind(path))?;
    let is_stopped = Arc::new(AtomicBool::new(false));
    let (log, stopped) = (Arc::downgrade(inner), Arc::clone(&is_stopped));
    let thread = std::thread::Builder::new()
        .name("log-owner".to_owned())
        .spawn(move || accept(&listener, &log, &stopped))?;
    Ok(Server { dir: Arc::clone(dir), is_stopped, thread: Some(thread) })
}

fn accept(listener: &UnixListener, log: &Weak<Inner>, is_stopped: &AtomicBool) {
    let clients = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        if is_stopped.load(Ordering::Acquire) {
            return;
        }
        let Ok(stream) = stream else {
            // Too many open files, or a client that left while it waited: neither lasts.
            std::thread::park_timeout(ACCEPT_RETRY);
            continue;
        };
        if clients.fetch_add(1, Ordering::AcqRel) >= CLIENTS_MAX {
            clients.fetch_sub(1, Ordering::AcqRel);
            let refused =
                send(&stream, &Answer::Failed("too many clients".to_owned()), &Bytes::new());
            if let Err(error) = refused {
                tracing::debug!(%error, "a client left");
            }
            continue;
        }
        let (log, counted) = (Weak::clone(log), Arc::clone(&clients));
        let spawned = std::thread::Builder::new().name("log-client".to_owned()).spawn(move || {
            if let Err(error) = talk(&stream, &log) {
                tracing::debug!(%error, "a client left");
            }
            counted.fetch_sub(1, Ordering::AcqRel);
        });
        if spawned.is_err() {
            clients.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

fn talk(stream: &UnixStream, log: &Weak<Inner>) -> io::Result<()> {
    let mut input = BufReader::new(stream.try_clone()?);
    while let Some(line) = read_line(&mut input, REQUEST_BYTES_MAX)? {
        let (answer, batches) = match serde_json::from_str(&line) {
            Err(error) => (Answer::Failed(format!("not a request: {error}")), Bytes::new()),
            Ok(Request::Ask { question }) => {
                // The log itself must not be held while a handler works, or hangs.
                let Some(answerer) = log.upgrade().map(|inner| Arc::clone(inner.answerer())) else {
                    return Ok(());
                };
                told(answerer.ask(question, ASK_MAX))
            }
            Ok(request) => {
                let Some(inner) = log.upgrade() else { return Ok(()) };
                answer(&Log { inner }, &request)
                    .unwrap_or_else(|error| (error.into(), Bytes::new()))
            }
        };
        send(stream, &answer, &batches)?;
    }
    Ok(())
}

fn send(mut stream: &UnixStream, answer: &Answer, batches: &Bytes) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer).map_err(io::Error::other)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    stream.write_all(batches)
}

fn told(asked: Asked) -> (Answer, Bytes) {
    match asked {
        Asked::Answered(text) => (Answer::Answered(text.len()), Bytes::from(text)),
        Asked::Nobody => (Answer::NobodyAnswers, Bytes::new()),
        Asked::Failed(why) => (Answer::Failed(why.to_owned()), Bytes::new()),
    }
}

fn topic_id(text: &str) -> Result<TopicId> {
    text.parse().map_err(|_not_an_id| Error::UnknownPartition {
        topic: text.to_owned(),
        partition: 0,
        partitions: 0,
    })
}

fn answer(log: &Log, request: &Request) -> Result<(Answer, Bytes)> {
    let answer = match request {
        Request::Topics => Answer::Topics(log.topics()?.iter().map(Into::into).collect()),
        Request::Fetch { topic, partition, offset, max_bytes, bound } => {
            let most = (*max_bytes).min(BATCHES_BYTES_MAX);
            let fetched =
                log.fetch(topic_id(topic)?, *partition, *offset, most, (*bound).into())?;
            return Ok((Answer::Fetched((&fetched).into()), fetched.batches));
        }
        Request::Offsets { topic, partition } => {
            Answer::Offsets(log.offsets(topic_id(topic)?, *partition)?.into())
        }
        Request::OffsetForTime { topic, partition, timestamp } => {
            Answer::OffsetForTime(log.offset_for_time(topic_id(topic)?, *partition, *timestamp)?)
        }
        Request::Committed { group } => {
            let positions = log.committed(&GroupId::new(group)?)?;
            Answer::Committed(positions.into_iter().map(Into::into).collect())
        }
        Request::Changes => Answer::Changes(log.changes()),
        Request::Wait { seen, timeout_ms } => {
            let timeout = Duration::from_millis(*timeout_ms).min(WAIT_MAX);
            Answer::Changes(log.wait_for_change(*seen, timeout))
        }
        Request::Transactions => {
            Answer::Transactions(log.transactions()?.iter().map(Into::into).collect())
        }
        Request::Producers { topic, partition } => {
            let producers = log.producers(topic_id(topic)?, *partition)?;
            Answer::Producers(producers.into_iter().map(Into::into).collect())
        }
        Request::AbortTransaction { id } => {
            Answer::TransactionAborted(log.abort_transaction(id)?.into())
        }
        Request::Ask { question } => {
            return Ok(told(log.inner.answerer().ask(question.clone(), ASK_MAX)));
        }
    };
    Ok((answer, Bytes::new()))
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Release);
        // Wakes the thread that waits for clients.
        let woken = with_socket_path(&self.dir, |path| UnixStream::connect(path));
        let Some(thread) = self.thread.take() else { return };
        if woken.is_ok() && thread.join().is_err() {
            tracing::error!("the owner's thread panicked");
        }
    }
}
