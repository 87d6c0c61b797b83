//! Every format of topologies that branch, merge and hop, with labels made to break out of them.

use super::layers::{Item, Line, Pull, place};
use super::*;
use crate::topology::repartition_topic;

/// A graph in the words of the DSL.
struct Draft(Graph);

impl Draft {
    fn new(on_error: OnError) -> Self {
        Self(Graph { on_error, ..Graph::new("job") })
    }

    fn source(&mut self, topic: &str) -> NodeId {
        self.0.add(Kind::Source { topic: topic.to_owned(), event_time: false }, &[])
    }

    fn step(&mut self, kind: Kind, inputs: &[NodeId]) -> NodeId {
        self.0.add(kind, inputs)
    }

    fn sink(&mut self, topic: &str, input: NodeId) {
        self.0.add(Kind::Sink { topic: topic.to_owned() }, &[input]);
    }

    /// A count behind a repartition.
    fn count(&mut self, store: &str, input: NodeId) -> NodeId {
        let store = StoreName::new(store).unwrap();
        let topic = repartition_topic("job", &store);
        let carries = Carries::Key;
        self.0.add(Kind::RepartitionSink { topic: topic.clone(), carries }, &[input]);
        let source = self.0.add(Kind::RepartitionSource { topic }, &[]);
        self.0.add(Kind::Aggregate { store, what: "count" }, &[source])
    }
}

/// Several sources that branch, are merged and hop twice.
fn large() -> Graph {
    let mut g = Draft::new(OnError::DeadLetter);
    let (orders, clicks) = (g.source("orders"), g.source("clicks-of-the-web-shop"));
    let parsed = g.step(Kind::TryMap, &[clicks]);
    let known = g.step(Kind::Branch(Way::First), &[parsed]);
    let rest = g.step(Kind::Branch(Way::Rest), &[parsed]);
    g.sink("unknown-visitors", rest);
    let mapped = g.step(Kind::Map, &[orders]);
    let both = g.step(Kind::Merge, &[mapped, known]);
    let keyed = g.step(Kind::KeyBy, &[both]);
    let first = g.count("events-per-customer", keyed);
    g.sink("events", first);
    let again = g.step(Kind::KeyBy, &[first]);
    let second = g.count("customers-per-number-of-events", again);
    g.sink("histogram", second);
    g.step(Kind::ForEach, &[orders]);
    g.step(Kind::Print { label: "seen".to_owned() }, &[mapped]);
    g.0
}

/// A graph whose one label tries to end every text that it may stand in.
fn hostile() -> Graph {
    let mut g = Draft::new(OnError::Fail);
    let source = g.source("in");
    let label =
        "\"];]]>--><script>alert(`1`)</script>&amp;\\\n end #quot; \u{fffe}\u{1b}[2J".to_owned();
    g.step(Kind::Print { label }, &[source]);
    g.0
}

/// Whether every element is closed in order, every attribute quoted, and nothing bare that may not be.
fn check_xml(text: &str) -> Result<(), String> {
    let mut open: Vec<String> = Vec::new();
    let mut rest = text.trim();
    while let Some(at) = rest.find('<') {
        check_text(&rest[..at])?;
        let end = rest.find('>').ok_or("an element without an end")?;
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            match open.pop() {
                Some(opened) if opened == name => {}
                other => return Err(format!("</{name}> closes {other:?}")),
            }
        } else {
            let name = tag.trim_end_matches('/').split(' ').next().unwrap_or_default();
            check_attributes(tag.trim_end_matches('/')[name.len()..].trim())?;
            if !tag.ends_with('/') {
                open.push(name.to_owned());
            }
        }
        if open.is_empty() && !rest.is_empty() {
            return Err(format!("{rest:?} follows the root"));
        }
    }
    if open.is_empty() { Ok(()) } else { Err(format!("{open:?} are not closed")) }
}

fn check_attributes(text: &str) -> Result<(), String> {
    let mut rest = text;
    while !rest.is_empty() {
        let (name, value) = rest.split_once("=\"").ok_or(format!("no value in {rest:?}"))?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | ':');
        if name.is_empty() || !name.chars().all(plain) {
            return Err(format!("{name:?} is no name"));
        }
        let (value, after) = value.split_once('"').ok_or(format!("no end in {value:?}"))?;
        check_text(value)?;
        rest = after.trim_start();
    }
    Ok(())
}

fn check_text(text: &str) -> Result<(), String> {
    for part in text.split('&').skip(1) {
        let entity = part.split(';').next().unwrap_or_default();
        if !["amp", "lt", "gt", "quot"].contains(&entity) {
            return Err(format!("&{entity} is no entity"));
        }
    }
    let bad = |c: char| matches!(c, '<' | '>' | '\u{fffe}' | '\u{ffff}') || (c < ' ' && c != '\n');
    if text.contains(bad) { Err(format!("{text:?} may not stand there")) } else { Ok(()) }
}

#[test]
fn the_check_of_xml_finds_what_is_wrong() {
    assert_eq!(check_xml("<a b=\"1\"><c/>x &amp; y</a>"), Ok(()));
    for wrong in
        ["<a>", "<a></b>", "<a b=1/>", "<a b=\"<\"/>", "<a>&</a>", "<a/><b/>", "<a>\u{1}</a>"]
    {
        assert!(check_xml(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn pictures_are_well_formed_whatever_labels_hold() {
    for graph in [large(), hostile(), Graph::new("empty")] {
        let svg = graph.describe(Format::Svg);
        assert_eq!(check_xml(&svg), Ok(()), "{svg}");
        assert_eq!(svg, graph.describe(Format::Svg), "the same picture each time");
    }
}

#[test]
fn labels_cannot_leave_their_place_in_any_format() {
    let graph = hostile();
    let lines = |format| graph.describe(format).lines().count();
    let harmless = {
        let mut g = Draft::new(OnError::Fail);
        let source = g.source("in");
        g.step(Kind::Print { label: "x".to_owned() }, &[source]);
        g.0
    };
    for format in [Format::Text, Format::Mermaid, Format::Dot, Format::Json] {
        assert_eq!(lines(format), harmless.describe(format).lines().count(), "{format:?}");
        assert!(!graph.describe(format).contains('\u{1b}'), "{format:?}");
    }
    let dot = graph.describe(Format::Dot);
    assert!(
        dot.contains(r#"print [\"];]]>--><script>alert(`1`)</script>&amp;amp;\\  end"#),
        "{dot}"
    );
    let mermaid = graph.describe(Format::Mermaid);
    let label = mermaid.lines().find(|line| line.contains("print [")).unwrap();
    assert_eq!(label.matches('"').count(), 2, "{label}");
    assert!(label.contains("#34;]#59;]]#62;--#62;#60;script#62;"), "{label}");
    let json: serde_json::Value = serde_json::from_str(&graph.describe(Format::Json)).unwrap();
    let title = &json["subtopologies"][0]["steps"][1]["title"];
    assert!(title.as_str().unwrap().contains("</script>&amp;\\\n end"), "{title}");
}

#[test]
fn topics_stores_and_dead_letters_are_in_every_format() {
    let graph = large();
    for format in [Format::Mermaid, Format::Dot, Format::Svg, Format::Json] {
        let text = graph.describe(format);
        for name in ["orders", "histogram", "job-dlq", "events-per-customer", "sub"] {
            assert!(text.contains(name), "{format:?} has no {name}: {text}");
        }
    }
    let json: serde_json::Value = serde_json::from_str(&graph.describe(Format::Json)).unwrap();
    let role = |name: &str| {
        let topics = json["topics"].as_array().unwrap();
        topics.iter().find(|topic| topic["name"] == name).unwrap()["role"].clone()
    };
    assert_eq!(role("orders"), "source");
    assert_eq!(role("job-events-per-customer-repartition"), "repartition");
    assert_eq!(role("events"), "output");
    assert_eq!(role("job-dlq"), "dead-letters");
    let steps = json["subtopologies"][0]["steps"].as_array().unwrap();
    assert_eq!(steps[0]["dead_letters"], "job-dlq");
    assert_eq!(steps[5]["dead_letters"], serde_json::Value::Null);
}

#[test]
fn text_says_what_is_not_from_the_step_above_and_what_becomes_of_refused_records() {
    let text = large().describe(Format::Text);
    for line in [
        "   1  read clicks-of-the-web-shop\n        undecodable records go to job-dlq\n",
        "   2  try map\n        refused records go to job-dlq\n",
        "   4  branch: the rest  <- 2\n",
        "   7  merge  <- 6, 3\n",
        "        changelog job-events-per-customer-changelog\n",
    ] {
        assert!(text.contains(line), "no {line:?} in {text}");
    }
}

/// Items and lines of a pseudo-random graph, with a few lines that go back.
fn random_graph(seed: u64) -> (Vec<Item>, Vec<Line>) {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = move |below: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((state >> 33) % below).unwrap()
    };
    let count = 2 + next(14);
    let pulls = [Pull::Up, Pull::Bottom, Pull::Near];
    let size = |n: usize| i64::try_from(n).unwrap();
    let items: Vec<Item> = (0..count)
        .map(|_| Item {
            width: 40 + size(next(200)),
            height: 30 + size(next(90)),
            pull: pulls[next(3)],
        })
        .collect();
    let lines = (0..next(30))
        .map(|_| {
            let (a, b) = (next(u64::try_from(count).unwrap()), next(u64::try_from(count).unwrap()));
            let (from, to) =
                if next(10) == 0 { (a.max(b), a.min(b)) } else { (a.min(b), a.max(b)) };
            let at = |item: usize| items[item].width / 2;
            Line { from, to, from_x: at(from), to_x: at(to) }
        })
        .collect();
    (items, lines)
}

#[test]
fn boxes_never_overlap_and_no_line_crosses_one() {
    for seed in 0..400 {
        let (items, lines) = random_graph(seed);
        let placed = place(&items, &lines);
        let boxes: Vec<_> = items
            .iter()
            .zip(&placed.boxes)
            .map(|(item, &(x, y))| (x, y, x + item.width, y + item.height))
            .collect();
        for (i, a) in boxes.iter().enumerate() {
            assert!(a.0 >= 0 && a.2 <= placed.width && a.3 <= placed.height, "seed {seed}: {a:?}");
            for b in &boxes[i + 1..] {
                let apart = a.2 <= b.0 || b.2 <= a.0 || a.3 <= b.1 || b.3 <= a.1;
                assert!(apart, "seed {seed}: {a:?} overlaps {b:?}");
            }
        }
        for points in &placed.lines {
            for pair in points.windows(2) {
                let (x, y) = (pair[0].0.min(pair[1].0), pair[0].1.min(pair[1].1));
                let (right, bottom) = (pair[0].0.max(pair[1].0), pair[0].1.max(pair[1].1));
                let crossed = boxes
                    .iter()
                    .find(|b| x < b.2 && b.0 < right.max(x + 1) && y < b.3 && b.1 < bottom);
                assert_eq!(crossed, None, "seed {seed}: {pair:?}");
            }
        }
    }
}

type Point = (i64, i64);

/// How often straight lines between the boxes would cross between the same two layers.
fn crossings(placed: &layers::Placed) -> usize {
    let pairs = placed.lines.iter().flat_map(|points| points.windows(2));
    let slanted: Vec<_> = pairs.filter(|p| p[0].1 < p[1].1).map(|p| (p[0], p[1])).collect();
    let crossed = |(i, a): (usize, &(Point, Point))| {
        let others = slanted[i + 1..].iter().filter(|b| b.0.1 == a.0.1 && b.1.1 == a.1.1);
        others.filter(|b| (a.0.0 - b.0.0).signum() * (a.1.0 - b.1.0).signum() < 0).count()
    };
    slanted.iter().enumerate().map(crossed).sum()
}

#[test]
fn lines_cross_only_where_they_must() {
    let item = Item { width: 60, height: 30, pull: Pull::Up };
    let line = |(from, to)| Line { from, to, from_x: 30, to_x: 30 };
    let count = |items: usize, lines: &[(usize, usize)]| {
        let lines: Vec<Line> = lines.iter().copied().map(line).collect();
        crossings(&place(&vec![item; items], &lines))
    };
    // Two chains whose boxes were named crosswise, and a tree.
    assert_eq!(count(6, &[(0, 3), (1, 2), (3, 4), (2, 5)]), 0);
    assert_eq!(count(7, &[(0, 1), (0, 2), (1, 6), (2, 3), (1, 5), (2, 4)]), 0);
    // Three boxes, each to three others: one crossing for each pair of pairs.
    let all: Vec<_> = (0..3).flat_map(|a| (3..6).map(move |b| (a, b))).collect();
    assert_eq!(count(6, &all), 9);
}

#[test]
fn a_line_that_closes_a_cycle_is_drawn_all_the_same() {
    let item = Item { width: 100, height: 40, pull: Pull::Up };
    let line = |from, to| Line { from, to, from_x: 50, to_x: 50 };
    let placed = place(&[item; 3], &[line(0, 1), line(1, 2), line(2, 0), line(1, 1)]);
    let tops: Vec<i64> = placed.boxes.iter().map(|&(_, y)| y).collect();
    assert!(tops[0] < tops[1] && tops[1] < tops[2]);
    let up = &placed.lines[2];
    assert!(up.first().unwrap().1 > up.last().unwrap().1, "it leads upwards: {up:?}");
}

#[test]
fn long_labels_are_broken_where_words_end() {
    let graph = large();
    let svg = graph.describe(Format::Svg);
    assert!(svg.contains(">job-customers-per-number-of-</text>"), "{svg}");
    assert!(svg.contains(">events-repartition</text>"), "{svg}");
}

#[test]
fn a_processor_is_shown_with_its_stores_and_timers() {
    let mut g = Graph::new("app");
    let open = StoreName::new("open").unwrap();
    let store = g.add(Kind::Store { store: open, what: "key-value" }, &[]);
    let cards = g.add(Kind::Source { topic: "cards".into(), event_time: false }, &[]);
    let timers = Some(StoreName::new("fraud-timers").unwrap());
    let name = StoreName::new("fraud").unwrap();
    let process = g.add(Kind::Process { name, timers }, &[cards, store]);
    g.add(Kind::Sink { topic: "alarms".into() }, &[process]);
    g.validate().unwrap();
    let part = &g.subtopologies()[0];
    assert_eq!(g.subtopologies().len(), 1, "a store lies where its processors are");
    assert_eq!(
        part.stores.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["open", "fraud-timers"]
    );
    for format in [Format::Text, Format::Mermaid, Format::Dot, Format::Svg, Format::Json] {
        let shown = g.describe(format);
        for word in ["process fraud", "fraud-timers", "store open", "alarms"] {
            assert!(shown.contains(word), "{word}: {shown}");
        }
    }
}
