//! What each keyword does with its words: checks them, and keeps what a decision needs.
//!
//! Source: the cases of `process_server_config_line_depth` in openssh-portable `servconf.c`.

use super::algorithms::{Kind, is_valid, is_valid_gssapi};
use super::keyword::Op;
use super::lex::{Words, vis};
use super::pass::{Here, MAX_NAMES, Pass, Trouble};
use super::value;
use crate::sshd::pattern::{AddressMatch, address_match_list, split_user_pattern};
use bstr::{BString, ByteSlice};

type Outcome<T = ()> = Result<T, Trouble>;

/// The most ports.
const MAX_PORTS: usize = 256;
/// The most subsystems before 9.5.
const MAX_SUBSYSTEMS: usize = 256;

impl Pass<'_> {
    pub(super) fn set(&mut self, op: Op, here: &Here, words: &mut Words) -> Outcome {
        match op {
            Op::UsePam
            | Op::StrictModes
            | Op::PubkeyAuthentication
            | Op::PasswordAuthentication
            | Op::KbdInteractive
            | Op::ChallengeResponse
            | Op::GssapiAuthentication
            | Op::GssapiKeyExchange
            | Op::HostbasedAuthentication
            | Op::UseDns
            | Op::RefuseConnection
            | Op::Flag => self.word(op, here, words, value::FLAG),
            Op::PermitRootLogin => self.word(op, here, words, value::PERMIT_ROOT_LOGIN),
            Op::AddressFamily => self.word(op, here, words, value::ADDRESS_FAMILY),
            Op::UsePrivilegeSeparation => self.word(op, here, words, value::PRIVSEP),
            Op::IgnoreRhosts if !self.build.at_least(8, 2) => self.word(op, here, words, value::FLAG),
            Op::IgnoreRhosts => self.word(op, here, words, value::IGNORE_RHOSTS),
            Op::Compression => self.word(op, here, words, value::COMPRESSION),
            Op::GatewayPorts => self.word(op, here, words, value::GATEWAY_PORTS),
            Op::TcpForwarding => self.word(op, here, words, value::TCP_FORWARDING),
            Op::ExposeAuthenticationMethods => self.word(op, here, words, value::EXPOSE_METHODS),
            Op::MaxAuthTries | Op::MaxSessions | Op::RequiredRsaSize | Op::Int => {
                self.integer(op, here, words)
            }
            Op::Time => time(here, words),
            Op::UnusedConnectionTimeout => {
                if words.peek().is_some_and(|word| word.eq_ignore_ascii_case(b"none")) {
                    words.next();
                    return Ok(());
                }
                time(here, words)
            }
            Op::HostKey => {
                let name = argument(words).ok_or_else(|| here.line("missing file name."))?;
                if here.active {
                    let name = self.file_name(&name)?;
                    self.append(op, here, name);
                }
                Ok(())
            }
            Op::HostKeyAgent => {
                let name = argument(words).ok_or_else(|| here.line("missing socket name."))?;
                if here.active && !self.options.texts.contains_key(&op) {
                    let name = if name == b"SSH_AUTH_SOCK" { name } else { self.file_name(&name)? };
                    self.keep_text(op, here, name);
                }
                Ok(())
            }
            Op::SecurityKeyProvider
            | Op::HostCertificate
            | Op::FileName
            | Op::TrustedUserCaKeys
            | Op::RevokedKeys
            | Op::SshdSessionPath
            | Op::SshdAuthPath => {
                let name = argument(words).ok_or_else(|| here.line("missing file name."))?;
                let shared = matches!(op, Op::FileName | Op::HostCertificate | Op::SecurityKeyProvider);
                if here.active && (shared || !self.options.texts.contains_key(&op)) {
                    let name = self.file_name(&name)?;
                    if !shared {
                        self.keep_text(op, here, name);
                    }
                }
                Ok(())
            }
            Op::PamServiceName | Op::ChrootDirectory => {
                let word = argument(words).ok_or_else(|| here.missing())?;
                self.keep_text(op, here, word);
                Ok(())
            }
            Op::AuthorizedKeysCommandUser | Op::AuthorizedPrincipalsCommandUser => {
                let missing = || here.line(format!("missing {} argument.", here.keyword));
                let word = argument(words).ok_or_else(missing)?;
                self.keep_text(op, here, word);
                Ok(())
            }
            Op::AuthorizedPrincipalsFile => {
                let word = argument(words).ok_or_else(|| here.missing())?;
                if here.active && !self.options.texts.contains_key(&op) {
                    let word = self.expand_tilde(&word)?;
                    self.keep_text(op, here, word);
                }
                Ok(())
            }
            Op::AuthorizedKeysCommand | Op::AuthorizedPrincipalsCommand => self.command(op, here, words),
            Op::ForceCommand => {
                let rest = words.rest().to_vec();
                if rest.is_empty() {
                    return Err(here.missing());
                }
                self.keep_text(op, here, trim_blanks(&rest).to_vec());
                words.consume();
                Ok(())
            }
            Op::VersionAddendum => self.version_addendum(here, words),
            Op::PubkeyAcceptedAlgorithms | Op::HostKeyAlgorithms | Op::HostbasedAlgorithms => {
                self.algorithms(op, Kind::Key, "key types", here, words)
            }
            Op::CaSignatureAlgorithms => self.algorithms(op, Kind::CaSignature, "key types", here, words),
            Op::Ciphers => self.algorithms(op, Kind::Cipher, "SSH2 cipher spec", here, words),
            Op::Macs => self.algorithms(op, Kind::Mac, "SSH2 mac spec", here, words),
            Op::KexAlgorithms => self.algorithms(op, Kind::Kex, "SSH2 KexAlgorithms", here, words),
            Op::GssapiKexAlgorithms => {
                let word = argument(words).ok_or_else(|| here.line("Missing argument."))?;
                if is_valid_gssapi(self.build, &word) {
                    return Ok(());
                }
                Err(here.line(format!("Bad GSSAPI KexAlgorithms '{}'.", vis(&word))))
            }
            Op::AllowUsers | Op::DenyUsers | Op::AllowGroups | Op::DenyGroups => self.who(op, here, words),
            Op::AuthorizedKeysFile => self.authorized_keys_file(here, words),
            Op::AuthenticationMethods => self.authentication_methods(here, words),
            Op::PermitUserEnvironment => {
                let word = argument(words).ok_or_else(|| here.missing())?;
                let value = match word.as_slice() {
                    b"yes" => 1,
                    b"no" => 0,
                    _ if !self.build.at_least(7, 8) => {
                        return self.word_is(op, here, &word, value::FLAG);
                    }
                    _ => 1,
                };
                self.keep_number(op, here, value);
                Ok(())
            }
            Op::Port => {
                if self.options.ports.len() >= MAX_PORTS {
                    return Err(here.line("too many ports."));
                }
                let word = argument(words).ok_or_else(|| here.line("missing port number."))?;
                match self.port(&word) {
                    Some(port) if port > 0 => self.options.ports.push(port),
                    _ => return Err(here.line("Badly formatted port number.")),
                }
                Ok(())
            }
            Op::ListenAddress => self.listen_address(here, words),
            Op::Subsystem => self.subsystem(here, words),
            Op::Ignored => {
                words.consume();
                Ok(())
            }
            op => self.check(op, here, words),
        }
    }

    // --- keeping -----------------------------------------------------------------------------------------------

    pub(super) fn keep_number(&mut self, op: Op, here: &Here, value: i64) {
        if here.active && !matches!(op, Op::Flag | Op::Int) {
            self.options.numbers.entry(op).or_insert((value, here.at));
        }
    }

    /// Of the few keywords of which the last line counts.
    pub(super) fn keep_last_number(&mut self, op: Op, here: &Here, value: i64) {
        if here.active {
            self.options.numbers.insert(op, (value, here.at));
        }
    }

    fn keep_text(&mut self, op: Op, here: &Here, text: Vec<u8>) {
        if here.active {
            self.options.texts.entry(op).or_insert((BString::from(text), here.at));
        }
    }

    fn append(&mut self, op: Op, here: &Here, word: Vec<u8>) {
        let list = self.options.lists.entry(op).or_default();
        // One more than is taken tells that there are too many.
        if list.len() <= MAX_NAMES {
            list.push((BString::from(word), here.at));
        }
    }

    fn listed(&self, op: Op) -> usize {
        self.options.lists.get(&op).map_or(0, Vec::len)
    }

    /// An unknown user in `~user` ends sshd.
    fn expand_tilde(&self, path: &[u8]) -> Outcome<Vec<u8>> {
        self.sources().expand_tilde(path).map_err(Trouble::Line)
    }

    fn file_name(&self, path: &[u8]) -> Outcome<Vec<u8>> {
        self.sources().file_name(path).map_err(Trouble::Line)
    }

    // --- forms that several keywords share ---------------------------------------------------------------------

    fn word(&mut self, op: Op, here: &Here, words: &mut Words, known: &[(&str, i64)]) -> Outcome {
        let word = argument(words).ok_or_else(|| here.line("missing argument."))?;
        self.word_is(op, here, &word, known)
    }

    fn word_is(&mut self, op: Op, here: &Here, word: &[u8], known: &[(&str, i64)]) -> Outcome {
        let Some(value) = value::word_of(known, word) else {
            return Err(here.line(format!("unsupported option \"{}\".", vis(word))));
        };
        self.keep_number(op, here, value);
        Ok(())
    }

    fn integer(&mut self, op: Op, here: &Here, words: &mut Words) -> Outcome {
        let word = argument(words);
        let strict = self.build.at_least(7, 7);
        let found = match &word {
            None => Err("missing"),
            Some(word) if strict => value::number(word, 0, value::INT_MAX),
            Some(word) => Ok(value::lenient_integer(word)),
        };
        let value = found.map_err(|wrong| here.line(format!("{} integer value {wrong}.", here.keyword)))?;
        self.keep_number(op, here, value);
        Ok(())
    }

    fn algorithms(&mut self, op: Op, kind: Kind, what: &str, here: &Here, words: &mut Words) -> Outcome {
        let word = argument(words).ok_or_else(|| here.missing())?;
        if !is_valid(self.build, kind, &word) {
            return Err(here.line(format!("Bad {what} '{}'.", vis(&word))));
        }
        self.keep_text(op, here, word);
        Ok(())
    }

    // --- keywords of their own ---------------------------------------------------------------------------------

    fn command(&mut self, op: Op, here: &Here, words: &mut Words) -> Outcome {
        let strict = self.build.at_least(8, 7);
        let rest = words.rest().to_vec();
        let command = trim_blanks(&rest);
        words.consume();
        // Up to 9.3 the principals' command was kept only while there was no command for keys.
        let shared = strict && !self.build.at_least(9, 4);
        let guard = if shared { Op::AuthorizedKeysCommand } else { op };
        let free = here.active && !self.options.texts.contains_key(&guard);
        let sound = command.starts_with(b"/") || command.eq_ignore_ascii_case(b"none");
        if !sound && (strict || free) {
            return Err(here.line(format!("{} must be an absolute path", here.keyword)));
        }
        if free {
            self.options.texts.insert(op, (BString::from(command), here.at));
        }
        Ok(())
    }

    fn version_addendum(&mut self, here: &Here, words: &mut Words) -> Outcome {
        let rest = words.rest().to_vec();
        words.consume();
        if rest.is_empty() {
            return Err(here.missing());
        }
        let text = trim_blanks(&rest);
        let checked = self.build.at_least(8, 7) || (here.active && !text.eq_ignore_ascii_case(b"none"));
        if checked && text.contains(&b'\r') {
            return Err(here.line(format!("Invalid {} argument", here.keyword)));
        }
        Ok(())
    }

    fn who(&mut self, op: Op, here: &Here, words: &mut Words) -> Outcome {
        let users = matches!(op, Op::AllowUsers | Op::DenyUsers);
        let mut any = false;
        while let Some(word) = words.next_listed() {
            if users {
                let hosts = split_user_pattern(self.build, &word).1;
                let malformed =
                    hosts.is_some_and(|hosts| address_match_list(None, hosts) == AddressMatch::Invalid);
                if word.is_empty() || malformed {
                    let says = format!("invalid {} pattern: \"{}\"", here.keyword, vis(&word));
                    return Err(here.line(says));
                }
            } else if word.is_empty() {
                return Err(here.line(format!("empty {} pattern", here.keyword)));
            }
            any = true;
            if here.active {
                self.append(op, here, word);
            }
        }
        self.something(here, any)
    }

    /// From 9.7 a list must not be empty.
    fn something(&self, here: &Here, any: bool) -> Outcome {
        if any || !self.build.at_least(9, 7) {
            return Ok(());
        }
        Err(here.line(format!("no {} specified", here.keyword)))
    }

    fn authorized_keys_file(&mut self, here: &Here, words: &mut Words) -> Outcome {
        let op = Op::AuthorizedKeysFile;
        let free = here.active && self.listed(op) == 0;
        let old = matches!(words, Words::Old(_));
        let mut any = false;
        if !old || free {
            while let Some(word) = words.next_listed() {
                if word.is_empty() {
                    return Err(here.line(format!("keyword {} empty argument", here.keyword)));
                }
                any = true;
                let word = self.expand_tilde(&word)?;
                if free {
                    self.append(op, here, word);
                }
            }
        }
        words.consume();
        self.something(here, any)
    }

    fn authentication_methods(&mut self, here: &Here, words: &mut Words) -> Outcome {
        let op = Op::AuthenticationMethods;
        let before = self.listed(op);
        let old = matches!(words, Words::Old(_));
        if old && before > 0 {
            words.consume();
            return Ok(());
        }
        let free = here.active && before == 0;
        let alone = || here.line(format!("\"any\" must appear alone in {}", here.keyword));
        let (mut seen_any, mut count) = (false, 0);
        while let Some(word) = words.next_listed() {
            if word == b"any" {
                // 8.7 to 9.6 ask whether any list is set, be it by another line.
                let others = if self.build.at_least(9, 7) { count } else { self.listed(op) };
                if others > 0 {
                    return Err(alone());
                }
                seen_any = true;
            } else if seen_any {
                return Err(alone());
            } else if !methods_known(self.build.gssapi, &word) {
                return Err(here.line(format!("invalid {} method list.", here.keyword)));
            }
            count += 1;
            if free {
                self.append(op, here, word);
            }
        }
        if count == 0 {
            return Err(here.line(format!("no {} specified", here.keyword)));
        }
        words.consume();
        Ok(())
    }

    fn listen_address(&mut self, here: &Here, words: &mut Words) -> Outcome {
        let word = argument(words).ok_or_else(|| here.line("missing address"))?;
        let colons = word.iter().filter(|&&byte| byte == b':').count();
        let host = if !word.contains(&b'[') && colons >= 2 {
            word.clone()
        } else {
            let usage = || here.line("bad address:port usage");
            let (host, port) = value::host_and_port(&word).ok_or_else(usage)?;
            if let Some(port) = port
                && self.port(port).is_none_or(|port| port == 0)
            {
                return Err(here.line("bad port number"));
            }
            host.to_vec()
        };
        // Whether the interface of a routing domain exists is not on the disk.
        if self.build.at_least(7, 7)
            && let Some(word) = words.next()
            && (word != b"rdomain" || words.next().is_none())
        {
            return Err(here.line("bad ListenAddress syntax"));
        }
        self.options.listen.push((host, here.at));
        Ok(())
    }

    fn subsystem(&mut self, here: &Here, words: &mut Words) -> Outcome {
        let several = self.build.at_least(9, 5);
        if !several && self.options.subsystems.len() >= MAX_SUBSYSTEMS {
            return Err(here.line("too many subsystems defined."));
        }
        let name = argument(words).ok_or_else(|| here.missing())?;
        if !here.active {
            words.next();
            if several {
                words.consume();
            }
            return Ok(());
        }
        if self.options.subsystems.contains_key(&name) {
            words.consume();
            if several {
                return Ok(());
            }
            return Err(here.line(format!("Subsystem '{}' already defined.", vis(&name))));
        }
        argument(words).ok_or_else(|| here.line("Missing subsystem command."))?;
        self.options.subsystems.insert(name, here.at);
        words.consume();
        Ok(())
    }
}

/// The next word, unless it is missing or empty.
pub(super) fn argument(words: &mut Words) -> Option<Vec<u8>> {
    words.next().filter(|word| !word.is_empty())
}

pub(super) fn time(here: &Here, words: &mut Words) -> Outcome {
    let word = argument(words).ok_or_else(|| here.line("missing time value."))?;
    value::time(&word).map(|_| ()).ok_or_else(|| here.line("invalid time value."))
}

fn trim_blanks(text: &[u8]) -> &[u8] {
    text.trim_start_with(|c| matches!(c, ' ' | '\t' | '\r' | '\n'))
}

/// Are all methods of the comma-separated list known? What follows a `:` is not looked at.
fn methods_known(gssapi: bool, list: &[u8]) -> bool {
    list.split_str(",").all(|method| {
        let name = method.split_str(":").next().unwrap_or_default();
        match name {
            b"none" | b"publickey" | b"password" | b"keyboard-interactive" | b"hostbased" => true,
            b"gssapi-with-mic" | b"gssapi-keyex" => gssapi,
            _ => false,
        }
    })
}
