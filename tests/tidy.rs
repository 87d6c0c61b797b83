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

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

// ---------------------------------------------------------------------------------------------
// THINK HARD ABOUT THE LAYERING OF THE PROJECT BEFORE CHANGING THESE TABLES.
//
// module -> the modules of the same crate that it may name. A folder is one module; what happens
// between its files is its own affair. `lib` may name everything.
// ---------------------------------------------------------------------------------------------

const CORE_LOG: &[(&str, &str)] = &[
    ("ids", ""),
    ("clock", ""),
    ("storage", ""),
    ("format", "ids"),
    ("error", "ids format"),
    ("segment", "ids error clock storage format"),
    ("partition", "ids error clock storage format segment"),
    ("commit", "ids error clock storage format segment partition"),
    (
        "config",
        "ids error clock storage format segment partition commit",
    ),
    ("partitioner", ""),
    (
        "topic",
        "ids error clock storage format segment partition commit config",
    ),
    (
        "log",
        "ids error clock storage format segment partition commit config topic maintenance",
    ),
    (
        "maintenance",
        "ids error clock storage format segment partition commit config topic log",
    ),
    (
        "producer",
        "ids error clock storage format segment partition commit config topic log",
    ),
    (
        "consumer",
        "ids error clock storage format segment partition commit config topic log",
    ),
    (
        "admin",
        "ids error clock storage format segment partition commit config topic log",
    ),
    (
        "owner",
        "ids error clock storage format segment partition commit config topic log consumer",
    ),
];

const STREAMS: &[(&str, &str)] = &[
    ("ids", ""),
    ("time", "ids"),
    ("codec", ""),
    ("key", "codec"),
    ("store", "ids time codec key"),
    ("error", "ids time codec key store"),
    ("settings", "ids error"),
    ("topology", "ids time error codec key"),
    ("broker", "ids time error"),
    ("processor", "ids time error codec key store"),
    (
        "operator",
        "ids time error codec key store topology processor",
    ),
    (
        "dsl",
        "ids time error codec key store topology processor operator",
    ),
    (
        "runtime",
        "ids time error codec key settings store topology broker processor operator",
    ),
    (
        "testing",
        "ids time error codec key settings store topology broker processor operator dsl runtime",
    ),
    (
        "app",
        "ids time error codec key settings store topology broker processor operator dsl runtime tool",
    ),
    ("tool", "ids time error codec key settings topology app"),
    (
        "prelude",
        "ids time error codec key settings topology dsl app testing",
    ),
];

/// Where `streams` may name the log: files, and folders ending in a slash.
const NAMES_CORE_LOG: &[&str] = &[
    "streams/src/broker/embedded.rs",
    "streams/src/error.rs",
    "streams/src/tool/",
];
const NAMES_ROCKSDB: &[&str] = &["streams/src/store/rocks.rs"];

const LINES_TARGET: usize = 500;
const LINES_HARD: usize = 800;
const LINES_LIB: usize = 200;
const LINES_UNIT_TESTS: usize = 150;

/// Text that must not stand in code or comments. Parts, joined here, so that this file stays clean.
const BANNED: &[(&[&str], &str)] = &[
    (&["FIX", "ME"], "mend it, or write down the limit as a fact"),
    (&["TO", "DO"], "do it, or leave it out"),
    (
        &["to_string()", ".contains("],
        "match on the variant, not on its text",
    ),
    (&["#[", "ignore"], "a test runs or does not exist"),
    (&["#[", "should_panic"], "return the error and match on it"),
    (
        &["thread::", "sleep("],
        "wait on a condition with a deadline",
    ),
    (&["#[", "allow("], "use #[expect(.., reason = \"..\")]"),
];
const BANNED_BEFORE_NUMBER: &[&str] = &["Phase ", "Task ", "Increment "];

/// One source file, split into what ships and what tests it.
struct Source {
    /// Relative to the repository, with forward slashes.
    path: String,
    text: String,
    /// The text with comments and the contents of literals blanked; line structure is kept.
    code: String,
    /// Number of lines before the `#[cfg(test)]` module, or all of them.
    production_lines: usize,
}

impl Source {
    fn production_code(&self) -> String {
        let lines: Vec<&str> = self.code.lines().take(self.production_lines).collect();
        lines.join("\n")
    }

    fn unit_test_lines(&self) -> usize {
        self.text.lines().count() - self.production_lines
    }

    fn is_unit_test_file(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(dir).expect("a directory of the repository is readable");
    for entry in entries {
        let path = entry.expect("a directory entry is readable").path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn sources() -> Vec<Source> {
    let mut paths = Vec::new();
    for folder in ["core-log", "streams", "examples", "benches", "tests"] {
        let dir = root().join(folder);
        if dir.is_dir() {
            collect(&dir, &mut paths);
        }
    }
    paths.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("a source file is UTF-8");
        let code = blank_comments_and_literals(&text);
        let relative = path.strip_prefix(root()).expect("collected below the root");
        Source {
            path: relative.to_string_lossy().replace('\\', "/"),
            production_lines: lines_before_unit_tests(&code),
            text,
            code,
        }
    };
    paths.into_iter().map(read).collect()
}

fn lines_before_unit_tests(code: &str) -> usize {
    let lines: Vec<&str> = code.lines().collect();
    let opens_tests = |pair: &[&str]| {
        pair[0].trim_start().starts_with("#[cfg(test)]")
            && pair[1].trim_start().starts_with("mod ")
            && pair[1].trim_end().ends_with('{')
    };
    lines
        .windows(2)
        .position(opens_tests)
        .unwrap_or(lines.len())
}

/// Replaces comments and the contents of string and character literals by spaces.
fn blank_comments_and_literals(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out: Vec<char> = Vec::with_capacity(chars.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match literal_end(&chars, at) {
            Some(end) => end,
            None => {
                out.push(chars[at]);
                at += 1;
                continue;
            }
        };
        for &c in &chars[at..end] {
            out.push(if c == '\n' { '\n' } else { ' ' });
        }
        at = end;
    }
    out.into_iter().collect()
}

/// The end of the comment or literal that starts at `at`, if one does.
fn literal_end(chars: &[char], at: usize) -> Option<usize> {
    let starts = |pattern: &str| {
        pattern
            .chars()
            .enumerate()
            .all(|(i, c)| chars.get(at + i) == Some(&c))
    };
    if starts("//") {
        return Some(find(chars, at, |rest| rest[0] == '\n'));
    }
    if starts("/*") {
        return Some((find(chars, at, |rest| rest.starts_with(&['*', '/'])) + 2).min(chars.len()));
    }
    let before_is_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    if chars[at] == 'r' && !before_is_word {
        let hashes = chars[at + 1..].iter().take_while(|&&c| c == '#').count();
        if chars.get(at + 1 + hashes) == Some(&'"') {
            let close = |rest: &[char]| {
                rest[0] == '"' && rest[1..].iter().take_while(|&&c| c == '#').count() >= hashes
            };
            let body = at + hashes + 2;
            return Some((find(chars, body, close) + 1 + hashes).min(chars.len()));
        }
    }
    if chars[at] == '"' {
        return Some(quoted_end(chars, at + 1, '"'));
    }
    let is_char =
        chars[at] == '\'' && (chars.get(at + 1) == Some(&'\\') || chars.get(at + 2) == Some(&'\''));
    is_char.then(|| quoted_end(chars, at + 1, '\''))
}

fn find(chars: &[char], from: usize, matches: impl Fn(&[char]) -> bool) -> usize {
    (from..chars.len())
        .find(|&i| matches(&chars[i..]))
        .unwrap_or(chars.len())
}

fn quoted_end(chars: &[char], mut at: usize, quote: char) -> usize {
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            c if c == quote => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// The modules that follow `crate::` in `code`, groups in braces included.
fn modules_named(code: &str) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for (position, prefix) in code.match_indices("crate::") {
        let before = code[..position].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[position + prefix.len()..];
        match rest.strip_prefix('{') {
            Some(group) => named.extend(top_level_names(group)),
            None => named.extend(first_word(rest)),
        }
    }
    named
}

fn first_word(text: &str) -> Option<String> {
    let word: String = text
        .trim_start()
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect();
    (!word.is_empty()).then_some(word)
}

/// First path segments of a `{a::b, c::{d, e}}` group, given what follows its opening brace.
fn top_level_names(group: &str) -> Vec<String> {
    let mut depth = 0;
    let mut item = String::new();
    let mut names = Vec::new();
    for c in group.chars() {
        match c {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => names.extend(first_word(&std::mem::take(&mut item))),
            _ if depth == 0 => item.push(c),
            _ => {}
        }
    }
    names.extend(first_word(&item));
    names
}

fn report(problems: &[String]) {
    let mut text = String::new();
    for problem in problems {
        writeln!(text, "  {problem}").expect("writing to a string cannot fail");
    }
    assert!(
        problems.is_empty(),
        "{} problem(s):\n{text}",
        problems.len()
    );
}

fn check_imports(crate_dir: &str, table: &[(&str, &str)]) {
    let allowed: BTreeMap<&str, BTreeSet<&str>> = table
        .iter()
        .map(|(module, uses)| (*module, uses.split(' ').collect()))
        .collect();
    let prefix = format!("{crate_dir}/src/");
    let mut problems = Vec::new();
    for source in sources() {
        let Some(inner) = source.path.strip_prefix(&prefix) else {
            continue;
        };
        let module = inner
            .split('/')
            .next()
            .unwrap_or(inner)
            .trim_end_matches(".rs");
        if module == "lib" || source.is_unit_test_file() {
            continue;
        }
        let Some(uses) = allowed.get(module) else {
            problems.push(format!(
                "{}: module `{module}` is not in the import table",
                source.path
            ));
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
    report(&problems);
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
    let sources = sources();
    let named = |source: &&Source| {
        source.path.starts_with("core-log/") && source.code.contains("streams::")
    };
    report(
        &sources
            .iter()
            .filter(named)
            .map(|s| s.path.clone())
            .collect::<Vec<_>>(),
    );
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
        let words: BTreeSet<&str> = source
            .code
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .collect();
        for (word, list) in [("core_log", NAMES_CORE_LOG), ("rocksdb", NAMES_ROCKSDB)] {
            if words.contains(word) && !may(&source.path, list) {
                problems.push(format!("{}: names `{word}`", source.path));
            }
        }
    }
    report(&problems);
}

#[test]
fn every_file_opens_with_a_header() {
    let sources = sources();
    let bare = |source: &&Source| !source.text.starts_with("//! ");
    report(
        &sources
            .iter()
            .filter(bare)
            .map(|s| format!("{}: no `//!` header", s.path))
            .collect::<Vec<_>>(),
    );
}

/// `path lines` per entry: what a file over the target may have at most.
fn oversize() -> BTreeMap<String, usize> {
    let path = root().join("tests/tidy_oversize.txt");
    let text = std::fs::read_to_string(path).expect("tests/tidy_oversize.txt is readable");
    let entries = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let parse = |line: &str| {
        let (path, lines) = line.split_once(' ').expect("an entry is `path lines`");
        (
            path.to_owned(),
            lines.parse().expect("an entry ends in a number"),
        )
    };
    entries.map(parse).collect()
}

#[test]
fn files_stay_below_the_size_target_or_do_not_grow() {
    let mut listed = oversize();
    let mut problems = Vec::new();
    for source in sources() {
        let lines = source.production_lines;
        let is_lib = source.path.ends_with("src/lib.rs");
        let target = if is_lib { LINES_LIB } else { LINES_TARGET };
        let entry = listed.remove(&source.path);
        match entry {
            _ if lines > LINES_HARD => {
                problems.push(format!(
                    "{}: {lines} lines, {LINES_HARD} at most",
                    source.path
                ));
            }
            Some(most) if lines > most => {
                problems.push(format!(
                    "{}: grew from {most} to {lines} lines",
                    source.path
                ));
            }
            Some(_) if lines <= target => {
                problems.push(format!(
                    "{}: fits now; drop it from tidy_oversize.txt",
                    source.path
                ));
            }
            None if lines > target => {
                problems.push(format!(
                    "{}: {lines} lines, target {target}: split it",
                    source.path
                ));
            }
            _ => {}
        }
        let tests = source.unit_test_lines();
        let tests_listed = listed.remove(&format!("{}#tests", source.path));
        if tests > tests_listed.unwrap_or(LINES_UNIT_TESTS) {
            problems.push(format!(
                "{}: {tests} lines of unit tests: move them to a file",
                source.path
            ));
        }
    }
    problems.extend(
        listed
            .keys()
            .map(|path| format!("{path}: in tidy_oversize.txt, but gone")),
    );
    report(&problems);
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
                    problems.push(format!(
                        "{}:{}: `{banned}`: {instead}",
                        source.path,
                        number + 1
                    ));
                }
            }
            let comment = line.trim_start().strip_prefix("// ").unwrap_or("");
            if comment.ends_with(';') && ["use ", "mod "].iter().any(|w| comment.starts_with(w)) {
                problems.push(format!(
                    "{}:{}: commented-out code",
                    source.path,
                    number + 1
                ));
            }
            for word in BANNED_BEFORE_NUMBER {
                let numbered = line.match_indices(word).any(|(at, _)| {
                    line[at + word.len()..].starts_with(|c: char| c.is_ascii_digit())
                });
                if numbered {
                    problems.push(format!(
                        "{}:{}: `{word}` and a number",
                        source.path,
                        number + 1
                    ));
                }
            }
        }
    }
    report(&problems);
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
    report(&problems);
}

/// As `blank_comments_and_literals`, but comments stay.
fn blank_strings(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_end(&chars, at).unwrap_or(at + 1);
        let is_literal = end > at + 1 && chars[at] != '/';
        out.extend(
            chars[at..end]
                .iter()
                .map(|&c| if is_literal && c != '\n' { ' ' } else { c }),
        );
        at = end;
    }
    out
}

#[test]
fn the_reader_of_sources_sees_through_comments_strings_and_groups() {
    let text = "use crate::{log::{Log, x}, ids};\n// crate::no\nlet a = \"crate::no // \"; let b = '\"';\n\
                let c = r#\"crate::no\"#; fn f<'a>(x: &'a str) { crate::topic::f() }\n";
    let named = modules_named(&blank_comments_and_literals(text));
    assert_eq!(
        named,
        ["ids", "log", "topic"]
            .map(str::to_owned)
            .into_iter()
            .collect()
    );
    assert_eq!(
        blank_strings("a // b\nlet c = \"d\";"),
        "a // b\nlet c =    ;"
    );
}

#[test]
fn unit_tests_do_not_count_as_production_lines() {
    let code = "fn a() {}\n\n#[cfg(test)]\nmod tests {\n}\n";
    assert_eq!(lines_before_unit_tests(code), 2);
    assert_eq!(
        lines_before_unit_tests("#[cfg(test)]\nmod tests;\nfn a() {}\n"),
        3
    );
}
