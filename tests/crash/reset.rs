//! A reset that is killed has happened wholly, or not at all.
//!
//! ```text
//!   run to the end -- reset --to start --yes, killed after 0 to two of its usual times --.
//!        ^                                                                               |
//!        `---- every window is told once more, or none is; now and then a run is killed too
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use core_log::{Clock, SystemClock};

use crate::child::Child;
use crate::directory::{create, open, read};
use crate::jobs::{Clicks, Job, last_clicks};
use crate::kills::{example, seed};
use crate::random::Random;

const CLICKS: usize = 4_000;
const RESETS: u64 = 14;

fn command(dir: &Path, args: &[&str]) -> Command {
    static EXAMPLE: OnceLock<PathBuf> = OnceLock::new();
    let mut command = Command::new(EXAMPLE.get_or_init(example));
    command.args(args).env("STREAMS_LOG", dir).env_remove("RUST_LOG");
    command
}

fn run(dir: &Path) -> Child {
    Child::spawn(&mut command(dir, &["run", "--until-idle", "300ms", "--progress"]))
}

/// What was said of each window: key, and every value in order.
fn told(dir: &Path) -> BTreeMap<Vec<u8>, Vec<Vec<u8>>> {
    let log = open(dir);
    let mut told: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
    for record in read(&log, "page-counts") {
        told.entry(record.key.unwrap()).or_default().push(record.value.unwrap());
    }
    log.close().unwrap();
    told
}

#[test]
fn a_killed_reset_has_happened_wholly_or_not_at_all() {
    let seed = seed();
    let dir = tempfile::tempdir().unwrap();
    let mut input = Clicks::of_seed(seed).more(CLICKS);
    input.extend(last_clicks(&input));
    create(dir.path(), Job::Clickstream, &input, false);
    run(dir.path()).succeed();
    let once = told(dir.path());
    assert!(once.len() > 20 && once.values().all(|said| said.len() == 1), "seed {seed}");
    let mut random = Random::new(seed);
    let clock = SystemClock::new();
    let (mut times, mut usual, mut killed) = (1, Duration::from_millis(40), 0);
    for _ in 0..RESETS {
        let began = clock.monotonic();
        let mut reset =
            Child::spawn(&mut command(dir.path(), &["reset", "--to", "start", "--yes"]));
        let micros = u64::try_from(usual.as_micros()).unwrap();
        reset.let_run(Duration::from_micros(random.below(2 * micros)));
        reset.kill();
        let was_done = reset.is_done();
        if was_done {
            usual = clock.monotonic() - began;
        }
        killed += u64::from(!was_done);
        if random.below(3) == 0 {
            let mut job = run(dir.path());
            job.let_run(Duration::from_millis(random.below(150)));
            job.kill();
        }
        run(dir.path()).succeed();
        let now = told(dir.path());
        let again = now.values().next().map_or(0, Vec::len);
        let story = format!("seed {seed}: told {again} times, {times} before, done: {was_done}");
        assert!(again == times + 1 || (again == times && !was_done), "{story}");
        times = again;
        for (window, said) in &now {
            let first =
                once.get(window).unwrap_or_else(|| panic!("{story}: a window out of nothing"));
            assert_eq!(*said, vec![first[0].clone(); times], "{story}");
        }
        assert_eq!(now.len(), once.len(), "{story}");
    }
    assert!(killed > 0, "seed {seed}: no reset was killed");
}
