//! The session after the key was taken (session.c): would `ssh -n U@host true` end with 0?

use super::Case;
use super::account::{at_setting, nologin_present, shell_of};
use super::path::{expand_tokens, home_path, may_read};
use super::program::{Kind, Runs, obstacle, runs};
use super::start::errno_words;
use crate::accounts::PasswdEntry;
use crate::finding::{CheckId, Finding, FixedBy, Location};
use crate::os::is_system_directory;
use crate::permissions::{Access, Identity, may, unsearchable};
use crate::view::{View, follow, read_following, walk};
use bstr::{BStr, ByteSlice};
use std::path::{Path, PathBuf};

/// Shells of at most this size are read, to see whether the kernel could execute them.
const SCRIPT_LIMIT: u64 = 64 << 10;

/// Programs that, as login shells, end every `shell -c true` with an error. With `true` as the shell it ends with 0.
const REFUSING: [&str; 20] = [
    "nologin",
    "false",
    "sync",
    "halt",
    "shutdown",
    "poweroff",
    "reboot",
    "git-shell",
    "sftp-server",
    "scponly",
    "rssh",
    "usernologin",
    // No shells, and `-c` is none of their options or asks for a file `true`.
    "cat",
    "env",
    "id",
    "less",
    "ls",
    "more",
    "passwd",
    "sleep",
];

/// Programs that run `-c true` as a command that ends with 0.
const SHELLS: [&str; 24] = [
    "ash", "bash", "busybox", "csh", "dash", "elvish", "fish", "ksh", "ksh93", "loksh", "lksh", "mksh", "nu",
    "oksh", "oil", "osh", "pdksh", "posh", "rbash", "sh", "tcsh", "true", "yash", "zsh",
];

pub(super) fn check(case: &mut Case<'_>, user: &PasswdEntry, who: &Identity) {
    limits(case);
    group_services(case);
    if !case.effective.use_pam.value {
        nologin_file(case, user);
    }
    let root = chroot(case, user);
    shell(case, user, who, root.as_deref());
    forced_command(case);
}

/// From 2.34 glibc's lookups of groups go on to the service after the first one, if there is a second; in an empty list
/// (nss/nsswitch.c, `__nss_lookup`) both lie behind its end. A module of PAM or sshd itself dies of it or does not, by what
/// happens to be there.
fn group_services(case: &mut Case<'_>) {
    let names = &case.system.names;
    if !names.group.is_empty() {
        return;
    }
    let mut finding = Finding::advises(CheckId::GroupServicesMissing)
        .at("/etc/nsswitch.conf")
        .is("group: without a service")
        .wants("group: files")
        .fixed_by(FixedBy::Account);
    if let Some(line) = names.line_of("group") {
        finding = finding.on_line(line);
    }
    case.doubt(finding, "whether the C library survives an empty list of services for groups");
}

fn limits(case: &mut Case<'_>) {
    let effective = case.effective;
    for (name, setting) in
        [("MaxSessions", &effective.max_sessions), ("MaxAuthTries", &effective.max_auth_tries)]
    {
        if setting.value == 0 {
            let says = if name == "MaxSessions" {
                "no more sessions".to_owned()
            } else {
                format!("maximum authentication attempts exceeded for {} from", case.name())
            };
            let finding = at_setting(Finding::blocks(CheckId::MaxSessionsZero), setting)
                .is(format!("{name} 0"))
                .wants(format!("{name} of at least 1"))
                .says(says);
            case.refuse(finding);
        }
    }
}

/// session.c, `do_nologin`: without PAM it is sshd that looks. /run is filled at boot, so only /etc counts.
fn nologin_file(case: &mut Case<'_>, user: &PasswdEntry) {
    const NOLOGIN: &str = "/etc/nologin";
    let present = follow(case.view, Path::new(NOLOGIN)).is_ok();
    case.traced("nologin", NOLOGIN, !present || user.uid == 0);
    if present && user.uid != 0 {
        let finding = nologin_present(case.view, Path::new(NOLOGIN))
            .says(format!("User {} not allowed because {NOLOGIN} exists", case.name()));
        case.refuse(finding);
    }
}

/// session.c, `safely_chroot`: every component is root's alone. Gives the directory in which the shell is looked up.
fn chroot(case: &mut Case<'_>, user: &PasswdEntry) -> Option<PathBuf> {
    let effective = case.effective;
    let setting = &effective.chroot_directory;
    let pattern = setting.value.as_ref()?;
    let refuse = |case: &mut Case<'_>, at: &Path, is: String, wants: &str, says: String| {
        let detail = format!("{}: {is}", at.display());
        case.traced_at("ChrootDirectory", setting.at.as_ref(), pattern.to_string(), detail, false);
        let finding = Finding::blocks(CheckId::ChrootUnusable).at(at).is(is).wants(wants).says(says);
        case.refuse(finding);
    };
    // Unlike the other paths, `~` is the home of the user here.
    let with_home = match pattern.strip_prefix(b"~/") {
        Some(rest) => [user.home.as_slice(), b"/", rest].concat(),
        None if pattern == "~" => user.home.to_vec(),
        None => pattern.to_vec(),
    };
    let directory = match expand_tokens(&with_home, user, case.build()) {
        Ok(directory) if directory.starts_with(b"/") => PathBuf::from(&*directory.to_os_str_lossy()),
        Ok(directory) => {
            let is = format!("{directory} is not absolute");
            let says = "chroot path does not begin at root".to_owned();
            refuse(case, Path::new("/etc/ssh/sshd_config"), is, "an absolute path", says);
            return None;
        }
        Err(token) => {
            let is = format!("unknown token %{}", token.0);
            let says = format!("unknown key %{}", token.0);
            refuse(case, Path::new("/etc/ssh/sshd_config"), is, "%h, %u, %U or %%", says);
            return None;
        }
    };
    let mut bad = Vec::new();
    let mut components: Vec<&Path> = directory.ancestors().collect();
    components.reverse();
    for component in components {
        match follow(case.view, component) {
            Err(error) => {
                let says = format!("stat(\"{}\"): {} [postauth]", component.display(), errno_words(&error));
                bad.push((component.to_owned(), errno_words(&error), "0755 0:0".to_owned(), says));
                break;
            }
            Ok(found) if found.stat.uid != 0 || found.stat.mode & 0o022 != 0 => {
                let partial = if component == directory { "" } else { "component " };
                let says = format!(
                    "bad ownership or modes for chroot directory {partial}\"{}\"",
                    component.display()
                );
                let wants = format!("{:04o} 0:{}", found.stat.mode & !0o022, found.stat.gid);
                bad.push((found.path, found.stat.mode_owner(), wants, says));
            }
            Ok(found) if !found.stat.is_dir() => {
                let says = format!("chroot path \"{}\" is not a directory", component.display());
                bad.push((found.path, found.stat.kind.words().to_owned(), "a directory".to_owned(), says));
            }
            Ok(_) => {}
        }
    }
    if bad.is_empty() {
        case.traced_setting("ChrootDirectory", &directory.display().to_string(), setting, true);
        return Some(directory);
    }
    for (at, is, wants, says) in bad {
        refuse(case, &at, is, &wants, says);
    }
    None
}

/// session.c, `do_child`: execve(2) of the shell with the user's own ids.
fn shell(case: &mut Case<'_>, user: &PasswdEntry, who: &Identity, root: Option<&Path>) {
    if case.effective.chroot_directory.value.is_some() && root.is_none() {
        return;
    }
    let shell = shell_of(user);
    let inside = PathBuf::from(&*shell.to_os_str_lossy());
    let path = match root {
        Some(root) => root.join(inside.strip_prefix("/").unwrap_or(&inside)),
        None if inside.is_relative() => working_directory(case.view, user, who).join(&inside),
        None => inside.clone(),
    };
    let relative = inside.is_relative();
    let walk = walk(case.view, &path);
    let found = match &walk.end {
        Ok(found) if found.stat.is_file() && found.stat.mode & 0o111 != 0 => found.clone(),
        // Without a chroot, `allowed_user` told this already.
        _ if root.is_none() && !relative => return,
        other => {
            let is = other.as_ref().map_or_else(ToString::to_string, |found| found.stat.mode_owner());
            case.traced("the shell in the chroot", path.display().to_string(), false);
            let finding = Finding::blocks(CheckId::ShellMissing)
                .at(&path)
                .is(is)
                .wants(if root.is_some() {
                    "a shell inside the chroot directory"
                } else {
                    "an absolute path"
                })
                .fixed_by(if root.is_some() { FixedBy::SshdConfig } else { FixedBy::Account })
                .says(format!("{shell}: No such file or directory"));
            case.refuse(finding);
            return;
        }
    };
    if let Some(name) = refusing_name(shell, &found.path) {
        let at = Location { file: "/etc/passwd".into(), line: user.line };
        case.traced_at("the session", Some(&at), shell.to_string(), format!("{shell} ends it"), false);
        let finding = Finding::blocks(CheckId::ShellRefusesLogin)
            .at("/etc/passwd")
            .on_line(user.line)
            .is(format!("{shell} ({name})"))
            .wants("a shell that runs commands");
        case.refuse(finding);
        return;
    }
    let called = inside.file_name();
    let is_shell =
        |name: Option<&std::ffi::OsStr>| SHELLS.iter().any(|shell| name.is_some_and(|name| name == *shell));
    if !is_shell(called) && !is_shell(found.path.file_name()) {
        let finding = Finding::advises(CheckId::ShellRefusesLogin)
            .at("/etc/passwd")
            .on_line(user.line)
            .is(format!("{shell}, which is no shell that is known here"))
            .wants("a shell that runs commands");
        case.doubt(finding, format!("whether {shell} runs commands as a shell does"));
    }
    let closed = unsearchable(case.view, &walk, who).unwrap_or_default();
    let home = home_path(user);
    let ours = |directory: &Path| {
        is_system_directory(directory) || directory.starts_with(&home) || home.starts_with(directory)
    };
    for (directory, stat) in &closed {
        let finding = Finding::blocks(CheckId::DirectoryNotSearchable)
            .at(directory)
            .is(stat.mode_owner())
            .wants(format!("{:04o} {}:{}", stat.mode | 0o111, stat.uid, stat.gid))
            .fixed_by(if ours(directory) { FixedBy::Permissions } else { FixedBy::Nothing })
            .says(format!("{shell}: Permission denied"));
        if !case.findings.iter().any(|told| told.check == finding.check && told.path == finding.path) {
            case.refuse(finding);
        }
    }
    let executable = may(case.view, &found.path, &found.stat, who, Access::Execute).unwrap_or(true);
    case.traced(
        "the session",
        format!("{shell} is executed as uid {}", who.uid),
        executable && closed.is_empty(),
    );
    if !executable {
        let finding = Finding::blocks(CheckId::ShellNotExecutable)
            .at(&found.path)
            .is(found.stat.mode_owner())
            .wants(format!("{:04o} {}:{}", found.stat.mode | 0o555, found.stat.uid, found.stat.gid))
            .says(format!("{shell}: Permission denied"));
        case.refuse(finding);
        return;
    }
    startup_file(case, user, who, &found.path, root);
    if root.is_none()
        && let Some(obstacle) = obstacle(case.view, &found.path, who)
    {
        let told = case.findings.iter().any(|told| told.path.as_deref() == Some(&obstacle.path));
        if !told {
            let (check, class) = match obstacle.kind {
                Kind::Directory => (CheckId::DirectoryNotSearchable, FixedBy::Permissions),
                Kind::File => (CheckId::LibraryUnreadable, FixedBy::System),
                Kind::Missing => (CheckId::LibraryUnreadable, FixedBy::Nothing),
            };
            let finding = Finding::blocks(check)
                .at(obstacle.path)
                .is(obstacle.is)
                .wants(obstacle.wants)
                .fixed_by(class)
                .says(format!("{shell}: Permission denied"));
            case.refuse(finding);
        }
    }
    if let Runs::Never(why) = runs(case.view, &found, root) {
        let finding = Finding::blocks(CheckId::ShellNotExecutable)
            .at(&found.path)
            .is(why)
            .wants("a program")
            .says(format!("{shell}: Exec format error"));
        case.refuse(finding);
    }
}

/// Where sshd executes the shell: the home, or where it cannot go there, the root.
fn working_directory(view: &dyn View, user: &PasswdEntry, who: &Identity) -> PathBuf {
    let home = home_path(user);
    let walk = walk(view, &home);
    let enters = walk.end.as_ref().is_ok_and(|found| {
        found.stat.is_dir() && may(view, &found.path, &found.stat, who, Access::Execute).unwrap_or(false)
    }) && unsearchable(view, &walk, who).is_ok_and(|closed| closed.is_empty());
    if enters { home } else { PathBuf::from("/") }
}

/// bash reads ~/.bashrc when sshd starts it (`SSH_SOURCE_BASHRC`). Only an `exit` that stands before everything else
/// is told: what a script comes to is not to be said in general.
fn startup_file(case: &mut Case<'_>, user: &PasswdEntry, who: &Identity, shell: &Path, root: Option<&Path>) {
    // Called as sh it does not.
    let called = shell_of(user).ends_with(b"bash") && shell.file_name().is_some_and(|name| name == "bash");
    if root.is_some() || !called {
        return;
    }
    let path = home_path(user).join(".bashrc");
    if !may_read(case.view, &path, who) {
        return;
    }
    let Ok(text) = read_following(case.view, &path, SCRIPT_LIMIT) else { return };
    for (line, number) in text.lines().zip(1..) {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let exits = line.starts_with(b"exit") && line.get(4).is_none_or(|next| b" ;\t".contains(next));
        if exits && exit_status(line).is_some_and(|status| status != 0) {
            let finding = Finding::blocks(CheckId::ShellStartupExits)
                .at(&path)
                .on_line(number)
                .is(line.to_str_lossy())
                .wants("no exit");
            case.refuse(finding);
        }
        return;
    }
}

/// The name under which a shell refuses: as it is called, or as the program that a link leads to.
fn refusing_name(shell: &[u8], canonical: &Path) -> Option<&'static str> {
    let called = Path::new(&*shell.to_os_str_lossy()).file_name().map(ToOwned::to_owned);
    let is = canonical.file_name().map(ToOwned::to_owned);
    REFUSING.iter().copied().find(|name| {
        called.as_deref().is_some_and(|called| called == *name) || is.as_deref().is_some_and(|is| is == *name)
    })
}

/// ForceCommand of the configuration runs instead of `true`; that of the key line is judged with the line.
fn forced_command(case: &mut Case<'_>) {
    let effective = case.effective;
    let setting = &effective.force_command;
    let Some(command) = &setting.value else { return };
    let status = exit_status(command);
    case.traced_setting("ForceCommand", &command.to_string(), setting, status == Some(0));
    let is = format!("ForceCommand {command}");
    match status {
        Some(0) => {
            case.advise(at_setting(Finding::advises(CheckId::ForcedCommand), setting).is(is).wants("none"));
        }
        Some(_) => {
            let finding = at_setting(Finding::blocks(CheckId::ForcedCommand), setting).is(is).wants("none");
            case.refuse(finding);
        }
        None => {
            let finding = at_setting(Finding::advises(CheckId::ForcedCommand), setting).is(is).wants("none");
            case.doubt(finding, format!("the exit status of the forced command {command}"));
        }
    }
}

/// The exit status of a command, where it can be told from its words alone; the shell runs it with empty input.
pub(super) fn exit_status(command: &[u8]) -> Option<u8> {
    /// The longest argument that execve(2) takes (`MAX_ARG_STRLEN`), with its NUL.
    const ARGUMENT: usize = 128 << 10;
    if command.len() >= ARGUMENT {
        return Some(1);
    }
    let text = BStr::new(command.trim_ascii());
    if text == "internal-sftp" || text.starts_with(b"internal-sftp ") {
        // Not a subsystem request, so: "This service allows sftp connections only."
        return Some(1);
    }
    let mut status = Some(0);
    for simple in simple_commands(text)? {
        let mut words = simple.iter().map(|word| word.as_bytes());
        let Some(first) = words.next() else { continue };
        let name = first.rfind_byte(b'/').map_or(first, |at| &first[at + 1..]);
        status = match name {
            b"echo" | b"printf" | b"sleep" | b"true" | b":" | b"logger" | b"date" => Some(0),
            b"false" | b"nologin" => Some(1),
            b"exit" => {
                return match words.next() {
                    None => status,
                    Some(code) => code.to_str().ok()?.parse::<i64>().ok().map(|code| (code & 0xff) as u8),
                };
            }
            _ => None,
        };
    }
    status
}

/// Splits `a b; 'c d'` into words; `None` where the shell would do more than that.
fn simple_commands(text: &[u8]) -> Option<Vec<Vec<String>>> {
    let mut commands = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut letters = text.to_str().ok()?.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next()? {
                        '\'' => break,
                        letter => word.push(letter),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next()? {
                        '"' => break,
                        '\\' => word.push(letters.next()?),
                        '$' | '`' => return None,
                        letter => word.push(letter),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(letters.next()?),
            ' ' | '\t' => commands.last_mut()?.extend(word.take()),
            ';' | '\n' => {
                commands.last_mut()?.extend(word.take());
                commands.push(Vec::new());
            }
            '$' | '`' | '&' | '|' | '<' | '>' | '(' | ')' | '{' | '}' | '*' | '?' | '[' | '#' | '~' | '!' => {
                return None;
            }
            letter => word.get_or_insert_default().push(letter),
        }
    }
    commands.last_mut()?.extend(word.take());
    Some(commands)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_judged_by_what_its_words_say() {
        let cloud_init =
            br#"echo 'Please login as the user "admin" rather than the user "root".';echo;sleep 10;exit 142"#;
        assert_eq!(exit_status(cloud_init), Some(142));
        assert_eq!(exit_status(b"exit 7"), Some(7));
        assert_eq!(exit_status(b"false; exit"), Some(1));
        assert_eq!(exit_status(b"/bin/false"), Some(1));
        assert_eq!(exit_status(b"/usr/bin/true"), Some(0));
        assert_eq!(exit_status(b"internal-sftp -l INFO"), Some(1));
        assert_eq!(exit_status(b"echo \"a; b\""), Some(0));
    }

    #[test]
    fn what_the_words_do_not_tell_stays_open() {
        for command in
            ["/opt/gate $SSH_ORIGINAL_COMMAND", "rsync --server", "true && false", "echo 'x", "exit $?"]
        {
            assert_eq!(exit_status(command.as_bytes()), None, "{command}");
        }
    }
}
