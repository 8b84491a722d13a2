//! SELinux labels in a plan: what it makes or replaces gets the label that the volume's own policy gives to that path,
//! and wrong labels on the login path become right. Where SELinux is off there is nothing to do.

use super::action::{Action, Change};
use super::builder::Builder;
use crate::finding::{CheckId, Finding};
use crate::selinux::{self, Label, XATTR};
use crate::view::{FileKind, View};
use std::path::{Path, PathBuf};

/// The most entries of a home that are looked at, and that are changed.
const MOST_ENTRIES: usize = 200_000;
const MOST_CHANGES: usize = 20_000;

/// The label that `action` should give to what it makes or replaces, as the value of the xattr; `None` where none is to
/// be set.
///
/// # Errors
/// In words: why it cannot be told.
pub(super) fn of_action(view: &dyn View, action: &Action) -> Result<Option<Vec<u8>>, String> {
    let kind = match &action.change {
        Change::CreateDirectory { .. } => FileKind::Directory,
        Change::WriteFile { .. } => FileKind::Regular,
        Change::CreateLink { .. } => FileKind::Symlink,
        _ => return Ok(None),
    };
    let policy = view.selinux();
    if let Some(why) = policy.unreadable() {
        return Err(format!("{why}; run restorecon(8) on it after the boot"));
    }
    let now = match view.lstat(&action.path) {
        Ok(stat) if stat.kind == kind => view.xattr(&action.path, XATTR).unwrap_or_default(),
        _ => None,
    };
    match policy.restore(&action.path, kind, now.as_deref()) {
        Label::Right => Ok(None),
        Label::Wrong(context) => Ok(Some(selinux::value(&context))),
        Label::Undecided(why) => Err(why),
    }
}

/// Plans the labels that findings ask for.
pub(super) fn mend(builder: &mut Builder<'_>, findings: &[Finding]) {
    for finding in findings {
        if finding.check != CheckId::LabelWrong {
            continue;
        }
        let Some(path) = &finding.path else { continue };
        set(builder, path);
    }
}

fn set(builder: &mut Builder<'_>, path: &Path) -> bool {
    let Some(stat) = builder.stat(path).filter(|stat| stat.is_dir() || stat.nlink == 1) else { return false };
    let Ok(from) = builder.view.xattr(path, XATTR) else { return false };
    let Label::Wrong(context) = builder.view.selinux().restore(path, stat.kind, from.as_deref()) else {
        return false;
    };
    let to = Some(selinux::value(&context));
    builder.push(path, Change::SetXattr { name: XATTR.into(), from, to }, "the label of the volume's policy");
    true
}

/// Plans the labels of everything in a home, on its own filesystem and never of a file with another name elsewhere.
pub(super) fn mend_home(builder: &mut Builder<'_>, home: &Path) {
    if !builder.view.selinux().labels() {
        return;
    }
    let Some(top) = builder.stat(home) else { return };
    let mut open: Vec<PathBuf> = vec![home.to_path_buf()];
    let (mut seen, mut changed) = (0, 0);
    while let Some(path) = open.pop() {
        seen += 1;
        if seen > MOST_ENTRIES || changed >= MOST_CHANGES {
            builder.note(format!("{} holds more than is labelled: run restorecon -R on it", home.display()));
            return;
        }
        let Some(stat) = builder.stat(&path).filter(|stat| stat.dev == top.dev || stat.ino > u64::MAX / 2)
        else {
            continue;
        };
        changed += usize::from(set(builder, &path));
        if stat.is_dir() {
            let names = builder.view.list(&path).unwrap_or_default();
            open.extend(names.iter().take(MOST_ENTRIES).map(|name| path.join(name)));
        }
    }
}
