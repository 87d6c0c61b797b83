//! Ctrl-C and SIGTERM: the first asks the job to stop, the second ends the process.
//!
//! Why a thread of its own: the job's threads wait for the disk, and a second Ctrl-C must not wait for
//! them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{Error, Result};

/// What a shell reports for a program that Ctrl-C ended.
const ABORTED: i32 = 130;

/// Whether someone has asked the process to stop.
#[derive(Clone, Debug)]
pub(super) struct Interrupted(Arc<AtomicBool>);

impl Interrupted {
    pub(super) fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Starts listening; from here on the process no longer ends by the first signal.
pub(super) fn listen() -> Result<Interrupted> {
    let refused = |source| Error::System { what: "a signal handler", source };
    let runtime = Builder::new_current_thread().enable_io().build().map_err(refused)?;
    let (mut interrupt, mut terminate) = {
        let _entered = runtime.enter();
        let of = |kind| signal(kind).map_err(refused);
        (of(SignalKind::interrupt())?, of(SignalKind::terminate())?)
    };
    let interrupted = Interrupted(Arc::new(AtomicBool::new(false)));
    let flag = interrupted.clone();
    let listener = move || {
        runtime.block_on(next(&mut interrupt, &mut terminate));
        flag.0.store(true, Ordering::Relaxed);
        runtime.block_on(next(&mut interrupt, &mut terminate));
        std::process::exit(ABORTED);
    };
    std::thread::Builder::new()
        .name("interrupt".into())
        .spawn(listener)
        .map_err(|source| Error::System { what: "a thread", source })?;
    Ok(interrupted)
}

async fn next(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
