//! AuthorizedKeysCommand: asked only when no file let the key in; what it answers is not on the disk.

use super::super::Case;
use super::super::account::at_setting;
use super::super::path::private_group;
use crate::accounts::PasswdEntry;
use crate::finding::{CheckId, Finding};
use crate::view::{Stat, follow};
use bstr::ByteSlice;
use std::path::Path;

/// What is known of the command.
pub(super) struct Command {
    /// It would be run.
    pub(super) asks: bool,
    /// The finding for a verdict that hangs on it, and what is missing.
    pub(super) doubt: Option<(Finding, String)>,
    /// It would not be run, though the configuration names it.
    pub(super) advice: Option<Finding>,
}

/// auth2-pubkey.c, `user_key_command_allowed2`, and misc.c, `subprocess`: would it be run at all?
pub(super) fn look(case: &Case<'_>, _user: &PasswdEntry) -> Command {
    let effective = case.effective;
    let setting = &effective.authorized_keys_command;
    let nothing = Command { asks: false, doubt: None, advice: None };
    let (Some(command), Some(runs_as)) = (&setting.value, &effective.authorized_keys_command_user.value)
    else {
        return nothing;
    };
    let program = command.split(u8::is_ascii_whitespace).next().unwrap_or_default();
    let program = program.to_os_str_lossy().into_owned();
    let finding = |is: String| at_setting(Finding::advises(CheckId::KeyCommand), setting).is(is);
    let refuses = |says: String| Command {
        asks: false,
        doubt: None,
        advice: Some(
            finding(format!("AuthorizedKeysCommand {command}"))
                .wants("a command that sshd would run, or none")
                .says(says),
        ),
    };
    if case.system.entry(runs_as).is_none()
        && case.system.names.passwd_service().is_none()
        && !runs_as.contains(&b'%')
    {
        return refuses(format!(
            "AuthorizedKeysCommandUser \"{runs_as}\" not found: No such file or directory"
        ));
    }
    if let Err(says) = safe_program(case, Path::new(&program)) {
        return refuses(says);
    }
    let missing = format!("what AuthorizedKeysCommand {} answers", Path::new(&program).display());
    let finding =
        finding(format!("AuthorizedKeysCommand {command}")).wants("the key in a file, which is asked first");
    Command { asks: true, doubt: Some((finding, missing)), advice: None }
}

/// `safe_path` for root, without a stop: the program and all directories above it.
fn safe_program(case: &Case<'_>, program: &Path) -> Result<(), String> {
    let shown = program.display();
    let found = follow(case.view, program).map_err(|error| {
        format!(
            "Could not stat AuthorizedKeysCommand \"{shown}\": {}",
            super::super::start::errno_words(&error)
        )
    })?;
    let unsafe_ = |stat: &Stat| {
        let private = case.build().private_groups_may_write() && private_group(case.system, stat, 0);
        stat.uid != 0 || stat.mode & 0o002 != 0 || (stat.mode & 0o020 != 0 && !private)
    };
    let refused = |what: &str, path: &Path| {
        let path = path.display();
        format!("Unsafe AuthorizedKeysCommand \"{shown}\": bad ownership or modes for {what} {path}")
    };
    if !found.stat.is_file() {
        return Err(format!("Unsafe AuthorizedKeysCommand \"{shown}\": {shown} is not a regular file"));
    }
    if unsafe_(&found.stat) {
        return Err(refused("file", &found.path));
    }
    for directory in found.path.ancestors().skip(1) {
        if case.view.lstat(directory).is_ok_and(|stat| unsafe_(&stat)) {
            return Err(refused("directory", directory));
        }
    }
    if found.stat.mode & 0o111 == 0 {
        return Err(format!("AuthorizedKeysCommand {shown} failed, status 1"));
    }
    Ok(())
}
