//! The SELinux label of what a plan makes anew: the parent's context with the type that the reference policy gives.
//!
//! A volume whose parent directory has no label gets none.

use crate::view::View;
use std::path::Path;

/// The xattr of the label.
pub const SELINUX: &str = "security.selinux";

/// What the new thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A home directory.
    Home,
    /// `.ssh` or something in it.
    SshHome,
    /// Another file in a home.
    HomeContent,
    /// Anything else: as its parent.
    System,
}

impl Role {
    /// Of a directory or file of keys.
    #[must_use]
    pub fn of_new(in_home: bool) -> Self {
        if in_home { Self::SshHome } else { Self::System }
    }
}

/// The attributes for something new at `path`, whose parent exists.
#[must_use]
pub fn for_new(view: &dyn View, path: &Path, role: Role) -> Vec<(String, Vec<u8>)> {
    let Some(parent) = path.parent() else { return Vec::new() };
    let Ok(Some(label)) = view.xattr(parent, SELINUX) else { return Vec::new() };
    let text = String::from_utf8_lossy(&label);
    let parts: Vec<&str> = text.trim_end_matches('\0').splitn(4, ':').collect();
    let [user, object, parent_type, ..] = parts[..] else { return Vec::new() };
    let label_type = match role {
        Role::Home => "user_home_dir_t",
        Role::SshHome => "ssh_home_t",
        Role::HomeContent => "user_home_t",
        Role::System => parent_type,
    };
    let mut context = format!("{user}:{object}:{label_type}");
    if let Some(range) = parts.get(3) {
        context.push(':');
        context.push_str(range);
    }
    context.push('\0');
    vec![(SELINUX.to_owned(), context.into_bytes())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::memory::MemTree;

    #[test]
    fn a_new_file_of_keys_has_the_type_that_sshd_may_read() {
        let mut tree = MemTree::new();
        tree.dir("/home/u", 0o700, 1, 1).set_xattr(
            "/home/u",
            SELINUX,
            b"unconfined_u:object_r:user_home_dir_t:s0\0",
        );
        let label = for_new(&tree, Path::new("/home/u/.ssh"), Role::SshHome);
        assert_eq!(label, [(SELINUX.to_owned(), b"unconfined_u:object_r:ssh_home_t:s0\0".to_vec())]);
        assert!(for_new(&tree, Path::new("/etc/x"), Role::System).is_empty());
    }
}
