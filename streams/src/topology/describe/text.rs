//! A topology as text, for a terminal. Pure.
//!
//! ```text
//!   sub-topology 1
//!      4  read clicks-per-page-repartition
//!      5  count in clicks-per-page
//!           tumbling 1m, grace 10s, one result per closed window
//!      6  write page-counts
//! ```
//!
//! Invariants
//! * a step takes what the step above it gives, unless `<- n` says otherwise;
//! * a line of the output is a line of ours: labels cannot begin another one.

use std::fmt::Write as _;

use super::{Description, Step};

pub(super) fn write(of: &Description) -> String {
    let mut text = format!("topology {}\n", of.id);
    for part in &of.subtopologies {
        writeln!(text, "\nsub-topology {}", part.number).expect("a string takes everything");
        let mut above = None;
        for step in &part.steps {
            let (title, from) = (one_line(&step.title), from(step, above));
            writeln!(text, "  {:>2}  {title}{from}", step.id).expect("a string takes everything");
            let changelogs =
                step.stores.iter().map(|store| format!("changelog {}", store.changelog));
            for detail in step.details.iter().cloned().chain(changelogs) {
                writeln!(text, "        {}", one_line(&detail)).expect("a string takes everything");
            }
            above = Some(step.id);
        }
    }
    text
}

fn one_line(label: &str) -> String {
    label.replace(char::is_control, " ")
}

fn from(step: &Step, above: Option<usize>) -> String {
    if step.inputs.iter().copied().eq(above) || step.inputs.is_empty() {
        return String::new();
    }
    let inputs: Vec<String> = step.inputs.iter().map(usize::to_string).collect();
    format!("  <- {}", inputs.join(", "))
}
