//! What sshd does not mind, and a person should.

use super::{Case, KeyFile};
use crate::accounts::PasswdEntry;

pub(super) fn check(_case: &mut Case<'_>, _user: &PasswdEntry, _files: &[KeyFile]) {}
