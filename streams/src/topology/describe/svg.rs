//! A topology as a picture: SVG, drawn by us. Pure.
//!
//! ```text
//!   ( topic )               each sub-topology is placed by itself, steps in layers; then
//!       |                   sub-topologies and topics are placed like one graph
//!   +-- sub-topology -----+
//!   |  [step]             |
//!   |     |               |
//!   |  [step]--( store )  |
//!   +-----|---------------+
//!     ( topic )
//! ```
//!
//! Invariants
//! * text lies on boxes of its own colour, lines are grey: it can be read on light and on dark pages;
//! * a character is taken for wider than any fixed-width font draws it, so text stays in its box;
//! * names may hold anything: what XML gives a meaning to is escaped, what it cannot hold is replaced.

use std::fmt::Write as _;

use super::layers::{Item, Line, Placed, Pull, place};
use super::{Description, Part, Role, Step, StoreBox};

/// The width that a character of a title, and of a detail, takes at most.
const TITLE_CHAR: i64 = 8;
const DETAIL_CHAR: i64 = 7;
/// Height of a line of each.
const TITLE_LINE: i64 = 18;
const DETAIL_LINE: i64 = 15;
/// Longer labels are broken.
const LINE_CHARS: usize = 34;
/// Around text in a box, around steps in a sub-topology, around everything.
const PAD: i64 = 10;
const PART_PAD: i64 = 16;
const PART_TITLE: i64 = 26;
const MARGIN: i64 = 12;
/// From a step to its stores, and between those.
const STORE_LINE: i64 = 26;
const STORE_GAP: i64 = 8;
/// How far the lid of a store bulges.
const LID: i64 = 6;

const STYLE: &str = "\
text{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace}\
.t{font-size:13px;fill:#1f2328}.d{font-size:11px;fill:#57606a}.p{font-size:11px;fill:#57606a}\
.part{fill:#f6f8fa;stroke:#8c959f}.step{fill:#ffffff;stroke:#57606a}\
.store{fill:#fff8e6;stroke:#9a6700}.source,.output{fill:#ddf4ff;stroke:#0969da}\
.repartition{fill:#fbefff;stroke:#8250df}.dead-letters{fill:#ffebe9;stroke:#cf222e}\
.line{fill:none;stroke:#818b98;stroke-width:1.5}.dashed{stroke-dasharray:5 4}.head{fill:#818b98}";

/// Text in a box: its lines, and how large they are.
#[derive(Debug)]
struct Label {
    lines: Vec<(&'static str, String)>,
    width: i64,
    height: i64,
}

impl Label {
    fn new(title: &str, details: &[String]) -> Self {
        let mut lines: Vec<_> = broken(title).into_iter().map(|line| ("t", line)).collect();
        lines.extend(details.iter().flat_map(|d| broken(d)).map(|line| ("d", line)));
        let width = |&(class, ref line): &(&str, String)| {
            columns(line) * if class == "t" { TITLE_CHAR } else { DETAIL_CHAR }
        };
        let height = lines.iter().map(|&(class, _)| line_height(class)).sum::<i64>();
        let widest = lines.iter().map(width).max().unwrap_or(0);
        Self { lines, width: widest + 2 * PAD, height: height + 2 * PAD }
    }
}

fn line_height(class: &str) -> i64 {
    if class == "t" { TITLE_LINE } else { DETAIL_LINE }
}

/// Columns of a fixed-width font: whatever is not ASCII may be twice as wide.
fn columns(text: &str) -> i64 {
    text.chars().map(|c| if c.is_ascii() { 1 } else { 2 }).sum()
}

/// A label in lines of bounded length, broken behind what separates words where there is such a place.
fn broken(label: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for c in label.chars() {
        line.push(if c.is_control() { ' ' } else { c });
        if line.chars().count() < LINE_CHARS {
            continue;
        }
        let place = line.rfind([' ', '-', '.', '_', '/', ',']).filter(|&at| at > LINE_CHARS / 3);
        let rest = place.map(|at| line.split_off(at + 1)).unwrap_or_default();
        lines.push(std::mem::replace(&mut line, rest));
    }
    if !line.is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines.iter().map(|line| line.trim().to_owned()).collect()
}

/// A step and its stores, drawn side by side.
struct StepBox<'a> {
    step: &'a Step,
    label: Label,
    stores: Vec<Label>,
}

impl<'a> StepBox<'a> {
    fn new(step: &'a Step) -> Self {
        let store = |store: &StoreBox| Label::new(&store.name, &[]);
        Self {
            step,
            label: Label::new(&step.title, &step.details),
            stores: step.stores.iter().map(store).collect(),
        }
    }

    fn item(&self) -> Item {
        let stores = self.stores.iter();
        let beside = stores.map(|store| STORE_LINE + store.width).max().unwrap_or(0);
        let pull = if self.step.writes.is_some() { Pull::Bottom } else { Pull::Up };
        Item { width: self.label.width + beside, height: self.height(), pull }
    }

    /// It is as high as its stores, one below the other.
    fn height(&self) -> i64 {
        let stores = self.stores.iter().map(|store| store.height + 2 * LID + STORE_GAP);
        self.label.height.max(stores.sum::<i64>() - STORE_GAP)
    }

    /// Where lines meet it.
    fn middle(&self) -> i64 {
        self.label.width / 2
    }
}

/// A sub-topology with its steps in place.
pub(super) struct PartBox<'a> {
    part: &'a Part,
    steps: Vec<StepBox<'a>>,
    placed: Placed,
    /// How far its steps are from its left, so that no line runs through its title.
    inset: i64,
}

impl<'a> PartBox<'a> {
    fn new(part: &'a Part) -> Self {
        let steps: Vec<StepBox<'_>> = part.steps.iter().map(StepBox::new).collect();
        let items: Vec<Item> = steps.iter().map(StepBox::item).collect();
        let index = |id: usize| part.steps.iter().position(|step| step.id == id);
        let mut lines = Vec::new();
        for (to, step) in part.steps.iter().enumerate() {
            for from in step.inputs.iter().filter_map(|&id| index(id)) {
                let (from_x, to_x) = (steps[from].middle(), steps[to].middle());
                lines.push(Line { from, to, from_x, to_x });
            }
        }
        let placed = place(&items, &lines);
        let title = columns(&title_of(part)) * DETAIL_CHAR + 2 * PAD;
        let entered = (0..steps.len()).filter(|&i| steps[i].step.reads.is_some());
        let first = entered.map(|i| placed.boxes[i].0 + steps[i].middle()).min();
        let inset = PART_PAD.max(first.map_or(0, |first| title + PAD - first));
        Self { part, steps, placed, inset }
    }

    fn width(&self) -> i64 {
        let title = columns(&title_of(self.part)) * DETAIL_CHAR + 2 * PAD;
        (self.inset + self.placed.width + PART_PAD).max(title)
    }

    fn height(&self) -> i64 {
        PART_TITLE + self.placed.height + PART_PAD
    }

    /// Where a line from or to a step crosses its border.
    fn port(&self, step: usize) -> i64 {
        self.inset + self.placed.boxes[step].0 + self.steps[step].middle()
    }
}

fn title_of(part: &Part) -> String {
    format!("sub-topology {}", part.number)
}

/// What a line in the outer graph means.
#[derive(Clone, Copy)]
enum Meaning {
    /// Into a step of a sub-topology.
    Read { part: usize, step: usize },
    /// Out of one.
    Write { part: usize, step: usize },
    /// Out of a sub-topology: what its steps could not take.
    DeadLetters,
}

pub(super) fn write(of: &Description) -> String {
    let parts: Vec<PartBox<'_>> = of.subtopologies.iter().map(PartBox::new).collect();
    let topics: Vec<Label> = of.topics.iter().map(|t| Label::new(&t.name, &[])).collect();
    let (lines, meanings) = outer_lines(of, &parts, &topics);
    let placed = place(&outer_items(of, &parts, &topics), &lines);
    let mut svg = Svg::default();
    svg.open(&of.id, placed.width + 2 * MARGIN, placed.height + 2 * MARGIN);
    for (part, &(x, y)) in parts.iter().zip(&placed.boxes) {
        svg.part(part, x + MARGIN, y + MARGIN);
    }
    for (points, meaning) in placed.lines.iter().zip(&meanings) {
        let points = points.iter().map(|&(x, y)| (x + MARGIN, y + MARGIN));
        svg.outer_line(points.collect(), *meaning, &parts, &placed);
    }
    let boxes = &placed.boxes[parts.len()..];
    for ((topic, label), &(x, y)) in of.topics.iter().zip(&topics).zip(boxes) {
        svg.topic(topic.role, label, x + MARGIN, y + MARGIN);
    }
    svg.close()
}

/// Sub-topologies, then topics.
fn outer_items(of: &Description, parts: &[PartBox<'_>], topics: &[Label]) -> Vec<Item> {
    let part =
        |part: &PartBox<'_>| Item { width: part.width(), height: part.height(), pull: Pull::Up };
    let topic = |(topic, label): (&super::TopicBox, &Label)| Item {
        width: label.width,
        height: label.height,
        pull: match topic.role {
            Role::Source => Pull::Near,
            Role::DeadLetters => Pull::Bottom,
            Role::Output | Role::Repartition => Pull::Up,
        },
    };
    parts.iter().map(part).chain(of.topics.iter().zip(topics).map(topic)).collect()
}

fn outer_lines(
    of: &Description,
    parts: &[PartBox<'_>],
    topics: &[Label],
) -> (Vec<Line>, Vec<Meaning>) {
    let (mut lines, mut meanings) = (Vec::new(), Vec::new());
    let find = |name: &Option<String>| {
        let index = of.topics.iter().position(|topic| name.as_ref() == Some(&topic.name))?;
        Some((parts.len() + index, topics[index].width / 2))
    };
    for (index, part) in parts.iter().enumerate() {
        let mut letters = None;
        for (number, step) in part.part.steps.iter().enumerate() {
            let at = part.port(number);
            if let Some((from, from_x)) = find(&step.reads) {
                lines.push(Line { from, to: index, from_x, to_x: at });
                meanings.push(Meaning::Read { part: index, step: number });
            }
            if let Some((to, to_x)) = find(&step.writes) {
                lines.push(Line { from: index, to, from_x: at, to_x });
                meanings.push(Meaning::Write { part: index, step: number });
            }
            letters = letters.or(find(&step.dead_letters));
        }
        if let Some((to, to_x)) = letters {
            lines.push(Line { from: index, to, from_x: part.width() - PART_PAD, to_x });
            meanings.push(Meaning::DeadLetters);
        }
    }
    (lines, meanings)
}

#[derive(Default)]
struct Svg(String);

impl Svg {
    fn line(&mut self, line: &str) {
        writeln!(self.0, "{line}").expect("a string takes everything");
    }

    fn open(&mut self, id: &str, width: i64, height: i64) {
        self.line(&format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" role=\"img\">"
        ));
        self.line(&format!("<title>topology {}</title>", escape(id)));
        self.line(&format!("<style>{STYLE}</style>"));
        self.line(
            "<defs><marker id=\"head\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"6\" \
             markerHeight=\"6\" orient=\"auto\"><path class=\"head\" d=\"M0 0L8 4L0 8Z\"/></marker></defs>",
        );
    }

    fn close(mut self) -> String {
        self.line("</svg>");
        self.0
    }

    fn part(&mut self, part: &PartBox<'_>, x: i64, y: i64) {
        let (width, height) = (part.width(), part.height());
        self.line(&format!(
            "<rect class=\"part\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"6\"/>"
        ));
        let (text_x, text_y) = (x + PAD, y + PART_TITLE - PAD);
        let title = title_of(part.part);
        self.line(&format!("<text class=\"p\" x=\"{text_x}\" y=\"{text_y}\">{title}</text>"));
        let (x, y) = (x + part.inset, y + PART_TITLE);
        for points in &part.placed.lines {
            let points: Vec<_> = points.iter().map(|&(px, py)| (x + px, y + py)).collect();
            self.path(&points, "line");
        }
        for (step, &(left, top)) in part.steps.iter().zip(&part.placed.boxes) {
            self.step(step, x + left, y + top);
        }
    }

    fn step(&mut self, step: &StepBox<'_>, x: i64, y: i64) {
        let (width, height) = (step.label.width, step.height());
        self.line(&format!(
            "<rect class=\"step\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"3\"/>"
        ));
        self.text(&step.label, x, y + (height - step.label.height) / 2);
        let left = x + width + STORE_LINE;
        let mut top = y;
        for store in &step.stores {
            let tall = store.height + 2 * LID;
            let joint = top + tall / 2;
            self.line(&format!("<path class=\"line\" d=\"M{} {joint}H{left}\"/>", x + width));
            self.store(store, left, top, tall);
            top += tall + STORE_GAP;
        }
    }

    /// A cylinder.
    fn store(&mut self, label: &Label, x: i64, y: i64, height: i64) {
        let (right, half) = (x + label.width, label.width / 2);
        let (lid, floor) = (y + LID, y + height - LID);
        self.line(&format!(
            "<path class=\"store\" d=\"M{x} {lid}A{half} {LID} 0 0 1 {right} {lid}V{floor}\
             A{half} {LID} 0 0 1 {x} {floor}ZM{x} {lid}A{half} {LID} 0 0 0 {right} {lid}\"/>"
        ));
        self.text(label, x, y + LID + LID / 2);
    }

    fn topic(&mut self, role: Role, label: &Label, x: i64, y: i64) {
        let class = match role {
            Role::Source => "source",
            Role::Output => "output",
            Role::Repartition => "repartition",
            Role::DeadLetters => "dead-letters",
        };
        let Label { width, height, .. } = *label;
        self.line(&format!(
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"14\"/>"
        ));
        self.text(label, x, y);
    }

    /// The lines of a label, in a box at `x`, `y`.
    fn text(&mut self, label: &Label, x: i64, y: i64) {
        let middle = x + label.width / 2;
        let mut bottom = y + PAD;
        for (class, line) in &label.lines {
            bottom += line_height(class);
            let base = bottom - 5;
            self.line(&format!(
                "<text class=\"{class}\" x=\"{middle}\" y=\"{base}\" text-anchor=\"middle\">{}</text>",
                escape(line)
            ));
        }
    }

    /// A line of the outer graph, from or to the step that it is for.
    fn outer_line(
        &mut self,
        mut points: Vec<(i64, i64)>,
        meaning: Meaning,
        parts: &[PartBox<'_>],
        placed: &Placed,
    ) {
        let y_of = |part: usize, y: i64| placed.boxes[part].1 + MARGIN + PART_TITLE + y;
        match meaning {
            Meaning::Read { part, step } => {
                let top = y_of(part, parts[part].placed.boxes[step].1);
                // A sub-topology that reads what it writes is entered from below, up to its border.
                if let Some(&(x, y)) = points.last()
                    && y < top
                {
                    points.push((x, top));
                }
                self.path(&points, "line");
            }
            Meaning::Write { part, step } => {
                let (_, top) = parts[part].placed.boxes[step];
                let bottom = y_of(part, top + parts[part].steps[step].height());
                if let Some(&(x, _)) = points.first() {
                    points.insert(0, (x, bottom));
                }
                self.path(&points, "line");
            }
            Meaning::DeadLetters => self.path(&points, "line dashed"),
        }
    }

    fn path(&mut self, points: &[(i64, i64)], class: &str) {
        let Some((&(mut x, mut y), rest)) = points.split_first() else { return };
        let mut d = format!("M{x} {y}");
        for &(to_x, to_y) in rest {
            if to_x == x {
                write!(d, "V{to_y}").expect("a string takes everything");
            } else {
                let half = (y + to_y) / 2;
                write!(d, "C{x} {half} {to_x} {half} {to_x} {to_y}")
                    .expect("a string takes everything");
            }
            (x, y) = (to_x, to_y);
        }
        self.line(&format!("<path class=\"{class}\" d=\"{d}\" marker-end=\"url(#head)\"/>"));
    }
}

/// Text as XML holds it.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
