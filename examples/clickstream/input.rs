//! Where the clicks come from: the generator, or an access log.
//!
//! Why it is opened first: an input that cannot be used must not cost the data of an earlier demo.
//!
//! Invariants
//! * an access log has at least one request before anything is replaced;
//! * a line that is no request is kept with its number, and shown.

use std::cell::RefCell;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::access_log::{self, Rejected};
use crate::error::Error;
use crate::generator::{CLICKS, Placed, generate};
use crate::report::grouped;

const CLICKS_SEED: u64 = 42;

/// What the user asked for.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// The seeded generator.
    Generated,
    /// An access log in the combined log format.
    AccessLog(PathBuf),
}

/// Clicks that can be read.
pub(crate) struct Input {
    /// What they are, for the title of the step.
    pub text: String,
    /// How many, where that is known beforehand.
    pub total: Option<u64>,
    /// The clicks.
    pub clicks: Box<dyn Iterator<Item = Result<Placed, Error>>>,
    /// Lines that turned out to be none; complete once the clicks have been read.
    pub rejected: Rc<RefCell<Vec<Rejected>>>,
}

/// Opens the source.
///
/// # Errors
///
/// The file cannot be read, or holds no request.
pub(crate) fn open(source: &Source) -> Result<Input, Error> {
    match source {
        Source::Generated => Ok(Input {
            text: format!("{} clicks", grouped(u64::from(CLICKS))),
            total: Some(u64::from(CLICKS)),
            clicks: Box::new(generate(CLICKS_SEED, CLICKS).map(Ok)),
            rejected: Rc::default(),
        }),
        Source::AccessLog(path) => open_access_log(path),
    }
}

fn open_access_log(path: &Path) -> Result<Input, Error> {
    let owned = path.to_owned();
    let unreadable = move |source: io::Error| Error::Input { path: owned.clone(), source };
    if path.is_dir() {
        return Err(Error::InputIsDirectory { path: path.to_owned() });
    }
    #[expect(clippy::disallowed_methods, reason = "the user's own file is no log of ours")]
    let file = std::fs::File::open(path).map_err(&unreadable)?;
    let rejected: Rc<RefCell<Vec<Rejected>>> = Rc::default();
    let seen = Rc::clone(&rejected);
    let lines = access_log::read(BufReader::new(file));
    let mut clicks = lines.filter_map(move |line| match line {
        Ok(Ok(placed)) => Some(Ok(placed)),
        Ok(Err(no_request)) => {
            seen.borrow_mut().push(no_request);
            None
        }
        Err(e) => Some(Err(unreadable(e))),
    });
    let Some(first) = clicks.next() else {
        let rejected = rejected.borrow();
        return Err(match rejected.first() {
            None => Error::EmptyInput { path: path.to_owned() },
            Some(line) => Error::NoRequests {
                path: path.to_owned(),
                lines: u64::try_from(rejected.len()).unwrap_or(u64::MAX),
                first: line.reason,
            },
        });
    };
    let clicks = Box::new(std::iter::once(Ok(first?)).chain(clicks));
    let text = format!("requests of {}", path.display());
    Ok(Input { text, total: None, clicks, rejected })
}
