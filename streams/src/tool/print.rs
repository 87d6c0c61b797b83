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

fn describe(error: &Error) -> String {
    let mut text = format!("error[{}]: {error}\n", error.code());
    for line in evidence(error) {
        text.push_str(&format!("  {line}\n"));
    }
    for (index, line) in error.help().iter().enumerate() {
        let label = if index == 0 { "help:" } else { "     " };
        text.push_str(&format!("  {label} {line}\n"));
    }
    text
}

fn evidence(error: &Error) -> Vec<String> {
    let mut lines = Vec::new();
    match error {
        Error::Decode { evidence, .. } => lines.push(format!("value  {evidence}")),
        Error::UnknownTopic { known, .. }
        | Error::Log(core_log::Error::UnknownTopic { known, .. }) => {
            let names = if known.is_empty() { "none yet".to_owned() } else { known.join(", ") };
            lines.push(format!("topics: {names}"));
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
