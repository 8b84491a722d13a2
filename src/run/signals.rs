//! SIGINT, SIGTERM and SIGHUP end a run at the next safe point, where everything can be let go.

use crate::apply::Watch;
use crate::report::progress::Progress;
use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The number of threads that walk a tree, for tests and measurements; left alone, the walk finds it by itself.
const THREADS: &str = "VOLRESCUE_THREADS";

/// Was the run asked to stop?
#[derive(Clone, Debug)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Begins to listen.
    pub(super) fn listen() -> Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&flag)).context("listening for signals")?;
        }
        Ok(Self(flag))
    }

    /// `true` once a signal has come.
    pub(super) fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// An error once a signal has come: nothing has changed so far.
    pub(super) fn check(&self) -> Result<()> {
        if self.asked() { Err(interrupted().into()) } else { Ok(()) }
    }
}

/// Stopped before any change.
pub(super) fn interrupted() -> crate::error::Refusal {
    crate::error::Refusal::new(
        crate::error::ExitCode::Interrupted,
        "stopped by a signal; nothing was changed",
    )
}

/// Looks on while long work goes on: shows how far it is, and ends it when a signal has come.
#[derive(Debug)]
pub(super) struct Watcher<'a> {
    stop: &'a Stop,
    progress: Progress,
}

impl<'a> Watcher<'a> {
    /// `what` is said beside the bar.
    pub(super) fn new(stop: &'a Stop, what: &'static str) -> Self {
        Self { stop, progress: Progress::new(true, what) }
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        self.progress.finish();
    }
}

impl Watch for Watcher<'_> {
    fn tick(&mut self, entries: u64, _: &Path) {
        self.progress.add(entries);
    }

    fn stop(&mut self) -> bool {
        self.stop.asked()
    }

    fn threads(&self) -> Option<usize> {
        std::env::var(THREADS).ok()?.parse().ok()
    }
}
