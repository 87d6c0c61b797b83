//! A table is joined by its own key.

use streams::prelude::*;

const CLICKS: Topic<NoKey, String> = topic("clicks");

const USERS: Topic<u64, String> = topic("users");

pub fn topology(t: &mut Topology) {
    let users = t.table(USERS, "users");
    let pages = t.stream(CLICKS).key_by(|page| page.clone());
    pages.join(&users, |page, user| format!("{page}{user}")).for_each(|_| ());
}
