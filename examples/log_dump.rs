//! Prints every file of a partition, or of a whole log, and says what is wrong with them; repairs a log.
//!
//! ```text
//!   cargo run --example log_dump -- DIR                 a partition (data/clicks-0) or a log (data)
//!   cargo run --example log_dump -- --records DIR       with every record: key, value, headers
//!   cargo run --example log_dump -- --verify DIR        a log: everything against everything
//!   cargo run --example log_dump -- --repair DIR        what a repair would do, and what is lost
//!   cargo run --example log_dump -- --repair --yes DIR  does it
//! ```
//!
//! Printing changes nothing and takes no lock: of a log that is in use, what is written at this moment
//! may look torn. Partitions that Kafka wrote can be read as well. A log that is verified or repaired
//! must not be in use.
//!
//! Exit code: 0 all is well; 1 something is wrong, each with its file and position; 2 the arguments are;
//! 3 there is something to repair, and nobody has said yes.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool that prints")]

use std::error::Error as _;
use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use core_log::Log;
use core_log::format::{BatchHeader, ControlType, RecordRef};
use core_log::inspect::{Item, Summary, directory};

const USAGE: &str = "usage: log_dump [--records] DIR
       log_dump --verify DIR
       log_dump --repair [--yes] DIR

  DIR         the directory of a partition (data/clicks-0), or of a whole log (data)
  --records   print every record, not only the batches
  --verify    read everything in a log, and compare it with everything else
  --repair    say what a repair of a log would do, and what would be lost
  --yes       do it";

/// Something to repair, and nobody has said yes.
const DECISION_NEEDED: u8 = 3;

/// What to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Job {
    #[default]
    Dump,
    Verify,
    Repair,
}

/// What was asked for.
#[derive(Debug, Default)]
struct Arguments {
    dir: PathBuf,
    with_records: bool,
    job: Job,
    has_consent: bool,
}

impl Arguments {
    /// `None`: only the usage was asked for. The inner text says what is wrong with the arguments.
    fn parse(given: impl Iterator<Item = OsString>) -> Result<Option<Self>, String> {
        let mut arguments = Self::default();
        for word in given {
            match word.to_str() {
                Some("--help" | "-h") => return Ok(None),
                Some("--records") => arguments.with_records = true,
                Some("--verify") => arguments.job = Job::Verify,
                Some("--repair") => arguments.job = Job::Repair,
                Some("--yes") => arguments.has_consent = true,
                Some(option) if option.starts_with('-') => {
                    return Err(format!("there is no option {option}"));
                }
                _ if arguments.dir.as_os_str().is_empty() => arguments.dir = word.into(),
                _ => {
                    return Err(format!("one directory at a time; {} is too much", word.display()));
                }
            }
        }
        if arguments.dir.as_os_str().is_empty() {
            return Err("which directory?".to_owned());
        }
        if arguments.has_consent && arguments.job != Job::Repair {
            return Err("--yes goes with --repair".to_owned());
        }
        Ok(Some(arguments))
    }
}

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args_os().skip(1)) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(wrong) => {
            eprintln!("log_dump: {wrong}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let outcome = match arguments.job {
        Job::Dump => return dump(&arguments),
        Job::Verify => verify(&arguments),
        Job::Repair => repair(&arguments),
    };
    outcome.unwrap_or_else(|error| {
        complain(&error);
        ExitCode::FAILURE
    })
}

/// Says what went wrong, and what the operating system said.
fn complain(error: &core_log::Error) {
    eprint!("log_dump: {error}");
    let mut cause = error.source();
    while let Some(source) = cause {
        eprint!(": {source}");
        cause = source.source();
    }
    eprintln!();
}

fn verify(arguments: &Arguments) -> core_log::Result<ExitCode> {
    let report = Log::verify(&arguments.dir)?;
    println!("{report}");
    Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn repair(arguments: &Arguments) -> core_log::Result<ExitCode> {
    let plan = Log::plan_repair(&arguments.dir)?;
    println!("{plan}");
    if plan.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    if !arguments.has_consent {
        println!("Nothing was changed. To do it: log_dump --repair --yes DIR");
        return Ok(ExitCode::from(DECISION_NEEDED));
    }
    for path in plan.execute()? {
        println!("kept: {}", path.display());
    }
    println!("repaired");
    Ok(ExitCode::SUCCESS)
}

fn dump(arguments: &Arguments) -> ExitCode {
    let mut printer = Printer {
        out: BufWriter::new(io::stdout().lock()),
        with_records: arguments.with_records,
        dir: PathBuf::new(),
        place: String::new(),
        problems: Vec::new(),
        outcome: Ok(()),
    };
    let found = directory(&arguments.dir, &mut |item| printer.take(item));
    let summary = match found {
        Ok(summary) => summary,
        Err(error) => {
            complain(&error);
            return ExitCode::from(2);
        }
    };
    match printer.finish(summary) {
        Ok(()) if summary.problems == 0 => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        // Whoever reads (`| head`) has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("log_dump: cannot print: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints one item a line, and keeps what is wrong for the end.
struct Printer<W> {
    out: W,
    with_records: bool,
    dir: PathBuf,
    /// The file that is being read.
    place: String,
    problems: Vec<String>,
    outcome: io::Result<()>,
}

/// More are counted, not repeated at the end.
const PROBLEMS_REPEATED: usize = 20;

impl<W: Write> Printer<W> {
    fn take(&mut self, item: &Item<'_>) {
        if self.outcome.is_ok() {
            self.outcome = self.print(item);
        }
    }

    fn print(&mut self, item: &Item<'_>) -> io::Result<()> {
        let out = &mut self.out;
        match item {
            Item::Directory { path } => {
                self.dir = path.to_path_buf();
                self.place = path.display().to_string();
                writeln!(out, "\n{}", path.display())
            }
            Item::File { name, kind, bytes } => {
                self.place = self.dir.join(name).display().to_string();
                writeln!(out, "  {name}  ({kind}, {bytes} bytes)")
            }
            Item::Batch { position, header } => batch(out, *position, header),
            Item::Record(_) if !self.with_records => Ok(()),
            Item::Record(record) => print_record(out, record),
            Item::Marker(marker) => {
                let word = match marker.control_type {
                    ControlType::Commit => "commit",
                    ControlType::Abort => "abort",
                };
                writeln!(out, "      {word}, coordinator epoch {}", marker.coordinator_epoch)
            }
            Item::Offset { offset, position } => {
                writeln!(out, "    offset {offset} at position {position}")
            }
            Item::Time { timestamp, offset } => {
                writeln!(out, "    time {timestamp} at offset {offset}")
            }
            Item::Aborted(aborted) => writeln!(
                out,
                "    producer {} offsets {} to {}, then stable to {}",
                aborted.producer_id,
                aborted.first_offset,
                aborted.last_offset,
                aborted.last_stable_offset
            ),
            Item::Seal { log_bytes, end_offset, largest_timestamp } => writeln!(
                out,
                "    {log_bytes} bytes, ends at offset {end_offset}, largest time {largest_timestamp}"
            ),
            Item::Problem { position, what } => {
                let at = position.map_or_else(String::new, |at| format!(" at byte {at}"));
                if self.problems.len() < PROBLEMS_REPEATED {
                    self.problems.push(format!("{}{at}: {what}", self.place));
                }
                writeln!(out, "    WRONG{at}: {what}")
            }
            other => small(out, other),
        }
    }

    fn finish(mut self, summary: Summary) -> io::Result<()> {
        self.outcome?;
        let Summary { files, batches, records, problems } = summary;
        writeln!(
            self.out,
            "\n{files} files, {batches} batches, {records} records, {problems} problems"
        )?;
        for problem in &self.problems {
            writeln!(self.out, "  {problem}")?;
        }
        let more = problems.saturating_sub(self.problems.len() as u64);
        if more > 0 {
            writeln!(self.out, "  and {more} more, marked WRONG above")?;
        }
        self.out.flush()
    }
}

/// What needs no state.
fn small(out: &mut impl Write, item: &Item<'_>) -> io::Result<()> {
    match item {
        Item::Producer {
            producer_id,
            producer_epoch,
            last,
            coordinator_epoch,
            open_from,
            last_seen,
        } => {
            write!(out, "    producer {producer_id} epoch {producer_epoch}")?;
            if let Some((sequence, offset)) = last {
                write!(out, ", sequence {sequence} at offset {offset}")?;
            }
            if *coordinator_epoch >= 0 {
                write!(out, ", coordinator epoch {coordinator_epoch}")?;
            }
            if let Some(from) = open_from {
                write!(out, ", transaction open from offset {from}")?;
            }
            writeln!(out, ", last seen {last_seen}")
        }
        Item::LeaderEpoch { epoch, start_offset } => {
            writeln!(out, "    epoch {epoch} from offset {start_offset}")
        }
        Item::Commit { offset, text } => writeln!(out, "      record {offset}: {text}"),
        Item::Line(line) => writeln!(out, "    {}", line.escape_debug()),
        Item::Note(note) => writeln!(out, "    note: {note}"),
        _ => Ok(()),
    }
}

fn batch(out: &mut impl Write, position: u64, header: &BatchHeader) -> io::Result<()> {
    write!(
        out,
        "    byte {position}: offsets {} to {}, {} records, {} bytes, time {}",
        header.base_offset,
        header.last_offset(),
        header.record_count,
        header.total_len(),
        header.max_timestamp
    )?;
    if let Ok(codec) = header.attributes.compression() {
        write!(out, ", {codec}")?;
    }
    if header.has_producer_id() {
        let (id, epoch) = (header.producer_id, header.producer_epoch);
        write!(out, ", producer {id} epoch {epoch} sequence {}", header.base_sequence)?;
    }
    if header.is_transactional() {
        write!(out, ", transactional")?;
    }
    if header.is_control() {
        write!(out, ", control")?;
    }
    writeln!(out, ", leader epoch {}, crc {:08x}", header.leader_epoch, header.crc)
}

fn print_record(out: &mut impl Write, record: &RecordRef<'_>) -> io::Result<()> {
    let text = |field: Option<&[u8]>| {
        field.map_or_else(|| "none".to_owned(), |bytes| format!("\"{}\"", bytes.escape_ascii()))
    };
    let RecordRef { offset, timestamp, key, value, headers } = record;
    write!(
        out,
        "      offset {offset} time {timestamp} key {} value {}",
        text(*key),
        text(*value)
    )?;
    for (name, value) in headers.iter() {
        write!(out, " header {name:?} {}", text(value))?;
    }
    writeln!(out)
}
