//! What an operator asks of the process that owns a log; see [`crate::operators`].
//!
//! Why through the owner: it alone knows what runs, and it alone may write the markers of an abort.

use super::client::AttachedLog;
use super::protocol::{Answer, Request};
use crate::error::Result;
use crate::ids::TopicId;
use crate::operators::{AbortOutcome, ProducerInfo, TransactionInfo};

impl AttachedLog {
    /// See [`Log::transactions`](crate::Log::transactions).
    ///
    /// ```
    /// use core_log::{AbortOutcome, AttachedLog, Log, Record, TopicSettings, TransactionState};
    ///
    /// let dir = tempfile::tempdir()?;
    /// let log = Log::open(dir.path())?;
    /// let orders = log.create_topic("orders", TopicSettings::default())?;
    /// let mut hangs = log.transaction("shop")?;
    /// hangs.send(&orders, Record::new(b"tea"))?;
    /// hangs.flush()?;
    /// // In another process:
    /// let owner = AttachedLog::connect(dir.path())?;
    /// assert_eq!(owner.transactions()?[0].state, TransactionState::Open);
    /// assert_eq!(owner.producers(orders.id(), 0)?[0].open_from, Some(0));
    /// assert_eq!(owner.abort_transaction("shop")?, AbortOutcome::Aborted);
    /// assert!(hangs.commit().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As there; [`Error::Owner`](crate::Error::Owner): the owner does not answer.
    pub fn transactions(&self) -> Result<Vec<TransactionInfo>> {
        let (Answer::Transactions(lines), _) = self.request(&Request::Transactions)? else {
            return self.unexpected();
        };
        let known: Option<_> = lines.into_iter().map(|line| line.into_info()).collect();
        known.map_or_else(|| self.unexpected(), Ok)
    }

    /// See [`Log::producers`](crate::Log::producers).
    ///
    /// # Errors
    ///
    /// As there; [`Error::Owner`](crate::Error::Owner): the owner does not answer.
    pub fn producers(&self, topic: TopicId, partition: u32) -> Result<Vec<ProducerInfo>> {
        match self.request(&Request::Producers { topic: topic.to_string(), partition })? {
            (Answer::Producers(lines), _) => Ok(lines.into_iter().map(Into::into).collect()),
            _ => self.unexpected(),
        }
    }

    /// See [`Log::abort_transaction`](crate::Log::abort_transaction).
    ///
    /// # Errors
    ///
    /// As there; [`Error::Owner`](crate::Error::Owner): the owner does not answer.
    pub fn abort_transaction(&self, transactional_id: &str) -> Result<AbortOutcome> {
        let request = Request::AbortTransaction { id: transactional_id.to_owned() };
        match self.request(&request)? {
            (Answer::TransactionAborted(outcome), _) => Ok(outcome.into()),
            _ => self.unexpected(),
        }
    }
}
