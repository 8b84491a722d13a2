//! The growing plan: each action is tried on an [`Overlay`] at once, so that the next step sees its effect.

use super::{Action, Before, Change, Overlay, REPLACED_LIMIT, label};
use crate::permissions::{Access, Identity, acl, may};
use crate::selinux;
use crate::view::{Stat, View};
use std::path::Path;

/// Actions so far, and the volume as it would be after them.
#[derive(Debug)]
pub struct Builder<'a> {
    /// The volume after `actions`.
    pub view: Overlay<'a>,
    /// In the order in which they are done.
    pub actions: Vec<Action>,
    /// Who loses or gains access by the plan, by name: told first.
    pub warnings: Vec<String>,
    /// What the operator should know besides.
    pub notes: Vec<String>,
}

impl<'a> Builder<'a> {
    /// Nothing planned yet.
    #[must_use]
    pub fn new(view: &'a dyn View) -> Self {
        Self { view: Overlay::new(view), actions: Vec::new(), warnings: Vec::new(), notes: Vec::new() }
    }

    /// Adds an action.
    pub fn push(&mut self, path: &Path, change: Change, why: &str) {
        let action = Action { path: path.to_path_buf(), change, why: why.to_owned() };
        self.add(action);
    }

    /// Adds an action made elsewhere. A file is written once: a second writing takes the place of the first, so that
    /// what is expected before it is still what the volume has.
    ///
    /// What is made or replaced gets the label that the volume's policy gives it.
    ///
    /// A file larger than can be saved for an undo is not replaced and not removed.
    pub fn add(&mut self, mut action: Action) {
        if let Change::WriteFile { before: Before::Regular { size, .. }, .. }
        | Change::RemoveFile { before: Before::Regular { size, .. } } = &action.change
            && *size > REPLACED_LIMIT
        {
            self.note(format!(
                "{} is left as it is: it has {size} bytes, more than the {REPLACED_LIMIT} that are saved for an undo",
                action.path.display()
            ));
            return;
        }
        let label = label::of_action(&self.view, &action).unwrap_or_else(|why| {
            self.note(format!("{} gets no SELinux label: {why}", action.path.display()));
            None
        });
        if let Some(label) = label {
            match &mut action.change {
                Change::CreateDirectory { xattrs, .. } | Change::WriteFile { xattrs, .. } => {
                    xattrs.push((selinux::XATTR.to_owned(), label));
                }
                // A link has no place for it.
                _ => {
                    let (path, why) = (action.path.clone(), action.why.clone());
                    self.add_labelled(action);
                    let change =
                        Change::SetXattr { name: selinux::XATTR.into(), from: None, to: Some(label) };
                    self.add_labelled(Action { path, change, why });
                    return;
                }
            }
        }
        self.add_labelled(action);
    }

    fn add_labelled(&mut self, mut action: Action) {
        self.view.apply(&action);
        let earlier = self.actions.iter().position(|earlier| {
            earlier.path == action.path && matches!(earlier.change, Change::WriteFile { .. })
        });
        if let (Some(at), Change::WriteFile { before, xattrs, .. }) = (earlier, &mut action.change)
            && let Change::WriteFile { before: first, xattrs: labels, .. } = &self.actions[at].change
        {
            *before = first.clone();
            let unset = |(name, _): &&(String, Vec<u8>)| !xattrs.iter().any(|(set, _)| set == name);
            let kept: Vec<_> = labels.iter().filter(unset).cloned().collect();
            xattrs.extend(kept);
            self.actions[at] = action;
            return;
        }
        self.actions.push(action);
    }

    /// Says something once.
    pub fn note(&mut self, note: impl Into<String>) {
        let note = note.into();
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Says once, before everything else, whose access changes.
    pub fn warn(&mut self, warning: impl Into<String>) {
        let warning = warning.into();
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// What is at `path` now, if anything can be seen there.
    #[must_use]
    pub fn stat(&self, path: &Path) -> Option<Stat> {
        self.view.lstat(path).ok()
    }

    /// chown, unless it is so already.
    pub fn set_owner(&mut self, path: &Path, to: (u32, u32), why: &str) {
        if let Some(stat) = self.stat(path)
            && (stat.uid, stat.gid) != to
        {
            self.push(path, Change::SetOwner { from: (stat.uid, stat.gid), to }, why);
        }
    }

    /// chmod, unless it is so already.
    pub fn set_mode(&mut self, path: &Path, to: u32, why: &str) {
        if let Some(stat) = self.stat(path)
            && stat.mode != to
        {
            self.push(path, Change::SetMode { from: stat.mode, to }, why);
        }
    }

    /// Brings the documented mode: takes away what goes beyond it, and gives all of it only where what is left does
    /// not let `who` do what must be done.
    pub fn document_mode(&mut self, path: &Path, wanted: u32, who: &Identity, access: Access, why: &str) {
        let Some(stat) = self.stat(path) else { return };
        self.set_mode(path, stat.mode & wanted, why);
        if !self.allows(path, who, access) {
            self.take_back_mode(path);
            self.set_mode(path, wanted, why);
        }
    }

    /// Drops the last action again if it is a chmod of `path`: it is replaced by a better one.
    fn take_back_mode(&mut self, path: &Path) {
        if let Some(Action { path: last, change: Change::SetMode { from, to: _ }, .. }) = self.actions.last()
            && last == path
        {
            let undone = Change::SetMode { from: 0, to: *from };
            self.view.apply(&Action { path: path.to_path_buf(), change: undone, why: String::new() });
            self.actions.pop();
        }
    }

    /// Takes the write bits of group and others away.
    pub fn close_to_writers(&mut self, path: &Path, why: &str) {
        if let Some(stat) = self.stat(path) {
            self.set_mode(path, stat.mode & !0o022, why);
        }
    }

    /// Takes the right to write from the mask of a default ACL, and from the others in it.
    pub fn close_default_acl(&mut self, path: &Path, why: &str) {
        let from = self.view.xattr(path, acl::DEFAULT).ok().flatten();
        if let Some(mut list) = from.as_deref().and_then(acl::Acl::parse)
            && list.close_to_writers()
        {
            let change = Change::SetXattr { name: acl::DEFAULT.into(), from, to: Some(list.to_bytes()) };
            self.push(path, change, why);
        }
    }

    /// Gives `who` the right, by the least change: a mode bit, or the entry of an ACL that keeps them out.
    pub fn open_to(&mut self, path: &Path, who: &Identity, access: Access, why: &str) {
        let Some(stat) = self.stat(path) else { return };
        if self.allows(path, who, access) {
            return;
        }
        let bit = access as u32;
        if stat.uid == who.uid {
            self.set_mode(path, stat.mode | bit << 6, why);
            return;
        }
        let list = self.view.xattr(path, acl::ACCESS).ok().flatten();
        match list.as_deref().and_then(acl::Acl::parse).filter(acl::Acl::is_extended) {
            Some(list) => self.open_acl(path, list, &stat, who, access, why),
            // The right is everybody's: a directory that only the group may enter keeps out those who are not in it.
            None if who.in_group(stat.gid) => self.set_mode(path, stat.mode | bit << 3 | bit, why),
            None => self.set_mode(path, stat.mode | bit, why),
        }
        if !self.allows(path, who, access) {
            self.note(format!("{}: no single change lets the user in", path.display()));
        }
    }

    fn open_acl(
        &mut self,
        path: &Path,
        mut list: acl::Acl,
        stat: &Stat,
        who: &Identity,
        access: Access,
        why: &str,
    ) {
        let from = self.view.xattr(path, acl::ACCESS).ok().flatten();
        if list.grant(stat, who, access) {
            self.push(
                path,
                Change::SetXattr { name: acl::ACCESS.into(), from, to: Some(list.to_bytes()) },
                why,
            );
        }
        let Some(stat) = self.stat(path) else { return };
        if !self.allows(path, who, access) {
            // Nothing in the list speaks of this user: the others' bit does.
            self.set_mode(path, stat.mode | access as u32, why);
        }
    }

    /// May `who`, as things would be now?
    #[must_use]
    pub fn allows(&self, path: &Path, who: &Identity, access: Access) -> bool {
        self.stat(path).is_some_and(|stat| may(&self.view, path, &stat, who, access).unwrap_or(false))
    }
}

impl Builder<'_> {
    /// chown of the owner alone; the group stays, unless the owner was wrong, then it follows to the same id.
    pub fn set_owner_uid(&mut self, path: &Path, uid: u32, why: &str) {
        if let Some(stat) = self.stat(path)
            && stat.uid != uid
        {
            self.set_owner(path, (uid, uid), why);
        }
    }
}
