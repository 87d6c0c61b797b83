//! Queries over windows of bids: q7.
//!
//! ```text
//!   q7  highest bid    bids -- one key -- tumbling 10 s: the highest, on close
//! ```
//!
//! Bids with the same highest price are all results, as published; they are one value, in order of time.

use streams::prelude::*;

use super::events::{Bid, bids};
use super::generator::Input;
use super::query::{Query, Said, Sequences, Verdict, same_sequences, slowest_clock};

pub(crate) struct HighestBid;

const WINDOW_MS: i64 = 10_000;
const GRACE_MS: i64 = 1_000;

/// The bids with the highest price.
type Highest = Vec<Bid>;

fn keep_highest(highest: &mut Highest, bid: Bid) {
    match highest.first().map(|first| first.price.cmp(&bid.price)) {
        Some(std::cmp::Ordering::Greater) => return,
        Some(std::cmp::Ordering::Equal) => {}
        Some(std::cmp::Ordering::Less) | None => highest.clear(),
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
