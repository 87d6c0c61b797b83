//! One process owns a directory: a second one is told who, and the first goes on as if nothing had been.

use crate::child::Spec;
use crate::compare::verify;
use crate::directory::create;
use crate::jobs::{Clicks, Job, last_clicks};

#[test]
fn a_second_process_is_refused_with_the_pid_of_the_first_and_harms_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut input = Clicks::of_seed(11).more(50_000);
    input.extend(last_clicks(&input));
    create(dir.path(), Job::TwoHops, &input, true);
    let busy = Spec::busy(dir.path(), Job::TwoHops, 5);
    let mut first = Spec { stays: true, waits_at: Some(25_000), ..busy }.spawn();
    assert!(first.wait_for(|line| line == "waiting"), "{:?}", first.lines);
    for _ in 0..2 {
        let mut second = Spec::new(dir.path(), Job::TwoHops).spawn();
        let status = second.wait();
        assert_eq!(status.code(), Some(1), "{:?}", second.lines);
        let said = second.lines.iter().find(|line| line.starts_with("error[")).unwrap();
        assert!(said.starts_with("error[S006]"), "{said}");
        assert!(said.ends_with(&format!("is in use by process {}", first.pid())), "{said}");
    }
    first.stop();
    first.succeed();
    verify(dir.path(), Job::TwoHops, &input, "beside a second process");
}
