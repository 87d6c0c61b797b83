//! Asks the job: the one that runs, through the owner's socket, or what it left, when nobody runs it.
//!
//! ```text
//!   connect --- a job answers ----------------------> its answer
//!      |   `--- somebody only looks at the log -----> wait for a moment, connect again
//!      `--- nobody listens ---> open log and stores, answer, close
//!                                  `--- locked after all ---> connect again
//! ```
//!
//! Invariants
//! * while a stopped job is looked at, it cannot start: it waits for half a second, and is then told who
//!   holds the directory.
//! * whoever comes and goes in between is met again, for two seconds; then the one who is there is named.

use std::time::Duration;

use core_log::{AttachedLog, Clock, SystemClock};

use crate::app::App;
use crate::error::{Error, Result};
use crate::query::{Answer, Asking, Question};

/// How often, and how long, an owner that does not answer is looked for again.
const RETRY: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks the job, running or not.
pub(super) fn ask(app: &App, question: &Question) -> Result<Answer> {
    let clock = SystemClock::new();
    let began = clock.monotonic();
    loop {
        let outcome = match AttachedLog::connect(app.log_dir()) {
            Ok(owner) => ask_owner(app, &owner, question),
            Err(_nobody) => app.answer_stopped(question),
        };
        match outcome {
            Err(error) if is_in_between(&error) => {
                if clock.monotonic().saturating_sub(began) >= PATIENCE {
                    return Err(error);
                }
            }
            outcome => return outcome,
        }
        // Between lock and socket nothing tells when an owner is ready, or gone.
        std::thread::park_timeout(RETRY);
    }
}

/// The process that runs the job, if one does.
pub(super) fn running(app: &App) -> Result<Option<u32>> {
    let Ok(owner) = AttachedLog::connect(app.log_dir()) else { return Ok(None) };
    match ask_owner(app, &owner, &Question::Who) {
        Ok(Answer::Who { pid, .. }) => Ok(Some(pid)),
        Ok(_) => Ok(None),
        Err(error) if is_in_between(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn ask_owner(app: &App, owner: &AttachedLog, question: &Question) -> Result<Answer> {
    let asking = Asking { job: app.id().to_owned(), ask: question.clone() };
    let text = serde_json::to_string(&asking).expect("questions are plain data");
    if text.len() > AttachedLog::QUESTION_BYTES_MAX {
        return Err(Error::Usage { reason: "a key may not be that long".to_owned() });
    }
    let answer = owner.ask(&text)?;
    let answer: Answer = serde_json::from_str(&answer).map_err(|error| Error::Unanswered {
        reason: format!("its answer is of another version: {error}"),
    })?;
    match answer {
        Answer::Refused(refusal) => Err(refusal.into()),
        answer => Ok(answer),
    }
}

/// Whether the owner is leaving, or only looks at the log.
fn is_in_between(error: &Error) -> bool {
    use core_log::Error as Log;
    let Error::Log(error) = error else { return false };
    matches!(error, Log::Owner { .. } | Log::NobodyAnswers { .. } | Log::DirectoryLocked { .. })
}
