//! Lines of text into words, words into counts: the first job of every stream processor, killed on the
//! way.
//!
//! ```text
//!   lines (key: line number) -- words -- key by word -- count --> counts (word: how often, so far)
//! ```
//!
//! The job runs in a child process that is killed (SIGKILL) once it has read half of the lines, and
//! runs again to the end. Whatever was in flight is rolled back, and no word is lost or counted twice:
//! the last count of each word is compared with one that a plain loop made of the same text.
//!
//! ```console
//! $ cargo run --example word_count                   # writes, runs, kills, runs again, verifies
//! $ cargo run --example word_count -- topology
//! $ cargo run --example word_count -- state get counts-by-word sea
//! $ cargo run --example word_count -- tail counts -o -5
//! ```

#[path = "support/killed.rs"]
mod killed;
mod support;

use std::collections::BTreeMap;
use std::process::ExitCode;

use killed::{run_and_kill, run_child};
use streams::prelude::*;
use support::{Outcome, dir_of, new_log, say, write};

const LINES: Topic<u64, String> = topic("lines");
const COUNTS: Topic<String, u64> = topic("counts");

fn topology(t: &mut Topology) {
    t.stream(LINES)
        .flat_map(|line| line.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>())
        .key_by(|word| word.clone())
        .count("counts-by-word")
        .to(COUNTS);
}

fn app() -> App {
    App::new("word-count", topology).log(dir_of("word_count"))
}

fn main() -> ExitCode {
    support::main(app(), demo)
}

const START_MS: i64 = 1_767_607_200_000;
const LINE_COUNT: u64 = 200_000;

/// What the sea says, by a rule that gives the same lines every time.
fn line(number: u64) -> String {
    const WORDS: [&str; 16] = [
        "the", "sea", "is", "wide", "and", "The", "ship", "is", "small", "no", "harbour", "in",
        "sight", "but", "one", "star",
    ];
    let mut state = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    let mut next = |limit: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % limit
    };
    let words = (0..3 + next(6)).map(|_| match next(10) {
        // Some words are rare: each of them is a row of its own.
        0 => format!("wave{}", next(5_000)),
        _ => WORDS[usize::try_from(next(16)).unwrap_or(0)].to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

fn demo() -> Outcome<bool> {
    let dir = dir_of("word_count");
    let log = new_log(&dir)?;
    let at = |number: u64| START_MS + i64::try_from(number).unwrap_or(0);
    write(&log, LINES, (0..LINE_COUNT).map(|number| (number, line(number), at(number))))?;
    log.close()?;
    say(&format!("word count \u{b7} {LINE_COUNT} lines \u{b7} log {}", dir.display()));

    let first = run_and_kill(&dir, LINE_COUNT / 2)?;
    say(&format!("  killed (SIGKILL on purpose) after {} lines", first.read));
    let second = run_child(&dir)?;
    say(&format!(
        "  ran again to the end, from line {} on",
        LINE_COUNT - second.read.min(LINE_COUNT)
    ));

    let mut counted: BTreeMap<String, u64> = BTreeMap::new();
    for record in Log::open(&dir)?.read(COUNTS) {
        let record = record?;
        let (Some(word), Some(count)) = (record.key, record.value) else {
            return Err("a count has a word and a number".into());
        };
        counted.insert(word, count);
    }
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for number in 0..LINE_COUNT {
        for word in line(number).split_whitespace() {
            *expected.entry(word.to_lowercase()).or_default() += 1;
        }
    }
    let mut often: Vec<_> = counted.iter().collect();
    often.sort_by_key(|(word, count)| (std::cmp::Reverse(**count), *word));
    for (word, count) in often.iter().take(5) {
        say(&format!("  {count:>6} {word}"));
    }
    let exact = first.killed && counted == expected;
    let verdict = if exact { "verified" } else { "WRONG" };
    let words: u64 = counted.values().sum();
    say(&format!("{verdict}: {words} words, {} of them different", counted.len()));
    Ok(exact)
}
