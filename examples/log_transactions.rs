//! Money between accounts: transfers that happen wholly or not at all. Aborted, fenced, killed half-way.
//!
//! ```text
//!   accounts  (key: account)   +1000 to open it, then -n and +n     two records of one transfer lie in
//!   ledger    (key: transfer)  one line for each transfer           different partitions and topics
//!
//!   transfer: accounts -n, accounts +n, ledger, "transfers up to here are done" -- one transaction
//! ```
//!
//! A teller does the transfers in a child process. He finds out half-way that an account has too little,
//! and aborts; he is killed (SIGKILL) with one half of a transfer in the log; the next one goes on behind
//! the last committed transfer. Then two tellers want the same id, and one hangs: the older one cannot
//! commit any more, and the one that hangs is aborted from outside. In the end every balance is compared
//! with the same transfers done on a plain map.
//!
//! ```console
//! $ cargo run --example log_transactions                  # verifies itself; target/demo/log_transactions
//! $ cargo run --example log_transactions -- demo DIR      # the same in another directory
//! $ cargo run --example log_transactions -- balances DIR
//! ```

#[path = "support/own_log.rs"]
mod own_log;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use core_log::{
    AbortOutcome, BufferedTransaction, Error, FetchBound, GroupId, Log, OffsetCommit, Record,
    Topic, TopicSettings, TransactionState,
};
use own_log::{Outcome, committed, finish, fresh_dir, run_child, say, wait_to_be_killed};

const TELLER: &str = "teller";
const ACCOUNTS: u64 = 40;
const OPENING: i64 = 1_000;
const TRANSFERS: u64 = 1_000;

#[derive(Debug, PartialEq, Eq)]
enum Task {
    Demo(Option<PathBuf>),
    Balances(PathBuf),
    /// Does the transfers; stops to be killed in the middle of the n-th.
    Teller(PathBuf, Option<u64>),
}

const USAGE: &str = "usage: log_transactions [demo [DIR] | balances DIR | teller DIR [STOP-AT]]";

fn parse(args: &[OsString]) -> Result<Task, String> {
    let words: Vec<&OsStr> = args.iter().map(OsString::as_os_str).collect();
    match words[..] {
        [] => Ok(Task::Demo(None)),
        [what] if what == "demo" => Ok(Task::Demo(None)),
        [what, dir] if what == "demo" => Ok(Task::Demo(Some(dir.into()))),
        [what, dir] if what == "balances" => Ok(Task::Balances(dir.into())),
        [what, dir] if what == "teller" => Ok(Task::Teller(dir.into(), None)),
        [what, dir, n] if what == "teller" => {
            let at = n.to_string_lossy().parse();
            let at = at.map_err(|_no| format!("{n:?} is no number of a transfer\n{USAGE}"))?;
            Ok(Task::Teller(dir.into(), Some(at)))
        }
        [what] if what == "balances" || what == "teller" => {
            Err(format!("{} needs the directory of a log\n{USAGE}", what.display()))
        }
        _ => Err(format!("log_transactions does not understand {args:?}\n{USAGE}")),
    }
}

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    finish(match parse(&args) {
        Ok(Task::Demo(dir)) => demo(dir),
        Ok(Task::Balances(dir)) => print_balances(&dir),
        Ok(Task::Teller(dir, stop)) => do_transfers(&dir, stop).map(|()| true),
        Err(usage) => Err(usage.into()),
    })
}

/// One transfer; they follow from their numbers, so that everybody knows what should have happened.
#[derive(Clone, Debug)]
struct Transfer {
    number: u64,
    from: String,
    to: String,
    amount: i64,
}

fn account(n: u64) -> String {
    format!("account-{:02}", n % ACCOUNTS)
}

fn transfer(number: u64) -> Transfer {
    let (from, to) = (number * 7 + number / 3, number * 11 + 1);
    let to = if from % ACCOUNTS == to % ACCOUNTS { to + 1 } else { to };
    let amount = i64::try_from(number * 37 % 400).unwrap_or(0) + 1;
    Transfer { number, from: account(from), to: account(to), amount }
}

struct Bank {
    log: Log,
    accounts: Topic,
    ledger: Topic,
}

fn open_bank(dir: &Path) -> Outcome<Bank> {
    let log = core_log::LogOptions::new().create(false).open(dir)?;
    let (accounts, ledger) = (log.topic("accounts")?, log.topic("ledger")?);
    Ok(Bank { log, accounts, ledger })
}

fn new_bank(dir: &Path) -> Outcome<()> {
    let log = Log::open(dir)?;
    let accounts = log.create_topic("accounts", TopicSettings::with_partitions(4))?;
    log.create_topic("ledger", TopicSettings::with_partitions(2))?;
    let mut open = log.transaction(TELLER)?;
    for n in 0..ACCOUNTS {
        let balance = OPENING.to_string();
        open.send(&accounts, Record::keyed(account(n).as_bytes(), balance.as_bytes()))?;
    }
    open.commit()?;
    log.close()?;
    Ok(())
}

impl Bank {
    fn balances(&self) -> Outcome<BTreeMap<String, i64>> {
        let mut balances = BTreeMap::new();
        for record in committed(&self.log, &self.accounts)? {
            *balances.entry(record.key).or_insert(0) += record.value.parse::<i64>()?;
        }
        Ok(balances)
    }

    /// The first transfer that is not done.
    fn next(&self) -> Outcome<u64> {
        let positions = self.log.committed(&GroupId::new(TELLER)?)?;
        let Some(position) = positions.first() else { return Ok(0) };
        Ok(std::str::from_utf8(&position.metadata)?.parse()?)
    }

    fn send(
        &self,
        running: &mut BufferedTransaction,
        account: &str,
        amount: i64,
    ) -> core_log::Result<u32> {
        let amount = amount.to_string();
        running.send(&self.accounts, Record::keyed(account.as_bytes(), amount.as_bytes()))
    }

    /// Says, in the transaction, that transfers below `next` are done.
    fn done_below(&self, running: &mut BufferedTransaction, next: u64) -> Outcome<()> {
        running.offsets([OffsetCommit {
            metadata: next.to_string().into(),
            ..OffsetCommit::new(GroupId::new(TELLER)?, self.accounts.id(), 0, 0)
        }])?;
        Ok(())
    }
}

/// Does the transfers that are left.
fn do_transfers(dir: &Path, stop: Option<u64>) -> Outcome<()> {
    let bank = open_bank(dir)?;
    let mut balances = bank.balances()?;
    let mut refused = 0;
    for number in bank.next()?..TRANSFERS {
        let Transfer { from, to, amount, .. } = transfer(number);
        let mut running = bank.log.transaction(TELLER)?;
        bank.send(&mut running, &to, amount)?;
        if stop == Some(number) {
            // One half is in the log, where readers of committed records do not see it.
            running.flush()?;
            wait_to_be_killed("half a transfer is in the log")?;
        }
        if balances.get(&from).copied().unwrap_or(0) < amount {
            refused += 1;
            running.flush()?;
            running.abort()?;
            continue;
        }
        bank.send(&mut running, &from, -amount)?;
        let line = format!("{from} {to} {amount}");
        let key = number.to_string();
        running.send(&bank.ledger, Record::keyed(key.as_bytes(), line.as_bytes()))?;
        bank.done_below(&mut running, number + 1)?;
        running.commit()?;
        *balances.entry(from).or_insert(0) -= amount;
        *balances.entry(to).or_insert(0) += amount;
    }
    say(&format!("refused {refused}"));
    bank.log.close()?;
    Ok(())
}

/// The same transfers on a plain map: the balances, and the numbers of those that happened.
fn expected() -> (BTreeMap<String, i64>, BTreeSet<u64>) {
    let mut balances: BTreeMap<String, i64> =
        (0..ACCOUNTS).map(|n| (account(n), OPENING)).collect();
    let mut happened = BTreeSet::new();
    for Transfer { number, from, to, amount } in (0..TRANSFERS).map(transfer) {
        if balances.get(&from).is_some_and(|balance| *balance >= amount) {
            *balances.entry(from).or_insert(0) -= amount;
            *balances.entry(to).or_insert(0) += amount;
            happened.insert(number);
        }
    }
    (balances, happened)
}

fn demo(dir: Option<PathBuf>) -> Outcome<bool> {
    let dir = fresh_dir("log_transactions", dir)?;
    say(&format!("log_transactions \u{b7} {}", dir.display()));
    new_bank(&dir)?;
    let (teller, half) = (OsStr::new("teller"), "half a transfer is in the log");
    for stop in ["300", "700"] {
        let killed = run_child(&[teller, dir.as_os_str(), OsStr::new(stop)], Some(half))?.killed;
        if !killed {
            return Err("the teller was done before he could be killed".into());
        }
        say(&format!("  teller killed (SIGKILL) in transfer {stop}: {half}"));
    }
    let ended = run_child(&[teller, dir.as_os_str()], None)?;
    let refused = ended.lines.last().cloned().unwrap_or_default();
    say(&format!("  teller done; the last one {refused} for lack of money, each an abort"));

    let bank = open_bank(&dir)?;
    let is_fenced = contend(&bank)?;
    let is_aborted = abort_from_outside(&bank)?;
    let is_right = verify(&bank)?;
    bank.log.close()?;
    Ok(is_fenced && is_aborted && is_right)
}

/// Two tellers with one id, each in a thread of its own: the older one cannot commit any more.
fn contend(bank: &Bank) -> Outcome<bool> {
    let mut older = bank.log.transaction(TELLER)?;
    bank.send(&mut older, "account-00", 1_000_000)?;
    older.flush()?;
    let newer = bank.log.transaction(TELLER)?;
    let told = std::thread::scope(|scope| {
        let thread = scope.spawn(move || older.commit());
        thread.join().map_err(|_panic| "the older teller panicked")
    })?;
    newer.abort()?;
    match told {
        Err(error @ Error::ProducerFenced { .. }) => {
            say(&format!("  the older of two tellers: {error}"));
            Ok(true)
        }
        other => {
            say(&format!("  the older of two tellers was told {other:?}"));
            Ok(false)
        }
    }
}

/// A teller hangs: who reads committed records waits for him, until somebody aborts his transaction.
fn abort_from_outside(bank: &Bank) -> Outcome<bool> {
    let mut hangs = bank.log.transaction("teller-2")?;
    bank.send(&mut hangs, "account-00", 1_000_000)?;
    hangs.flush()?;
    let info = bank.log.transaction_info("teller-2")?;
    let place = info.partitions.first().ok_or("he has written somewhere")?;
    let first = place.first_offset.ok_or("and it is in the log")?;
    say(&format!(
        "  {} is {}, since offset {first} of {}-{}: readers wait there",
        info.transactional_id, info.state, place.topic, place.partition
    ));
    let waits_at = bank.log.offsets(bank.accounts.id(), place.partition)?.last_stable_offset;
    let outcome = bank.log.abort_transaction("teller-2")?;
    let goes_on = bank.log.offsets(bank.accounts.id(), place.partition)?;
    let told = hangs.commit();
    if let Err(error) = &told {
        say(&format!("  he is told: {error}"));
    }
    Ok(info.state == TransactionState::Open
        && outcome == AbortOutcome::Aborted
        && waits_at == first
        && goes_on.last_stable_offset == goes_on.log_end_offset
        && matches!(told, Err(Error::TransactionAborted { .. })))
}

fn verify(bank: &Bank) -> Outcome<bool> {
    let (balances, happened) = expected();
    let found = bank.balances()?;
    let lines = committed(&bank.log, &bank.ledger)?;
    let numbers: Vec<u64> = lines.iter().map(|l| l.key.parse()).collect::<Result<_, _>>()?;
    let distinct: BTreeSet<u64> = numbers.iter().copied().collect();
    let is_once = numbers.len() == distinct.len() && distinct == happened;
    let total: i64 = found.values().sum();
    let has_all = total == OPENING * i64::try_from(ACCOUNTS)?;
    let mut offsets = 0;
    for partition in 0..bank.accounts.partitions() {
        let of = bank.log.offsets(bank.accounts.id(), partition)?;
        offsets += of.end(FetchBound::LogEnd);
    }
    say(&format!("  {offsets} offsets of accounts are used: records, markers, aborted halves"));
    let is_right = is_once && has_all && found == balances;
    let verdict = if is_right { "verified" } else { "WRONG" };
    let (done, accounts) = (numbers.len(), found.len());
    say(&format!(
        "{verdict}: {done} of {TRANSFERS} transfers happened, each once; {accounts} balances as on a \
         plain map; {total} in all"
    ));
    Ok(is_right)
}

fn print_balances(dir: &Path) -> Outcome<bool> {
    let bank = open_bank(dir)?;
    for (account, balance) in bank.balances()? {
        say(&format!("{account}  {balance}"));
    }
    bank.log.close()?;
    Ok(true)
}
