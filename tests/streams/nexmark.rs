//! The queries of Nexmark give what a plain loop over the same events gives, whatever the seed and
//! wherever the job crashes.
//!
//! The bench `nexmark` runs the same jobs over many events on a log on disk.

#[path = "../../benches/nexmark/queries/mod.rs"]
mod queries;

use queries::events::EVENTS;
use queries::generator::Input;
use queries::people::{LocalItems, NewUsers};
use queries::prices::{CategoryPrices, SellerPrices};
use queries::query::{Query, Said};
use queries::single::{Currency, PassThrough, Selection};
use queries::windows::{HighestBid, HotItems};
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
fn each_category_has_its_average_price() {
    is_as_the_loop_says::<CategoryPrices>();
}

#[test]
fn each_window_has_its_hot_items() {
    is_as_the_loop_says::<HotItems>();
}

#[test]
fn each_seller_has_the_average_price_of_the_last_sales() {
    is_as_the_loop_says::<SellerPrices>();
}

#[test]
fn each_window_has_its_highest_bid() {
    is_as_the_loop_says::<HighestBid>();
}

#[test]
fn each_new_user_who_sells_is_seen_once_per_window() {
    is_as_the_loop_says::<NewUsers>();
}

/// What the judge of a query says when a mistake is made in what the job wrote.
fn with_mistake<Q: Query>(mistake: impl Fn(&mut Vec<Said<Q::Key, Q::Value>>)) -> bool
where
    Q::Key: Clone,
{
    let input = Input { count: 8_000, rate: 100, ..INPUT };
    let mut said = said::<Q>(&mut sent::<Q>(input, 0, 1_000_000));
    assert!(Q::verdict(input, said.iter().map(copy_of).collect()).is_ok(), "{}", Q::NAME);
    mistake(&mut said);
    Q::verdict(input, said).is_err()
}

/// The judge of every query can fail: a result that is left out or in place of another does not pass.
fn judge_sees_what_is_lost<Q: Query>()
where
    Q::Key: Clone,
{
    let lost = with_mistake::<Q>(|said| drop(said.pop()));
    assert!(lost, "{}: a lost result", Q::NAME);
    let misplaced = with_mistake::<Q>(|said| {
        let last = said.len() - 1;
        said[last] = copy_of(&said[0]);
    });
    assert!(misplaced, "{}: one result in place of another", Q::NAME);
}

fn judge_sees_times<Q: Query>()
where
    Q::Key: Clone,
{
    let moved = with_mistake::<Q>(|said| said[0].timestamp += 1);
    assert!(moved, "{}: another timestamp", Q::NAME);
}

/// Where only the last value of each key counts.
fn judge_sees_wrong_rows<Q: Query<Key = u64, Value = u64>>() {
    let lost = with_mistake::<Q>(|said| {
        let last = said.last().and_then(|said| said.key);
        said.retain(|said| said.key != last);
    });
    assert!(lost, "{}: a key without a value", Q::NAME);
    let changed = with_mistake::<Q>(|said| {
        let last = said.len() - 1;
        said[last].value = said[last].value.map(|price| price + 1);
    });
    assert!(changed, "{}: another value", Q::NAME);
}

fn copy_of<K: Clone, V: Clone>(said: &Said<K, V>) -> Said<K, V> {
    let (key, value) = (said.key.clone(), said.value.clone());
    Said { partition: said.partition, key, value, timestamp: said.timestamp }
}

#[test]
fn the_judge_of_each_query_sees_each_mistake() {
    judge_sees_what_is_lost::<PassThrough>();
    judge_sees_times::<PassThrough>();
    judge_sees_what_is_lost::<Currency>();
    judge_sees_times::<Currency>();
    judge_sees_what_is_lost::<Selection>();
    judge_sees_times::<Selection>();
    judge_sees_what_is_lost::<LocalItems>();
    judge_sees_times::<LocalItems>();
    judge_sees_what_is_lost::<HighestBid>();
    judge_sees_times::<HighestBid>();
    judge_sees_what_is_lost::<NewUsers>();
    judge_sees_times::<NewUsers>();
    judge_sees_wrong_rows::<CategoryPrices>();
    judge_sees_wrong_rows::<SellerPrices>();
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
