//! What `diagnose`, `repair` and `undo` have in common: open, mount, look, ask, let go.

use super::luks::LuksKeys;
use super::signals::Stop;
use crate::accounts::PasswdEntry;
use crate::apply::{self, AccountsLock, Survey, TreeResult, Watch};
use crate::cli::{StateArgs, TargetArgs};
use crate::error::{ExitCode, Refusal};
use crate::finding::{FixedBy, Severity, Verdict};
use crate::inventory::Inventory;
use crate::journal::record::Begin;
use crate::journal::{LoadedRun, RunInfo, VolumeLock};
use crate::os::{self, OsFacts};
use crate::plan::{Action, Change, Outcome, promise};
use crate::report::output::{self, Style};
use crate::report::progress::CopyProgress;
use crate::report::{Names, Report, RootSummary, TargetSummary, Unmount, UserReport, json, text};
use crate::root::Root;
use crate::sshd::cite::cite;
use crate::sshd::evaluate::{self, Client, Evaluation, Question, System};
use crate::view::{LookError, View};
use crate::volume::{
    self, BackingFiles, Branch, Choice, Follow, Journal as FsJournal, Live, MountMode, MountedRoot, Mounting,
    RootInfo, Target, TargetKind, Unmounted, Volume,
};
use anyhow::Result;
use bstr::{BString, ByteSlice};
use std::ffi::OsStr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

/// What is going to be done with the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Nothing is written.
    Look,
    /// The kernel may replay the journal on the volume; nothing else is written.
    Replay,
    /// The volume is changed.
    Change,
    /// The same, once the filesystem's own checker was there.
    CheckAndChange,
}

/// A volume that is open and mounted.
#[derive(Debug)]
pub(super) struct Session {
    // Before `mounted`: while this is open, the filesystem is busy.
    root: Root,
    mounted: MountedRoot,
    device: String,
}

/// A plan is only made of what was seen: a file that the disk refused to show is not absent.
///
/// # Errors
/// [`Refusal`] (3) with its path.
pub(super) fn check_all_was_read(seen: &Seen<'_>) -> Result<(), Refusal> {
    let Some((path, error)) = seen.inventory.unread() else { return Ok(()) };
    Err(Refusal::target(format!("{} could not be read: {error}; nothing was changed", path.display())).hint(
        "The disk or its filesystem is damaged. Copy the volume (ddrescue) and repair the copy, or let --fsck check the \
         filesystem first.",
    ))
}

/// What every question needs.
#[derive(Debug)]
pub(super) struct Seen<'a> {
    /// The volume as it was when it was looked at.
    pub inventory: Inventory<'a>,
    /// sshd and the accounts.
    pub system: System,
    /// The distribution.
    pub os: OsFacts,
}

impl Session {
    /// Opens the target and mounts its root. `needed` are paths of the helper that stay in use.
    pub(super) fn open(
        args: &TargetArgs,
        mode: Mode,
        needed: &[PathBuf],
        stop: &Stop,
        report: &mut Report,
    ) -> Result<Self> {
        Self::open_if(args, mode, needed, Follow::Login, &|_, _| Ok(()), stop, report)
    }

    /// The same, where it is known which of the other filesystems are wanted, and where `is_right`, told the root and
    /// the device, may refuse before anything is written.
    pub(super) fn open_if(
        args: &TargetArgs,
        mode: Mode,
        needed: &[PathBuf],
        follow: Follow<'_>,
        is_right: &dyn Fn(&RootInfo, &str) -> Result<()>,
        stop: &Stop,
        report: &mut Report,
    ) -> Result<Self> {
        let given = args.targets.first().map_or("", String::as_str);
        report.given = Some(given.to_owned());
        if let Some(with) = args.with.iter().find(|with| is_same_place(with, given)) {
            return Err(Refusal::usage(format!("--with {with}: it is the target itself"))
                .hint("Give another volume, or leave --with out.")
                .into());
        }
        let live = if args.live { Live::Allowed } else { Live::Refused };
        let backing = if args.allow_backing { BackingFiles::Anywhere } else { BackingFiles::InDirectory };
        let target = Target::find(OsStr::new(given), live)?.following(backing);
        let choice = Choice { partition: args.partition, root: args.root.clone() };
        let mode = match mode {
            Mode::Look => MountMode::ReadOnly,
            Mode::Replay => MountMode::Replay,
            Mode::Change => MountMode::ReadWrite,
            Mode::CheckAndChange => MountMode::Checked,
        };
        let volume = Volume::open(&target, mode.access())?;
        let info = volume.info();
        let device = info.device.clone();
        report.target = Some(TargetSummary {
            given: info.given,
            kind: match info.kind {
                TargetKind::Image => "image",
                TargetKind::Block => "block",
                TargetKind::Directory => "directory",
                TargetKind::Live => "live",
            },
            device: Some(PathBuf::from(info.device)),
            size: info.size,
            format: info.format,
            backing: info.backing,
        });
        tracing::info!("opened {device}");
        let mut needed = needed.to_vec();
        let mut with = Vec::new();
        for other in &args.with {
            let other = Target::find(OsStr::new(other), Live::Refused)?.following(backing);
            let other = Volume::open(&other, mode.access())?;
            needed.push(other.path().to_owned());
            with.push(other);
        }
        stop.check()?;
        let progress = CopyProgress::new();
        let mut watch = |work: volume::Progress| {
            match work {
                volume::Progress::Copy { done, total } => progress.set(done, total),
                volume::Progress::Check(program) => progress.busy(program),
            }
            if stop.asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let mut keys = LuksKeys::read(&args.luks_key, stop)?;
        let how = Mounting { choice: &choice, mode, needed: &needed };
        let mut mounted =
            volume.mount_root(with, &how, &mut keys, &|info| is_right(info, &device), &mut watch)?;
        mounted.follow_fstab(follow, &mut watch)?;
        progress.finish();
        let root = mounted.root()?;
        tracing::info!(
            "the root is {} {}",
            mounted.info.filesystem,
            mounted.info.uuid.as_deref().unwrap_or("without id")
        );
        Ok(Self { root, mounted, device })
    }

    /// The door to the files.
    pub(super) fn root(&self) -> &Root {
        &self.root
    }

    /// Where the volume's root directory is on the helper, and its device and inode number.
    ///
    /// # Errors
    /// It was closed.
    pub(super) fn place(&self) -> Result<(PathBuf, (u64, u64))> {
        let stat = nix::sys::stat::fstat(self.mounted.fd()?)?;
        let path = self.mounted.mount_point().map_or_else(|| PathBuf::from(&self.device), Path::to_owned);
        Ok((path, (stat.st_dev, stat.st_ino)))
    }

    /// What `--fsck` runs on it, but for the device; `None` for a directory.
    pub(super) fn checker(&self) -> Option<String> {
        self.mounted.checker()
    }

    /// Where it is mounted for this process; `None` for a directory.
    pub(super) fn mount_point(&self) -> Option<&Path> {
        self.mounted.mount_point()
    }

    /// Nothing is begun that can't be ended: of these paths none lies on a snapshot that refuses writes.
    ///
    /// # Errors
    /// [`Refusal`] (3) with those that do.
    pub(super) fn check_can_change<'a>(&self, paths: impl Iterator<Item = &'a Path>) -> Result<(), Refusal> {
        if !self.mounted.info.is_read_only {
            return Ok(());
        }
        let is_on_root =
            |path: &&Path| !self.mounted.branches.iter().any(|branch| path.starts_with(&branch.point));
        let on_root: std::collections::BTreeSet<&Path> = paths.filter(is_on_root).collect();
        let Some(first) = on_root.first() else { return Ok(()) };
        let more = match on_root.len() - 1 {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let subvolume = self.mounted.info.subvolume.as_deref().unwrap_or_default();
        Err(Refusal::target(format!(
            "{}{more} would have to change and lies on the read-only subvolume {subvolume}; nothing was changed",
            first.display()
        ))
        .hint(
            "The system's own way is a new snapshot: transactional-update, where it runs. Here: volrescue shell --writable, in \
             it btrfs property set -ts $VOLRESCUE_ROOT ro false, then repair, then the same with ro true.",
        ))
    }

    /// Where in the tree its further filesystems are mounted.
    pub(super) fn branches(&self) -> Vec<PathBuf> {
        self.mounted.branches.iter().map(|branch| branch.point.clone()).collect()
    }

    /// Looks at the system and fills in the report's picture of it.
    pub(super) fn look(&self, report: &mut Report) -> Seen<'_> {
        let inventory = Inventory::new(self.root());
        let system = System::read(&inventory);
        let os = OsFacts::detect(&inventory);
        let info = &self.mounted.info;
        let known = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        report.root = Some(RootSummary {
            filesystem: info.filesystem.clone(),
            uuid: info.uuid.clone(),
            label: info.label.clone(),
            partition: info.partition,
            logical_volume: info.logical_volume.clone(),
            subvolume: info.subvolume.clone(),
            os_id: known(&os.id),
            os_version: known(&os.version),
            os_name: known(&os.name),
            sshd: system.build.text.clone(),
            selinux: inventory.selinux().mode().word(),
            journal: match info.journal {
                FsJournal::Clean => "clean",
                FsJournal::Dirty => "dirty",
                FsJournal::Replayed => "replayed",
            },
            mounts: self.mounted.branches.clone(),
        });
        report.notes.extend(self.mounted.notes.iter().cloned());
        report.checked.clone_from(&self.mounted.checked);
        report.names = Names { passwd: system.passwd.clone(), group: system.group.clone() };
        Seen { inventory, system, os }
    }

    /// Looks again, with nothing remembered.
    pub(super) fn look_again(&self, report: &mut Report) -> Seen<'_> {
        let inventory = Inventory::new(self.root());
        let system = System::read(&inventory);
        let os = OsFacts::detect(&inventory);
        report.names = Names { passwd: system.passwd.clone(), group: system.group.clone() };
        Seen { inventory, system, os }
    }

    /// The users that were asked for, or the image's own, with how they were chosen.
    pub(super) fn users(&self, seen: &Seen<'_>, given: &[String]) -> Result<Vec<(BString, String)>> {
        let mut users: Vec<(BString, String)> = Vec::new();
        for name in given {
            if name.is_empty() {
                return Err(Refusal::usage("--user is empty")
                    .hint("Give the name that you log in with, or leave --user out for the image's own user.")
                    .into());
            }
            if name.contains(',') && seen.system.passwd.by_name(name.as_bytes()).is_none() {
                return Err(Refusal::usage(format!("--user {name}: a login name has no comma"))
                    .hint("Repeat --user for each of several users.")
                    .into());
            }
            if !users.iter().any(|(known, _)| known == name.as_str()) {
                users.push((BString::from(name.as_str()), "given with --user".into()));
            }
        }
        if users.is_empty() {
            let Some(user) = os::default_user(&seen.inventory, &seen.os) else {
                return Err(Refusal::usage("the image does not tell its login user")
                    .hint("Give --user with the name that you log in with.")
                    .into());
            };
            users.push((BString::from(user.name), user.chosen_by));
        }
        Ok(users)
    }

    /// Would sshd accept, and what would a repair do about it?
    pub(super) fn ask(&self, seen: &Seen<'_>, question: &Question<'_>) -> Evaluation {
        let mut answer = self.judge(seen, question);
        promise::keep(&seen.inventory, &seen.os, &mut answer, question);
        answer
    }

    fn judge(&self, seen: &Seen<'_>, question: &Question<'_>) -> Evaluation {
        let mut answer = evaluate::evaluate(&seen.inventory, &seen.system, question);
        cite(&seen.inventory, &seen.system.build, &mut answer);
        if let Some((path, error)) = seen.inventory.unread()
            && answer.verdict == Verdict::Accept
        {
            answer.verdict = Verdict::Unknown;
            answer.keys.iter_mut().for_each(|key| key.verdict = Verdict::Unknown);
            answer.unknown.insert(0, format!("{} could not be read: {error}", path.display()));
        }
        if self.mounted.info.journal == FsJournal::Dirty {
            // What is seen is older than what was written: no answer from it holds.
            answer.verdict = Verdict::Unknown;
            answer.keys.iter_mut().for_each(|key| key.verdict = Verdict::Unknown);
            answer.unknown.insert(
                0,
                "the filesystem's journal waits for replay, and no copy could be made to replay it in: what is seen \
                 here is stale. Replay it on the volume itself with --replay, or make room in /var/tmp"
                    .into(),
            );
        }
        answer
    }

    /// The other accounts that would accept every one of the keys.
    pub(super) fn accepted_for(&self, seen: &Seen<'_>, asked: &Question<'_>, report: &Report) -> Vec<String> {
        /// Images have a handful; a directory of thousands is not searched.
        const MOST: usize = 64;
        if asked.keys.is_empty() {
            return Vec::new();
        }
        let is_asked = |entry: &PasswdEntry| report.users.iter().any(|user| entry.name == user.name.as_str());
        let is_login = |entry: &&PasswdEntry| {
            let shell = entry.shell.as_bytes();
            !(shell.ends_with(b"/nologin") || shell.ends_with(b"/false") || is_asked(entry))
        };
        let mut others: Vec<&PasswdEntry> =
            seen.system.passwd.entries.iter().filter(is_login).take(MOST).collect();
        // A person's account is what is looked for; root's comes last.
        others.sort_by_key(|entry| entry.uid == 0);
        others
            .into_iter()
            .filter(|entry| {
                let question = Question { user: entry.name.clone(), ..asked.clone() };
                self.judge(seen, &question).verdict == Verdict::Accept
            })
            .map(|entry| entry.name.to_string())
            .collect()
    }

    /// What a tree action would do, without doing it.
    ///
    /// # Errors
    /// If a directory can't be read.
    pub(super) fn survey(
        &self,
        action: &Action,
        extent: Survey,
        watch: &mut dyn Watch,
    ) -> Result<Option<TreeResult>> {
        match &action.change {
            Change::ChownTree { uid, gid, owners } => {
                if self.root().lstat(&action.path) == Err(LookError::NotFound) {
                    // A home that is still to be made holds nothing yet.
                    return Ok(Some(TreeResult::default()));
                }
                apply::survey_tree(self.root(), &action.path, (*uid, *gid), owners, extent, watch).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// What the journal has to know of the volume.
    pub(super) fn run_info(&self, report: &Report) -> RunInfo {
        let info = &self.mounted.info;
        RunInfo {
            command: report.command.to_owned(),
            given: report.target.as_ref().map_or_else(String::new, |target| target.given.clone()),
            kind: report.target.as_ref().map(|target| target.kind.to_owned()),
            identity: self.identity(),
            device: report
                .target
                .as_ref()
                .and_then(|target| target.device.as_ref())
                .map(|path| path.display().to_string()),
            filesystem: Some(info.filesystem.clone()),
            uuid: info.uuid.clone(),
            partition: info.partition,
            subvolume: info.subvolume.clone(),
            mounts: self.mounted.branches.clone(),
            users: report.users.iter().map(|user| user.name.clone()).collect(),
            undoes: None,
        }
    }

    /// What tells this volume from its twins.
    fn identity(&self) -> Option<String> {
        volume::identity(Path::new(&self.device))
    }

    /// Is this the root that the run was about, and no other of the same image?
    pub(super) fn is(&self, begin: &Begin) -> bool {
        let info = &self.mounted.info;
        info.uuid == begin.uuid
            && info.subvolume == begin.subvolume
            && self.has_mounts_of(begin)
            && begin.identity.is_some()
            && begin.identity == self.identity()
    }

    /// Whether every path leads to the filesystem that the run saw there.
    fn has_mounts_of(&self, begin: &Begin) -> bool {
        self.lacking_mount(begin).is_none() && self.mounted.branches.len() == begin.mounts.len()
    }

    /// A filesystem that the run had mounted, and that is not mounted there now.
    fn lacking_mount<'a>(&self, begin: &'a Begin) -> Option<&'a Branch> {
        let is_here = |was: &&Branch| {
            self.mounted.branches.iter().any(|is| {
                (&is.point, &is.uuid, &is.subvolume, is.partition)
                    == (&was.point, &was.uuid, &was.subvolume, was.partition)
            })
        };
        begin.mounts.iter().find(|was| !is_here(was))
    }

    /// Refuses where a path would lead to another filesystem than in the run.
    pub(super) fn must_have_mounts(&self, run: &LoadedRun) -> Result<()> {
        let Some(was) = self.lacking_mount(&run.begin) else { return Ok(()) };
        let place =
            was.device.as_ref().map_or_else(String::new, |device| format!(", then {}", device.display()));
        Err(Refusal::target(format!(
            "the run also changed what was mounted on {}: {} {}{place}, which is not found now",
            was.point.display(),
            was.filesystem,
            was.uuid.as_deref().unwrap_or("without id"),
        ))
        .hint("Give the volume that holds it: --with VOLUME")
        .into())
    }

    /// The one run that may write on this volume now.
    pub(super) fn lock(&self, state: &Path) -> Result<VolumeLock> {
        let info = &self.mounted.info;
        // Copies of one image have the same UUID and may be worked on at once. A directory is known by its inode alone:
        // it may have several paths.
        let identity = self.identity().unwrap_or_else(|| self.device.clone());
        let identity = identity.split(' ').next().unwrap_or_default();
        let key = format!("{}-{identity}", info.uuid.as_deref().unwrap_or("no-id"));
        VolumeLock::take(state, &key)
    }

    /// As [`Self::lock`]; where no journal is kept, a state directory that can't be written is no hindrance.
    pub(super) fn lock_for(&self, state: &Path, no_journal: bool) -> Result<Option<VolumeLock>> {
        match self.lock(state) {
            Err(error) if no_journal && refusal_of(&error).code == ExitCode::Target => Ok(None),
            lock => lock.map(Some),
        }
    }

    /// On the running system: keeps `useradd` and its like away from the account files among `paths`.
    pub(super) fn lock_accounts(
        &self,
        paths: &[&Path],
        stop: &Stop,
        report: &Report,
    ) -> Result<Option<AccountsLock>> {
        match &report.target {
            Some(target) if target.kind == "live" => {
                AccountsLock::take(Path::new("/etc"), paths, &mut || stop.asked()).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Lets go of the volume, whatever became of the work; both failures are told.
    pub(super) fn close(self, report: &mut Report, worked: Result<()>) -> Result<()> {
        let Self { root, mounted, device } = self;
        drop(root);
        match mounted.close() {
            Ok(unmounted) => {
                tracing::info!("let go");
                report.unmount = match unmounted {
                    Unmounted::Clean => Unmount::Clean,
                    Unmounted::NotMounted => Unmount::NotMounted,
                };
                worked
            }
            Err(error) => {
                let words = format!("{error:#}");
                report.unmount = Unmount::Failed(words.clone());
                let hint = error.downcast_ref::<Refusal>().and_then(|refusal| refusal.hint.clone());
                let hint = hint.or_else(|| Some("Do not detach it before what holds it is gone.".into()));
                let failed = format!("letting go of {device} failed: {words}");
                match worked {
                    Ok(()) => Err(Refusal { hint, ..Refusal::failed(failed) }.into()),
                    Err(cause) => {
                        let mut refusal = refusal_of(&cause);
                        refusal.message = format!("{}; then {failed}", refusal.message);
                        refusal.code = refusal.code.max(ExitCode::Failed);
                        refusal.hint = refusal.hint.or(hint);
                        Err(refusal.into())
                    }
                }
            }
        }
    }
}

/// Refuses a volume that the run was not about; one that may be its twin only if nobody `named` it.
pub(super) fn must_be(run: &LoadedRun, named: bool, info: &RootInfo, device: &str) -> Result<()> {
    let begin = &run.begin;
    let recorded = begin.uuid.as_deref().unwrap_or("no id");
    if begin.uuid.is_none() || info.uuid == begin.uuid {
        return match (&begin.identity, volume::identity(Path::new(device))) {
            (Some(was), Some(is)) if !named && *was != is && is_lasting(begin, was, &is) => {
                Err(Refusal::unsafe_(format!(
                    "{device} may be a twin of the volume that the run changed: the filesystem is {recorded} too, but \
                     the run was on {was}, this is {is}"
                ))
                .hint(format!("If it is the one to change: volrescue undo {} --target {device}", begin.run))
                .into())
            }
            _ => Ok(()),
        };
    }
    let found = info.uuid.as_deref().unwrap_or("none");
    Err(Refusal::target(format!(
        "this is another volume: the run changed filesystem {recorded}, this one is {found}"
    ))
    .hint("Attach the volume that the run changed, or name it with --target.")
    .into())
}

/// Whether two identities that differ are those of two volumes. The node of a disk without serial number says nothing,
/// nor does the filesystem that a directory lies on, which has another number at the next mount.
fn is_lasting(begin: &Begin, was: &str, is: &str) -> bool {
    match begin.kind.as_deref() {
        Some("image") => true,
        Some("block") => !was.starts_with('/') && !is.starts_with('/'),
        _ => false,
    }
}

/// What the operator does next, once the volume is let go.
pub(super) fn next_step(report: &Report) -> Option<String> {
    let target = report.target.as_ref()?;
    if report.error.is_some() || report.dry_run || matches!(report.command, "diagnose" | "shell") {
        return None;
    }
    if report.command == "prove" {
        let failed = report.users.iter().any(|user| user.verdict() != Verdict::Accept);
        let mends = report
            .users
            .iter()
            .flat_map(|user| &user.last().findings)
            .any(|finding| finding.severity == Severity::Blocks && finding.fixed_by != FixedBy::Nothing);
        return (failed && mends).then(|| format!("volrescue repair {} mends what it can", target.given));
    }
    let accepted = report.users.iter().all(|user| user.verdict() == Verdict::Accept);
    if !accepted && !report.users.is_empty() {
        let left = report.users.iter().flat_map(|user| &user.last().findings);
        let mut left = left.filter(|finding| finding.severity == Severity::Blocks).peekable();
        let words = match (left.peek().is_some(), left.any(|finding| finding.fixed_by != FixedBy::Nothing)) {
            (_, true) => "mend what is left above, then run the same command again",
            (true, false) => {
                "what is left above needs a decision that is not volrescue's, as each finding says"
            }
            (false, false) => "what is not known, above, decides; see to that, then run diagnose",
        };
        return Some(words.into());
    }
    match target.kind {
        "block" if target.given.starts_with("vol-") => Some(format!(
            "detach {} and give it back to its instance as root volume, under the device name it had",
            target.given
        )),
        "block" => Some("detach the disk, give it back to its machine as root disk, and log in".into()),
        "image" => Some("boot the image and log in".into()),
        _ => None,
    }
}

/// A user as it is before anything is done.
pub(super) fn user_report(name: String, chosen_by: String, before: Evaluation) -> UserReport {
    UserReport { name, chosen_by, before, after: None, proof: None }
}

/// Where runs are journaled.
pub(super) fn state_dir(args: &StateArgs) -> PathBuf {
    let given = args.state_dir.clone();
    let set = || std::env::var_os("VOLRESCUE_STATE_DIR").filter(|value| !value.is_empty()).map(PathBuf::from);
    given.or_else(set).unwrap_or_else(|| PathBuf::from("/var/lib/volrescue"))
}

/// The client that `--from ADDR[,HOST]` names.
///
/// # Errors
/// What is no address.
pub(super) fn client(from: Option<&str>) -> Result<Client, Refusal> {
    let Some(from) = from else { return Ok(Client::default()) };
    let (address, host) = from.split_once(',').map_or((from, None), |(address, host)| (address, Some(host)));
    match address.parse() {
        Ok(address) => Ok(Client { address: Some(address), host: host.map(BString::from) }),
        Err(_) => Err(Refusal::usage(format!("--from {from}: {address} is no IP address"))
            .hint("Give --from ADDRESS or --from ADDRESS,HOSTNAME.")),
    }
}

/// Seconds since the epoch.
#[expect(clippy::disallowed_methods, reason = "the one place that asks the clock")]
pub(super) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// The refusal in an error, or one that says what failed.
pub(super) fn refusal_of(error: &anyhow::Error) -> Refusal {
    error.downcast_ref::<Refusal>().cloned().unwrap_or_else(|| Refusal::target(format!("{error:#}")))
}

/// Prints the report and gives the exit code.
pub(super) fn finish(report: &Report, as_json: bool, with_diagnosis: bool) -> ExitCode {
    super::CHANGED.fetch_or(has_changed(report), Ordering::Relaxed);
    if as_json {
        super::print(&super::pretty(&json::document(report)));
    } else {
        super::print(&people(report, with_diagnosis));
    }
    // Also for the person who has JSON go through a pipe.
    if let Some(refusal) = &report.error {
        output::stderr(&text::error(refusal, Style { colour: false, columns: 80 }));
    }
    exit_code(report)
}

/// Whether the run has changed the volume.
fn has_changed(report: &Report) -> bool {
    let changed = |outcome: &Outcome| *outcome == Outcome::Changed;
    report.actions.iter().any(|one| changed(&one.outcome))
        || report.undone.iter().any(|one| changed(&one.outcome))
}

/// Whether two targets are one file or device of the helper; what is not there is told where it is opened.
#[expect(clippy::disallowed_methods, reason = "these are paths of the helper that the operator gave")]
fn is_same_place(one: &str, other: &str) -> bool {
    one == other
        || matches!((std::fs::canonicalize(one), std::fs::canonicalize(other)), (Ok(one), Ok(other)) if one == other)
}

/// What the run ends with.
pub(super) fn exit_code(report: &Report) -> ExitCode {
    if let Some(refusal) = &report.error {
        return refusal.code;
    }
    let all_accept = report.users.iter().all(|user| user.verdict() == Verdict::Accept);
    if all_accept { ExitCode::Accepted } else { ExitCode::Refused }
}

fn people(report: &Report, with_diagnosis: bool) -> String {
    let style = Style::of_stdout();
    let mut out = String::new();
    if with_diagnosis {
        out.push_str(&text::volume(report, style));
        for user in &report.users {
            out.push_str(&text::diagnosis(user, &user.before, report, style));
        }
    }
    out.push_str(&text::undone(report, style));
    let planned = report.command == "repair" && !report.users.is_empty();
    // What was shown and not agreed to is not shown again.
    let turned_down = report.error.is_some()
        && !with_diagnosis
        && report.actions.iter().all(|one| one.outcome == Outcome::Planned);
    if planned && !turned_down && (report.error.is_none() || !report.actions.is_empty()) {
        out.push_str(&text::actions(&report.actions, style));
    }
    for user in report.users.iter().filter(|user| user.after.is_some()) {
        out.push_str(&text::result(user, report, style));
    }
    out.push_str(&text::predicted(report, style));
    report.users.iter().for_each(|user| out.push_str(&text::proof(user, style)));
    out.push_str(&text::ending(report, style));
    if let Some(next) = next_step(report) {
        out.push_str(&text::next(&next, style));
    }
    out
}
