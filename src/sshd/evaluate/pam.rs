//! PAM, as sshd asks it for a login by key: `pam_acct_mgmt` and `pam_open_session`.

use super::Case;
use crate::accounts::PasswdEntry;

pub(super) fn check(_case: &mut Case<'_>, _user: &PasswdEntry) {}
