//! Queries that look at one event at a time: q0, q1, q2.
//!
//! ```text
//!   q0  pass through          every event as it is
//!   q1  currency conversion   every bid, its price in another currency (908 for 1 000)
//!   q2  selection             auction and price of the bids on auctions that 123 divides
//! ```

use streams::prelude::*;

use super::events::{Bid, Event, bids, events};
use super::generator::Input;
use super::query::{Query, Said, Sequences, Verdict, same_partitions};

pub(crate) struct PassThrough;
pub(crate) struct Currency;
pub(crate) struct Selection;

fn in_euros(bid: Bid) -> Bid {
    Bid { price: bid.price * 908 / 1_000, ..bid }
}

impl Query for PassThrough {
    type Key = NoKey;
    type Value = Event;
    const NAME: &'static str = "q0 pass through";
    const OUT: Topic<NoKey, Event, Bincode> = topic("q0").bincode();

    fn topology(t: &mut Topology) {
        events(t).to(Self::OUT);
    }

    fn verdict(input: Input, said: Vec<Said<NoKey, Event>>) -> Verdict {
        same_partitions(&each(input, Some), said)
    }
}

impl Query for Currency {
    type Key = NoKey;
    type Value = Bid;
    const NAME: &'static str = "q1 currency conversion";
    const OUT: Topic<NoKey, Bid, Bincode> = topic("q1").bincode();

    fn topology(t: &mut Topology) {
        bids(t).map(in_euros).to(Self::OUT);
    }

    fn verdict(input: Input, said: Vec<Said<NoKey, Bid>>) -> Verdict {
        same_partitions(&each(input, |event| event.bid().map(in_euros)), said)
    }
}

impl Query for Selection {
    type Key = NoKey;
    type Value = (u64, u64);
    const NAME: &'static str = "q2 selection";
    const OUT: Topic<NoKey, (u64, u64), Bincode> = topic("q2").bincode();

    fn topology(t: &mut Topology) {
        bids(t)
            .filter(|bid| bid.auction.is_multiple_of(123))
            .map(|bid| (bid.auction, bid.price))
            .to(Self::OUT);
    }

    fn verdict(input: Input, said: Vec<Said<NoKey, (u64, u64)>>) -> Verdict {
        let selected = |event: Event| match event {
            Event::Bid(bid) if bid.auction % 123 == 0 => Some((bid.auction, bid.price)),
            _ => None,
        };
        same_partitions(&each(input, selected), said)
    }
}

/// What a rule for single events gives, partition by partition.
fn each<V>(input: Input, rule: impl Fn(Event) -> Option<V>) -> Sequences<u32, V> {
    let mut expected = Sequences::new();
    for (partition, event) in input.events() {
        let at = event.at();
        if let Some(value) = rule(event) {
            expected.entry(partition).or_insert_with(Vec::new).push((value, at));
        }
    }
    expected
}
