//! Calls of the disk that fail while the log is in use: it goes on, or stops with an error, and nothing
//! that was acknowledged is lost.

use std::io::ErrorKind;

use core_log::storage::memory::{At, Effect, Fault, Keep, MemoryStorage};

use crate::budget;
use crate::look::settle;
use crate::model::{End, Model};
use crate::random::Random;
use crate::world::{Setup, World};

const STEPS: usize = 20;

/// Runs the workload to its end, with fresh writers after each error, and faults that end after a while.
fn go_on(setup: Setup, storage: &MemoryStorage, model: &mut Model) -> Result<(), String> {
    let mut world = match World::start(setup, storage, 0) {
        Ok(world) => world,
        Err(_fault) => {
            storage.clear_faults();
            World::start(setup, storage, 0).map_err(|e| format!("it does not start: {e}"))?
        }
    };
    for step in 0..STEPS {
        if step == STEPS / 2 {
            storage.clear_faults();
        }
        if world.step(model).is_err() && world.replace_writers(model).is_err() {
            // The fault lasts: the log must come back once it is over.
            storage.clear_faults();
            let replaced = world.replace_writers(model);
            replaced.map_err(|e| format!("step {step}: it does not come back: {e}"))?;
        }
    }
    Ok(())
}

fn check(setup: Setup, storage: &MemoryStorage, model: &Model, keep: Keep) -> Result<(), String> {
    settle(setup, &storage.kill_image(), &mut model.clone(), End::Killed)
        .map_err(|wrong| format!("killed: {wrong}"))?;
    settle(setup, &storage.crash_image(keep), &mut model.clone(), End::PowerCut)
        .map_err(|wrong| format!("power cut, {keep:?}: {wrong}"))
}

fn counts(setup: Setup) -> (u64, u64) {
    let storage = MemoryStorage::new(setup.seed);
    go_on(setup, &storage, &mut Model::new()).unwrap();
    (storage.operations(), storage.reads())
}

fn strike(setup: Setup, fault: &Fault, keep: Keep) -> Result<(), String> {
    let storage = MemoryStorage::new(setup.seed);
    storage.inject(fault.clone());
    let mut model = Model::new();
    go_on(setup, &storage, &mut model)
        .and_then(|()| check(setup, &storage, &model, keep))
        .map_err(|wrong| format!("{fault:?}: {wrong}"))
}

#[test]
fn errors() {
    const EFFECTS: [Effect; 4] = [
        Effect::Error(ErrorKind::Other),
        Effect::ShortWrite { keep: 37 },
        Effect::LoseSync,
        Effect::Error(ErrorKind::StorageFull),
    ];
    budget::run("errors", 2_500, |seed| {
        let setup = Setup::of(seed);
        let mut random = Random::new(seed ^ 0xe440);
        let (operations, reads) = counts(setup);
        for number in 1..=operations {
            let effect = EFFECTS[usize::try_from(random.below(4)).unwrap()];
            for fault in [
                Fault::once(At::Operation(number), effect),
                Fault::forever(At::Operation(number), effect),
            ] {
                strike(setup, &fault, Keep::Random(random.next()))?;
            }
        }
        for number in 1..=reads {
            for fault in [
                Fault::once(At::Read(number), EFFECTS[0]),
                Fault::forever(At::Read(number), EFFECTS[0]),
            ] {
                strike(setup, &fault, Keep::Random(random.next()))?;
            }
        }
        Ok(2 * (operations + reads))
    });
}

#[test]
fn full_disks() {
    budget::run("full_disks", 300, |seed| {
        let setup = Setup { reserve: 8_000, ..Setup::of(seed) };
        let mut random = Random::new(seed ^ 0xf011);
        let mut states = 0;
        for space in (0..40_000).step_by(997) {
            let storage = MemoryStorage::new(seed);
            let mut model = Model::new();
            storage.limit_space(space);
            let keep = Keep::Random(random.next());
            go_on(setup, &storage, &mut model)
                .and_then(|()| check(setup, &storage, &model, keep))
                .map_err(|wrong| format!("{space} bytes of space: {wrong}"))?;
            states += 1;
        }
        Ok(states)
    });
}
