//! Processors: their stores, their timers, their outputs, under seeds and crashes.
//!
//! The models are plain maps that know nothing of partitions, commits or crashes.

use std::collections::BTreeMap;

use streams::prelude::*;
use streams::{BoxError, Error};

const PAYMENTS: Topic<String, Event> = topic("payments");
const ALERTS: Topic<String, i64> = topic("alerts");
const WORDS: Topic<String, String> = topic("words");
const OUT: Topic<String, String> = topic("out");

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Event {
    Pay,
    Confirm,
    Other(String),
}

const DELAY_MS: i64 = 60_000;

/// A payment that is not confirmed within a minute raises an alert.
struct Watch {
    open: KeyValueStore<String, i64>,
}

impl Processor<String, Event> for Watch {
    type Key = String;
    type Out = i64;

    fn stores(&self) -> Vec<&dyn StateStore> {
        vec![&self.open]
    }

    fn timers(&self) -> Timers {
        Timers::per_key()
    }

    fn record(
        &mut self,
        ctx: &mut Ctx<'_, String, i64>,
        record: Record<String, Event>,
    ) -> Processed {
        let (Some(card), Some(event)) = (record.key, record.value) else { return Ok(()) };
        match event {
            Event::Pay => {
                let due = record.timestamp + DELAY_MS;
                self.open.put(&card, due)?;
                // Twice is once.
                ctx.timer_event(due)?;
                ctx.timer_event(due)?;
            }
            Event::Confirm => {
                // Whether a timer that is due has fired depends on the other partitions: ask the times.
                let due = self.open.get(&card)?.filter(|due| *due > record.timestamp);
                if let Some(due) = due {
                    self.open.delete(&card)?;
                    assert!(ctx.cancel(TimerKind::Event, due)?, "it was set");
                }
            }
            Event::Other(_) => {}
        }
        Ok(())
    }

    fn timer(&mut self, ctx: &mut Ctx<'_, String, i64>, timer: Timer<String>) -> Processed {
        ctx.forward(timer.key, timer.due)?;
        Ok(())
    }
}

fn watch(t: &mut Topology) {
    let open = t.store("open");
    t.stream(PAYMENTS).process("watch", Watch { open }).to(ALERTS);
}

fn watch_by_key(t: &mut Topology) {
    let open = t.store("open");
    let by_card = t.stream(PAYMENTS).key_by(|event| match event {
        Event::Other(card) => card.clone(),
        Event::Pay => "pay".to_owned(),
        Event::Confirm => "confirm".to_owned(),
    });
    by_card.process("watch", WatchAll { open }).to(ALERTS);
}

/// Each card gets one alert a minute after each of its events.
struct WatchAll {
    open: KeyValueStore<String, u64>,
}

impl Processor<String, Event> for WatchAll {
    type Key = String;
    type Out = i64;

    fn stores(&self) -> Vec<&dyn StateStore> {
        vec![&self.open]
    }

    fn timers(&self) -> Timers {
        Timers::per_key()
    }

    fn record(
        &mut self,
        ctx: &mut Ctx<'_, String, i64>,
        record: Record<String, Event>,
    ) -> Processed {
        let Some(card) = record.key else { return Ok(()) };
        let events = self.open.get(&card)?.unwrap_or(0);
        self.open.put(&card, events + 1)?;
        ctx.timer_event(record.timestamp + DELAY_MS)?;
        Ok(())
    }

    fn timer(&mut self, ctx: &mut Ctx<'_, String, i64>, timer: Timer<String>) -> Processed {
        ctx.forward(timer.key, timer.due)?;
        Ok(())
    }
}

/// Numbers from a seed, for inputs.
fn numbers(seed: u64, count: usize) -> Vec<u64> {
    let mut state = seed;
    let next = |state: &mut u64| {
        *state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *state >> 33
    };
    (0..count).map(|_| next(&mut state)).collect()
}

fn by_key<V: Clone>(records: &[(String, V)]) -> BTreeMap<String, Vec<V>> {
    let mut all: BTreeMap<String, Vec<V>> = BTreeMap::new();
    for (key, value) in records {
        all.entry(key.clone()).or_default().push(value.clone());
    }
    all
}

#[test]
fn timers_fire_exactly_once_whatever_crashes() {
    for seed in 0..6 {
        let mut d = TestDriver::new(watch).partitions(4).seed(seed).crash_every(7);
        let mut open: BTreeMap<String, i64> = BTreeMap::new();
        let mut set: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        for (i, n) in (0i64..).zip(numbers(seed, 160)) {
            let (card, at) = (format!("card-{}", n % 9), 1_000 * i);
            let timers = set.entry(card.clone()).or_default();
            if n % 5 == 0 {
                if let Some(due) = open.get(&card).copied().filter(|due| *due > at) {
                    open.remove(&card);
                    timers.retain(|set| *set != due);
                }
                d.send_at(PAYMENTS, card, Event::Confirm, at);
            } else {
                open.insert(card.clone(), at + DELAY_MS);
                timers.push(at + DELAY_MS);
                d.send_at(PAYMENTS, card, Event::Pay, at);
            }
            if n % 31 == 0 {
                d.run().unwrap();
            }
        }
        d.advance_to(10_000_000);
        set.retain(|_, timers| !timers.is_empty());
        assert!(d.crashes() > 0, "seed {seed}");
        assert_eq!(by_key(&d.read(ALERTS)), set, "seed {seed}");
        // Nothing is left behind, and nothing fires again.
        d.stop();
        assert_eq!(d.advance_to(20_000_000).read(ALERTS), []);
    }
}

#[test]
fn alerts_behind_a_repartition_are_those_of_a_run_without_crashes() {
    let run = |seed: u64, crash: bool| {
        let mut d = TestDriver::new(watch_by_key).partitions(3).seed(seed);
        if crash {
            d = d.crash_every(9);
        }
        for (i, n) in (0i64..).zip(numbers(5, 120)) {
            let at = 700 * i - i64::try_from(n % 4_000).unwrap();
            let event = Event::Other(format!("card-{}", n % 7));
            d.send_at(PAYMENTS, format!("{n}"), event, at);
            if n % 11 == 0 {
                d.run().unwrap();
            }
        }
        d.advance_to(1_000_000);
        let records = d.read_records(ALERTS).into_iter();
        let plain = records.map(|r| (r.key.unwrap(), (r.value.unwrap(), r.timestamp)));
        by_key(&plain.collect::<Vec<_>>())
    };
    let wanted = run(0, false);
    assert_eq!(wanted.len(), 7);
    for alerts in wanted.values() {
        assert!(alerts.is_sorted_by_key(|(at, _)| *at), "in the order of time: {alerts:?}");
    }
    for seed in 1..6 {
        assert_eq!(run(seed, true), wanted, "seed {seed}");
    }
}

/// Answers questions about a store that it fills: a word puts itself, `?` asks for all of them.
struct Known {
    words: KeyValueStore<String, u64>,
}

impl Processor<String, String> for Known {
    type Key = String;
    type Out = String;

    fn stores(&self) -> Vec<&dyn StateStore> {
        vec![&self.words]
    }

    fn record(
        &mut self,
        ctx: &mut Ctx<'_, String, String>,
        record: Record<String, String>,
    ) -> Processed {
        let (Some(key), Some(word)) = (record.key, record.value) else { return Ok(()) };
        if word == "?" {
            let all = self.words.range(..)?;
            let text: Vec<String> = all.iter().map(|(word, n)| format!("{word}={n}")).collect();
            ctx.forward(key, text.join(" "))?;
        } else if let Some(gone) = word.strip_prefix('-') {
            self.words.delete(&gone.to_owned())?;
        } else {
            let n = self.words.get(&word)?.unwrap_or(0);
            self.words.put(&word, n + 1)?;
        }
        Ok(())
    }
}

fn known(t: &mut Topology) {
    let words = t.store("words-known");
    t.stream(WORDS).process("known", Known { words }).to(OUT);
}

#[test]
fn a_store_is_the_fold_of_its_changelog_and_of_its_input() {
    const CHANGELOG: Topic<String, u64, Bincode> = topic("test-words-known-changelog").bincode();
    for seed in 0..8 {
        let mut d = TestDriver::new(known).seed(seed).crash_every(11);
        let mut model: BTreeMap<String, u64> = BTreeMap::new();
        for n in numbers(seed, 200) {
            let word = format!("w{}", n % 23);
            if n % 6 == 0 {
                model.remove(&word);
                d.send(WORDS, "k".into(), format!("-{word}"));
            } else {
                *model.entry(word.clone()).or_default() += 1;
                d.send(WORDS, "k".into(), word);
            }
            if n % 17 == 0 {
                d.run().unwrap();
            }
        }
        d.send(WORDS, "k".into(), "?".into());
        let text: Vec<String> = model.iter().map(|(word, n)| format!("{word}={n}")).collect();
        assert_eq!(d.read(OUT), [("k".to_owned(), text.join(" "))], "seed {seed}");
        let mut fold: BTreeMap<String, u64> = BTreeMap::new();
        for record in d.read_committed(CHANGELOG) {
            let key = record.key.unwrap();
            match record.value {
                Some(value) => fold.insert(key, value),
                None => fold.remove(&key),
            };
        }
        assert_eq!(fold, model, "seed {seed}");
    }
}

/// Says whether a word was seen in the last ten seconds.
struct Again {
    seen: KeyValueStore<String, i64>,
}

impl Processor<String, String> for Again {
    type Key = String;
    type Out = String;

    fn stores(&self) -> Vec<&dyn StateStore> {
        vec![&self.seen]
    }

    fn record(
        &mut self,
        ctx: &mut Ctx<'_, String, String>,
        record: Record<String, String>,
    ) -> Processed {
        let (Some(key), Some(word)) = (record.key, record.value) else { return Ok(()) };
        let rows = self.seen.range(..)?.len();
        let seen = self.seen.get(&word)?.is_some();
        self.seen.put(&word, ctx.timestamp())?;
        ctx.forward(key, format!("{word} {seen} {rows}"))?;
        Ok(())
    }
}

#[test]
fn rows_live_as_long_as_they_are_said_to_also_after_a_restart() {
    const CHANGELOG: Topic<String, i64, Bincode> = topic("test-seen-changelog").bincode();
    let topology = |t: &mut Topology| {
        let seen = t.store(store("seen").ttl(secs(10)));
        t.stream(WORDS).process("again", Again { seen }).to(OUT);
    };
    for restart in [0, 1, 2] {
        let mut d = TestDriver::new(topology).seed(restart);
        for (word, at) in
            [("a", 0), ("b", 1_000), ("a", 6_000), ("c", 11_000), ("a", 15_999), ("d", 27_000)]
        {
            d.send_at(WORDS, "k".into(), word.into(), at).run().unwrap();
            match restart {
                1 => {
                    d.stop();
                }
                2 => {
                    d.crash();
                }
                _ => {}
            }
        }
        let said: Vec<String> = d.read(OUT).into_iter().map(|(_, text)| text).collect();
        let wanted = ["a false 0", "b false 1", "a true 2", "c false 1", "a true 2", "d false 0"];
        assert_eq!(said, wanted, "restart {restart}");
        let mut fold: BTreeMap<String, i64> = BTreeMap::new();
        for record in d.read_committed(CHANGELOG) {
            match record.value {
                Some(value) => fold.insert(record.key.unwrap(), value),
                None => fold.remove(&record.key.unwrap()),
            };
        }
        assert_eq!(fold, BTreeMap::from([("d".to_owned(), 27_000)]), "restart {restart}");
    }
}

/// Refuses numbers that are none.
struct Strict {
    sums: KeyValueStore<String, u64>,
}

impl Processor<String, String> for Strict {
    type Key = String;
    type Out = String;

    fn stores(&self) -> Vec<&dyn StateStore> {
        vec![&self.sums]
    }

    fn record(
        &mut self,
        ctx: &mut Ctx<'_, String, String>,
        record: Record<String, String>,
    ) -> Processed {
        let (Some(key), Some(text)) = (record.key, record.value) else { return Ok(()) };
        let n: u64 =
            text.parse().map_err(|e| BoxError::from(format!("`{text}` is no number: {e}")))?;
        let sum = self.sums.get(&key)?.unwrap_or(0) + n;
        self.sums.put(&key, sum)?;
        ctx.forward(key, sum.to_string())?;
        Ok(())
    }
}

#[test]
fn what_a_processor_refuses_goes_where_its_step_says() {
    let strict = |t: &mut Topology| {
        let sums = t.store("sums");
        t.stream(WORDS).process("strict", Strict { sums })
    };
    let mut d =
        TestDriver::new(move |t: &mut Topology| strict(t).on_error(OnError::DeadLetter).to(OUT));
    for text in ["1", "two", "3"] {
        d.send(WORDS, "k".into(), text.into());
    }
    let sums: Vec<String> = d.read(OUT).into_iter().map(|(_, sum)| sum).collect();
    assert_eq!(sums, ["1", "4"]);
    let letters = d.dead_letters();
    assert_eq!(letters[0].value.as_deref(), Some(&b"\"two\""[..]));
    assert!(
        letters[0].message.ends_with("`two` is no number: invalid digit found in string"),
        "{}",
        letters[0].message
    );
    let mut d = TestDriver::new(move |t: &mut Topology| strict(t).to(OUT));
    d.send(WORDS, "k".into(), "two".into());
    let error = d.run().unwrap_err();
    assert_eq!(error.code(), "S031");
}

/// Takes a store without listing it.
struct Sneaks(Known);

impl Processor<String, String> for Sneaks {
    type Key = String;
    type Out = String;
    fn record(
        &mut self,
        ctx: &mut Ctx<'_, String, String>,
        record: Record<String, String>,
    ) -> Processed {
        self.0.record(ctx, record)
    }
}

#[test]
fn a_store_that_is_not_listed_is_refused_by_name() {
    let unused = |t: &mut Topology| {
        let words = t.store("words-known");
        t.stream(WORDS).process("sneaks", Sneaks(Known { words })).to(OUT);
    };
    let error = TestDriver::new(unused).run().unwrap_err();
    assert!(
        matches!(&error, Error::Topology { reason, .. } if reason.contains("words-known")),
        "{error}"
    );
    // Listed elsewhere, in a task of its own.
    let elsewhere = |t: &mut Topology| {
        let words: KeyValueStore<String, u64> = t.store("words-known");
        t.stream(PAYMENTS)
            .map(|_| String::new())
            .process("known", Known { words: words.clone() })
            .to(topic::<String, String>("nowhere"));
        t.stream(WORDS).process("sneaks", Sneaks(Known { words })).to(OUT);
    };
    let mut d = TestDriver::new(elsewhere);
    d.send(WORDS, "k".into(), "x".into());
    let error = d.run().unwrap_err();
    assert!(
        matches!(&error, Error::Topology { reason, .. } if reason.contains("not its own")),
        "{error}"
    );
    let keyless = |t: &mut Topology| {
        const NONE: Topic<NoKey, String> = topic("none");
        t.stream(NONE).process("chain", Keyless).to(OUT);
    };
    let error = TestDriver::new(keyless).run().unwrap_err();
    assert!(
        matches!(&error, Error::Topology { reason, .. } if reason.contains("has no key")),
        "{error}"
    );
}

struct Keyless;

impl Processor<NoKey, String> for Keyless {
    type Key = String;
    type Out = String;
    fn timers(&self) -> Timers {
        Timers::per_key()
    }

    fn record(&mut self, _: &mut Ctx<'_, String, String>, _: Record<NoKey, String>) -> Processed {
        Ok(())
    }
}

#[test]
fn processors_share_a_store_and_look_up_tables() {
    const USERS: Topic<String, String> = topic("users");
    struct Greets {
        words: KeyValueStore<String, u64>,
        users: TableView<String, String>,
    }
    impl Processor<String, Event> for Greets {
        type Key = String;
        type Out = String;

        fn stores(&self) -> Vec<&dyn StateStore> {
            vec![&self.words, &self.users]
        }

        fn record(
            &mut self,
            ctx: &mut Ctx<'_, String, String>,
            record: Record<String, Event>,
        ) -> Processed {
            let Some(key) = record.key else { return Ok(()) };
            let name = self.users.get(&key)?.unwrap_or_default();
            ctx.forward(key, format!("{name} {}", self.words.range(..)?.len()))?;
            Ok(())
        }
    }
    let topology = |t: &mut Topology| {
        let words: KeyValueStore<String, u64> = t.store("words-known");
        let users = t.table(USERS, "users").view();
        t.stream(WORDS).process("known", Known { words: words.clone() }).to(OUT);
        t.stream(PAYMENTS).process("greets", Greets { words, users }).to(OUT);
    };
    let mut d = TestDriver::new(topology).partitions(2).crash_every(3);
    d.send_at(USERS, "a".into(), "ana".into(), 5).send_at(WORDS, "a".into(), "x".into(), 1);
    d.send_at(WORDS, "a".into(), "y".into(), 2).send_at(PAYMENTS, "a".into(), Event::Pay, 5);
    assert_eq!(d.read(OUT), [("a".to_owned(), "ana 2".to_owned())]);
}
