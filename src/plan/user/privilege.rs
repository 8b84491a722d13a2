//! sudo and doas rules, where cloud-init would have put them.

use super::files::before;
use crate::os::{DefaultUser, Family, OsFacts};
use crate::plan::{Action, Before, Change};
use crate::view::{self, LookError, View};
use bstr::ByteSlice;
use std::path::{Path, PathBuf};

const SUDOERS_D: &str = "/etc/sudoers.d";
const DROP_IN: &str = "90-cloud-init-users";
/// The rule where the image gives none.
const ALL: &str = "ALL=(ALL) NOPASSWD:ALL";
/// The most bytes of one file, and the most files of sudoers.d, that are read.
const MAX_FILE: u64 = 1 << 20;
const MAX_FILES: usize = 200;

/// The changes that give `name` the rules of the image's default user, or with none given all rights; what could not be
/// done is told in `origins`.
pub(super) fn actions(
    view: &dyn View,
    os: &OsFacts,
    name: &str,
    default: Option<&DefaultUser>,
    origins: &mut Vec<String>,
) -> Vec<Action> {
    let (sudo, doas) = match default {
        Some(default) => (default.privilege.sudo.clone(), default.privilege.doas.clone()),
        None if os.family == Family::Alpine => (vec![ALL.to_owned()], vec![format!("permit nopass {name}")]),
        None => (vec![ALL.to_owned()], Vec::new()),
    };
    let mut actions = Vec::new();
    if !sudo.is_empty() {
        sudoers(view, name, &sudo, &mut actions, origins);
    }
    if !doas.is_empty() {
        actions.extend(doas_conf(view, name, &doas));
    }
    actions
}

fn sudoers(
    view: &dyn View,
    name: &str,
    rules: &[String],
    actions: &mut Vec<Action>,
    origins: &mut Vec<String>,
) {
    if name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_') {
        origins.push(format!("no sudoers line: sudo would take {name} for an alias"));
        return;
    }
    let own = Target::look(view, "/etc/sudoers");
    let vendors = view::read_following(view, Path::new("/usr/etc/sudoers"), MAX_FILE).ok();
    let main = match (&own, &vendors) {
        (Target::File { text, .. }, _) | (_, Some(text)) => text,
        _ => {
            origins.push("no sudoers line: there is no /etc/sudoers".to_owned());
            return;
        }
    };
    let include = includes_directory(main);
    let lines: Vec<String> = rules.iter().map(|rule| format!("{name} {rule}")).collect();
    let said = |text: &[u8]| lines.iter().all(|line| has_words(text, line));
    if said(main) || (include && drop_ins(view).iter().any(|text| said(text))) {
        return;
    }
    let why = format!("lets {name} use sudo, as the image's cloud-init does");
    let directory = match view::follow(view, Path::new(SUDOERS_D)) {
        Ok(found) if found.stat.is_dir() => found.path,
        Err(LookError::NotFound) => {
            let Ok(etc) = view::follow(view, Path::new("/etc")) else { return };
            let path = etc.path.join("sudoers.d");
            let change = Change::CreateDirectory { mode: 0o750, uid: 0, gid: 0, xattrs: Vec::new() };
            actions.push(Action { path: path.clone(), change, why: why.clone() });
            path
        }
        _ => {
            origins.push(format!("no sudoers line: {SUDOERS_D} is no directory"));
            return;
        }
    };
    let header = format!("# User rules for {name}\n{}\n", lines.join("\n"));
    let target = Target::look(view, &directory.join(DROP_IN).to_string_lossy());
    match target.append(&directory.join(DROP_IN), header.as_bytes(), &why) {
        Some(action) => actions.push(action),
        None => {
            origins.push(format!("no sudoers line: {SUDOERS_D}/{DROP_IN} is no regular file"));
            return;
        }
    }
    if !include {
        let line = format!("#includedir {SUDOERS_D}\n");
        match own.append(Path::new("/etc/sudoers"), line.as_bytes(), "makes sudo read /etc/sudoers.d") {
            Some(action) if matches!(own, Target::File { .. }) => actions.push(action),
            _ => origins.push("/etc/sudoers cannot be made to read /etc/sudoers.d".to_owned()),
        }
    }
}

/// cloud-init writes /etc/doas.conf; a doas that is split up reads /etc/doas.d/*.conf.
fn doas_conf(view: &dyn View, name: &str, rules: &[String]) -> Option<Action> {
    let why = format!("lets {name} use doas, as the image's cloud-init does");
    let main = Target::look(view, "/etc/doas.conf");
    let (target, path) = if matches!(main, Target::File { .. }) {
        (main, PathBuf::from("/etc/doas.conf"))
    } else {
        let directory =
            view::follow(view, Path::new("/etc/doas.d")).ok().filter(|found| found.stat.is_dir())?;
        let path = directory.path.join("90-cloud-init-users.conf");
        (Target::look(view, &path.to_string_lossy()), path)
    };
    if let Target::File { text, .. } = &target
        && rules.iter().all(|rule| has_words(text, rule))
    {
        return None;
    }
    let header = format!("# User rules for {name}\n{}\n", rules.join("\n"));
    target.append(&path, header.as_bytes(), &why)
}

/// A file to be added to.
enum Target {
    Absent,
    File { path: PathBuf, before: Before, mode: u32, uid: u32, gid: u32, text: Vec<u8> },
    Unfit,
}

impl Target {
    fn look(view: &dyn View, path: &str) -> Self {
        let found = match view::walk_no_follow(view, Path::new(path)).end {
            Ok(found) => found,
            Err(LookError::NotFound) => return Self::Absent,
            Err(_) => return Self::Unfit,
        };
        match view.read(&found.path, MAX_FILE) {
            Ok(text) => {
                let stat = found.stat;
                let before = before(&stat);
                Self::File { path: found.path, before, mode: stat.mode, uid: stat.uid, gid: stat.gid, text }
            }
            Err(_) => Self::Unfit,
        }
    }

    /// The write of `block` at the end, 0440 root:root if the file is new.
    fn append(&self, path: &Path, block: &[u8], why: &str) -> Option<Action> {
        let (path, change) = match self {
            Self::Unfit => return None,
            Self::Absent => {
                let (before, content) = (Before::Absent, block.to_vec());
                (
                    path.to_owned(),
                    Change::WriteFile { before, content, mode: 0o440, uid: 0, gid: 0, xattrs: Vec::new() },
                )
            }
            Self::File { path, before, mode, uid, gid, text } => {
                let newline: &[u8] = if text.is_empty() || text.ends_with(b"\n") { b"" } else { b"\n" };
                let content = [text, newline, block].concat();
                let (before, mode, uid, gid) = (before.clone(), *mode, *uid, *gid);
                (path.clone(), Change::WriteFile { before, content, mode, uid, gid, xattrs: Vec::new() })
            }
        };
        Some(Action { path, change, why: why.to_owned() })
    }
}

/// The files of sudoers.d that sudo reads: no dot and no tilde at the end in their names.
fn drop_ins(view: &dyn View) -> Vec<Vec<u8>> {
    let Ok(found) = view::follow(view, Path::new(SUDOERS_D)) else { return Vec::new() };
    let names = view.list(&found.path).unwrap_or_default();
    let read = |name: &std::ffi::OsString| {
        let bytes = name.as_encoded_bytes();
        !bytes.contains(&b'.') && !bytes.ends_with(b"~")
    };
    let files = names.iter().filter(|name| read(name)).take(MAX_FILES);
    files.filter_map(|name| view::read_following(view, &found.path.join(name), MAX_FILE).ok()).collect()
}

fn includes_directory(text: &[u8]) -> bool {
    text.lines().any(|line| {
        let mut words = line.fields_with(|c| c.is_ascii_whitespace());
        let keyword = matches!(words.next(), Some(b"#includedir" | b"@includedir"));
        let directory = words.next().unwrap_or_default();
        keyword && directory.strip_suffix(b"/").unwrap_or(directory) == SUDOERS_D.as_bytes()
    })
}

/// Is there a line of these words, whatever the blanks?
fn has_words(text: &[u8], line: &str) -> bool {
    let plain =
        |text: &[u8]| text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect::<Vec<_>>();
    let wanted = plain(line.as_bytes());
    text.lines().any(|line| plain(line) == wanted)
}
