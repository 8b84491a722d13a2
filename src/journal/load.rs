//! Reading journals back: for undo, and for the history.

use super::line::{self, Index, Line};
use super::record::{Batch, Begin, Ending, Intent, Inverse, Record, Saved};
use super::{ENDED, FILE, SAVED, SCHEMA, lock, note_end, read, sha256};
use crate::error::Refusal;
use anyhow::{Context, Result, anyhow, bail};
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The longest line that is read; a batch is far shorter.
const LINE_LIMIT: u64 = 64 << 20;

/// What is known of a run without reading all of it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// It ended by itself.
    Complete,
    /// It stopped at an error.
    Failed,
    /// It was stopped or killed.
    Interrupted,
    /// It is being worked on now.
    Running,
    /// It was undone.
    Undone,
    /// Its journal can't be read.
    Damaged,
}

impl RunState {
    /// The word for reports.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
            Self::Running => "running",
            Self::Undone => "undone",
            Self::Damaged => "damaged",
        }
    }
}

/// One run in the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunSummary {
    /// Its id.
    pub run: String,
    /// What it was about; `None` if that can't be read.
    pub begin: Option<Begin>,
    /// How many things it changed, as far as is known: one for an action, and for a tree one for each entry.
    pub changes: u64,
    /// How many actions changed something.
    pub actions: u64,
    /// How many entries changed hands in trees; not known of an undo.
    pub entries: u64,
    /// How it stands.
    pub state: RunState,
}

impl RunSummary {
    /// What orders runs, the oldest first: the second, which is the id's, then the rest of the time.
    fn age(&self) -> (&str, u32, &str) {
        let second = self.run.split('-').next().unwrap_or(&self.run);
        (second, self.begin.as_ref().map_or(0, |begin| begin.started_nanoseconds), &self.run)
    }
}

/// Where one step of a run is in its journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct At {
    offset: u64,
    length: u64,
    number: u64,
    batch_of: Option<u64>,
}

/// One step, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// One action.
    Intent(Box<Intent>),
    /// A part of a tree.
    Batch(Batch),
}

/// A run's journal, checked, with its steps to be read one by one.
#[derive(Debug)]
pub struct LoadedRun {
    /// The run's directory.
    pub dir: PathBuf,
    /// The first record.
    pub begin: Begin,
    /// How it ended; `None` if it was killed.
    pub ending: Option<Ending>,
    /// The run that undid it.
    pub undone_by: Option<String>,
    /// As [`RunSummary::changes`].
    pub changes: u64,
    /// As [`RunSummary::actions`].
    pub actions: u64,
    /// As [`RunSummary::entries`].
    pub entries: u64,
    /// What is missing or damaged, in words.
    pub damage: Vec<String>,
    /// What it left half-way was put in order after it had failed.
    pub settled: bool,
    steps: Vec<At>,
    finished: Vec<u64>,
    next: u64,
    torn: bool,
}

impl LoadedRun {
    /// How many steps there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// `true` if nothing was about to change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether a step's intent is known to have been carried out. One that failed may be half-way.
    #[must_use]
    pub fn is_finished(&self, index: usize) -> bool {
        self.steps.get(index).is_some_and(|at| self.has_finished(at.batch_of.unwrap_or(at.number)))
    }

    /// Whether it is known that the step with this number was carried out; for an undo, a step of the run that it took
    /// back.
    #[must_use]
    pub fn has_finished(&self, number: u64) -> bool {
        self.finished.binary_search(&number).is_ok()
    }

    /// The number of a step's record, by which other records speak of it.
    #[must_use]
    pub fn number(&self, index: usize) -> u64 {
        self.steps.get(index).map_or(0, |at| at.number)
    }

    /// Reads a step.
    ///
    /// # Errors
    /// If the journal can't be read any more.
    pub fn step(&self, index: usize) -> Result<Step> {
        let at = self.steps.get(index).ok_or_else(|| anyhow!("the journal has no step {index}"))?;
        let path = self.dir.join(FILE);
        let mut line = Vec::new();
        File::open(&path)
            .and_then(|mut file| {
                file.seek(SeekFrom::Start(at.offset))?;
                file.take(at.length).read_to_end(&mut line)
            })
            .with_context(|| format!("reading {}", path.display()))?;
        let record = match line::parse(&line) {
            Line::Good(_, record) => Some(*record),
            Line::Damaged => None,
        };
        match record {
            Some(Record::Intent(intent)) => Ok(Step::Intent(intent)),
            Some(Record::Tree(batch)) => Ok(Step::Batch(batch)),
            _ => bail!("{} changed while it was read", path.display()),
        }
    }

    /// The paths of the single actions; not those below a tree.
    ///
    /// # Errors
    /// As [`Self::step`].
    pub fn paths(&self) -> Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for (index, at) in self.steps.iter().enumerate() {
            if at.batch_of.is_none()
                && let Step::Intent(intent) = self.step(index)?
            {
                paths.push(intent.path.to_path());
            }
        }
        Ok(paths)
    }

    /// Where old content is kept on the helper.
    #[must_use]
    pub fn saved_path(&self, saved: &Saved) -> PathBuf {
        self.dir.join(SAVED).join(&saved.file)
    }

    /// Old content, checked against what was recorded of it.
    ///
    /// # Errors
    /// If it can't be read, or is not what was saved.
    pub fn saved(&self, saved: &Saved) -> Result<Vec<u8>> {
        if saved.file.is_empty() || saved.file.contains('/') {
            bail!("no content was saved");
        }
        let path = self.saved_path(saved);
        let content = read(&path)?;
        if content.len() as u64 != saved.size || sha256(&content) != saved.sha256 {
            bail!("{} is damaged: it is not what was saved", path.display());
        }
        Ok(content)
    }

    /// Adds to the run's own journal that it was undone.
    ///
    /// # Errors
    /// As writing a file.
    pub fn mark_undone(&mut self, by: &str) -> Result<()> {
        self.append(&Record::Undone { by: by.to_owned() })?;
        self.undone_by = Some(by.to_owned());
        Ok(())
    }

    /// Adds the end that a killed run could not write.
    ///
    /// # Errors
    /// As writing a file.
    pub fn mark_interrupted(&mut self) -> Result<()> {
        self.append(&Record::End { ending: Ending::Interrupted, changes: self.changes })?;
        self.ending = Some(Ending::Interrupted);
        note_end(&self.dir, self.next)
    }

    /// Adds that what it left half-way when it failed is in order.
    ///
    /// # Errors
    /// As writing a file.
    pub fn mark_settled(&mut self) -> Result<()> {
        self.append(&Record::Settled {})?;
        self.settled = true;
        Ok(())
    }

    fn append(&mut self, record: &Record) -> Result<()> {
        let path = self.dir.join(FILE);
        let mut line = line::to_line(self.next, record)?;
        if self.torn {
            // What is left of a torn line must not swallow this one.
            line.insert(0, b'\n');
        }
        OpenOptions::new()
            .append(true)
            .open(&path)
            .and_then(|mut file| {
                file.write_all(&line)?;
                file.sync_all()
            })
            .with_context(|| format!("writing {}", path.display()))?;
        self.torn = false;
        self.next += 1;
        Ok(())
    }

    /// How the run stands, by its journal alone.
    #[must_use]
    pub fn state(&self) -> RunState {
        match (&self.undone_by, self.ending) {
            (Some(_), _) => RunState::Undone,
            (None, Some(Ending::Complete)) => RunState::Complete,
            (None, Some(Ending::Failed)) => RunState::Failed,
            (None, Some(Ending::Interrupted) | None) => RunState::Interrupted,
        }
    }
}

/// Loads a run by its id.
///
/// # Errors
/// A [`Refusal`] (3) if there is no such run, or its first record is lost or of a form that we do not know.
pub fn load(state: &Path, run: &str) -> Result<LoadedRun> {
    let known = run.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let dir = state.join(run);
    let path = dir.join(FILE);
    let file = match File::open(&path) {
        _ if !known || run.is_empty() => Err(no_such_run(run, state)),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(no_such_run(run, state)),
        Err(error) => Err(Refusal::target(format!("opening {}: {error}", path.display()))),
        Ok(file) => Ok(file),
    }?;
    let mut scan = Scan::default();
    scan.read(file).with_context(|| format!("reading {}", path.display()))?;
    scan.must_reach(&dir.join(ENDED));
    let Some(begin) = scan.begin else {
        return Err(
            Refusal::target(format!("{}: the first record is lost or damaged", path.display())).into()
        );
    };
    if begin.schema != SCHEMA {
        let other = begin.schema;
        return Err(Refusal::target(format!(
            "{}: it has form {other}, this program knows {SCHEMA}",
            path.display()
        ))
        .hint(format!("Use version {} of the program.", begin.version))
        .into());
    }
    scan.finished.sort_unstable();
    Ok(LoadedRun {
        dir,
        begin,
        ending: scan.ending,
        undone_by: scan.undone_by,
        changes: scan.changes,
        actions: scan.actions,
        entries: scan.entries,
        damage: scan.damage,
        settled: scan.settled,
        steps: scan.steps,
        finished: scan.finished,
        next: scan.next,
        torn: scan.torn,
    })
}

fn no_such_run(run: &str, state: &Path) -> Refusal {
    Refusal::target(format!("there is no run {run:?} in {}", state.display()))
        .hint("`volrescue history` lists the runs recorded on this helper.")
}

#[derive(Default)]
struct Scan {
    begin: Option<Begin>,
    ending: Option<Ending>,
    undone_by: Option<String>,
    changes: u64,
    actions: u64,
    entries: u64,
    /// The numbers of the intents that are about trees.
    trees: Vec<u64>,
    damage: Vec<String>,
    settled: bool,
    steps: Vec<At>,
    finished: Vec<u64>,
    next: u64,
    torn: bool,
}

impl Scan {
    fn read(&mut self, file: File) -> Result<()> {
        let mut reader = BufReader::with_capacity(1 << 20, file);
        let mut line = Vec::new();
        let mut offset = 0;
        let mut number = 0;
        let mut damaged_since = None;
        let mut damaged_lines = 0;
        loop {
            line.clear();
            let length = reader.by_ref().take(LINE_LIMIT).read_until(b'\n', &mut line)? as u64;
            if length == 0 {
                break;
            }
            number += 1;
            self.torn = !line.ends_with(b"\n");
            let content = line.strip_suffix(b"\n").unwrap_or(&line);
            let (content, index) = self.index(content);
            let (seq, record) = match index {
                Index::Batch(seq, of) => (Some(seq), Err(of)),
                Index::Other(seq, record) => (Some(seq), Ok(record)),
                Index::Damaged => (None, Err(0)),
            };
            match seq {
                // A broken line that ends the file was never acknowledged: nothing was done for it.
                None if self.torn => {}
                None => {
                    damaged_since = damaged_since.or(Some(number));
                    damaged_lines += 1;
                }
                Some(seq) if seq < self.next => {
                    self.damage.push(format!("line {number} of the journal is not in its place"));
                }
                Some(seq) => {
                    // Where no number is missing, a damaged line was a torn one that others followed.
                    let missing = seq - self.next;
                    if missing > 0 {
                        self.damage.push(format!(
                            "{missing} records of the journal before line {number} are damaged or missing"
                        ));
                    }
                    (damaged_since, damaged_lines) = (None, 0);
                    self.next = seq + 1;
                    let at = At { offset, length: content.len() as u64, number: seq, batch_of: None };
                    match record {
                        Ok(record) => self.take(*record, at),
                        Err(of) => self.steps.push(At { batch_of: Some(of), ..at }),
                    }
                }
            }
            offset += length;
        }
        if let Some(line) = damaged_since {
            self.damage.push(format!("the journal is damaged from line {line} to its end"));
            // Or what is added would take the numbers of what is lost, and nobody would miss it any more.
            self.next += damaged_lines;
        }
        Ok(())
    }

    /// What a line is. The last one is whole, too, if all that it lost is its newline.
    fn index<'a>(&self, content: &'a [u8]) -> (&'a [u8], Index) {
        match (line::parse_index(content), content.split_last()) {
            (Index::Damaged, Some((_, whole))) if self.torn => (whole, line::parse_index(whole)),
            (index, _) => (content, index),
        }
    }

    /// Sees whether all records are there that were there when the run ended.
    fn must_reach(&mut self, ended: &Path) {
        let noted = match fs::read_to_string(ended) {
            Err(error) if error.kind() == ErrorKind::NotFound => return,
            noted => noted.ok().and_then(|text| text.strip_suffix('\n')?.parse::<u64>().ok()),
        };
        match noted {
            None => self.damage.push(format!("{} is damaged", ended.display())),
            Some(records) if self.next < records => {
                let missing = records - self.next;
                self.damage.push(format!("the last {missing} records of the journal are missing"));
                self.next = records;
            }
            Some(_) => {}
        }
    }

    fn count(&mut self, of: u64, changes: u64) {
        self.changes = self.changes.saturating_add(changes);
        self.actions += u64::from(changes > 0);
        if self.trees.contains(&of) {
            self.entries = self.entries.saturating_add(changes);
        }
    }

    fn take(&mut self, record: Record, at: At) {
        match record {
            Record::Begin(begin) => self.begin = Some(*begin),
            Record::Intent(intent) => {
                if matches!(intent.undo, Inverse::Tree { .. }) {
                    self.trees.push(at.number);
                }
                self.steps.push(at);
            }
            Record::Tree(_) => self.steps.push(at),
            Record::Done { of, changes } => {
                self.finished.push(of);
                self.count(of, changes);
            }
            Record::Failed { of, changes, .. } => self.count(of, changes),
            Record::Settled {} => self.settled = true,
            Record::End { ending, .. } => self.ending = Some(ending),
            Record::Undone { by } => self.undone_by = Some(by),
        }
    }
}

/// All runs recorded in a state directory, the oldest first.
///
/// # Errors
/// A [`Refusal`] (3) if the directory is there and can't be read.
pub fn history(state: &Path) -> Result<Vec<RunSummary>> {
    let entries = match fs::read_dir(state) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Refusal::target(format!("reading {}: {error}", state.display())).into()),
        Ok(entries) => entries,
    };
    let mut runs: Vec<RunSummary> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name != lock::LOCKS && state.join(name).join(FILE).is_file())
        .map(|run| summary(state, run))
        .collect();
    // An id tells the second, and then nothing more of the order.
    runs.sort_by(|one, other| one.age().cmp(&other.age()));
    Ok(runs)
}

/// How a run stands: one without an end may be going on still.
#[must_use]
pub fn state_now(state: &Path, run: &LoadedRun) -> RunState {
    let holder = lock::held_by(state, &run.begin.lock);
    let running = run.ending.is_none() && holder.is_some_and(|holder| holder.contains(&run.begin.run));
    if running { RunState::Running } else { run.state() }
}

fn summary(state: &Path, run: String) -> RunSummary {
    match load(state, &run) {
        Err(_) => {
            RunSummary { run, begin: None, changes: 0, actions: 0, entries: 0, state: RunState::Damaged }
        }
        Ok(loaded) => {
            let state = state_now(state, &loaded);
            RunSummary {
                run,
                changes: loaded.changes,
                actions: loaded.actions,
                entries: loaded.entries,
                begin: Some(loaded.begin),
                state,
            }
        }
    }
}
