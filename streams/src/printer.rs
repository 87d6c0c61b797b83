//! Where `.print(label)` writes: standard output, or a list that a test reads.
//!
//! Why a value: the library prints nothing by itself; what a job prints because it was told to goes
//! through here, so a test can read it and a closed pipe is met in one place.
//!
//! Invariants
//! * a line is written and flushed as a whole, whichever thread it comes from.
//! * a reader that goes away, or a disk that is full, does not stop the job: nothing more is printed.

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

/// On a terminal the status line of `run` stands where the next line begins: it is wiped first.
const WIPE: &str = "\r\x1b[K";

/// Takes lines.
#[derive(Clone)]
pub(crate) struct Printer(Arc<Target>);

enum Target {
    Stdout { closed: AtomicBool },
    List(Mutex<Vec<String>>),
}

impl fmt::Debug for Printer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &*self.0 {
            Target::Stdout { .. } => "Printer(standard output)",
            Target::List(_) => "Printer(list)",
        })
    }
}

impl Printer {
    /// Writes to standard output.
    pub(crate) fn stdout() -> Self {
        Self(Arc::new(Target::Stdout { closed: AtomicBool::new(false) }))
    }

    /// Keeps the lines.
    pub(crate) fn list() -> Self {
        Self(Arc::new(Target::List(Mutex::default())))
    }

    /// One line, which has no line end in it.
    pub(crate) fn line(&self, text: &str) {
        match &*self.0 {
            Target::List(lines) => lines.lock().push(text.to_owned()),
            Target::Stdout { closed } if !closed.load(Ordering::Relaxed) => {
                if let Err(error) = write_line(text) {
                    closed.store(true, Ordering::Relaxed);
                    tracing::debug!(%error, "nobody reads what the job prints any more");
                }
            }
            Target::Stdout { .. } => {}
        }
    }

    /// The lines kept so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        match &*self.0 {
            Target::List(lines) => lines.lock().clone(),
            Target::Stdout { .. } => Vec::new(),
        }
    }
}

fn write_line(text: &str) -> io::Result<()> {
    let stdout = io::stdout();
    let wipe = if stdout.is_terminal() { WIPE } else { "" };
    let mut out = stdout.lock();
    out.write_all(format!("{wipe}{text}\n").as_bytes())?;
    out.flush()
}
