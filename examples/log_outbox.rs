//! A local database and the log kept in step: the outbox, with SQLite. Killed at the worst moments.
//!
//! ```text
//!   shop:   one SQLite transaction  { orders: a row;  outbox: a row for each thing to tell }
//!   relay:  rows that are not marked -> one log transaction { records;  position: the last row } -> mark
//!                                                           ^                                  ^
//!                                         killed here: nothing was sent        killed here: sent, not marked
//! ```
//!
//! The database decides what happened, and the relay tells the log. It may die between sending rows and
//! marking them as sent, so after each start it may find rows again that the log has. Which ones, the
//! log itself knows: the number of the last row is committed in the transaction that sends the rows, as
//! metadata of a group's position. What lies at or below it is marked and not sent again.
//!
//! SQLite has one writer at a time, so rows become visible in the order of their numbers. A database
//! with several needs an order of commits instead of a serial number.
//!
//! ```console
//! $ cargo run --example log_outbox                  # shop, relay, three kills; verifies; target/demo/log_outbox
//! $ cargo run --example log_outbox -- demo DIR      # the same in another directory
//! $ cargo run --example log_outbox -- relay DIR     # sends what is left in the outbox of DIR
//! ```

#[path = "support/own_log.rs"]
mod own_log;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use core_log::{FetchBound, GroupId, Log, OffsetCommit, Record, Topic, TopicSettings};
use own_log::{Outcome, committed, finish, fresh_dir, run_child, say, wait_to_be_killed};
use rusqlite::{Connection, params};

const TOPIC: &str = "orders";
const GROUP: &str = "outbox-relay";
/// How many rows one log transaction takes.
const ROWS: usize = 100;
const ORDERS: u32 = 2_000;

/// Where a relay stops to be killed, at the n-th batch of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    BeforeCommit(u32),
    BeforeMarking(u32),
}

#[derive(Debug, PartialEq, Eq)]
enum Task {
    Demo(Option<PathBuf>),
    Relay(PathBuf, Option<Stop>),
}

const USAGE: &str =
    "usage: log_outbox [demo [DIR] | relay DIR [before-commit N | before-marking N]]";

fn parse(args: &[OsString]) -> Result<Task, String> {
    let words: Vec<&OsStr> = args.iter().map(OsString::as_os_str).collect();
    let text = |word: &OsStr| word.to_string_lossy().into_owned();
    match words[..] {
        [] => Ok(Task::Demo(None)),
        [what] if what == "demo" => Ok(Task::Demo(None)),
        [what, dir] if what == "demo" => Ok(Task::Demo(Some(dir.into()))),
        [what, dir] if what == "relay" => Ok(Task::Relay(dir.into(), None)),
        [what, dir, place, n] if what == "relay" => {
            let n = text(n).parse().map_err(|_no| format!("{n:?} is no number\n{USAGE}"))?;
            let stop = match text(place).as_str() {
                "before-commit" => Stop::BeforeCommit(n),
                "before-marking" => Stop::BeforeMarking(n),
                other => return Err(format!("there is no place {other:?} to stop at\n{USAGE}")),
            };
            Ok(Task::Relay(dir.into(), Some(stop)))
        }
        [what] if what == "relay" => Err(format!("relay needs the directory of a shop\n{USAGE}")),
        _ => Err(format!("log_outbox does not understand {args:?}\n{USAGE}")),
    }
}

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    finish(match parse(&args) {
        Ok(Task::Demo(dir)) => demo(dir),
        Ok(Task::Relay(dir, stop)) => relay(&dir, stop).map(|()| true),
        Err(usage) => Err(usage.into()),
    })
}

/// The shop's own database.
fn open_shop(dir: &Path, create: bool) -> Outcome<Connection> {
    let path = dir.join("shop.db");
    if !create && !path.exists() {
        return Err(
            format!("there is no shop in {}: run the demo there first", dir.display()).into()
        );
    }
    let shop = Connection::open(path)?;
    shop.busy_timeout(Duration::from_secs(5))?;
    shop.pragma_update(None, "journal_mode", "WAL")?;
    shop.pragma_update(None, "synchronous", "FULL")?;
    shop.execute_batch(
        "CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, customer TEXT, cents INTEGER);
         CREATE TABLE IF NOT EXISTS outbox (number INTEGER PRIMARY KEY AUTOINCREMENT,
             key TEXT NOT NULL, value TEXT NOT NULL, is_sent INTEGER NOT NULL DEFAULT 0);
         CREATE INDEX IF NOT EXISTS unsent ON outbox (number) WHERE is_sent = 0;",
    )?;
    Ok(shop)
}

/// Takes orders: each is a row and something to tell, in one transaction of the database. Some of those
/// fail half-way; then there is no order, and nothing to tell.
fn take_orders(shop: &mut Connection, ids: std::ops::Range<u32>) -> Outcome<()> {
    for first in ids.clone().step_by(5) {
        let transaction = shop.transaction()?;
        for id in first..(first + 5).min(ids.end) {
            let (customer, cents) = (format!("customer-{}", id % 17), 100 + id * 7 % 900);
            let row = params![id, customer, cents];
            transaction.execute("INSERT INTO orders VALUES (?1, ?2, ?3)", row)?;
            let value = format!("{id} {cents}");
            let told = "INSERT INTO outbox (key, value) VALUES (?1, ?2)";
            transaction.execute(told, params![customer, value])?;
        }
        let fails = first % 50 == 35;
        if fails { transaction.rollback()? } else { transaction.commit()? }
    }
    Ok(())
}

/// Something to tell.
struct Row {
    number: i64,
    key: String,
    value: String,
}

fn unmarked(shop: &Connection) -> Outcome<Vec<Row>> {
    let mut find = shop.prepare(
        "SELECT number, key, value FROM outbox WHERE is_sent = 0 ORDER BY number LIMIT ?1",
    )?;
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Row { number: row.get(0)?, key: row.get(1)?, value: row.get(2)? })
    };
    let rows = find.query_map([i64::try_from(ROWS)?], read)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn mark(shop: &Connection, up_to: i64) -> Outcome<()> {
    shop.execute("UPDATE outbox SET is_sent = 1 WHERE is_sent = 0 AND number <= ?1", [up_to])?;
    Ok(())
}

/// The last row that the log has.
fn last_in_log(log: &Log) -> Outcome<i64> {
    let positions = log.committed(&GroupId::new(GROUP)?)?;
    let Some(position) = positions.first() else { return Ok(0) };
    Ok(std::str::from_utf8(&position.metadata)?.parse()?)
}

/// Sends what is in the outbox until it is empty.
fn relay(dir: &Path, stop: Option<Stop>) -> Outcome<()> {
    let shop = open_shop(dir, false)?;
    let log = Log::open(dir.join("log"))?;
    let topic = match log.topic(TOPIC) {
        Ok(topic) => topic,
        Err(core_log::Error::UnknownTopic { .. }) => {
            log.create_topic(TOPIC, TopicSettings::with_partitions(4))?
        }
        Err(error) => return Err(error.into()),
    };
    let mut last = last_in_log(&log)?;
    let mut batches = 0;
    loop {
        let rows = unmarked(&shop)?;
        let Some(newest) = rows.last().map(|row| row.number) else { break };
        let known = rows.iter().filter(|row| row.number <= last).count();
        if known > 0 {
            say(&format!("known {known}"));
        }
        if newest > last {
            batches += 1;
            send(&log, &topic, &rows, last, stop == Some(Stop::BeforeCommit(batches)))?;
            last = newest;
            if stop == Some(Stop::BeforeMarking(batches)) {
                wait_to_be_killed("sent, not marked")?;
            }
        }
        mark(&shop, newest)?;
    }
    log.close()?;
    Ok(())
}

/// One transaction: the rows behind `last`, and the number of the last of them.
fn send(log: &Log, topic: &Topic, rows: &[Row], last: i64, stops: bool) -> Outcome<()> {
    let mut transaction = log.transaction(GROUP)?;
    let mut newest = last;
    for row in rows.iter().filter(|row| row.number > last) {
        let number = row.number.to_string();
        let headers: &[(&str, Option<&[u8]>)] = &[("outbox-number", Some(number.as_bytes()))];
        let record = Record { headers, ..Record::keyed(row.key.as_bytes(), row.value.as_bytes()) };
        transaction.send(topic, record)?;
        newest = row.number;
    }
    transaction.offsets([OffsetCommit {
        metadata: newest.to_string().into(),
        ..OffsetCommit::new(GroupId::new(GROUP)?, topic.id(), 0, 0)
    }])?;
    if stops {
        transaction.flush()?;
        wait_to_be_killed("sent, not committed")?;
    }
    transaction.commit()?;
    Ok(())
}

fn run_relay(dir: &Path, stop: Option<(&str, &str)>, killed_at: Option<&str>) -> Outcome<u32> {
    let mut args = vec![OsStr::new("relay"), dir.as_os_str()];
    if let Some((place, n)) = stop {
        args.extend([OsStr::new(place), OsStr::new(n)]);
    }
    let ended = run_child(&args, killed_at)?;
    if ended.killed != killed_at.is_some() {
        return Err("the relay was done before it could be killed".into());
    }
    let known =
        ended.lines.iter().filter_map(|line| line.strip_prefix("known ")?.parse::<u32>().ok());
    let known: u32 = known.sum();
    let how = killed_at.map_or_else(|| "done".to_owned(), |at| format!("killed (SIGKILL): {at}"));
    say(&format!("  relay {how}; {known} rows that the log had already were marked, not sent"));
    Ok(known)
}

fn demo(dir: Option<PathBuf>) -> Outcome<bool> {
    let dir = fresh_dir("log_outbox", dir)?;
    say(&format!("log_outbox \u{b7} {}", dir.display()));
    let mut shop = open_shop(&dir, true)?;
    take_orders(&mut shop, 0..ORDERS / 2)?;
    run_relay(&dir, Some(("before-commit", "3")), Some("sent, not committed"))?;
    let mut known = run_relay(&dir, Some(("before-marking", "2")), Some("sent, not marked"))?;
    take_orders(&mut shop, ORDERS / 2..ORDERS)?;
    known += run_relay(&dir, Some(("before-marking", "4")), Some("sent, not marked"))?;
    known += run_relay(&dir, None, None)?;
    // Once more: there is nothing left to do.
    let again = run_relay(&dir, None, None)?;
    verify(&dir, &shop, known, again)
}

/// Compares the log with the database, row by row, and what both say about the customers.
fn verify(dir: &Path, shop: &Connection, known: u32, again: u32) -> Outcome<bool> {
    let log = Log::open(dir.join("log"))?;
    let topic = log.topic(TOPIC)?;
    let told = committed(&log, &topic)?;
    let count = |sql: &str| shop.query_row(sql, [], |row| row.get::<_, i64>(0));
    let orders = count("SELECT count(*) FROM orders")?;
    let unsent = count("SELECT count(*) FROM outbox WHERE is_sent = 0")?;

    let distinct: BTreeSet<&str> = told.iter().map(|record| record.value.as_str()).collect();
    let is_once = distinct.len() == told.len() && i64::try_from(told.len())? == orders;
    let mut by_customer: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for record in &told {
        by_customer.entry(record.key.clone()).or_default().push(record.value.clone());
    }
    let mut find = shop.prepare("SELECT key, value FROM outbox ORDER BY number")?;
    let mut wanted: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in find.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))? {
        let (key, value): (String, String) = row?;
        wanted.entry(key).or_default().push(value);
    }
    let ends = (0..topic.partitions()).map(|p| log.offsets(topic.id(), p));
    let ends: Vec<_> = ends.collect::<Result<_, _>>()?;
    let written: i64 = ends.iter().map(|offsets| offsets.end(FetchBound::LogEnd)).sum();
    log.close()?;

    let is_right = is_once && by_customer == wanted && unsent == 0 && known > 0 && again == 0;
    say(&format!(
        "  {written} offsets are used: records, markers, and what a killed relay left open"
    ));
    let verdict = if is_right { "verified" } else { "WRONG" };
    let (records, distinct) = (told.len(), distinct.len());
    say(&format!(
        "{verdict}: {orders} orders, {records} records in the log ({distinct} different), {known} rows \
         found again and not sent twice"
    ));
    Ok(is_right)
}
