//! A source file as the tidy test sees it: what ships, what tests it, and which modules it names.
//!
//! Why a small reader of its own: a match inside a comment or a string is no import, and pulling in a
//! parser for one test would cost more than these few lines.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// One source file, split into what ships and what tests it.
pub(crate) struct Source {
    /// Relative to the repository, with forward slashes.
    pub path: String,
    pub text: String,
    /// The text with comments and the contents of literals blanked; line structure is kept.
    pub code: String,
    /// Number of lines before the `#[cfg(test)]` module, or all of them.
    pub production_lines: usize,
}

impl Source {
    pub(crate) fn production_code(&self) -> String {
        let lines: Vec<&str> = self.code.lines().take(self.production_lines).collect();
        lines.join("\n")
    }

    pub(crate) fn unit_test_lines(&self) -> usize {
        self.text.lines().count() - self.production_lines
    }

    pub(crate) fn is_unit_test_file(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }
}

pub(crate) fn root() -> PathBuf {
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

pub(crate) fn sources() -> Vec<Source> {
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
    lines.windows(2).position(opens_tests).unwrap_or(lines.len())
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
    let starts =
        |pattern: &str| pattern.chars().enumerate().all(|(i, c)| chars.get(at + i) == Some(&c));
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
    (from..chars.len()).find(|&i| matches(&chars[i..])).unwrap_or(chars.len())
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
pub(crate) fn modules_named(code: &str) -> BTreeSet<String> {
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
    let word: String =
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
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

/// As `blank_comments_and_literals`, but comments stay.
pub(crate) fn blank_strings(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_end(&chars, at).unwrap_or(at + 1);
        let is_literal = end > at + 1 && chars[at] != '/';
        out.extend(chars[at..end].iter().map(|&c| if is_literal && c != '\n' { ' ' } else { c }));
        at = end;
    }
    out
}

#[test]
fn the_reader_of_sources_sees_through_comments_strings_and_groups() {
    let text = "use crate::{log::{Log, x}, ids};\n// crate::no\nlet a = \"crate::no // \"; let b = '\"';\n\
                let c = r#\"crate::no\"#; fn f<'a>(x: &'a str) { crate::topic::f() }\n";
    let named = modules_named(&blank_comments_and_literals(text));
    assert_eq!(named, ["ids", "log", "topic"].map(str::to_owned).into_iter().collect());
    assert_eq!(blank_strings("a // b\nlet c = \"d\";"), "a // b\nlet c =    ;");
}

#[test]
fn unit_tests_do_not_count_as_production_lines() {
    let code = "fn a() {}\n\n#[cfg(test)]\nmod tests {\n}\n";
    assert_eq!(lines_before_unit_tests(code), 2);
    assert_eq!(lines_before_unit_tests("#[cfg(test)]\nmod tests;\nfn a() {}\n"), 3);
}
