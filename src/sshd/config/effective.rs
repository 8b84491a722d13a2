//! From what was set to what is in force: defaults, `none`, lists of algorithms, and the checks of the whole.
//!
//! Sources: openssh-portable `servconf.c` (`fill_default_server_options`, `copy_set_server_options`), `sshd.c` (main).

use super::algorithms::{Kind, assemble, default};
use super::keyword::Op;
use super::lex::vis;
use super::pass::{At, Options};
use super::{Config, ConfigError, Effective, ErrorKind, MAIN_FILE, PermitRootLogin, Setting};
use crate::finding::Location;
use crate::sshd::pattern::parse_address;
use crate::view::{TEXT_LIMIT, View, read_following};
use bstr::{BString, ByteSlice};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

impl Config {
    /// What is in force where `block` was set by matching blocks.
    pub(super) fn merge(&self, block: &Options) -> Effective {
        let merged = Merged { config: self, block };
        let mut fatal = None;
        let mut algorithms = |op: Op, kind: Kind| match merged.algorithms(op, kind) {
            Ok(setting) => setting,
            Err(error) => {
                fatal.get_or_insert(error);
                Setting::default()
            }
        };
        let pubkey_accepted_algorithms = algorithms(Op::PubkeyAcceptedAlgorithms, Kind::Key);
        let ca_signature_algorithms = algorithms(Op::CaSignatureAlgorithms, Kind::CaSignature);
        let host_key_algorithms = algorithms(Op::HostKeyAlgorithms, Kind::Key);
        let kex_algorithms = algorithms(Op::KexAlgorithms, Kind::Kex);
        let ciphers = algorithms(Op::Ciphers, Kind::Cipher);
        let macs = algorithms(Op::Macs, Kind::Mac);
        algorithms(Op::HostbasedAlgorithms, Kind::Key);
        let permit_root_login = merged.number(Op::PermitRootLogin).map_or_else(
            || Setting { value: self.build.default_permit_root_login(), at: None },
            |(value, at)| Setting { value: permit_root_login(value), at },
        );
        Effective {
            use_pam: merged.flag(Op::UsePam, false),
            pam_service_name: merged.text_or(Op::PamServiceName, "sshd"),
            strict_modes: merged.flag(Op::StrictModes, true),
            pubkey_authentication: merged.flag(Op::PubkeyAuthentication, true),
            password_authentication: merged.flag(Op::PasswordAuthentication, true),
            kbd_interactive_authentication: merged.kbd_interactive(),
            gssapi_authentication: merged.flag(Op::GssapiAuthentication, false),
            gssapi_key_exchange: merged.flag(Op::GssapiKeyExchange, false),
            hostbased_authentication: merged.flag(Op::HostbasedAuthentication, false),
            permit_root_login,
            authorized_keys_file: merged.authorized_keys_file(),
            authorized_keys_command: none_is_none(merged.text(Op::AuthorizedKeysCommand)),
            authorized_keys_command_user: merged.text(Op::AuthorizedKeysCommandUser),
            authorized_principals_file: merged.file(Op::AuthorizedPrincipalsFile),
            authorized_principals_command: none_is_none(merged.text(Op::AuthorizedPrincipalsCommand)),
            authorized_principals_command_user: merged.text(Op::AuthorizedPrincipalsCommandUser),
            trusted_user_ca_keys: merged.file(Op::TrustedUserCaKeys),
            revoked_keys: merged.file(Op::RevokedKeys),
            allow_users: merged.list(Op::AllowUsers),
            deny_users: merged.list(Op::DenyUsers),
            allow_groups: merged.list(Op::AllowGroups),
            deny_groups: merged.list(Op::DenyGroups),
            authentication_methods: merged.authentication_methods(),
            pubkey_accepted_algorithms,
            ca_signature_algorithms,
            host_key_algorithms,
            kex_algorithms,
            ciphers,
            macs,
            required_rsa_size: merged.count(Op::RequiredRsaSize, self.build.least_rsa_bits()),
            force_command: none_is_none(merged.text(Op::ForceCommand)),
            chroot_directory: none_is_none(merged.text(Op::ChrootDirectory)),
            max_auth_tries: merged.count(Op::MaxAuthTries, 6),
            max_sessions: merged.count(Op::MaxSessions, 10),
            use_dns: merged.flag(Op::UseDns, self.build.default_use_dns()),
            refuse_connection: merged.flag(Op::RefuseConnection, false),
            permit_user_environment: merged.flag(Op::PermitUserEnvironment, false),
            use_privilege_separation: merged.flag(Op::UsePrivilegeSeparation, true),
            host_keys: merged.host_keys(),
            host_key_agent: none_is_none(merged.text(Op::HostKeyAgent)),
            sshd_session_path: merged.helper(Op::SshdSessionPath, (9, 8), "sshd-session"),
            sshd_auth_path: merged.helper(Op::SshdAuthPath, (10, 0), "sshd-auth"),
            listen_addresses: merged.listen_addresses(),
            address_family: merged
                .number(Op::AddressFamily)
                .map_or_else(Setting::default, |(value, at)| Setting { value, at }),
            max_startups: merged.count(Op::MaxStartups, 0),
            per_source_max_startups: merged.count(Op::PerSourceMaxStartups, 0),
            ports: self.ports(),
            fatal,
        }
    }

    /// What the main function of sshd checks once all is read: lists of algorithms that come to nothing, addresses
    /// that cannot be listened on, commands without a user, methods that cannot be had.
    pub(super) fn check_whole(&mut self, view: &dyn View) {
        let global = self.merge(&Options::default());
        let mut errors = Vec::new();
        if let Some(error) = &global.fatal {
            errors.push(ConfigError { stops_start: true, ..error.clone() });
        }
        let mut fault = |at: Option<Location>, says: String, kind: ErrorKind| {
            let at = at.unwrap_or(Location { file: PathBuf::from(MAIN_FILE), line: 0 });
            let text = BString::from(self.text_at(&at).unwrap_or_default());
            errors.push(ConfigError { at, text, says, stops_start: kind == ErrorKind::Syntax, kind });
        };
        let family = self.global.numbers.get(&Op::AddressFamily).map_or(0, |(value, _)| *value);
        for (host, at) in &self.global.listen {
            if let Some((kind, says)) = listen_fault(view, host, family) {
                fault(self.place(*at), says, kind);
            }
        }
        for (command, user, name) in [
            (&global.authorized_keys_command, &global.authorized_keys_command_user, "AuthorizedKeysCommand"),
            (
                &global.authorized_principals_command,
                &global.authorized_principals_command_user,
                "AuthorizedPrincipalsCommand",
            ),
        ] {
            if command.value.is_some() && user.value.is_none() {
                fault(command.at.clone(), format!("{name} set without {name}User"), ErrorKind::Syntax);
            }
        }
        if !global.methods_can_be_had() {
            let says = "AuthenticationMethods cannot be satisfied by enabled authentication methods";
            fault(global.authentication_methods.at.clone(), says.to_owned(), ErrorKind::Syntax);
        }
        self.errors.extend(errors);
    }
}

impl Effective {
    /// Is there a list of AuthenticationMethods all of whose methods are switched on? Without any list, yes.
    #[must_use]
    pub fn methods_can_be_had(&self) -> bool {
        let lists = &self.authentication_methods.value;
        lists.is_empty() || lists.iter().any(|list| self.list_can_be_had(list))
    }

    /// Are all methods of this comma-separated list switched on? (sshd passes over a list where one is not.)
    #[must_use]
    pub fn list_can_be_had(&self, list: &[u8]) -> bool {
        list.split_str(",").all(|method| match method.split_str(":").next().unwrap_or_default() {
            b"none" => true,
            b"publickey" => self.pubkey_authentication.value,
            b"password" => self.password_authentication.value,
            b"keyboard-interactive" => self.kbd_interactive_authentication.value,
            b"hostbased" => self.hostbased_authentication.value,
            b"gssapi-with-mic" => self.gssapi_authentication.value,
            b"gssapi-keyex" => self.gssapi_key_exchange.value,
            _ => false,
        })
    }

    /// The same without where anything was set: two that are equal so have the same effect.
    pub(super) fn without_places(&self) -> Self {
        fn plain<T: Clone>(setting: &Setting<T>) -> Setting<T> {
            Setting { value: setting.value.clone(), at: None }
        }
        fn all<T: Clone>(settings: &[Setting<T>]) -> Vec<Setting<T>> {
            settings.iter().map(plain).collect()
        }
        macro_rules! plain {
            ($($field:ident)*; lists $($list:ident)*; $($same:ident)*) => {
                Self {
                    $($field: plain(&self.$field),)*
                    $($list: all(&self.$list),)*
                    $($same: self.$same.clone(),)*
                }
            };
        }
        plain!(
            use_pam pam_service_name strict_modes pubkey_authentication password_authentication
            kbd_interactive_authentication gssapi_authentication gssapi_key_exchange hostbased_authentication
            permit_root_login authorized_keys_file authorized_keys_command authorized_keys_command_user
            authorized_principals_file authorized_principals_command authorized_principals_command_user
            trusted_user_ca_keys revoked_keys authentication_methods pubkey_accepted_algorithms
            ca_signature_algorithms host_key_algorithms kex_algorithms ciphers macs required_rsa_size force_command
            chroot_directory max_auth_tries max_sessions use_dns refuse_connection permit_user_environment
            use_privilege_separation host_key_agent sshd_session_path sshd_auth_path address_family
            max_startups per_source_max_startups;
            lists allow_users deny_users allow_groups deny_groups host_keys listen_addresses;
            ports fatal
        )
    }
}

/// Global values under those of the matching blocks.
struct Merged<'a> {
    config: &'a Config,
    block: &'a Options,
}

impl Merged<'_> {
    fn at(&self, at: At) -> Option<Location> {
        self.config.place(at)
    }

    fn number(&self, op: Op) -> Option<(i64, Option<Location>)> {
        let global = &self.config.global;
        let (value, at) = self.block.numbers.get(&op).or_else(|| global.numbers.get(&op))?;
        Some((*value, self.at(*at)))
    }

    fn flag(&self, op: Op, default: bool) -> Setting<bool> {
        self.number(op)
            .map_or(Setting { value: default, at: None }, |(value, at)| Setting { value: value != 0, at })
    }

    fn count(&self, op: Op, default: u32) -> Setting<u32> {
        self.number(op).map_or(Setting { value: default, at: None }, |(value, at)| Setting {
            value: u32::try_from(value).unwrap_or(0),
            at,
        })
    }

    /// Two keywords up to 8.6: ChallengeResponseAuthentication, on by default, switches it on for all.
    fn kbd_interactive(&self) -> Setting<bool> {
        if self.config.build.at_least(8, 7) || self.block.numbers.contains_key(&Op::KbdInteractive) {
            return self.flag(Op::KbdInteractive, true);
        }
        let challenge = self.flag(Op::ChallengeResponse, true);
        if challenge.value { challenge } else { self.flag(Op::KbdInteractive, false) }
    }

    fn text(&self, op: Op) -> Setting<Option<BString>> {
        let global = &self.config.global;
        match self.block.texts.get(&op).or_else(|| global.texts.get(&op)) {
            Some((text, at)) => Setting { value: Some(text.clone()), at: self.at(*at) },
            None => Setting::default(),
        }
    }

    fn text_or(&self, op: Op, default: &str) -> Setting<BString> {
        let Setting { value, at } = self.text(op);
        Setting { value: value.unwrap_or_else(|| BString::from(default)), at }
    }

    /// A file that `none` clears at the global level only.
    fn file(&self, op: Op) -> Setting<Option<BString>> {
        let text = self.text(op);
        if self.block.texts.contains_key(&op) { text } else { none_is_none(text) }
    }

    fn list(&self, op: Op) -> Vec<Setting<BString>> {
        let global = &self.config.global;
        let list = self.block.lists.get(&op).or_else(|| global.lists.get(&op));
        let words = list.into_iter().flatten();
        words.map(|(word, at)| Setting { value: word.clone(), at: self.at(*at) }).collect()
    }

    fn listen_addresses(&self) -> Vec<Setting<BString>> {
        let listen = self.config.global.listen.iter();
        listen.map(|(host, at)| Setting { value: BString::from(host.as_slice()), at: self.at(*at) }).collect()
    }

    fn authorized_keys_file(&self) -> Setting<Vec<BString>> {
        let words = self.list(Op::AuthorizedKeysFile);
        let at = words.first().and_then(|word| word.at.clone());
        if words.is_empty() {
            let default = self.config.build.default_authorized_keys_file();
            return Setting { value: default.iter().copied().map(BString::from).collect(), at };
        }
        let files = words.into_iter().map(|word| word.value);
        Setting { value: files.filter(|file| !file.eq_ignore_ascii_case(b"none")).collect(), at }
    }

    fn authentication_methods(&self) -> Setting<Vec<BString>> {
        let words = self.list(Op::AuthenticationMethods);
        let at = words.first().and_then(|word| word.at.clone());
        let lists = words.into_iter().map(|word| word.value);
        Setting { value: lists.filter(|list| *list != "any").collect(), at }
    }

    fn host_keys(&self) -> Vec<Setting<BString>> {
        let files = self.list(Op::HostKey);
        if files.is_empty() {
            let default = self.config.build.default_host_keys().iter();
            return default.map(|file| Setting { value: BString::from(*file), at: None }).collect();
        }
        files.into_iter().filter(|file| file.value != "none").collect()
    }

    fn helper(&self, op: Op, since: (u32, u32), name: &str) -> Setting<Option<BString>> {
        let build = &self.config.build;
        if !build.at_least(since.0, since.1) {
            return Setting::default();
        }
        let set = self.text(op);
        match (&set.value, build.helper_directory()) {
            (None, Some(directory)) => {
                Setting { value: Some(BString::from(format!("{directory}/{name}"))), at: None }
            }
            _ => set,
        }
    }

    /// The error says what sshd says when nothing is left of a list.
    fn algorithms(&self, op: Op, kind: Kind) -> Result<Setting<Vec<String>>, ConfigError> {
        let build = &self.config.build;
        let per_connection = matches!(op, Op::PubkeyAcceptedAlgorithms | Op::CaSignatureAlgorithms);
        let Setting { value, at } = self.text(op);
        let Some(value) = value else {
            return Ok(Setting { value: default(build, kind), at: None });
        };
        match assemble(build, kind, &value) {
            // The lists are gone through once more for every connection, and an empty one is then taken for none.
            Some(value) if value.is_empty() && per_connection && !self.block.texts.contains_key(&op) => {
                Ok(Setting { value: default(build, kind), at })
            }
            Some(value) => Ok(Setting { value, at }),
            None => {
                let at = at.unwrap_or(Location { file: PathBuf::from(MAIN_FILE), line: 0 });
                Err(ConfigError {
                    text: BString::from(self.config.text_at(&at).unwrap_or_default()),
                    at,
                    says: format!("{}: invalid argument", assembled_name(op)),
                    stops_start: false,
                    kind: ErrorKind::Syntax,
                })
            }
        }
    }
}

/// As sshd calls the list in its message.
fn assembled_name(op: Op) -> &'static str {
    match op {
        Op::Ciphers => "assemble_algorithms: ciphers",
        Op::Macs => "assemble_algorithms: macs",
        Op::KexAlgorithms => "assemble_algorithms: kex_algorithms",
        Op::HostKeyAlgorithms => "assemble_algorithms: hostkeyalgorithms",
        Op::HostbasedAlgorithms => "assemble_algorithms: hostbased_accepted_algos",
        Op::CaSignatureAlgorithms => "assemble_algorithms: ca_sign_algorithms",
        _ => "assemble_algorithms: pubkey_accepted_algos",
    }
}

fn none_is_none(setting: Setting<Option<BString>>) -> Setting<Option<BString>> {
    let Setting { value, at } = setting;
    Setting { value: value.filter(|text| !text.eq_ignore_ascii_case(b"none")), at }
}

fn permit_root_login(value: i64) -> PermitRootLogin {
    match value {
        0 => PermitRootLogin::No,
        1 => PermitRootLogin::ProhibitPassword,
        2 => PermitRootLogin::ForcedCommandsOnly,
        _ => PermitRootLogin::Yes,
    }
}

/// Why the host of a ListenAddress cannot be listened on, as far as the disk tells.
fn listen_fault(view: &dyn View, host: &[u8], family: i64) -> Option<(ErrorKind, String)> {
    let name = vis(host);
    match (parse_address(host), family) {
        (Some(IpAddr::V4(_)), 6) | (Some(IpAddr::V6(_)), 4) => {
            let says = format!("bad addr or host: {name} (Address family for hostname not supported)");
            return Some((ErrorKind::Syntax, says));
        }
        (Some(_), _) => return None,
        (None, _) => {}
    }
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._%:".contains(byte);
    // glibc takes this for every address.
    if host == b"*" {
        return None;
    }
    if host.is_empty() || !host.iter().all(is_name) {
        let says = format!("bad addr or host: {name} (Name or service not known)");
        return Some((ErrorKind::Syntax, says));
    }
    let hosts = read_following(view, Path::new("/etc/hosts"), TEXT_LIMIT).unwrap_or_default();
    let known = hosts.lines().any(|line| {
        let line = &line[..line.find_byte(b'#').unwrap_or(line.len())];
        line.split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty())
            .skip(1)
            .any(|word| word.eq_ignore_ascii_case(host))
    });
    (!known).then(|| (ErrorKind::Unknown, format!("whether ListenAddress {name} resolves when sshd starts")))
}
