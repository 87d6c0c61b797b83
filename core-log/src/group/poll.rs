//! A poll: partitions come and go, then records are handed out.
//!
//! ```text
//!   begin call -> let go of what is revoked (positions go along) -> take what is free
//!              -> commit what the polls before have handed out, if it is time
//!              -> take records, partition after partition, beginning behind the one served last
//!              -> nothing there: wait until something becomes readable, or the time is up
//! ```
//!
//! Why in this order: a position may be handed over only when its records are done with, which is what a
//! new poll says.
//!
//! Invariants
//! * The counter of changes is read before the log is looked at: no wake-up is lost, nothing spins.
//! * An error of one partition comes only when no other has records, and again at the next poll.

use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::commit;
use super::consumer::{Consumer, Reads, Seat, matching};
use super::lane::{Budget, Lane};
use super::polled::Polled;
use super::settings::AutoCommit;
use crate::commit::Broken;
use crate::error::{GroupError, Result};
use crate::members::PartitionName;
use crate::members::table::{MemberId, Membership};

impl Consumer {
    /// Records, as soon as there are any; none when `timeout` has passed. It may answer early with none.
    ///
    /// To poll again says that the records of the polls before are done with.
    ///
    /// # Errors
    ///
    /// * [`GroupError::NothingToRead`]: subscribe or assign first.
    /// * [`GroupError::NoOffset`], [`GroupError::PositionOutOfRange`]: `auto.offset.reset` is `none`.
    /// * [`Error::Damaged`](crate::Error::Damaged), [`Error::Decode`](crate::Error::Decode): of one
    ///   partition; pause it, or seek.
    /// * [`Error::LogCrashed`](crate::Error::LogCrashed), [`Error::Closed`](crate::Error::Closed).
    pub fn poll(&mut self, timeout: Duration) -> Result<Polled> {
        let clock = self.log.inner.clock();
        let deadline = clock.monotonic().saturating_add(timeout);
        let mut left = timeout;
        let outcome = loop {
            let seen = self.log.changes();
            let polled = self.step();
            let is_woken = self.is_woken.swap(false, Ordering::SeqCst);
            if is_woken
                || left.is_zero()
                || polled.as_ref().map_or(true, |polled| !polled.is_empty())
            {
                break polled;
            }
            self.ask_to_be_woken();
            if self.log.wait_for_change(seen, left) == seen {
                // The time is up; a last look would find what it found before.
                break polled;
            }
            left = deadline.saturating_sub(self.log.inner.clock().monotonic());
        };
        self.end_call();
        outcome
    }

    /// One look, without waiting. A call of its begins, if none is running.
    pub(super) fn step(&mut self) -> Result<Polled> {
        if matches!(self.reads, Reads::Nothing) {
            return Err(GroupError::NothingToRead.into());
        }
        self.follow_topics()?;
        self.follow_group()?;
        self.commit_if_due();
        self.hand_out()
    }

    /// Says that the call is over: from now on it counts how long this member is silent.
    pub(super) fn end_call(&mut self) {
        self.end_poll(Membership::end_call);
    }

    /// Says that a stream waits: it is to come by when it is woken.
    pub(super) fn begin_wait(&mut self) {
        self.end_poll(Membership::begin_wait);
    }

    fn end_poll(&mut self, end: impl Fn(&mut Membership, MemberId, Duration)) {
        let now = self.log.inner.clock().monotonic();
        if let Some(seat) = &mut self.seat
            && seat.is_polling
        {
            seat.is_polling = false;
            if let Some(member) = seat.member {
                end(&mut seat.group.membership.lock(), member, now);
            }
        }
    }

    /// Topics that a pattern matches and that are new.
    fn follow_topics(&mut self) -> Result<()> {
        let count = self.log.inner.engine()?.topic_count();
        let Reads::Matching { pattern, topics, seen } = &mut self.reads else { return Ok(()) };
        if *seen == count {
            return Ok(());
        }
        let found = matching(&self.log, pattern)?;
        *seen = count;
        if found.len() != topics.len() {
            *topics = found;
            self.tell_topics();
        }
        Ok(())
    }

    /// Lets go of what the group gave to others, and takes what it gave to this member.
    fn follow_group(&mut self) -> Result<()> {
        let now = self.log.inner.clock().monotonic();
        if !self.log.inner.settings().background {
            self.log.inner.wake_groups();
        }
        let Some(seat) = &mut self.seat else { return Ok(()) };
        let Some(member) = seat.member else { return Ok(()) };
        if !seat.is_polling {
            if !seat.group.membership.lock().begin_poll(member, now) {
                self.join_again()?;
                return self.follow_group();
            }
            seat.is_polling = true;
        }
        let (version, revoked) = {
            let membership = seat.group.membership.lock();
            seat.generation = membership.generation();
            if seat.followed == Some(membership.version()) {
                return Ok(());
            }
            (membership.version(), membership.revoked(member))
        };
        if !revoked.is_empty() {
            self.let_go(&revoked);
        }
        self.take_free()?;
        if let Some(seat) = &mut self.seat {
            // That of before the look: what others let go of meanwhile is looked for again.
            seat.followed = Some(version);
        }
        Ok(())
    }

    /// It was silent for too long and has lost everything.
    fn join_again(&mut self) -> Result<()> {
        self.settle();
        self.lanes.clear();
        self.join()?;
        self.tell_topics();
        Ok(())
    }

    fn let_go(&mut self, revoked: &[PartitionName]) {
        self.settle();
        if let AutoCommit::Every(_) = self.settings.auto_commit()
            && let Err(error) = self.commit_lanes(|name| revoked.contains(name))
        {
            tracing::warn!(%error, "positions are handed over without being committed");
        }
        let mut positions = Vec::with_capacity(revoked.len());
        for name in revoked {
            let position = self.lanes.remove(name).and_then(|lane| lane.position());
            positions.push((name.clone(), position));
        }
        if let Some(Seat { group, member: Some(member), .. }) = &self.seat {
            group.membership.lock().release(*member, positions);
            // Must be AFTER the release: the next owner waits for it.
            self.log.inner.changes().notify();
        }
    }

    fn take_free(&mut self) -> Result<()> {
        let Some(Seat { group, member: Some(member), .. }) = &self.seat else { return Ok(()) };
        let (group, member) = (Arc::clone(group), *member);
        if !group.membership.lock().has_free(member) {
            return Ok(());
        }
        let Some(topics) = self.reads.topics() else { return Ok(()) };
        // Must be AFTER the one before has let go, or else its last commit could be missed.
        let acquired = group.membership.lock().acquire(member);
        let committed = commit::committed_positions(&self.log, &group.id);
        let committed = match committed {
            Ok(committed) => committed,
            Err(error) => {
                let back = acquired.into_iter();
                group.membership.lock().release(member, back);
                return Err(error);
            }
        };
        let bound = self.settings.isolation_level.bound();
        let forgets = self.log.inner.settings().broken == Some(Broken::ForgetHandOver);
        for (name, handed) in acquired {
            let handed = handed.filter(|_| !forgets);
            let Some(topic) = topics.get(&name.topic) else { continue };
            let known = committed.get(&topic.partition(name.partition)).copied();
            let mut lane = Lane::new(&self.log, topic, name.partition, bound, handed.or(known));
            lane.committed = known.map(|known| known.offset);
            self.lanes.insert(name, lane);
        }
        Ok(())
    }

    /// Commits what the polls before have handed out, if it is time.
    fn commit_if_due(&mut self) {
        let AutoCommit::Every(interval) = self.settings.auto_commit() else { return };
        if self.seat.is_none() {
            return;
        }
        self.look_at_pending();
        let now = self.log.inner.clock().monotonic();
        if now.saturating_sub(self.auto_committed) < interval || !self.has_uncommitted() {
            return;
        }
        self.auto_committed = now;
        if let Err(error) = self.commit_async() {
            tracing::warn!(%error, "positions are not committed, and will be tried again");
        }
    }

    fn has_uncommitted(&self) -> bool {
        self.lanes.values().any(|lane| {
            lane.position().is_some_and(|position| lane.committed != Some(position.offset))
        })
    }

    /// A member that waits is woken when its positions are to be committed.
    pub(super) fn ask_to_be_woken(&mut self) {
        if let AutoCommit::Every(interval) = self.settings.auto_commit()
            && let Some(Seat { group, member: Some(member), .. }) = &self.seat
            && self.has_uncommitted()
        {
            let at = self.auto_committed.saturating_add(interval);
            group.membership.lock().wake_at(*member, at);
        }
    }

    fn hand_out(&mut self) -> Result<Polled> {
        let mut budget = Budget {
            records: self.settings.max_poll_records,
            bytes: self.settings.fetch_max_bytes,
            partition_bytes: self.settings.max_partition_fetch_bytes.max(1),
        };
        let mut polled = Polled::default();
        let mut failed = None;
        for name in self.in_turn() {
            let Some(lane) = self.lanes.get_mut(&name) else { continue };
            let before = polled.batches.len();
            let reset = self.settings.auto_offset_reset;
            if let Err(error) = lane.take(reset, &mut budget, &mut polled.batches) {
                failed.get_or_insert(error);
            }
            if polled.batches.len() > before {
                self.served = Some(name);
            }
            if budget.records == 0 || budget.bytes == 0 {
                break;
            }
        }
        match failed {
            Some(error) if polled.is_empty() => Err(error),
            _ => Ok(polled),
        }
    }

    /// The partitions that may have something to hand out, beginning behind the one that was served last.
    fn in_turn(&self) -> Vec<PartitionName> {
        let has_turn = |(name, lane): (&PartitionName, &Lane)| {
            (!lane.is_paused && lane.may_have_news()).then(|| name.clone())
        };
        let Some(served) = &self.served else {
            return self.lanes.iter().filter_map(has_turn).collect();
        };
        let behind = (Bound::Excluded(served), Bound::Unbounded);
        let first = self.lanes.range::<PartitionName, _>(behind);
        first.chain(self.lanes.range::<PartitionName, _>(..=served)).filter_map(has_turn).collect()
    }
}
