//! Ends of the process and of the machine, at every operation of a workload and of the starts behind it.

use core_log::Broken;
use core_log::storage::careless::Neglect;
use core_log::storage::memory::{Keep, MemoryStorage};

use crate::budget;
use crate::look::{look, settle, unstable};
use crate::model::{End, Model};
use crate::random::Random;
use crate::world::{Mix, Setup, World};

const STEPS: usize = 24;
const STEPS_AGAIN: usize = 5;
const LONG_STEPS: usize = 120;

/// Runs a workload until it ends or the power does. The model is as the writers know it then.
fn run(setup: Setup, storage: &MemoryStorage, life: u64, steps: usize, model: &mut Model) {
    let Ok(mut world) = World::start(setup, storage, life) else { return };
    for _ in 0..steps {
        if world.step(model).is_err() {
            break;
        }
    }
    // Neither closed nor dropped in order: the machine is off.
    storage.stop_after(0);
}

fn operations(setup: Setup) -> u64 {
    let storage = MemoryStorage::new(setup.seed);
    let mut model = Model::new();
    let mut world = World::start(setup, &storage, 0).unwrap();
    for step in 0..STEPS {
        world.step(&mut model).unwrap_or_else(|e| panic!("seed {}, step {step}: {e}", setup.seed));
    }
    storage.operations()
}

fn keeps(random: &mut Random) -> [Keep; 5] {
    let few = usize::try_from(random.below(9)).unwrap();
    [
        Keep::None,
        Keep::All,
        Keep::Prefix(few),
        Keep::Random(random.next()),
        Keep::Random(random.next()),
    ]
}

/// The power goes after an operation; what is left is opened, compared, written to, and the power goes
/// again.
fn cut_twice(setup: Setup, cut: u64, keep: Keep, again: Keep) -> Result<(), String> {
    let storage = MemoryStorage::new(setup.seed);
    storage.stop_after(cut);
    let mut model = Model::new();
    run(setup, &storage, 0, STEPS, &mut model);
    let image = storage.crash_image(keep);
    settle(setup, &image, &mut model, End::PowerCut)
        .map_err(|wrong| format!("power cut after operation {cut}, {keep:?}: {wrong}"))?;
    run(setup, &image, 1, STEPS_AGAIN, &mut model);
    settle(setup, &image.crash_image(again), &mut model, End::PowerCut)
        .map_err(|wrong| format!("power cut after {cut}, {keep:?}, and again {again:?}: {wrong}"))
}

#[test]
fn power_cuts() {
    budget::run("power_cuts", 40_000, |seed| {
        let setup = Setup::of(seed);
        let mut random = Random::new(seed);
        let mut states = 0;
        let operations = operations(setup);
        for cut in 0..=operations {
            for keep in keeps(&mut random) {
                let again = Keep::Random(random.next());
                cut_twice(setup, cut, keep, again)?;
                states += 2;
            }
        }
        Ok(states)
    });
}

#[test]
fn kills() {
    budget::run("kills", 5_000, |seed| {
        let setup = Setup::of(seed);
        let operations = operations(setup);
        for cut in 0..=operations {
            let storage = MemoryStorage::new(seed);
            storage.stop_after(cut);
            let mut model = Model::new();
            run(setup, &storage, 0, STEPS, &mut model);
            let image = storage.kill_image();
            settle(setup, &image, &mut model, End::Killed)
                .map_err(|wrong| format!("killed after operation {cut}: {wrong}"))?;
            run(setup, &image, 1, STEPS_AGAIN, &mut model);
            let again = image.crash_image(Keep::Random(cut));
            settle(setup, &again, &mut model, End::PowerCut)
                .map_err(|wrong| format!("killed after {cut}, then a power cut: {wrong}"))?;
        }
        Ok(2 * (operations + 1))
    });
}

#[test]
fn power_cuts_during_recovery() {
    budget::run("power_cuts_during_recovery", 5_000, |seed| {
        let setup = Setup::of(seed);
        let mut random = Random::new(seed ^ 0x5ec0);
        let operations = operations(setup);
        let mut pairs = 0;
        for cut in (random.below(7)..=operations).step_by(7) {
            let storage = MemoryStorage::new(seed);
            storage.stop_after(cut);
            let mut model = Model::new();
            run(setup, &storage, 0, STEPS, &mut model);
            let keep = keeps(&mut random)[usize::try_from(1 + random.below(4)).unwrap()];
            let whole = storage.crash_image(keep);
            settle(setup, &whole, &mut model.clone(), End::PowerCut)
                .map_err(|wrong| format!("power cut after operation {cut}, {keep:?}: {wrong}"))?;
            let recovery = whole.operations();
            for second in 0..recovery {
                let image = storage.crash_image(keep);
                image.stop_after(second);
                let interrupted = settle(setup, &image, &mut model.clone(), End::PowerCut);
                drop(interrupted);
                let again = Keep::Random(random.next());
                settle(setup, &image.crash_image(again), &mut model.clone(), End::PowerCut)
                    .map_err(|wrong| {
                        format!(
                            "power cut after {cut}, {keep:?}, and after operation {second} of the \
                             start, {again:?}: {wrong}"
                        )
                    })?;
                pairs += 1;
            }
        }
        Ok(pairs)
    });
}

#[test]
fn the_same_seed_does_the_same() {
    let trace = |seed| {
        let storage = MemoryStorage::new(seed);
        let mut model = Model::new();
        run(Setup::of(seed), &storage, 0, STEPS, &mut model);
        let unsynced = storage.unsynced_changes();
        (storage.operations(), storage.reads(), unsynced, format!("{model:?}"))
    };
    for seed in 1..9 {
        assert_eq!(trace(seed), trace(seed));
        assert_ne!(trace(seed), trace(seed + 1));
    }
}

/// What a log does wrong, and what the checkers say about it.
const MISTAKES: [(Option<Broken>, Option<Neglect>, Mix, &str); 10] = [
    (Some(Broken::LoseMarker), None, Mix::Copying, ""),
    (Some(Broken::SkipConsumedSync), None, Mix::Copying, "job is at"),
    (Some(Broken::FoldEarly), None, Mix::Copying, ""),
    (Some(Broken::WitnessUnsynced), None, Mix::Copying, "taken for damage"),
    (Some(Broken::DropLast), None, Mix::Upkeep, "is gone, cleaned was"),
    (None, Some(Neglect::Sync(".cleaned")), Mix::Upkeep, "taken for damage"),
    (Some(Broken::RetainTooEarly), None, Mix::Upkeep, "old-0 starts at"),
    (Some(Broken::SkipConsumedSync), None, Mix::Upkeep, "readers is at"),
    // An acknowledgement comes before the sync.
    (None, Some(Neglect::Sync("__commits")), Mix::Upkeep, "committed was one of"),
    (None, Some(Neglect::Sync("in-0/")), Mix::Upkeep, "synced was"),
];

#[test]
fn every_mistake_is_noticed() {
    for (broken, neglect, mix, words) in MISTAKES {
        let setup = |seed| Setup { broken, neglect, mix, ..Setup::of(seed) };
        let is_noticed = |seed| {
            let mut random = Random::new(seed);
            let operations = operations(setup(seed));
            (0..=operations).step_by(3).any(|cut| {
                let keep = Keep::Random(random.next());
                let noticed = cut_twice(setup(seed), cut, keep, Keep::None).err();
                noticed.is_some_and(|noticed| noticed.contains(words))
            })
        };
        assert!((1..40).any(is_noticed), "{broken:?} {neglect:?} went unnoticed: {words}");
    }
}

/// Long lives without a fault, looked at whenever all is stable; and, or else their checkers would have
/// nothing to check, records are replaced, deleted and read in them.
#[test]
fn long_lives() {
    let mut happened = [0; 5];
    budget::run("long_lives", 5_000, |seed| {
        let setup = Setup::of(seed);
        let storage = MemoryStorage::new(seed);
        let mut model = Model::new();
        let mut looks = 0;
        let at = |step: usize| move |wrong| format!("step {step}: {wrong}");
        let mut world = World::start(setup, &storage, 0).map_err(|e| e.to_string())?;
        for step in 0..LONG_STEPS {
            world.step(&mut model).map_err(|e| at(step)(e.to_string()))?;
            if unstable(&world.log).map_err(|e| e.to_string())?.is_none() {
                let shown = look(&world.log).map_err(|e| at(step)(e.to_string()))?;
                model.clone().settle(&shown, End::Killed).map_err(at(step))?;
                looks += 1;
            }
        }
        storage.stop_after(0);
        settle(setup, &storage.crash_image(Keep::Random(seed)), &mut model, End::PowerCut)?;
        happened.iter_mut().zip(model.upkeep()).for_each(|(sum, count)| *sum += count);
        Ok(looks + 1)
    });
    assert!(happened.iter().all(|count| *count > 50), "{happened:?}");
}
