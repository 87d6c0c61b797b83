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

/// The join of the README, word by word.
mod join {
    use streams::prelude::*;

    #[derive(Clone, Debug, Serialize, Deserialize)]
    struct Click {
        user: String,
        page: String,
    }
    #[derive(Clone, Debug, Serialize, Deserialize)]
    struct User {
        country: String,
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Seen {
        page: String,
        country: String,
    }

    const USERS: Topic<String, User> = topic("users");
    const CLICKS: Topic<NoKey, Click> = topic("clicks");
    const SEEN: Topic<String, Seen> = topic("seen");

    fn topology(t: &mut Topology) {
        let users = t.table(USERS, "users"); // the latest row of each key
        t.stream(CLICKS)
            .key_by(|click| click.user.clone())
            .join(&users, |click, user| Seen { page: click.page, country: user.country })
            .to(SEEN);
    }

    #[test]
    fn a_click_gets_the_country_of_its_user() {
        let mut d = TestDriver::new(topology).partitions(3);
        d.send(USERS, "ana".into(), User { country: "Peru".into() });
        d.send(CLICKS, NoKey, Click { user: "ana".into(), page: "/home".into() });
        let seen = Seen { page: "/home".into(), country: "Peru".into() };
        assert_eq!(d.read(SEEN), [("ana".to_owned(), seen)]);
    }
}

/// Code without what formatting may change, and without the first lines that say what a file is.
fn bare(code: &str) -> String {
    let code = code.replace("pub(crate) fn main", "fn main");
    let lines = code.lines().map(|line| line.split(" // ").next().unwrap_or(line));
    let lines = lines.filter(|line| !line.starts_with("//!"));
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
    let job = blocks()[0];
    let shown = |what: &str| blocks().into_iter().find(|block| block.contains(what)).unwrap();
    assert!(here.contains(&bare(shown("#[test]"))));
    assert!(here.contains(&bare(shown(".join(&users"))));
    let topology = job.split("fn main").next().unwrap();
    assert!(here.contains(&bare(topology)));
}
