//! The files of keys: which, whether the user may open them (auth2-pubkeyfile.c, `auth_openfile`), and whether
//! StrictModes takes their path (misc.c, `safe_path`; Debian's `secure_permissions`).

use super::start::errno_words;
use super::{Case, KeyFile, PathNode};
use crate::accounts::{Passwd, PasswdEntry};
use crate::finding::{CheckId, Finding, FixedBy};
use crate::os::is_system_directory;
use crate::permissions::{Access, Identity, explained, may, unsearchable};
use crate::sshd::build::Build;
use crate::sshd::config::Effective;
use crate::view::{Found, LookError, Stat, TEXT_LIMIT, View, Walk, follow, walk};
use bstr::{BString, ByteSlice, ByteVec};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A token that this sshd does not know: the connection ends when a key is tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UnknownToken(pub(super) char);

/// misc.c, `percent_expand`, with the tokens of a user.
pub(super) fn expand_tokens(text: &[u8], user: &PasswdEntry, build: &Build) -> Result<BString, UnknownToken> {
    let mut out = BString::default();
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        if *byte != b'%' {
            out.push(*byte);
            continue;
        }
        match bytes.next() {
            Some(b'%') => out.push(b'%'),
            Some(b'h') => out.push_str(&user.home),
            Some(b'u') => out.push_str(&user.name),
            Some(b'U') if build.at_least(7, 8) => out.push_str(user.uid.to_string()),
            other => return Err(UnknownToken(other.map_or('\0', |byte| char::from(*byte)))),
        }
    }
    Ok(out)
}

/// auth.c, `expand_authorized_keys`: tokens, then the home before what is not absolute.
pub(super) fn expand(
    pattern: &[u8],
    user: &PasswdEntry,
    system: &super::System,
) -> Result<PathBuf, UnknownToken> {
    let expanded = expand_tokens(pattern, user, &system.build)?;
    let path = if expanded.starts_with(b"/") {
        expanded
    } else {
        let mut path = user.home.clone();
        path.push(b'/');
        path.push_str(&expanded);
        path
    };
    Ok(PathBuf::from(OsStr::from_bytes(&path)))
}

/// The files that sshd would open for this user, in its order. The user need not exist: give the entry they would
/// have. A pattern with a token that the build does not know gives no file.
#[must_use]
pub fn key_files(system: &super::System, effective: &Effective, user: &PasswdEntry) -> Vec<KeyFile> {
    let patterns = effective.authorized_keys_file.value.iter();
    patterns
        .filter_map(|pattern| {
            let path = expand(pattern, user, system).ok()?;
            let own = |token: &str| pattern.contains_str(token);
            let shared = pattern.starts_with(b"/") && !own("%u") && !own("%h") && !own("%U");
            Some(KeyFile { pattern: pattern.clone(), path, shared })
        })
        .collect()
}

/// The account of another uid in whose home this canonical path lies, or whose home it is; homes that are the system's
/// directories are nobody's.
#[must_use]
pub fn home_of_another<'a>(
    view: &dyn View,
    passwd: &'a Passwd,
    user: &PasswdEntry,
    path: &Path,
) -> Option<&'a PasswdEntry> {
    passwd.entries.iter().filter(|other| other.uid != user.uid).find(|other| {
        let written = home_path(other);
        !is_system_directory(&written)
            && follow(view, &written).is_ok_and(|home| {
                home.stat.is_dir() && !is_system_directory(&home.path) && path.starts_with(&home.path)
            })
    })
}

/// What became of one file of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not there: sshd goes on to the next without a word.
    Missing,
    /// There, and refused.
    Refused,
    /// Open.
    Usable,
    /// There, but the volume does not give it.
    Unknown,
}

/// One file of keys, opened as sshd opens it.
#[derive(Clone, Debug)]
pub(super) struct Opened {
    pub(super) path: PathBuf,
    pub(super) walk: Walk,
    pub(super) state: State,
    /// It lies in the home of another account: no repair puts a key there, only another AuthorizedKeysFile helps.
    pub(super) anothers: bool,
    /// Why it is refused or missing; all of them block, unless another file does.
    pub(super) findings: Vec<Finding>,
    /// As root reads it, also where sshd would refuse it: faults come in layers.
    pub(super) content: Option<Vec<u8>>,
}

impl Opened {
    /// The canonical path where there is one, the path as configured where not.
    pub(super) fn shown(&self) -> &Path {
        self.walk.end.as_ref().map_or(&self.path, |found| &found.path)
    }

    /// What is missing for an answer where `finding` says why the file was not read.
    pub(super) fn missing(&self, finding: &Finding) -> String {
        format!("the content of {}: {}", self.path.display(), finding.is)
    }
}

/// What of the user's place in the tree every file needs.
pub(super) struct Places<'a> {
    case: &'a Case<'a>,
    user: &'a PasswdEntry,
    who: &'a Identity,
    /// The canonical home as root sees it.
    home: Option<PathBuf>,
    /// The home as the user's own realpath(3) gives it: where `safe_path` stops.
    stop: Option<PathBuf>,
    /// Debian's rule asks passwd and group with the user's own ids.
    reads_names: bool,
    /// The canonical directories that hold keys inside the home: `.ssh`, wherever it leads.
    key_directories: Vec<PathBuf>,
    /// The canonical files that AuthorizedKeysFile itself names outside the home.
    outside: Vec<PathBuf>,
}

impl<'a> Places<'a> {
    pub(super) fn of(case: &'a Case<'a>, user: &'a PasswdEntry, who: &'a Identity) -> Self {
        let view = case.view;
        let home = walk(view, &home_path(user));
        let canonical = match &home.end {
            Ok(found) if !user.home.is_empty() => Some(found.path.clone()),
            _ => None,
        };
        let reachable = unsearchable(view, &home, who).is_ok_and(|closed| closed.is_empty());
        let reads_names =
            ["/etc/passwd", "/etc/group"].iter().all(|file| may_read(view, Path::new(file), who));
        let (mut key_directories, mut outside) = (Vec::new(), Vec::new());
        for file in key_files(case.system, case.effective, user) {
            let resolved = |path: &Path| match walk(view, path) {
                Walk { end: Ok(found), .. } => found.path,
                Walk { reached, .. } => reached,
            };
            if !file.path.starts_with(home_path(user)) {
                outside.push(file.path.clone());
                outside.push(resolved(&file.path));
            } else if let Some(parent) = file.path.parent() {
                key_directories.push(resolved(parent));
            }
        }
        key_directories.retain(|directory| Some(directory) != canonical.as_ref());
        Self {
            case,
            user,
            who,
            stop: canonical.clone().filter(|_| reachable),
            home: canonical,
            reads_names,
            key_directories,
            outside,
        }
    }

    pub(super) fn home(&self) -> Option<&Path> {
        self.home.as_deref()
    }

    /// Opens one file.
    pub(super) fn open(&self, path: &Path) -> Opened {
        let mut opened = self.open_any(path);
        opened.anothers = self.class(opened.shown()) == FixedBy::SshdConfig;
        if opened.anothers {
            let of_another =
                |finding: &&mut Finding| matches!(finding.fixed_by, FixedBy::Key | FixedBy::SshdConfig);
            for finding in opened.findings.iter_mut().filter(of_another) {
                finding.fixed_by = FixedBy::SshdConfig;
                finding.wants = "an AuthorizedKeysFile outside the home of another account".into();
            }
        }
        opened
    }

    fn open_any(&self, path: &Path) -> Opened {
        let view = self.case.view;
        let walk = walk(view, path);
        let mut findings = Vec::new();
        let closed = match unsearchable(view, &walk, self.who) {
            Ok(closed) => closed,
            Err(error) => return unknown(path, walk, &error),
        };
        for (directory, stat) in &closed {
            findings.push(self.not_searchable(path, directory, stat));
        }
        let found = match &walk.end {
            Ok(found) => found.clone(),
            Err(error @ (LookError::OtherFilesystem | LookError::Errno(_))) => {
                let error = error.clone();
                return unknown(path, walk, &error);
            }
            Err(_) => {
                let missing = matches!(walk.end, Err(LookError::NotFound)) && closed.is_empty();
                findings.extend(self.absent(path, &walk));
                if self.strict() {
                    findings.extend(self.unsafe_directories(&walk.reached));
                }
                let state = if missing { State::Missing } else { State::Refused };
                return Opened {
                    path: path.to_owned(),
                    walk,
                    state,
                    anothers: false,
                    findings,
                    content: None,
                };
            }
        };
        let content = if found.stat.is_file() {
            match view.read(&found.path, TEXT_LIMIT) {
                Ok(content) => Some(content),
                Err(error) => return unknown(path, walk, &error),
            }
        } else {
            None
        };
        match may(view, &found.path, &found.stat, self.who, Access::Read) {
            Ok(true) => {}
            Ok(false) => findings.push(self.not_readable(path, &found)),
            Err(error) => return unknown(path, walk, &error),
        }
        if !found.stat.is_file() {
            findings.push(self.not_regular(path, &found));
        }
        if self.strict() {
            findings.extend(self.unsafe_file(&found));
            findings.extend(self.unsafe_directories(&found.path));
        }
        let state = if findings.is_empty() { State::Usable } else { State::Refused };
        Opened { path: path.to_owned(), walk, state, anothers: false, findings, content }
    }

    fn strict(&self) -> bool {
        self.case.effective.strict_modes.value
    }

    /// Is this canonical directory the home, the directory of the keys, or another?
    fn part(&self, directory: &Path) -> Part {
        if self.home() == Some(directory) {
            Part::Home
        } else if self.key_directories.iter().any(|keys| keys == directory) {
            Part::SshDir
        } else {
            Part::Other
        }
    }

    /// What mends something at this canonical path: the home, what leads to it, and what the configuration names; but
    /// nothing that only a link of the user leads to. Another's home is not opened: there the configuration must name
    /// another file.
    fn class(&self, at: &Path) -> FixedBy {
        let leads_home = home_path(self.user).starts_with(at)
            || self.home().is_none_or(|home| at.starts_with(home) || home.starts_with(at));
        if leads_home {
            FixedBy::Permissions
        } else if !self.outside.iter().any(|file| file.starts_with(at)) {
            FixedBy::Nothing
        } else if home_of_another(self.case.view, &self.case.system.passwd, self.user, at).is_some() {
            FixedBy::SshdConfig
        } else {
            FixedBy::Permissions
        }
    }

    /// The documented form of a directory.
    fn wanted_directory(&self, part: Part, path: &Path, stat: &Stat) -> String {
        match part {
            Part::Home | Part::SshDir if !is_system_directory(path) => {
                format!("0700 {}:{}", self.user.uid, self.user.gid)
            }
            _ => {
                let owner = if stat.uid == self.who.uid { (stat.uid, stat.gid) } else { (0, stat.gid) };
                format!("{:04o} {}:{}", (stat.mode & !0o022) | 0o111, owner.0, owner.1)
            }
        }
    }

    fn wanted_file(&self, path: &Path, stat: &Stat) -> String {
        if self.home().is_some_and(|home| path.starts_with(home)) {
            format!("0600 {}:{}", self.user.uid, self.user.gid)
        } else {
            format!("{:04o} 0:{}", (stat.mode & !0o022) | 0o444, stat.gid)
        }
    }

    /// What sshd logs when open(2) fails: since 9.1, and never for ENOENT.
    fn says_open(&self, file: &Path, error: &str) -> Option<String> {
        let name = self.case.name();
        self.case
            .build()
            .at_least(9, 1)
            .then(|| format!("Could not open user '{name}' authorized keys '{}': {error}", file.display()))
    }

    fn not_searchable(&self, file: &Path, directory: &Path, stat: &Stat) -> Finding {
        let part = self.part(directory);
        let check = match part {
            Part::Home => CheckId::HomeNotSearchable,
            Part::SshDir => CheckId::SshDirNotSearchable,
            Part::Other => CheckId::DirectoryNotSearchable,
        };
        let mut finding = Finding::blocks(check)
            .at(directory)
            .is(explained(self.case.view, directory, stat, Some((self.who, Access::Execute))))
            .wants(self.wanted_directory(part, directory, stat))
            .fixed_by(self.class(directory));
        finding.sshd_says = self.says_open(file, "Permission denied");
        finding
    }

    fn not_readable(&self, file: &Path, found: &Found) -> Finding {
        let mut finding = Finding::blocks(CheckId::KeyFileUnreadable)
            .at(&found.path)
            .is(explained(self.case.view, &found.path, &found.stat, Some((self.who, Access::Read))))
            .wants(self.wanted_file(&found.path, &found.stat))
            .fixed_by(self.class(&found.path));
        finding.sshd_says = self.says_open(file, "Permission denied");
        finding
    }

    fn not_regular(&self, file: &Path, found: &Found) -> Finding {
        let name = self.case.name();
        Finding::blocks(CheckId::KeyFileNotRegular)
            .at(&found.path)
            .is(found.stat.kind.words())
            .wants("a regular file")
            .says(format!("User '{name}' authorized keys '{}' is not a regular file", file.display()))
    }

    /// Why nothing is there.
    fn absent(&self, file: &Path, walk: &Walk) -> Option<Finding> {
        let user = self.user;
        let error = walk.end.as_ref().err()?;
        let last = walk.steps.last();
        let link = last.filter(|step| step.link.is_some());
        let finding = if *error == LookError::Loop || (*error == LookError::NotFound && self.dangles(walk)) {
            let link = walk.steps.iter().rev().find(|step| step.link.is_some()).or(link)?;
            let target = link.link.as_deref().unwrap_or(Path::new(""));
            Finding::blocks(CheckId::KeyFileLinkBroken)
                .at(&link.path)
                .is(format!("a link to {}, {error}", target.display()))
                .wants("a file")
        } else if *error == LookError::NotDirectory {
            let step = last?;
            let check = match self.part(&step.path) {
                Part::Home => CheckId::HomeNotDirectory,
                Part::SshDir => CheckId::SshDirNotDirectory,
                Part::Other if home_path(user) == step.path => CheckId::HomeNotDirectory,
                Part::Other => CheckId::PathNotDirectory,
            };
            Finding::blocks(check).at(&step.path).is(step.stat.kind.words()).wants("a directory")
        } else if *error == LookError::NotFound {
            let finding = self.missing(file, &walk.reached);
            // Nothing is made where a link in the home leads out of it.
            let strays = self.home().is_some_and(|home| {
                !walk.reached.starts_with(home)
                    && walk.steps.iter().any(|step| step.link.is_some() && step.path.starts_with(home))
            });
            return Some(if strays { finding.fixed_by(FixedBy::Nothing) } else { finding });
        } else {
            Finding::blocks(CheckId::KeyFileLinkBroken).at(file).is(error.to_string()).wants("a file")
        };
        let mut finding = finding;
        if *error != LookError::NotFound {
            finding.sshd_says = self.says_open(file, &errno_words(error));
        }
        Some(finding)
    }

    /// Did the resolution fail behind a link in the last component, or in a `.ssh` that is a link?
    fn dangles(&self, walk: &Walk) -> bool {
        let Some(at) = walk.steps.iter().rposition(|step| step.link.is_some()) else { return false };
        let link = &walk.steps[at];
        let Some(target) = link.link.as_deref() else { return false };
        let target = link.path.parent().unwrap_or(Path::new("/")).join(target);
        // The home may be a link that stands; only a link whose own target is absent is broken.
        follow(self.case.view, &target).is_err()
    }

    fn missing(&self, file: &Path, reached: &Path) -> Finding {
        let ids = format!("{}:{}", self.user.uid, self.user.gid);
        let home = walk(self.case.view, &home_path(self.user));
        let home_missing = match &home.end {
            Err(_) => home.reached == reached || home_path(self.user) == reached,
            Ok(_) => false,
        };
        if home_missing && file.starts_with(home_path(self.user)) {
            return Finding::blocks(CheckId::HomeMissing)
                .at(home_path(self.user))
                .is("absent")
                .wants(format!("0700 {ids}"));
        }
        let is_file = file.file_name() == reached.file_name()
            && file.components().count() <= reached.components().count();
        if !is_file && self.part(reached) == Part::SshDir {
            return Finding::blocks(CheckId::SshDirMissing)
                .at(reached)
                .is("absent")
                .wants(format!("0700 {ids}"));
        }
        let in_home = file.starts_with(home_path(self.user));
        let wants = if in_home { format!("0600 {ids}") } else { "0644 0:0".to_owned() };
        Finding::blocks(CheckId::KeyFileMissing)
            .at(if is_file { reached } else { file })
            .is("absent")
            .wants(wants)
    }

    /// `safe_path`, first half: the open file itself.
    fn unsafe_file(&self, found: &Found) -> Vec<Finding> {
        let says =
            format!("Authentication refused: bad ownership or modes for file {}", found.path.display());
        let wants = self.wanted_file(&found.path, &found.stat);
        let class = self.class(&found.path);
        let finding = |check| {
            Finding::blocks(check)
                .at(&found.path)
                .is(explained(self.case.view, &found.path, &found.stat, None))
                .wants(&wants)
                .says(&says)
                .fixed_by(class)
        };
        let mut findings = Vec::new();
        if self.foreign(&found.stat) {
            findings.push(finding(CheckId::KeyFileWrongOwner));
        }
        if self.writable(&found.stat) {
            findings.push(finding(CheckId::KeyFileWritableByOthers));
        }
        findings
    }

    /// `safe_path`, second half: every directory of the canonical path, up to the home or to `/`.
    fn unsafe_directories(&self, file: &Path) -> Vec<Finding> {
        let mut findings = Vec::new();
        for directory in file.ancestors().skip(1) {
            if let Ok(stat) = self.case.view.lstat(directory) {
                findings.extend(self.unsafe_directory(directory, &stat));
            }
            if self.stop.as_deref() == Some(directory) {
                break;
            }
        }
        // From the outside in, as the picture of the path is drawn.
        findings.reverse();
        findings
    }

    fn unsafe_directory(&self, directory: &Path, stat: &Stat) -> Vec<Finding> {
        let (foreign, writable) = (self.foreign(stat), self.writable(stat));
        let part = self.part(directory);
        let (owner, mode) = match part {
            Part::Home => (CheckId::HomeWrongOwner, CheckId::HomeWritableByOthers),
            Part::SshDir => (CheckId::SshDirWrongOwner, CheckId::SshDirWritableByOthers),
            Part::Other => (CheckId::DirectoryWrongOwner, CheckId::DirectoryWritableByOthers),
        };
        let says =
            format!("Authentication refused: bad ownership or modes for directory {}", directory.display());
        let finding = |check| {
            Finding::blocks(check)
                .at(directory)
                .is(explained(self.case.view, directory, stat, None))
                .wants(self.wanted_directory(part, directory, stat))
                .says(&says)
                .fixed_by(self.class(directory))
        };
        let mut findings = Vec::new();
        // Reversed by the caller.
        if writable {
            findings.push(finding(mode));
        }
        if foreign {
            findings.push(finding(owner));
        }
        findings
    }

    fn foreign(&self, stat: &Stat) -> bool {
        stat.uid != 0 && stat.uid != self.who.uid
    }

    /// Writable by others than the owner, in sshd's eyes.
    fn writable(&self, stat: &Stat) -> bool {
        let group_counts = !self.case.build().private_groups_may_write()
            || !self.reads_names
            || !private_group(self.case.system, stat, self.who.uid);
        stat.mode & 0o002 != 0 || (stat.mode & 0o020 != 0 && group_counts)
    }
}

/// Debian's `user-group-modes`: the group has nobody but the one user: by primary gid nobody else than `uid`, and
/// listed at most the name of the inode's owner.
pub(super) fn private_group(system: &super::System, stat: &Stat, uid: u32) -> bool {
    let Some(group) = system.group.by_gid(stat.gid).filter(|_| system.names.group_from_file()) else {
        return false;
    };
    let mut primary = system.passwd.entries.iter().filter(|entry| entry.gid == stat.gid).peekable();
    let has_primary = primary.peek().is_some();
    if primary.any(|entry| entry.uid != uid) {
        return false;
    }
    let Some(owner) = system.passwd.by_uid(stat.uid) else { return false };
    let mut members = group.members.iter();
    match (members.next(), members.next()) {
        (None, _) => has_primary,
        (Some(only), None) => owner.name == only,
        _ => false,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Home,
    SshDir,
    Other,
}

fn unknown(path: &Path, walk: Walk, error: &LookError) -> Opened {
    let check = match error {
        LookError::TooLarge { .. } => CheckId::KeyFileTooLarge,
        LookError::OtherFilesystem => CheckId::HomeElsewhere,
        _ => CheckId::FileUnreadable,
    };
    let at = walk.end.as_ref().map_or(walk.reached.clone(), |found| found.path.clone());
    let finding = Finding::advises(check).at(at).is(error.to_string()).wants("a file that can be read");
    Opened {
        path: path.to_owned(),
        walk,
        state: State::Unknown,
        anothers: false,
        findings: vec![finding],
        content: None,
    }
}

/// The home as written, from `/` where it is relative (sshd's working directory).
pub(super) fn home_path(user: &PasswdEntry) -> PathBuf {
    let home = Path::new("/").join(OsStr::from_bytes(&user.home));
    // A trailing slash must not make another path of it.
    home.components().collect()
}

pub(super) fn may_read(view: &dyn View, path: &Path, who: &Identity) -> bool {
    let walk = walk(view, path);
    let Ok(found) = &walk.end else { return false };
    unsearchable(view, &walk, who).is_ok_and(|closed| closed.is_empty())
        && may(view, &found.path, &found.stat, who, Access::Read).unwrap_or(false)
}

/// The path from `/` down, each inode once, and the thing that is missing.
pub(super) fn picture(walk: &Walk) -> Vec<PathNode> {
    let mut nodes: Vec<PathNode> = Vec::new();
    for step in &walk.steps {
        if nodes.iter().all(|node| node.path != step.path) {
            nodes.push(PathNode { path: step.path.clone(), stat: Some(step.stat), link: step.link.clone() });
        }
    }
    if walk.end.is_err() && nodes.iter().all(|node| node.path != walk.reached) {
        nodes.push(PathNode { path: walk.reached.clone(), stat: None, link: None });
    }
    nodes
}
