//! `tail`: records of a topic as people and scripts read them, also while a job is running.
//!
//! Why through a view of the log: one process owns the directory; where that is a running job, the view
//! asks it over its socket, and opens the log itself otherwise.
//!
//! ```text
//!   what is there:  view (own or attached) --- owner left ---> view again, from the same offsets
//!   --follow:       attached to the owner  --- owner left ---> wait for the next owner
//! ```
//!
//! Invariants
//! * only committed records are shown;
//! * without `--follow` the ends are taken once, so that a busy writer cannot keep the command alive;
//! * a follower never owns the log: nobody else could write to it.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::Duration;

use core_log::{AttachedLog, FetchSource, LogView, Topic};

use super::args::{Start, Tail};
use super::decode::Shown;
use super::merged::{Cursor, Merged, cursors};
use super::{Ended, print};
use crate::app::App;
use crate::dsl::TopicTypes;
use crate::error::{Error, Result};

/// How long an owner is asked to wait for something new.
const WAIT: Duration = Duration::from_millis(500);
/// How often a follower looks for an owner.
const OWNER_EVERY: Duration = Duration::from_millis(100);
/// How often in a row the owner may leave before what is there has been read.
const OWNERS_MAX: u32 = 20;

/// Prints the records that the options ask for.
pub(super) fn tail(app: &App, options: &Tail) -> Result<Ended> {
    let assembly = app.assemble()?;
    let mut reading = Reading {
        dir: app.log_dir(),
        options,
        types: assembly.types.get(&options.topic),
        cursors: None,
        last: VecDeque::new(),
    };
    let ended = reading.what_is_there()?;
    if ended == Ended::OutputClosed || !options.follow {
        return Ok(ended);
    }
    reading.follow()
}

/// How far the command has come.
struct Reading<'a> {
    dir: &'a Path,
    options: &'a Tail,
    types: Option<&'a TopicTypes>,
    /// Where to go on in each partition, once that is known.
    cursors: Option<Vec<Cursor>>,
    /// With `-o -N`: the last N records so far.
    last: VecDeque<Shown>,
}

impl Reading<'_> {
    /// Everything up to the end, as it is when the first view is opened.
    fn what_is_there(&mut self) -> Result<Ended> {
        let mut owners = 0;
        loop {
            let view = LogView::open(self.dir)?;
            let outcome = self.up_to_the_end(&view);
            if let LogView::Owned(log) = &view {
                log.close()?;
            }
            match outcome {
                Err(error) if has_left(&error) && owners < OWNERS_MAX => owners += 1,
                Err(error) => return Err(error),
                Ok(Ended::OutputClosed) => return Ok(Ended::OutputClosed),
                Ok(Ended::Done | Ended::DecisionNeeded) => break,
            }
        }
        let last = std::mem::take(&mut self.last);
        let lines: Vec<String> = last.iter().map(|shown| self.line(shown)).collect();
        print::output(|out| lines.iter().try_for_each(|line| writeln!(out, "{line}")))
    }

    fn up_to_the_end(&mut self, view: &LogView) -> Result<Ended> {
        let topic = self.find(view)?;
        let cursors = match self.cursors.take() {
            Some(cursors) => cursors,
            None => cursors(view, &topic, self.options.start)?,
        };
        let mut merged = Merged::new(view, &topic, cursors, self.types);
        let outcome = match self.options.start {
            Start::Last(count) => self.keep(&mut merged, count),
            Start::Offset(_) | Start::Time(_) => self.print(&mut merged),
        };
        self.cursors = Some(merged.into_cursors());
        outcome
    }

    fn keep<S: FetchSource>(&mut self, merged: &mut Merged<'_, S>, count: usize) -> Result<Ended> {
        while let Some(shown) = merged.next()? {
            self.last.push_back(shown);
            if self.last.len() > count {
                self.last.pop_front();
            }
        }
        Ok(Ended::Done)
    }

    fn print<S: FetchSource>(&self, merged: &mut Merged<'_, S>) -> Result<Ended> {
        let mut failed = None;
        let ended = print::output(|out| {
            failed = each(merged, |shown| writeln!(out, "{}", self.line(&shown)))?;
            Ok(())
        })?;
        failed.map_or(Ok(ended), Err)
    }

    fn line(&self, shown: &Shown) -> String {
        if self.options.json { shown.to_json() } else { shown.to_text() }
    }

    /// What is written from now on, whoever writes it, until the reader of the output goes away.
    fn follow(&mut self) -> Result<Ended> {
        loop {
            let outcome = match AttachedLog::connect(self.dir) {
                Ok(owner) => self.follow_owner(&owner),
                Err(error) => Err(error.into()),
            };
            match outcome {
                Err(error) if has_left(&error) => std::thread::park_timeout(OWNER_EVERY),
                ended => return ended,
            }
        }
    }

    fn follow_owner(&mut self, owner: &AttachedLog) -> Result<Ended> {
        let topic = self.find(owner)?;
        let cursors = self.cursors.take().unwrap_or_default();
        let mut merged = Merged::new(owner, &topic, cursors, self.types);
        let outcome = self.follow_merged(owner, &mut merged);
        self.cursors = Some(merged.into_cursors());
        outcome
    }

    fn follow_merged(
        &self,
        owner: &AttachedLog,
        merged: &mut Merged<'_, AttachedLog>,
    ) -> Result<Ended> {
        let mut seen = owner.changes()?;
        loop {
            merged.extend()?;
            if self.print(merged)? == Ended::OutputClosed {
                return Ok(Ended::OutputClosed);
            }
            seen = owner.wait(seen, WAIT)?;
        }
    }

    fn find(&self, log: &impl FetchSource) -> Result<Topic> {
        let topics = log.topics()?;
        let name = &self.options.topic;
        let found = topics.iter().find(|topic| topic.name().as_str() == name);
        found.cloned().ok_or_else(|| Error::UnknownTopic {
            name: name.clone(),
            log: self.dir.display().to_string(),
            known: topics.iter().map(|topic| topic.name().to_string()).collect(),
        })
    }
}

/// Whether the process that was asked does not answer any more.
fn has_left(error: &Error) -> bool {
    matches!(error, Error::Log(core_log::Error::Owner { .. }))
}

/// Hands every record up to the end to `visit`, which may find the output closed.
fn each<S: FetchSource>(
    merged: &mut Merged<'_, S>,
    mut visit: impl FnMut(Shown) -> io::Result<()>,
) -> io::Result<Option<Error>> {
    loop {
        match merged.next() {
            Ok(Some(shown)) => visit(shown)?,
            Ok(None) => return Ok(None),
            Err(e) => return Ok(Some(e)),
        }
    }
}
