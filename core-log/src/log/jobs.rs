//! Work that a caller does not wait for, in order, on one thread of the log.
//!
//! Why one thread for all: what is done here waits for the disk, and the disk serves one at a time; the
//! thread is not there until somebody needs it.
//!
//! Invariants
//! * Jobs run one after the other, in the order in which they came.
//! * The thread does not keep a log open; jobs that wait in front of it may.

use std::sync::mpsc::{Sender, channel};

use crate::locks::Mutex;

/// Something to do once.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// The thread, once it is there.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    sender: Mutex<Option<Sender<Job>>>,
}

impl Jobs {
    /// Does something soon; at once, on this thread, when there can be no other.
    pub(crate) fn submit(&self, job: Job) {
        let mut sender = self.sender.lock();
        let sent = match &*sender {
            Some(known) => known.send(job),
            None => {
                let (new, jobs) = channel::<Job>();
                let name = "log-jobs".to_owned();
                let work = move || jobs.into_iter().for_each(|job| job());
                if let Err(error) = std::thread::Builder::new().name(name).spawn(work) {
                    tracing::warn!(%error, "no thread for jobs: callers do them");
                }
                let sent = new.send(job);
                *sender = Some(new);
                sent
            }
        };
        if let Err(unsent) = sent {
            *sender = None;
            drop(sender);
            (unsent.0)();
        }
    }
}
