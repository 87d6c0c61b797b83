//! Joins of every kind, beside many other rows of what they look up.
//!
//! ```text
//!   stream-table, global      orders look up users; ROWS other users
//!   stream-versioned table    orders look up where users lived before they moved; ROWS other users, who moved too
//!   stream-stream             each order and its payment; ROWS other orders wait for theirs
//!   table-table               the users' last orders beside their countries; ROWS other countries
//!   foreign key               the users' last orders and their items; ROWS other items
//! ```

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use streams::prelude::*;

use crate::beside::{Beside, Compared, same_records, same_rows};
use crate::records::{
    ORDERS, Order, RECEIPTS, Receipt, START_MS, WARM, order, time, user, write, write_orders,
};

const USERS: Topic<String, String, Bincode> = topic("users").bincode();
const PAYMENTS: Topic<String, u64, Bincode> = topic("payments").bincode();
const ITEMS: Topic<String, String, Bincode> = topic("items").bincode();
/// How many items orders are of.
const ORDERED_ITEMS: u64 = 1_000;

pub(crate) const JOINS: [Beside; 6] = [
    Beside {
        what: "stream-table join",
        topology: with_users,
        build: users,
        fill: fresh_orders,
        records_each: 1,
        verify: each_order_has_its_country,
    },
    Beside {
        what: "stream-versioned table join",
        topology: with_users_as_they_were,
        build: users_who_moved,
        fill: fresh_orders,
        records_each: 1,
        verify: each_order_has_its_country,
    },
    Beside {
        what: "global table join",
        topology: with_all_users,
        build: all_users,
        fill: fresh_orders,
        records_each: 1,
        verify: each_order_has_its_buyer,
    },
    Beside {
        what: "stream-stream join",
        topology: with_payments,
        build: unpaid,
        fill: orders_and_payments,
        records_each: 2,
        verify: each_order_is_paid,
    },
    Beside {
        what: "table-table join",
        topology: last_orders,
        build: users,
        fill: fresh_orders,
        records_each: 1,
        verify: each_user_has_the_last_order,
    },
    Beside {
        what: "foreign-key join",
        topology: last_items,
        build: items,
        fill: fresh_orders,
        records_each: 1,
        verify: each_user_has_the_last_item,
    },
];

fn in_country(order: Order, country: String) -> Receipt {
    Receipt { item: country, cents: order.cents }
}

fn with_users(t: &mut Topology) {
    let users = t.table(USERS, "users");
    t.stream(ORDERS).join(&users, in_country).to(RECEIPTS);
}

fn with_users_as_they_were(t: &mut Topology) {
    let users = t.versioned_table(USERS, "users", days(1));
    t.stream(ORDERS).join(&users, in_country).to(RECEIPTS);
}

fn with_all_users(t: &mut Topology) {
    let users = t.global_table(USERS, "users");
    t.stream(ORDERS).join_global(&users, |order| buyer(order.cents), in_country).to(RECEIPTS);
}

/// The user whom a global table is asked for: any key will do, so it is not the record's.
fn buyer(cents: u64) -> String {
    format!("user-{}", cents % WARM)
}

fn with_payments(t: &mut Topology) {
    let payments = t.stream(PAYMENTS);
    t.stream(ORDERS)
        .join_within(payments, hours(1), "paid", |order, cents| Receipt { item: order.item, cents })
        .to(RECEIPTS);
}

fn last_orders(t: &mut Topology) {
    let users = t.table(USERS, "users");
    t.table(ORDERS, "orders").join(&users, "last-orders", in_country).to(RECEIPTS);
}

fn last_items(t: &mut Topology) {
    let items = t.table(ITEMS, "items");
    t.table(ORDERS, "orders")
        .join_on(
            &items,
            |order| order.item.clone(),
            "last-items",
            |order, item| Receipt { item, cents: order.cents },
        )
        .to(RECEIPTS);
}

fn country(user: u64) -> String {
    format!("country-{}", user % 200)
}

fn users(dir: &Path, rows: u64) -> u64 {
    write(dir, USERS, 0..WARM + rows, |n| (format!("user-{n}"), country(n), START_MS));
    WARM + rows
}

/// They move after all orders: what these look up is not the latest row.
fn users_who_moved(dir: &Path, rows: u64) -> u64 {
    let moved = time(3_600_000_000);
    let written = users(dir, rows);
    write(dir, USERS, 0..WARM + rows, |n| (format!("user-{n}"), "elsewhere".into(), moved));
    written + WARM + rows
}

/// A job does not count the records of a global table, which every task reads.
fn all_users(dir: &Path, rows: u64) -> u64 {
    users(dir, rows);
    0
}

fn items(dir: &Path, rows: u64) -> u64 {
    let record = |n| (format!("item-{n}"), format!("thing {n}"), START_MS);
    write(dir, ITEMS, 0..ORDERED_ITEMS + rows, record);
    ORDERED_ITEMS + rows
}

fn fresh_orders(dir: &Path, numbers: Range<u64>) -> u64 {
    write_orders(dir, WARM, numbers.clone());
    numbers.end - numbers.start
}

/// Orders that nobody will pay.
fn unpaid(dir: &Path, rows: u64) -> u64 {
    write(dir, ORDERS, 0..rows, |n| (format!("other-{n}"), order(n), time(n)));
    rows
}

fn orders_and_payments(dir: &Path, numbers: Range<u64>) -> u64 {
    write(dir, ORDERS, numbers.clone(), |n| (format!("order-{n}"), order(n), time(n)));
    write(dir, PAYMENTS, numbers.clone(), |n| (format!("order-{n}"), n % 10_000, time(n)));
    2 * (numbers.end - numbers.start)
}

fn user_number(user: &str) -> u64 {
    user.trim_start_matches("user-").parse().expect("a user has a number")
}

fn each_order_has_its_country(dir: &Path, numbers: u64) -> Compared {
    let receipt = |n| {
        let user = user(n, WARM);
        let country = country(user_number(&user));
        (user, in_country(order(n), country))
    };
    same_records(dir, RECEIPTS, (0..numbers).map(receipt))
}

fn each_order_has_its_buyer(dir: &Path, numbers: u64) -> Compared {
    let receipt = |n| {
        let order = order(n);
        let country = country(user_number(&buyer(order.cents)));
        (user(n, WARM), in_country(order, country))
    };
    same_records(dir, RECEIPTS, (0..numbers).map(receipt))
}

fn each_order_is_paid(dir: &Path, numbers: u64) -> Compared {
    let receipt = |n| (format!("order-{n}"), Receipt { item: order(n).item, cents: n % 10_000 });
    same_records(dir, RECEIPTS, (0..numbers).map(receipt))
}

fn each_user_has_the_last_order(dir: &Path, numbers: u64) -> Compared {
    let last = (0..numbers).map(|n| {
        let user = user(n, WARM);
        let country = country(user_number(&user));
        (user, in_country(order(n), country))
    });
    same_rows(dir, RECEIPTS, |_| true, &last.collect::<BTreeMap<_, _>>())
}

fn each_user_has_the_last_item(dir: &Path, numbers: u64) -> Compared {
    let last = (0..numbers).map(|n| {
        let order = order(n);
        let item = format!("thing {}", order.item.trim_start_matches("item-"));
        (user(n, WARM), Receipt { item, cents: order.cents })
    });
    same_rows(dir, RECEIPTS, |_| true, &last.collect::<BTreeMap<_, _>>())
}
