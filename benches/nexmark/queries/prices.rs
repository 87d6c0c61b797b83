//! Queries over the winning bids of auctions: q4, q6.
//!
//! ```text
//!   auctions --+
//!              +-- by auction -- aggregate "lots" -- the highest bid in time of each auction
//!   bids ------+                      |
//!                                     +-- q4: group_by category -- sum and count --------- average
//!                                     `-- q6: group_by seller --- the last ten sales ----- average
//! ```
//!
//! A bid is in time from the auction's own time to when it expires, both included. It may be read before
//! its auction, as both come from any partition: such bids wait in the lot. When a lot gets a higher bid,
//! the old price leaves its category or seller and the new one takes its place, in one step: averages are
//! of the winning bids so far, as in the published SQL. The last sales of a seller are those that expire
//! last.

use std::collections::BTreeMap;

use streams::prelude::*;

use super::events::{Auction, Event, events};
use super::generator::Input;
use super::query::{Query, Said, Verdict, same_rows};

pub(crate) struct CategoryPrices;
pub(crate) struct SellerPrices;

/// What is kept of an auction.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Terms {
    at: i64,
    expires: i64,
    seller: u64,
    category: u64,
}

/// Price and time of a bid.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Offer {
    at: i64,
    price: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Move {
    Opened(Terms),
    Offered(Offer),
}

/// An auction and its highest bid in time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Lot {
    terms: Option<Terms>,
    highest: Option<u64>,
    /// Bids that were read before the auction.
    waiting: Vec<Offer>,
}

impl Lot {
    fn take(&mut self, step: Move) {
        match (step, self.terms) {
            (Move::Opened(terms), _) => {
                self.terms = Some(terms);
                for offer in std::mem::take(&mut self.waiting) {
                    self.offer(terms, offer);
                }
            }
            (Move::Offered(offer), Some(terms)) => self.offer(terms, offer),
            (Move::Offered(offer), None) => self.waiting.push(offer),
        }
    }

    fn offer(&mut self, terms: Terms, offer: Offer) {
        if (terms.at..=terms.expires).contains(&offer.at) {
            self.highest = self.highest.max(Some(offer.price));
        }
    }

    fn sold(&self) -> Option<(Terms, u64)> {
        Some((self.terms?, self.highest?))
    }
}

/// Every auction that has a bid in time, with the highest of them.
fn sold(t: &mut Topology) -> Table<u64, (Terms, u64)> {
    let moves = events(t).filter(|event| !matches!(event, Event::Person(_)));
    let by_auction = moves.key_by(|event| match event {
        Event::Person(person) => person.id,
        Event::Auction(auction) => auction.id,
        Event::Bid(bid) => bid.auction,
    });
    let lots = by_auction.flat_map(|event| match event {
        Event::Person(_) => None,
        Event::Auction(Auction { at, expires, seller, category, .. }) => {
            Some(Move::Opened(Terms { at, expires, seller, category }))
        }
        Event::Bid(bid) => Some(Move::Offered(Offer { at: bid.at, price: bid.price })),
    });
    let lots = lots.aggregate("lots", Lot::take).filter(|lot: &Lot| lot.sold().is_some());
    lots.map(|lot| lot.sold().expect("it was asked for above"))
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Average {
    sum: u64,
    count: u64,
}

impl Query for CategoryPrices {
    type Key = u64;
    type Value = u64;
    const NAME: &'static str = "q4 average price per category";
    const OUT: Topic<u64, u64, Bincode> = topic("q4").bincode();

    fn topology(t: &mut Topology) {
        let add = |average: &mut Average, price| {
            average.sum += price;
            average.count += 1;
        };
        let subtract = |average: &mut Average, price| {
            average.sum -= price;
            average.count -= 1;
        };
        sold(t)
            .group_by(|_, (terms, price)| (terms.category, *price))
            .aggregate("category-prices", add, subtract)
            .map(|average| average.sum.checked_div(average.count).unwrap_or(0))
            .to(Self::OUT);
    }

    fn verdict(input: Input, said: Vec<Said<u64, u64>>) -> Verdict {
        let mut prices: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for (auction, price) in winners(input) {
            prices.entry(auction.category).or_default().push(price);
        }
        same_rows(&averages(prices), said)
    }
}

/// A sale: when it expires, the auction, the price.
type Sale = (i64, u64, u64);

const SALES: usize = 10;

fn add_sale(sales: &mut Vec<Sale>, sale: Sale) {
    let place = sales.partition_point(|other| *other < sale);
    sales.insert(place, sale);
    // What leaves here never comes back: auctions keep their places, and none is ever taken away.
    let surplus = sales.len().saturating_sub(SALES);
    sales.drain(..surplus);
}

impl Query for SellerPrices {
    type Key = u64;
    type Value = u64;
    const NAME: &'static str = "q6 average price per seller";
    const OUT: Topic<u64, u64, Bincode> = topic("q6").bincode();

    fn topology(t: &mut Topology) {
        // Only the auction's number is in the key, which the group does not see: it goes along.
        sold(t)
            .group_by(|auction, (terms, price)| (terms.seller, (terms.expires, *auction, *price)))
            .aggregate("seller-prices", add_sale, |sales, old| sales.retain(|sale| *sale != old))
            .map(|sales| {
                let sum: u64 = sales.iter().map(|(_, _, price)| price).sum();
                let count = u64::try_from(sales.len()).expect("ten at most");
                sum.checked_div(count).unwrap_or(0)
            })
            .to(Self::OUT);
    }

    fn verdict(input: Input, said: Vec<Said<u64, u64>>) -> Verdict {
        let mut sales: BTreeMap<u64, Vec<Sale>> = BTreeMap::new();
        for (auction, price) in winners(input) {
            sales.entry(auction.seller).or_default().push((auction.expires, auction.id, price));
        }
        let last = |mut sales: Vec<Sale>| {
            sales.sort_unstable();
            sales.into_iter().rev().take(SALES).map(|(_, _, price)| price).collect()
        };
        let prices = sales.into_iter().map(|(seller, sales)| (seller, last(sales)));
        same_rows(&averages(prices.collect()), said)
    }
}

/// Auctions with their highest bids in time, by a plain loop.
fn winners(input: Input) -> Vec<(Auction, u64)> {
    let auctions: BTreeMap<u64, Auction> = input
        .events()
        .filter_map(|(_, event)| event.auction())
        .map(|auction| (auction.id, auction))
        .collect();
    let mut highest: BTreeMap<u64, u64> = BTreeMap::new();
    for bid in input.events().filter_map(|(_, event)| event.bid()) {
        let auction = auctions.get(&bid.auction);
        if auction.is_some_and(|auction| auction.at <= bid.at && bid.at <= auction.expires) {
            let highest = highest.entry(bid.auction).or_default();
            *highest = bid.price.max(*highest);
        }
    }
    let auctions = auctions.into_iter();
    auctions.filter_map(|(id, auction)| Some((auction, *highest.get(&id)?))).collect()
}

fn averages(prices: BTreeMap<u64, Vec<u64>>) -> BTreeMap<u64, u64> {
    let average = |prices: &[u64]| {
        prices.iter().sum::<u64>() / u64::try_from(prices.len()).expect("a small number")
    };
    prices.into_iter().map(|(key, prices)| (key, average(&prices))).collect()
}
