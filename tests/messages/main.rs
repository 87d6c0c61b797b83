//! What rustc says to the commonest mistakes in a job, word for word.
//!
//! ```text
//!   cases/NAME.rs -- rustc --emit=metadata --extern streams=libstreams-*.rlib --> its words
//!                                                       cases/NAME.stderr <-- equal?
//!   BLESS=1 cargo test --test messages      writes the .stderr files: read what changed
//! ```
//!
//! Why no crate for it: the known one builds the library again, in a project of its own, and RocksDB
//! with it, which takes longer than all tests together. The library that these tests are built with is
//! there already.
//!
//! Invariants
//! * what rustc quotes from the library's own source, and its lists of types, are left out: they
//!   change without the message getting worse.

#![expect(clippy::unwrap_used, reason = "a test fails where something is missing")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/messages/cases")
}

/// The library that was built last, and the directory with all that it was built of.
fn library() -> (PathBuf, PathBuf) {
    let here = env::current_exe().unwrap();
    let dir = here.parent().unwrap().to_owned();
    let of_streams = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with("libstreams-") && name.ends_with(".rlib")
    };
    let built = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).filter(of_streams);
    let newest = built.max_by_key(|path| fs::metadata(path).unwrap().modified().unwrap());
    (newest.expect("cargo builds the library before its tests"), dir)
}

/// What rustc says to a case.
fn told(case: &Path, out: &Path) -> String {
    let (library, dependencies) = library();
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = Command::new(rustc);
    command.args(["--edition=2024", "--crate-type=lib", "--emit=metadata", "--color=never"]);
    command.arg("--extern").arg(format!("streams={}", library.display()));
    command.arg("-L").arg(format!("dependency={}", dependencies.display()));
    command.arg("--out-dir").arg(out).arg(case);
    let output = command.output().unwrap();
    normal(&String::from_utf8(output.stderr).unwrap())
}

/// Without what depends on the machine, or on the insides of the library.
fn normal(told: &str) -> String {
    let cases = format!("{}/", cases().display());
    let mut kept: Vec<String> = Vec::new();
    let (mut is_quote, mut is_list) = (false, false);
    for line in told.replace(&cases, "").lines() {
        let text = line.trim_start();
        is_quote |= ["note: ", "help: "].iter().any(|word| line.starts_with(word));
        is_quote &= !line.is_empty();
        is_list &= !text.starts_with('=') && !line.is_empty();
        is_list |= text.contains("the following other types implement");
        let is_hint = text.contains("`#[warn(unused_must_use)]`");
        if !is_quote && !is_list && !is_hint {
            // The margin is as wide as the numbers of lines in what is left out.
            kept.push(line.trim().to_owned());
        }
    }
    kept.dedup();
    let text = kept.join("\n");
    format!("{}\n", text.trim_end())
}

fn names() -> Vec<PathBuf> {
    let entries = fs::read_dir(cases()).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|e| e == "rs")).collect();
    names.sort();
    names
}

#[test]
fn mistakes_are_answered_with_what_to_do() {
    let out = tempfile::tempdir().unwrap();
    let blesses = env::var_os("BLESS").is_some_and(|value| value == "1");
    let mut changed = Vec::new();
    let names = names();
    assert!(names.len() >= 10, "{names:?}");
    for case in names {
        let told = told(&case, out.path());
        assert!(!told.trim().is_empty(), "{} compiles without a word", case.display());
        let file = case.with_extension("stderr");
        if blesses {
            fs::write(&file, &told).unwrap();
            continue;
        }
        let wanted = fs::read_to_string(&file).unwrap_or_default();
        if told != wanted {
            changed.push(format!("{}\n--- wanted\n{wanted}--- told\n{told}", file.display()));
        }
    }
    assert!(changed.is_empty(), "{}\nif this is better: BLESS=1", changed.join("\n"));
}

/// A case that says nothing of what is wrong would pass for ever: these must be said, whatever is blessed.
#[test]
fn every_message_says_what_is_wrong_and_what_to_do() {
    for (case, wanted) in [
        (
            "window_without_key",
            "this stream has no key, so it cannot be grouped, windowed or joined",
        ),
        ("count_without_key", "choose one first: `.key_by(|click| click.user.clone())`"),
        ("join_without_key", "needs a key"),
        ("windows_that_do_not_speak", "a windowed result must say when it speaks"),
        ("windows_that_do_not_speak", "`.on_close().to(..)` sends one final record per window"),
        ("windows_that_are_dropped", "say when windows speak"),
        ("value_that_is_no_record", "`Click` cannot be stored in a topic or a state store"),
        ("value_that_is_no_record", "add `#[derive(Serialize, Deserialize, Clone)]` to it"),
        ("key_that_is_none", "is not implemented for `f64`"),
        ("key_that_is_none", "keys are String, u64, u32, i64, i32"),
        (
            "wrong_sink",
            "expected `Topic<Windowed<String>, u64, _>`, found `Topic<Windowed<String>, i32>`",
        ),
        ("table_of_another_key", "expected `&Table<String, _>`, found `&Table<u64, String>`"),
        ("stream_that_is_dropped", "a stream does nothing until it reaches"),
    ] {
        let told = fs::read_to_string(cases().join(case).with_extension("stderr")).unwrap();
        assert!(told.contains(wanted), "{case}: `{wanted}` is not in\n{told}");
    }
}
