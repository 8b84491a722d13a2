//! One question, one answer: would sshd let this user in with these keys?
//!
//! The stages are sshd's own, in its order: it starts (`start`), takes the connection, looks the user up
//! (`account`), tries the key (`pubkey`, which opens files as `path` says), asks PAM (`pam`) and starts the
//! session (`session`). Faults come in layers, so every stage is looked at even where an earlier one refuses; the
//! verdict is sshd's all the same, since one refusal is enough.

use super::build::Build;
use super::config::{Config, Connection, Effective, Setting, Undecided, command_line_options};
use crate::accounts::{Group, Passwd, PasswdEntry, Shadow};
use crate::finding::{CheckId, Finding, Location, Quote, Severity, Verdict};
use crate::keys::PublicKey;
use crate::permissions::Identity;
use crate::view::{Found, LookError, Stat, View, follow, read_accounts, walk};
use bstr::{BStr, BString, ByteSlice};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

mod account;
mod advice;
mod hostkey;
mod hosts;
mod labels;
mod listen;
mod names;
mod negotiation;
mod pam;
mod path;
mod program;
mod pubkey;
mod revoked;
mod session;
mod start;
mod wrappers;

pub use hostkey::kind_of_name;
pub use names::NameServices;
pub use path::{home_of_another, key_files};

/// Where a login comes from, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// Its address.
    pub address: Option<std::net::IpAddr>,
    /// Its host name.
    pub host: Option<BString>,
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// Login name.
    pub user: BString,
    /// The keys that the client would offer, each alone; none: would any key in the files be accepted?
    pub keys: &'a [PublicKey],
    /// Seconds since the epoch, for expiry.
    pub now: i64,
    /// The client's address, where the question names one.
    pub address: Option<std::net::IpAddr>,
    /// The client's host name, where the question names one.
    pub host: Option<BString>,
}

/// What of the volume every question needs, read once.
#[derive(Clone, Debug)]
pub struct System {
    /// The sshd of the volume.
    pub build: Build,
    /// Its configuration.
    pub config: super::config::Config,
    /// /etc/passwd.
    pub passwd: Passwd,
    /// /etc/group.
    pub group: Group,
    /// /etc/shadow.
    pub shadow: Shadow,
    /// Where names of users and groups come from.
    pub names: NameServices,
    /// The sshd program, if the volume has one that can be executed.
    pub program: Option<PathBuf>,
    /// One that can't be, where there is no other.
    pub barred_program: Option<Found>,
    /// Files that are there and cannot be read from the volume (an I/O error, a size beyond reason).
    pub unread: Vec<(PathBuf, LookError)>,
}

/// One line of the picture of the path, from `/` down to the key line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathNode {
    /// The canonical path.
    pub path: PathBuf,
    /// The inode, `None` where nothing is there.
    pub stat: Option<Stat>,
    /// Where it points, if it is a link.
    pub link: Option<PathBuf>,
}

/// The answer for one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyEvaluation {
    /// "SHA256:..." as ssh-keygen -l prints it.
    pub fingerprint: String,
    /// "ssh-ed25519".
    pub algorithm: String,
    /// Its verdict.
    pub verdict: Verdict,
    /// The file and line that sshd would accept it by.
    pub found: Option<Location>,
    /// The first file and line with this key, also where sshd refuses the file or the line.
    pub stands: Option<Location>,
}

/// One file of keys that sshd would open for the user, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFile {
    /// The word of AuthorizedKeysFile.
    pub pattern: BString,
    /// The path after tokens, not yet followed.
    pub path: PathBuf,
    /// `true` if the pattern gives other users the same file.
    pub shared: bool,
}

/// One step of the trace: what sshd did, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceStep {
    /// What is decided ("StrictModes: owner and mode of /home/admin").
    pub step: String,
    /// What was read, and where.
    pub detail: String,
    /// Did it pass?
    pub passed: bool,
    /// The line that decided it.
    pub at: Option<Location>,
    /// What of the line is meant.
    pub word: String,
    /// The line as it stands there, once it has been looked up.
    pub quote: Option<Box<Quote>>,
}

/// The answer.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// Accept only if every key is accepted.
    pub verdict: Verdict,
    /// What was found, in sshd's order.
    pub findings: Vec<Finding>,
    /// What is missing for a decision, in words; not empty where the verdict is unknown.
    pub unknown: Vec<String>,
    /// Each key that was asked for.
    pub keys: Vec<KeyEvaluation>,
    /// The files of keys.
    pub key_files: Vec<KeyFile>,
    /// The user's entry, where there is one.
    pub user: Option<PasswdEntry>,
    /// What is in force.
    pub effective: super::config::Effective,
    /// The path from `/` to the file of keys, as namei(1) shows it.
    pub path: Vec<PathNode>,
    /// Every step.
    pub trace: Vec<TraceStep>,
}

/// Where distributions have the program, in the order in which they are tried.
const PROGRAMS: [&str; 4] = ["/usr/sbin/sshd", "/usr/bin/sshd", "/sbin/sshd", "/usr/local/sbin/sshd"];

impl System {
    /// Reads what every question needs.
    #[must_use]
    pub fn read(view: &dyn View) -> Self {
        let mut unread = Vec::new();
        let mut text = |path: &str| match read_accounts(view, Path::new(path)) {
            Ok(text) => text,
            Err(LookError::NotFound | LookError::NotDirectory | LookError::Loop | LookError::Kind(_)) => {
                Vec::new()
            }
            Err(error) => {
                unread.push((PathBuf::from(path), error));
                Vec::new()
            }
        };
        let passwd = Passwd::parse(&text("/etc/passwd"));
        let group = Group::parse(&text("/etc/group"));
        let shadow = Shadow::parse(&text("/etc/shadow"));
        let build = view.sshd();
        let config = Config::load(view, &build, &command_line_options(view, &build));
        let executable = |path: &str| {
            follow(view, Path::new(path))
                .is_ok_and(|found| found.stat.is_file() && found.stat.mode & 0o111 != 0)
        };
        let program = PROGRAMS.iter().find(|path| executable(path)).map(PathBuf::from);
        let barred = |path: &&str| follow(view, Path::new(path)).ok().filter(|found| found.stat.is_file());
        let barred_program = if program.is_none() { PROGRAMS.iter().find_map(barred) } else { None };
        let names = NameServices::read(view);
        Self { build, config, passwd, group, shadow, names, program, barred_program, unread }
    }

    /// The entry in force for a name, as getpwnam(3) of the volume gives it; `None` also where nsswitch.conf does
    /// not ask the file.
    #[must_use]
    pub fn entry(&self, user: &[u8]) -> Option<&PasswdEntry> {
        self.names.passwd_from_file().then(|| self.passwd.by_name(user)).flatten()
    }

    /// The names of a user's groups, as sshd collects them (groupaccess.c, `ga_init`): a gid without an entry
    /// contributes none.
    #[must_use]
    pub fn group_names(&self, entry: &PasswdEntry) -> Vec<BString> {
        if !self.names.group_from_file() {
            return Vec::new();
        }
        let mut gids = vec![entry.gid];
        gids.extend(self.group.gids_of(&entry.name).into_iter().filter(|gid| *gid != entry.gid));
        let mut names: HashMap<u32, &BString> = HashMap::new();
        for group in &self.group.entries {
            names.entry(group.gid).or_insert(&group.name);
        }
        gids.iter().filter_map(|gid| names.get(gid)).map(|name| (*name).clone()).collect()
    }

    /// Whether this file of accounts is there and cannot be read: what it lacks is then no finding.
    #[must_use]
    pub fn is_unread(&self, path: &str) -> bool {
        self.unread.iter().any(|(unread, _)| unread == Path::new(path))
    }

    /// What is in force for a connection of this user, who need not exist.
    #[must_use]
    pub fn effective_for(&self, question: &Question<'_>) -> (Effective, Vec<Undecided>) {
        self.config.effective(&Connection {
            user: question.user.clone(),
            groups: self.entry(&question.user).map(|entry| self.group_names(entry)),
            address: question.address,
            host: question.host.clone(),
            // A client with a loopback address can only have come to one.
            local_address: question.address.filter(std::net::IpAddr::is_loopback),
            ..Connection::default()
        })
    }
}

/// Answers one question.
#[must_use]
pub fn evaluate(view: &dyn View, system: &System, question: &Question<'_>) -> Evaluation {
    let (effective, undecided) = system.effective_for(question);
    let mut case = Case::new(view, system, question, &effective);
    case.read_errors();
    let hidden = advice::Hidden::all(&case);
    // The accounts that are seen are not those in use.
    for one in hidden.iter().filter(|one| one.covers(Path::new("/etc/passwd"))) {
        let (finding, missing) = one.missing();
        case.doubt(finding, missing);
    }
    let host_keys = start::check(&mut case);
    wrappers::check(&mut case);
    negotiation::check(&mut case, &host_keys);
    case.undecided(&undecided);
    case.leave_open(&hidden, 0);
    let Some(user) = account::find(&mut case) else {
        return case.ended_without_user(&effective);
    };
    let who = Identity::of(user, &system.group);
    let before = case.findings.len();
    account::check(&mut case, user);
    case.leave_open(&hidden, before);
    let tried = pubkey::check(&mut case, user, &who);
    let before = case.findings.len();
    pam::check(&mut case, user);
    session::check(&mut case, user, &who);
    case.leave_open(&hidden, before);
    advice::check(&mut case, user, &tried.key_files);
    labels::check(&mut case, user, &tried.key_files);
    case.ended(&effective, user, tried)
}

/// One question being answered: what is asked, and what was found so far.
struct Case<'a> {
    view: &'a dyn View,
    system: &'a System,
    question: &'a Question<'a>,
    effective: &'a Effective,
    findings: Vec<Finding>,
    unknown: Vec<String>,
    trace: Vec<TraceStep>,
    /// What only concerns keys: it does not count for the verdict of what all keys have in common.
    of_keys: usize,
    doubts_of_keys: usize,
}

impl<'a> Case<'a> {
    fn new(
        view: &'a dyn View,
        system: &'a System,
        question: &'a Question<'a>,
        effective: &'a Effective,
    ) -> Self {
        Self {
            view,
            system,
            question,
            effective,
            findings: Vec::new(),
            unknown: Vec::new(),
            trace: Vec::new(),
            of_keys: 0,
            doubts_of_keys: 0,
        }
    }

    fn build(&self) -> &'a Build {
        &self.system.build
    }

    /// The login name, fit for a sentence.
    fn name(&self) -> &'a BStr {
        BStr::new(&self.question.user)
    }

    /// sshd would stop here.
    fn refuse(&mut self, finding: Finding) {
        debug_assert_eq!(finding.severity, Severity::Blocks, "{finding:?}");
        self.findings.push(finding);
    }

    /// Worth saying; sshd does not care.
    fn advise(&mut self, finding: Finding) {
        debug_assert_eq!(finding.severity, Severity::Advises, "{finding:?}");
        self.findings.push(finding);
    }

    /// Whether sshd goes on here is not on the disk.
    fn doubt(&mut self, finding: Finding, missing: impl Into<String>) {
        self.advise(finding);
        let missing = missing.into();
        if !self.unknown.contains(&missing) {
            self.unknown.push(missing);
        }
    }

    fn traced(&mut self, step: impl Into<String>, detail: impl Into<String>, passed: bool) {
        self.traced_at(step, None, "", detail, passed);
    }

    /// A step that a line decides; `word` is the part of it that is meant.
    fn traced_at(
        &mut self,
        step: impl Into<String>,
        at: Option<&Location>,
        word: impl Into<String>,
        detail: impl Into<String>,
        passed: bool,
    ) {
        self.trace.push(TraceStep {
            step: step.into(),
            detail: detail.into(),
            passed,
            at: at.cloned(),
            word: word.into(),
            quote: None,
        });
    }

    /// A keyword of the configuration, with the value in force.
    fn traced_setting<T>(&mut self, keyword: &str, value: &str, setting: &Setting<T>, passed: bool) {
        let detail = match &setting.at {
            Some(_) => value.to_owned(),
            None => format!("{value} (default)"),
        };
        self.traced_at(keyword, setting.at.as_ref(), value, detail, passed);
    }

    /// What the volume would not give: an I/O error on passwd leaves every answer open.
    fn read_errors(&mut self) {
        for (path, error) in &self.system.unread {
            let finding = Finding::advises(CheckId::FileUnreadable)
                .at(path)
                .is(error.to_string())
                .wants("a file that can be read");
            self.doubt(finding, format!("the content of {}: {error}", path.display()));
        }
    }

    fn undecided(&mut self, undecided: &[Undecided]) {
        for open in undecided {
            let finding = Finding::advises(CheckId::ConfigNotUnderstood)
                .at(&open.at.file)
                .on_line(open.at.line)
                .is(format!("hangs on {}", open.missing))
                .wants("an answer that is on the disk");
            self.doubt(finding, format!("{} ({})", open.missing, open.at));
        }
    }

    /// What blocks by what is seen below a mount point whose filesystem is not there says nothing: it leaves the answer
    /// open. Of the findings from this one on.
    fn leave_open(&mut self, hidden: &[advice::Hidden], from: usize) {
        if hidden.is_empty() {
            return;
        }
        // Without its modules no stack of PAM comes to what it comes to in truth.
        let libraries = ["/usr/lib", "/lib"].map(|path| walk(self.view, Path::new(path)).reached);
        let modules = hidden.iter().find(|one| libraries.iter().any(|path| one.covers(path)));
        let user = self.system.passwd.by_name(&self.question.user);
        let shell = user.and_then(|user| user.shell.to_path().ok()).map(Path::to_owned);
        let mut told = Vec::new();
        let later = self.findings.split_off(from.min(self.findings.len()));
        for finding in later {
            let about =
                if finding.check == CheckId::ShellMissing { shell.clone() } else { finding.path.clone() };
            let path = about.as_deref().filter(|_| finding.severity == Severity::Blocks);
            let leads_to = path.map(|path| walk(self.view, path).reached);
            let behind = |one: &&advice::Hidden| {
                path.is_some_and(|path| one.covers(path))
                    || leads_to.as_ref().is_some_and(|path| one.covers(path))
            };
            let of_pam = path.is_some() && finding.check.name().starts_with("pam-");
            match hidden.iter().find(behind).or(modules.filter(|_| of_pam)) {
                Some(one) => told.push(one.missing()),
                None => self.findings.push(finding),
            }
        }
        for (finding, missing) in told {
            if !self.unknown.contains(&missing) {
                self.doubt(finding, missing);
            }
        }
    }

    /// What all keys have in common: the verdict without any key.
    fn common_verdict(&self) -> Verdict {
        let blocks = self.findings.iter().filter(|finding| finding.severity == Severity::Blocks).count();
        if blocks > self.of_keys {
            Verdict::Refuse
        } else if self.unknown.len() > self.doubts_of_keys {
            Verdict::Unknown
        } else {
            Verdict::Accept
        }
    }

    fn ended(self, effective: &Effective, user: &PasswdEntry, tried: pubkey::Tried) -> Evaluation {
        let common = self.common_verdict();
        let mut keys = tried.keys;
        for key in &mut keys {
            key.verdict = key.verdict.max(common);
        }
        Evaluation {
            verdict: tried.verdict.max(common),
            findings: self.findings,
            unknown: self.unknown,
            keys,
            key_files: tried.key_files,
            user: Some(user.clone()),
            effective: effective.clone(),
            path: tried.path,
            trace: self.trace,
        }
    }

    fn ended_without_user(self, effective: &Effective) -> Evaluation {
        let verdict = self.common_verdict();
        let keys = self.question.keys.iter().map(|key| KeyEvaluation {
            fingerprint: key.fingerprint(),
            algorithm: key.algorithm.clone(),
            verdict,
            found: None,
            stands: None,
        });
        Evaluation {
            verdict,
            keys: keys.collect(),
            findings: self.findings,
            unknown: self.unknown,
            key_files: Vec::new(),
            user: None,
            effective: effective.clone(),
            path: Vec::new(),
            trace: self.trace,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
