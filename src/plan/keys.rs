//! Putting public keys where the volume's sshd looks for them.

use super::action::{Before, Change};
use super::builder::Builder;
use super::login_path::{Reach, make_parents};
use super::scope::canonical_rest;
use crate::keys::PublicKey;
use crate::keys::authorized_keys::{self, KeyLine, Line};
use crate::sshd::Build;
use crate::sshd::evaluate::KeyFile;
use crate::view::{FileKind, LookError, TEXT_LIMIT, View, follow, walk};
use std::path::PathBuf;

/// What the files say of a key already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// On no line that sshd reads.
    Absent,
    /// On a line that lets it in.
    Accepted,
    /// Only on lines that bind it by policy (from, expiry, a forced command): file, line, option.
    Bound(PathBuf, u32, &'static str),
}

/// Adds the keys that no file has yet.
pub fn add(builder: &mut Builder<'_>, keys: &[PublicKey], reach: &Reach<'_>, build: &Build) {
    let mut missing: Vec<&PublicKey> = Vec::new();
    for key in keys {
        match presence(&builder.view, key, reach.files, build) {
            Presence::Accepted => {}
            Presence::Bound(file, line, option) => builder.note(format!(
                "{}:{line} has the key {} with {option}: that is policy and stays; the key is not added beside it",
                file.display(),
                key.fingerprint()
            )),
            Presence::Absent => missing.push(key),
        }
    }
    if missing.is_empty() {
        return;
    }
    for file in reach.files {
        if write(builder, file, &missing, reach) {
            if file.shared {
                builder.note(format!(
                    "{} serves several users: the key is for each of them whom sshd lets in by it",
                    file.path.display()
                ));
            }
            return;
        }
    }
    builder.note("no file that AuthorizedKeysFile names can take the key");
}

/// Looks for a key in all files of the user.
#[must_use]
pub fn presence(view: &dyn View, key: &PublicKey, files: &[KeyFile], build: &Build) -> Presence {
    let mut bound = None;
    for file in files {
        let Ok(found) = follow(view, &file.path) else { continue };
        let Ok(content) = view.read(&found.path, TEXT_LIMIT) else { continue };
        for (number, line) in authorized_keys::parse(&content, build) {
            let Line::Key(line) = line else { continue };
            if !line.key.same_key(key) {
                continue;
            }
            match binding(&line) {
                Some(None) => return Presence::Accepted,
                Some(Some(option)) => {
                    bound.get_or_insert(Presence::Bound(found.path.clone(), number, option));
                    // The first line that sshd allows decides: a forced command is not overtaken by a later line.
                    if option == "command=" {
                        return bound.unwrap_or(Presence::Absent);
                    }
                }
                None => {}
            }
        }
    }
    bound.unwrap_or(Presence::Absent)
}

/// What a line with the key means for it: `None` nothing (sshd refuses the line's options, or it is a CA),
/// `Some(None)` it lets the key in, `Some(Some(option))` it binds it.
fn binding(line: &KeyLine) -> Option<Option<&'static str>> {
    let options = line.options.as_ref().ok()?;
    if options.cert_authority {
        return None;
    }
    Some(if options.command.is_some() {
        Some("command=")
    } else if options.from.is_some() {
        Some("from=")
    } else if options.expiry.is_some() {
        Some("expiry-time=")
    } else if options.principals.is_some() {
        Some("principals=")
    } else {
        None
    })
}

fn write(builder: &mut Builder<'_>, file: &KeyFile, keys: &[&PublicKey], reach: &Reach<'_>) -> bool {
    let lines: Vec<Vec<u8>> = keys.iter().map(|key| key.to_line()).collect();
    let lines = lines.as_slice();
    let named: Vec<String> =
        keys.iter().map(|key| format!("{} {}", key.algorithm, key.fingerprint())).collect();
    let why = format!("adds the key {}; the other lines stay", named.join(", "));
    let why = why.as_str();
    let ended = walk(&builder.view, &file.path);
    match &ended.end {
        Ok(found) if !found.stat.is_file() => {
            builder.note(format!(
                "{} is {}: it is left alone",
                found.path.display(),
                found.stat.kind.words()
            ));
            false
        }
        Ok(found) => {
            if reach.anothers(&builder.view, &found.path).is_some() {
                // The plan has told it.
                return false;
            }
            if !reach.may_change(&builder.view, &found.path) {
                builder.note(format!(
                    "{} leads out of the home to {}: that file is not changed",
                    file.path.display(),
                    found.path.display()
                ));
                return false;
            }
            // The other names may be anything, the volume's shadow among them: only what is the user's is copied.
            if found.stat.nlink > 1 && found.stat.uid != reach.user.uid {
                builder.note(format!(
                    "{} has other names outside the home: it is left alone",
                    found.path.display()
                ));
                return false;
            }
            let old = match builder.view.read(&found.path, TEXT_LIMIT) {
                Ok(old) => old,
                Err(error) => {
                    builder.note(format!("{}: {error}: it is left alone", found.path.display()));
                    return false;
                }
            };
            let before =
                Before::Regular { ino: found.stat.ino, size: found.stat.size, mtime: found.stat.mtime };
            let inside = reach.in_home(&found.path);
            // With several names the content goes to a new inode of the user's own; the others keep theirs.
            let (mode, uid, gid) = if found.stat.nlink > 1 && inside {
                (0o600, reach.user.uid, reach.user.gid)
            } else {
                (found.stat.mode, found.stat.uid, found.stat.gid)
            };
            if found.stat.nlink > 1 {
                builder.note(format!(
                    "{} gets a file of its own: the other {} of the old one keep what it had",
                    found.path.display(),
                    if found.stat.nlink == 2 {
                        "name".to_owned()
                    } else {
                        format!("{} names", found.stat.nlink - 1)
                    }
                ));
            }
            let content = authorized_keys::append(&old, lines);
            let path = found.path.clone();
            builder.push(
                &path,
                Change::WriteFile { before, content, mode, uid, gid, xattrs: Vec::new() },
                why,
            );
            true
        }
        Err(LookError::NotFound | LookError::Loop) => create(builder, file, lines, reach, why),
        Err(error) => {
            builder.note(format!("{}: {error}: it is left alone", ended.reached.display()));
            false
        }
    }
}

fn create(
    builder: &mut Builder<'_>,
    file: &KeyFile,
    lines: &[Vec<u8>],
    reach: &Reach<'_>,
    why: &str,
) -> bool {
    let there = canonical_rest(&builder.view, &file.path);
    if there.is_some_and(|path| reach.anothers(&builder.view, &path).is_some()) {
        // The plan has told it.
        return false;
    }
    let Some(path) = make_parents(builder, &file.path, reach) else {
        builder.note(format!("{} cannot be made: something else is in the way", file.path.display()));
        return false;
    };
    if !reach.in_home(&path) && reach.strays(&builder.view, &file.path) {
        builder.note(format!(
            "{} leads out of the home to {}: nothing is made there",
            file.path.display(),
            path.display()
        ));
        return false;
    }
    let before = match builder.stat(&path) {
        None => Before::Absent,
        Some(stat) if stat.kind == FileKind::Symlink => match builder.view.read_link(&path) {
            Ok(target) if reach.in_home(&path) => Before::Link { target },
            _ => return false,
        },
        Some(_) => return false,
    };
    let inside = reach.in_home(&path);
    let (mode, uid, gid) = if inside { (0o600, reach.user.uid, reach.user.gid) } else { (0o644, 0, 0) };
    let content = authorized_keys::append(b"", lines);
    builder.push(&path, Change::WriteFile { before, content, mode, uid, gid, xattrs: Vec::new() }, why);
    true
}
