//! What both kinds of transactions have in common for whoever commits positions in one.
//!
//! Why a trait: a consumer knows positions and checks that it may commit them; it need not know how the
//! records of the transaction were sent.

use super::{CommitOutcome, Transaction};
use crate::commit::OffsetCommit;
use crate::error::Result;

/// A transaction that can be committed together with positions that somebody else knows: see
/// [`Consumer::commit_in`](crate::Consumer::commit_in).
///
/// ```
/// use core_log::{CommitOutcome, CommitWith, GroupId, Log, OffsetCommit, TopicSettings};
///
/// let dir = tempfile::tempdir()?;
/// let log = Log::open(dir.path())?;
/// let input = log.create_topic("in", TopicSettings::default())?;
/// let position = OffsetCommit::new(GroupId::new("readers")?, input.id(), 0, 0);
/// let outcome = log.transaction("reader")?.commit_with(&[position.clone()])?;
/// assert_eq!(outcome, CommitOutcome::Committed);
/// assert_eq!(log.committed(&position.group)?, [position]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait CommitWith {
    /// Commits the transaction with these positions.
    ///
    /// # Errors
    ///
    /// As [`Transaction::commit`].
    fn commit_with(self, positions: &[OffsetCommit]) -> Result<CommitOutcome>;
}

impl CommitWith for Transaction {
    fn commit_with(self, positions: &[OffsetCommit]) -> Result<CommitOutcome> {
        self.commit(positions)
    }
}
