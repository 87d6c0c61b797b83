//! The queries of Nexmark give what a plain loop over the same events gives, whatever the seed and
//! wherever the job crashes.
//!
//! The bench `nexmark` runs the same jobs over many events on a log on disk.

#[path = "../../benches/nexmark/queries/mod.rs"]
mod queries;

use queries::events::EVENTS;
use queries::generator::Input;
use queries::people::{LocalItems, NewUsers};
use queries::query::{Query, Said};
use queries::single::{Currency, PassThrough, Selection};
use queries::windows::HighestBid;
use streams::prelude::*;

/// 100 seconds of event time: ten windows of those queries that have some.
const INPUT: Input = Input { seed: 1, count: 20_000, rate: 200, partitions: 4 };

fn sent<Q: Query>(input: Input, seed: u64, crash_every: u64) -> TestDriver {
    let driver = TestDriver::new(Q::topology).partitions(input.partitions).seed(seed);
    let mut d = driver.crash_every(crash_every);
    for (partition, event) in input.events() {
        let at = event.at();
        d.send_record_to(EVENTS, partition, Some(event), at);
    }
    d
}

fn said<Q: Query>(d: &mut TestDriver) -> Vec<Said<Q::Key, Q::Value>> {
    let records = d.read_records(Q::OUT).into_iter();
    let said = records.map(|record| {
        let (key, value, timestamp) = (record.key, record.value, record.timestamp);
        Said { partition: record.partition, key, value, timestamp }
    });
    said.collect()
}

fn is_as_the_loop_says<Q: Query>() {
    for seed in 0..2 {
        let mut d = sent::<Q>(INPUT, seed, 4_000);
        match Q::verdict(INPUT, said::<Q>(&mut d)) {
            Ok(results) => assert!(results > 0, "{}, seed {seed}", Q::NAME),
            Err(difference) => panic!("{}, seed {seed}: {difference}", Q::NAME),
        }
        assert!(d.crashes() > 0, "{}, seed {seed}: it never crashed", Q::NAME);
        assert_eq!(d.late(), 0, "{}, seed {seed}: disorder is within grace", Q::NAME);
    }
}

#[test]
fn every_event_passes_through() {
    is_as_the_loop_says::<PassThrough>();
}

#[test]
fn every_bid_has_another_currency() {
    is_as_the_loop_says::<Currency>();
}

#[test]
fn bids_are_selected_by_their_auctions() {
    is_as_the_loop_says::<Selection>();
}

#[test]
fn each_local_item_is_suggested_once() {
    is_as_the_loop_says::<LocalItems>();
}

#[test]
fn each_window_has_its_highest_bid() {
    is_as_the_loop_says::<HighestBid>();
}

#[test]
fn each_new_user_who_sells_is_seen_once_per_window() {
    is_as_the_loop_says::<NewUsers>();
}

/// The judge of every query can fail: a result that is left out, doubled or changed does not pass.
fn judge_sees_each_mistake<Q: Query>()
where
    Q::Key: Clone,
{
    let input = Input { count: 8_000, rate: 100, ..INPUT };
    let mut d = sent::<Q>(input, 0, 1_000_000);
    let right = said::<Q>(&mut d);
    let changed = |change: &dyn Fn(&mut Vec<Said<Q::Key, Q::Value>>)| {
        let mut said = right.iter().map(copy_of).collect();
        change(&mut said);
        Q::verdict(input, said)
    };
    assert!(changed(&|_| ()).is_ok(), "{}: {:?}", Q::NAME, changed(&|_| ()));
    let last = right.len() - 1;
    assert!(changed(&|said| drop(said.remove(last))).is_err(), "{}: a lost result", Q::NAME);
    let time = changed(&|said| said[last].timestamp += 1);
    assert!(time.is_err(), "{}: another timestamp", Q::NAME);
    let doubled = changed(&|said| said[last] = copy_of(&said[0]));
    assert!(doubled.is_err(), "{}: one result in place of another", Q::NAME);
}

fn copy_of<K: Clone, V: Clone>(said: &Said<K, V>) -> Said<K, V> {
    let (key, value) = (said.key.clone(), said.value.clone());
    Said { partition: said.partition, key, value, timestamp: said.timestamp }
}

#[test]
fn the_judge_of_each_query_sees_each_mistake() {
    judge_sees_each_mistake::<PassThrough>();
    judge_sees_each_mistake::<Currency>();
    judge_sees_each_mistake::<Selection>();
    judge_sees_each_mistake::<LocalItems>();
    judge_sees_each_mistake::<HighestBid>();
    judge_sees_each_mistake::<NewUsers>();
}

/// The published proportions, and the bound of the disorder.
#[test]
fn events_come_in_the_published_proportions() {
    let (mut people, mut auctions, mut bids, mut hot) = (0, 0, 0, 0);
    let mut clock = i64::MIN;
    for (_, event) in INPUT.events() {
        assert!(event.at() >= clock.saturating_sub(1_000), "at most a hundred events late");
        clock = clock.max(event.at());
        match event {
            queries::events::Event::Person(_) => people += 1,
            queries::events::Event::Auction(auction) => {
                assert!(auction.at < auction.expires && (10..15).contains(&auction.category));
                auctions += 1;
            }
            queries::events::Event::Bid(bid) => {
                bids += 1;
                hot += u64::from(bid.auction % 100 == 0);
            }
        }
    }
    assert_eq!((people, auctions, bids), (400, 1_200, 18_400));
    assert!((9_000..10_000).contains(&hot), "half of the bids are on hot auctions: {hot}");
    assert!(INPUT.events().eq(INPUT.events()), "the same seed gives the same events");
    assert!(!INPUT.events().eq(Input { seed: 2, ..INPUT }.events()));
}
