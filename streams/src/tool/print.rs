//! Text for people: errors with code, evidence and help, and output that survives a closed pipe.

use std::error::Error as _;
use std::io::{self, Write};

use super::Ended;
use crate::error::{Error, Result};

/// Writes to standard output; a closed pipe is an end, not an error.
pub(super) fn output(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<Ended> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Ok(()) => Ok(Ended::Done),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(Ended::OutputClosed),
        Err(source) => Err(Error::System { what: "writing to standard output", source }),
    }
}

/// Prints `text`, which ends its own lines.
pub(super) fn text(text: &str) -> Result<Ended> {
    output(|out| out.write_all(text.as_bytes()))
}

/// Prints an error as `error[S004]: what`, its evidence, and what to do.
pub(super) fn error(error: &Error) {
    // Where standard error is closed there is nobody left to tell.
    drop(io::stderr().lock().write_all(describe(error).as_bytes()));
}

/// Prints what the parser of the command line says, in the form of every other error.
pub(super) fn usage(parsed: &str) {
    // Where standard error is closed there is nobody left to tell.
    drop(io::stderr().lock().write_all(describe_usage(parsed).as_bytes()));
}

/// Turns `error: what`, `tip: ..`, `Usage: ..` into our own lines.
fn describe_usage(parsed: &str) -> String {
    let code = Error::Usage { reason: String::new() }.code();
    let mut text = String::new();
    let mut help = Vec::new();
    for line in parsed.lines().filter(|line| !line.trim().is_empty()) {
        let trimmed = line.trim_start();
        if let Some(what) = line.strip_prefix("error: ") {
            text.push_str(&format!("error[{code}]: {what}\n"));
        } else if let Some(tip) = trimmed.strip_prefix("tip: ") {
            help.push(tip.to_owned());
        } else if let Some(usage) = line.strip_prefix("Usage: ") {
            text.push_str(&format!("  usage: {usage}\n"));
        } else if line.starts_with("For more information") {
            help.push("add --help to see all there is".to_owned());
        } else {
            text.push_str(&format!("  {trimmed}\n"));
        }
    }
    push_help(&mut text, &help);
    text
}

fn push_help(text: &mut String, lines: &[String]) {
    for (index, line) in lines.iter().enumerate() {
        let label = if index == 0 { "help:" } else { "     " };
        text.push_str(&format!("  {label} {line}\n"));
    }
}

fn describe(error: &Error) -> String {
    let mut text = format!("error[{}]: {error}\n", error.code());
    for line in evidence(error) {
        text.push_str(&format!("  {line}\n"));
    }
    push_help(&mut text, &error.help());
    text
}

fn evidence(error: &Error) -> Vec<String> {
    let mut lines = Vec::new();
    match error {
        Error::Decode { evidence, .. } => lines.push(format!("value  {evidence}")),
        Error::UnknownTopic { known, .. }
        | Error::NoTopicMatches { known, .. }
        | Error::Log(core_log::Error::UnknownTopic { known, .. }) => {
            let names = if known.is_empty() { "none yet".to_owned() } else { known.join(", ") };
            lines.push(format!("topics: {names}"));
        }
        Error::UnknownStore { known, .. } => {
            let names = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            lines.push(format!("stores: {names}"));
        }
        _ => {}
    }
    let mut cause = error.source();
    while let Some(e) = cause {
        lines.push(format!("because: {e}"));
        cause = e.source();
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_that_means_nothing_is_told_like_every_other_error() {
        let parsed = "error: unrecognized subcommand 'tial'\n\n  tip: a similar subcommand exists: \
                      'tail'\n\nUsage: job [COMMAND]\n\nFor more information, try '--help'.\n";
        assert_eq!(
            describe_usage(parsed),
            "error[S027]: unrecognized subcommand 'tial'\n\
             \x20 usage: job [COMMAND]\n\
             \x20 help: a similar subcommand exists: 'tail'\n\
             \x20       add --help to see all there is\n"
        );
    }

    #[test]
    fn an_unknown_topic_is_told_with_its_neighbours_and_the_fix() {
        let error = Error::UnknownTopic {
            name: "click".into(),
            log: "./data".into(),
            known: vec!["clicks".into(), "page-counts".into()],
        };
        assert_eq!(
            describe(&error),
            "error[S004]: topic `click` does not exist in ./data\n\
             \x20 topics: clicks, page-counts\n\
             \x20 help: did you mean `clicks`?\n\
             \x20       create it: topic create click --partitions 4\n"
        );
    }
}
