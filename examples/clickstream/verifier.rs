//! The independent count: is every click of topic `clicks` accounted for, once?
//!
//! Why independent: this file shares no code with `streams`. It reads the log, decodes keys and values
//! by hand, and counts again with a map, so that a fault of the runtime cannot hide itself.
//!
//! ```text
//! written = filtered + late + in closed windows + in open windows
//!                             topic page-counts   last value per key of the store's changelog
//! ```
//!
//! A window's key, in both topics (integers big-endian with the sign bit flipped):
//!
//! ```text
//!   0          n            n + 8        n + 16
//!   +----------+------------+------------+
//!   | page     | start (ms) | end (ms)   |
//!   +----------+------------+------------+
//! ```
//!
//! Invariants
//! * each partition has a clock, the largest event time read from it so far, bots included;
//! * a click is late if its partition's clock has reached its window's end plus grace;
//! * a window is closed if the clocks of all partitions have, and only then.

use std::collections::BTreeMap;

use core_log::{FetchBound, Log, PartitionReader, Topic};

use crate::generator::Click;

const WINDOW_MS: i64 = 60_000;
const GRACE_MS: i64 = 10_000;
const READ_BYTES: usize = 1 << 20;
const CHANGELOG: &str = "clickstream-clicks-per-page-changelog";

/// One page during one minute.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Window {
    /// When it starts, in milliseconds since 1970.
    pub start: i64,
    /// The page.
    pub page: String,
}

impl Window {
    fn of(click: &Click) -> Self {
        Self { start: click.at.div_euclid(WINDOW_MS) * WINDOW_MS, page: click.page.clone() }
    }

    /// The clock from which on it is closed.
    fn closes_at(&self) -> i64 {
        self.start + WINDOW_MS + GRACE_MS
    }
}

/// What is in a topic that should not be there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The log could not be read.
    #[error(transparent)]
    Log(#[from] core_log::Error),
    /// A record has another layout than this file knows.
    #[error("{topic}-{partition}@{offset}: {reason}")]
    Layout { topic: String, partition: u32, offset: i64, reason: &'static str },
}

/// What should be there: a count of `clicks`, record by record.
#[derive(Debug, Default)]
struct Model {
    clocks: BTreeMap<u32, i64>,
    counts: BTreeMap<Window, u64>,
    written: u64,
    filtered: u64,
    late: u64,
}

impl Model {
    fn add(&mut self, partition: u32, click: &Click) {
        let clock = self.clocks.entry(partition).or_insert(click.at);
        *clock = click.at.max(*clock);
        self.written += 1;
        let window = Window::of(click);
        if click.user.starts_with("bot-") {
            self.filtered += 1;
        } else if *clock >= window.closes_at() {
            self.late += 1;
        } else {
            *self.counts.entry(window).or_default() += 1;
        }
    }

    /// The clock of the slowest partition; nothing has closed while one of them is empty.
    fn slowest(&self, partitions: u32) -> i64 {
        (0..partitions)
            .map(|partition| self.clocks.get(&partition).copied().unwrap_or(i64::MIN))
            .min()
            .unwrap_or(i64::MIN)
    }
}

/// What is there: results, and rows of windows that are still open.
#[derive(Debug, Default)]
struct Found {
    /// Every record of `page-counts`: a window that was written twice stands here twice.
    closed: Vec<(Window, u64)>,
    open: BTreeMap<Window, u64>,
}

/// The account of all clicks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Account {
    /// Records in topic `clicks`.
    pub written: u64,
    /// Clicks of bots.
    pub filtered: u64,
    /// Clicks that came after their window's grace.
    pub late: u64,
    /// Clicks in windows that are closed, as the job counted them.
    pub in_closed: u64,
    /// Clicks in windows that are open, as the job counted them.
    pub in_open: u64,
    /// Clicks that should have been counted and were not.
    pub lost: u64,
    /// Clicks that were counted more often than they were written.
    pub twice: u64,
    /// Windows that were closed too early, or not closed in time.
    pub misplaced: u64,
    /// Open windows.
    pub open_windows: u64,
    /// The closed windows with their counts, by time and page.
    pub closed: Vec<(Window, u64)>,
}

impl Account {
    /// Whether every click is accounted for, once, and every window stands where it belongs.
    pub(crate) fn is_exact(&self) -> bool {
        let accounted = self.in_closed + self.in_open + self.late + self.filtered;
        self.lost == 0 && self.twice == 0 && self.misplaced == 0 && accounted == self.written
    }
}

fn settle(model: &Model, found: Found, partitions: u32) -> Account {
    let mut account = Account {
        written: model.written,
        filtered: model.filtered,
        late: model.late,
        in_closed: found.closed.iter().map(|(_, count)| count).sum(),
        in_open: found.open.values().sum(),
        open_windows: u64::try_from(found.open.len()).unwrap_or(u64::MAX),
        closed: found.closed,
        ..Account::default()
    };
    account.closed.sort();
    let slowest = model.slowest(partitions);
    let mut counted: BTreeMap<&Window, u64> = BTreeMap::new();
    let closed = account.closed.iter().map(|(window, count)| (window, count, true));
    let open = found.open.iter().map(|(window, count)| (window, count, false));
    for (window, count, is_closed) in closed.chain(open) {
        *counted.entry(window).or_default() += count;
        account.misplaced += u64::from(is_closed != (slowest >= window.closes_at()));
    }
    for (window, expected) in &model.counts {
        let counted = counted.remove(window).unwrap_or(0);
        account.lost += expected.saturating_sub(counted);
        account.twice += counted.saturating_sub(*expected);
    }
    account.twice += counted.values().sum::<u64>();
    account
}

/// Reads the log and settles the account.
///
/// # Errors
///
/// The log's own, and `Layout` where a record is none that the job writes.
pub(crate) fn verify(log: &Log) -> Result<Account, Error> {
    let clicks = log.topic("clicks")?;
    let mut model = Model::default();
    for_each_record(log, &clicks, |partition, _key, value| {
        let click = value.and_then(|v| serde_json::from_slice(v).ok()).ok_or("no click")?;
        model.add(partition, &click);
        Ok(())
    })?;
    let mut found = Found::default();
    for_each_record(log, &log.topic("page-counts")?, |_partition, key, value| {
        let count = value.and_then(|v| serde_json::from_slice(v).ok()).ok_or("no count")?;
        found.closed.push((key.and_then(window).ok_or("no window")?, count));
        Ok(())
    })?;
    for_each_record(log, &log.topic(CHANGELOG)?, |_partition, key, value| {
        let window = key.and_then(window).ok_or("no window")?;
        match value {
            None => found.open.remove(&window),
            Some(row) => found.open.insert(window, varint(row).ok_or("no count")?),
        };
        Ok(())
    })?;
    Ok(settle(&model, found, clicks.partitions()))
}

/// Calls `visit(partition, key, value)` for every committed record, partition by partition.
fn for_each_record(
    log: &Log,
    topic: &Topic,
    mut visit: impl FnMut(u32, Option<&[u8]>, Option<&[u8]>) -> Result<(), &'static str>,
) -> Result<(), Error> {
    for partition in 0..topic.partitions() {
        let start = log.offsets(topic.id(), partition)?.log_start_offset;
        let mut reader =
            PartitionReader::new(log.clone(), topic, partition, start, FetchBound::LastStable);
        while let Some(batch) = reader.next_batch(READ_BYTES)? {
            for record in batch.records() {
                let record = record.map_err(core_log::Error::from)?;
                visit(partition, record.key, record.value).map_err(|reason| Error::Layout {
                    topic: topic.name().to_string(),
                    partition,
                    offset: record.offset,
                    reason,
                })?;
            }
        }
    }
    Ok(())
}

fn window(key: &[u8]) -> Option<Window> {
    let (rest, end) = key.split_last_chunk::<8>()?;
    let (page, start) = rest.split_last_chunk::<8>()?;
    let unflip = |bytes: &[u8; 8]| i64::from_be_bytes(*bytes) ^ i64::MIN;
    let window = Window { start: unflip(start), page: std::str::from_utf8(page).ok()?.to_owned() };
    (unflip(end) == window.start + WINDOW_MS).then_some(window)
}

/// An unsigned integer of bincode's standard configuration: up to 250 in the byte itself, else the
/// byte says how many little-endian bytes follow.
fn varint(bytes: &[u8]) -> Option<u64> {
    match bytes {
        [small @ 0..=250] => Some(u64::from(*small)),
        [251, rest @ ..] => Some(u64::from(u16::from_le_bytes(rest.try_into().ok()?))),
        [252, rest @ ..] => Some(u64::from(u32::from_le_bytes(rest.try_into().ok()?))),
        [253, rest @ ..] => Some(u64::from_le_bytes(rest.try_into().ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn click(user: &str, page: &str, at: i64) -> Click {
        Click { user: user.into(), page: page.into(), at }
    }

    fn at_minute(start: i64, page: &str) -> Window {
        Window { start: start * WINDOW_MS, page: page.into() }
    }

    /// Partition 0 is at 129 s, partition 1 at 70 s: the first minute is closed, the others are not.
    fn model() -> Model {
        let mut model = Model::default();
        for at in [5_000, 30_000, 65_000] {
            model.add(0, &click("ana", "/", at));
        }
        model.add(0, &click("bot-1", "/", 129_000));
        model.add(0, &click("ana", "/", 119_999));
        model.add(0, &click("ana", "/", 59_999));
        model.add(1, &click("bob", "/a", 70_000));
        model
    }

    fn exact() -> Found {
        Found {
            closed: vec![(at_minute(0, "/"), 2)],
            open: [(at_minute(1, "/"), 2), (at_minute(1, "/a"), 1)].into(),
        }
    }

    #[test]
    fn a_job_that_counted_everything_once_is_exact() {
        let account = settle(&model(), exact(), 2);
        assert!(account.is_exact(), "{account:?}");
        let parts = (account.written, account.filtered, account.late);
        assert_eq!(parts, (7, 1, 1), "a bot moves the clock, and the click behind it is late");
        assert_eq!((account.in_closed, account.in_open), (2, 3));
    }

    #[test]
    fn a_missing_click_is_lost_and_a_doubled_one_is_twice() {
        let mut found = exact();
        found.closed[0].1 = 1;
        found.open.insert(at_minute(1, "/a"), 2);
        let account = settle(&model(), found, 2);
        assert_eq!((account.lost, account.twice), (1, 1));
        assert!(!account.is_exact());
    }

    #[test]
    fn a_window_that_is_written_twice_or_closed_and_kept_is_twice() {
        let mut again = exact();
        again.closed.push((at_minute(0, "/"), 2));
        assert_eq!(settle(&model(), again, 2).twice, 2);
        let mut kept = exact();
        kept.open.insert(at_minute(0, "/"), 2);
        let account = settle(&model(), kept, 2);
        assert_eq!((account.twice, account.misplaced), (2, 1));
    }

    #[test]
    fn a_window_closed_before_its_time_is_misplaced() {
        let mut early = exact();
        early.open.remove(&at_minute(1, "/"));
        early.closed.push((at_minute(1, "/"), 2));
        let account = settle(&model(), early, 2);
        assert_eq!((account.lost, account.twice, account.misplaced), (0, 0, 1));
        assert!(!account.is_exact());
    }

    #[test]
    fn a_window_of_nobodys_clicks_is_twice() {
        let mut found = exact();
        found.open.insert(at_minute(1, "/ghost"), 4);
        assert_eq!(settle(&model(), found, 2).twice, 4);
    }

    #[test]
    fn while_a_partition_is_empty_no_window_is_closed() {
        assert_eq!(model().slowest(3), i64::MIN);
    }

    #[test]
    fn window_keys_decode_only_as_whole_minutes() {
        let key = |start: i64, end: i64| {
            let flip = |time: i64| (time ^ i64::MIN).to_be_bytes();
            [b"/home".as_slice(), &flip(start), &flip(end)].concat()
        };
        assert_eq!(window(&key(60_000, 120_000)), Some(at_minute(1, "/home")));
        assert_eq!(window(&key(-60_000, 0)), Some(at_minute(-1, "/home")));
        assert_eq!(window(&key(60_000, 120_001)), None);
        assert_eq!(window(b"short"), None);
    }

    #[test]
    fn counts_decode_in_each_of_their_widths() {
        assert_eq!(varint(&[250]), Some(250));
        assert_eq!(varint(&[251, 0xFB, 0]), Some(251));
        assert_eq!(varint(&[252, 0, 0, 1, 0]), Some(65_536));
        assert_eq!(varint(&[253, 0, 0, 0, 0, 1, 0, 0, 0]), Some(1 << 32));
        assert_eq!(varint(&[]), None);
        assert_eq!(varint(&[251, 1]), None);
        assert_eq!(varint(&[7, 7]), None);
    }
}
