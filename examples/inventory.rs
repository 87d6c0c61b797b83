//! A warehouse: what each order line costs today, and which products are promised more often than they
//! are there. Killed on the way.
//!
//! ```text
//!   products   (key: product) -- table products --------.
//!   lines      (key: line) ----- table lines ------- join on the product's key --> priced
//!                                     |
//!                                     `-- open ones, grouped by product: reserved --.
//!   movements  (key: number) -- by product: units in stock ------------------------ join --> shelves
//! ```
//!
//! Lines change: units, the product itself, and in the end they are shipped or cancelled. A line is priced
//! by the product that it names, a foreign key, and gets another price when either of them changes. What
//! it reserves is added to its product, and taken out again when it changes: the table aggregation
//! subtracts what was there before.
//!
//! The job runs in a child process that is killed (SIGKILL) on the way and runs again to the end. Then every
//! line and every shelf is compared with plain maps over the same records.
//!
//! ```console
//! $ cargo run --example inventory                         # writes, runs, kills, runs again, verifies
//! $ cargo run --example inventory -- topology
//! $ cargo run --example inventory -- state get shelves p-017
//! $ cargo run --example inventory -- state range priced-subscriptions --limit 5
//! $ cargo run --example inventory -- tail priced -o -5
//! ```

#[path = "support/killed.rs"]
mod killed;
mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use killed::{run_and_kill, run_child};
use streams::prelude::*;
use support::{Outcome, dir_of, new_log, run_to_the_end, say, write};

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Product {
    name: String,
    cents: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    Open,
    Shipped,
    Cancelled,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Line {
    product: String,
    units: u64,
    state: State,
}

/// Units that come in, or go.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Movement {
    product: String,
    units: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Priced {
    what: String,
    units: u64,
    cents: u64,
    is_open: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Shelf {
    stock: i64,
    reserved: i64,
}

const PRODUCTS: Topic<String, Product> = topic("products");
const LINES: Topic<u64, Line> = topic("lines");
const MOVEMENTS: Topic<u64, Movement> = topic("movements");
const PRICED: Topic<u64, Priced> = topic("priced");
const SHELVES: Topic<String, Shelf> = topic("shelves");

fn topology(t: &mut Topology) {
    let products = t.table(PRODUCTS, "products");
    let lines = t.table(LINES, "lines");
    // A cancelled line names no product, so it has no price.
    let product = |line: &Line| (line.state != State::Cancelled).then(|| line.product.clone());
    lines.join_on(&products, product, "priced", priced).to(PRICED);

    let reserved = lines
        .filter(|line| line.state == State::Open)
        .group_by(|_, line| (line.product.clone(), line.units))
        .aggregate("reserved", |sum: &mut u64, units| *sum += units, |sum, units| *sum -= units);
    t.stream(MOVEMENTS)
        .key_by(|movement| movement.product.clone())
        .aggregate("stock", |units: &mut i64, movement| *units += movement.units)
        .left_join(&reserved, "shelves", |stock, reserved| Shelf {
            stock,
            reserved: reserved.unwrap_or(0).cast_signed(),
        })
        .to(SHELVES);
}

fn priced(line: Line, product: Product) -> Priced {
    let cents = line.units * product.cents;
    Priced { what: product.name, units: line.units, cents, is_open: line.state == State::Open }
}

fn app() -> App {
    App::new("inventory", topology).log(dir_of("inventory"))
}

fn main() -> ExitCode {
    support::main(app(), demo)
}

const START_MS: i64 = 1_767_607_200_000;
const PRODUCT_COUNT: u64 = 400;
const PRICE_CHANGES: u64 = 2_000;
const LINE_COUNT: u64 = 30_000;
const LINE_CHANGES: u64 = 30_000;
const MOVEMENT_COUNT: u64 = 40_000;

/// Numbers that look random and are the same every time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Some products are asked for more often than others, and some lines name one that nobody sells.
fn product_of(numbers: &mut Numbers) -> String {
    let among = if numbers.below(3) == 0 { PRODUCT_COUNT / 20 } else { PRODUCT_COUNT + 4 };
    format!("p-{:03}", numbers.below(among))
}

fn products() -> Vec<(String, Product)> {
    const KINDS: [&str; 8] = ["oak", "pine", "steel", "glass", "cork", "brass", "slate", "linen"];
    const THINGS: [&str; 10] =
        ["table", "chair", "shelf", "lamp", "desk", "stool", "bench", "chest", "mirror", "rack"];
    let pick =
        |list: &[&str], n: u64| list[usize::try_from(n).unwrap_or(0) % list.len()].to_owned();
    let name = |n: u64| {
        let (kind, thing) = (pick(&KINDS, n), pick(&THINGS, n / 8));
        format!("{kind} {thing} no. {}", 1 + n / 80)
    };
    let mut numbers = Numbers(1);
    let first = 0..PRODUCT_COUNT;
    let all: Vec<u64> =
        first.chain((0..PRICE_CHANGES).map(|_| numbers.below(PRODUCT_COUNT))).collect();
    let mut cents = Numbers(2);
    let product = |n| Product { name: name(n), cents: 500 + cents.below(40_000) };
    let keys = all.iter().map(|n| format!("p-{n:03}"));
    keys.zip(all.iter().copied().map(product)).collect()
}

fn lines() -> Vec<(u64, Line)> {
    let mut numbers = Numbers(3);
    let mut now: Vec<Line> = Vec::new();
    let mut all = Vec::new();
    for number in 0..LINE_COUNT + LINE_CHANGES {
        if number < LINE_COUNT {
            let (product, units) = (product_of(&mut numbers), 1 + numbers.below(5));
            now.push(Line { product, units, state: State::Open });
            all.push(number);
            continue;
        }
        all.push(numbers.below(LINE_COUNT));
    }
    let mut records = Vec::new();
    for (number, at) in (0..).zip(all) {
        let line = &mut now[usize::try_from(at).unwrap_or(0)];
        if number >= LINE_COUNT && line.state == State::Open {
            match numbers.below(5) {
                0 => line.units = 1 + numbers.below(9),
                1 => line.product = product_of(&mut numbers),
                2 => line.state = State::Cancelled,
                _ => line.state = State::Shipped,
            }
        }
        records.push((at, line.clone()));
    }
    records
}

fn movements() -> Vec<(u64, Movement)> {
    let mut numbers = Numbers(4);
    let movement = |number: u64| {
        let among = if numbers.below(3) == 0 { PRODUCT_COUNT / 20 } else { PRODUCT_COUNT };
        let product = format!("p-{:03}", numbers.below(among));
        let units = i64::try_from(numbers.below(11)).unwrap_or(0) - 3;
        (number, Movement { product, units })
    };
    (0..MOVEMENT_COUNT).map(movement).collect()
}

fn timed<K, V>(records: &[(K, V)]) -> impl Iterator<Item = (K, V, i64)>
where
    K: Clone,
    V: Clone,
{
    (START_MS..).zip(records).map(|(at, (key, value))| (key.clone(), value.clone(), at))
}

/// The last rows of a topic.
fn rows<K: Key, V: Data>(dir: &Path, topic: Topic<K, V>) -> Outcome<BTreeMap<K, V>> {
    let mut rows = BTreeMap::new();
    for record in Log::open(dir)?.read(topic) {
        let record = record?;
        match (record.key, record.value) {
            (Some(key), Some(value)) => drop(rows.insert(key, value)),
            (Some(key), None) => drop(rows.remove(&key)),
            (None, _) => return Err("a row of a table has a key".into()),
        }
    }
    Ok(rows)
}

/// The same by plain maps: no join, no aggregation, only the last record of each key.
fn expected(
    products: &[(String, Product)],
    lines: &[(u64, Line)],
    movements: &[(u64, Movement)],
) -> (BTreeMap<u64, Priced>, BTreeMap<String, Shelf>) {
    let products: BTreeMap<_, _> = products.iter().cloned().collect();
    let lines: BTreeMap<_, _> = lines.iter().cloned().collect();
    let mut shelves: BTreeMap<String, Shelf> = BTreeMap::new();
    for (_, movement) in movements {
        let shelf = shelves.entry(movement.product.clone());
        shelf.or_insert(Shelf { stock: 0, reserved: 0 }).stock += movement.units;
    }
    let mut prices = BTreeMap::new();
    for (number, line) in lines {
        if let Some(shelf) = shelves.get_mut(&line.product).filter(|_| line.state == State::Open) {
            shelf.reserved += line.units.cast_signed();
        }
        let product = products.get(&line.product).filter(|_| line.state != State::Cancelled);
        if let Some(product) = product {
            prices.insert(number, priced(line, product.clone()));
        }
    }
    (prices, shelves)
}

fn demo() -> Outcome<bool> {
    let dir = dir_of("inventory");
    let (products, lines, movements) = (products(), lines(), movements());
    let log = new_log(&dir)?;
    write(&log, PRODUCTS, timed(&products))?;
    write(&log, LINES, timed(&lines))?;
    write(&log, MOVEMENTS, timed(&movements))?;
    log.close()?;
    let count = u64::try_from(products.len() + lines.len() + movements.len())?;
    say(&format!(
        "inventory \u{b7} {PRODUCT_COUNT} products \u{b7} {LINE_COUNT} order lines \u{b7} {count} records \u{b7} log {}",
        dir.display()
    ));
    let first = run_and_kill(&dir, count / 3)?;
    say(&format!("  killed (SIGKILL on purpose) after {} records read", first.read));
    run_child(&dir)?;
    let left = run_to_the_end(app())?.records_in;
    say(&format!("  started again, done; started once more: {left} records left to read\n"));

    let (prices, shelves) = (rows(&dir, PRICED)?, rows(&dir, SHELVES)?);
    show(&shelves, &products);
    let open = prices.values().filter(|line| line.is_open);
    let (open_lines, cents) = open.fold((0, 0), |(n, sum), line| (n + 1, sum + line.cents));
    say(&format!("\n  {open_lines} open lines, worth {}", euros(cents)));
    let (wanted_prices, wanted_shelves) = expected(&products, &lines, &movements);
    let exact = first.killed && left == 0 && prices == wanted_prices && shelves == wanted_shelves;
    let verdict = if exact { "verified" } else { "WRONG" };
    say(&format!("{verdict}: {} lines priced, {} shelves counted", prices.len(), shelves.len()));
    Ok(exact)
}

/// The products of which most is missing.
fn show(shelves: &BTreeMap<String, Shelf>, products: &[(String, Product)]) {
    let names: BTreeMap<_, _> = products.iter().map(|(key, p)| (key, &p.name)).collect();
    let mut all: Vec<_> = shelves.iter().map(|(key, s)| (s.stock - s.reserved, key, s)).collect();
    all.sort_by_key(|(free, key, _)| (*free, *key));
    say(&format!("  {:<8}{:<22}{:>8}{:>10}{:>8}", "product", "", "stock", "reserved", "short"));
    for (free, key, shelf) in all.iter().take(8) {
        let name = names.get(key).map_or("", |name| name.as_str());
        let (stock, reserved, short) = (shelf.stock, shelf.reserved, -free);
        say(&format!("  {key:<8}{name:<22}{stock:>8}{reserved:>10}{short:>8}"));
    }
    let short = all.iter().filter(|(free, _, _)| *free < 0).count();
    say(&format!(
        "  {short} of {} products are promised more often than they are there",
        all.len()
    ));
}

fn euros(cents: u64) -> String {
    let (whole, rest) = (cents / 100, cents % 100);
    let digits = whole.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).unwrap_or_default())
        .collect();
    format!("{}.{rest:02} euros", groups.join(" "))
}
