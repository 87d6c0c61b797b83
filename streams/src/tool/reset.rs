//! `reset --to ..`: shows where the job would go, and goes there with `--yes`.
//!
//! Exit codes: 0 done, 1 refused (the job runs; there is no such place), 3 a plan that wants `--yes`.
//!
//! Invariants
//! * without `--yes` nothing is changed.

use std::time::Duration;

use super::args::Reset as Options;
use super::table::{Side, grouped, table};
use super::{Ended, print, reach};
use crate::app::App;
use crate::broker::EmbeddedBroker;
use crate::error::{Error, Result};
use crate::runtime::{Move, Reset};

/// How long whoever only looks at the log is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Plans a reset, and carries it out when that was asked for.
pub(super) fn reset(app: &App, options: &Options) -> Result<Ended> {
    let broker = own(app)?;
    let outcome = with_log(app, options, &broker);
    let closed = crate::broker::Broker::close(&broker);
    let ended = outcome?;
    closed.map(|()| ended)
}

/// The log, which nobody else may have open.
fn own(app: &App) -> Result<EmbeddedBroker> {
    if let Some(pid) = reach::running(app)? {
        return Err(Error::JobRunning { id: app.id().to_owned(), pid });
    }
    match app.own_log(PATIENCE) {
        // It has come in between.
        Err(locked @ Error::Log(core_log::Error::DirectoryLocked { .. })) => {
            match reach::running(app)? {
                Some(pid) => Err(Error::JobRunning { id: app.id().to_owned(), pid }),
                None => Err(locked),
            }
        }
        outcome => outcome,
    }
}

fn with_log(app: &App, options: &Options, broker: &EmbeddedBroker) -> Result<Ended> {
    let find_time = |topic: &crate::broker::TopicRef, partition, time| {
        broker.first_not_older(topic, partition, time)
    };
    let reset = app.plan_reset(broker, options.to, &find_time)?;
    let mut text = String::new();
    if options.yes {
        reset.carry_out(broker)?;
        text.push_str("done\n");
    } else {
        text.push_str("plan (nothing is changed yet)\n");
    }
    text.push_str(&moves(&reset.moves));
    text.push_str(&consequences(&reset, broker)?);
    if options.yes {
        return print::text(&text);
    }
    text.push_str("run again with --yes to do it\n");
    match print::text(&text)? {
        Ended::Done => Ok(Ended::DecisionNeeded),
        ended => Ok(ended),
    }
}

fn moves(moves: &[Move]) -> String {
    let columns = [
        ("  TOPIC", Side::Left),
        ("PART", Side::Right),
        ("NOW", Side::Right),
        ("NEW", Side::Right),
        ("RECORDS AGAIN", Side::Right),
        ("", Side::Left),
    ];
    let rows: Vec<Vec<String>> = moves.iter().map(cells).collect();
    table(&columns, &rows)
}

fn cells(m: &Move) -> Vec<String> {
    let now = m.now.unwrap_or(m.new);
    let skipped = m.new.saturating_sub(now);
    let note = match m {
        Move { is_table: true, .. } => "table: read whole again".to_owned(),
        _ if skipped > 0 => format!("{} are passed over", grouped(skipped)),
        _ => String::new(),
    };
    vec![
        format!("  {}", m.topic.name),
        m.partition.to_string(),
        m.now.map_or_else(|| "-".to_owned(), grouped),
        grouped(m.new),
        grouped(now.saturating_sub(m.new).max(0)),
        note,
    ]
}

fn consequences(reset: &Reset, broker: &EmbeddedBroker) -> Result<String> {
    let mut text = String::new();
    for store in reset.stores() {
        text.push_str(&format!("  state   {store}: emptied, and built anew from there on\n"));
    }
    for (topic, held) in reset.outputs(broker)? {
        let held = grouped(held);
        text.push_str(&format!(
            "  output  {topic}: its {held} offsets stay; readers see results again\n"
        ));
    }
    Ok(text)
}
