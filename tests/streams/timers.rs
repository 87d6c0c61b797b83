//! Timers that go by the clock, boundaries of time, and timers that set timers.

use streams::prelude::*;

const WORDS: Topic<String, String> = topic("words");
const OUT: Topic<String, String> = topic("out");

/// Tells of each word twelve seconds later, by the clock, and of each passed boundary.
struct Later;

impl Processor<String, String> for Later {
    type Key = String;
    type Out = String;

    fn timers(&self) -> Timers {
        Timers::per_key().every(secs(10)).every_clock(secs(60))
    }

    fn record(
        &mut self,
        ctx: &mut Ctx<'_, String, String>,
        _: Record<String, String>,
    ) -> Processed {
        ctx.timer_clock(secs(12))?;
        Ok(())
    }

    fn timer(&mut self, ctx: &mut Ctx<'_, String, String>, timer: Timer<String>) -> Processed {
        assert_eq!(timer.kind, TimerKind::Clock);
        assert_eq!(ctx.timestamp(), timer.due);
        assert!(ctx.clock() >= timer.due);
        ctx.forward(timer.key, "later".to_owned())?;
        Ok(())
    }

    fn punctuate(&mut self, ctx: &mut Ctx<'_, String, String>, tick: Tick) -> Processed {
        let text = match tick.kind {
            TimerKind::Event => format!("event {}", tick.at),
            _ => "clock".to_owned(),
        };
        ctx.forward("tick".to_owned(), text)?;
        Ok(())
    }
}

fn later(t: &mut Topology) {
    t.stream(WORDS).process("later", Later).to(OUT);
}

#[test]
fn clock_timers_go_by_the_clock_and_survive_a_restart() {
    for end in 0..3 {
        let mut d = TestDriver::new(later);
        d.send_at(WORDS, "a".into(), "x".into(), 1_000).run().unwrap();
        d.wall_clock(secs(5)).send_at(WORDS, "b".into(), "x".into(), 9_000).run().unwrap();
        d.wall_clock(secs(6));
        assert_eq!(d.read(OUT), [], "not yet");
        match end {
            1 => {
                d.stop();
            }
            2 => {
                d.crash();
            }
            _ => {}
        }
        d.wall_clock(secs(1));
        assert_eq!(d.read(OUT), [("a".to_owned(), "later".to_owned())], "end {end}");
        d.wall_clock(secs(5));
        assert_eq!(d.read(OUT), [("b".to_owned(), "later".to_owned())], "end {end}");
        assert_eq!(d.wall_clock(secs(5)).read(OUT), [], "end {end}");
        // 22 s have passed since the start of a minute: the next one brings a boundary.
        let ticks = d.wall_clock(secs(60)).read(OUT);
        assert_eq!(ticks, [("tick".to_owned(), "clock".to_owned())], "end {end}");
        assert_eq!(d.read(OUT), []);
    }
}

#[test]
fn event_time_punctuates_once_for_what_it_passes_at_a_time() {
    for end in 0..3 {
        let mut d = TestDriver::new(later);
        for at in [1_000, 9_999, 10_000, 12_000, 45_000] {
            d.send_at(WORDS, "a".into(), "x".into(), at).run().unwrap();
            match end {
                1 => {
                    d.stop();
                }
                2 => {
                    d.crash();
                }
                _ => {}
            }
        }
        let ticks: Vec<String> = d.read(OUT).into_iter().map(|(_, text)| text).collect();
        assert_eq!(ticks, ["event 10000", "event 40000"], "end {end}");
    }
}

/// A timer that sets the next one, in its own past.
struct Chain;

impl Processor<String, String> for Chain {
    type Key = String;
    type Out = String;

    fn timers(&self) -> Timers {
        Timers::per_key()
    }

    fn record(
        &mut self,
        ctx: &mut Ctx<'_, String, String>,
        record: Record<String, String>,
    ) -> Processed {
        ctx.timer_event(record.timestamp - 3)?;
        Ok(())
    }

    fn timer(&mut self, ctx: &mut Ctx<'_, String, String>, timer: Timer<String>) -> Processed {
        ctx.forward(timer.key, format!("{} at {}", timer.due, ctx.timestamp()))?;
        ctx.timer_event(i64::MIN)?;
        Ok(())
    }
}

#[test]
fn a_timer_that_sets_one_for_the_past_comes_to_an_end() {
    let mut d = TestDriver::new(|t: &mut Topology| t.stream(WORDS).process("chain", Chain).to(OUT));
    d.send_at(WORDS, "a".into(), "x".into(), 1_000);
    let fired: Vec<String> = d.read(OUT).into_iter().map(|(_, text)| text).collect();
    assert_eq!(fired, ["997 at 1000", "998 at 1000", "999 at 1000", "1000 at 1000"]);
}

/// When a row is too old is only noted anew when the time comes at which it would have been; that may be in
/// a transaction in which no row changes and the changelog gets nothing.
#[test]
fn a_row_that_was_put_again_goes_in_its_time_though_nothing_else_happens() {
    const CHANGELOG: Topic<String, i64, Bincode> = topic("test-seen-changelog").bincode();
    let topology = |t: &mut Topology| {
        let seen = t.store(store("seen").ttl(secs(10)));
        t.stream(WORDS).process("note", Note { seen }).to(OUT);
    };
    for crash_at in [None, Some(6_000), Some(11_000)] {
        let mut d = TestDriver::new(topology);
        let deleted = |d: &mut TestDriver| {
            d.read_committed(CHANGELOG).last().is_some_and(|record| record.value.is_none())
        };
        for at in [0, 6_000] {
            d.send_at(WORDS, "k".into(), "a".into(), at).run().unwrap();
        }
        for time in [6_000, 11_000, 15_999] {
            d.advance_to(time);
            if crash_at == Some(time) {
                d.crash();
            }
        }
        assert!(!deleted(&mut d), "crash at {crash_at:?}: it lives until 16 s");
        d.advance_to(16_000);
        assert!(deleted(&mut d), "crash at {crash_at:?}");
    }
}

/// Notes when a word was said.
struct Note {
    seen: KeyValueStore<String, i64>,
}

impl Processor<String, String> for Note {
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
        let Some(word) = record.value else { return Ok(()) };
        Ok(self.seen.put(&word, ctx.timestamp())?)
    }
}

/// The time of a processor behind two ordered inputs moves with a record of one of them alone.
#[test]
fn boundaries_behind_ordered_inputs_are_passed_once_each_whatever_crashes() {
    const OTHERS: Topic<String, String> = topic("others");
    let topology = |t: &mut Topology| {
        let ordered =
            |words: Stream<String, String>, name: &str| words.repartition(name, 1).ordered();
        let words = ordered(t.stream(WORDS), "words");
        let others = ordered(t.stream(OTHERS), "others");
        words.merge(others).process("later", Later).to(OUT);
    };
    for end in 0..3 {
        let mut d = TestDriver::new(topology);
        d.send_at(OTHERS, "b".into(), "far".into(), 100_000).run().unwrap();
        d.send_at(WORDS, "a".into(), "x".into(), 1_000).run().unwrap();
        d.send_at(OTHERS, "b".into(), "far".into(), 100_001).run().unwrap();
        for at in [12_000, 15_000, 23_000, 45_000] {
            d.send_at(WORDS, "a".into(), "x".into(), at).run().unwrap();
            match end {
                1 => {
                    d.stop();
                }
                2 => {
                    d.crash();
                }
                _ => {}
            }
        }
        let ticks: Vec<String> = d.read(OUT).into_iter().map(|(_, text)| text).collect();
        assert_eq!(ticks, ["event 10000", "event 20000", "event 40000"], "end {end}");
    }
}
