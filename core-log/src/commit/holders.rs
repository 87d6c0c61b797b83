//! Who holds a transactional id: taken over, taken up again, let go, timed out, aborted by its name.
//!
//! ```text
//!   take_over   a fresh producer id; whoever held the transactional id is fenced and aborted
//!   acquire     the same, or the producer id of one that nobody holds, with its next epoch
//!   park        a transaction that was its own holder has ended: the id can be taken up again
//! ```
//!
//! Why two ways in: who commits a thousand times a second under one id must not leave a thousand
//! producers behind in every partition.
//!
//! Invariants
//! * A transaction that is being decided is waited for, never aborted.
//! * Locks as in the parent; none is held while markers are written.
//!
//! On crash: nothing of this is kept; see `transactions`.

use std::time::Duration;

use super::transactions::{Dismissal, Listed, Refusal};
use super::{Commits, Directory, TransactionRef};
use crate::error::{Error, Result};
use crate::ids::{ProducerEpoch, ProducerId, TransactionalId};
use crate::partition::Promise;

impl Commits {
    /// Makes a fresh producer the holder of a transactional id. The one before is fenced and its
    /// transaction aborted; a commit that is on its way is waited for, as its offsets must be known.
    pub(crate) fn take_over(
        &self,
        log: &dyn Directory,
        id: &TransactionalId,
    ) -> Result<ProducerId> {
        let producer = self.new_producer_id()?;
        let before = self.table.lock().take_over(id, producer);
        for running in before {
            self.abort(log, running)?;
            self.wait_for_end(running)?;
        }
        self.shared.health.check()?;
        Ok(producer)
    }

    fn wait_for_end(&self, producer: ProducerId) -> Result<()> {
        let mut table = self.table.lock();
        while table.is_ending(producer) {
            self.shared.health.check()?;
            self.ended.wait(&mut table);
        }
        Ok(())
    }

    /// Begins the next transaction of a producer; `None` when its epochs are used up.
    pub(crate) fn begin(
        &self,
        transaction: &TransactionRef,
        timeout: Option<Duration>,
    ) -> Result<Option<ProducerEpoch>> {
        self.shared.health.check()?;
        let now = self.shared.clock.monotonic();
        match self.table.lock().begin(transaction.producer_id, now, timeout) {
            Ok(epoch) => Ok(Some(epoch)),
            Err(Refusal::EpochsUsedUp) => Ok(None),
            Err(refusal) => Err(transaction.refused(refusal)),
        }
    }

    /// Begins a transaction under an id, whoever holds that by now: see [`take_over`](Self::take_over).
    pub(crate) fn acquire(
        &self,
        log: &dyn Directory,
        id: &TransactionalId,
        promise: Promise,
        timeout: Option<Duration>,
    ) -> Result<TransactionRef> {
        self.shared.health.check()?;
        let now = self.shared.clock.monotonic();
        let resumed = self.table.lock().resume(id, now, timeout);
        let of = |(producer_id, producer_epoch)| TransactionRef {
            transactional_id: id.clone(),
            producer_id,
            producer_epoch,
            promise,
        };
        if let Some(known) = resumed {
            return Ok(of(known));
        }
        let begun = of((self.take_over(log, id)?, ProducerEpoch(0)));
        match self.begin(&begun, timeout)? {
            Some(producer_epoch) => Ok(TransactionRef { producer_epoch, ..begun }),
            None => Err(begun.refused(Refusal::EpochsUsedUp)),
        }
    }

    /// Lets go of a producer whose transaction has ended, for whoever wants its id next.
    pub(crate) fn park(&self, producer: ProducerId) {
        self.table.lock().park(producer);
    }

    /// Forgets a producer that was given up.
    pub(crate) fn release(&self, producer: ProducerId) {
        self.table.lock().release(producer);
    }

    /// Whether the transaction can still be written to and committed.
    pub(crate) fn check_open(&self, transaction: &TransactionRef) -> Result<()> {
        self.table
            .lock()
            .check_open(transaction.producer_id, transaction.producer_epoch)
            .map_err(|refusal| transaction.refused(refusal))
    }

    /// Aborts and fences transactions that are open for too long.
    pub(crate) fn abort_timed_out(&self, log: &dyn Directory, most: Duration) -> Result<()> {
        let now = self.shared.clock.monotonic();
        let late = {
            let mut table = self.table.lock();
            let late = table.timed_out(now, most);
            for (producer, timeout) in &late {
                table.fence(*producer, Refusal::TimedOut(*timeout));
            }
            late
        };
        for (producer, timeout) in late {
            tracing::warn!(%producer, ?timeout, "a transaction timed out and is aborted");
            self.abort(log, producer)?;
        }
        Ok(())
    }

    /// Aborts the open transaction of an id and fences its holder; one that is on its way to an end is
    /// waited for.
    pub(crate) fn dismiss(&self, log: &dyn Directory, id: &TransactionalId) -> Result<Dismissal> {
        self.shared.health.check()?;
        let found = self.table.lock().dismiss(id);
        match found {
            Dismissal::Abort(producer) => {
                tracing::warn!(%id, %producer, "a transaction is aborted from outside");
                self.abort(log, producer)?;
            }
            Dismissal::Ending(producer) => self.wait_for_end(producer)?,
            Dismissal::Idle => {}
            Dismissal::Unknown => {
                return Err(Error::UnknownTransactionalId { name: id.to_string() });
            }
        }
        Ok(found)
    }

    /// All transactional ids and what they do, with what the monotonic clock shows.
    pub(crate) fn list(&self) -> (Vec<Listed>, Duration) {
        let listed = self.table.lock().list();
        (listed, self.shared.clock.monotonic())
    }
}
