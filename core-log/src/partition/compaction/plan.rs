//! What compaction may clean, whether it is worth it, and into which segments. Pure.
//!
//! ```text
//!        log start       first dirty           first uncleanable     log end
//!   |== cleaned before ==|===== dirty ===========|..................|
//!   +---- written again, by groups ---------------+  active segment, younger than the lag, open
//!                                                    transactions, what a holder has not seen
//! ```
//!
//! Invariants
//! * Nothing at or behind the limit is ever cleaned, and never the active segment.
//! * A group fits into one segment: its bytes, and the offsets that the indexes can express.
//!
//! Reference: Kafka `LogCleanerManager.cleanableOffsets`, `LogToClean`, `Cleaner.groupSegmentsBySize`.

use std::ops::Range;

use crate::ids::{Offset, Timestamp};
use crate::partition::retention::SegmentSummary;

/// A part of one, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ratio(u32);

impl Ratio {
    const ONE: u32 = 1_000_000;

    /// So many hundredths; 100 at most.
    #[must_use]
    pub const fn percent(percent: u32) -> Self {
        Self(if percent > 100 { Self::ONE } else { percent * (Self::ONE / 100) })
    }

    /// Whether `part` of `whole` is more than this.
    fn is_exceeded(self, part: u64, whole: u64) -> bool {
        u128::from(part) * u128::from(Self::ONE) > u128::from(whole) * u128::from(self.0)
    }
}

impl std::fmt::Display for Ratio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = format!("{}.{:06}", self.0 / Self::ONE, self.0 % Self::ONE);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl std::str::FromStr for Ratio {
    type Err = InvalidRatio;

    fn from_str(text: &str) -> Result<Self, InvalidRatio> {
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let is_number = |digits: &str| digits.bytes().all(|digit| digit.is_ascii_digit());
        if whole.is_empty() || !is_number(whole) || !is_number(part) {
            return Err(InvalidRatio);
        }
        let millionths: String = part.chars().chain("000000".chars()).take(6).collect();
        let whole: u32 = whole.parse().map_err(|_too_large| InvalidRatio)?;
        let part: u32 = millionths.parse().map_err(|_not_a_number| InvalidRatio)?;
        let ratio = whole.checked_mul(Self::ONE).and_then(|whole| whole.checked_add(part));
        ratio.filter(|ratio| *ratio <= Self::ONE).map(Self).ok_or(InvalidRatio)
    }
}

/// Not a number between 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it must lie between 0 and 1, like 0.5")]
pub struct InvalidRatio;

/// When a partition is compacted, and what stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CompactionPolicy {
    pub(crate) delete_retention_ms: i64,
    pub(crate) min_lag_ms: i64,
    pub(crate) max_lag_ms: i64,
    pub(crate) min_dirty_ratio: Ratio,
    pub(crate) record_ttl_ms: Option<i64>,
}

/// What may be cleaned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cleanable {
    pub(crate) first_dirty: Offset,
    pub(crate) first_uncleanable: Offset,
    pub(crate) cleanable_bytes: u64,
    pub(crate) total_bytes: u64,
}

impl Cleanable {
    /// Whether anything came since the last pass.
    pub(crate) fn is_dirty(&self) -> bool {
        self.first_dirty < self.first_uncleanable
    }
}

/// What may be cleaned of `segments` (oldest first, the active one last), where everything below
/// `first_dirty` was cleaned before and nothing from `limit` on may be.
pub(crate) fn cleanable(
    segments: &[SegmentSummary],
    (log_start, first_dirty): (Offset, Offset),
    limit: Offset,
    min_lag_ms: i64,
    now: Timestamp,
) -> Cleanable {
    let Some((active, sealed)) = segments.split_last() else {
        return Cleanable { first_dirty, first_uncleanable: 0, cleanable_bytes: 0, total_bytes: 0 };
    };
    let is_known = (log_start..=active.end_offset).contains(&first_dirty);
    let first_dirty = if is_known { first_dirty } else { log_start };
    let is_young = |segment: &&SegmentSummary| {
        min_lag_ms > 0
            && segment.end_offset > first_dirty
            && segment.largest_timestamp > now.saturating_sub(min_lag_ms)
    };
    let young = sealed.iter().find(is_young).map_or(active.base_offset, |young| young.base_offset);
    let limit = limit.min(active.base_offset).min(young);
    // Whole segments only.
    let holder = sealed.iter().find(|segment| segment.end_offset > limit);
    let first_uncleanable = holder.map_or(limit, |segment| segment.base_offset);
    let bytes = |wanted: &dyn Fn(&SegmentSummary) -> bool| -> u64 {
        segments.iter().filter(|segment| wanted(segment)).map(|segment| segment.size_bytes).sum()
    };
    let from = first_dirty.min(first_uncleanable);
    let cleanable_bytes =
        bytes(&|segment| segment.end_offset > from && segment.base_offset < first_uncleanable);
    let clean_bytes = bytes(&|segment| segment.base_offset < first_dirty);
    let total_bytes = clean_bytes + cleanable_bytes;
    Cleanable { first_dirty, first_uncleanable, cleanable_bytes, total_bytes }
}

/// Whether cleaning is worth it: enough is dirty, or something has been dirty, or is there, for too
/// long. `oldest_dirty` is the first timestamp of what is dirty.
pub(crate) fn is_due(
    cleanable: &Cleanable,
    segments: &[SegmentSummary],
    policy: &CompactionPolicy,
    oldest_dirty: Option<Timestamp>,
    now: Timestamp,
) -> bool {
    let Cleanable { cleanable_bytes, total_bytes, .. } = *cleanable;
    let is_dirty = cleanable.is_dirty() && cleanable_bytes > 0;
    let is_overdue =
        oldest_dirty.is_some_and(|oldest| now.saturating_sub(oldest) > policy.max_lag_ms);
    let is_worth_it = policy.min_dirty_ratio.is_exceeded(cleanable_bytes, total_bytes);
    (is_dirty && (is_worth_it || is_overdue)) || is_outlived(cleanable, segments, policy, now)
}

/// Whether all records of a segment are older than records may become.
pub(crate) fn is_outlived(
    cleanable: &Cleanable,
    segments: &[SegmentSummary],
    policy: &CompactionPolicy,
    now: Timestamp,
) -> bool {
    policy.record_ttl_ms.is_some_and(|ttl_ms| {
        segments.iter().any(|segment| {
            segment.base_offset < cleanable.first_uncleanable
                && segment.size_bytes > 0
                && has_outlived(segment.largest_timestamp, ttl_ms, now)
        })
    })
}

/// Whether a record is older than records may become. One without a time has no age.
pub(crate) fn has_outlived(timestamp: Timestamp, ttl_ms: i64, now: Timestamp) -> bool {
    timestamp >= 0 && now.saturating_sub(timestamp) > ttl_ms
}

/// Which segments in front of `end` become one each.
pub(crate) fn groups(
    segments: &[SegmentSummary],
    end: Offset,
    segment_bytes_max: u32,
) -> Vec<Range<usize>> {
    let count = segments.iter().take_while(|segment| segment.base_offset < end).count();
    let mut groups: Vec<Range<usize>> = Vec::new();
    let mut size = 0;
    for (index, segment) in segments[..count].iter().enumerate() {
        let fits = groups.last().is_some_and(|group| {
            let span = segment.end_offset - segments[group.start].base_offset;
            let is_expressed = segment.size_bytes == 0 || i32::try_from(span - 1).is_ok();
            size + segment.size_bytes <= u64::from(segment_bytes_max) && is_expressed
        });
        match groups.last_mut().filter(|_| fits) {
            Some(group) => group.end = index + 1,
            None => {
                groups.push(index..index + 1);
                size = 0;
            }
        }
        size += segment.size_bytes;
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Five segments of ten offsets and 100 bytes, a second apart; the last one is active.
    fn segments() -> Vec<SegmentSummary> {
        let segment = |n: i64| SegmentSummary {
            base_offset: n * 10,
            end_offset: n * 10 + 10,
            size_bytes: 100,
            largest_timestamp: n * 1_000,
        };
        (0..5).map(segment).collect()
    }

    #[test]
    fn ratios_read_as_they_are_written_and_compare_exactly() {
        for (text, shown) in
            [("0.5", "0.5"), ("1", "1"), ("0", "0"), ("1.0", "1"), ("0.01", "0.01")]
        {
            assert_eq!(text.parse::<Ratio>().unwrap().to_string(), shown);
        }
        for bad in ["", ".5", "1.1", "-0.5", "0.5x", "a", "99999999999"] {
            assert_eq!(bad.parse::<Ratio>(), Err(InvalidRatio), "{bad}");
        }
        let half = Ratio::percent(50);
        assert_eq!(half, "0.50".parse().unwrap());
        assert!(!half.is_exceeded(1, 2) && half.is_exceeded(u64::MAX / 2 + 2, u64::MAX));
        assert!(!Ratio::percent(0).is_exceeded(0, 0));
    }

    #[test]
    fn the_active_segment_open_transactions_and_young_records_are_not_cleaned() {
        let first =
            |limit, lag, now| cleanable(&segments(), (0, 0), limit, lag, now).first_uncleanable;
        assert_eq!(first(99, 0, 0), 40);
        assert_eq!(first(20, 0, 0), 20);
        // A segment is cleaned as a whole or not at all.
        assert_eq!(first(19, 0, 0), 10);
        assert_eq!(first(99, 500, 2_000), 20);
        assert_eq!(first(99, 500, 10_000), 40);
        assert_eq!(first(99, 500, 100), 0);
    }

    #[test]
    fn bytes_are_counted_by_whole_segments() {
        let found = cleanable(&segments(), (0, 20), 99, 0, 0);
        assert_eq!((found.cleanable_bytes, found.total_bytes), (200, 400));
        // In the middle of a segment, after a pass whose memory was full.
        let found = cleanable(&segments(), (0, 25), 99, 0, 0);
        assert_eq!((found.cleanable_bytes, found.total_bytes), (200, 500));
        // A position that the log does not have.
        assert_eq!(cleanable(&segments(), (0, 99), 99, 0, 0).first_dirty, 0);
        assert_eq!(cleanable(&segments(), (7, 5), 99, 0, 0).first_dirty, 7);
        assert_eq!(cleanable(&[], (0, 5), 99, 0, 0).cleanable_bytes, 0);
    }

    #[test]
    fn cleaning_is_due_when_enough_is_dirty_or_for_too_long() {
        let mut policy = CompactionPolicy {
            delete_retention_ms: 0,
            min_lag_ms: 0,
            max_lag_ms: i64::MAX,
            min_dirty_ratio: Ratio::percent(50),
            record_ttl_ms: None,
        };
        let segments = segments();
        let due = |policy: &CompactionPolicy, from, oldest, now| {
            is_due(&cleanable(&segments, (0, from), 99, 0, now), &segments, policy, oldest, now)
        };
        assert!(due(&policy, 0, None, 0) && due(&policy, 10, None, 0));
        assert!(!due(&policy, 20, None, 0) && !due(&policy, 40, None, 0));
        policy.max_lag_ms = 1_000;
        assert!(!due(&policy, 20, Some(2_000), 3_000));
        assert!(due(&policy, 20, Some(2_000), 3_001));
        policy.record_ttl_ms = Some(5_000);
        assert!(!due(&policy, 40, None, 5_000));
        assert!(due(&policy, 40, None, 5_001));
    }

    #[test]
    fn small_neighbours_become_one_segment() {
        let groups = |end, bytes| groups(&segments(), end, bytes);
        assert_eq!(groups(40, 1_000), vec![Range { start: 0, end: 4 }]);
        assert_eq!(groups(40, 250), [0..2, 2..4]);
        assert_eq!(groups(40, 10), [0..1, 1..2, 2..3, 3..4]);
        assert_eq!(groups(15, 1_000), vec![Range { start: 0, end: 2 }]);
        assert!(groups(0, 1_000).is_empty());
        let mut far = segments();
        far[2].end_offset = i64::from(i32::MAX) + 2;
        far[3].base_offset = far[2].end_offset;
        assert_eq!(super::groups(&far, 20 + 1, 1_000), [0..2, 2..3]);
    }
}
