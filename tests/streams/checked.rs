//! Steps that keep state, each in a job that is run under many seeds: `check_exactly_once` over other
//! interleavings, commits, partitions and crashes, with caches so small that everything spills.

use streams::prelude::*;
use streams::testing::{Check, Inputs, Limits};

type Pair = (String, u64);

const A: Topic<String, Pair> = topic("a");
const B: Topic<String, Pair> = topic("b");
const OUT: Topic<String, String> = topic("out");
const WINDOWS: Topic<Windowed<String>, u64> = topic("windows");

/// Records of both topics, up to 200 ms out of order, some of them null.
fn inputs(seed: u64) -> Inputs {
    let mut state = seed.wrapping_mul(77) + 5;
    let mut below = move |limit: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % limit
    };
    (0..300_u64).fold(Inputs::new(), |all, n| {
        let to = if below(2) == 0 { A } else { B };
        let at = 10_000 + i64::try_from(n * 10).unwrap() - i64::try_from(below(200)).unwrap();
        let key = format!("k{}", below(4));
        let value = (below(6) > 0).then(|| (format!("k{}", below(4)), n));
        all.send_record(to, Some(key), value, at, Headers::none())
    })
}

/// Some seeds for each of three inputs, two of them with hardly any memory; the topics that were not
/// compared.
fn run(job: fn(&mut Topology)) -> Vec<String> {
    let limits = Limits { dirty_rows_max: 3, held_bytes_max: 800, ..Limits::default() };
    let round = |round| {
        let with = move |d: TestDriver| if round == 1 { d } else { d.limits(limits) };
        let checked = Check::new(job, inputs(round)).seeds(8).with(with).run().unwrap();
        assert!(checked.crashes > 0, "{checked:?}");
        checked.not_compared
    };
    (0..3).flat_map(round).collect()
}

/// The same where every output is compared.
fn check(job: fn(&mut Topology)) {
    assert_eq!(run(job), Vec::<String>::new());
}

fn keyed(t: &mut Topology) -> Stream<String, Pair> {
    t.stream(A).merge(t.stream(B)).key_by(|(key, _)| key.clone())
}

fn sum(sum: &mut u64, (_, n): Pair) {
    *sum += n;
}

#[test]
fn sessions_that_close_and_sessions_that_are_told_at_each_change() {
    fn windows(t: &mut Topology) -> WindowTable<String, u64> {
        let windows = session(millis(25)).grace(secs(10));
        keyed(t).window(windows).aggregate("sums", sum, |sum, other| *sum += other)
    }
    check(|t| windows(t).on_close().to(WINDOWS));
    check(|t| windows(t).on_update().to(WINDOWS));
}

#[test]
fn sliding_windows() {
    check(|t| {
        let windows = sliding(millis(25)).grace(millis(50));
        keyed(t).window(windows).aggregate("sums", sum).on_close().to(WINDOWS);
    });
}

#[test]
fn counts_that_add_up_in_front_of_windows_behind_windows() {
    check(|t| {
        let first = tumbling(millis(50)).grace(millis(20));
        let counts = keyed(t).window(first).count("first").on_close();
        let again = counts.key_by(|n| format!("{n}")).window(tumbling(millis(200)));
        again.count("second").on_close().to(WINDOWS);
        keyed(t).count("all").map(|n| format!("{n}")).to(OUT);
    });
}

#[test]
fn a_join_by_foreign_key() {
    check(|t| {
        let right = t.table(B, "right");
        let names = |(key, n): &Pair| (n % 5 > 0).then(|| key.clone());
        let both = |left, right| format!("{left:?} {right:?}");
        t.table(A, "left").left_join_on(&right, names, "both", both).to(OUT);
    });
}

/// Which values it tells follows from where commits fall: its stores are compared, and what is lost.
#[test]
fn a_table_that_speaks_seldom_and_is_joined() {
    let not_compared = run(|t| {
        let right = t.table(B, "right");
        let both = |left: Option<Pair>, right: Option<Pair>| format!("{left:?} {right:?}");
        let seldom = t.table(A, "left").at_most_every(millis(70));
        seldom.left_join(&right, "both", move |l, r| both(Some(l), r)).to(OUT);
    });
    assert_eq!(not_compared, ["out"; 3]);
}

#[test]
fn a_join_that_waits_for_a_versioned_table() {
    check(|t| {
        let users = t.versioned_table(B, "users", secs(1));
        let both = |left, right| format!("{left:?} {right:?}");
        t.stream(A).left_join_with_grace(&users, millis(300), "waiting", both).to(OUT);
    });
}

#[test]
fn a_table_behind_an_ordered_repartition_looked_up_behind_another() {
    check(|t| {
        let a = t.stream(A).key_by(|(key, _)| key.clone()).repartition("by-a", 2).ordered();
        let b = t.stream(B).key_by(|(key, _)| key.clone()).repartition("by-b", 2).ordered();
        a.left_join(&b.table("b"), |a, b| format!("{a:?} {b:?}")).to(OUT);
    });
}

/// Says what it knew of a key, when a record or a timer comes, and forgets it now and then.
struct Says {
    rows: KeyValueStore<String, Pair>,
}

impl Processor<String, Pair> for Says {
    type Key = String;
    type Out = String;

    fn stores(&self) -> Vec<&dyn StateStore> {
        vec![&self.rows]
    }

    fn timers(&self) -> Timers {
        Timers::per_key()
    }

    fn record(
        &mut self,
        ctx: &mut Ctx<'_, String, String>,
        record: Record<String, Pair>,
    ) -> Processed {
        let (Some(key), Some(pair)) = (record.key, record.value) else { return Ok(()) };
        let known = self.rows.get(&key)?;
        self.rows.put(&key, pair.clone())?;
        ctx.timer_event(record.timestamp + 45)?;
        ctx.timer_event(record.timestamp + 145)?;
        if pair.1.is_multiple_of(7) {
            ctx.cancel(TimerKind::Event, record.timestamp + 45)?;
        }
        ctx.forward(key, format!("{known:?} {pair:?}"))?;
        Ok(())
    }

    fn timer(&mut self, ctx: &mut Ctx<'_, String, String>, timer: Timer<String>) -> Processed {
        let known = self.rows.get(&timer.key)?;
        if timer.due % 30 == 0 {
            self.rows.delete(&timer.key)?;
        }
        ctx.forward(timer.key, format!("timer {} {known:?}", timer.due))?;
        Ok(())
    }
}

#[test]
fn timers_and_rows_that_become_too_old() {
    check(|t| {
        let rows = t.store(store("rows").ttl(millis(60)));
        t.stream(A).process("says", Says { rows }).to(OUT);
    });
}

/// What is due before a record fires before it, also where a restart ends with nothing to read again.
#[test]
fn timers_behind_two_ordered_repartitions() {
    check(|t| {
        let rows = t.store(store("rows").ttl(millis(60)));
        let a = t.stream(A).key_by(|(key, _)| key.clone()).repartition("by-a", 2).ordered();
        let b = t.stream(B).key_by(|(key, _)| key.clone()).repartition("by-b", 2).ordered();
        a.merge(b).process("says", Says { rows }).to(OUT);
    });
}
