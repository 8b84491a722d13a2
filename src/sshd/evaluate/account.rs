//! The user, before any key is looked at: auth.c, `getpwnamallow` and `allowed_user`.

use super::Case;
use super::hosts::{Tri, host_list};
use crate::accounts::PasswdEntry;
use crate::finding::{CheckId, Finding, FixedBy, Location, Severity};
use crate::sshd::config::Setting;
use crate::sshd::pattern::{match_pattern, split_user_pattern};

use crate::view::{TEXT_LIMIT, View, follow, read_following, walk_no_follow};
use bstr::{BStr, BString, ByteSlice};
use std::path::Path;

/// getpwnam(3) with the volume's name services; tells why there is nobody.
pub(super) fn find<'a>(case: &mut Case<'a>) -> Option<&'a PasswdEntry> {
    let system = case.system;
    let user = &case.question.user;
    if let Some(entry) = system.entry(user) {
        let at = Location { file: "/etc/passwd".into(), line: entry.line };
        let detail = format!("{}, uid {}, gid {}, home {}", entry.name, entry.uid, entry.gid, entry.home);
        case.traced_at("the user", Some(&at), entry.name.to_string(), detail, true);
        let others: Vec<String> = system
            .passwd
            .entries
            .iter()
            .filter(|other| other.name == *user && other.line != entry.line)
            .map(|other| format!("uid {} on line {}", other.uid, other.line))
            .collect();
        if !others.is_empty() {
            let finding = Finding::advises(CheckId::UserDuplicate)
                .at("/etc/passwd")
                .on_line(entry.line)
                .is(format!("also {}", others.join(", ")))
                .wants("one line");
            case.advise(finding);
        }
        return Some(entry);
    }
    case.traced("the user", format!("{} is not in /etc/passwd", case.name()), false);
    if system.is_unread("/etc/passwd") {
        // The finding and the doubt are there already.
        return None;
    }
    let finding = Finding::blocks(CheckId::UserMissing)
        .at("/etc/passwd")
        .is(what_is_there(case))
        .wants(format!("a line for {}", case.name()))
        .says(format!("Invalid user {}", case.name()));
    let finding = if system.passwd.by_name(user).is_some() {
        of_name_services(case, "passwd", finding)
    } else {
        unless_in_the_way(case.view, finding)
    };
    match system.names.passwd_service() {
        Some(service) => {
            let mut softened = finding;
            softened.severity = Severity::Advises;
            case.advise(softened);
            let doubt = Finding::advises(CheckId::UserDirectoryService)
                .at("/etc/nsswitch.conf")
                .is(format!("passwd: {}", system.names.passwd.join(" ")))
                .wants("a user of the volume's own passwd");
            case.doubt(doubt, format!("whether the name service {service} knows {}", case.name()));
        }
        None => case.refuse(finding),
    }
    None
}

/// A missing entry is put back only into regular files: another thing in the place of one of the account files, such as
/// a symbolic link, is named, and then `--create-user` does not help.
pub(super) fn unless_in_the_way(view: &dyn View, finding: Finding) -> Finding {
    let obstacle = ["/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow"].iter().find_map(|path| {
        let found = walk_no_follow(view, Path::new(path)).end.ok()?;
        (!found.stat.is_file())
            .then(|| format!("{path} is {}, which is not written", found.stat.kind.words()))
    });
    match obstacle {
        Some(obstacle) => {
            let is = format!("{}; {obstacle}", finding.is);
            finding.is(is).fixed_by(FixedBy::Nothing)
        }
        None => finding,
    }
}

/// Where the file has the entry and nsswitch.conf does not ask it, the fault is there.
pub(super) fn of_name_services(case: &Case<'_>, database: &str, finding: Finding) -> Finding {
    let names = &case.system.names;
    let asked = if database == "shadow" { &names.shadow } else { &names.passwd };
    let is = format!("nsswitch.conf does not ask the file ({database}: {})", asked.join(" "));
    let finding = finding.at("/etc/nsswitch.conf").is(is).wants(format!("{database}: files"));
    match names.line_of(database) {
        Some(line) => finding.on_line(line).fixed_by(FixedBy::Account),
        None => finding,
    }
}

fn what_is_there(case: &Case<'_>) -> String {
    let user = &case.question.user;
    let passwd = &case.system.passwd;
    if let Some(other) = passwd.entries.iter().find(|entry| entry.name.eq_ignore_ascii_case(user)) {
        return format!("{} on line {}", other.name, other.line);
    }
    let mut prefix = user.to_vec();
    prefix.push(b':');
    let text = read_following(case.view, Path::new("/etc/passwd"), TEXT_LIMIT).unwrap_or_default();
    match text.lines().zip(1_u32..).find(|(line, _)| line.starts_with(&prefix)) {
        Some((_, number)) => format!("line {number} is not one that glibc takes"),
        None => "absent".into(),
    }
}

/// auth.c, `allowed_user`.
pub(super) fn check(case: &mut Case<'_>, user: &PasswdEntry) {
    if let Some(finding) = invalid_id(user) {
        case.refuse(finding);
    }
    let use_pam = &case.effective.use_pam;
    case.traced_setting("UsePAM", if use_pam.value { "yes" } else { "no" }, use_pam, true);
    // What is not read of the configuration may set it.
    let unknown = case.system.config.is_partly_unknown() && case.effective.use_pam.at.is_none();
    if !case.effective.use_pam.value && !unknown {
        locked(case, user);
        expired(case, user);
    }
    shell(case, user);
    lists(case, user);
    let refuse = &case.effective.refuse_connection;
    if refuse.value {
        let finding = at_setting(Finding::blocks(CheckId::ConnectionRefused), refuse)
            .is("RefuseConnection yes")
            .wants("RefuseConnection no")
            .says(format!("administratively prohibited connection for {}", case.name()));
        case.refuse(finding);
    }
}

/// (uid_t)-1: setegid(2) and seteuid(2) refuse it, and the others of their kind change nothing.
pub(super) fn invalid_id(entry: &PasswdEntry) -> Option<Finding> {
    let finding = || Finding::blocks(CheckId::AccountIdInvalid).at("/etc/passwd").on_line(entry.line);
    [("uid", entry.uid), ("gid", entry.gid)].into_iter().find(|(_, id)| *id == u32::MAX).map(|(what, id)| {
        finding()
            .is(format!("{} has {what} {id}", entry.name))
            .wants(format!("a {what} that the kernel takes"))
    })
}

/// A file that keeps everybody out. Another thing in its place is a person's to take away.
pub(super) fn nologin_present(view: &dyn View, path: &Path) -> Finding {
    let finding = Finding::blocks(CheckId::NologinFile).at(path).wants("absent");
    match view.lstat(path) {
        Ok(stat) if !stat.is_file() && view.read_link(path).is_err() => {
            finding.is(stat.kind.words()).fixed_by(FixedBy::Nothing)
        }
        _ => finding.is("present"),
    }
}

/// Puts a finding on the line that set what is in force.
pub(super) fn at_setting<T>(finding: Finding, setting: &Setting<T>) -> Finding {
    match &setting.at {
        Some(at) => finding.at(&at.file).on_line(at.line),
        None => finding.at("/etc/ssh/sshd_config"),
    }
}

/// platform.c, `platform_locked_account`: without PAM, a password field that begins with `!`.
fn locked(case: &mut Case<'_>, user: &PasswdEntry) {
    let shadow = case.system.shadow.by_name(&user.name);
    let (locked, file, line) = match shadow {
        Some(entry) => (entry.is_locked_for_sshd(), "/etc/shadow", entry.line),
        None => (user.password.0.starts_with(b"!"), "/etc/passwd", user.line),
    };
    let at = Location { file: file.into(), line };
    let detail = if locked { "locked" } else { "not locked" };
    case.traced_at("UsePAM no, the lock", Some(&at), "", detail, !locked);
    if locked {
        let finding = Finding::blocks(CheckId::AccountLocked)
            .at(file)
            .on_line(line)
            .is(format!("a password field that begins with !, {}", use_pam_words(case)))
            .wants("UsePAM yes, or * in the field")
            .says(format!("User {} not allowed because account is locked", case.name()));
        case.refuse(finding);
    }
}

fn use_pam_words(case: &Case<'_>) -> String {
    match &case.effective.use_pam.at {
        Some(at) => format!("UsePAM no ({at})"),
        None => "UsePAM not set".into(),
    }
}

/// Days since the epoch, UTC.
pub(super) fn today(case: &Case<'_>) -> i64 {
    case.question.now.div_euclid(86_400)
}

/// auth-shadow.c, `auth_shadow_acctexpired`: without PAM, on the day after.
fn expired(case: &mut Case<'_>, user: &PasswdEntry) {
    let Some(entry) = case.system.shadow.by_name(&user.name) else { return };
    let Some(expire) = entry.expire.filter(|day| *day != -1) else { return };
    let expired = today(case) > expire;
    let at = Location { file: "/etc/shadow".into(), line: entry.line };
    let detail = format!("on day {expire}, today is {}", today(case));
    case.traced_at("UsePAM no, the expiry", Some(&at), expire.to_string(), detail, !expired);
    if expired {
        let finding = Finding::blocks(CheckId::AccountExpired)
            .at("/etc/shadow")
            .on_line(entry.line)
            .is(format!("expired on day {expire}, today is {}", today(case)))
            .wants("no expiry date, or a later one")
            .says(format!("Account {} has expired", case.name()));
        case.refuse(finding);
    }
}

/// The shell as sshd takes it: an empty field is /bin/sh.
pub(super) fn shell_of(user: &PasswdEntry) -> &BStr {
    BStr::new(if user.shell.is_empty() { b"/bin/sh".as_slice() } else { user.shell.as_slice() })
}

/// A regular file with any x bit, looked at by root; not asked with a ChrootDirectory.
fn shell(case: &mut Case<'_>, user: &PasswdEntry) {
    if case.effective.chroot_directory.value.is_some() {
        return;
    }
    let shell = shell_of(user);
    let at = |finding: Finding| finding.at("/etc/passwd").on_line(user.line);
    let line = Location { file: "/etc/passwd".into(), line: user.line };
    match follow(case.view, Path::new(&*shell.to_os_str_lossy())) {
        Err(error) => {
            case.traced_at(
                "the login shell",
                Some(&line),
                shell.to_string(),
                format!("{shell}: {error}"),
                false,
            );
            let finding = at(Finding::blocks(CheckId::ShellMissing))
                .is(format!("{shell:?} does not exist"))
                .wants("a shell that exists")
                .says(format!("User {} not allowed because shell {shell} does not exist", case.name()));
            case.refuse(finding);
        }
        Ok(found) if !found.stat.is_file() || found.stat.mode & 0o111 == 0 => {
            let detail = format!("{shell}: {}", found.stat.mode_owner());
            case.traced_at("the login shell", Some(&line), shell.to_string(), detail, false);
            let is = if found.stat.is_file() {
                found.stat.mode_owner()
            } else {
                found.stat.kind.words().to_owned()
            };
            let finding = Finding::blocks(CheckId::ShellNotExecutable)
                .at(&found.path)
                .is(is)
                .wants(format!("{:04o} {}:{}", found.stat.mode | 0o555, found.stat.uid, found.stat.gid))
                .says(format!("User {} not allowed because shell {shell} is not executable", case.name()));
            case.refuse(finding);
        }
        Ok(found) => {
            let detail = format!("{shell}: {}", found.stat.mode_owner());
            case.traced_at("the login shell", Some(&line), shell.to_string(), detail, true);
        }
    }
}

/// DenyUsers, AllowUsers, DenyGroups, AllowGroups, in this order; the Deny lists and the Allow lists must all agree.
fn lists(case: &mut Case<'_>, user: &PasswdEntry) {
    let effective = case.effective;
    let all =
        [&effective.deny_users, &effective.allow_users, &effective.deny_groups, &effective.allow_groups];
    if all.iter().all(|list| list.is_empty()) {
        case.traced("the Deny and Allow lists", "none is set (default): everybody may try", true);
    }
    // match.c, `match_user`: `user` or `user@hosts`; the user part knows no negation.
    for word in &effective.deny_users {
        match match_user(case, &user.name, &word.value) {
            Tri::No => {}
            Tri::Yes => {
                let finding = at_setting(Finding::blocks(CheckId::DeniedUser), word)
                    .is(format!("DenyUsers {}", word.value))
                    .wants(format!("no word that matches {}", user.name))
                    .says("not allowed because listed in DenyUsers");
                case.traced_setting("DenyUsers", &word.value.to_string(), word, false);
                case.refuse(finding);
                break;
            }
            Tri::Maybe => doubt(case, word, "DenyUsers", CheckId::DeniedUser),
        }
    }
    if !effective.allow_users.is_empty() {
        let answers: Vec<Tri> =
            effective.allow_users.iter().map(|word| match_user(case, &user.name, &word.value)).collect();
        let allowed = answers.contains(&Tri::Yes);
        if !allowed {
            if let Some(at) = answers.iter().position(|answer| *answer == Tri::Maybe) {
                doubt(case, &effective.allow_users[at], "AllowUsers", CheckId::NotAllowedUser);
            } else {
                let finding = at_setting(Finding::blocks(CheckId::NotAllowedUser), &effective.allow_users[0])
                    .is(format!("AllowUsers {}", words(&effective.allow_users)))
                    .wants(format!("AllowUsers with the word {}", user.name))
                    .says("not allowed because not listed in AllowUsers");
                case.refuse(finding);
            }
        }
        let first = &effective.allow_users[0];
        case.traced_at("AllowUsers", first.at.as_ref(), "", words(&effective.allow_users), allowed);
    }
    if effective.deny_groups.is_empty() && effective.allow_groups.is_empty() {
        return;
    }
    let groups = case.system.group_names(user);
    if groups.is_empty() && case.system.names.group_service().is_none() {
        let word = effective.deny_groups.first().or(effective.allow_groups.first());
        let finding = Finding::blocks(CheckId::NotAllowedUser);
        let finding = match word {
            Some(word) => at_setting(finding, word),
            None => finding,
        };
        case.traced("AllowGroups and DenyGroups", "no group of the user has a name", false);
        let says = "not allowed because not in any group";
        let class = if case.system.group.entries.is_empty() { FixedBy::Nothing } else { FixedBy::SshdConfig };
        case.refuse(
            finding
                .is(format!("no entry in /etc/group for gid {}", user.gid))
                .wants("a group with a name")
                .says(says)
                .fixed_by(class),
        );
        return;
    }
    let member = |word: &Setting<BString>| groups.iter().any(|group| match_pattern(group, &word.value));
    if let Some(word) = effective.deny_groups.iter().find(|word| member(word)) {
        case.traced_setting("DenyGroups", &word.value.to_string(), word, false);
        let finding = at_setting(Finding::blocks(CheckId::DeniedUser), word)
            .is(format!("DenyGroups {}", word.value))
            .wants(format!("no word that matches a group of {}", user.name))
            .says("not allowed because a group is listed in DenyGroups");
        case.refuse(finding);
    }
    if effective.allow_groups.is_empty() {
        return;
    }
    let allowed = effective.allow_groups.iter().any(member);
    let first = &effective.allow_groups[0];
    case.traced_at("AllowGroups", first.at.as_ref(), "", words(&effective.allow_groups), allowed);
    if allowed {
        return;
    }
    let finding = at_setting(Finding::blocks(CheckId::NotAllowedUser), &effective.allow_groups[0])
        .is(format!("AllowGroups {}", words(&effective.allow_groups)))
        .wants(format!("AllowGroups with a group of {}", user.name))
        .says("not allowed because none of user's groups are listed in AllowGroups");
    match case.system.names.group_service() {
        Some(service) => {
            let mut finding = finding;
            finding.severity = Severity::Advises;
            case.doubt(finding, format!("the groups that the name service {service} gives {}", case.name()));
        }
        None => case.refuse(finding),
    }
}

fn words(list: &[Setting<BString>]) -> String {
    let words: Vec<String> = list.iter().map(|word| word.value.to_string()).collect();
    words.join(" ")
}

fn doubt(case: &mut Case<'_>, word: &Setting<BString>, keyword: &str, check: CheckId) {
    let finding = at_setting(Finding::advises(check), word)
        .is(format!("{keyword} {}", word.value))
        .wants("an address to judge by");
    case.doubt(finding, format!("the client's address ({keyword} {})", word.value));
}

fn match_user(case: &Case<'_>, user: &[u8], pattern: &[u8]) -> Tri {
    match split_user_pattern(case.build(), pattern) {
        (name, _) if !match_pattern(user, name) => Tri::No,
        (_, None) => Tri::Yes,
        (_, Some(hosts)) => {
            let host = case.question.host.as_ref().map(|host| host.as_slice());
            host_list(hosts, case.question.address, host, case.effective.use_dns.value)
        }
    }
}
