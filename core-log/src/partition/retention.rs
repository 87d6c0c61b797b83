//! Which segments may go: a pure plan by time and by size; the partition executes it.
//!
//! Why a plan: what is deleted must be explainable from numbers alone, and testable without files.
//!
//! Invariants
//! * Only whole segments at the front go, only those that end at or below `limit` (the last stable
//!   offset, and whatever else must not be lost), and never the active one unless it is rolled first.
//! * A segment is old when its largest timestamp is; record time, not file time. One whose records
//!   carry no time at all (-1, or any other negative one) is never too old: nobody can say when it is.
//! * One that compaction has emptied goes with the next that has records: given up alone, it would leave
//!   those who read there below the log start.
//!
//! Reference: Kafka `UnifiedLog.deleteOldSegments`.

use crate::ids::{Offset, Timestamp};

/// What retention needs to know of one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentSummary {
    pub(crate) base_offset: Offset,
    /// Exclusive.
    pub(crate) end_offset: Offset,
    pub(crate) size_bytes: u64,
    pub(crate) largest_timestamp: Timestamp,
}

/// How long and how much a partition keeps; `None` keeps everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RetentionPolicy {
    pub(crate) retention_ms: Option<i64>,
    pub(crate) retention_bytes: Option<u64>,
}

/// What to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Delete so many segments at the front.
    pub(crate) delete: usize,
    /// The active segment is among them: roll it first.
    pub(crate) roll_active: bool,
}

/// What `policy` deletes of `segments` (oldest first, the active one last) at `now`.
pub(crate) fn plan(
    segments: &[SegmentSummary],
    policy: &RetentionPolicy,
    now: Timestamp,
    limit: Offset,
) -> Plan {
    let total: u64 = segments.iter().map(|segment| segment.size_bytes).sum();
    let mut excess = policy.retention_bytes.map_or(0, |most| total.saturating_sub(most));
    let mut delete = 0;
    for (index, segment) in segments.iter().enumerate() {
        let is_empty = segment.end_offset == segment.base_offset;
        if is_empty || segment.end_offset > limit {
            break;
        }
        if segment.size_bytes == 0 {
            continue;
        }
        let newest = segment.largest_timestamp;
        let too_old = policy
            .retention_ms
            .is_some_and(|most| newest >= 0 && now.saturating_sub(newest) > most);
        if !too_old && excess < segment.size_bytes {
            break;
        }
        excess = excess.saturating_sub(segment.size_bytes);
        delete = index + 1;
    }
    Plan { delete, roll_active: delete > 0 && delete == segments.len() }
}

/// How many segments at the front lie wholly below `before`; the active one never does.
pub(crate) fn whole_segments_below(segments: &[SegmentSummary], before: Offset) -> usize {
    let sealed = segments.len().saturating_sub(1);
    segments[..sealed].iter().take_while(|segment| segment.end_offset <= before).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments() -> Vec<SegmentSummary> {
        (0..4)
            .map(|n: i64| SegmentSummary {
                base_offset: n * 10,
                end_offset: n * 10 + 10,
                size_bytes: 100,
                largest_timestamp: n * 1_000,
            })
            .collect()
    }

    #[test]
    fn segments_go_when_their_largest_timestamp_is_too_old() {
        let policy = RetentionPolicy { retention_ms: Some(1_000), retention_bytes: None };
        let deletes = |now| plan(&segments(), &policy, now, 40).delete;
        assert_eq!(deletes(1_000), 0);
        assert_eq!(deletes(1_001), 1);
        assert_eq!(deletes(3_500), 3);
        assert_eq!(plan(&segments(), &policy, 4_001, 40), Plan { delete: 4, roll_active: true });
    }

    #[test]
    fn a_segment_that_compaction_emptied_goes_with_the_next_that_has_records() {
        let mut emptied = segments();
        emptied[0] = SegmentSummary { size_bytes: 0, largest_timestamp: -1, ..emptied[0] };
        emptied[2] = SegmentSummary { size_bytes: 0, largest_timestamp: -1, ..emptied[2] };
        assert_eq!(plan(&emptied, &RetentionPolicy::default(), i64::MAX, 40), Plan::default());
        let policy = RetentionPolicy { retention_ms: Some(1_000), retention_bytes: None };
        let deletes = |now| plan(&emptied, &policy, now, 40).delete;
        assert_eq!((deletes(2_000), deletes(2_001), deletes(4_000), deletes(4_001)), (0, 2, 2, 4));
        let policy = RetentionPolicy { retention_ms: None, retention_bytes: Some(100) };
        assert_eq!(plan(&emptied, &policy, 0, 40).delete, 2);
    }

    #[test]
    fn records_without_a_time_are_not_too_old_but_may_be_too_many() {
        let timeless = segments()
            .into_iter()
            .map(|segment| SegmentSummary { largest_timestamp: -1, ..segment });
        let timeless: Vec<_> = timeless.collect();
        let mut policy = RetentionPolicy { retention_ms: Some(0), retention_bytes: None };
        assert_eq!(plan(&timeless, &policy, i64::MAX, 40), Plan::default());
        policy.retention_bytes = Some(250);
        assert_eq!(plan(&timeless, &policy, i64::MAX, 40).delete, 1);
    }

    #[test]
    fn segments_go_while_the_rest_is_still_as_large_as_allowed() {
        let policy = RetentionPolicy { retention_ms: None, retention_bytes: Some(250) };
        assert_eq!(plan(&segments(), &policy, 0, 40).delete, 1);
    }

    #[test]
    fn nothing_beyond_the_limit_goes_however_old() {
        let policy = RetentionPolicy { retention_ms: Some(0), retention_bytes: Some(0) };
        assert_eq!(plan(&segments(), &policy, i64::MAX, 19).delete, 1);
        assert_eq!(plan(&segments(), &policy, i64::MAX, 9).delete, 0);
    }

    #[test]
    fn an_empty_active_segment_stays() {
        let policy = RetentionPolicy { retention_ms: Some(0), retention_bytes: None };
        let empty =
            SegmentSummary { base_offset: 5, end_offset: 5, size_bytes: 0, largest_timestamp: -1 };
        assert_eq!(plan(&[empty], &policy, i64::MAX, 5), Plan::default());
    }

    #[test]
    fn a_purge_counts_whole_sealed_segments_only() {
        assert_eq!(whole_segments_below(&segments(), 9), 0);
        assert_eq!(whole_segments_below(&segments(), 25), 2);
        assert_eq!(whole_segments_below(&segments(), 100), 3);
    }
}
