//! `tail`: records of a topic as people and scripts read them, also while a job is running.
//!
//! Why through a view of the log: one process owns the directory; where that is a running job, the view
//! asks it over its socket, and opens the log itself otherwise, for moments.
//!
//! ```text
//!   what is there:  view (own or attached) --- owner left ---> view again, from the same offsets
//!   --follow:       attached to the owner  --- owner left ---> wait for the next owner
//! ```
//!
//! A topic that the log does not have may be one that a replay has written: it lies in a scratch log
//! beside.
//!
//! Invariants
//! * only committed records are shown;
//! * without `--follow` the ends are taken once, so that a busy writer cannot keep the command alive;
//! * a follower never owns the log: nobody else could write to it.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use core_log::{FetchSource, Topic};

use super::args::{Start, Tail};
use super::decode::{Ends, Shown};
use super::start::{ends, spans};
use super::{Ended, print};
use crate::app::App;
use crate::broker::{Merged, Stretches, View, has_left};
use crate::dsl::TopicTypes;
use crate::error::{Error, Result};
use crate::replay;

/// How long an owner is asked to wait for something new.
const WAIT: Duration = Duration::from_millis(500);
/// How often a follower looks for an owner.
const OWNER_EVERY: Duration = Duration::from_millis(100);

/// Prints the records that the options ask for.
pub(super) fn tail(app: &App, options: &Tail) -> Result<Ended> {
    let assembly = app.assemble()?;
    let name = options.name.as_deref();
    let ends = |topic: &str| Ends::inside_if(assembly.graph.output_ends_inside(topic));
    let (mut view, topic, types, ends) = match View::of(app.log_dir()).topic(&options.topic) {
        Ok(topic) if name.is_none() => {
            let types = assembly.types_of(&options.topic);
            (View::of(app.log_dir()), topic, types, ends(&options.topic))
        }
        looked @ (Ok(_) | Err(Error::UnknownTopic { .. })) => {
            let Some(found) = replay::find(app.log_dir(), app.id(), name, &options.topic)? else {
                looked?;
                let reason =
                    format!("no replay {} has a topic {}", name.unwrap_or("-"), options.topic);
                return Err(Error::Usage { reason });
            };
            let mut view = View::of(&found.dir);
            let topic = view.topic(&options.topic)?;
            (view, topic, assembly.types_of(&found.original), ends(&found.original))
        }
        Err(error) => return Err(error),
    };
    let dir = view.dir().to_owned();
    let spans = view.with(|log| spans(log, &topic, options.start))?;
    let parts = (0..).zip(spans).map(|(partition, span)| (topic.clone(), partition, span));
    let merged = Merged::new(Stretches::new(view, parts));
    let mut reading = Reading { dir, options, types, ends, topic, merged };
    let ended = match options.start {
        Start::Last(count) => reading.print_last(count)?,
        Start::Offset(_) | Start::Time(_) => reading.print()?,
    };
    if ended == Ended::OutputClosed || !options.follow {
        return Ok(ended);
    }
    reading.follow()
}

/// How far the command has come.
struct Reading<'a> {
    dir: PathBuf,
    options: &'a Tail,
    types: Option<&'a TopicTypes>,
    ends: Ends,
    topic: Topic,
    merged: Merged,
}

impl Reading<'_> {
    fn next(&mut self) -> Result<Option<Shown>> {
        let (types, ends) = (self.types, self.ends);
        self.merged.next(|partition, record| Shown::new(partition, record, types, ends))
    }

    /// The last records up to the end.
    fn print_last(&mut self, count: usize) -> Result<Ended> {
        let mut last = VecDeque::new();
        while let Some(shown) = self.next()? {
            last.push_back(shown);
            if last.len() > count {
                last.pop_front();
            }
        }
        let lines: Vec<String> = last.iter().map(|shown| self.line(shown)).collect();
        print::output(|out| lines.iter().try_for_each(|line| writeln!(out, "{line}")))
    }

    /// Every record up to the end.
    fn print(&mut self) -> Result<Ended> {
        let mut failed = None;
        let ended = print::output(|out| {
            failed = self.each(|line| writeln!(out, "{line}"))?;
            Ok(())
        })?;
        failed.map_or(Ok(ended), Err)
    }

    /// Hands every line up to the end to `visit`, which may find the output closed.
    fn each(&mut self, mut visit: impl FnMut(&str) -> io::Result<()>) -> io::Result<Option<Error>> {
        loop {
            match self.next() {
                Ok(Some(shown)) => visit(&self.line(&shown))?,
                Ok(None) => return Ok(None),
                Err(error) => return Ok(Some(error)),
            }
        }
    }

    fn line(&self, shown: &Shown) -> String {
        if self.options.json { shown.to_json() } else { shown.to_text() }
    }

    /// What is written from now on, whoever writes it, until the reader of the output goes away.
    fn follow(&mut self) -> Result<Ended> {
        loop {
            let outcome = match View::of_owner(&self.dir) {
                Ok(owner) => self.follow_owner(owner),
                Err(error) => Err(error),
            };
            match outcome {
                Err(error) if has_left(&error) => std::thread::park_timeout(OWNER_EVERY),
                ended => return ended,
            }
        }
    }

    fn follow_owner(&mut self, mut owner: View) -> Result<Ended> {
        let mut seen = owner.with(|log| Ok(log.changes()?))?;
        self.merged.stretches().attach(owner);
        loop {
            let (stretches, topic) = (self.merged.stretches(), &self.topic);
            let ends = stretches.view().with(|log| ends(log, topic))?;
            ends.into_iter().enumerate().for_each(|(part, end)| stretches.extend(part, end));
            if self.print()? == Ended::OutputClosed {
                return Ok(Ended::OutputClosed);
            }
            let view = self.merged.stretches().view();
            seen = view.with(|log| Ok(log.wait(seen, WAIT)?))?;
        }
    }
}
