//! Events in the published proportions, from a seed.
//!
//! ```text
//!   number % 50      0: person     1 .. 3: auctions     4 .. 49: bids
//!   time             START + number / rate
//!   arrival          within each 100 numbers in another order: disorder is bounded
//!   hot              3 of 4 sellers and bidders: one of the last 100 people; 1 of 2 bids: one of the last
//!                    100 auctions; the others: of the last 1 000 people, the last 100 auctions, or one of
//!                    the 10 that have yet to come
//! ```
//!
//! Why every event from its number alone: a job's input and its model's are made apart, and neither is
//! kept in memory.
//!
//! Invariants
//! * ids grow with the numbers; people and auctions begin at 1 000, the five categories at 10.
//! * people, auctions and bids have about 200, 500 and 100 bytes.
//! * a price has one of six orders of magnitude, each as likely.
//!
//! Reference: the generator of Apache Beam's Nexmark and its settings, of which this shares no code.

use super::events::{Auction, Bid, Event, Person};

pub(crate) const START_MS: i64 = 1_700_000_000_000;
/// Numbers whose events come in another order.
const GROUP: u64 = 100;
/// Prime to `GROUP`, so that each number comes once.
const STRIDE: u64 = 37;
const ROUND: u64 = 50;
const AUCTIONS: u64 = 3;
const FIRST_ID: u64 = 1_000;
const FIRST_CATEGORY: u64 = 10;
const CATEGORIES: u64 = 5;
/// One in so many people and auctions is hot.
const HOT: u64 = 100;
const ACTIVE_PEOPLE: u64 = 1_000;
const AUCTIONS_IN_FLIGHT: u64 = 100;
/// How many people and auctions that do not exist yet may be named.
const LEAD: u64 = 10;

const FIRST_NAMES: [&str; 6] = ["Ana", "Bela", "Chidi", "Dora", "Emre", "Fumiko"];
const LAST_NAMES: [&str; 6] = ["Okafor", "Petrov", "Quispe", "Rossi", "Sato", "Toth"];
const CITIES: [(&str, &str); 6] = [
    ("Tucson", "AZ"),
    ("Fresno", "CA"),
    ("Boise", "ID"),
    ("Salem", "OR"),
    ("Tacoma", "WA"),
    ("Casper", "WY"),
];

/// So many events, at so many per second of event time, over so many partitions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input {
    pub(crate) seed: u64,
    pub(crate) count: u64,
    /// Events per second of event time; 10 000 as published.
    pub(crate) rate: u64,
    pub(crate) partitions: u32,
}

impl Input {
    /// The events with their partitions, in the order in which they arrive.
    pub(crate) fn events(self) -> impl Iterator<Item = (u32, Event)> {
        (0..self.count).map(move |n| (self.partition(n), self.event(n)))
    }

    /// In turn, as the benches write records without keys.
    fn partition(self, n: u64) -> u32 {
        u32::try_from(n / 256 % u64::from(self.partitions)).expect("below a u32")
    }

    /// The event that arrives as the `n`th.
    pub(crate) fn event(self, n: u64) -> Event {
        let number = n / GROUP * GROUP + n * STRIDE % GROUP;
        let random = &mut Random(self.seed ^ number.wrapping_mul(0xd134_2543_de82_ef95));
        let at = START_MS + self.millis(number);
        match number % ROUND {
            0 => Event::Person(person(number, at, random)),
            1..=AUCTIONS => Event::Auction(self.auction(number, at, random)),
            _ => Event::Bid(bid(number, at, random)),
        }
    }

    /// How long so many events take.
    fn millis(self, events: u64) -> i64 {
        i64::try_from(events * 1_000 / self.rate).expect("a short time")
    }

    fn auction(self, number: u64, at: i64, random: &mut Random) -> Auction {
        let last = last_person(number);
        let seller = if random.below(4) > 0 { last / HOT * HOT } else { some_person(last, random) };
        let horizon = self.millis(AUCTIONS_IN_FLIGHT * ROUND / AUCTIONS).max(1);
        let length = random.below(2 * u64::try_from(horizon).expect("a positive time"));
        let initial_bid = random.price();
        Auction {
            id: FIRST_ID + last_auction(number),
            item: random.text(20),
            description: random.text(100),
            initial_bid,
            reserve: initial_bid + random.price(),
            at,
            expires: at + 1 + i64::try_from(length).expect("a short time"),
            seller: FIRST_ID + seller,
            category: FIRST_CATEGORY + random.below(CATEGORIES),
            extra: random.padding(500 - 168),
        }
    }
}

fn person(number: u64, at: i64, random: &mut Random) -> Person {
    let name = format!("{} {}", random.one_of(&FIRST_NAMES), random.one_of(&LAST_NAMES));
    let (city, state) = random.one_of(&CITIES);
    Person {
        id: FIRST_ID + last_person(number),
        name,
        email: format!("{}@{}.com", random.text(7), random.text(5)),
        card: format!("{:016}", random.below(10_000_000_000_000_000)),
        city: city.to_owned(),
        state: state.to_owned(),
        at,
        extra: random.padding(200 - 65),
    }
}

fn bid(number: u64, at: i64, random: &mut Random) -> Bid {
    let (auction, person) = (last_auction(number), last_person(number));
    let earliest = auction.saturating_sub(AUCTIONS_IN_FLIGHT);
    let auction = if random.below(2) > 0 {
        auction / HOT * HOT
    } else {
        earliest + random.below(auction - earliest + 1 + LEAD)
    };
    let bidder =
        if random.below(4) > 0 { person / HOT * HOT + 1 } else { some_person(person, random) };
    Bid {
        auction: FIRST_ID + auction,
        bidder: FIRST_ID + bidder,
        price: random.price(),
        at,
        extra: random.padding(100 - 32),
    }
}

/// The newest person at an event, that of its own round.
fn last_person(number: u64) -> u64 {
    number / ROUND
}

/// The newest auction at an event that is no person's.
fn last_auction(number: u64) -> u64 {
    number / ROUND * AUCTIONS + (number % ROUND).min(AUCTIONS) - 1
}

fn some_person(last: u64, random: &mut Random) -> u64 {
    let people = last + 1;
    let active = people.min(ACTIVE_PEOPLE);
    people - active + random.below(active + LEAD)
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        let length = u64::try_from(choices.len()).expect("a short list");
        choices[usize::try_from(self.below(length)).expect("a place in a list")]
    }

    /// 1.00 to 1 000 000.00.
    fn price(&mut self) -> u64 {
        let magnitude = self.one_of(&[100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000]);
        magnitude + self.below(9 * magnitude)
    }

    /// So many letters, from `a` to `p`.
    fn text(&mut self, length: u64) -> String {
        let mut text = String::new();
        let mut bits = 0;
        for i in 0..length {
            bits = if i % 16 == 0 { self.next() } else { bits >> 4 };
            text.push(char::from(b'a' + u8::try_from(bits & 15).expect("four bits")));
        }
        text
    }

    /// About so many letters: at most a fifth more or fewer.
    fn padding(&mut self, length: u64) -> String {
        let spread = length / 5;
        let length = length - spread + self.below(2 * spread + 1);
        self.text(length)
    }
}
