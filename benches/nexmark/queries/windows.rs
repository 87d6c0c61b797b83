//! Queries over windows of bids: q5, q7.
//!
//! ```text
//!   q5  hot items      bids -- by auction -- hopping 10 s, every 2 s: how many, on close
//!                        `-- by window -- aggregate "hot-items": the auctions with the most bids
//!   q7  highest bid    bids -- one key -- tumbling 10 s: the highest, on close
//! ```
//!
//! Auctions with the same number of bids, and bids with the same highest price are all results, as published; they
//! are one value, in order. What closes one by one at the end of a hopping window meets in a table, whose
//! last value is the result.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use streams::prelude::*;

use super::events::{Bid, bids};
use super::generator::Input;
use super::query::{Query, Said, Sequences, Verdict, same_rows, same_sequences, slowest_clock};

pub(crate) struct HotItems;
pub(crate) struct HighestBid;

const WINDOW_MS: i64 = 10_000;
const GRACE_MS: i64 = 1_000;

const STEP_MS: i64 = 2_000;

/// The auctions with the most bids in a window, and how many those are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Hottest {
    bids: u64,
    auctions: Vec<u64>,
}

impl Hottest {
    fn take(&mut self, (auction, bids): (u64, u64)) {
        match bids.cmp(&self.bids) {
            Ordering::Less => return,
            Ordering::Equal => {}
            Ordering::Greater => *self = Self { bids, auctions: Vec::new() },
        }
        // Whichever auction's window closed first, the value is the same.
        let place = self.auctions.partition_point(|other| *other < auction);
        self.auctions.insert(place, auction);
    }
}

impl Query for HotItems {
    /// When the window ends.
    type Key = i64;
    type Value = Hottest;
    const NAME: &'static str = "q5 hot items";
    const OUT: Topic<i64, Hottest, Bincode> = topic("q5").bincode();

    fn topology(t: &mut Topology) {
        bids(t)
            .key_by(|bid| bid.auction)
            .window(hopping(secs(10), secs(2)).grace(secs(1)))
            .count("bids-per-auction")
            .on_close()
            .map_with_key(|window, bids| (window.end, (window.key, bids)))
            .aggregate("hot-items", Hottest::take)
            .to(Self::OUT);
    }

    fn verdict(input: Input, said: Vec<Said<i64, Hottest>>) -> Verdict {
        let clock = slowest_clock(input);
        let mut steps: BTreeMap<(i64, u64), u64> = BTreeMap::new();
        for bid in input.events().filter_map(|(_, event)| event.bid()) {
            let step = bid.at.div_euclid(STEP_MS) * STEP_MS;
            *steps.entry((step, bid.auction)).or_default() += 1;
        }
        let mut windows: BTreeMap<i64, BTreeMap<u64, u64>> = BTreeMap::new();
        for ((step, auction), bids) in steps {
            // The windows that hold this step end with it, or up to four steps later.
            for end in (1..=WINDOW_MS / STEP_MS).map(|after| step + after * STEP_MS) {
                if end + GRACE_MS <= clock {
                    *windows.entry(end).or_default().entry(auction).or_default() += bids;
                }
            }
        }
        let hottest = |counts: BTreeMap<u64, u64>| {
            let bids = counts.values().copied().max().unwrap_or(0);
            let auctions = counts.into_iter().filter(|(_, n)| *n == bids);
            Hottest { bids, auctions: auctions.map(|(auction, _)| auction).collect() }
        };
        let expected = windows.into_iter().map(|(end, counts)| (end, hottest(counts)));
        same_rows(&expected.collect(), said)
    }
}

/// The bids with the highest price.
type Highest = Vec<Bid>;

fn keep_highest(highest: &mut Highest, bid: Bid) {
    match highest.first().map(|first| first.price.cmp(&bid.price)) {
        Some(Ordering::Greater) => return,
        Some(Ordering::Equal) => {}
        Some(Ordering::Less) | None => highest.clear(),
    }
    highest.push(bid);
    // Whichever partition was read first, the value is the same.
    highest.sort_by_key(|bid| (bid.at, bid.auction, bid.bidder));
}

impl Query for HighestBid {
    type Key = Windowed<u64>;
    type Value = Highest;
    const NAME: &'static str = "q7 highest bid";
    const OUT: Topic<Windowed<u64>, Highest, Bincode> = topic("q7").bincode();

    fn topology(t: &mut Topology) {
        bids(t)
            .key_by(|_| 0)
            .window(tumbling(secs(10)).grace(secs(1)))
            .aggregate("highest-bid", keep_highest)
            .on_close()
            .to(Self::OUT);
    }

    fn verdict(input: Input, said: Vec<Said<Windowed<u64>, Highest>>) -> Verdict {
        let clock = slowest_clock(input);
        let mut expected: Sequences<Windowed<u64>, Highest> = Sequences::new();
        for bid in input.events().filter_map(|(_, event)| event.bid()) {
            let start = bid.at.div_euclid(WINDOW_MS) * WINDOW_MS;
            let end = start + WINDOW_MS;
            if end + GRACE_MS > clock {
                continue;
            }
            let key = Windowed { key: 0, start, end };
            let said = expected.entry(key).or_insert_with(|| vec![(Vec::new(), i64::MIN)]);
            said[0].1 = said[0].1.max(bid.at);
            let highest = &mut said[0].0;
            if highest.iter().all(|other| other.price <= bid.price) {
                highest.retain(|other| other.price == bid.price);
                highest.push(bid);
                highest.sort_by_key(|bid| (bid.at, bid.auction, bid.bidder));
            }
        }
        same_sequences(&expected, said)
    }
}
