//! A topology in the language of Graphviz. Pure.
//!
//! Invariants
//! * identifiers are ours; what a user has named stands in quoted labels only, where quotes,
//!   backslashes, line ends and the start of an entity are escaped.

use std::fmt::Write as _;

use super::{Description, Step};

pub(super) fn write(of: &Description) -> String {
    let mut text = format!("digraph \"{}\" {{\n", escape(&of.id));
    let mut line = |line: &str| writeln!(text, "{line}").expect("a string takes everything");
    line("  rankdir=TB;");
    line("  node [shape=box, fontname=\"monospace\", fontsize=11];");
    for (index, topic) in of.topics.iter().enumerate() {
        line(&format!("  t{index} [label=\"{}\", style=rounded];", escape(&topic.name)));
    }
    for part in &of.subtopologies {
        line(&format!("  subgraph cluster_{} {{", part.number));
        line(&format!("    label=\"sub-topology {}\";", part.number));
        for step in &part.steps {
            let words = [&step.title].into_iter().chain(&step.details);
            let label: Vec<String> = words.map(|words| escape(words)).collect();
            line(&format!("    n{} [label=\"{}\"];", step.id, label.join("\\n")));
            for (index, store) in step.stores.iter().enumerate() {
                let (name, id) = (escape(&store.name), step.id);
                line(&format!("    n{id}s{index} [label=\"{name}\", shape=cylinder];"));
                line(&format!("    {{ rank=same; n{id}; n{id}s{index}; }}"));
            }
        }
        line("  }");
    }
    for step in of.subtopologies.iter().flat_map(|part| &part.steps) {
        edges(of, step).iter().for_each(|edge| line(edge));
    }
    line("}");
    text
}

fn edges(of: &Description, step: &Step) -> Vec<String> {
    let topic = |name: &Option<String>| {
        of.topics.iter().position(|topic| name.as_ref() == Some(&topic.name))
    };
    let id = step.id;
    let mut edges: Vec<String> =
        step.inputs.iter().map(|input| format!("  n{input} -> n{id};")).collect();
    edges.extend(topic(&step.reads).map(|t| format!("  t{t} -> n{id};")));
    edges.extend(topic(&step.writes).map(|t| format!("  n{id} -> t{t};")));
    edges.extend(topic(&step.dead_letters).map(|t| format!("  n{id} -> t{t} [style=dashed];")));
    edges.extend(
        (0..step.stores.len()).map(|store| format!("  n{id} -> n{id}s{store} [dir=none];")),
    );
    edges
}

fn escape(label: &str) -> String {
    let mut out = String::with_capacity(label.len());
    for c in label.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '&' => out.push_str("&amp;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
