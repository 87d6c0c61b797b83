//! Queries that bring people and their auctions together: q3, q8.
//!
//! ```text
//!   q3  local item suggestion   people in OR, ID or CA --+
//!                                                        +-- join within a day --> by auction
//!                               auctions in category 10 -+
//!   q8  new users               people --+
//!                                        +-- join within 10 s, in one window --> once per person and
//!                               auctions-+                                        window, on close
//! ```
//!
//! The published q3 has no limit in time; a day is longer than all event time of a run. In q8 both must
//! come in the same tumbling window of 10 s, so two that meet are 10 s apart at most.

use std::collections::BTreeMap;

use streams::prelude::*;

use super::events::{Auction, Event, Person, events};
use super::generator::Input;
use super::query::{Query, Said, Sequences, Verdict, same_sequences, slowest_clock};

pub(crate) struct LocalItems;
pub(crate) struct NewUsers;

/// Who sells what where.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LocalItem {
    pub(crate) name: String,
    pub(crate) city: String,
    pub(crate) state: String,
    pub(crate) auction: u64,
}

fn is_local(person: &Person) -> bool {
    ["OR", "ID", "CA"].contains(&person.state.as_str())
}

fn local_item(person: Person, auction: u64) -> LocalItem {
    LocalItem { name: person.name, city: person.city, state: person.state, auction }
}

/// People by id, and auctions by seller.
fn people_and_auctions(
    t: &mut Topology,
    person: impl Fn(&Person) -> bool + Send + 'static,
    auction: impl Fn(&Auction) -> bool + Send + 'static,
) -> (Stream<u64, Person>, Stream<u64, Auction>) {
    let (people, others) = events(t).branch(|event| matches!(event, Event::Person(_)));
    let people = people.flat_map(Event::person).filter(person).key_by(|person| person.id);
    let auctions = others.flat_map(Event::auction).filter(auction).key_by(|auction| auction.seller);
    (people, auctions)
}

impl Query for LocalItems {
    type Key = u64;
    type Value = LocalItem;
    const NAME: &'static str = "q3 local item suggestion";
    const OUT: Topic<u64, LocalItem, Bincode> = topic("q3").bincode();

    fn topology(t: &mut Topology) {
        let (people, auctions) = people_and_auctions(t, is_local, |a| a.category == 10);
        auctions
            .map(|auction| auction.id)
            .join_within(people, days(1), "local-items", |id, person| local_item(person, id))
            .key_by(|item| item.auction)
            .to(Self::OUT);
    }

    fn verdict(input: Input, said: Vec<Said<u64, LocalItem>>) -> Verdict {
        let people: BTreeMap<u64, Person> = input
            .events()
            .filter_map(|(_, event)| event.person())
            .filter(is_local)
            .map(|person| (person.id, person))
            .collect();
        let mut expected = Sequences::new();
        for auction in input.events().filter_map(|(_, event)| event.auction()) {
            let Some(person) = people.get(&auction.seller) else { continue };
            if auction.category == 10 {
                let at = auction.at.max(person.at);
                expected.insert(auction.id, vec![(local_item(person.clone(), auction.id), at)]);
            }
        }
        same_sequences(&expected, said)
    }
}

const WINDOW_MS: i64 = 10_000;
const GRACE_MS: i64 = 1_000;

fn window_of(at: i64) -> i64 {
    at.div_euclid(WINDOW_MS) * WINDOW_MS
}

impl Query for NewUsers {
    type Key = Windowed<u64>;
    type Value = String;
    const NAME: &'static str = "q8 monitor new users";
    const OUT: Topic<Windowed<u64>, String, Bincode> = topic("q8").bincode();

    fn topology(t: &mut Topology) {
        let (people, auctions) = people_and_auctions(t, |_| true, |_| true);
        let offered = auctions.map(|auction| auction.at);
        people
            .map(|person| (person.name, person.at))
            .join_within(offered, within(secs(10)).grace(secs(1)), "new-users", |person, at| {
                (person.0, window_of(person.1) == window_of(at))
            })
            .filter(|(_, is_same_window)| *is_same_window)
            .window(tumbling(secs(10)))
            .aggregate("new-users-per-window", |name: &mut String, (person, _)| *name = person)
            .on_close()
            .to(Self::OUT);
    }

    fn verdict(input: Input, said: Vec<Said<Windowed<u64>, String>>) -> Verdict {
        let people: BTreeMap<u64, Person> = input
            .events()
            .filter_map(|(_, event)| event.person())
            .map(|person| (person.id, person))
            .collect();
        // Results of the join have windows of their own to close: until nothing can meet any more.
        let clock = slowest_clock(input) - 2 * WINDOW_MS - GRACE_MS;
        let mut expected = Sequences::new();
        for auction in input.events().filter_map(|(_, event)| event.auction()) {
            let Some(person) = people.get(&auction.seller) else { continue };
            let start = window_of(person.at);
            let end = start + WINDOW_MS;
            if window_of(auction.at) == start && end <= clock {
                let key = Windowed { key: person.id, start, end };
                let said =
                    expected.entry(key).or_insert_with(|| vec![(person.name.clone(), i64::MIN)]);
                said[0].1 = said[0].1.max(person.at).max(auction.at);
            }
        }
        same_sequences(&expected, said)
    }
}
