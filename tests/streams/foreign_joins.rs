//! Tables joined by foreign keys, against plain maps: whatever the interleaving, the partitions and the
//! crashes, the last results follow from the last rows of both sides.

use std::collections::{BTreeMap, BTreeSet};

use streams::prelude::*;
use streams::testing::TestRecord;

use crate::equal::latest;

/// A foreign key, or none, and a text.
type Line = (Option<String>, String);

const LINES: Topic<u64, Line> = topic("lines");
const PRODUCTS: Topic<String, String> = topic("products");
const JOINED: Topic<u64, String> = topic("joined");
/// What the right side keeps.
const LISTED: Topic<(String, u64), (), Bincode> =
    topic("test-joined-subscriptions-changelog").bincode();

fn inner(t: &mut Topology) {
    let products = t.table(PRODUCTS, "products");
    let lines = t.table(LINES, "lines");
    lines.join_on(&products, |line| line.0.clone(), "joined", |l, r| both(l, Some(r))).to(JOINED);
}

fn left(t: &mut Topology) {
    let lines = t.table(LINES, "lines");
    let products = t.table(PRODUCTS, "products");
    lines.left_join_on(&products, |line| line.0.clone(), "joined", both).to(JOINED);
}

fn both((_, text): Line, right: Option<String>) -> String {
    format!("{text} {}", right.unwrap_or_else(|| "-".to_owned()))
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// One record of the input.
#[derive(Clone, Debug)]
enum Sent {
    Line(u64, Option<Line>, i64),
    Product(String, Option<String>, i64),
}

/// Few rows that change often: foreign keys go there and back, rows are deleted and come again.
fn input(seed: u64, count: u64) -> Vec<Sent> {
    let mut random = Random(seed);
    let mut all = Vec::new();
    for i in 0..count {
        let at = i64::try_from(i * 10 + random.below(40)).unwrap();
        // One name is the beginning of another, and one holds what parts the members of a key.
        let product = ["a", "ab", "b", "a\0", ""][usize::try_from(random.below(5)).unwrap()];
        all.push(if random.below(3) == 0 {
            Sent::Product(product.into(), (random.below(4) > 0).then(|| format!("p{i}")), at)
        } else {
            let named = (random.below(6) > 0).then(|| product.to_owned());
            let line = (random.below(5) > 0).then(|| (named, format!("l{i}")));
            Sent::Line(random.below(7), line, at)
        });
    }
    all
}

fn send(d: &mut TestDriver, input: &[Sent]) {
    for sent in input.iter().cloned() {
        match sent {
            Sent::Line(key, line, at) => {
                d.send_record(LINES, Some(key), line, at, Headers::none());
            }
            Sent::Product(key, text, at) => {
                d.send_record(PRODUCTS, Some(key), text, at, Headers::none());
            }
        }
    }
}

/// The last rows of both sides, with their timestamps.
#[derive(Default)]
struct Model {
    lines: BTreeMap<u64, (Line, i64)>,
    products: BTreeMap<String, (String, i64)>,
}

impl Model {
    fn take(&mut self, input: &[Sent]) {
        for sent in input.iter().cloned() {
            match sent {
                Sent::Line(key, Some(line), at) => drop(self.lines.insert(key, (line, at))),
                Sent::Line(key, None, _) => drop(self.lines.remove(&key)),
                Sent::Product(key, Some(text), at) => drop(self.products.insert(key, (text, at))),
                Sent::Product(key, None, _) => drop(self.products.remove(&key)),
            }
        }
    }

    /// The results, and their timestamps where there is a right row.
    fn results(&self, is_left: bool) -> BTreeMap<u64, (String, Option<i64>)> {
        let mut results = BTreeMap::new();
        for (key, (line, at)) in &self.lines {
            let right = line.0.as_ref().and_then(|product| self.products.get(product));
            if is_left || right.is_some() {
                let text = both(line.clone(), right.map(|(text, _)| text.clone()));
                results.insert(*key, (text, right.map(|(_, right_at)| *right_at.max(at))));
            }
        }
        results
    }

    /// Which right row which left row names.
    fn named(&self) -> BTreeSet<(String, u64)> {
        let named = self.lines.iter().filter_map(|(key, (line, _))| Some((line.0.clone()?, *key)));
        named.collect()
    }
}

/// The last of what was said of each key, timestamps where the model has one.
fn told(
    records: &[TestRecord<u64, String>],
    wanted: &BTreeMap<u64, (String, Option<i64>)>,
) -> BTreeMap<u64, (String, Option<i64>)> {
    let last = |key| records.iter().rfind(|record| record.key == Some(key)).unwrap().timestamp;
    let timed = |key| wanted.get(&key).is_none_or(|(_, at)| at.is_some());
    let rows = latest(records).into_iter();
    rows.map(|(key, text)| (key, (text, timed(key).then(|| last(key))))).collect()
}

#[test]
fn the_last_results_follow_from_the_last_rows_in_every_interleaving_and_crash() {
    for seed in 0..24 {
        let upto = |most| 1 + u32::try_from(seed % most).unwrap();
        let (lines, products) = (upto(3), upto(4));
        for is_left in [false, true] {
            let topology = if is_left { left } else { inner };
            let mut d = TestDriver::new(topology).seed(seed);
            d = d.partitions_of(LINES, lines).partitions_of(PRODUCTS, products);
            if seed % 2 == 1 {
                d = d.crash_every(20);
            }
            let story = format!("seed {seed}, {lines} and {products} partitions, left {is_left}");
            let (mut model, mut records) = (Model::default(), Vec::new());
            let (mut listed, input) = (Vec::new(), input(seed, 150));
            // Some of it at once, and some while everything else is quiet.
            for part in input.chunks(1 + usize::try_from(seed % 5).unwrap() * 37) {
                send(&mut d, part);
                model.take(part);
                records.extend(d.read_records(JOINED));
                let wanted = model.results(is_left);
                assert_eq!(told(&records, &wanted), wanted, "{story}");
                listed.extend(d.read_records(LISTED));
                let named: BTreeSet<_> = latest(&listed).into_keys().collect();
                assert_eq!(named, model.named(), "{story}");
            }
            assert!(seed % 2 == 0 || d.crashes() > 0, "{story}");
        }
    }
}

/// A job that is quiet says each result once.
#[test]
fn a_change_of_either_side_gives_one_record_for_each_row_that_it_concerns() {
    for seed in 0..6 {
        let mut d = TestDriver::new(left).partitions(3).seed(seed);
        d.send(PRODUCTS, "a".into(), "A".into()).send(PRODUCTS, "b".into(), "B".into());
        for key in 0..5 {
            d.send(LINES, key, (Some("a".into()), format!("l{key}")));
        }
        d.send(LINES, 9, (Some("b".into()), "l9".into()));
        assert_eq!(latest(&d.read_records(JOINED)).len(), 6, "seed {seed}");

        d.send(PRODUCTS, "a".into(), "A2".into());
        let mut said = d.read(JOINED);
        said.sort();
        let wanted: Vec<_> = (0..5).map(|key| (key, format!("l{key} A2"))).collect();
        assert_eq!(said, wanted, "seed {seed}");

        d.send(LINES, 3, (Some("b".into()), "moved".into()));
        assert_eq!(d.read(JOINED), [(3, "moved B".to_owned())], "seed {seed}");
        d.send(PRODUCTS, "a".into(), "A3".into());
        assert_eq!(d.read(JOINED).len(), 4, "seed {seed}: 3 hears of `a` no more");

        d.send_record(LINES, Some(3), None, 5, Headers::none());
        let gone = d.read_records(JOINED);
        assert_eq!(gone.len(), 1, "seed {seed}");
        assert_eq!((gone[0].key, &gone[0].value), (Some(3), &None), "seed {seed}");
        d.send(PRODUCTS, "b".into(), "B2".into());
        assert_eq!(d.read(JOINED), [(9, "l9 B2".to_owned())], "seed {seed}");
        assert_eq!(d.nulls(), (0, 0));
    }
}

#[test]
fn a_row_without_a_foreign_key_is_counted_or_joined_with_nothing() {
    for (topology, is_left) in [(inner as fn(&mut Topology), false), (left, true)] {
        let mut d = TestDriver::new(topology).partitions(2);
        d.send(PRODUCTS, "a".into(), "A".into()).send(LINES, 1, (Some("a".into()), "l".into()));
        assert_eq!(d.read(JOINED).last(), Some(&(1, "l A".to_owned())));
        d.send(LINES, 1, (None, "l".into())).send(LINES, 2, (None, "m".into()));
        let rows = latest(&d.read_records(JOINED));
        if is_left {
            let alone = [(1, "l -".to_owned()), (2, "m -".to_owned())];
            assert_eq!((rows, d.nulls()), (alone.into(), (0, 0)));
        } else {
            assert_eq!((rows, d.nulls()), (BTreeMap::new(), (2, 0)), "no result, and counted");
        }
    }
}

/// Nothing was there and nothing is there: nothing is said.
#[test]
fn rows_that_join_nothing_leave_no_tombstones() {
    let mut d = TestDriver::new(inner).partitions(2);
    d.send(LINES, 1, (Some("a".into()), "l".into()));
    d.send_record(LINES, Some(2), None, 5, Headers::none());
    d.send_record(PRODUCTS, Some("a".into()), None, 6, Headers::none());
    d.run().unwrap();
    d.send(LINES, 1, (Some("b".into()), "l".into()));
    d.run().unwrap();
    d.send_record(LINES, Some(1), None, 7, Headers::none());
    assert_eq!(d.read_records(JOINED), []);
}

/// Each row and the row that it points at, in the same table; and what another join makes of the result.
#[test]
fn a_table_joins_itself_and_a_result_joins_again() {
    const STAFF: Topic<u64, (String, Option<u64>)> = topic("staff");
    const CHIEFS: Topic<u64, String> = topic("chiefs");
    fn chiefs(t: &mut Topology) {
        let staff = t.table(STAFF, "staff");
        let chief = |row: &(String, Option<u64>)| row.1;
        let named = staff.left_join_on(&staff, chief, "named", |(name, of), chief| {
            (chief.map_or(name.clone(), |chief| format!("{name} of {}", chief.0)), of)
        });
        let twice = |row: &(String, Option<u64>)| row.1;
        named
            .join_on(&named, twice, "twice", |(name, _), (chief, _)| format!("{name}; {chief}"))
            .to(CHIEFS);
    }
    for seed in 0..8 {
        let mut d = TestDriver::new(chiefs).partitions(3).seed(seed);
        if seed > 3 {
            d = d.crash_every(4);
        }
        d.send(STAFF, 3, ("eve".into(), Some(2))).send(STAFF, 2, ("bob".into(), Some(1)));
        d.send(STAFF, 1, ("ana".into(), None)).send(STAFF, 4, ("joe".into(), Some(9)));
        let mut said = d.read_records(CHIEFS);
        let row = |key, text: &str| (key, text.to_owned());
        let wanted = [row(2, "bob of ana; ana"), row(3, "eve of bob; bob of ana")];
        assert_eq!(latest(&said), wanted.into(), "seed {seed}");
        d.send(STAFF, 2, ("bo".into(), Some(1)));
        said.extend(d.read_records(CHIEFS));
        let wanted = [row(2, "bo of ana; ana"), row(3, "eve of bo; bo of ana")];
        assert_eq!(latest(&said), wanted.into(), "seed {seed}");
    }
}

/// The way there and back takes two commits more, and no window behind it closes before.
#[test]
fn a_window_behind_the_updates_closes_when_both_sides_have_passed_it() {
    const COUNTS: Topic<Windowed<u64>, u64> = topic("counts");
    fn counted(t: &mut Topology) {
        let products = t.table(PRODUCTS, "products");
        let joined = t.table(LINES, "lines").join_on(
            &products,
            |line| line.0.clone(),
            "joined",
            |l, r| both(l, Some(r)),
        );
        joined.updates().window(tumbling(secs(1))).count("per-second").on_close().to(COUNTS);
    }
    let second = |key| Windowed { key, start: 0, end: 1_000 };
    for seed in 0..8 {
        let mut d = TestDriver::new(counted).seed(seed);
        d = d.partitions_of(LINES, 2).partitions_of(PRODUCTS, 3);
        let passes = |d: &mut TestDriver, lines: i64, products: i64| {
            for partition in 0..3 {
                d.send_record_to(LINES, partition, None, lines);
                d.send_record_to(PRODUCTS, partition, None, products);
            }
        };
        d.send_at(PRODUCTS, "a".into(), "A".into(), 100).run().unwrap();
        d.send_at(LINES, 1, (Some("a".into()), "l".into()), 200);
        d.send_at(LINES, 2, (Some("a".into()), "m".into()), 200);
        passes(&mut d, 1_500, 900);
        assert_eq!(d.read(COUNTS), [], "seed {seed}: products are not so far");
        d.send_at(PRODUCTS, "a".into(), "A2".into(), 950);
        assert_eq!(d.read(COUNTS), [], "seed {seed}");
        passes(&mut d, 1_600, 1_500);
        let mut closed = d.read(COUNTS);
        closed.sort();
        assert_eq!(closed, [(second(1), 2), (second(2), 2)], "seed {seed}");
        assert_eq!(d.late(), 0, "seed {seed}");
    }
}

/// Many rows that name one: they hear of its change in one commit, crashes or not.
#[test]
fn a_row_that_thousands_name_tells_all_of_them() {
    let mut d = TestDriver::new(inner).seed(5);
    d = d.partitions_of(LINES, 3).partitions_of(PRODUCTS, 2).crash_every(3_000);
    for key in 0..5_000 {
        d.send(LINES, key, (Some("a".into()), "l".into()));
    }
    d.send(PRODUCTS, "a".into(), "A".into());
    assert_eq!(latest(&d.read_records(JOINED)).len(), 5_000);
    d.send(PRODUCTS, "a".into(), "B".into());
    let said = d.read(JOINED);
    assert_eq!(said.len(), 5_000);
    assert!(said.iter().all(|(_, text)| text == "l B"));
}

#[test]
fn a_join_by_foreign_key_needs_a_good_name_of_its_own() {
    const OTHERS: Topic<u64, u64> = topic("others");
    fn joined(t: &mut Topology, store: &str) {
        let (lines, others) = (t.table(LINES, "lines"), t.table(OTHERS, "others"));
        lines
            .join_on(&others, |line| u64::try_from(line.1.len()).ok(), store, |l, _| l.1)
            .to(JOINED);
    }
    for (store, code) in [("lines", "S018"), ("no/name", "S024"), ("", "S024")] {
        let error = TestDriver::new(move |t: &mut Topology| joined(t, store)).run().unwrap_err();
        assert_eq!(error.code(), code, "{error}");
    }
    let mut d = TestDriver::new(|t: &mut Topology| joined(t, "joined"));
    d.send(LINES, 1, (None, "four".into())).send(OTHERS, 4, 0);
    assert_eq!(d.read(JOINED), [(1, "four".to_owned())], "a key, an option, anything into one");
}

/// What is counted of the results is exact only if each change of them is passed on once, with what was
/// there before: a lost or doubled one would stay in the counts for ever.
#[test]
fn counts_over_results_are_exact_whatever_changes_in_one_transaction() {
    const COUNTS: Topic<String, u64> = topic("counts");
    fn counted(t: &mut Topology) {
        let lines = t.table(LINES, "lines");
        let products = t.table(PRODUCTS, "products");
        let joined = lines.left_join_on(&products, |line| line.0.clone(), "joined", both);
        let right = |_: &u64, text: &String| (text.rsplit(' ').next().unwrap().to_owned(), ());
        joined.group_by(right).count("per-product").to(COUNTS);
    }
    for seed in 0..16 {
        let mut d = TestDriver::new(counted).seed(seed);
        let partitions = 1 + u32::try_from(seed % 3).unwrap();
        d = d.partitions_of(LINES, partitions).partitions_of(PRODUCTS, 2);
        if seed % 2 == 1 {
            d = d.crash_every(25);
        }
        let (mut model, mut records) = (Model::default(), Vec::new());
        let input = input(seed + 100, 120);
        for part in input.chunks(40) {
            send(&mut d, part);
            model.take(part);
            records.extend(d.read_records(COUNTS));
            let mut wanted: BTreeMap<String, u64> = BTreeMap::new();
            for (text, _) in model.results(true).into_values() {
                *wanted.entry(text.rsplit(' ').next().unwrap().to_owned()).or_default() += 1;
            }
            let mut counts = latest(&records);
            counts.retain(|_, count| *count > 0);
            assert_eq!(counts, wanted, "seed {seed}");
        }
    }
}
