//! Whether the log still stands: the first failed write or sync brings all of it down.
//!
//! Why: after a failed write or sync nobody knows what is on the disk. Guessing per file would need a
//! proof per file; so the log stops, drops what it holds in memory, and reopens by the same recovery
//! as after a power cut.
//!
//! Invariants
//! * Once crashed, nothing is written any more: every writer asks under its own lock.
//! * Expected refusals (a fenced producer, a batch that is too large) are not crashes.
//!
//! Reference: "Can Applications Recover from fsync Failures?" (Rebello et al., 2020).

use std::sync::atomic::{AtomicBool, Ordering};

use crate::locks::Mutex;

use crate::error::{Error, Result};

/// Shared by everything that writes in one life of a log.
#[derive(Debug, Default)]
pub(crate) struct Health {
    down: AtomicBool,
    /// A write did not find room.
    full: AtomicBool,
    cause: Mutex<Option<Down>>,
}

#[derive(Clone, Debug)]
enum Down {
    Crashed(String),
    Closed,
}

impl Health {
    /// # Errors
    ///
    /// [`Error::LogCrashed`] or [`Error::Closed`].
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_down() { Err(self.error()) } else { Ok(()) }
    }

    /// Whether nothing may be written any more.
    pub(crate) fn is_down(&self) -> bool {
        self.down.load(Ordering::Acquire)
    }

    /// Whether a write or sync failed; a closed log has not crashed.
    pub(crate) fn has_crashed(&self) -> bool {
        self.is_down() && matches!(*self.cause.lock(), Some(Down::Crashed(_)))
    }

    /// Whether it was a full disk that brought the log down.
    pub(crate) fn was_full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    fn error(&self) -> Error {
        match &*self.cause.lock() {
            Some(Down::Closed) => Error::Closed,
            Some(Down::Crashed(cause)) => Error::LogCrashed { cause: cause.clone() },
            None => Error::LogCrashed { cause: "unknown".to_owned() },
        }
    }

    fn bring_down(&self, why: Down) {
        self.cause.lock().get_or_insert(why);
        self.down.store(true, Ordering::Release);
    }

    /// The log was closed in order.
    pub(crate) fn close(&self) {
        self.bring_down(Down::Closed);
    }

    /// Passes on the outcome of a write or sync; an error brings the log down.
    pub(crate) fn guard<T>(&self, outcome: Result<T>) -> Result<T> {
        if let Err(error) = &outcome {
            let cause = describe(error);
            if matches!(error, Error::DiskFull { .. }) {
                self.full.store(true, Ordering::Release);
            }
            tracing::error!(%cause, "the log crashed");
            self.bring_down(Down::Crashed(cause));
        }
        outcome
    }
}

/// An error with its causes, in one line.
fn describe(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        text.push_str(": ");
        text.push_str(&source.to_string());
        cause = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_cause_stays_and_everything_is_refused() {
        let health = Health::default();
        assert!(health.check().is_ok());
        let failed: Result<()> = Err(Error::BatchTooLarge { bytes: 2, max_bytes: 1 });
        assert!(health.guard(failed).is_err());
        health.close();
        assert!(
            matches!(health.check(), Err(Error::LogCrashed { cause }) if cause.contains("2 bytes"))
        );
        assert!(health.has_crashed());
    }
}
