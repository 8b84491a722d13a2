//! The threads of a walk, and the one that journals.
//!
//! One thread, the caller's, journals: it takes what the others have found, makes it durable, and hands it back to be
//! changed. While it waits for the disk the others read on and change what is durable already. Small trees are done by
//! it alone. Jobs wait on one stack under one lock, taken once for a directory: with tens of microseconds of system
//! calls a job there is nothing to steal that is not had there.
//!
//! How many threads there are is decided by what they do: as many as there are processors, and more, up to
//! [`MOST`], while they are found waiting for the disk.

use super::batch::{Pending, Piece};
use super::desk::Desk;
use super::walk::{Context, Found, Job};
use super::{BATCH, Effects, Survey, Tally};
use crate::apply::Watch;
use anyhow::Result;
use nix::sys::resource::{Resource, getrlimit};
use std::collections::VecDeque;
use std::num::NonZero;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, Scope};
use std::time::{Duration, Instant};

/// The most threads; a disk over a network answers about as many requests at once.
const MOST: usize = 64;
/// The most threads to begin with: above that filesystems' own locks are what they wait for.
const FIRST: usize = 8;
/// A tree of fewer entries is done by the caller's thread alone, unless it takes longer than [`SHORT`].
const SMALL: u64 = 512;
/// See [`SMALL`].
const SHORT: Duration = Duration::from_millis(50);
/// How many entries may be found and not yet changed.
const WAITING: usize = 4 * BATCH;
/// Less sleep than this between two looks tells nothing of the disk.
const ASLEEP: Duration = Duration::from_millis(2);
/// How often the caller's thread looks up.
const LOOK_UP: Duration = Duration::from_millis(20);
/// The stack of a thread.
const STACK: usize = 256 << 10;

/// What the threads share.
struct State<'t> {
    jobs: Vec<Job>,
    /// Durable in the journal, to be changed.
    changes: VecDeque<Piece>,
    /// To be journaled.
    pending: Pending,
    tally: &'t mut Tally,
    /// Entries found and not yet changed.
    waiting: usize,
    /// Jobs at work.
    running: usize,
    /// Threads without work.
    idle: usize,
    /// Entries looked at that nobody was told of.
    seen: u64,
    over: bool,
    error: Option<anyhow::Error>,
    load: Load,
}

/// How the threads spent their time lately, while they read.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    busy: Duration,
    /// Neither at work nor waiting for a processor: for the disk, that is.
    asleep: Duration,
}

impl Load {
    /// How many threads keep `processors` busy, if the disk answers as it did: twice as many as by the middle of what was
    /// seen, for reads come in bursts.
    fn wanted(self, processors: usize) -> usize {
        if self.asleep < ASLEEP {
            return 0;
        }
        let busy = self.busy.max(Duration::from_micros(1));
        let ratio = (self.asleep + busy).as_micros() / busy.as_micros();
        processors.saturating_mul(2 * usize::try_from(ratio).unwrap_or(MOST).min(MOST)).min(MOST)
    }
}

/// A walk by several threads.
pub(super) struct Crew<'c, 't> {
    context: &'c Context<'c>,
    state: Mutex<State<'t>>,
    /// There is work.
    work: Condvar,
    /// There is something for the caller's thread.
    news: Condvar,
    extent: Survey,
}

enum Work {
    Job(Job),
    Change(Piece),
}

impl<'c, 't> Crew<'c, 't> {
    pub(super) fn new(context: &'c Context<'c>, tally: &'t mut Tally, extent: Survey) -> Self {
        let state = State {
            jobs: vec![Job::top()],
            changes: VecDeque::new(),
            pending: Pending::default(),
            tally,
            waiting: 0,
            running: 0,
            idle: 0,
            seen: 0,
            over: false,
            error: None,
            load: Load::default(),
        };
        Self { context, state: Mutex::new(state), work: Condvar::new(), news: Condvar::new(), extent }
    }

    /// Walks the whole tree; `true` if it was stopped before the end.
    pub(super) fn run(&self, effects: Option<&mut Effects<'_>>, watch: &mut dyn Watch) -> Result<bool> {
        let done = std::thread::scope(|scope| {
            // Also where a panic ends the caller's thread: the scope waits for the others.
            let _over = Over(self);
            self.lead(scope, effects, watch)
        });
        // All threads have ended here: what they still changed is counted.
        let error = self.lock().error.take();
        match (done, error) {
            (Err(error), _) | (Ok(_), Some(error)) => Err(error),
            (done, None) => done,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<'t>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The caller's thread.
    fn lead<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        mut effects: Option<&mut Effects<'_>>,
        watch: &mut dyn Watch,
    ) -> Result<bool> {
        let forced = watch.threads();
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
        let most = usize::try_from(limit / 8).unwrap_or(MOST).clamp(1, MOST);
        let mut wanted = forced.unwrap_or(0).min(most);
        let (mut threads, mut total) = (0, 0);
        let started = Instant::now();
        let mut desk = Desk::shared();
        loop {
            if watch.stop() {
                return Ok(true);
            }
            let mut state = self.lock();
            let seen = std::mem::take(&mut state.seen);
            total += seen;
            if state.over || state.error.is_some() {
                return Ok(false);
            }
            if forced.is_none() {
                let more = if threads > 0 {
                    std::mem::take(&mut state.load).wanted(processors)
                } else if total >= SMALL || started.elapsed() >= SHORT {
                    processors.min(FIRST)
                } else {
                    0
                };
                wanted = wanted.max(more).min(most);
            }
            if wanted > 0 {
                self.context.read_inodes();
            }
            let at_rest = state.jobs.is_empty() && state.running == 0;
            let settled = at_rest && state.changes.is_empty();
            if state.pending.len() >= BATCH || (settled && state.pending.len() > 0) {
                let pending = std::mem::take(&mut state.pending);
                drop(state);
                self.journal(pending, effects.as_deref_mut())?;
            } else if settled {
                drop(state);
                watch.tick(seen, self.context.path);
                return Ok(false);
            } else if threads == 0 {
                let work = self.take(&mut state);
                drop(state);
                if let Some(work) = work {
                    self.finish(work, &mut desk, false);
                }
            } else {
                drop(self.news.wait_timeout(state, LOOK_UP));
            }
            watch.tick(seen, self.context.path);
            // One thread is the caller's own.
            while threads < wanted && wanted > 1 {
                let thread = Builder::new().name("walk".into()).stack_size(STACK);
                if thread.spawn_scoped(scope, || self.help()).is_err() {
                    wanted = threads;
                    break;
                }
                threads += 1;
            }
        }
    }

    /// Makes a batch durable, and only then gives it to be changed.
    fn journal(&self, pending: Pending, effects: Option<&mut Effects<'_>>) -> Result<()> {
        let Some(effects) = effects else { return Ok(()) };
        let of = effects.number()?;
        effects.journal.batch(pending.record(of, self.context.to, self.context.path))?;
        let mut state = self.lock();
        state.changes.extend(pending.into_pieces());
        self.work.notify_all();
        Ok(())
    }

    /// Something to do, what is durable first.
    fn take(&self, state: &mut State<'_>) -> Option<Work> {
        let work = match state.changes.pop_front() {
            Some(piece) => Work::Change(piece),
            None if state.waiting < WAITING => Work::Job(state.jobs.pop()?),
            None => return None,
        };
        state.running += 1;
        Some(work)
    }

    /// A thread of its own.
    fn help(&self) {
        let _panic = Panic(self);
        let mut desk = Desk::own();
        let mut count = 0_u32;
        loop {
            let mut state = self.lock();
            let work = loop {
                if state.over {
                    return;
                }
                if let Some(work) = self.take(&mut state) {
                    break work;
                }
                state.idle += 1;
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
            };
            drop(state);
            count = count.wrapping_add(1);
            self.finish(work, &mut desk, count % 4 == 1);
        }
    }

    /// Does some work and tells what came of it.
    fn finish(&self, work: Work, desk: &mut Desk, measured: bool) {
        match work {
            Work::Change(piece) => {
                let mut changed = 0;
                let done = piece.change(self.context, desk, &mut changed);
                let entries = piece.entries.len();
                drop(piece);
                let mut state = self.lock();
                state.running -= 1;
                state.tally.changed += changed;
                let full = state.waiting >= WAITING;
                state.waiting -= entries;
                if full && state.waiting < WAITING {
                    self.work.notify_all();
                }
                self.note(&mut state, done);
            }
            Work::Job(job) => {
                let before = if measured { desk.times().map(|times| (Instant::now(), times)) } else { None };
                let found = job.run(self.context, desk);
                let load = before.and_then(|(start, (ran, queued))| {
                    let wall = start.elapsed();
                    let (ran_now, queued_now) = desk.times()?;
                    let busy = ran_now.saturating_sub(ran);
                    let asleep = wall.saturating_sub(busy + queued_now.saturating_sub(queued));
                    Some((busy, asleep))
                });
                let mut state = self.lock();
                state.running -= 1;
                if let Some((busy, asleep)) = load {
                    state.load.busy += busy;
                    state.load.asleep += asleep;
                }
                let done = found.map(|found| self.merge(&mut state, found));
                self.note(&mut state, done);
            }
        }
    }

    /// Adds what a job found.
    fn merge(&self, state: &mut State<'_>, mut found: Found) {
        state.seen += found.seen;
        let jobs = std::mem::take(&mut found.jobs);
        let taken = std::mem::take(&mut found.taken);
        if let Some(hold) = found.hold.take() {
            state.tally.add(self.context, &hold.place, found);
            if !taken.is_empty() {
                state.waiting += taken.len();
                state.pending.push(Piece { hold, entries: taken });
            }
        } else {
            state.tally.elsewhere(self.context, found.elsewhere);
        }
        let fresh = jobs.len().min(state.idle);
        state.jobs.extend(jobs);
        (0..fresh).for_each(|_| self.work.notify_one());
        if self.extent == Survey::UntilChange && state.tally.changed > 0 {
            state.over = true;
        }
    }

    /// Wakes whom the end of some work concerns.
    fn note(&self, state: &mut State<'_>, done: Result<()>) {
        if let Err(error) = done {
            state.error.get_or_insert(error);
            state.over = true;
        }
        if state.over || state.pending.len() >= BATCH || (state.running == 0 && state.jobs.is_empty()) {
            self.news.notify_one();
        }
        if state.over {
            self.work.notify_all();
        }
    }
}

/// Lets the others end when a thread has panicked.
struct Panic<'o, 'c, 't>(&'o Crew<'c, 't>);

impl Drop for Panic<'_, '_, '_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            drop(Over(self.0));
            self.0.news.notify_one();
        }
    }
}

/// Lets the threads end when it goes.
struct Over<'o, 'c, 't>(&'o Crew<'c, 't>);

impl Drop for Over<'_, '_, '_> {
    fn drop(&mut self) {
        self.0.lock().over = true;
        self.0.work.notify_all();
    }
}

impl Tally {
    fn add(&mut self, context: &Context<'_>, place: &std::sync::Arc<super::Place>, found: Found) {
        let path: &Path = context.path;
        self.elsewhere(context, found.elsewhere);
        self.unchanged += found.unchanged;
        if !context.gather {
            self.changed += found.changed;
        }
        for (owner, (entries, name)) in found.kept {
            self.keep(owner, entries, || place.path_of(path, &name));
        }
        for (name, seen) in found.linked {
            self.links.see(&seen, place, &name, context.pass.share());
        }
        for (name, seen) in found.kept_linked {
            if !self.kept_links.see(&seen, place, &name, 0) {
                self.keep(seen.stat.uid, 1, || place.path_of(path, &name));
            }
        }
    }
}
