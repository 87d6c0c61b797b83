//! What the process that owns a log answers to questions that are not about the log.
//!
//! Why here: others find the owner of a directory through the log's socket, and what they want to know
//! may be known to the program that uses the log, not to the log. The log carries text to and fro and
//! understands none of it.
//!
//! ```text
//!   client --- question ---> a thread for it: handler --- answer ---> client
//!                              |- panics            "the handler panicked"
//!                              `- takes too long    the client is told; the thread is left to itself
//! ```
//!
//! Invariants
//! * a handler that panics or hangs costs the log nothing but a thread, and at most `ASKED_MAX` of them.
//! * no answer is longer than `ANSWER_BYTES_MAX`.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::locks::Mutex;

/// The longest answer, in bytes.
pub(crate) const ANSWER_BYTES_MAX: usize = 8 << 20;
/// How many questions are worked on at a time.
const ASKED_MAX: usize = 8;

/// What turns a question into an answer.
pub(crate) type Handler = Arc<dyn Fn(&str) -> String + Send + Sync>;

/// What became of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// The handler's answer.
    Answered(String),
    /// There is no handler.
    Nobody,
    /// There is no answer.
    Failed(&'static str),
}

/// The handler of a log, if there is one.
#[derive(Default)]
pub(crate) struct Answerer {
    handler: Mutex<Option<Handler>>,
    asked: Arc<AtomicUsize>,
}

impl fmt::Debug for Answerer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answerer").field("asked", &self.asked).finish_non_exhaustive()
    }
}

/// Counts a question for as long as a thread works on it.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Answerer {
    /// Replaces the handler.
    pub(crate) fn set(&self, handler: Option<Handler>) {
        // Dropped behind the lock: what a handler holds may ask the log when it goes.
        let before = std::mem::replace(&mut *self.handler.lock(), handler);
        drop(before);
    }

    /// Asks the handler and waits for it, at most `patience`.
    pub(crate) fn ask(&self, question: String, patience: Duration) -> Asked {
        let Some(handler) = self.handler.lock().clone() else { return Asked::Nobody };
        let counted = Counted(Arc::clone(&self.asked));
        if self.asked.fetch_add(1, Ordering::AcqRel) >= ASKED_MAX {
            return Asked::Failed("too many questions at a time");
        }
        let (tell, told) = channel();
        let work = move || {
            let answer = catch_unwind(AssertUnwindSafe(|| handler(&question)));
            drop(handler);
            drop(counted);
            // Nobody may be waiting any more.
            drop(tell.send(answer));
        };
        if std::thread::Builder::new().name("log-asked".to_owned()).spawn(work).is_err() {
            return Asked::Failed("no thread for the question");
        }
        match told.recv_timeout(patience) {
            Ok(Ok(answer)) if answer.len() <= ANSWER_BYTES_MAX => Asked::Answered(answer),
            Ok(Ok(_too_long)) => Asked::Failed("the answer is too long"),
            Ok(Err(_panic)) => Asked::Failed("what should answer panicked"),
            Err(_timeout) => Asked::Failed("no answer in time"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn answering(handler: impl Fn(&str) -> String + Send + Sync + 'static) -> Answerer {
        let answerer = Answerer::default();
        answerer.set(Some(Arc::new(handler)));
        answerer
    }

    fn ask(answerer: &Answerer) -> Asked {
        answerer.ask("?".to_owned(), PATIENCE)
    }

    #[test]
    fn whoever_answers_too_much_or_panics_has_not_answered() {
        assert_eq!(ask(&Answerer::default()), Asked::Nobody);
        assert_eq!(ask(&answering(|q| format!("{q}!"))), Asked::Answered("?!".to_owned()));
        let endless = answering(|_| "x".repeat(ANSWER_BYTES_MAX + 1));
        assert_eq!(ask(&endless), Asked::Failed("the answer is too long"));
        let panics = answering(|_| std::panic::resume_unwind(Box::new("on purpose")));
        for _ in 0..2 * ASKED_MAX {
            assert_eq!(ask(&panics), Asked::Failed("what should answer panicked"));
        }
    }

    #[test]
    fn hanging_handlers_are_left_alone_and_are_few() {
        let (release, held) = channel::<()>();
        let held = Mutex::new(held);
        let hanging = answering(move |_| {
            // Ends when the test drops the other side.
            assert!(held.lock().recv().is_err());
            String::new()
        });
        for _ in 0..ASKED_MAX {
            let asked = hanging.ask(String::new(), Duration::ZERO);
            assert_eq!(asked, Asked::Failed("no answer in time"));
        }
        assert_eq!(ask(&hanging), Asked::Failed("too many questions at a time"));
        drop(release);
        while hanging.asked.load(Ordering::Acquire) > 0 {
            std::thread::yield_now();
        }
        assert_eq!(ask(&hanging), Asked::Answered(String::new()));
        hanging.set(None);
        assert_eq!(ask(&hanging), Asked::Nobody);
    }
}
