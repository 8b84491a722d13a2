//! What the modules of Linux-PAM answer for one user, as far as the disk tells.

use super::super::Case;
use super::super::account::{nologin_present, of_name_services, shell_of, today, unless_in_the_way};
use super::super::hosts::{Tri, host_list};
use super::limits;
use super::stack::{Code, Handler, Kind, Rule};
use crate::accounts::PasswdEntry;
use crate::finding::{CheckId, Finding};
use crate::sshd::pattern::match_pattern;
use crate::view::{FileKind, TEXT_LIMIT, View, follow, read_following};
use bstr::{BString, ByteSlice};
use std::path::{Path, PathBuf};

/// The answer of a module.
pub(super) enum Answer {
    /// Its code, and why, where that is more than the rule itself says.
    Returns(Code, Option<Box<Finding>>),
    /// Not on the disk: what is missing.
    Undecided(String),
}

impl Answer {
    fn code(code: Code) -> Self {
        Self::Returns(code, None)
    }

    fn because(code: Code, finding: Finding) -> Self {
        Self::Returns(code, Some(Box::new(finding)))
    }
}

/// The most bytes of a module that are read.
const MODULE_LIMIT: u64 = 4 << 20;

/// What a module can be asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Parts {
    /// Nothing: it cannot be loaded.
    Absent,
    Of {
        account: bool,
        session: bool,
    },
    /// It is not known where modules lie, or what this one holds.
    Unknown,
}

impl Parts {
    fn has(self, kind: Kind) -> bool {
        match (self, kind) {
            (Self::Of { account, .. }, Kind::Account) => account,
            (Self::Of { session, .. }, Kind::Session) => session,
            (Self::Unknown, _) => true,
            (Self::Absent, _) => false,
        }
    }
}

/// Who asks, and where modules lie.
pub(super) struct Host<'a> {
    case: &'a Case<'a>,
    user: &'a PasswdEntry,
    kind: Kind,
    groups: Vec<BString>,
    directories: Vec<PathBuf>,
}

/// Modules that do not stand in the way of a session or an account on an ordinary system.
const HARMLESS: [&str; 40] = [
    "pam_cap",
    "pam_ck_connector",
    "pam_console",
    "pam_ecryptfs",
    "pam_elogind",
    "pam_env",
    "pam_faildelay",
    "pam_faillock",
    "pam_fprintd",
    "pam_fscrypt",
    "pam_gnome_keyring",
    "pam_group",
    "pam_issue",
    "pam_keyinit",
    "pam_krb5",
    "pam_kwallet5",
    "pam_lastlog",
    "pam_lastlog2",
    "pam_ldap",
    "pam_loginuid",
    "pam_mail",
    "pam_mkhomedir",
    "pam_motd",
    "pam_oddjob_mkhomedir",
    "pam_permit",
    "pam_selinux",
    "pam_sss",
    "pam_systemd",
    "pam_tally",
    "pam_tally2",
    "pam_timestamp",
    "pam_tmpdir",
    "pam_tty_audit",
    "pam_umask",
    "pam_unix",
    "pam_unix_session",
    "pam_uwsgi",
    "pam_winbind",
    "pam_wtmpdb",
    "pam_xauth",
];

/// What pam_unix runs to read shadow.
const HELPER: &str = "/usr/sbin/unix_chkpwd";

/// Of these, the account side hangs on a directory service.
const DIRECTORY: [&str; 5] = ["pam_krb5", "pam_ldap", "pam_sss", "pam_winbind", "pam_oslogin_login"];

impl<'a> Host<'a> {
    pub(super) fn of(case: &'a Case<'a>, user: &'a PasswdEntry, kind: Kind) -> Self {
        let groups = case.system.group_names(user);
        Self { case, user, kind, groups, directories: module_directories(case.view) }
    }

    pub(super) fn ask(&self, rule: &Rule) -> Answer {
        let Handler::Module(module) = &rule.handler else { return Answer::code(Code::PERM_DENIED) };
        let parts = self.parts(module);
        if parts == Parts::Absent {
            let finding = Finding::blocks(CheckId::PamRefuses)
                .at(&rule.at.file)
                .on_line(rule.at.line)
                .is(format!("{}: the module does not exist", rule.words()))
                .wants("a module that is installed");
            return Answer::because(Code::MODULE_UNKNOWN, finding);
        }
        if !parts.has(self.kind) {
            let why = format!("the module has no {} part", self.kind.word());
            return Answer::because(Code::MODULE_UNKNOWN, self.refusal(rule, &why));
        }
        let file = module.rsplit('/').next().unwrap_or_default();
        let name = file.strip_suffix(".so").unwrap_or(file);
        match (name, self.kind) {
            ("pam_deny", Kind::Account) => Answer::code(Code::ACCT_EXPIRED),
            ("pam_deny", Kind::Session) => Answer::code(Code::SESSION_ERR),
            ("pam_unix" | "pam_unix_acct", Kind::Account) => self.unix(rule),
            ("pam_nologin", _) => self.nologin(rule),
            ("pam_localuser", _) => Answer::code(Code::SUCCESS),
            ("pam_rootok", _) => Answer::code(Code::SUCCESS),
            ("pam_debug", _) => self.debug(rule),
            ("pam_warn", _) => Answer::code(Code::IGNORE),
            ("pam_echo", _) => self.echo(rule),
            ("pam_systemd_home", _) => Answer::code(Code::USER_UNKNOWN),
            ("pam_succeed_if", _) => self.succeed_if(rule),
            ("pam_usertype", _) => self.usertype(rule),
            ("pam_access", _) => self.access(rule),
            ("pam_listfile", _) => self.listfile(rule),
            ("pam_shells", _) => self.shells(rule),
            // Written for auth and session; asked otherwise it says so.
            ("pam_env", Kind::Account) => Answer::code(Code::SERVICE_ERR),
            ("pam_limits", Kind::Session) => self.limits(rule),
            ("pam_namespace", Kind::Session) => {
                self.needs_empty(rule, "/etc/security/namespace.conf", Code::SESSION_ERR)
            }
            ("pam_time", Kind::Account) => {
                self.needs_empty(rule, "/etc/security/time.conf", Code::PERM_DENIED)
            }
            ("pam_sepermit", Kind::Account) => {
                self.needs_empty(rule, "/etc/security/sepermit.conf", Code::IGNORE)
            }
            (name, Kind::Account) if DIRECTORY.contains(&name) => {
                Answer::Undecided(format!("what {name} answers for {}", self.case.name()))
            }
            (name, _) if HARMLESS.contains(&name) => Answer::code(Code::SUCCESS),
            (name, _) => Answer::Undecided(format!("what the PAM module {name} answers")),
        }
    }

    fn parts(&self, module: &str) -> Parts {
        if module.starts_with('/') {
            return self.parts_of(Path::new(module));
        }
        // Where no directory of modules is known, nothing can be said against one.
        if self.directories.is_empty() {
            return Parts::Unknown;
        }
        let in_each = self.directories.iter().map(|directory| self.parts_of(&directory.join(module)));
        in_each.into_iter().find(|parts| *parts != Parts::Absent).unwrap_or(Parts::Absent)
    }

    /// What dlsym(3) would find: the names of its functions stand in the module.
    fn parts_of(&self, path: &Path) -> Parts {
        let Ok(found) = follow(self.case.view, path) else { return Parts::Absent };
        if !found.stat.is_file() || found.stat.size == 0 {
            return Parts::Absent;
        }
        let Ok(content) = self.case.view.read(&found.path, MODULE_LIMIT) else { return Parts::Unknown };
        if !content.starts_with(b"\x7fELF") {
            return Parts::Absent;
        }
        let has = |name: &[u8]| content.find(name).is_some();
        Parts::Of { account: has(b"pam_sm_acct_mgmt"), session: has(b"pam_sm_open_session") }
    }

    fn refusal(&self, rule: &Rule, why: &str) -> Finding {
        Finding::blocks(CheckId::PamRefuses)
            .at(&rule.at.file)
            .on_line(rule.at.line)
            .is(format!("{}: {why}", rule.words()))
            .wants(format!("a rule that lets {} in", self.case.name()))
    }

    /// pam_unix, account: what shadow says about expiry and age (passverify.c, `check_shadow_expiry`).
    fn unix(&self, rule: &Rule) -> Answer {
        let password = self.user.password.0.as_bstr();
        let shadowed = password == "x" || password == "*NP*" || password.starts_with(b"##");
        if !shadowed {
            return Answer::code(Code::SUCCESS);
        }
        let recent = self.case.build().pam_at_least_1_6();
        if recent
            && follow(self.case.view, Path::new(HELPER)).is_err()
            && follow(self.case.view, Path::new("/usr/bin/unix_chkpwd")).is_err()
        {
            return Answer::because(
                Code::AUTHINFO_UNAVAIL,
                self.refusal(rule, "its helper unix_chkpwd is absent"),
            );
        }
        if self.case.system.is_unread("/etc/shadow") {
            return Answer::code(Code::SUCCESS);
        }
        let asked = self.case.system.names.shadow_from_file();
        let Some(entry) = self.case.system.shadow.by_name(&self.user.name).filter(|_| asked) else {
            if rule.arguments.iter().any(|argument| argument == "broken_shadow") {
                return Answer::code(Code::SUCCESS);
            }
            let finding = Finding::blocks(CheckId::ShadowEntryMissing)
                .at("/etc/shadow")
                .is(format!("no usable line for {}", self.case.name()))
                .wants(format!("a line for {}", self.case.name()));
            let finding = if self.case.system.shadow.by_name(&self.user.name).is_some() {
                of_name_services(self.case, "shadow", finding)
            } else {
                unless_in_the_way(self.case.view, finding)
            };
            return Answer::because(Code::AUTHINFO_UNAVAIL, finding);
        };
        let today = today(self.case);
        let finding = |check, is: String, wants: &str| {
            Finding::blocks(check).at("/etc/shadow").on_line(entry.line).is(is).wants(wants)
        };
        if let Some(expire) = entry.expire.filter(|expire| *expire != -1 && today >= *expire) {
            let is = format!("expired on day {expire}, today is {today}");
            let wants = "no expiry date, or a later one";
            return Answer::because(Code::ACCT_EXPIRED, finding(CheckId::AccountExpired, is, wants));
        }
        let Some(changed) = entry.last_change.filter(|day| *day != -1) else {
            return Answer::code(Code::SUCCESS);
        };
        let wants = "a day of last change within its maximum age, or no maximum";
        if changed == 0 {
            let is = "last change is day 0, which asks for a new password".to_owned();
            return Answer::because(Code::NEW_AUTHTOK_REQD, finding(CheckId::PasswordExpired, is, wants));
        }
        if today < changed {
            return Answer::code(Code::SUCCESS);
        }
        let age = today - changed;
        let set = |days: Option<i64>| days.filter(|days| *days != -1);
        let (Some(max), inactive) = (set(entry.max), set(entry.inactive)) else {
            return Answer::code(Code::SUCCESS);
        };
        // Linux-PAM 1.6 turned the comparisons: the last day no longer counts.
        if age < max || (age == max && !recent) {
            return Answer::code(Code::SUCCESS);
        }
        let is = format!("changed {age} days ago, at most {max} allowed");
        let code = match inactive {
            Some(inactive) if recent && age >= max.saturating_add(inactive) => Code::AUTHTOK_EXPIRED,
            Some(inactive) if !recent && age > inactive && age > max.saturating_add(inactive) => {
                Code::AUTHTOK_EXPIRED
            }
            _ => Code::NEW_AUTHTOK_REQD,
        };
        Answer::because(code, finding(CheckId::PasswordExpired, is, wants))
    }

    /// pam_nologin: /run is filled at boot, so only /etc counts. What it can open it also wants to read; that root may
    /// come in all the same does not save a login whose message cannot be read.
    fn nologin(&self, rule: &Rule) -> Answer {
        let mut file = rule.arguments.iter().filter_map(|argument| argument.strip_prefix("file="));
        let file = file.next_back().unwrap_or("/etc/nologin");
        let otherwise = if rule.arguments.iter().any(|argument| argument == "successok") {
            Code::SUCCESS
        } else {
            Code::IGNORE
        };
        let volatile = file.starts_with("/run/") || file.starts_with("/var/run/");
        let found = if volatile { None } else { follow(self.case.view, Path::new(file)).ok() };
        let Some(found) = found.filter(|found| found.stat.kind != FileKind::Socket) else {
            return Answer::code(otherwise);
        };
        let finding = nologin_present(self.case.view, Path::new(file));
        match found.stat.kind {
            // Its size is never read; some filesystems give an empty one the size 0.
            FileKind::Directory if found.stat.size > 0 => Answer::because(Code::SYSTEM_ERR, finding),
            // Nobody gets past it: it waits for a writer.
            FileKind::Fifo => Answer::because(Code::AUTH_ERR, finding),
            _ if self.user.uid == 0 => Answer::code(otherwise),
            _ => Answer::because(Code::AUTH_ERR, finding),
        }
    }

    /// pam_succeed_if: every condition must hold.
    fn succeed_if(&self, rule: &Rule) -> Answer {
        const FLAGS: [&str; 7] =
            ["debug", "quiet", "quiet_fail", "quiet_success", "audit", "use_uid", "use_first_pass"];
        // With use_uid it is the caller who is judged, and that is sshd: root.
        let caller = rule.arguments.iter().any(|argument| argument == "use_uid");
        let subject = self.case.system.passwd.by_uid(0).filter(|_| caller).unwrap_or(self.user);
        let groups = self.case.system.group_names(subject);
        let words: Vec<&str> =
            rule.arguments.iter().map(String::as_str).filter(|word| !FLAGS.contains(word)).collect();
        let mut all = true;
        for words in words.chunks(3) {
            let [left, operator, right] = words else {
                return Answer::code(Code::SERVICE_ERR);
            };
            match condition(subject, &groups, left, operator, right) {
                Some(holds) => all &= holds,
                None => return Answer::Undecided(format!("whether \"{left} {operator} {right}\" holds")),
            }
        }
        if all {
            return Answer::code(Code::SUCCESS);
        }
        Answer::because(Code::AUTH_ERR, self.refusal(rule, "the condition does not hold"))
    }

    /// pam_usertype: below UID_MIN of login.defs is the system.
    fn usertype(&self, rule: &Rule) -> Answer {
        let text =
            read_following(self.case.view, Path::new("/etc/login.defs"), TEXT_LIMIT).unwrap_or_default();
        let least = text
            .lines()
            .filter_map(|line| line.to_str().ok()?.trim().strip_prefix("UID_MIN")?.trim().parse::<u32>().ok())
            .next()
            .unwrap_or(1000);
        let system = self.user.uid < least;
        let asked_system = rule.arguments.iter().any(|argument| argument == "issystem");
        if system == asked_system {
            Answer::code(Code::SUCCESS)
        } else {
            Answer::because(Code::AUTH_ERR, self.refusal(rule, "the user is of the other kind"))
        }
    }

    /// pam_access: the first line of access.conf that matches decides.
    fn access(&self, rule: &Rule) -> Answer {
        let argument =
            |prefix: &str| rule.arguments.iter().find_map(|argument| argument.strip_prefix(prefix));
        let odd = ["fieldsep=", "listsep="].iter().any(|prefix| argument(prefix).is_some());
        if odd {
            return Answer::Undecided("what pam_access makes of its own separators".into());
        }
        let named = argument("accessfile=");
        let mut files = vec![PathBuf::from(named.unwrap_or("/etc/security/access.conf"))];
        if named.is_none() {
            let directory = Path::new("/etc/security/access.d");
            let names = self.case.view.list(directory).unwrap_or_default();
            files.extend(
                names
                    .iter()
                    .filter(|name| name.as_encoded_bytes().ends_with(b".conf"))
                    .map(|name| directory.join(name)),
            );
        }
        let by_group = !rule.arguments.iter().any(|argument| argument == "nodefgroup");
        let mut doubt = None;
        for file in files {
            let Ok(text) = read_following(self.case.view, &file, TEXT_LIMIT) else { continue };
            for (line, number) in text.lines().zip(1_u32..) {
                let line = line.to_str_lossy();
                let line = line.trim_end();
                if line.starts_with('#') || line.is_empty() {
                    continue;
                }
                let mut fields = line.splitn(3, ':').map(str::trim);
                let (Some(permission), Some(users), Some(origins)) =
                    (fields.next(), fields.next(), fields.next())
                else {
                    continue;
                };
                let grants = match permission {
                    "+" => true,
                    "-" => false,
                    _ => continue,
                };
                let user = access_list(users, |token| self.access_user(token, by_group));
                let origin = if user == Tri::No {
                    Tri::No
                } else {
                    access_list(origins, |token| self.access_origin(token))
                };
                match (user, origin) {
                    (Tri::No, _) | (_, Tri::No) => {}
                    (Tri::Yes, Tri::Yes) => {
                        if let Some(doubt) = doubt {
                            return Answer::Undecided(doubt);
                        }
                        if grants {
                            return Answer::code(Code::SUCCESS);
                        }
                        let finding = Finding::blocks(CheckId::PamRefuses)
                            .at(&file)
                            .on_line(number)
                            .is(line)
                            .wants(format!("a line that lets {} in", self.case.name()));
                        return Answer::because(Code::PERM_DENIED, finding);
                    }
                    _ => {
                        doubt.get_or_insert(format!("the client's address ({}:{number})", file.display()));
                    }
                }
            }
        }
        // Nothing matches: access is granted, whatever a doubtful "+" would have said.
        doubt.map_or_else(|| Answer::code(Code::SUCCESS), Answer::Undecided)
    }

    fn access_user(&self, token: &str, by_group: bool) -> Tri {
        let name = self.user.name.to_str_lossy();
        let in_group = |group: &str| self.groups.iter().any(|of_user| *of_user == group);
        if token == "ALL" || token == name {
            return Tri::Yes;
        }
        if let Some(group) = token.strip_prefix('(').and_then(|token| token.strip_suffix(')')) {
            return Tri::from(in_group(group));
        }
        if token.starts_with('@') {
            return Tri::Maybe;
        }
        Tri::from(by_group && in_group(token))
    }

    fn access_origin(&self, token: &str) -> Tri {
        match token {
            "ALL" => Tri::Yes,
            "LOCAL" | "NONE" | "cron" | "crond" => Tri::No,
            _ if token.starts_with("tty") || token.starts_with('/') || token.starts_with(':') => Tri::No,
            _ => match (self.case.question.address, token.strip_suffix('.')) {
                (Some(address), Some(_)) => Tri::from(address.to_string().starts_with(token)),
                (Some(_), None)
                    if token.starts_with(|first: char| first.is_ascii_digit()) || token.contains(':') =>
                {
                    host_list(token.as_bytes(), self.case.question.address, None, false)
                }
                _ => Tri::Maybe,
            },
        }
    }

    /// pam_listfile with item=user or group.
    fn listfile(&self, rule: &Rule) -> Answer {
        let argument =
            |prefix: &str| rule.arguments.iter().find_map(|argument| argument.strip_prefix(prefix));
        let onerr = if argument("onerr=") == Some("succeed") { Code::SUCCESS } else { Code::SERVICE_ERR };
        let (Some(item), Some(sense), Some(file)) =
            (argument("item="), argument("sense="), argument("file="))
        else {
            return Answer::code(onerr);
        };
        if argument("apply=").is_some() {
            return Answer::Undecided("what pam_listfile with apply= answers".into());
        }
        let items: Vec<BString> = match item {
            "user" => vec![self.user.name.clone()],
            "group" => self.groups.clone(),
            "shell" => vec![self.user.shell.clone()],
            _ => return Answer::Undecided(format!("what pam_listfile finds for {item}")),
        };
        let found = follow(self.case.view, Path::new(file));
        let Ok(text) = read_following(self.case.view, Path::new(file), TEXT_LIMIT) else {
            return Answer::because(onerr, self.refusal(rule, "its file cannot be read"));
        };
        // A list that anybody may write, or that is no plain file, is not believed.
        if found.is_ok_and(|found| found.stat.mode & 0o002 != 0) {
            return Answer::because(Code::AUTH_ERR, self.refusal(rule, "its file can be written by others"));
        }
        let listed = text.lines().any(|line| items.iter().any(|item| line.trim_ascii() == item.as_slice()));
        if listed == (sense == "allow") {
            Answer::code(Code::SUCCESS)
        } else {
            let why = if listed { "the user is listed" } else { "the user is not listed" };
            Answer::because(Code::AUTH_ERR, self.refusal(rule, why))
        }
    }

    /// Answers what its arguments say (pam_debug(8)).
    fn debug(&self, rule: &Rule) -> Answer {
        let event = if self.kind == Kind::Session { "open_session=" } else { "acct=" };
        let told = rule.arguments.iter().filter_map(|argument| argument.strip_prefix(event));
        let code = told.filter_map(Code::named).next_back().unwrap_or(Code::SUCCESS);
        if code == Code::SUCCESS || code == Code::IGNORE {
            return Answer::code(code);
        }
        Answer::because(code, self.refusal(rule, &format!("it answers {}", code.name())))
    }

    /// pam_echo(8): success where it has something to show, be it an empty line.
    fn echo(&self, rule: &Rule) -> Answer {
        let file = rule.arguments.iter().filter_map(|argument| argument.strip_prefix("file=")).next_back();
        let shows = file.filter(|file| !file.is_empty()).is_none_or(|file| {
            follow(self.case.view, Path::new(file))
                .is_ok_and(|found| found.stat.is_file() && found.stat.size > 0)
        });
        Answer::code(if shows { Code::SUCCESS } else { Code::IGNORE })
    }

    fn shells(&self, rule: &Rule) -> Answer {
        let shell = shell_of(self.user);
        let text = read_following(self.case.view, Path::new("/etc/shells"), TEXT_LIMIT).unwrap_or_default();
        let writable =
            follow(self.case.view, Path::new("/etc/shells")).is_ok_and(|found| found.stat.mode & 0o002 != 0);
        if !writable && text.lines().any(|line| line == shell.as_bytes()) {
            return Answer::code(Code::SUCCESS);
        }
        Answer::because(Code::AUTH_ERR, self.refusal(rule, "the shell is not in /etc/shells"))
    }

    fn limits(&self, rule: &Rule) -> Answer {
        let named = rule.arguments.iter().find_map(|argument| argument.strip_prefix("conf="));
        match limits::refuses(self.case.view, named, self.user, &self.groups) {
            Ok(limits::Verdict::Fits) => Answer::code(Code::SUCCESS),
            Ok(limits::Verdict::Unknown(limit)) => {
                Answer::Undecided(format!("whether a login fits into {} ({})", limit.text, limit.at))
            }
            Ok(limits::Verdict::Refuses(limit)) => {
                let finding = Finding::blocks(CheckId::PamRefuses)
                    .at(&limit.at.file)
                    .on_line(limit.at.line)
                    .is(limit.text)
                    .wants("a limit that leaves room for a login");
                Answer::because(Code::PERM_DENIED, finding)
            }
            // Linux-PAM 1.6 goes without.
            Err(_) if self.case.build().pam_at_least_1_6() => Answer::code(Code::SUCCESS),
            Err(file) => {
                let finding = Finding::blocks(CheckId::PamRefuses)
                    .at(file)
                    .is("absent, and pam_limits needs it")
                    .wants("the file of the distribution");
                Answer::because(Code::SERVICE_ERR, finding)
            }
        }
    }

    /// A module whose file says nothing stands aside; one whose file says something is not evaluated.
    fn needs_empty(&self, rule: &Rule, file: &str, absent: Code) -> Answer {
        let Ok(text) = read_following(self.case.view, Path::new(file), TEXT_LIMIT) else {
            return Answer::because(absent, self.refusal(rule, &format!("{file} is absent")));
        };
        let says = text.lines().any(|line| {
            let line = line.trim_ascii();
            !line.is_empty() && !line.starts_with(b"#")
        });
        if says {
            Answer::Undecided(format!("what {file} means for this login"))
        } else {
            Answer::code(Code::SUCCESS)
        }
    }
}

/// One condition of pam_succeed_if.
fn condition(
    user: &PasswdEntry,
    groups: &[BString],
    left: &str,
    operator: &str,
    right: &str,
) -> Option<bool> {
    let text = match left {
        "user" => user.name.to_string(),
        "uid" => user.uid.to_string(),
        "gid" => user.gid.to_string(),
        "shell" => user.shell.to_string(),
        "home" => user.home.to_string(),
        "service" => "sshd".to_owned(),
        "tty" => "ssh".to_owned(),
        _ => return None,
    };
    let numbers = || Some((text.parse::<i64>().ok()?, right.parse::<i64>().ok()?));
    let in_list = || right.split(':').any(|item| item == text);
    let in_group = || right.split(':').any(|group| groups.iter().any(|of_user| *of_user == group));
    match operator {
        "lt" | "<" => numbers().map(|(left, right)| left < right),
        "le" | "<=" => numbers().map(|(left, right)| left <= right),
        "gt" | ">" => numbers().map(|(left, right)| left > right),
        "ge" | ">=" => numbers().map(|(left, right)| left >= right),
        "eq" => numbers().map(|(left, right)| left == right),
        "ne" => numbers().map(|(left, right)| left != right),
        "=" => Some(text == right),
        "!=" => Some(text != right),
        "=~" => Some(match_pattern(text.as_bytes(), right.as_bytes())),
        "!~" => Some(!match_pattern(text.as_bytes(), right.as_bytes())),
        "in" => Some(in_list()),
        "notin" => Some(!in_list()),
        "ingroup" => Some(in_group()),
        "notingroup" => Some(!in_group()),
        _ => None,
    }
}

/// `a b EXCEPT c`, as in hosts_access(5).
fn access_list(list: &str, judge: impl Fn(&str) -> Tri) -> Tri {
    let words: Vec<&str> = list.split([' ', '\t', ',']).filter(|word| !word.is_empty()).collect();
    let parts: Vec<&[&str]> = words.split(|word| word.eq_ignore_ascii_case("EXCEPT")).collect();
    // Each EXCEPT takes back from what stands before it: a EXCEPT (b EXCEPT c).
    let mut excluded = Tri::No;
    for part in parts.iter().rev() {
        let mut any = Tri::No;
        for word in *part {
            match judge(word) {
                Tri::Yes => any = Tri::Yes,
                Tri::Maybe if any == Tri::No => any = Tri::Maybe,
                _ => {}
            }
        }
        excluded = match (any, excluded) {
            (Tri::No, _) | (_, Tri::Yes) => Tri::No,
            (any, Tri::No) => any,
            (_, Tri::Maybe) => Tri::Maybe,
        };
    }
    excluded
}

/// Where the volume's libpam looks: the first directory of the distribution's kind that holds modules.
fn module_directories(view: &dyn View) -> Vec<PathBuf> {
    const PLACES: [&str; 12] = [
        "/usr/lib/x86_64-linux-gnu/security",
        "/usr/lib/aarch64-linux-gnu/security",
        "/lib/x86_64-linux-gnu/security",
        "/lib/aarch64-linux-gnu/security",
        "/usr/lib64/security",
        "/lib64/security",
        "/usr/lib/security",
        "/lib/security",
        "/usr/lib/arm-linux-gnueabihf/security",
        "/usr/lib/powerpc64le-linux-gnu/security",
        "/usr/lib/s390x-linux-gnu/security",
        "/usr/lib/riscv64-linux-gnu/security",
    ];
    PLACES
        .iter()
        .map(PathBuf::from)
        .filter(|place| {
            follow(view, &place.join("pam_permit.so")).is_ok()
                || follow(view, &place.join("pam_unix.so")).is_ok()
        })
        .collect()
}
