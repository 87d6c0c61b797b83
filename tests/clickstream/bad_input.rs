//! Bad input: each mistake ends with a code, what happened, a way out, and nothing changed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use core_log::{BatchBuilder, Durability, Log, NO_HEADERS, TopicSettings};

use super::generator::{Placed, generate};
use super::verifier::verify;
use super::{EXAMPLE, command, fail, requests, stderr, succeed};

/// All that lies below a directory, except for the lock that an owner leaves.
fn content(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.append(&mut content(&path));
        }
        let bytes = if path.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        found.insert(path, bytes);
    }
    found
}

/// Checks the form of an error: code, then a line that says what to do.
fn check(said: &str, code: &str, names: &[&str]) {
    assert!(said.starts_with(&format!("error[{code}]: ")), "{said}");
    assert!(said.contains("\n  help: "), "{said}");
    for name in names {
        assert!(said.contains(name), "no {name}: {said}");
    }
}

#[test]
fn an_access_log_that_is_none_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        fs::write(dir.path().join(name), bytes).unwrap();
        dir.path().join(name).to_str().unwrap().to_owned()
    };
    let log = dir.path().join("log");
    succeed(&log, &["--access-log", &file("good", requests().as_bytes())]);
    let before = content(&log);
    let noise: Vec<u8> =
        (0..50_000_u32).map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let here = dir.path().to_str().unwrap().to_owned();
    for (path, words) in [
        (dir.path().join("no-such-file").to_str().unwrap().to_owned(), "cannot read"),
        (here, "is a directory"),
        (file("empty", b""), "is empty"),
        (file("noise", &noise), "holds no request"),
        (file("prose", b"dear diary,\ntoday\n"), "2 lines"),
    ] {
        check(&fail(&log, &["--access-log", &path], 1), "S016", &[&path, words]);
    }
    check(&fail(&log, &["--access-log"], 2), "S027", &["--access-log wants the path"]);
    check(&fail(&log, &["--acces-log", "x"], 2), "S027", &["did you mean --access-log"]);
    assert_eq!(content(&log), before);
}

#[test]
fn carriage_returns_and_a_line_of_ten_megabytes_are_taken_for_what_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("access.log");
    let text = requests().replace('\n', "\r\n");
    fs::write(&file, format!("{text}{}\n{text}", "x".repeat(10_000_000))).unwrap();
    let shown = succeed(&dir.path().join("log"), &["--access-log", file.to_str().unwrap()]);
    assert!(shown.contains("line 81: longer than 64 KiB"), "{shown}");
    assert!(shown.contains("1 line not parsed") && shown.contains("verified: 160"), "{shown}");
}

#[test]
fn a_directory_of_something_else_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("letter.txt"), "dear").unwrap();
    let before = content(dir.path());
    for args in [
        &[][..],
        &["run"],
        &["tail", "clicks"],
        &["topic", "create", "clicks", "--partitions", "4"],
    ] {
        check(&fail(dir.path(), args, 1), "S015", &["letter.txt", "STREAMS_LOG="]);
        check(&fail(&dir.path().join("letter.txt"), args, 1), "S015", &["is no directory"]);
    }
    assert_eq!(content(dir.path()), before);
}

#[test]
fn where_there_is_no_log_none_is_made_by_those_who_only_read() {
    let dir = tempfile::tempdir().unwrap();
    let none = dir.path().join("none");
    check(&fail(&none, &["run"], 1), "S004", &["`clicks`", "topic create clicks"]);
    check(&fail(&none, &["tail", "clicks"], 1), "S016", &["there is no log in"]);
    check(&fail(&none, &["topic", "create", "a/b", "--partitions", "1"], 1), "S024", &["a/b"]);
    assert!(!none.exists());
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    // Nobody can make a directory in sysfs, root included.
    let dir = Path::new("/sys/headwater");
    check(&fail(dir, &[], 1), "S014", &["/sys/headwater", "STREAMS_LOG="]);
    let create = ["topic", "create", "clicks", "--partitions", "4"];
    check(&fail(dir, &create, 1), "S014", &["/sys/headwater"]);
}

#[test]
fn topics_are_checked_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    succeed(dir.path(), &["topic", "create", "orders", "--partitions", "3"]);
    let topics = || fs::read_to_string(dir.path().join("topics.checkpoint")).unwrap();
    let before = topics();
    let create = |name, partitions, code, exit, words: &str| {
        let args = ["topic", "create", name, "--partitions", partitions];
        check(&fail(dir.path(), &args, exit), code, &[words]);
    };
    create("orders", "3", "S023", 1, "orders");
    let long = "x".repeat(250);
    for name in ["a/b", "..", "", "__commits", &long, "\u{e9}"] {
        create(name, "1", "S024", 1, "is not a valid topic name");
    }
    for partitions in ["0", "1000000000", "-1", "four", "99999999999999999999"] {
        create("new", partitions, "S027", 2, "10000");
    }
    assert_eq!(topics(), before);
}

#[test]
fn a_command_line_that_means_nothing_says_what_was_meant() {
    let dir = tempfile::tempdir().unwrap();
    for (args, meant) in [
        (&["tial"][..], "'tail'"),
        (&["run", "--until-idel", "2s"], "'--until-idle'"),
        (&["run", "--until-idle", "2"], "500ms, 2s, 1m"),
        (&["run", "--threads", "0"], "1 to 1024"),
        (&["tail"], "<TOPIC>"),
        (&["tail", "clicks", "-o", "noon"], "an offset (17), a time"),
        (&["tail", "clicks", "-o", "-5x"], "an offset (17), a time"),
        (&["topic"], "create"),
    ] {
        let said = fail(dir.path(), args, 2);
        assert!(said.contains(meant), "{args:?}: {said}");
    }
    assert_eq!(content(dir.path()).len(), 0);
}

#[test]
fn an_empty_setting_means_the_default_directory() {
    let dir = tempfile::tempdir().unwrap();
    let mut create = command(Path::new(""), &["topic", "create", "clicks", "--partitions", "4"]);
    assert!(create.current_dir(dir.path()).output().unwrap().status.success());
    assert!(dir.path().join("data/clicks-3").is_dir());
}

/// Runs the binary where no file may grow beyond 50 KiB, as on a disk without room.
fn without_room(dir: &Path, args: &str) -> String {
    let shell = format!("trap '' XFSZ; ulimit -f 100; exec \"$0\" {args}");
    let output = Command::new("sh")
        .args(["-c", &shell])
        .arg(EXAMPLE.binary("clickstream"))
        .env("STREAMS_LOG", dir)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    stderr(&output)
}

#[test]
fn a_demo_on_a_disk_without_room_says_so() {
    let dir = tempfile::tempdir().unwrap();
    check(&without_room(dir.path(), ""), "S013", &["no space left to write", "make room"]);
}

#[test]
fn a_job_on_a_disk_without_room_stops_and_goes_on_once_there_is_some() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let settings = || TopicSettings { retention_ms: None, ..TopicSettings::with_partitions(4) };
    let clicks = log.create_topic("clicks", settings()).unwrap();
    log.create_topic("page-counts", settings()).unwrap();
    let mut producer = log.producer(Durability::Os).unwrap();
    for (n, Placed { partition, mut click }) in generate(1, 20_000).enumerate() {
        // Of few pages there would be too few results to fill anything.
        click.page = format!("{}?{}", click.page, n % 3_000);
        let mut batch = BatchBuilder::new();
        let json = serde_json::to_vec(&click).unwrap();
        batch.push(click.at, None, Some(&json), NO_HEADERS).unwrap();
        producer.append(&clicks, partition, &mut batch).unwrap();
    }
    log.close().unwrap();
    let said = without_room(dir.path(), "run --until-idle 500ms");
    assert!(said.contains("error[S013]: no space left to write"), "{said}");
    assert!(said.contains("\n  help: make room"), "{said}");
    succeed(dir.path(), &["run", "--until-idle", "500ms"]);
    let account = verify(&Log::open(dir.path()).unwrap()).unwrap();
    assert!(account.is_exact() && account.written == 20_000, "{account:?}");
}
