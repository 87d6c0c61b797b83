//! Where `.print(label)` writes: standard output, or a list that a test reads.
//!
//! Why a value: the library prints nothing by itself; what a job prints because it was told to goes
//! through here, so a test can read it and a closed pipe is met in one place.
//!
//! Invariants
//! * a line is written and flushed as a whole, whichever thread it comes from.
//! * a reader that goes away, or a disk that is full, does not stop the job: nothing more is printed.

use std::fmt;
use std::io::{self, IsTerminal as _, Write};
use std::sync::Arc;

use parking_lot::Mutex;

/// On a terminal the status line of `run` stands where the next line begins: it is wiped first.
const WIPE: &str = "\r\x1b[K";

/// Takes lines.
#[derive(Clone)]
pub(crate) struct Printer(Arc<Target>);

enum Target {
    /// What comes before a line, where it goes, and `None` once nobody reads it any more.
    Output {
        before: &'static str,
        out: Mutex<Option<Box<dyn Write + Send>>>,
    },
    List(Mutex<Vec<String>>),
}

impl fmt::Debug for Printer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &*self.0 {
            Target::Output { .. } => "Printer(output)",
            Target::List(_) => "Printer(list)",
        })
    }
}

impl Printer {
    /// Writes to standard output.
    pub(crate) fn stdout() -> Self {
        let stdout = io::stdout();
        Self::output(if stdout.is_terminal() { WIPE } else { "" }, Box::new(stdout))
    }

    fn output(before: &'static str, out: Box<dyn Write + Send>) -> Self {
        Self(Arc::new(Target::Output { before, out: Mutex::new(Some(out)) }))
    }

    /// Keeps the lines.
    pub(crate) fn list() -> Self {
        Self(Arc::new(Target::List(Mutex::default())))
    }

    /// One line, which has no line end in it.
    pub(crate) fn line(&self, text: &str) {
        match &*self.0 {
            Target::List(lines) => lines.lock().push(text.to_owned()),
            Target::Output { before, out } => {
                let mut out = out.lock();
                let Some(open) = out.as_mut() else { return };
                let line = format!("{before}{text}\n");
                if let Err(error) = open.write_all(line.as_bytes()).and_then(|()| open.flush()) {
                    tracing::debug!(%error, "nobody reads what the job prints any more");
                    *out = None;
                }
            }
        }
    }

    /// The lines kept so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        match &*self.0 {
            Target::List(lines) => lines.lock().clone(),
            Target::Output { .. } => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Takes that many lines, then its reader goes away.
    struct Pipe {
        left: usize,
        written: Arc<AtomicUsize>,
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.written.fetch_add(1, Ordering::Relaxed);
            self.left = self.left.checked_sub(1).ok_or(io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_goes_away_is_not_written_to_any_more() {
        let written = Arc::new(AtomicUsize::new(0));
        let pipe = Pipe { left: 2, written: Arc::clone(&written) };
        let printer = Printer::output("", Box::new(pipe));
        for _ in 0..10 {
            printer.line("x");
        }
        assert_eq!(written.load(Ordering::Relaxed), 3, "two lines, and one that failed");
    }
}
