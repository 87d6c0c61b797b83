//! Clicks joined with users: each click gets the country that its user lived in at that moment.
//!
//! ```text
//!   users   (key: user)  --> table users --.
//!   clicks  (key: user)  -------------------+--> join --> seen
//! ```
//!
//! Both topics have the same key and the same number of partitions, so a click and its user meet in one
//! task, and a task takes its inputs in the order of their timestamps: clicks from before a move get the
//! old country, clicks from after it the new one. A click of somebody unknown gives nothing.
//!
//! ```console
//! $ cargo run --example enrichment                    # writes, runs, verifies
//! $ cargo run --example enrichment -- topology        # the job's own commands, on what that left
//! $ cargo run --example enrichment -- state get users user-7
//! $ cargo run --example enrichment -- tail seen
//! ```

mod support;
#[path = "support/undisturbed.rs"]
mod undisturbed;

use std::collections::BTreeMap;
use std::process::ExitCode;

use streams::prelude::*;
use support::{Outcome, dir_of, new_log, say, write};
use undisturbed::run_to_the_end;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct User {
    country: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Click {
    page: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Seen {
    page: String,
    country: String,
}

const USERS: Topic<String, User> = topic("users");
const CLICKS: Topic<String, Click> = topic("clicks");
const SEEN: Topic<String, Seen> = topic("seen");

fn topology(t: &mut Topology) {
    let users = t.table(USERS, "users");
    t.stream(CLICKS)
        .join(&users, |click, user| Seen { page: click.page, country: user.country })
        .to(SEEN);
}

fn app() -> App {
    App::new("enrichment", topology).log(dir_of("enrichment"))
}

fn main() -> ExitCode {
    support::main(app(), demo)
}

const START_MS: i64 = 1_767_607_200_000;
const USER_COUNT: i64 = 1_000;
const CLICK_COUNT: i64 = 50_000;
/// A click every 20 ms of event time; users move in the middle of it.
const STEP_MS: i64 = 20;
const MOVE_MS: i64 = START_MS + CLICK_COUNT * STEP_MS / 2;

fn name(number: i64) -> String {
    format!("user-{number}")
}

fn user(country: &str) -> User {
    User { country: country.to_owned() }
}

/// Everybody lives in Peru at first; every third moves to Chile.
fn users() -> impl Iterator<Item = (String, User, i64)> {
    let at_first = (0..USER_COUNT).map(|n| (name(n), user("Peru"), START_MS - 1));
    let movers = (0..USER_COUNT).filter(|n| n % 3 == 0);
    at_first.chain(movers.map(|n| (name(n), user("Chile"), MOVE_MS)))
}

/// One click in eleven comes from somebody who is in no table.
fn clicks() -> impl Iterator<Item = (String, Click, i64)> {
    (0..CLICK_COUNT).map(|n| {
        let known = n % 11 != 0;
        let who = name(if known { n * 7 % USER_COUNT } else { USER_COUNT + n });
        (who, Click { page: format!("/{}", n % 40) }, START_MS + n * STEP_MS)
    })
}

/// What must come out, worked out without `streams`: who lived where when the click came.
fn expected() -> BTreeMap<(String, Seen, i64), u64> {
    let mut seen = BTreeMap::new();
    let (mut rows, mut users) = (BTreeMap::new(), users().peekable());
    for (who, click, at) in clicks() {
        while let Some((name, user, _)) = users.next_if(|(_, _, moved)| *moved <= at) {
            rows.insert(name, user.country);
        }
        if let Some(country) = rows.get(&who) {
            let found = Seen { page: click.page, country: country.clone() };
            *seen.entry((who, found, at)).or_default() += 1;
        }
    }
    seen
}

fn demo() -> Outcome<bool> {
    let dir = dir_of("enrichment");
    let log = new_log(&dir)?;
    write(&log, USERS, users())?;
    write(&log, CLICKS, clicks())?;
    log.close()?;
    say(&format!(
        "enrichment \u{b7} {USER_COUNT} users, {CLICK_COUNT} clicks \u{b7} log {}",
        dir.display()
    ));
    let progress = run_to_the_end(app())?;

    let mut found = BTreeMap::new();
    let mut countries: BTreeMap<String, u64> = BTreeMap::new();
    for record in Log::open(&dir)?.read(SEEN) {
        let record = record?;
        let (Some(who), Some(seen)) = (record.key, record.value) else {
            return Err("a joined record has a key and a value".into());
        };
        *countries.entry(seen.country.clone()).or_default() += 1;
        *found.entry((who, seen, record.timestamp)).or_default() += 1;
    }
    for (country, clicks) in &countries {
        say(&format!("  {clicks:>6} clicks from {country}"));
    }
    let joined: u64 = countries.values().sum();
    let unknown = u64::try_from(CLICK_COUNT)? - joined;
    say(&format!("  {unknown:>6} clicks of nobody known"));
    let exact = found == expected();
    let verdict = if exact { "verified" } else { "WRONG" };
    say(&format!("{verdict}: {} records read, {joined} joined", progress.records_in));
    Ok(exact)
}
