//! A topology as a Mermaid flow chart, for a page that draws it. Pure.
//!
//! Invariants
//! * identifiers are ours (`t0`, `n0`, `n0s0`); what a user has named stands in quoted labels only,
//!   where each character that Mermaid gives a meaning to is written as its code.

use std::fmt::Write as _;

use super::{Description, Step};

pub(super) fn write(of: &Description) -> String {
    let mut text = "flowchart TB\n".to_owned();
    let mut line = |line: &str| writeln!(text, "{line}").expect("a string takes everything");
    for (index, topic) in of.topics.iter().enumerate() {
        line(&format!("  t{index}([\"{}\"])", escape(&topic.name)));
    }
    for part in &of.subtopologies {
        line(&format!("  subgraph s{0}[\"sub-topology {0}\"]", part.number));
        for step in &part.steps {
            let words = [&step.title].into_iter().chain(&step.details);
            let label: Vec<String> = words.map(|words| escape(words)).collect();
            line(&format!("    n{}[\"{}\"]", step.id, label.join("<br/>")));
            for (index, store) in step.stores.iter().enumerate() {
                line(&format!("    n{}s{index}[(\"{}\")]", step.id, escape(&store.name)));
            }
        }
        line("  end");
    }
    for step in of.subtopologies.iter().flat_map(|part| &part.steps) {
        edges(of, step).iter().for_each(|edge| line(edge));
    }
    text
}

fn edges(of: &Description, step: &Step) -> Vec<String> {
    let topic = |name: &Option<String>| {
        of.topics.iter().position(|topic| name.as_ref() == Some(&topic.name))
    };
    let id = step.id;
    let mut edges: Vec<String> =
        step.inputs.iter().map(|input| format!("  n{input} --> n{id}")).collect();
    edges.extend(topic(&step.reads).map(|t| format!("  t{t} --> n{id}")));
    edges.extend(topic(&step.writes).map(|t| format!("  n{id} --> t{t}")));
    edges.extend(topic(&step.dead_letters).map(|t| format!("  n{id} -.-> t{t}")));
    edges.extend((0..step.stores.len()).map(|store| format!("  n{id} --- n{id}s{store}")));
    edges
}

fn escape(label: &str) -> String {
    let mut out = String::with_capacity(label.len());
    for c in label.chars() {
        match c {
            c if c.is_control() => out.push(' '),
            '"' | '#' | '&' | '<' | '>' | '`' | '\\' | ';' => {
                write!(out, "#{};", u32::from(c)).expect("a string takes everything");
            }
            c => out.push(c),
        }
    }
    out
}
