//! Cards that pay several times within a minute and do not confirm it raise an alarm.
//!
//! ```text
//!   cards (key: card) --> process "fraud" --> alarms
//!                           |  open: first payment, count, sum     a row per card
//!                           '- a timer per card: a minute after the first payment
//! ```
//!
//! The first payment of a card opens a minute. A confirmation within it closes it in silence; when it is
//! over, three payments or more are an alarm. That minute goes by event time, and its end is a durable timer:
//! it fires once, whatever is killed meanwhile.
//!
//! The job runs in a child process that is killed (SIGKILL) on the way and runs again to the end. Then every
//! alarm is compared with what plain loops over the same input say.
//!
//! ```console
//! $ cargo run --example fraud                         # writes, runs, kills, runs again, verifies
//! $ cargo run --example fraud -- topology
//! $ cargo run --example fraud -- state list
//! $ cargo run --example fraud -- tail alarms -o -5
//! ```

#[path = "support/killed.rs"]
mod killed;
mod support;

use std::collections::BTreeMap;
use std::process::ExitCode;

use killed::{run_and_kill, run_child};
use streams::prelude::*;
use support::{Outcome, PARTITIONS, dir_of, new_log, say, write};

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Event {
    Paid { cents: u64 },
    Confirmed,
}

/// What a card has done since its first payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Open {
    since: i64,
    payments: u32,
    cents: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Alarm {
    since: i64,
    payments: u32,
    cents: u64,
}

const CARDS: Topic<String, Event> = topic("cards");
const ALARMS: Topic<String, Alarm> = topic("alarms");

const MINUTE_MS: i64 = 60_000;
const PAYMENTS_MIN: u32 = 3;

struct Fraud {
    open: KeyValueStore<String, Open>,
}

impl Fraud {
    /// The minute of a card is over.
    fn settle(&self, ctx: &mut Ctx<'_, String, Alarm>, card: &String) -> Processed {
        let Some(Open { since, payments, cents }) = self.open.delete(card)? else { return Ok(()) };
        if payments >= PAYMENTS_MIN {
            ctx.forward(card.clone(), Alarm { since, payments, cents })?;
        }
        Ok(())
    }
}

impl Processor<String, Event> for Fraud {
    type Key = String;
    type Out = Alarm;

    fn stores(&self) -> Vec<&dyn StateStore> {
        vec![&self.open]
    }

    fn timers(&self) -> Timers {
        Timers::per_key()
    }

    fn record(
        &mut self,
        ctx: &mut Ctx<'_, String, Alarm>,
        record: Record<String, Event>,
    ) -> Processed {
        let (Some(card), Some(event), at) = (record.key, record.value, record.timestamp) else {
            return Ok(());
        };
        let mut open = self.open.get(&card)?;
        // A timer fires when all partitions have passed it: this card may already be further.
        if let Some(over) = open.filter(|open| at >= open.since + MINUTE_MS) {
            ctx.cancel(TimerKind::Event, over.since + MINUTE_MS)?;
            self.settle(ctx, &card)?;
            open = None;
        }
        match (event, open) {
            (Event::Paid { cents }, None) => {
                self.open.put(&card, Open { since: at, payments: 1, cents })?;
                ctx.timer_event(at + MINUTE_MS)?;
            }
            (Event::Paid { cents }, Some(open)) => {
                let (payments, cents) = (open.payments + 1, open.cents + cents);
                self.open.put(&card, Open { payments, cents, ..open })?;
            }
            (Event::Confirmed, Some(open)) => {
                self.open.delete(&card)?;
                ctx.cancel(TimerKind::Event, open.since + MINUTE_MS)?;
            }
            (Event::Confirmed, None) => {}
        }
        Ok(())
    }

    fn timer(&mut self, ctx: &mut Ctx<'_, String, Alarm>, timer: Timer<String>) -> Processed {
        self.settle(ctx, &timer.key)
    }
}

fn topology(t: &mut Topology) {
    let open = t.store("open-payments");
    t.stream(CARDS).process("fraud", Fraud { open }).to(ALARMS);
}

fn app() -> App {
    App::new("fraud", topology).log(dir_of("fraud"))
}

fn main() -> ExitCode {
    support::main(app(), demo)
}

const START_MS: i64 = 1_767_607_200_000;
const EVENT_COUNT: u64 = 120_000;
const CARD_COUNT: u64 = 1_500;

/// Events in the order of time, 20 ms apart: some cards pay in bursts, some of them confirm.
fn events() -> Vec<(String, Event, i64)> {
    let mut random = 7_u64;
    let mut next = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) % below
    };
    let event = |n| {
        let at = START_MS + 20 * i64::try_from(n).unwrap_or(0);
        // A few cards of the day are busy, others in the next minute.
        let busy = n / 2_000 * 7 % CARD_COUNT;
        let card = if next(4) == 0 { busy + next(40) } else { next(CARD_COUNT) };
        let event = match next(12) {
            0 => Event::Confirmed,
            _ => Event::Paid { cents: 100 + next(9_900) },
        };
        (format!("card-{:04}", card % CARD_COUNT), event, at)
    };
    (0..EVENT_COUNT).map(event).collect()
}

/// One confirmation of each partition long after all others, or else the last minutes would stay open.
fn closing(at: i64) -> Vec<(String, Event, i64)> {
    let mut of_partition = BTreeMap::new();
    for number in 0.. {
        let card = format!("nobody-{number}");
        of_partition.entry(core_log::partition_for(card.as_bytes(), PARTITIONS)).or_insert(card);
        if of_partition.len() == usize::try_from(PARTITIONS).unwrap_or(1) {
            break;
        }
    }
    of_partition.into_values().map(|card| (card, Event::Confirmed, at)).collect()
}

/// The alarms of each card by plain loops: no store, no timer, one card at a time.
fn expected(events: &[(String, Event, i64)]) -> BTreeMap<String, Vec<Alarm>> {
    let mut by_card: BTreeMap<&String, Vec<(&Event, i64)>> = BTreeMap::new();
    for (card, event, at) in events {
        by_card.entry(card).or_default().push((event, *at));
    }
    let mut alarms: BTreeMap<String, Vec<Alarm>> = BTreeMap::new();
    for (card, events) in by_card {
        let mut rest = &events[..];
        while let Some(((first, since), later)) = rest.split_first() {
            rest = later;
            let Event::Paid { cents } = first else { continue };
            let minute = later.iter().take_while(|(_, at)| *at < since + MINUTE_MS);
            let (mut payments, mut sum, mut confirmed) = (1, *cents, false);
            for (event, _) in minute {
                rest = &rest[1..];
                match event {
                    Event::Paid { cents } => (payments, sum) = (payments + 1, sum + cents),
                    Event::Confirmed => {
                        confirmed = true;
                        break;
                    }
                }
            }
            if payments >= PAYMENTS_MIN && !confirmed {
                let alarm = Alarm { since: *since, payments, cents: sum };
                alarms.entry(card.clone()).or_default().push(alarm);
            }
        }
    }
    alarms
}

fn demo() -> Outcome<bool> {
    let dir = dir_of("fraud");
    let mut events = events();
    let end = events.last().map_or(START_MS, |(_, _, at)| *at);
    events.extend(closing(end + 10 * MINUTE_MS));
    let log = new_log(&dir)?;
    write(&log, CARDS, events.iter().cloned())?;
    log.close()?;
    say(&format!(
        "fraud \u{b7} {CARD_COUNT} cards \u{b7} {} events \u{b7} log {}",
        events.len(),
        dir.display()
    ));
    let first = run_and_kill(&dir, EVENT_COUNT / 3)?;
    say(&format!("  killed (SIGKILL on purpose) after {} records read", first.read));
    run_child(&dir)?;
    say("  started again, done\n");

    let mut found: BTreeMap<String, Vec<Alarm>> = BTreeMap::new();
    for record in Log::open(&dir)?.read(ALARMS) {
        let record = record?;
        let (Some(card), Some(alarm)) = (record.key, record.value) else {
            return Err("an alarm has a card and a value".into());
        };
        found.entry(card).or_default().push(alarm);
    }
    let mut worst: Vec<(&String, &Alarm)> =
        found.iter().flat_map(|(card, alarms)| alarms.iter().map(move |a| (card, a))).collect();
    worst.sort_by_key(|(card, alarm)| (std::cmp::Reverse(alarm.payments), *card, alarm.since));
    say(&format!("  {:<12}{:>10}{:>12}", "card", "payments", "euros"));
    for (card, alarm) in worst.iter().take(5) {
        let euros = format!("{}.{:02}", alarm.cents / 100, alarm.cents % 100);
        say(&format!("  {card:<12}{:>10}{euros:>12}", alarm.payments));
    }
    let exact = first.killed && found == expected(&events);
    let verdict = if exact { "verified" } else { "WRONG" };
    say(&format!("\n{verdict}: {} alarms of {} cards, each raised once", worst.len(), found.len()));
    Ok(exact)
}
