//! What happens at the auctions: people come, offer things, and bid. One topic has it all.
//!
//! ```text
//!   nexmark: Person | Auction | Bid      no key; event time from the value; bincode
//! ```
//!
//! Why one topic: the published generator is one sequence, and each query reads all of it and drops what
//! it does not ask about.
//!
//! Reference: Tucker et al., "NEXMark: a benchmark for queries over data streams".

use streams::prelude::*;

/// Somebody who may sell and bid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Person {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) email: String,
    pub(crate) card: String,
    pub(crate) city: String,
    pub(crate) state: String,
    pub(crate) at: i64,
    pub(crate) extra: String,
}

/// Something for sale until `expires`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Auction {
    pub(crate) id: u64,
    pub(crate) item: String,
    pub(crate) description: String,
    pub(crate) initial_bid: u64,
    pub(crate) reserve: u64,
    pub(crate) at: i64,
    pub(crate) expires: i64,
    pub(crate) seller: u64,
    pub(crate) category: u64,
    pub(crate) extra: String,
}

/// What somebody would pay, in cents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bid {
    pub(crate) auction: u64,
    pub(crate) bidder: u64,
    pub(crate) price: u64,
    pub(crate) at: i64,
    pub(crate) extra: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Event {
    Person(Person),
    Auction(Auction),
    Bid(Bid),
}

/// Every query's source.
pub(crate) const EVENTS: Topic<NoKey, Event, Bincode> = topic("nexmark").bincode();

impl Event {
    pub(crate) fn at(&self) -> i64 {
        match self {
            Self::Person(person) => person.at,
            Self::Auction(auction) => auction.at,
            Self::Bid(bid) => bid.at,
        }
    }

    pub(crate) fn person(self) -> Option<Person> {
        if let Self::Person(person) = self { Some(person) } else { None }
    }

    pub(crate) fn auction(self) -> Option<Auction> {
        if let Self::Auction(auction) = self { Some(auction) } else { None }
    }

    pub(crate) fn bid(self) -> Option<Bid> {
        if let Self::Bid(bid) = self { Some(bid) } else { None }
    }
}

/// All events, with their times.
pub(crate) fn events(t: &mut Topology) -> Stream<NoKey, Event> {
    t.stream(EVENTS).event_time(Event::at)
}

/// The bids among them.
pub(crate) fn bids(t: &mut Topology) -> Stream<NoKey, Bid> {
    events(t).flat_map(Event::bid)
}
