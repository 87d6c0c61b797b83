//! The command line of a job binary, as data.
//!
//! Why apart: what can be said is one thing, what it does another; everything here is parsed and checked
//! before a log is touched.

use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use core_log::{Offset, PARTITIONS_MAX, Timestamp};

use crate::at::At;
use crate::query::WindowTime;
use crate::runtime::ResetTo;

/// More threads than any machine has cores are a typing mistake.
const THREADS_MAX: usize = 1_024;
/// More rows than anybody reads.
const ROWS_MAX: usize = 1_000_000;

/// A job and the tool that looks after it. Without a command, the job runs.
///
/// The log directory is the one in the program, or STREAMS_LOG.
#[derive(Debug, Parser)]
#[command(disable_help_subcommand = true, version)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the job; Ctrl-C finishes the transaction and stops, twice stops at once (still safe)
    Run(Run),
    /// Print the graph of the job: sub-topologies, stores and topics
    Topology(Topology),
    /// Print records of a topic, also while the job is running
    Tail(Tail),
    /// Run the job again over old input, in state and topics of its own; the live ones stay as they are
    Replay(Replay),
    /// Show how the job goes, running or not: positions, lag, windows, stores, commit times
    Status(Status),
    /// Look at the committed rows of the job's stores, also while it is running
    #[command(subcommand)]
    State(State),
    /// Move the job to other positions and build its state anew: shows a plan, until --yes
    Reset(Reset),
    /// Manage topics
    #[command(subcommand)]
    Topic(Topic),
}

/// Options of `run`.
#[derive(Debug, Default, Args)]
pub(super) struct Run {
    /// Stop once all input has been read and nothing new has come for that long (500ms, 2s, 1m)
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(super) until_idle: Option<Duration>,
    /// Worker threads; by default one for each core
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = threads)]
    pub(super) threads: Option<usize>,
    /// For scripts: no banner, a line each time that the counters have moved on, and a clean stop when
    /// nobody reads them any more
    #[arg(long)]
    pub(super) progress: bool,
}

/// Options of `topology`.
#[derive(Debug, Args)]
pub(super) struct Topology {
    /// As text, as a picture (svg), for a program that draws it (mermaid, dot), or for one that reads it
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = TopologyFormat::Text)]
    pub(super) format: TopologyFormat,
}

/// What `topology` can print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum TopologyFormat {
    Text,
    Mermaid,
    Dot,
    Svg,
    Json,
}

/// Options of `tail`.
#[derive(Debug, Args)]
pub(super) struct Tail {
    /// The topic
    pub(super) topic: String,
    /// Where to start: an offset in each partition, @TIME (RFC 3339 or milliseconds), or -N for the
    /// last N records
    #[arg(
        short = 'o',
        long = "offset",
        value_name = "OFFSET|@TIME|-N",
        default_value = "-10",
        allow_hyphen_values = true,
        value_parser = start
    )]
    pub(super) start: Start,
    /// One JSON object a line: partition, offset, timestamp, key, value, headers
    #[arg(long)]
    pub(super) json: bool,
    /// Go on with what is written from now on
    #[arg(long, short = 'f')]
    pub(super) follow: bool,
    /// Of which replay, where several have written the topic; by default the one with the job's id
    #[arg(long)]
    pub(super) name: Option<String>,
}

/// Options of `replay`.
#[derive(Debug, Args)]
pub(super) struct Replay {
    /// Where to begin: an offset in each partition, @TIME (RFC 3339 or milliseconds), or start
    #[arg(long, value_name = "OFFSET|@TIME|start", allow_hyphen_values = true, value_parser = place)]
    pub(super) from: At,
    /// Where to end, in front of it
    #[arg(
        long,
        value_name = "OFFSET|@TIME|end",
        default_value = "end",
        allow_hyphen_values = true,
        value_parser = place
    )]
    pub(super) until: At,
    /// Compare what the job wrote then with what it writes now; exit code 4 when they differ
    #[arg(long)]
    pub(super) compare: bool,
    /// The directory below `replay` in which it is kept; by default the job's id
    #[arg(long, value_name = "NAME")]
    pub(super) name: Option<String>,
    /// Worker threads; by default one for each core
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = threads)]
    pub(super) threads: Option<usize>,
}

/// Commands under `state`.
#[derive(Debug, Subcommand)]
pub(super) enum State {
    /// List the stores: types, rows and sizes
    List {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Print the row of a key, or all its open windows
    Get {
        /// The store
        store: String,
        /// The key: text as it is, anything else as JSON (17, ["a",17])
        #[arg(allow_hyphen_values = true)]
        key: String,
        /// Only the window that this time lies in: 10:03 (UTC, of any day), RFC 3339 or milliseconds
        #[arg(long, value_name = "TIME", value_parser = window_time)]
        window: Option<WindowTime>,
        /// One JSON object a line: store, partition, key, timestamp, value
        #[arg(long)]
        json: bool,
    },
    /// Print rows in the order of their keys; of windows of text, in that of their bytes
    Range {
        /// The store
        store: String,
        /// The first key
        #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
        from: Option<String>,
        /// The key before which to stop
        #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
        to: Option<String>,
        /// Only keys that begin with this text
        #[arg(long, value_name = "TEXT", conflicts_with_all = ["from", "to"])]
        prefix: Option<String>,
        /// How many rows at most
        #[arg(long, value_name = "N", default_value = "100", value_parser = limit)]
        limit: usize,
        /// One JSON object a line: store, partition, key, timestamp, value
        #[arg(long)]
        json: bool,
    },
}

/// Options of `status`.
#[derive(Debug, Args)]
pub(super) struct Status {
    /// Refresh every second until Ctrl-C: in place on a terminal, else a block each time
    #[arg(long, short = 'w')]
    pub(super) watch: bool,
    /// One JSON object a line
    #[arg(long)]
    pub(super) json: bool,
}

/// Options of `reset`.
#[derive(Debug, Args)]
pub(super) struct Reset {
    /// Where to go in each source partition: an offset, @TIME (RFC 3339 or milliseconds), start, end, or
    /// so many offsets on (+N) or back (-N)
    #[arg(
        long,
        value_name = "OFFSET|@TIME|start|end|+N|-N",
        allow_hyphen_values = true,
        value_parser = reset_to
    )]
    pub(super) to: ResetTo,
    /// Do it; without, the plan is shown and nothing is changed
    #[arg(long)]
    pub(super) yes: bool,
}

/// Commands under `topic`.
#[derive(Debug, Subcommand)]
pub(super) enum Topic {
    /// Create a topic
    Create {
        /// Its name: letters, digits, `.`, `_` and `-`
        name: String,
        /// How many partitions it has
        #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = partitions)]
        partitions: u32,
    },
}

/// Where `tail` starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// At this offset in each partition.
    Offset(Offset),
    /// At the first record of each partition that is not older.
    Time(Timestamp),
    /// As many records before the end, over all partitions.
    Last(usize),
}

fn partitions(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(n) if (1..=PARTITIONS_MAX).contains(&n) => Ok(n),
        Ok(_) => Err(format!("a topic has 1 to {PARTITIONS_MAX} partitions")),
        Err(_) => Err(format!("not a number from 1 to {PARTITIONS_MAX}")),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let refuse = || "a duration with its unit is wanted: 500ms, 2s, 1m".to_owned();
    let parsed: jiff::SignedDuration = text.parse().map_err(|_no_duration| refuse())?;
    Duration::try_from(parsed).map_err(|_negative| refuse())
}

fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if (1..=THREADS_MAX).contains(&n) => Ok(n),
        _ => Err(format!("a job has 1 to {THREADS_MAX} threads")),
    }
}

fn place(text: &str) -> Result<At, String> {
    text.parse().map_err(|_no_place| crate::at::FORMS.to_owned())
}

fn start(text: &str) -> Result<Start, String> {
    const FORMS: &str = "an offset (17), a time (@2026-01-05T10:00:00Z, @1767607200000) or a count \
                         from the end (-10) is wanted";
    let refuse = || FORMS.to_owned();
    if let Some(time) = text.strip_prefix('@') {
        if let Ok(ms) = time.parse::<i64>() {
            return Ok(Start::Time(ms));
        }
        let parsed: jiff::Timestamp = time.parse().map_err(|_no_time| refuse())?;
        return Ok(Start::Time(parsed.as_millisecond()));
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(refuse());
    }
    let number: i64 = digits.parse().map_err(|_too_large| refuse())?;
    if digits.len() == text.len() {
        return Ok(Start::Offset(number));
    }
    usize::try_from(number).map(Start::Last).map_err(|_too_large| refuse())
}

/// RFC 3339, or milliseconds since 1970.
fn instant(text: &str) -> Option<Timestamp> {
    let parsed = || text.parse().ok().map(|time: jiff::Timestamp| time.as_millisecond());
    text.parse().ok().or_else(parsed)
}

fn window_time(text: &str) -> Result<WindowTime, String> {
    let text = text.strip_prefix('@').unwrap_or(text);
    if let Some(time) = instant(text) {
        return Ok(WindowTime::At(time));
    }
    let midnight = jiff::civil::Time::midnight();
    let of_day = text.parse::<jiff::civil::Time>().ok().filter(|_| text.contains(':'));
    let since = of_day.and_then(|time| time.since(midnight).ok()?.total(jiff::Unit::Second).ok());
    let whole = since.and_then(|seconds| format!("{seconds:.0}").parse::<i64>().ok());
    whole.map(|seconds| WindowTime::OfDay(seconds * 1_000)).ok_or_else(|| {
        "a time of day (10:03), a date (2026-01-05T10:03:00Z) or milliseconds are wanted".to_owned()
    })
}

fn limit(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if (1..=ROWS_MAX).contains(&n) => Ok(n),
        _ => Err(format!("1 to {ROWS_MAX} rows can be asked for")),
    }
}

fn reset_to(text: &str) -> Result<ResetTo, String> {
    const FORMS: &str = "an offset (17), a time (@2026-01-05T10:00:00Z, @1767607200000), start, end, or \
                         a number of offsets (+100, -100) is wanted";
    let number = |digits: &str| {
        let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        digits.parse::<i64>().ok().filter(|_| is_number)
    };
    let parsed = match text.split_at_checked(1) {
        _ if text == "start" => Some(ResetTo::Start),
        _ if text == "end" => Some(ResetTo::End),
        Some(("@", time)) => instant(time).map(ResetTo::Time),
        Some(("+", digits)) => number(digits).map(ResetTo::By),
        Some(("-", digits)) => number(digits).map(|n| ResetTo::By(-n)),
        _ => number(text).map(ResetTo::Offset),
    };
    parsed.ok_or_else(|| FORMS.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail_start(text: &str) -> Option<Start> {
        let cli = Cli::try_parse_from(["job", "tail", "clicks", "-o", text]).ok()?;
        match cli.command {
            Some(Command::Tail(tail)) => Some(tail.start),
            _ => None,
        }
    }

    #[test]
    fn a_start_is_an_offset_a_time_or_a_count_from_the_end() {
        assert_eq!(tail_start("0"), Some(Start::Offset(0)));
        assert_eq!(tail_start("-5"), Some(Start::Last(5)));
        assert_eq!(tail_start("@1763546400000"), Some(Start::Time(1_763_546_400_000)));
        assert_eq!(tail_start("@2025-11-19T10:00:00Z"), Some(Start::Time(1_763_546_400_000)));
        assert_eq!(tail_start("@2025-11-19T11:00:00+01:00"), Some(Start::Time(1_763_546_400_000)));
        assert_eq!(tail_start("@noon"), None);
        for nonsense in ["five", "", "-", "--5", "-+5", "+5", "1.5", "99999999999999999999", "@"] {
            assert_eq!(tail_start(nonsense), None, "{nonsense:?}");
        }
    }

    #[test]
    fn a_reset_goes_to_a_place_or_by_a_distance() {
        assert_eq!(reset_to("17"), Ok(ResetTo::Offset(17)));
        assert_eq!(reset_to("+100"), Ok(ResetTo::By(100)));
        assert_eq!(reset_to("-100"), Ok(ResetTo::By(-100)));
        assert_eq!(reset_to("start"), Ok(ResetTo::Start));
        assert_eq!(reset_to("end"), Ok(ResetTo::End));
        assert_eq!(reset_to("@1763546400000"), Ok(ResetTo::Time(1_763_546_400_000)));
        assert_eq!(reset_to("@2025-11-19T10:00:00Z"), Ok(ResetTo::Time(1_763_546_400_000)));
        for nonsense in ["", "+", "-", "--1", "+-1", "1.5", "begin", "@", "@noon", "\u{e9}"] {
            assert!(reset_to(nonsense).is_err(), "{nonsense:?}");
        }
        assert!(reset_to("99999999999999999999").is_err());
        let without = Cli::try_parse_from(["job", "reset"]);
        assert!(without.is_err(), "there is no default for where to go");
    }

    #[test]
    fn a_window_is_named_by_a_time_in_it() {
        let at = |text| window_time(text).ok();
        assert_eq!(at("10:03"), Some(WindowTime::OfDay(36_180_000)));
        assert_eq!(at("23:59:59"), Some(WindowTime::OfDay(86_399_000)));
        assert_eq!(at("2025-11-19T10:00:00Z"), Some(WindowTime::At(1_763_546_400_000)));
        assert_eq!(at("@5"), Some(WindowTime::At(5)));
        for nonsense in ["", "noon", "25:00", "10:03:00Z", "10"] {
            assert!(!matches!(at(nonsense), Some(WindowTime::OfDay(_))), "{nonsense:?}");
        }
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2s"), Ok(Duration::from_secs(2)));
        assert!(duration("2").is_err());
        assert!(duration("-2s").is_err());
    }

    #[test]
    fn a_run_and_a_topic_want_at_least_one_of_each() {
        assert!(Cli::try_parse_from(["job", "run", "--threads", "0"]).is_err());
        let create =
            |n| Cli::try_parse_from(["job", "topic", "create", "t", "--partitions", n]).is_ok();
        assert_eq!(
            ["0", "1000000000", "-1", "x", "4"].map(create),
            [false, false, false, false, true]
        );
    }

    #[test]
    fn without_a_command_there_is_none() {
        assert!(Cli::try_parse_from(["job"]).is_ok_and(|cli| cli.command.is_none()));
    }
}
