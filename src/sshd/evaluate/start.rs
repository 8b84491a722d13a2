//! Does sshd start at all (sshd.c, `main`), and does the volume's boot start it?

use super::program::{Runs, runs};
use super::{Case, hostkey};
use crate::finding::{CheckId, Finding, FixedBy, Location};
use crate::sshd::build::Family;
use crate::sshd::config::{ConfigError, ErrorKind};
use crate::view::{FileKind, LookError, Stat, View, follow};
use bstr::ByteSlice;
use std::path::Path;

/// Gives the types of the host keys that sshd would load.
pub(super) fn check(case: &mut Case<'_>) -> Vec<String> {
    program(case);
    configuration(case);
    privilege_separation_user(case);
    let loaded = hostkey::check(case);
    privilege_separation_directory(case);
    helpers(case);
    super::listen::check(case);
    super::listen::room(case);
    service(case);
    loaded
}

fn program(case: &mut Case<'_>) {
    match &case.system.program {
        Some(program) => {
            let detail = match &case.build().text {
                Some(version) => format!("{} {version}", program.display()),
                None => format!("{}, version unknown", program.display()),
            };
            let Ok(found) = follow(case.view, program) else { return };
            let runs = runs(case.view, &found, None);
            case.traced("the sshd program", detail, !matches!(runs, Runs::Never(_)));
            match runs {
                Runs::Program => {}
                Runs::Script => {
                    let finding = Finding::advises(CheckId::SshdBroken)
                        .at(&found.path)
                        .is("a script")
                        .wants("the program of the package");
                    case.doubt(finding, format!("what the script {} starts", found.path.display()));
                }
                Runs::Never(why) => {
                    let finding = Finding::blocks(CheckId::SshdBroken)
                        .at(&found.path)
                        .is(why)
                        .wants("the program of the package")
                        .says(format!("{}: Exec format error", program.display()));
                    case.refuse(finding);
                }
            }
        }
        None if case.system.barred_program.is_some() => {
            let Some(found) = &case.system.barred_program else { return };
            case.traced("the sshd program", format!("{} lacks the x bit", found.path.display()), false);
            let finding = Finding::blocks(CheckId::SshdNotExecutable)
                .at(&found.path)
                .is(found.stat.mode_owner())
                .wants(executable_form(&found.stat));
            case.refuse(finding);
        }
        None => {
            case.traced("the sshd program", "none found that can be executed", false);
            let finding = Finding::blocks(CheckId::SshdMissing)
                .at("/usr/sbin/sshd")
                .is("absent")
                .wants("the package with the SSH server");
            case.refuse(finding);
        }
    }
}

/// The mode that a program is installed with, besides what it has.
fn executable_form(stat: &Stat) -> String {
    format!("{:04o} {}:{}", stat.mode | 0o755, stat.uid, stat.gid)
}

fn configuration(case: &mut Case<'_>) {
    let system = case.system;
    let mut stops = false;
    for error in &system.config.errors {
        if error.kind == ErrorKind::Unknown {
            let finding = located(Finding::advises(CheckId::ConfigNotUnderstood), error)
                .wants("a configuration that volrescue can read");
            case.doubt(finding, format!("the configuration: {} ({})", error.says, error.at));
        } else if error.stops_start {
            stops = true;
            case.traced_at("the configuration", Some(&error.at), "", &error.says, false);
            case.refuse(config_finding(error));
        }
    }
    if !stops {
        /// A directory of drop-ins may hold hundreds.
        const NAMED: usize = 8;
        let files = system.config.read_files();
        let mut names = files.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        if files.len() > NAMED {
            names.push_str(&format!(" and {} more", files.len() - NAMED));
        }
        case.traced("the configuration", names, true);
    }
    messages(case);
    // sshd starts, and this connection dies.
    if let Some(error) = &case.effective.fatal {
        case.traced_at("the configuration for this connection", Some(&error.at), "", &error.says, false);
        case.refuse(config_finding(error));
    }
}

/// Most bytes of a message between sshd's processes (monitor_wrap.c, `mm_request_receive`).
const MESSAGE: usize = 256 << 10;
/// What is in such a message besides, in bytes: the entry of the user, numbers, the algorithms, the public host keys.
const BESIDES: usize = 16 << 10;

/// What is in force for the user is handed to the process that talks to the client; from 10.0 on so is the whole
/// configuration.
fn messages(case: &mut Case<'_>) {
    let effective = case.effective;
    let lists =
        [&effective.allow_users, &effective.deny_users, &effective.allow_groups, &effective.deny_groups];
    let words = lists.into_iter().flatten().map(|word| &word.value);
    let words =
        words.chain(&effective.authorized_keys_file.value).chain(&effective.authentication_methods.value);
    let of_user: usize = words.map(|word| 4 + word.len()).sum();
    let whole = if case.build().at_least(10, 0) { case.system.config.size_in_memory() } else { 0 };
    for (size, what) in [(of_user, "lists in force for the user"), (whole, "whole configuration")] {
        let is = format!("{size} bytes of {what}");
        let wants = format!("at most {MESSAGE} bytes");
        if size > MESSAGE {
            case.traced("the message to the process of the connection", &is, false);
            let finding =
                Finding::blocks(CheckId::ConfigTooLarge).at("/etc/ssh/sshd_config").is(is).wants(wants);
            case.refuse(finding.says(format!("fatal: mm_request_receive: read: bad msg_len {size}")));
            return;
        }
        if size + BESIDES > MESSAGE {
            let finding =
                Finding::advises(CheckId::ConfigTooLarge).at("/etc/ssh/sshd_config").is(is).wants(wants);
            case.doubt(
                finding,
                format!("whether the {what} fit into {MESSAGE} bytes with all that goes along"),
            );
            return;
        }
    }
}

fn located(finding: Finding, error: &ConfigError) -> Finding {
    let finding = finding.at(&error.at.file).is(error.text.trim_ascii().to_str_lossy());
    if error.at.line > 0 { finding.on_line(error.at.line) } else { finding }
}

fn config_finding(error: &ConfigError) -> Finding {
    let (check, wants) = match error.kind {
        ErrorKind::Missing => (CheckId::ConfigMissing, "the distribution's file"),
        ErrorKind::Unreadable => (CheckId::ConfigUnreadable, "a file that root can read, or none"),
        ErrorKind::Syntax | ErrorKind::Unknown => (CheckId::ConfigSyntax, "a line that this sshd takes"),
    };
    let mut finding = located(Finding::blocks(check), error).wants(wants).says(&error.says);
    if error.kind == ErrorKind::Missing {
        finding.is = "absent".into();
    }
    finding
}

fn privilege_separation_user(case: &mut Case<'_>) {
    if !case.effective.use_privilege_separation.value {
        return;
    }
    let found = case.system.entry(b"sshd").is_some();
    let entry = case.system.passwd.by_name(b"sshd");
    let at = entry.map(|entry| Location { file: "/etc/passwd".into(), line: entry.line });
    case.traced_at("the privilege separation user", at.as_ref(), "sshd", "sshd", found);
    if !found && case.system.is_unread("/etc/passwd") {
        return;
    }
    if found {
        if let Some(finding) = entry.and_then(super::account::invalid_id) {
            case.refuse(finding);
        }
        return;
    }
    let finding = Finding::blocks(CheckId::PrivsepUserMissing)
        .at("/etc/passwd")
        .is("no user sshd")
        .wants("the line of the package")
        .says("Privilege separation user sshd does not exist");
    let finding = if case.system.passwd.by_name(b"sshd").is_some() {
        super::account::of_name_services(case, "passwd", finding)
    } else {
        super::account::unless_in_the_way(case.view, finding)
    };
    match case.system.names.passwd_service() {
        Some(service) if !case.system.names.passwd_from_file() => {
            let missing = format!("whether the name service {service} knows the user sshd");
            let finding = Finding::advises(CheckId::UserDirectoryService)
                .at("/etc/nsswitch.conf")
                .is(format!("passwd: {}", case.system.names.passwd.join(" ")))
                .wants("passwd: files");
            case.doubt(finding, missing);
        }
        _ => case.refuse(finding),
    }
}

/// sshd.c, `main`: the directory is root's alone. On Debian it lies under /run, a tmpfs of the running system, so
/// nothing about it is on the disk; outside the two large families its place is not sure.
fn privilege_separation_directory(case: &mut Case<'_>) {
    let build = case.build();
    if build.family != Family::RedHat || build.privilege_separation_directory_is_volatile() {
        return;
    }
    let directory = build.privilege_separation_directory();
    let found = follow(case.view, Path::new(directory));
    let good = match found {
        Ok(found) if found.stat.is_dir() => {
            let good = found.stat.uid == 0 && found.stat.mode & 0o022 == 0;
            if !good {
                let finding = Finding::blocks(CheckId::PrivsepDirMode)
                    .at(&found.path)
                    .is(found.stat.mode_owner())
                    .wants(format!("{:04o} 0:0", found.stat.mode & !0o022))
                    .says(format!("{directory} must be owned by root and not group or world-writable."));
                case.refuse(finding);
            }
            good
        }
        other => {
            let is = match other {
                Ok(found) => found.stat.kind.words().to_owned(),
                Err(_) => "absent".to_owned(),
            };
            let finding = Finding::blocks(CheckId::PrivsepDirMissing)
                .at(directory)
                .is(is)
                .wants("0711 0:0")
                .says(format!("Missing privilege separation directory: {directory}"));
            case.refuse(finding);
            false
        }
    };
    case.traced("the privilege separation directory", directory, good);
}

/// sshd-session since 9.8, sshd-auth since 10.0: checked at start, on the paths that the distributions build in.
fn helpers(case: &mut Case<'_>) {
    let (build, effective) = (case.build(), case.effective);
    let known = matches!(build.family, Family::Debian | Family::RedHat);
    if case.system.program.is_none() || build.version.is_none() {
        return;
    }
    let configured = [&effective.sshd_session_path, &effective.sshd_auth_path];
    for ((name, since), setting) in
        [("sshd-session", (9, 8)), ("sshd-auth", (10, 0))].into_iter().zip(configured)
    {
        let directory = build.helper_directory().filter(|_| known).map(Path::new);
        let path = match &setting.value {
            Some(path) => Some(Path::new(&*path.to_os_str_lossy()).to_owned()),
            None => directory.map(|directory| directory.join(name)),
        };
        let Some(path) = path.filter(|_| build.at_least(since.0, since.1)) else { continue };
        let found = follow(case.view, &path);
        let good = found.as_ref().is_ok_and(|found| found.stat.is_file() && found.stat.mode & 0o111 != 0);
        if good
            && let Ok(found) = &found
            && let Runs::Never(why) = runs(case.view, found, None)
        {
            case.traced("the programs that sshd starts", format!("{}: {why}", path.display()), false);
            let finding = Finding::blocks(CheckId::SshdHelperMissing)
                .at(&found.path)
                .is(why)
                .wants("the program of the package")
                .says(format!("rexec of {} failed: Exec format error", path.display()));
            case.refuse(finding);
            continue;
        }
        case.traced("the programs that sshd starts", path.display().to_string(), good);
        if !good {
            let mut finding = Finding::blocks(CheckId::SshdHelperMissing)
                .at(&path)
                .is("absent")
                .wants("the file of the package, 0755 0:0")
                .says(format!("{} does not exist or is not executable", path.display()));
            if let Ok(found) = found
                && found.stat.is_file()
            {
                finding = finding
                    .at(found.path)
                    .is(found.stat.mode_owner())
                    .wants(executable_form(&found.stat))
                    .fixed_by(FixedBy::System);
            }
            case.refuse(finding);
        }
    }
}

/// The unit: not sshd's business, so advice, but the reason why nothing listens after the boot.
fn service(case: &mut Case<'_>) {
    let disabled = |is: String, path: &str, wants: &str| {
        Finding::advises(CheckId::ServiceDisabled).at(path).is(is).wants(wants)
    };
    const KEPT: &str = "/etc/ssh/sshd_not_to_be_run";
    if follow(case.view, Path::new(KEPT)).is_ok() {
        case.advise(disabled("present".into(), KEPT, "absent"));
    }
    let has_systemd = ["/usr/lib/systemd/systemd", "/lib/systemd/systemd"]
        .iter()
        .any(|path| follow(case.view, Path::new(path)).is_ok());
    if !has_systemd {
        return;
    }
    let units: &[&str] = match case.build().family {
        Family::Debian => &["ssh.service", "ssh.socket"],
        _ => &["sshd.service", "sshd.socket"],
    };
    let service_unit = units[0];
    let override_path = format!("/etc/systemd/system/{service_unit}");
    if is_masked(case.view, Path::new(&override_path)) {
        case.advise(disabled("masked".into(), &override_path, "enabled"));
        return;
    }
    if !is_enabled(case.view, units) {
        let vendor = [
            format!("/usr/lib/systemd/system/{service_unit}"),
            format!("/lib/systemd/system/{service_unit}"),
        ];
        let Some(unit) = vendor.iter().find(|path| follow(case.view, Path::new(path)).is_ok()) else {
            return;
        };
        case.advise(disabled("disabled".into(), unit, "enabled"));
    }
}

/// A link to /dev/null, or an empty file (systemd.unit(5)).
fn is_masked(view: &dyn View, unit: &Path) -> bool {
    match view.lstat(unit) {
        Ok(stat) if stat.kind == FileKind::Symlink => {
            view.read_link(unit).is_ok_and(|target| target == Path::new("/dev/null"))
        }
        Ok(stat) => stat.is_file() && stat.size == 0,
        Err(_) => false,
    }
}

/// A link in a `.wants` or `.requires` directory of a target.
fn is_enabled(view: &dyn View, units: &[&str]) -> bool {
    ["/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"].iter().any(|base| {
        [
            "multi-user.target",
            "default.target",
            "graphical.target",
            "sockets.target",
            "cloud-init.target",
            "basic.target",
        ]
        .iter()
        .any(|target| {
            ["wants", "requires"].iter().any(|kind| {
                units.iter().any(|unit| {
                    let link = format!("{base}/{target}.{kind}/{unit}");
                    // Both the link and its directory may be reached through a link (/lib -> usr/lib).
                    crate::view::walk_no_follow(view, Path::new(&link)).end.is_ok()
                })
            })
        })
    })
}

/// strerror(3) for what following a path can end with.
pub(super) fn errno_words(error: &LookError) -> String {
    match error {
        LookError::NotFound => "No such file or directory".into(),
        LookError::NotDirectory => "Not a directory".into(),
        LookError::Loop => "Too many levels of symbolic links".into(),
        LookError::NameTooLong => "File name too long".into(),
        LookError::Kind(FileKind::Directory) => "Is a directory".into(),
        LookError::Errno(errno) => {
            let words = std::io::Error::from_raw_os_error(*errno).to_string();
            words.split(" (os error").next().unwrap_or_default().to_owned()
        }
        other => other.to_string(),
    }
}
