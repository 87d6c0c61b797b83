//! Clicks to count: a seeded stream of 200 000, out of order, and no two partitions equally far.
//!
//! Why seeded: the same seed writes the same clicks, to the byte, so that a run can be repeated. Each
//! partition is a clock of its own that moves in bursts. Partitions get shares of 4 : 3 : 2 : 1 and end
//! at different event times, so that windows close by the slowest and some are still open at the end.
//!
//! Invariants
//! * a click is at most `DISORDER_MS` older than the newest one before it in its partition;
//! * times start at `START_MS` and never depend on the machine's clock.

use serde::{Deserialize, Serialize};

/// One click, as it lies in topic `clicks`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Click {
    /// Who; crawlers are called `bot-` and something.
    pub user: String,
    /// The path that was asked for, without its query.
    pub page: String,
    /// Event time, in milliseconds since 1970.
    pub at: i64,
}

/// What the demo writes where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    /// The partition of topic `clicks`.
    pub partition: u32,
    /// The record's value.
    pub click: Click,
}

/// Partitions of topic `clicks`.
pub(crate) const PARTITIONS: u32 = 4;
/// How many clicks the demo generates.
pub(crate) const CLICKS: u32 = 200_000;
/// How far behind the newest click of its partition a click may come.
pub(crate) const DISORDER_MS: u64 = 5_000;

/// 2026-01-05 10:00 UTC.
const START_MS: i64 = 1_767_607_200_000;
/// Event time that a partition covers, on average; each ends a little apart from the others.
const SPAN_MS: u64 = 12 * 60_000;
const SHARES: [u64; 4] = [4, 3, 2, 1];
const BOTS_PER_CENT: u64 = 5;
/// A burst of one partition: that many clicks before another partition may go on.
const BURST_MAX: u64 = 400;
const USERS: u64 = 5_000;
const PAGES: [(&str, u64); 16] = [
    ("/", 220),
    ("/home", 180),
    ("/search", 130),
    ("/cart", 90),
    ("/checkout", 60),
    ("/login", 60),
    ("/products/lamp", 50),
    ("/products/desk", 45),
    ("/products/chair", 40),
    ("/account", 30),
    ("/orders", 25),
    ("/help", 20),
    ("/about", 20),
    ("/blog/streams", 15),
    ("/blog/exactly-once", 10),
    ("/careers", 5),
];

/// SplitMix64: small, seeded, the same on every machine.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The sequence of `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`; 0 for an empty range.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next().checked_rem(bound).unwrap_or(0)
    }
}

/// Where one partition stands.
struct Progress {
    written: u64,
    quota: u64,
    clock_ms: u64,
    /// Mean step of the clock, in microseconds per click.
    step_us: u64,
    rest_us: u64,
}

/// `clicks` clicks of `seed`, in the order in which they are written.
pub(crate) fn generate(seed: u64, clicks: u32) -> impl Iterator<Item = Placed> {
    let mut random = Random::new(seed);
    let mut partitions: Vec<Progress> = (0..PARTITIONS)
        .map(|partition| start_of(partition, u64::from(clicks), &mut random))
        .collect();
    let mut current = 0;
    let mut burst = 0;
    std::iter::from_fn(move || {
        while burst == 0 || partitions[current].written == partitions[current].quota {
            if partitions.iter().all(|p| p.written == p.quota) {
                return None;
            }
            current = usize::try_from(random.below(u64::from(PARTITIONS))).ok()?;
            burst = 1 + random.below(BURST_MAX);
        }
        burst -= 1;
        let click = next_click(&mut partitions[current], &mut random);
        Some(Placed { partition: u32::try_from(current).ok()?, click })
    })
}

fn start_of(partition: u32, clicks: u64, random: &mut Random) -> Progress {
    let share = |p: u32| SHARES[p as usize % SHARES.len()];
    let all: u64 = (0..PARTITIONS).map(share).sum();
    let before: u64 = (0..partition).map(share).sum();
    // Differences of running totals: the quotas add up to `clicks`, whatever the rounding.
    let quota = clicks * (before + share(partition)) / all - clicks * before / all;
    let span_ms = SPAN_MS + random.below(SPAN_MS / 4);
    Progress {
        written: 0,
        quota,
        clock_ms: 0,
        step_us: (span_ms * 1000).checked_div(quota).unwrap_or(0),
        rest_us: 0,
    }
}

fn next_click(partition: &mut Progress, random: &mut Random) -> Click {
    // The clock moves by 0 to 2 mean steps, so that it gets where it should without being even.
    let moved_us = partition.rest_us + random.below(2 * partition.step_us + 1);
    partition.clock_ms += moved_us / 1000;
    partition.rest_us = moved_us % 1000;
    partition.written += 1;
    let behind_ms = if random.below(4) == 0 { random.below(DISORDER_MS + 1) } else { 0 };
    let after_start_ms = partition.clock_ms.saturating_sub(behind_ms);
    let user = random.below(USERS);
    let is_bot = random.below(100) < BOTS_PER_CENT;
    Click {
        user: format!("{}{user}", if is_bot { "bot-" } else { "user-" }),
        page: page(random).to_owned(),
        at: START_MS.saturating_add_unsigned(after_start_ms),
    }
}

fn page(random: &mut Random) -> &'static str {
    let all: u64 = PAGES.iter().map(|(_, weight)| weight).sum();
    let mut left = random.below(all);
    for (page, weight) in PAGES {
        if left < weight {
            return page;
        }
        left -= weight;
    }
    PAGES[0].0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_clicks() {
        let some = |seed| generate(seed, 5_000).collect::<Vec<_>>();
        assert_eq!(some(7), some(7));
        assert_ne!(some(7), some(8));
    }

    #[test]
    fn every_click_is_placed_and_no_partition_is_empty() {
        let mut counts = [0; PARTITIONS as usize];
        for placed in generate(1, 10_001) {
            counts[placed.partition as usize] += 1;
        }
        assert_eq!(counts, [4000, 3000, 2000, 1001]);
        assert_eq!(generate(42, CLICKS).count(), 200_000);
    }

    #[test]
    fn clicks_are_out_of_order_by_five_seconds_at_most_in_their_partition() {
        let mut clocks = [i64::MIN; PARTITIONS as usize];
        let mut worst = 0;
        for placed in generate(42, 50_000) {
            let clock = &mut clocks[placed.partition as usize];
            *clock = placed.click.at.max(*clock);
            worst = worst.max(*clock - placed.click.at);
        }
        assert!((4_000..=5_000).contains(&worst), "{worst}");
        let covered = clocks.map(|clock| (clock - START_MS) / 60_000);
        assert!(covered.iter().all(|&m| (11..=16).contains(&m)), "{covered:?}");
        assert!(covered.iter().min() < covered.iter().max(), "{covered:?}");
    }

    #[test]
    fn five_in_a_hundred_are_bots() {
        let bots =
            generate(3, 20_000).filter(|placed| placed.click.user.starts_with("bot-")).count();
        assert!((800..1200).contains(&bots), "{bots}");
    }
}
