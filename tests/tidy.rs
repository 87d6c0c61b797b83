//! The house style made executable: what a reader may rely on in every file of this repository.
//!
//! Why: layering, file sizes and headers decay one small exception at a time. This is the only test
//! that reads sources instead of exercising behaviour.
//!
//! Checks
//! * every `.rs` file opens with a `//!` header;
//! * each `crate::module` edge is in the import table of its crate;
//! * `core_log` and `rocksdb` are named only in the files of `streams` that may know them;
//! * files stay below the size target, or do not grow past their line in `tidy_oversize.txt`;
//! * no banned text, and nothing but ASCII outside string literals.

#[path = "tidy/source.rs"]
mod source;

use std::collections::{BTreeMap, BTreeSet};

use source::{blank_strings, modules_named, root, sources};

// ---------------------------------------------------------------------------------------------
// THINK HARD ABOUT THE LAYERING OF THE PROJECT BEFORE CHANGING THESE TABLES.
//
// module -> the modules of the same crate that it may name. A folder is one module; what happens
// between its files is its own affair. `lib` may name everything.
// ---------------------------------------------------------------------------------------------

const CORE_LOG: &[(&str, &str)] = &[
    ("ids", ""),
    ("locks", ""),
    ("clock", "locks"),
    ("storage", "locks"),
    ("format", "ids"),
    ("error", "ids format"),
    ("segment", "locks ids error clock storage format"),
    ("partition", "locks ids error clock storage format segment"),
    ("commit", "locks ids error clock storage format segment partition"),
    ("config", "locks ids error clock storage format segment partition commit"),
    ("partitioner", ""),
    ("topic", "locks ids error clock storage format segment partition commit config"),
    ("members", "locks ids"),
    (
        "log",
        "locks ids error clock storage format segment partition commit config topic maintenance members",
    ),
    (
        "maintenance",
        "locks ids error clock storage format segment partition commit config topic log",
    ),
    (
        "producer",
        "locks ids error clock storage format segment partition commit config topic log partitioner",
    ),
    ("consumer", "locks ids error clock storage format segment partition commit config topic log"),
    (
        "group",
        "locks ids error clock format partition commit config topic log members consumer producer",
    ),
    ("admin", "locks ids error clock storage format segment partition commit config topic log"),
    ("conformance", "locks ids format segment partition commit log owner"),
    (
        "transaction",
        "locks ids error format partition commit config partitioner topic log producer",
    ),
    ("operators", "locks ids error partition commit log"),
    ("inspect", "locks ids error storage format segment partition commit log"),
    (
        "check",
        "locks ids error clock storage format segment partition commit config topic log owner",
    ),
    (
        "owner",
        "locks ids error clock storage format segment partition commit config topic log consumer operators",
    ),
];

const STREAMS: &[(&str, &str)] = &[
    ("ids", ""),
    ("record", ""),
    ("guide", ""),
    ("time", ""),
    ("codec", ""),
    ("on_error", ""),
    ("printer", ""),
    ("letter", "record"),
    ("shape", ""),
    ("key", "codec"),
    ("store", "ids time codec key"),
    ("error", "ids record time codec key store"),
    ("topology", "ids time error codec key on_error letter"),
    ("at", "time error"),
    ("broker", "ids record time error at"),
    ("settings", "ids time error store broker on_error printer"),
    ("processor", "ids record time error codec key store broker on_error letter printer"),
    ("operator", "ids record time error codec key store topology processor letter"),
    ("dsl", "ids record time error codec key shape store topology processor operator on_error"),
    (
        "runtime",
        "ids record time error codec key store topology broker settings processor operator dsl",
    ),
    (
        "query",
        "ids record time error codec key shape store topology broker settings processor operator dsl runtime",
    ),
    (
        "testing",
        "ids record time error codec key store topology broker settings processor operator dsl runtime on_error letter printer query",
    ),
    (
        "app",
        "ids record time error codec key store topology broker settings processor operator dsl runtime query tool on_error",
    ),
    ("tool", "ids time error topology broker settings dsl runtime query app at record replay"),
    (
        "prelude",
        "on_error ids record time error codec key settings topology broker processor operator dsl query app testing at read replay",
    ),
    ("read", "error codec key record at broker dsl operator"),
    (
        "replay",
        "ids record time error codec key at broker settings topology processor operator dsl runtime app",
    ),
];

/// Where `streams` may name the log: files, and folders ending in a slash.
const NAMES_CORE_LOG: &[&str] =
    &["streams/src/broker/", "streams/src/error.rs", "streams/src/error/", "streams/src/tool/"];
const NAMES_ROCKSDB: &[&str] = &["streams/src/store/rocks.rs"];

const LINES_TARGET: usize = 500;
const LINES_HARD: usize = 800;
const LINES_LIB: usize = 200;
const LINES_UNIT_TESTS: usize = 150;

/// Text that must not stand in code or comments. Parts, joined here, so that this file stays clean.
const BANNED: &[(&[&str], &str)] = &[
    (&["FIX", "ME"], "mend it, or write down the limit as a fact"),
    (&["TO", "DO"], "do it, or leave it out"),
    (&["to_string()", ".contains("], "match on the variant, not on its text"),
    (&["#[", "ignore"], "a test runs or does not exist"),
    (&["#[", "should_panic"], "return the error and match on it"),
    (&["thread::", "sleep("], "wait on a condition with a deadline"),
    (&["#[", "allow("], "use #[expect(.., reason = \"..\")]"),
];
const BANNED_BEFORE_NUMBER: &[&str] = &["Phase ", "Task ", "Increment "];

fn report(problems: impl IntoIterator<Item = String>) {
    let problems: Vec<String> = problems.into_iter().collect();
    assert!(problems.is_empty(), "{} problem(s):\n  {}", problems.len(), problems.join("\n  "));
}

fn check_imports(crate_dir: &str, table: &[(&str, &str)]) {
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        table.iter().map(|(module, uses)| (*module, uses.split(' ').collect())).collect();
    let prefix = format!("{crate_dir}/src/");
    let mut problems = Vec::new();
    for source in sources() {
        let Some(inner) = source.path.strip_prefix(&prefix) else {
            continue;
        };
        let module = inner.split('/').next().unwrap_or(inner).trim_end_matches(".rs");
        if module == "lib" || source.is_unit_test_file() {
            continue;
        }
        let Some(uses) = allowed.get(module) else {
            problems.push(format!("{}: module `{module}` is not in the import table", source.path));
            continue;
        };
        for name in modules_named(&source.production_code()) {
            // A capitalised name or a macro is a re-export of lib.rs; its home module is the honest name.
            let is_module = allowed.contains_key(name.as_str());
            if !is_module {
                problems.push(format!(
                    "{}: `crate::{name}` is not a module; name its home",
                    source.path
                ));
            } else if name != module && !uses.contains(name.as_str()) {
                problems.push(format!("{}: `{module}` may not use `{name}`", source.path));
            }
        }
    }
    report(problems);
}

#[test]
fn imports_of_core_log_point_down_the_table() {
    check_imports("core-log", CORE_LOG);
}

#[test]
fn imports_of_streams_point_down_the_table() {
    check_imports("streams", STREAMS);
}

#[test]
fn the_log_never_names_streams() {
    let mut sources = sources();
    sources.retain(|s| s.path.starts_with("core-log/") && s.code.contains("streams::"));
    report(sources.into_iter().map(|s| s.path));
}

#[test]
fn only_the_named_files_of_streams_know_the_log_and_rocksdb() {
    let may = |path: &str, list: &[&str]| {
        list.iter().any(|allowed| {
            path == *allowed || (allowed.ends_with('/') && path.starts_with(allowed))
        })
    };
    let mut problems = Vec::new();
    for source in sources() {
        if !source.path.starts_with("streams/src/") {
            continue;
        }
        let words: BTreeSet<&str> =
            source.code.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        for (word, list) in [("core_log", NAMES_CORE_LOG), ("rocksdb", NAMES_ROCKSDB)] {
            if words.contains(word) && !may(&source.path, list) {
                problems.push(format!("{}: names `{word}`", source.path));
            }
        }
    }
    report(problems);
}

#[test]
fn every_file_opens_with_a_header() {
    let mut sources = sources();
    sources.retain(|s| !s.text.starts_with("//! "));
    report(sources.into_iter().map(|s| s.path));
}

/// `path lines` per entry: what a file over the target may have at most.
fn oversize() -> BTreeMap<String, usize> {
    let path = root().join("tests/tidy_oversize.txt");
    let text = std::fs::read_to_string(path).expect("tests/tidy_oversize.txt is readable");
    let entries = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let parse = |line: &str| {
        let (path, lines) = line.split_once(' ').expect("an entry is `path lines`");
        (path.to_owned(), lines.parse().expect("an entry ends in a number"))
    };
    entries.map(parse).collect()
}

#[test]
fn files_stay_below_the_size_target_or_do_not_grow() {
    let mut listed = oversize();
    let mut problems = Vec::new();
    for source in sources() {
        let path = &source.path;
        let lines = source.production_lines;
        let is_lib = path.ends_with("src/lib.rs");
        let target = if is_lib { LINES_LIB } else { LINES_TARGET };
        match listed.remove(path) {
            _ if lines > LINES_HARD => {
                problems.push(format!("{path}: {lines} > {LINES_HARD} lines"))
            }
            Some(most) if lines > most => problems.push(format!("{path}: grew to {lines} lines")),
            Some(_) if lines <= target => problems.push(format!("{path}: fits; drop its entry")),
            None if lines > target => problems.push(format!("{path}: {lines} > {target} lines")),
            _ => {}
        }
        let tests = source.unit_test_lines();
        if tests > LINES_UNIT_TESTS {
            problems.push(format!("{path}: {tests} lines of unit tests: give them a file"));
        }
    }
    problems.extend(listed.into_keys().map(|path| format!("{path}: listed, but gone")));
    report(problems);
}

#[test]
fn no_banned_text_stands_in_any_file() {
    let mut problems = Vec::new();
    for source in sources() {
        let is_this_file = source.path == "tests/tidy.rs";
        for (number, line) in source.text.lines().enumerate() {
            for (parts, instead) in BANNED {
                let banned = parts.concat();
                if line.contains(&banned) && !is_this_file {
                    problems.push(format!("{}:{}: `{banned}`: {instead}", source.path, number + 1));
                }
            }
            let comment = line.trim_start().strip_prefix("// ").unwrap_or("");
            if comment.ends_with(';') && ["use ", "mod "].iter().any(|w| comment.starts_with(w)) {
                problems.push(format!("{}:{}: commented-out code", source.path, number + 1));
            }
            for word in BANNED_BEFORE_NUMBER {
                let numbered = line.match_indices(word).any(|(at, _)| {
                    line[at + word.len()..].starts_with(|c: char| c.is_ascii_digit())
                });
                if numbered {
                    problems.push(format!("{}:{}: `{word}` and a number", source.path, number + 1));
                }
            }
        }
    }
    report(problems);
}

#[test]
fn nothing_but_ascii_stands_outside_string_literals() {
    let mut problems = Vec::new();
    for source in sources() {
        let comments_kept = blank_strings(&source.text);
        for (number, line) in comments_kept.lines().enumerate() {
            if !line.is_ascii() {
                problems.push(format!("{}:{}: {}", source.path, number + 1, line.trim()));
            }
        }
    }
    report(problems);
}
