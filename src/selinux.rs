//! SELinux labels as the volume's own policy gives them: what matchpathcon(8) prints, and what restorecon(8) makes of a
//! label that is there. Pure.
//!
//! Only the text form of the policy's file contexts is read (`file_contexts`, `.homedirs`, `.local`, `.subs`,
//! `.subs_dist`; selabel_file(5)). Homes outside /home and the users of semanage-login(8) stand in `.homedirs`, where the
//! volume's genhomedircon(8) wrote them.

mod file_contexts;

use crate::view::{FileKind, LookError, TEXT_LIMIT, View, follow, read_following};
use bstr::ByteSlice;
use file_contexts::{FileContexts, Given};
use std::path::{Path, PathBuf};

/// The xattr of the label.
pub const XATTR: &str = "security.selinux";

const CONFIG: &str = "/etc/selinux/config";

/// How the volume boots (selinux(8), `SELINUX=` of /etc/selinux/config).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The policy decides.
    Enforcing,
    /// The policy only logs.
    Permissive,
    /// Off, or there is no policy.
    Disabled,
}

impl Mode {
    /// The word of the JSON contract.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Enforcing => "enforcing",
            Self::Permissive => "permissive",
            Self::Disabled => "disabled",
        }
    }
}

/// The volume's policy, as far as labels of files go.
#[derive(Debug)]
pub struct Policy {
    mode: Mode,
    contexts: Option<FileContexts>,
    customizable: Vec<String>,
    /// Why labels cannot be told though SELinux is on, in words.
    unreadable: Option<String>,
}

/// What a file's label should become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Label {
    /// It is right, or the policy leaves it to others (`<<none>>`, customizable types, no rule).
    Right,
    /// This context, without the final NUL.
    Wrong(String),
    /// The policy has a rule that cannot be evaluated here; in words.
    Undecided(String),
}

impl Policy {
    /// Reads what the volume has. A volume without SELinux has an empty policy, that labels nothing.
    #[must_use]
    pub fn read(view: &dyn View) -> Self {
        let mut policy =
            Self { mode: Mode::Disabled, contexts: None, customizable: Vec::new(), unreadable: None };
        let Some((mode, directory)) = configured(view) else { return policy };
        policy.mode = mode;
        let main = directory.join("contexts/files/file_contexts");
        let beside = |suffix: &str| {
            let mut name = main.clone().into_os_string();
            name.push(suffix);
            PathBuf::from(name)
        };
        let mut text = |path: &Path| match read_following(view, path, TEXT_LIMIT) {
            Ok(text) => text,
            Err(LookError::NotFound) => Vec::new(),
            Err(error) => {
                policy.unreadable = Some(format!("{}: {error}", path.display()));
                Vec::new()
            }
        };
        let rules = [main.clone(), beside(".homedirs"), beside(".local")].map(|path| text(&path));
        let subs = [beside(".subs"), beside(".subs_dist")].map(|path| text(&path));
        let types = text(&directory.join("contexts/customizable_types"));
        if rules[0].is_empty() && policy.unreadable.is_none() {
            let other =
                [".bin", ".gz", ".bz2", ".xz"].iter().find(|suffix| follow(view, &beside(suffix)).is_ok());
            policy.unreadable = Some(match other {
                Some(suffix) => format!("{} exists only as {suffix}, which is not read", main.display()),
                None => format!("{} is missing or empty", main.display()),
            });
        }
        if policy.unreadable.is_some() {
            return policy;
        }
        match FileContexts::parse(&rules, &subs) {
            Ok(contexts) => policy.contexts = Some(contexts),
            Err(why) => policy.unreadable = Some(format!("{}: {why}", main.display())),
        }
        let lines = types.lines().map(|line| line.trim_ascii().to_str_lossy().into_owned());
        policy.customizable = lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        policy
    }

    /// How the volume boots.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Why no label can be told though SELinux is on, in words.
    #[must_use]
    pub fn unreadable(&self) -> Option<&str> {
        self.unreadable.as_deref()
    }

    /// `true` if labels are known.
    #[must_use]
    pub fn labels(&self) -> bool {
        self.contexts.is_some()
    }

    /// The context of `path` by the policy, as `matchpathcon -m TYPE path` prints it; `None` where it has no label
    /// to give.
    ///
    /// # Errors
    /// In words: the policy has a rule for it that cannot be evaluated here.
    pub fn context(&self, path: &Path, kind: FileKind) -> Result<Option<&str>, String> {
        let Some(contexts) = &self.contexts else { return Ok(None) };
        match contexts.lookup(path, kind) {
            Given::Context(context) => Ok(Some(context)),
            Given::Nothing => Ok(None),
            Given::Undecided(rule) => Err(format!("the rule {rule} cannot be evaluated")),
        }
    }

    /// What restorecon(8) without -F would make of `path`, whose label is `now`: a missing label is set whole, of a wrong
    /// one only the type changes, and the user, role and range stay.
    #[must_use]
    pub fn restore(&self, path: &Path, kind: FileKind, now: Option<&[u8]>) -> Label {
        let wanted = match self.context(path, kind) {
            Ok(Some(wanted)) => wanted,
            Ok(None) => return Label::Right,
            Err(why) => return Label::Undecided(why),
        };
        let Some(now) = now else { return Label::Wrong(wanted.to_owned()) };
        let now = now.strip_suffix(b"\0").unwrap_or(now);
        let Ok(now) = now.to_str() else { return Label::Wrong(wanted.to_owned()) };
        let (Some(has), Some(type_wanted)) = (type_of(now), type_of(wanted)) else {
            return Label::Wrong(wanted.to_owned());
        };
        if has == type_wanted || self.customizable.iter().any(|other| other == has) {
            return Label::Right;
        }
        let mut parts: Vec<&str> = now.splitn(4, ':').collect();
        parts[2] = type_wanted;
        Label::Wrong(parts.join(":"))
    }
}

/// The value of the xattr for a context.
#[must_use]
pub fn value(context: &str) -> Vec<u8> {
    let mut value = context.as_bytes().to_vec();
    value.push(0);
    value
}

/// The type of `user:role:type[:range]`; `None` for what is no context.
fn type_of(context: &str) -> Option<&str> {
    let mut parts = context.splitn(4, ':');
    let (user, role) = (parts.next()?, parts.next()?);
    parts.next().filter(|part| !part.is_empty() && !user.is_empty() && !role.is_empty())
}

/// The mode and the directory of the policy; `None` where SELinux is off or there is no policy.
fn configured(view: &dyn View) -> Option<(Mode, PathBuf)> {
    let config = read_following(view, Path::new(CONFIG), TEXT_LIMIT).ok()?;
    let value = |name: &str| {
        let lines = config.lines().map(<[u8]>::trim_ascii);
        let mut values = lines.filter_map(|line| line.strip_prefix(name.as_bytes()));
        values.next_back().map(|value| value.trim_ascii().to_str_lossy().into_owned())
    };
    let mode = match value("SELINUX=")?.to_ascii_lowercase().as_str() {
        "enforcing" => Mode::Enforcing,
        "permissive" => Mode::Permissive,
        _ => return None,
    };
    let name = value("SELINUXTYPE=").unwrap_or_else(|| "targeted".into());
    if name.is_empty() || name == ".." || name.contains('/') {
        return None;
    }
    let directory = Path::new("/etc/selinux").join(name);
    follow(view, &directory.join("contexts/files")).ok().map(|_| (mode, directory))
}

#[cfg(test)]
pub(crate) mod tests;
