//! sshd_config(5): reading it as the volume's sshd would, and what is in force for one connection.
//!
//! sshd reads the configuration twice. At the start global lines count, and every line is checked, also in blocks
//! that never match. For a connection only the lines of matching blocks count: among them the first of a keyword
//! wins, and it replaces the global value. Sources: openssh-portable `servconf.c` and the main function of `sshd.c`.

mod algorithms;
mod check;
mod criteria;
mod effective;
mod glob;
mod keyword;
mod lex;
mod pass;
mod set;
mod source;
mod unit;
mod value;

pub use unit::command_line_options;

use super::build::Build;
use crate::finding::Location;
use crate::view::View;
use bstr::{BString, ByteSlice};
use criteria::{Asked, Assume, Hanging};
use keyword::Op;
use pass::{Access, At, Options, Pass};
use source::{ReadError, Sources};
use std::cell::RefCell;
use std::path::{Path, PathBuf};

/// The main file.
pub const MAIN_FILE: &str = "/etc/ssh/sshd_config";
/// The most undecided criteria that are tried one by one.
const MAX_TRIED: usize = 32;

/// The most lines that are read again for it.
const MAX_LINES_TRIED: usize = 1_000_000;

/// A value and the line that set it; no line means the build's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setting<T> {
    /// What is in force.
    pub value: T,
    /// Where it was set. (The file is `command-line` for an option of the unit.)
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

impl PermitRootLogin {
    /// As it is written in the file.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::ProhibitPassword => "prohibit-password",
            Self::ForcedCommandsOnly => "forced-commands-only",
            Self::No => "no",
        }
    }
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
    /// Before 8.7 also where ChallengeResponseAuthentication says so.
    pub kbd_interactive_authentication: Setting<bool>,
    pub gssapi_authentication: Setting<bool>,
    /// With it sshd starts without any host key.
    pub gssapi_key_exchange: Setting<bool>,
    pub hostbased_authentication: Setting<bool>,
    pub permit_root_login: Setting<PermitRootLogin>,
    /// The words as written but for `~`, `none` dropped; the default where unset.
    pub authorized_keys_file: Setting<Vec<BString>>,
    pub authorized_keys_command: Setting<Option<BString>>,
    pub authorized_keys_command_user: Setting<Option<BString>>,
    /// `Some("none")` where a Match block says so: it means a file of that name.
    pub authorized_principals_file: Setting<Option<BString>>,
    pub authorized_principals_command: Setting<Option<BString>>,
    pub authorized_principals_command_user: Setting<Option<BString>>,
    /// `Some("none")` where a Match block says so: it means a file of that name.
    pub trusted_user_ca_keys: Setting<Option<BString>>,
    /// `Some("none")` where a Match block says so: it means a file of that name, which is missing as a rule, and
    /// then every key counts as revoked.
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
    pub host_key_algorithms: Setting<Vec<String>>,
    pub kex_algorithms: Setting<Vec<String>>,
    pub ciphers: Setting<Vec<String>>,
    pub macs: Setting<Vec<String>>,
    /// Bits.
    pub required_rsa_size: Setting<u32>,
    pub force_command: Setting<Option<BString>>,
    pub chroot_directory: Setting<Option<BString>>,
    pub max_auth_tries: Setting<u32>,
    pub max_sessions: Setting<u32>,
    pub use_dns: Setting<bool>,
    pub refuse_connection: Setting<bool>,
    pub permit_user_environment: Setting<bool>,
    /// Off only in 7.4 and earlier, where the user sshd is then not needed.
    pub use_privilege_separation: Setting<bool>,
    /// The files as written; the defaults of the build where unset. `none` is dropped.
    pub host_keys: Vec<Setting<BString>>,
    pub host_key_agent: Setting<Option<BString>>,
    /// From 9.8.
    pub sshd_session_path: Setting<Option<BString>>,
    /// From 10.0.
    pub sshd_auth_path: Setting<Option<BString>>,
    /// Hosts without their ports; empty where unset.
    pub listen_addresses: Vec<Setting<BString>>,
    /// 4 for `inet`, 6 for `inet6`, 0 for `any`.
    pub address_family: Setting<i64>,
    /// How many of a hundred connections are dropped though no other is being opened.
    pub max_startups: Setting<u32>,
    /// The same for the connections of one address.
    pub per_source_max_startups: Setting<u32>,
    /// The ports, 22 where unset.
    pub ports: Vec<u16>,
    /// sshd starts, but a connection like this one dies with this.
    pub fatal: Option<ConfigError>,
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
    /// The address that the client connects to, if the question names one.
    pub local_address: Option<std::net::IpAddr>,
    /// The port that the client connects to, if the question names one.
    pub local_port: Option<u16>,
}

/// What is wrong with the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// sshd_config does not exist.
    Missing,
    /// sshd_config, or a file it includes, cannot be opened.
    Unreadable,
    /// A line that this sshd does not take, or settings that contradict each other.
    Syntax,
    /// No error: what sshd would do here is not on the disk, or is more than volrescue reads.
    Unknown,
}

/// A line for which sshd does not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file and line; line 0 is the file as a whole.
    pub at: Location,
    /// The line as written.
    pub text: BString,
    /// What sshd logs; for [`ErrorKind::Unknown`], what is not known.
    pub says: String,
    /// `false` if sshd starts all the same and only connections fail, or if it is not known.
    pub stops_start: bool,
    /// What is wrong.
    pub kind: ErrorKind,
}

/// The configuration, read whole.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Why sshd does not start, in the order of the file.
    pub errors: Vec<ConfigError>,
    build: Build,
    sources: Sources,
    main: Option<usize>,
    global: Options,
}

impl Config {
    /// Bytes of the configuration as sshd keeps it, with all that it includes: lines without the blanks before them,
    /// each file once for every pattern that names it.
    #[must_use]
    pub fn size_in_memory(&self) -> usize {
        self.sources.size_in_memory(self.main)
    }

    /// The files that were read, the first of them sshd_config itself.
    #[must_use]
    pub fn read_files(&self) -> Vec<String> {
        self.sources.files.iter().map(|file| file.path.display().to_string()).collect()
    }

    /// Reads /etc/ssh/sshd_config of the volume with all that it includes. `options` are those of the command line
    /// (`-o Keyword=value`, from the unit or its environment files), which come first.
    #[must_use]
    pub fn load(view: &dyn View, build: &Build, options: &[BString]) -> Self {
        let mut sources = Sources::default();
        let main_file = Path::new(MAIN_FILE);
        let main = sources.read(view, build, main_file);
        let mut pass = Pass::new(build, Access::Load(&mut sources, view), None);
        for option in options {
            pass.command_line_option(option);
        }
        let mut at_once = Vec::new();
        let main = match main {
            Ok(index) => {
                pass.run(index);
                Some(index)
            }
            Err(error) => {
                let (kind, says) = match error {
                    ReadError::Fails { missing: true, says } => (ErrorKind::Missing, says),
                    ReadError::Fails { says, .. } => (ErrorKind::Unreadable, says),
                    ReadError::Unknown(says) => (ErrorKind::Unknown, says),
                };
                at_once.push(ConfigError {
                    at: Location { file: main_file.to_owned(), line: 0 },
                    text: BString::default(),
                    says,
                    stops_start: kind != ErrorKind::Unknown,
                    kind,
                });
                None
            }
        };
        let (global, errors) = (pass.options, pass.errors);
        at_once.extend(errors);
        let mut config = Self { errors: at_once, build: build.clone(), sources, main, global };
        config.check_whole(view);
        config
    }

    /// The lines of the files that were read, for citation: the text of a place.
    #[must_use]
    pub fn text_at(&self, at: &Location) -> Option<&[u8]> {
        let file = self.sources.files.iter().find(|file| file.path == at.file)?;
        let number = usize::try_from(at.line).ok()?.checked_sub(1)?;
        file.content.split_str("\n").nth(number)
    }

    /// Whether there are lines that were not read, for their number or because they are not on the disk.
    #[must_use]
    pub fn is_partly_unknown(&self) -> bool {
        self.errors.iter().any(|error| error.kind == ErrorKind::Unknown)
    }

    /// The files that were read, in the order in which sshd came to them; the first is sshd_config itself.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.sources.files.iter().map(|file| file.path.as_path())
    }

    /// What is in force for one connection. `undecided` tells what would have to be known and is not. A client whose
    /// address is not known is taken for one from nowhere in particular: criteria that name addresses do not match.
    #[must_use]
    pub fn effective(&self, connection: &Connection) -> (Effective, Vec<Undecided>) {
        let (plain, hanging) = self.effective_assuming(connection, Assume::Nothing);
        let mut undecided: Vec<Undecided> = Vec::new();
        let silent = plain.without_places();
        let tell = |undecided: &mut Vec<Undecided>, hanging: &Hanging| {
            let undecided_here = Undecided {
                at: self.place(hanging.at).unwrap_or(Location { file: PathBuf::from(MAIN_FILE), line: 0 }),
                missing: hanging.missing.to_owned(),
            };
            if !undecided.contains(&undecided_here) {
                undecided.push(undecided_here);
            }
        };
        let lines: usize = self.sources.files.iter().map(|file| file.lines.len()).sum();
        let tried = (MAX_LINES_TRIED / lines.max(1)).min(MAX_TRIED);
        for (number, one) in hanging.iter().enumerate().take(tried) {
            let (other, _) = self.effective_assuming(connection, Assume::One(number));
            if other.without_places() != silent {
                tell(&mut undecided, one);
            }
        }
        if !hanging.is_empty() {
            let (other, all) = self.effective_assuming(connection, Assume::Everything);
            if undecided.is_empty() && other.without_places() != silent {
                // Only together do they make a difference.
                all.iter().for_each(|one| tell(&mut undecided, one));
            }
        }
        (plain, undecided)
    }

    fn effective_assuming(&self, connection: &Connection, assume: Assume) -> (Effective, Vec<Hanging>) {
        let asked = Asked {
            connection,
            use_dns: self.use_dns(),
            ports: self.ports(),
            assume,
            hanging: RefCell::new(Vec::new()),
        };
        let mut pass = Pass::new(&self.build, Access::Cached(&self.sources), Some(&asked));
        if let Some(main) = self.main {
            pass.run(main);
        }
        let (options, errors) = (pass.options, pass.errors);
        let mut effective = self.merge(&options);
        // A line that stops the start is told as such.
        let new = |error: &ConfigError| !self.errors.iter().any(|known| known.at == error.at);
        effective.fatal = errors.into_iter().find(new).or(effective.fatal).or_else(|| self.crash(&options));
        (effective, asked.hanging.into_inner())
    }

    /// 9.5 to 10.0 die where a matching block brings a Subsystem and there is none at the global level: the number of
    /// entries is copied before the entries themselves.
    fn crash(&self, block: &Options) -> Option<ConfigError> {
        let build = &self.build;
        let (_, at) = block.subsystems.iter().next()?;
        if !self.global.subsystems.is_empty() || !build.at_least(9, 5) || build.at_least(10, 1) {
            return None;
        }
        let at = self.place(*at)?;
        let text = BString::from(self.text_at(&at).unwrap_or_default());
        let says = "session process for connection killed by signal 11".to_owned();
        Some(ConfigError { at, text, says, stops_start: false, kind: ErrorKind::Syntax })
    }

    fn use_dns(&self) -> bool {
        self.global.numbers.get(&Op::UseDns).map_or(self.build.default_use_dns(), |(value, _)| *value != 0)
    }

    fn ports(&self) -> Vec<u16> {
        if self.global.ports.is_empty() { vec![22] } else { self.global.ports.clone() }
    }

    fn place(&self, at: At) -> Option<Location> {
        let (file, line) = at;
        let file = match usize::try_from(file).ok()?.checked_sub(1) {
            None => PathBuf::from("command-line"),
            Some(index) => self.sources.files.get(index)?.path.clone(),
        };
        Some(Location { file, line })
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

#[cfg(test)]
mod tests;
