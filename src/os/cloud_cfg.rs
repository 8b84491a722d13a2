//! The image's default user as /etc/cloud/cloud.cfg and cloud.cfg.d/*.cfg give it.

use super::yaml::{self, Value};
use crate::accounts;
use crate::view::{self, View};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The most bytes of one file that are read.
const MAX_FILE: u64 = 1 << 20;
/// The most drop-ins that are read.
const MAX_FILES: usize = 200;

/// What the files say of `system_info: default_user`; what they leave out is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CloudUser {
    /// The name and the file that gives it.
    pub(super) name: Option<(String, PathBuf)>,
    pub(super) groups: Option<Vec<String>>,
    pub(super) primary_group: Option<String>,
    pub(super) shell: Option<String>,
    pub(super) gecos: Option<String>,
    pub(super) home: Option<String>,
    /// Rules without the name; an empty list is "none".
    pub(super) sudo: Option<Vec<String>>,
    pub(super) doas: Option<Vec<String>>,
    pub(super) lock_password: Option<bool>,
}

impl CloudUser {
    /// `true` if the files say more than a name: then they say all there is.
    pub(super) fn is_complete(&self) -> bool {
        self.groups.is_some() || self.sudo.is_some() || self.shell.is_some() || self.gecos.is_some()
    }

    fn overlay(&mut self, text: &[u8], file: &Path) {
        let values = yaml::parse(&String::from_utf8_lossy(text), &["system_info", "user"]);
        let scalar = |value: &Value| match value {
            Value::Scalar(text) => Some(text.clone()).filter(|text| !text.is_empty()),
            Value::List(_) => None,
        };
        let take = |field: &mut Option<String>, value: &Value| {
            if let Some(text) = scalar(value) {
                *field = Some(text);
            }
        };
        for (path, value) in &values {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            let key = match path[..] {
                // An old way to rename the default user.
                ["user"] => "name",
                ["user", key] | ["system_info", "default_user", key] => key,
                _ => continue,
            };
            match key {
                "name" => {
                    if let Some(name) = scalar(value).filter(|name| accounts::is_valid_name(name.as_bytes()))
                    {
                        self.name = Some((name, file.to_owned()));
                    }
                }
                "groups" => self.groups = Some(words(value)),
                "primary_group" | "primary-group" => take(&mut self.primary_group, value),
                "shell" => take(&mut self.shell, value),
                "gecos" => take(&mut self.gecos, value),
                "homedir" => take(&mut self.home, value),
                "sudo" => self.sudo = Some(rules(value)),
                "doas" => self.doas = Some(rules(value)),
                "lock_passwd" | "lock-passwd" => {
                    self.lock_password = scalar(value).map(|word| !is_false(&word));
                }
                _ => {}
            }
        }
    }
}

/// Reads cloud.cfg, then the drop-ins in the order of their names; the last that sets a key counts. `None` if there is
/// no cloud.cfg and no drop-in.
pub(super) fn read(view: &dyn View) -> Option<CloudUser> {
    let mut files = vec![PathBuf::from("/etc/cloud/cloud.cfg")];
    if let Ok(found) = view::follow(view, Path::new("/etc/cloud/cloud.cfg.d")) {
        let names: Vec<OsString> = view.list(&found.path).unwrap_or_default();
        let configs = names.into_iter().filter(|name| name.as_encoded_bytes().ends_with(b".cfg"));
        files.extend(configs.take(MAX_FILES).map(|name| Path::new("/etc/cloud/cloud.cfg.d").join(name)));
    }
    let mut user = None;
    for file in files {
        if let Ok(text) = view::read_following(view, &file, MAX_FILE) {
            user.get_or_insert_with(CloudUser::default).overlay(&text, &file);
        }
    }
    user
}

fn is_false(word: &str) -> bool {
    matches!(word.to_ascii_lowercase().as_str(), "false" | "no" | "off" | "null" | "none" | "~" | "")
}

/// A list, or words with commas between.
fn words(value: &Value) -> Vec<String> {
    let words = match value {
        Value::List(items) => items.clone(),
        Value::Scalar(text) => text.split(',').map(|word| word.trim().to_owned()).collect(),
    };
    words.into_iter().filter(|word| accounts::is_valid_name(word.as_bytes())).collect()
}

/// A rule or several; `false` and null are none. A rule that would not stay on its line is passed over.
fn rules(value: &Value) -> Vec<String> {
    let rules = match value {
        Value::List(items) => items.clone(),
        Value::Scalar(text) if is_false(text) => Vec::new(),
        Value::Scalar(text) => vec![text.clone()],
    };
    let plain = |rule: &String| !rule.is_empty() && rule.len() < 1000 && !rule.chars().any(char::is_control);
    rules.into_iter().filter(plain).collect()
}
