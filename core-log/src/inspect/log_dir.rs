//! The directory of a log: the small files at its top, `__commits`, and every partition.

use std::collections::BTreeSet;
use std::path::Path;

use super::partition::{self, Contents, proven_text};
use super::{FileKind, Item, Teller};
use crate::log::directory::{self, CLEAN, COMMITS_DIR, LOCK, META, SOCKET, TOPICS};

/// Whether a directory with these names is one of a log.
pub(super) fn is_log(names: &[String]) -> bool {
    names.iter().any(|name| [META, TOPICS].contains(&name.as_str()))
}

/// Tells the files at the top, then all partitions.
pub(super) fn tell(teller: &mut Teller<'_>, dir: &Path, names: &[String]) {
    teller.tell(&Item::Directory { path: dir });
    let has = |name: &str| names.iter().any(|other| other == name);
    for name in [META, TOPICS] {
        if !has(name) {
            teller.problem(None, &format_args!("{name} is missing"));
        }
    }
    let mut wanted = BTreeSet::new();
    for name in [META, TOPICS, CLEAN].into_iter().filter(|name| has(name)) {
        let Some(bytes) = teller.whole(dir, name, FileKind::Text) else { continue };
        let Some(text) = proven_text(teller, &bytes) else { continue };
        let understood = match name {
            META => directory::parse_meta(&dir.join(name), &text).is_ok(),
            TOPICS => {
                let topics: Option<Vec<_>> = text.lines().map(directory::parse_topic).collect();
                for topic in topics.iter().flatten() {
                    let partitions = 0..topic.partitions();
                    wanted.extend(partitions.map(|n| format!("{}-{n}", topic.name())));
                }
                topics.is_some()
            }
            _ => directory::parse_clean(&text).is_some(),
        };
        if !understood {
            teller.problem(None, &"the text is not what stands in such a file");
        }
    }
    if has(COMMITS_DIR) {
        sub_directory(teller, dir, COMMITS_DIR, Contents::Commits);
    } else {
        teller.problem(None, &format_args!("{COMMITS_DIR} is missing: the commit records"));
    }
    for name in &wanted {
        if has(name) {
            sub_directory(teller, dir, name, Contents::Records);
        } else {
            teller.problem(None, &format_args!("{name} is missing: the directory of a partition"));
        }
    }
    let known = [META, TOPICS, CLEAN, COMMITS_DIR, LOCK, SOCKET];
    for name in names.iter().filter(|name| !known.contains(&name.as_str())) {
        if !wanted.contains(name) {
            teller.note(&format!("{name} belongs to no topic of the log; it was not read"));
        }
    }
}

fn sub_directory(teller: &mut Teller<'_>, dir: &Path, name: &str, contents: Contents) {
    let path = dir.join(name);
    match teller.storage.list(&path) {
        Ok(names) => partition::tell(teller, &path, &names, contents),
        Err(error) => {
            teller.problem(None, &format_args!("{name} cannot be listed: {error}"));
        }
    }
}
