//! The topologies that are killed, their input, and what a plain count of the same input says.
//!
//! Why a model: two runs of one runtime can be equal and both wrong. The model is a map and the rule of
//! lateness; it shares no code with `streams`.
//!
//! ```text
//!   clicks --filter--> by page --window 1 min--> page-counts
//!
//!   clicks --> by user --window 1 min--> by number of clicks --window 5 min--> activity
//!     `------> by page --count, on update--> page-totals
//!
//!   clicks --even pages, by user--> left join users --left join within 8 s--> meetings
//!     `------odd pages, by user------------------------------'
//!
//!   clicks --by user--> last click of each user --left join by the click's page--> places
//!     `------even pages, by page--> clicks of each page --'
//! ```
//!
//! Invariants
//! * the last click of each partition lies far behind all others in event time and is a bot's, so that
//!   every other window closes, in both windows of the second job.

use std::collections::BTreeMap;

use streams::prelude::*;

use crate::random::Random;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Click {
    pub(crate) user: String,
    pub(crate) page: String,
    pub(crate) at: i64,
}

/// Users, clicks and the most clicks of one user, among the users that clicked equally often modulo 3.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Activity {
    pub(crate) users: u64,
    pub(crate) clicks: u64,
    pub(crate) most: u64,
}

pub(crate) const CLICKS: Topic<NoKey, Click> = topic("clicks");
pub(crate) const COUNTS: Topic<Windowed<String>, u64> = topic("page-counts");
pub(crate) const ACTIVITY: Topic<Windowed<u32>, Activity> = topic("activity");
pub(crate) const TOTALS: Topic<String, u64> = topic("page-totals");
/// The group of each user with an even number; there from the start.
pub(crate) const USERS: Topic<String, String> = topic("users");
/// What is said of two clicks, or of one, is its own key: the order of what is said of a user is free.
pub(crate) const MEETINGS: Topic<String, u64> = topic("meetings");
/// Where each user was last, and how often that page was clicked.
pub(crate) const PLACES: Topic<String, String> = topic("places");

pub(crate) const PARTITIONS: u32 = 4;
const MINUTE: i64 = 60_000;
const GRACE: i64 = 10_000;
/// Later than the end of every window of both jobs that an ordinary click is in.
const END_AFTER: i64 = 20 * MINUTE;
const LAST_USER: &str = "bot-last";
const LAST_PAGE: &str = "/last";
const USER_COUNT: u64 = 40;
const BEFORE: i64 = 2_000;
const AFTER: i64 = 8_000;

/// A job that can be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    /// The first job of the README, under its own name.
    Clickstream,
    /// Two repartitions in a row, and a count on update beside them.
    TwoHops,
    /// A stream-table join behind a repartition, and a stream-stream join of what comes of it.
    Joins,
    /// Two tables behind repartitions, and their join by foreign key.
    ForeignKeys,
}

/// What a store's rows are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    Plain,
    Windowed,
    /// One side of a stream-stream join, and whether its records speak alone.
    Side(bool),
}

pub(crate) const ALL_JOBS: [Job; 4] =
    [Job::Clickstream, Job::TwoHops, Job::Joins, Job::ForeignKeys];

impl Job {
    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::Clickstream => "clickstream",
            Self::TwoHops => "two-hops",
            Self::Joins => "joins",
            Self::ForeignKeys => "foreign-keys",
        }
    }

    pub(crate) fn named(id: &str) -> Self {
        ALL_JOBS.into_iter().find(|job| job.id() == id).unwrap()
    }

    /// `work`: a filter that says yes, after as long as it likes.
    pub(crate) fn topology(self, work: fn(&Click) -> bool) -> impl Fn(&mut Topology) {
        move |t| match self {
            Self::Clickstream => clickstream(t, work),
            Self::TwoHops => two_hops(t, work),
            Self::Joins => joins(t, work),
            Self::ForeignKeys => foreign_keys(t, work),
        }
    }

    /// Topics whose records must come in the same order for each key.
    pub(crate) fn final_outputs(self) -> &'static [&'static str] {
        match self {
            Self::Clickstream => &["page-counts"],
            Self::TwoHops => &["activity"],
            Self::Joins => &["meetings"],
            Self::ForeignKeys => &[],
        }
    }

    /// Topics of which the last value of each key counts.
    pub(crate) fn updated_outputs(self) -> &'static [&'static str] {
        match self {
            Self::Clickstream | Self::Joins => &[],
            Self::TwoHops => &["page-totals"],
            Self::ForeignKeys => &["places"],
        }
    }

    /// Stores, and what their rows are like.
    pub(crate) fn stores(self) -> &'static [(&'static str, Layout)] {
        match self {
            Self::Clickstream => &[("clicks-per-page", Layout::Windowed)],
            Self::TwoHops => &[
                ("clicks-per-user", Layout::Windowed),
                ("users-by-activity", Layout::Windowed),
                ("totals", Layout::Plain),
            ],
            Self::Joins => &[
                ("users", Layout::Plain),
                ("visits-left", Layout::Side(true)),
                ("visits-right", Layout::Side(false)),
            ],
            Self::ForeignKeys => &[
                ("totals", Layout::Plain),
                ("last-click", Layout::Plain),
                ("places-subscriptions", Layout::Plain),
                ("places", Layout::Plain),
            ],
        }
    }

    /// The names in the job's repartition topics.
    pub(crate) fn repartitions(self) -> &'static [&'static str] {
        match self {
            Self::Clickstream => &["clicks-per-page"],
            Self::TwoHops => &["clicks-per-user", "users-by-activity", "totals"],
            Self::Joins => &["clicks-users", "visits-right"],
            Self::ForeignKeys => {
                &["totals", "last-click", "places-subscription", "places-response"]
            }
        }
    }

    pub(crate) fn changelog(self, store: &str) -> String {
        format!("{}-{store}-changelog", self.id())
    }

    pub(crate) fn repartition(self, store: &str) -> String {
        format!("{}-{store}-repartition", self.id())
    }
}

fn clickstream(t: &mut Topology, work: fn(&Click) -> bool) {
    clickstream_with_grace(t, work, 10);
}

/// The same with another grace, in seconds.
pub(crate) fn clickstream_with_grace(t: &mut Topology, work: fn(&Click) -> bool, grace: u64) {
    t.stream(CLICKS)
        .event_time(|c| c.at)
        .filter(move |c| !c.user.starts_with("bot-") && work(c))
        .key_by(|c| c.page.clone())
        .window(tumbling(mins(1)).grace(secs(grace)))
        .count("clicks-per-page")
        .on_close()
        .to(COUNTS);
}

fn two_hops(t: &mut Topology, work: fn(&Click) -> bool) {
    t.stream(CLICKS)
        .event_time(|c| c.at)
        .filter(work)
        .key_by(|c| c.user.clone())
        .window(tumbling(mins(1)).grace(secs(10)))
        .count("clicks-per-user")
        .on_close()
        .key_by(|&clicks| u32::try_from(clicks % 3).unwrap_or(0))
        .window(tumbling(mins(5)).grace(secs(10)))
        .aggregate("users-by-activity", |row: &mut Activity, clicks: u64| {
            row.users += 1;
            row.clicks += clicks;
            row.most = row.most.max(clicks);
        })
        .on_close()
        .to(ACTIVITY);
    t.stream(CLICKS).key_by(|c| c.page.clone()).count("totals").to(TOTALS);
}

fn is_left(click: &Click) -> bool {
    click
        .page
        .strip_prefix("/page-")
        .and_then(|n| n.parse::<u64>().ok())
        .is_some_and(|n| n % 2 == 0)
}

/// The rows of the table.
pub(crate) fn users() -> impl Iterator<Item = (String, String)> {
    let even = (0..USER_COUNT).filter(|n| n % 2 == 0);
    even.map(|n| (format!("user-{n}"), format!("group-{}", n % 3)))
}

type Side = (Click, Option<String>);

/// What is said of a click of the left side and one of the right.
fn meeting((click, group): &Side, other: Option<&Click>) -> String {
    let group = group.as_deref().unwrap_or("nowhere");
    let other = other.map_or_else(|| "nobody".to_owned(), |o| format!("{} at {}", o.page, o.at));
    format!("{} of {group} on {} at {} met {other}", click.user, click.page, click.at)
}

fn joins(t: &mut Topology, work: fn(&Click) -> bool) {
    let users = t.table(USERS, "users");
    let right = t.stream(CLICKS).event_time(|c| c.at).filter(|c| !is_left(c));
    let right = right.key_by(|c| c.user.clone());
    let ms = |time: i64| millis(time.unsigned_abs());
    let window = within(ms(AFTER)).before(ms(BEFORE)).grace(ms(GRACE));
    t.stream(CLICKS)
        .filter(move |c| is_left(c) && work(c))
        .key_by(|c| c.user.clone())
        .left_join(&users, |click, group| (click, group))
        .left_join_within(right, window, "visits", |l: Side, r| meeting(&l, r.as_ref()))
        .key_by(|text| text.clone())
        .map(|_| 1)
        .to(MEETINGS);
}

/// Of two clicks the later one, whichever comes first.
fn later(a: Click, b: Click) -> Click {
    if (a.at, &a.page) >= (b.at, &b.page) { a } else { b }
}

fn place(click: &Click, clicks: Option<u64>) -> String {
    let clicks = clicks.map_or_else(|| "nobody counts".to_owned(), |n| format!("{n} clicks"));
    format!("{} at {}: {clicks}", click.page, click.at)
}

fn foreign_keys(t: &mut Topology, work: fn(&Click) -> bool) {
    let even = t.stream(CLICKS).event_time(|c| c.at).filter(is_left);
    let totals = even.key_by(|c| c.page.clone()).count("totals");
    let last = t.stream(CLICKS).filter(work).key_by(|c| c.user.clone()).reduce("last-click", later);
    let page = |c: &Click| (c.page != LAST_PAGE).then(|| c.page.clone());
    last.left_join_on(&totals, page, "places", |click, n| place(&click, n)).to(PLACES);
}

/// Clicks of the even pages, and where each user was last.
fn model_of_foreign_keys(input: &[Placed]) -> Expected {
    let mut expected = Expected::default();
    let mut last: BTreeMap<&str, &Click> = BTreeMap::new();
    for (_, click) in input {
        let user = last.entry(&click.user).or_insert(click);
        if (click.at, &click.page) > (user.at, &user.page) {
            *user = click;
        }
        if is_left(click) {
            *expected.totals.entry(click.page.clone()).or_default() += 1;
        }
    }
    for (user, click) in last {
        let text = place(click, expected.totals.get(&click.page).copied());
        expected.places.insert(user.to_owned(), text);
    }
    expected
}

/// What is said, how often, and how many clicks are late: by pairs, with the clocks of their partitions.
fn model_of_joins(input: &[Placed]) -> (BTreeMap<String, u64>, u64) {
    let groups: BTreeMap<String, String> = users().collect();
    let mut clocks: BTreeMap<u32, i64> = BTreeMap::new();
    let (mut lefts, mut late) = (Vec::new(), 0);
    let mut rights: BTreeMap<(&str, i64), Vec<(&Click, i64)>> = BTreeMap::new();
    let left_until = |at: i64| at + AFTER + 1 + GRACE;
    let right_until = |at: i64| at + BEFORE + AFTER + 1 + GRACE;
    for (partition, click) in input {
        let clock = clocks.entry(*partition).or_insert(i64::MIN);
        *clock = (*clock).max(click.at);
        let until = if is_left(click) { left_until(click.at) } else { right_until(click.at) };
        if *clock >= until {
            late += 1;
        } else if is_left(click) {
            lefts.push((click, *clock));
        } else {
            rights.entry((&click.user, click.at)).or_default().push((click, *clock));
        }
    }
    let mut said: BTreeMap<String, u64> = BTreeMap::new();
    for (click, clock) in lefts {
        let left = (click.clone(), groups.get(&click.user).cloned());
        let user = click.user.as_str();
        let near = rights.range((user, click.at - BEFORE)..=(user, click.at + AFTER));
        let met = near.flat_map(|(_, rights)| rights).filter(|(right, right_clock)| {
            *right_clock < left_until(click.at) && clock < right_until(right.at)
        });
        let mut texts: Vec<_> = met.map(|(right, _)| meeting(&left, Some(right))).collect();
        if texts.is_empty() {
            texts.push(meeting(&left, None));
        }
        for text in texts {
            *said.entry(text).or_default() += 1;
        }
    }
    (said, late)
}

/// A click and the partition that it lies in.
pub(crate) type Placed = (u32, Click);

/// Clicks in bursts: partitions stand minutes apart, and clicks come up to 90 s late.
pub(crate) struct Clicks {
    random: Random,
    clocks: Vec<i64>,
}

impl Clicks {
    pub(crate) fn of_seed(seed: u64) -> Self {
        // Late clicks are younger than the rows of the table too, whose time is 0.
        let clocks = (1..=PARTITIONS).map(|p| i64::from(p) * 2 * MINUTE).collect();
        Self { random: Random::new(seed), clocks }
    }

    /// At least so many more, in the order in which they are to be written.
    pub(crate) fn more(&mut self, count: usize) -> Vec<Placed> {
        let mut all = Vec::with_capacity(count + 40);
        let mut below = |limit| self.random.below(limit);
        while all.len() < count {
            let partition = usize::try_from(below(u64::from(PARTITIONS))).unwrap();
            for _ in 0..=below(40) {
                self.clocks[partition] += i64::try_from(below(1_500)).unwrap();
                let behind = if below(4) == 0 { below(90_000) } else { 0 };
                let at = self.clocks[partition] - i64::try_from(behind).unwrap();
                let kind = if below(20) == 0 { "bot" } else { "user" };
                let (user, page) = (below(USER_COUNT), below(12));
                let user = format!("{kind}-{user}");
                let click = Click { user, page: format!("/page-{page}"), at };
                all.push((u32::try_from(partition).unwrap(), click));
            }
        }
        all
    }
}

/// Takes a few microseconds, so that a commit covers hundreds of clicks and not a hundred thousand.
pub(crate) fn ponder(click: &Click) -> bool {
    let mut sum = click.at.unsigned_abs();
    for _ in 0..3_000 {
        sum = std::hint::black_box(sum.rotate_left(5) ^ 0x9e37_79b9);
    }
    sum != u64::MAX || click.at >= 0
}

/// One click for each partition that closes all windows before it.
pub(crate) fn last_clicks(of: &[Placed]) -> Vec<Placed> {
    let at = of.iter().map(|(_, click)| click.at).max().unwrap_or(0) + END_AFTER;
    let click = Click { user: LAST_USER.to_owned(), page: LAST_PAGE.to_owned(), at };
    (0..PARTITIONS).map(|partition| (partition, click.clone())).collect()
}

/// What a job must have written once it has read everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Expected {
    /// Clicks per page and minute, with the largest event time.
    pub(crate) counts: BTreeMap<(String, i64), (u64, i64)>,
    /// By number of clicks modulo 3 and five minutes, with the largest event time.
    pub(crate) activity: BTreeMap<(u32, i64), (Activity, i64)>,
    /// Clicks per page, late ones and bots included.
    pub(crate) totals: BTreeMap<String, u64>,
    /// How often each meeting is told.
    pub(crate) meetings: BTreeMap<String, u64>,
    /// Where each user was last.
    pub(crate) places: BTreeMap<String, String>,
    /// Clicks that came after their window had closed; those of bots only count in the second job.
    pub(crate) late: u64,
    /// Clicks that the filter of the first job drops.
    pub(crate) filtered: u64,
}

impl Expected {
    /// What stands in the output topics of a job.
    pub(crate) fn written_by(mut self, job: Job) -> Self {
        if job != Job::TwoHops {
            self.totals.clear();
        }
        Self { late: 0, filtered: 0, ..self }
    }
}

/// The model: one pass over each partition in order.
pub(crate) fn model(job: Job, input: &[Placed]) -> Expected {
    let mut expected = Expected::default();
    if job == Job::Joins {
        (expected.meetings, expected.late) = model_of_joins(input);
        return expected;
    }
    if job == Job::ForeignKeys {
        return model_of_foreign_keys(input);
    }
    let mut clocks: BTreeMap<u32, i64> = BTreeMap::new();
    let mut users: BTreeMap<(String, i64), (u64, i64)> = BTreeMap::new();
    for (partition, click) in input {
        let clock = clocks.entry(*partition).or_insert(i64::MIN);
        *clock = (*clock).max(click.at);
        *expected.totals.entry(click.page.clone()).or_default() += 1;
        if job == Job::Clickstream && click.user.starts_with("bot-") {
            expected.filtered += 1;
            continue;
        }
        let start = click.at.div_euclid(MINUTE) * MINUTE;
        if *clock >= start + MINUTE + GRACE {
            expected.late += 1;
            continue;
        }
        let (rows, key) = match job {
            Job::Clickstream => (&mut expected.counts, &click.page),
            _ => (&mut users, &click.user),
        };
        let row = rows.entry((key.clone(), start)).or_insert((0, i64::MIN));
        *row = (row.0 + 1, row.1.max(click.at));
    }
    for ((user, _), (clicks, at)) in users {
        if user == LAST_USER {
            continue;
        }
        let start = at.div_euclid(5 * MINUTE) * 5 * MINUTE;
        let key = (u32::try_from(clicks % 3).unwrap(), start);
        let (row, newest) = expected.activity.entry(key).or_insert((Activity::default(), i64::MIN));
        row.users += 1;
        row.clicks += clicks;
        row.most = row.most.max(clicks);
        *newest = (*newest).max(at);
    }
    if job == Job::Clickstream {
        expected.totals.clear();
    }
    expected
}
