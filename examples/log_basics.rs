//! The log alone: a topic, records with acknowledgements, reading, seeking by time, settings, closing.
//!
//! ```text
//!   send --> readings (3 partitions) --> read from the start, and from noon on
//!     '--> where each record is, and that it is on the disk
//! ```
//!
//! A day of readings of three sensors is sent, one a minute from each. Every acknowledgement is kept. Then
//! the log is closed, opened again, and read: each record must be where its acknowledgement said, with
//! its key, value, time and headers, and a seek to noon must find the first record of the afternoon.
//!
//! ```console
//! $ cargo run --example log_basics          # in target/demo/log_basics, which is replaced
//! $ cargo run --example log_basics -- DIR   # in a directory of yours, which must be empty or new
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use core_log::{
    Acknowledged, FetchBound, Log, PartitionReader, ProducerSettings, Record, Topic, TopicSettings,
};

type Outcome<T> = Result<T, Box<dyn Error>>;

const SENSORS: [&str; 3] = ["attic", "cellar", "kitchen"];
const PARTITIONS: u32 = 3;
const MINUTES: i64 = 24 * 60;
const MINUTE_MS: i64 = 60_000;
/// A midnight.
const START_MS: i64 = 1_700_006_400_000;
const NOON_MS: i64 = START_MS + 12 * 60 * MINUTE_MS;
const USAGE: &str = "usage: cargo run --example log_basics [-- DIR]";

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let outcome = match arguments.as_slice() {
        [] => own_directory().and_then(|dir| run(&dir)),
        [dir] if dir.to_string_lossy().starts_with('-') => {
            Err(format!("{} is no directory\n{USAGE}", dir.display()).into())
        }
        [dir] => empty_directory(Path::new(dir)).and_then(|()| run(Path::new(dir))),
        [_, more @ ..] => Err(format!("{} arguments too many\n{USAGE}", more.len()).into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error}"));
            let mut cause = error.source();
            while let Some(source) = cause {
                say(&format!("  because {source}"));
                cause = source.source();
            }
            ExitCode::FAILURE
        }
    }
}

fn say(line: &str) {
    #[expect(clippy::print_stdout, reason = "an example talks to the person who runs it")]
    {
        println!("{line}");
    }
}

/// The directory of this example, empty.
fn own_directory() -> Outcome<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/demo/log_basics");
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    Ok(dir)
}

/// Somebody else's files are left alone.
fn empty_directory(dir: &Path) -> Outcome<()> {
    if dir.exists() && (!dir.is_dir() || std::fs::read_dir(dir)?.next().is_some()) {
        let dir = dir.display();
        return Err(format!("{dir} is not empty: name an empty directory, or a new one").into());
    }
    Ok(())
}

/// What was sent, by where its acknowledgement says that it is.
type Sent = BTreeMap<(u32, i64), (&'static str, String, i64)>;

fn run(dir: &Path) -> Outcome<()> {
    say(&format!("a log in {}", dir.display()));
    let sent = write(dir)?;
    say(&format!("{} records are acknowledged, and so on the disk", sent.len()));
    let log = Log::open(dir)?;
    if !log.recovery().is_clean() {
        return Err("the log was closed in order, and still had something to recover".into());
    }
    let readings = log.topic("readings")?;
    let kept = readings.settings().retention_ms;
    if kept != Some(10 * 365 * 86_400_000) {
        return Err(format!("retention.ms is {kept:?}: the change was lost").into());
    }
    verify_all(&log, &readings, &sent)?;
    verify_afternoon(&log, &readings, &sent)?;
    let refused = log.alter_topic("readings", |settings| settings.set("retention.msec", "1"));
    let refused = refused.err().ok_or("a setting that does not exist was taken")?;
    say(&format!("a wrong setting is refused: {refused}"));
    log.close()?;
    say("verified: every record is where its acknowledgement said");
    Ok(())
}

fn write(dir: &Path) -> Outcome<Sent> {
    let log = Log::open(dir)?;
    // Kafka's names and defaults: those records are older than a week.
    let forever = TopicSettings::from_kafka([("retention.ms", "-1")])?;
    log.create_topic("readings", TopicSettings { partitions: PARTITIONS, ..forever })?;
    let ten_years = (10 * 365 * 86_400_000_i64).to_string();
    let readings = log.alter_topic("readings", |s| s.set("retention.ms", &ten_years))?;
    let producer = log.batching_producer(ProducerSettings::from_kafka([("linger.ms", "5")])?)?;
    let mut waiting = Vec::new();
    for minute in 0..MINUTES {
        for sensor in SENSORS {
            let value = format!("{}", (minute * 7 + sensor.len() as i64) % 40 - 10);
            let record = Record {
                timestamp: Some(START_MS + minute * MINUTE_MS),
                headers: &[("unit", Some(b"celsius"))],
                ..Record::keyed(sensor.as_bytes(), value.as_bytes())
            };
            // Answers at once; in async code the acknowledgement is awaited.
            waiting.push((producer.send(&readings, record)?, sensor, value));
        }
    }
    let mut sent = Sent::new();
    for (acknowledgement, sensor, value) in waiting {
        let Acknowledged { partition, offset, timestamp } = acknowledgement.wait()?;
        if sent.insert((partition, offset), (sensor, value, timestamp)).is_some() {
            return Err(format!("two records are at {partition}:{offset}").into());
        }
    }
    let statistics = producer.statistics();
    say(&format!("{} batches took {} bytes", statistics.batches, statistics.bytes));
    producer.close(Duration::from_secs(10))?;
    log.close()?;
    Ok(sent)
}

fn verify_all(log: &Log, readings: &Topic, sent: &Sent) -> Outcome<()> {
    let mut left = sent.clone();
    for partition in 0..readings.partitions() {
        let start = log.offsets(readings.id(), partition)?.log_start_offset;
        let mut reader =
            PartitionReader::new(log, readings, partition, start, FetchBound::LastStable);
        while let Some(batch) = reader.next_batch(64 << 10)? {
            for record in batch.records() {
                let record = record?;
                let text = |bytes: Option<&[u8]>| {
                    String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
                };
                let found = (text(record.key), text(record.value), record.timestamp);
                let expected = left.remove(&(partition, record.offset));
                if expected.map(|(k, v, t)| (k.to_owned(), v, t)) != Some(found.clone()) {
                    return Err(format!("{found:?} is at {partition}:{}", record.offset).into());
                }
                let headers: Vec<_> = record.headers.iter().collect();
                if headers != [("unit", Some(&b"celsius"[..]))] {
                    return Err(format!("{found:?} has the headers {headers:?}").into());
                }
            }
        }
    }
    match left.len() {
        0 => Ok(()),
        lost => Err(format!("{lost} acknowledged records are not in the log").into()),
    }
}

fn verify_afternoon(log: &Log, readings: &Topic, sent: &Sent) -> Outcome<()> {
    for partition in 0..readings.partitions() {
        let mut reader = PartitionReader::new(log, readings, partition, 0, FetchBound::LastStable);
        let found = reader.seek_to_time(NOON_MS)?;
        let mine = sent.iter().filter(|((of, _), _)| *of == partition);
        let mut afternoon = mine.filter(|(_, (_, _, time))| *time >= NOON_MS);
        let expected = afternoon.next().map(|((_, offset), (_, _, time))| (*offset, *time));
        if found != expected {
            return Err(format!("{partition}: noon is at {found:?}, not at {expected:?}").into());
        }
        if let Some((offset, _)) = found {
            say(&format!("partition {partition}: the afternoon begins at offset {offset}"));
        }
    }
    Ok(())
}
