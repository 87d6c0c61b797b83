//! Why a demo could not come to its end, with a code and the way out.

use std::io;
use std::path::PathBuf;

use crate::report::grouped;
use crate::verifier;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Streams(#[from] streams::Error),
    #[error(transparent)]
    Verifier(#[from] verifier::Error),
    #[error("cannot read {}: {source}", path.display())]
    Input { path: PathBuf, source: io::Error },
    #[error("{} is a directory, not an access log", path.display())]
    InputIsDirectory { path: PathBuf },
    #[error(
        "{} holds no request in the combined log format ({} lines; line 1: {first})",
        path.display(),
        grouped(*lines)
    )]
    NoRequests { path: PathBuf, lines: u64, first: &'static str },
    #[error("{} is empty", path.display())]
    EmptyInput { path: PathBuf },
    #[error("{} holds `{found}`, which no demo wrote; nothing was changed", dir.display())]
    NotADemo { dir: PathBuf, found: String },
    #[error("{} is no directory; nothing was changed", dir.display())]
    NotADirectory { dir: PathBuf },
    #[error("cannot {what}: {source}")]
    System { what: &'static str, source: io::Error },
    #[error("the job failed ({status}); its own words stand above")]
    Job { status: String },
    #[error("a click cannot be written as JSON: {0}")]
    Encode(#[from] serde_json::Error),
    #[error("{reason}")]
    Usage { reason: String },
}

impl From<core_log::Error> for Error {
    fn from(error: core_log::Error) -> Self {
        Self::Streams(error.into())
    }
}

impl Error {
    fn code(&self) -> &'static str {
        match self {
            Self::Streams(e) => e.code(),
            Self::NotADemo { .. } | Self::NotADirectory { .. } => "S015",
            Self::Input { .. }
            | Self::InputIsDirectory { .. }
            | Self::NoRequests { .. }
            | Self::EmptyInput { .. } => "S016",
            Self::Verifier(_) => "S019",
            Self::Encode(_) => "S025",
            Self::Usage { .. } => "S027",
            Self::System { .. } => "S028",
            Self::Job { .. } => "S029",
        }
    }

    fn help(&self) -> Vec<String> {
        let line = match self {
            Self::Streams(e) => return e.help(),
            Self::NotADemo { .. } | Self::NotADirectory { .. } => {
                "the demo takes an empty or a new directory: STREAMS_LOG=./demo-data"
            }
            Self::Input { .. } | Self::InputIsDirectory { .. } => "check the path",
            Self::NoRequests { .. } | Self::EmptyInput { .. } => {
                "a line looks like this: 10.0.0.1 - - [17/May/2015:10:05:03 +0000] \
                 \"GET / HTTP/1.1\" 200 12 \"-\" \"Mozilla/5.0\""
            }
            Self::Verifier(_) => "run the demo again; it replaces the data",
            Self::Usage { .. } => "add --help to see all there is",
            Self::System { .. } => "look after what the operating system said, then run it again",
            Self::Job { .. } => "mend what it says, then run the demo again",
            Self::Encode(_) => return Vec::new(),
        };
        vec![line.to_owned()]
    }

    /// What the process ends with.
    pub(crate) fn exit_code(&self) -> u8 {
        if matches!(self, Self::Usage { .. }) { 2 } else { 1 }
    }

    /// The error as a user reads it.
    pub(crate) fn describe(&self) -> String {
        let mut text = format!("error[{}]: {self}", self.code());
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            // The text of some errors ends with their cause already.
            if !text.ends_with(&cause.to_string()) {
                text.push_str(&format!("\n  because: {cause}"));
            }
            source = cause.source();
        }
        for (index, line) in self.help().iter().enumerate() {
            let label = if index == 0 { "help:" } else { "     " };
            text.push_str(&format!("\n  {label} {line}"));
        }
        text
    }
}
