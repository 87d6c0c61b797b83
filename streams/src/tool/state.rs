//! `state list | get | range`: committed rows, of a running job or of one that is stopped.
//!
//! Invariants
//! * what one page shows is of one commit; where several pages were needed, that is said.

use serde_json::json;

use super::args::State;
use super::decode::{Ends, row_text};
use super::table::{Side, cut, grouped, size, table};
use super::{Ended, print, reach};
use crate::app::App;
use crate::error::{Error, Result};
use crate::query::{Answer, PageLine, Question, RowLine, RowsWanted, StoreLine, What};

/// Rows that are asked for at a time.
const PAGE_ROWS: usize = 1_000;
/// Characters of a type that a list shows.
const TYPE_CHARS: usize = 28;

/// Carries out a command under `state`.
pub(super) fn state(app: &App, command: &State) -> Result<Ended> {
    match command {
        State::List { json } => list(app, *json),
        State::Get { store, key, window, json } => {
            let what = What::Get { key: key.clone(), window: *window };
            let found = rows(app, store, what, usize::MAX)?;
            if found.rows.is_empty() && !json {
                let window = window.map_or("", |_| " with a window at that time");
                return print::text(&format!("no row of key {key} in {store}{window}\n"));
            }
            show(app, store, &found, *json)
        }
        State::Range { store, from, to, prefix, limit, json } => {
            let (from, to, prefix) = (from.clone(), to.clone(), prefix.clone());
            let is_all = from.is_none() && to.is_none() && prefix.is_none();
            let found = rows(app, store, What::Range { from, to, prefix }, *limit)?;
            if found.rows.is_empty() && !found.has_more && !json {
                let stretch = if is_all { "" } else { " in that range" };
                return print::text(&format!("no rows in {store}{stretch}\n"));
            }
            show(app, store, &found, *json)
        }
    }
}

/// Rows of all pages, up to a limit.
#[derive(Default)]
struct Found {
    rows: Vec<RowLine>,
    has_more: bool,
    /// The commits that pages were of, when there were several.
    commits: Vec<u64>,
}

fn rows(app: &App, store: &str, what: What, limit: usize) -> Result<Found> {
    let mut found = Found::default();
    let mut wanted = RowsWanted { store: store.to_owned(), what, after: None, limit: 0 };
    loop {
        wanted.limit = (limit - found.rows.len()).min(PAGE_ROWS);
        let page = ask(app, &wanted)?;
        found.rows.extend(page.rows);
        found.commits.extend(page.commits.filter(|commits| found.commits.last() != Some(commits)));
        found.has_more = page.next.is_some();
        wanted.after = page.next;
        if !found.has_more || found.rows.len() >= limit {
            return Ok(found);
        }
    }
}

fn ask(app: &App, wanted: &RowsWanted) -> Result<PageLine> {
    match reach::ask(app, &Question::Rows(wanted.clone()))? {
        Answer::Page(page) => Ok(page),
        _ => unexpected(),
    }
}

pub(super) fn unexpected<T>() -> Result<T> {
    Err(Error::Unanswered { reason: "its answer does not fit the question".to_owned() })
}

fn show(app: &App, store: &str, found: &Found, json: bool) -> Result<Ended> {
    let ends = Ends::inside_if(app.assemble()?.graph.store_ends_inside(store));
    print::output(|out| {
        for row in &found.rows {
            if json {
                writeln!(out, "{}", row_json(store, row))?;
            } else {
                writeln!(out, "{}", row_text(&row.key, &row.value, ends))?;
            }
        }
        if !json && found.has_more {
            // Windows of text do not lie in the order of their keys, and rows of a join have several of a
            // key: there is no key to go on with.
            let is_plain = found.rows.iter().all(|row| !row.key.is_object());
            let or_go_on = if is_plain { ", or go on with --from" } else { "" };
            writeln!(out, ".. and more: raise --limit{or_go_on}")?;
        }
        match (found.commits.first(), found.commits.last()) {
            (Some(first), Some(last)) if first != last && !json => {
                writeln!(
                    out,
                    "read in several pages while the job committed {} times",
                    last - first
                )
            }
            _ => Ok(()),
        }
    })
}

fn row_json(store: &str, row: &RowLine) -> String {
    // By hand, because a map would sort the fields.
    format!(
        "{{\"store\":{},\"partition\":{},\"key\":{},\"timestamp\":{},\"value\":{}}}",
        json!(store),
        row.partition,
        row.key,
        row.timestamp,
        row.value
    )
}

fn list(app: &App, json: bool) -> Result<Ended> {
    let Answer::Stores(stores) = reach::ask(app, &Question::Stores)? else { return unexpected() };
    if json {
        return print::output(|out| {
            stores.iter().try_for_each(|store| {
                let line = serde_json::to_string(store).map_err(std::io::Error::other)?;
                writeln!(out, "{line}")
            })
        });
    }
    let rows: Vec<Vec<String>> = stores.iter().map(store_cells).collect();
    let columns = [
        ("STORE", Side::Left),
        ("KEY", Side::Left),
        ("VALUE", Side::Left),
        ("PARTITIONS", Side::Right),
        ("ROWS", Side::Right),
        ("SIZE", Side::Right),
    ];
    print::text(&table(&columns, &rows))
}

fn store_cells(store: &StoreLine) -> Vec<String> {
    vec![
        store.store.clone(),
        key_text(store),
        cut(&store.value, TYPE_CHARS),
        store.partitions.to_string(),
        rows_text(store),
        size(store.bytes),
    ]
}

fn key_text(store: &StoreLine) -> String {
    let per_window = if store.is_windowed { " per window" } else { "" };
    cut(&store.key, TYPE_CHARS) + per_window
}

/// How many rows, with a sign that there are more than were counted.
pub(super) fn rows_text(store: &StoreLine) -> String {
    let more = if store.has_more { "+" } else { "" };
    format!("{}{more}", grouped(store.rows))
}
