//! Moves a job that is stopped to other positions, and everything that follows from them.
//!
//! ```text
//!   plan       positions now and new, per partition of each source topic      changes nothing
//!   carry out  take the job's transactional ids: older holders are fenced
//!              ONE commit: source topics       -> the new offsets, clocks unknown
//!                          repartition topics  -> their present ends, watermarks unknown
//!                          changelogs          -> their present ends, with the types of this build
//!                          raises of clocks    -> void, by a record without a value for each partition
//!   next start stores are built from the changelogs' new starts on; what lies below is given up
//! ```
//!
//! Why nothing else is written: topics and stores follow from the committed positions, at each start. So
//! a reset has happened wholly or not at all, wherever it is killed.
//!
//! Invariants
//! * what was on its way between sub-topologies, and every row, is void: both follow from the input.
//! * topics that tables are kept of are read from their start again, whatever is said for streams: their
//!   rows are void too, and would be missing otherwise.

use super::Build;
use super::clock_log::RaiseRecord;
use super::commit::take_ids;
use super::input::InputTime;
use super::plan::JobPlan;
use crate::broker::{Bounds, Broker, Headers, Position, TopicRef, Transaction};
use crate::error::{Error, Result};
use crate::settings::Settings;
use crate::time::Instant;
use crate::topology::clock_topic;

/// Where to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResetTo {
    /// The first record that is there.
    Start,
    /// Behind the last record that is there.
    End,
    /// This offset, in each partition.
    Offset(i64),
    /// The first record whose timestamp is not older, in each partition.
    Time(i64),
    /// So many offsets on from the present position, or back.
    By(i64),
}

/// One partition of a source topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) topic: TopicRef,
    pub(crate) partition: u32,
    /// The present position, if the job has one.
    pub(crate) now: Option<i64>,
    pub(crate) new: i64,
    pub(crate) end: i64,
    /// A topic of which tables are kept.
    pub(crate) is_table: bool,
}

/// Finds the first record of a partition that is not older than a time: its offset and timestamp.
pub(crate) type FindTime<'a> = &'a dyn Fn(&TopicRef, u32, i64) -> Result<Option<(i64, i64)>>;

/// A reset that can be looked at, and carried out.
pub(crate) struct Reset {
    job: JobPlan,
    pub(crate) moves: Vec<Move>,
}

impl Reset {
    /// Works out the new positions; changes nothing.
    ///
    /// # Errors
    ///
    /// * S032: a place that no partition has; S007: one that retention has cut.
    /// * S004 and others: the job does not fit the log.
    pub(crate) fn plan(
        settings: Settings,
        build: Build,
        broker: &dyn Broker,
        to: ResetTo,
        find_time: FindTime<'_>,
    ) -> Result<Self> {
        let mut job = JobPlan::of_existing(settings, build, broker)?;
        job.load_positions(broker)?;
        let mut moves = Vec::new();
        for (topic, is_table) in job.source_topics()? {
            for partition in 0..topic.partitions {
                let bounds = broker.bounds(&topic, partition)?;
                let now = job.position(&topic, partition).map(|position| position.offset);
                let to = if is_table { ResetTo::Start } else { to };
                let found = match to {
                    ResetTo::Time(time) => find_time(&topic, partition, time)?,
                    _ => None,
                };
                let new = target(to, now, bounds, found)
                    .map_err(|missed| missed.error(&topic, partition, bounds))?;
                let (topic, end) = (topic.clone(), bounds.committed_end);
                moves.push(Move { topic, partition, now, new, end, is_table });
            }
        }
        if let ResetTo::Time(time) = to
            && moves.iter().all(|m| m.is_table || m.new == m.end)
        {
            return Err(Error::BadPosition {
                reason: format!("no record is as late as {}", Instant(time)),
                help: "go behind the last record there is: --to end".to_owned(),
            });
        }
        Ok(Self { job, moves })
    }

    /// The stores that are built anew.
    pub(crate) fn stores(&self) -> Vec<String> {
        self.job.stores().iter().map(ToString::to_string).collect()
    }

    /// Output topics that exist, with the offsets that they hold.
    ///
    /// # Errors
    ///
    /// The log's own.
    pub(crate) fn outputs(&self, broker: &dyn Broker) -> Result<Vec<(String, i64)>> {
        let mut outputs = Vec::new();
        for topic in self.job.output_topics() {
            let mut held = 0;
            for partition in 0..topic.partitions {
                let bounds = broker.bounds(&topic, partition)?;
                held += bounds.committed_end - bounds.start;
            }
            outputs.push((topic.name.to_string(), held));
        }
        Ok(outputs)
    }

    /// Does it, in one transaction.
    ///
    /// # Errors
    ///
    /// The log's own: it has happened wholly, or not at all.
    pub(crate) fn carry_out(&self, broker: &dyn Broker) -> Result<()> {
        // Must be BEFORE any end is looked at, or else an older instance could still write behind it.
        let [mut producer, _second] = take_ids(broker, &self.job.settings.id)?;
        let fresh = || {
            let time =
                InputTime { clock: i64::MIN, watermarks: vec![], globals: vec![], ordered: None };
            time.encode()
        };
        let moved = self.moves.iter().map(|m| Position {
            topic: m.topic.id,
            partition: m.partition,
            offset: m.new,
            metadata: fresh(),
        });
        let mut positions: Vec<Position> = moved.collect();
        for topic in self.job.repartition_topics() {
            for partition in 0..topic.partitions {
                let offset = broker.bounds(&topic, partition)?.end;
                positions.push(Position { topic: topic.id, partition, offset, metadata: fresh() });
            }
        }
        positions.extend(self.job.fresh_origins(broker)?);
        let transaction = producer.begin()?;
        self.void_raises(broker, transaction.as_ref())?;
        transaction.commit(&self.job.settings.id, &positions)
    }

    /// At the same offsets the history that begins now may raise nothing.
    fn void_raises(&self, broker: &dyn Broker, transaction: &dyn Transaction) -> Result<()> {
        let Some(clock) = self.job.topics.get(&clock_topic(&self.job.settings.id)) else {
            return Ok(());
        };
        let now_ms = broker.now_ms();
        let mut batch = broker.batch();
        for Move { topic, partition, .. } in &self.moves {
            let key = RaiseRecord::key(&topic.name, *partition);
            batch.push(now_ms, Some(&key), None, &Headers::none())?;
        }
        // Without windows, a topic of that name is not ours.
        if self.job.timed_inputs.is_empty() || batch.is_empty() {
            return Ok(());
        }
        transaction.append(clock, 0, batch.as_mut())
    }
}

/// Why there is no such position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missed {
    /// Behind the end.
    Beyond(i64),
    /// Before the first record that there ever was.
    Before(i64),
    /// Among records that retention has removed.
    Cut(i64),
    /// The same, by time.
    TimeCut(i64),
}

impl Missed {
    fn error(self, topic: &TopicRef, partition: u32, bounds: Bounds) -> Error {
        let (topic, start, end) = (topic.name.to_string(), bounds.start, bounds.committed_end);
        match self {
            Self::Beyond(offset) => Error::BadPosition {
                reason: format!("{topic}-{partition} has no offset {offset}: it ends at {end}"),
                help: "choose one that every partition has, or go behind the last: --to end"
                    .to_owned(),
            },
            Self::Before(offset) => Error::BadPosition {
                reason: format!("{topic}-{partition} has no offset {offset}: it begins at {start}"),
                help: "begin with the first record that there is: --to start".to_owned(),
            },
            Self::Cut(offset) => {
                Error::ResetCut { topic, partition, wanted: format!("offset {offset}"), start }
            }
            Self::TimeCut(time) => {
                Error::ResetCut { topic, partition, wanted: Instant(time).to_string(), start }
            }
        }
    }
}

/// The new position in one partition. Pure.
fn target(
    to: ResetTo,
    now: Option<i64>,
    bounds: Bounds,
    found: Option<(i64, i64)>,
) -> Result<i64, Missed> {
    let (start, end) = (bounds.start, bounds.committed_end);
    let offset = match to {
        ResetTo::Start => return Ok(start),
        ResetTo::End => return Ok(end),
        ResetTo::Time(time) => match found {
            Some((offset, timestamp)) if offset <= start && start > 0 && timestamp > time => {
                return Err(Missed::TimeCut(time));
            }
            Some((offset, _)) => return Ok(offset.clamp(start, end)),
            None => return Ok(end),
        },
        ResetTo::Offset(offset) => offset,
        ResetTo::By(by) => now.unwrap_or(start).saturating_add(by),
    };
    match offset {
        _ if offset > end => Err(Missed::Beyond(offset)),
        _ if offset < start && start > 0 && offset >= 0 => Err(Missed::Cut(offset)),
        _ if offset < start => Err(Missed::Before(offset)),
        _ => Ok(offset),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_lie_where_they_were_asked_for_or_nowhere() {
        let bounds = Bounds { start: 10, committed_end: 50, end: 60 };
        let at = |to, now| target(to, now, bounds, None);
        assert_eq!(at(ResetTo::Start, None), Ok(10));
        assert_eq!(at(ResetTo::End, Some(20)), Ok(50));
        assert_eq!(at(ResetTo::Offset(50), None), Ok(50));
        assert_eq!(at(ResetTo::Offset(51), None), Err(Missed::Beyond(51)));
        assert_eq!(at(ResetTo::Offset(9), None), Err(Missed::Cut(9)));
        assert_eq!(at(ResetTo::By(-5), Some(20)), Ok(15));
        assert_eq!(at(ResetTo::By(-11), Some(20)), Err(Missed::Cut(9)));
        assert_eq!(at(ResetTo::By(-21), Some(20)), Err(Missed::Before(-1)));
        assert_eq!(at(ResetTo::By(5), None), Ok(15), "without a position, from the start");
        assert_eq!(at(ResetTo::By(i64::MAX), Some(20)), Err(Missed::Beyond(i64::MAX)));
        let whole = Bounds { start: 0, ..bounds };
        assert_eq!(target(ResetTo::By(-1), Some(0), whole, None), Err(Missed::Before(-1)));
    }

    #[test]
    fn a_time_before_the_first_record_may_have_been_cut() {
        let bounds = Bounds { start: 10, committed_end: 50, end: 50 };
        let at = |found| target(ResetTo::Time(1_000), None, bounds, found);
        assert_eq!(at(Some((30, 1_200))), Ok(30));
        assert_eq!(at(Some((10, 1_000))), Ok(10));
        assert_eq!(at(Some((10, 1_001))), Err(Missed::TimeCut(1_000)));
        assert_eq!(at(None), Ok(50));
        let whole = Bounds { start: 0, ..bounds };
        assert_eq!(target(ResetTo::Time(1), None, whole, Some((0, 1_001))), Ok(0));
    }
}
