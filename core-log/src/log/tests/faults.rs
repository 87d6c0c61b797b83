//! One or two calls of the disk fail, or the process is killed, at every operation of a workload; the
//! log recovers and goes on with what it finds, and later the power goes.
//!
//! Why beside `power_cut`: what a failed or a killed process left can be read and is not on the disk;
//! whoever builds on it must make it durable first.

use std::io::ErrorKind;

use super::power_cut::{Model, ROUNDS, Workload, check, keeps, operations};
use crate::storage::memory::{At, Effect, Fault, MemoryStorage};

const EFFECTS: [Effect; 4] = [
    Effect::Error(ErrorKind::StorageFull),
    Effect::Error(ErrorKind::Other),
    Effect::ShortWrite { keep: 37 },
    Effect::LoseSync,
];

/// Tries again as long as a planned fault may still strike.
fn retry<T, E: std::fmt::Debug>(mut attempt: impl FnMut() -> Result<T, E>) -> T {
    attempt().or_else(|_first| attempt()).or_else(|_second| attempt()).unwrap()
}

/// Runs `rounds` to their end, with fresh writers on the same log after an error.
fn go_on(storage: &MemoryStorage, rounds: std::ops::Range<usize>, model: &mut Model) {
    let mut workload = retry(|| Workload::start(storage, None));
    model.producer_ids.extend(workload.producer_ids());
    for n in rounds {
        if workload.round(n, model).is_err() {
            let log = workload.log.clone();
            workload = retry(|| Workload::on(log.clone()));
            model.producer_ids.extend(workload.producer_ids());
        }
    }
}

fn check_images(storage: &MemoryStorage, model: &Model, operation: u64, what: &str) {
    let mut ids: Vec<_> = model.producer_ids.iter().filter(|id| id.0 >= 0).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "{what} at operation {operation}: an id was handed out twice");
    for keep in keeps(operation) {
        let checked = check(&storage.crash_image(keep), None, model);
        assert_eq!(checked, Ok(()), "{what} at operation {operation}, {keep:?}");
    }
}

#[test]
fn an_error_of_the_disk_at_any_operation_loses_nothing_and_the_same_log_goes_on() {
    for (number, operation) in (1..=operations()).enumerate() {
        for effect in [EFFECTS[number % 4], EFFECTS[(number + 1) % 4]] {
            let storage = MemoryStorage::new(9);
            storage.inject(Fault::once(At::Operation(operation), effect));
            let mut model = Model::default();
            go_on(&storage, 0..ROUNDS, &mut model);
            check_images(&storage, &model, operation, &format!("{effect:?}"));
        }
    }
}

/// The second one strikes the recovery from the first, or what follows it.
#[test]
fn a_second_error_soon_after_the_first_loses_nothing_either() {
    for (number, operation) in (1..=operations()).step_by(2).enumerate() {
        let (first, second) = (EFFECTS[number % 4], EFFECTS[number / 4 % 4]);
        let distance = 1 + number as u64 * 7 % 43;
        let storage = MemoryStorage::new(9);
        storage.inject(Fault::once(At::Operation(operation), first));
        storage.inject(Fault::once(At::Operation(operation + distance), second));
        let mut model = Model::default();
        go_on(&storage, 0..ROUNDS, &mut model);
        let what = format!("{first:?}, then {second:?} {distance} later,");
        check_images(&storage, &model, operation, &what);
    }
}

#[test]
fn what_follows_a_killed_process_survives_a_power_cut() {
    for operation in 0..=operations() {
        let storage = MemoryStorage::new(9);
        storage.stop_after(operation);
        let mut model = Model::default();
        if let Ok(mut workload) = Workload::start(&storage, None) {
            model.producer_ids = workload.producer_ids();
            for n in 0..ROUNDS {
                if workload.round(n, &mut model).is_err() {
                    break;
                }
            }
        }
        let next = storage.kill_image();
        go_on(&next, ROUNDS..ROUNDS + 4, &mut model);
        check_images(&next, &model, operation, "killed");
    }
}
