//! What the README shows is what is there: the job is the demo's, and the test of it passes.

use streams::prelude::*;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Click {
    user: String,
    page: String,
    at: i64,
}

const CLICKS: Topic<NoKey, Click> = topic("clicks");
const COUNTS: Topic<Windowed<String>, u64> = topic("page-counts");

fn topology(t: &mut Topology) {
    t.stream(CLICKS)
        .event_time(|c| c.at)
        .filter(|c| !c.user.starts_with("bot-"))
        .key_by(|c| c.page.clone())
        .window(tumbling(mins(1)).grace(secs(10)))
        .count("clicks-per-page")
        .on_close()
        .to(COUNTS);
}

#[test]
fn counts_per_minute() {
    let mut d = TestDriver::new(topology).partitions(4).seed(7).crash_every(50);
    let click = |user: &str, at| Click { user: user.into(), page: "/home".into(), at };
    d.send(CLICKS, NoKey, click("ana", 5_000));
    d.send(CLICKS, NoKey, click("bot-7", 6_000));
    d.send(CLICKS, NoKey, click("bob", 40_000));
    d.advance_to(70_000);
    let minute = Windowed { key: "/home".to_owned(), start: 0, end: 60_000 };
    assert_eq!(d.read(COUNTS), [(minute, 2)]);
    assert_eq!(d.late(), 0);
}

/// Code without what formatting may change, and without the first lines that say what a file is.
fn bare(code: &str) -> String {
    let code = code.replace("pub(crate) fn main", "fn main");
    let lines = code.lines().filter(|line| !line.starts_with("//!"));
    let text: String = lines.flat_map(|line| line.split_whitespace()).collect();
    text.replace(",}", "}")
}

/// The Rust blocks of the README.
fn blocks() -> Vec<&'static str> {
    let parts = include_str!("../../README.md").split("```rust\n").skip(1);
    parts.map(|part| part.split("```").next().unwrap()).collect()
}

#[test]
fn the_job_of_the_readme_is_the_job_of_the_demo() {
    let job = blocks()[0];
    assert_eq!(bare(job), bare(include_str!("../../examples/clickstream/job.rs")));
    assert!(job.lines().filter(|line| !line.trim().is_empty()).count() <= 22, "{job}");
}

#[test]
fn the_test_in_the_readme_is_the_one_above_and_of_the_same_job() {
    let here = bare(include_str!("readme.rs"));
    let (job, test) = (blocks()[0], blocks()[1]);
    assert!(here.contains(&bare(test)));
    let topology = job.split("fn main").next().unwrap();
    assert!(here.contains(&bare(topology)));
}
