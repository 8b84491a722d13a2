//! Which sshd the volume has: version, who built it, and what that build does differently.

use crate::view::View;

/// Whose patches the build carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Debian and Ubuntu: private groups may write (`user-group-modes`), TCP wrappers, authorized_keys2 read.
    Debian,
    /// RHEL and its rebuilds, Fedora, Amazon Linux.
    RedHat,
    /// SUSE.
    Suse,
    /// Upstream's rules (Alpine, Arch and others).
    Upstream,
}

/// The sshd of the volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    /// Major and minor version; `None` where no sshd was found (the rules of a current one are taken).
    pub version: Option<(u32, u32)>,
    /// As it calls itself: "9.2p1".
    pub text: Option<String>,
    /// Whose patches it carries.
    pub family: Family,
    /// Major version of the distribution (8 for EL8), where the patches differ by it.
    pub release: Option<u32>,
}

impl Build {
    /// Finds the sshd program and its version on the volume.
    #[must_use]
    pub fn detect(_view: &dyn View) -> Self {
        Self { version: None, text: None, family: Family::Upstream, release: None }
    }

    /// `true` if the version is at least this; an unknown version counts as current.
    #[must_use]
    pub fn at_least(&self, major: u32, minor: u32) -> bool {
        self.version.is_none_or(|version| version >= (major, minor))
    }
}
