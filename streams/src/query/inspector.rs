//! Answers for a running job: whoever asks, from this process or another.
//!
//! Invariants
//! * it does not keep the log open: the log is looked up for each question.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::catalog::Catalog;
use super::questions::{Answer, Asking, Question, answer, store_lines};
use super::status::{Live, Silence, Status, gather};
use crate::broker::{Broker, EmbeddedBroker};
use crate::error::{Error, Result};
use crate::runtime::{Control, JobPlan};

/// What a running job can be asked.
pub(crate) struct Inspector {
    pub(crate) catalog: Catalog,
    plan: JobPlan,
    broker: Weak<EmbeddedBroker>,
    control: Arc<Control>,
    started: Duration,
    silence: Silence,
}

impl Inspector {
    pub(crate) fn new(
        catalog: Catalog,
        plan: JobPlan,
        broker: &Arc<EmbeddedBroker>,
        control: Arc<Control>,
    ) -> Self {
        let (started, silence) = (broker.monotonic(), Silence::default());
        Self { catalog, plan, broker: Arc::downgrade(broker), control, started, silence }
    }

    /// Answers a question that came as text.
    pub(crate) fn answer_text(&self, text: &str) -> String {
        let answered = match serde_json::from_str::<Asking>(text) {
            Err(error) => Err(Error::Usage { reason: format!("not a question: {error}") }),
            Ok(asking) if asking.job != self.catalog.id => Err(self.is_another(&asking.job)),
            Ok(Asking { ask: Question::Status, .. }) => {
                self.status().map(|status| Answer::Status(Box::new(status)))
            }
            Ok(asking) => answer(&self.catalog, &self.control.desk, &asking.ask),
        };
        let answered = answered.unwrap_or_else(|error| Answer::Refused(error.into()));
        serde_json::to_string(&answered).expect("answers are plain data with text keys")
    }

    fn is_another(&self, asked: &str) -> Error {
        let (id, pid) = (&self.catalog.id, std::process::id());
        Error::Unanswered {
            reason: format!(
                "the log is in use by the job `{id}` (pid {pid}), which knows nothing of `{asked}`"
            ),
        }
    }

    fn broker(&self) -> Result<Arc<EmbeddedBroker>> {
        let gone = || Error::Unanswered { reason: "it has just ended".to_owned() };
        self.broker.upgrade().ok_or_else(gone)
    }

    /// Looks whether source partitions are silent; now and then, or else nobody can say since when.
    pub(crate) fn look(&self) -> Result<()> {
        self.silence.look(&self.plan, self.broker()?.as_ref())
    }

    /// How the job goes.
    pub(crate) fn status(&self) -> Result<Status> {
        let broker = self.broker()?;
        // What the workers say is left out while they cannot: the log says the rest.
        let stores = match store_lines(&self.catalog, &self.control.desk) {
            Err(Error::Unanswered { .. }) => Vec::new(),
            stores => stores?,
        };
        let uptime = broker.monotonic().saturating_sub(self.started);
        let live = Live {
            pid: std::process::id(),
            uptime_ms: i64::try_from(uptime.as_millis()).unwrap_or(i64::MAX),
            progress: self.control.progress.get(),
            commit_us: self.control.progress.commit_us(),
        };
        gather(&self.plan, broker.as_ref(), Some((live, &self.silence)), stores)
    }
}
