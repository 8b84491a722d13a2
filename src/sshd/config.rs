//! sshd_config(5): reading it as the volume's sshd would, and what is in force for one connection.

use super::build::Build;
use crate::finding::Location;
use crate::view::View;
use bstr::BString;

/// A value and the line that set it; no line means the build's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setting<T> {
    /// What is in force.
    pub value: T,
    /// Where it was set.
    pub at: Option<Location>,
}

/// PermitRootLogin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PermitRootLogin {
    /// Any method.
    Yes,
    /// Not by password (also spelled without-password).
    #[default]
    ProhibitPassword,
    /// Only with a `command=` on the key line.
    ForcedCommandsOnly,
    /// Never.
    No,
}

/// What is in force for one connection: global lines, overridden by the matching Match blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of sshd_config(5)")]
pub struct Effective {
    pub use_pam: Setting<bool>,
    pub pam_service_name: Setting<BString>,
    pub strict_modes: Setting<bool>,
    pub pubkey_authentication: Setting<bool>,
    pub password_authentication: Setting<bool>,
    pub kbd_interactive_authentication: Setting<bool>,
    pub gssapi_authentication: Setting<bool>,
    pub hostbased_authentication: Setting<bool>,
    pub permit_root_login: Setting<PermitRootLogin>,
    /// The words as written, `none` dropped; the default where unset.
    pub authorized_keys_file: Setting<Vec<BString>>,
    pub authorized_keys_command: Setting<Option<BString>>,
    pub authorized_keys_command_user: Setting<Option<BString>>,
    pub authorized_principals_file: Setting<Option<BString>>,
    pub authorized_principals_command: Setting<Option<BString>>,
    pub authorized_principals_command_user: Setting<Option<BString>>,
    pub trusted_user_ca_keys: Setting<Option<BString>>,
    pub revoked_keys: Setting<Option<BString>>,
    pub allow_users: Vec<Setting<BString>>,
    pub deny_users: Vec<Setting<BString>>,
    pub allow_groups: Vec<Setting<BString>>,
    pub deny_groups: Vec<Setting<BString>>,
    /// Empty where unset or `any`: any one method will do.
    pub authentication_methods: Setting<Vec<BString>>,
    /// Names after `+`, `-`, `^` and patterns were applied to the build's default.
    pub pubkey_accepted_algorithms: Setting<Vec<String>>,
    pub ca_signature_algorithms: Setting<Vec<String>>,
    /// Bits.
    pub required_rsa_size: Setting<u32>,
    pub force_command: Setting<Option<BString>>,
    pub chroot_directory: Setting<Option<BString>>,
    pub max_auth_tries: Setting<u32>,
    pub max_sessions: Setting<u32>,
    pub use_dns: Setting<bool>,
    pub refuse_connection: Setting<bool>,
    pub permit_user_environment: Setting<bool>,
    /// The files as written; the defaults of the build where unset.
    pub host_keys: Vec<Setting<BString>>,
    pub host_key_agent: Setting<Option<BString>>,
}

/// Who connects, as far as the configuration can ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// Login name.
    pub user: BString,
    /// Names of the user's groups; `None` for a user who does not exist.
    pub groups: Option<Vec<BString>>,
    /// The client's address, if the question names one.
    pub address: Option<std::net::IpAddr>,
    /// The client's host name, where UseDNS would find one.
    pub host: Option<BString>,
}

/// A line for which sshd does not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file and line.
    pub at: Location,
    /// The line as written.
    pub text: BString,
    /// What sshd logs.
    pub says: String,
    /// `false` if sshd starts all the same and only connections fail.
    pub stops_start: bool,
}

/// The configuration, read whole.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Why sshd does not start, in the order of the file.
    pub errors: Vec<ConfigError>,
}

impl Config {
    /// Reads /etc/ssh/sshd_config of the volume with all that it includes. `options` are those of the command line
    /// (`-o Keyword=value`, from the unit or its environment files), which come first.
    #[must_use]
    pub fn load(_view: &dyn View, _build: &Build, _options: &[BString]) -> Self {
        Self::default()
    }

    /// What is in force for one connection. `undecided` tells what would have to be known and is not.
    #[must_use]
    pub fn effective(&self, _connection: &Connection) -> (Effective, Vec<Undecided>) {
        (Effective::default(), Vec::new())
    }
}

/// A Match criterion that hangs on what is not on the disk (the client's address, say), where the answer matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecided {
    /// The line.
    pub at: Location,
    /// What is missing, in words.
    pub missing: String,
}
