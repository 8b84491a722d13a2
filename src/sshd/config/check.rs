//! Keywords whose value no decision needs: only whether sshd takes it.

use super::keyword::Op;
use super::lex::{Words, vis};
use super::pass::{Here, Pass, Trouble};
use super::set::{argument, time};
use super::value;
use crate::sshd::pattern::{AddressMatch, address_match_list};
use bstr::ByteSlice;

type Outcome<T = ()> = Result<T, Trouble>;

impl Pass<'_> {
    pub(super) fn check(&mut self, op: Op, here: &Here, words: &mut Words) -> Outcome {
        let invalid = || here.line(format!("Invalid {} spec.", here.keyword));
        match op {
            Op::PubkeyAuthOptions => {
                while let Some(word) = words.next_listed() {
                    let known = ["none", "touch-required", "verify-required"];
                    if !known.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(&word)) {
                        let says = format!("unsupported {} option {}", here.keyword, vis(&word));
                        return Err(here.line(says));
                    }
                }
                Ok(())
            }
            Op::LogFacility => {
                let word = words.next();
                if word.as_deref().is_some_and(value::is_facility) {
                    return Ok(());
                }
                Err(here.line(format!("unsupported log facility '{}'", or_none(word.as_deref()))))
            }
            Op::LogLevel => {
                let word = words.next();
                if word.as_deref().is_some_and(value::is_log_level) {
                    return Ok(());
                }
                Err(here.line(format!("unsupported log level '{}'", or_none(word.as_deref()))))
            }
            Op::LogVerbose => self.log_verbose(here, words),
            Op::RekeyLimit => {
                let word = argument(words).ok_or_else(|| here.missing())?;
                if word != b"default" {
                    match value::scaled(&word) {
                        Err(wrong) => {
                            let number = vis(&word);
                            let says = format!("Bad {} number '{number}': {wrong}", here.keyword);
                            return Err(here.line(says));
                        }
                        Ok(size) if size != 0 && size < 16 => {
                            return Err(here.line(format!("{} too small", here.keyword)));
                        }
                        Ok(_) => {}
                    }
                }
                match words.peek() {
                    Some(b"none") => {
                        words.next();
                        Ok(())
                    }
                    _ if words.has_more() => time(here, words),
                    _ => Ok(()),
                }
            }
            Op::MaxStartups => {
                let word = argument(words).ok_or_else(|| here.missing())?;
                let dropped = match value::colon_integers(&word, 3)[..] {
                    [begin, rate, most] if begin > most || !(1..=100).contains(&rate) => {
                        return Err(invalid());
                    }
                    [begin, _, most] if self.build.at_least(8, 5) && (begin <= 0 || most <= 0) => {
                        return Err(invalid());
                    }
                    [begin] if self.build.at_least(8, 5) && begin <= 0 => return Err(invalid()),
                    // -1 is as if it were not there.
                    [begin] | [begin, _, _] if begin > 0 || begin == -1 => 0,
                    [_, rate, most] if most > 0 => rate,
                    [_] | [_, _, _] => 100,
                    _ => return Err(invalid()),
                };
                self.keep_last_number(op, here, dropped);
                Ok(())
            }
            Op::PerSourceNetBlockSize => {
                let word = argument(words).ok_or_else(|| here.missing())?;
                match value::colon_integers(&word, 2)[..] {
                    [four] if (0..=32).contains(&four) => Ok(()),
                    [four, six] if (0..=32).contains(&four) && (0..=128).contains(&six) => Ok(()),
                    _ => Err(invalid()),
                }
            }
            Op::PerSourceMaxStartups => {
                let word = argument(words).ok_or_else(|| here.missing())?;
                let most = if word == b"none" {
                    value::INT_MAX
                } else {
                    value::number(&word, 0, value::INT_MAX)
                        .map_err(|wrong| here.line(format!("{} integer value {wrong}.", here.keyword)))?
                };
                let dropped = if most == 0 { 100 } else { 0 };
                // The last line in 9.2, the first one in 10.0; which version between them changed it was not seen.
                if self.build.at_least(9, 8) {
                    self.keep_number(op, here, dropped);
                } else {
                    self.keep_last_number(op, here, dropped);
                }
                Ok(())
            }
            Op::PerSourceExemptList => {
                let word = argument(words).ok_or_else(|| here.line("missing argument."))?;
                if address_match_list(None, &word) == AddressMatch::Invalid {
                    let says = format!("keyword {} invalid address argument.", here.keyword);
                    return Err(here.line(says));
                }
                Ok(())
            }
            Op::PerSourcePenalties => penalties(here, words),
            Op::AcceptEnv => {
                let mut any = false;
                while let Some(word) = words.next_listed() {
                    if word.is_empty() || word.contains(&b'=') {
                        return Err(here.line("Invalid environment name."));
                    }
                    any = true;
                }
                self.not_empty(here, any)
            }
            Op::SetEnv => {
                let mut any = false;
                while let Some(word) = words.next_assignment() {
                    if !word.contains(&b'=') {
                        return Err(here.line("Invalid environment."));
                    }
                    any = true;
                }
                self.not_empty(here, any)
            }
            Op::PermitTunnel => {
                let word = argument(words).ok_or_else(|| here.missing())?;
                if matches!(word.as_slice(), b"no" | b"point-to-point" | b"ethernet" | b"yes") {
                    return Ok(());
                }
                Err(here.line(format!("bad {} argument {}", here.keyword, vis(&word))))
            }
            Op::PermitOpen | Op::PermitListen => self.permit_open(op, here, words),
            Op::IpQos => {
                let first = argument(words).ok_or_else(|| here.missing())?;
                for word in std::iter::once(first).chain(words.next()) {
                    if !value::is_ip_qos(&word, !self.build.at_least(10, 0)) {
                        let says = format!("Bad {} value: {}", here.keyword, vis(&word));
                        return Err(here.line(says));
                    }
                }
                Ok(())
            }
            Op::StreamLocalBindMask => {
                let word = argument(words).ok_or_else(|| here.missing())?;
                value::octal_mask(&word)
                    .map(|_| ())
                    .ok_or_else(|| here.line(format!("Invalid {}.", here.keyword)))
            }
            Op::FingerprintHash => {
                let word = argument(words).ok_or_else(|| here.missing())?;
                if value::is_hash(&word) {
                    return Ok(());
                }
                Err(here.line(format!("Invalid {} algorithm \"{}\".", here.keyword, vis(&word))))
            }
            Op::RDomain => Err(here.line("setting RDomain not supported on this platform.")),
            Op::ChannelTimeout => self.channel_timeout(here, words),
            _ => Ok(()),
        }
    }

    fn not_empty(&self, here: &Here, any: bool) -> Outcome {
        if any || !self.build.at_least(9, 7) {
            return Ok(());
        }
        Err(here.line(format!("no {} specified", here.keyword)))
    }

    fn log_verbose(&mut self, here: &Here, words: &mut Words) -> Outcome {
        let mut count = 0;
        while let Some(word) = words.next_listed() {
            if word.is_empty() {
                return Err(here.line(format!("keyword {} empty argument", here.keyword)));
            }
            if word.eq_ignore_ascii_case(b"none") && (count > 0 || words.left() > 0) {
                let says = format!("keyword {} \"none\" argument must appear alone.", here.keyword);
                return Err(here.line(says));
            }
            count += 1;
        }
        self.not_empty(here, count > 0)
    }

    fn channel_timeout(&mut self, here: &Here, words: &mut Words) -> Outcome {
        let mut count = 0;
        while let Some(word) = words.next_listed() {
            if word.eq_ignore_ascii_case(b"none") {
                if count > 0 || words.left() > 0 {
                    let says = format!("keyword {} \"none\" argument must appear alone.", here.keyword);
                    return Err(here.line(says));
                }
            } else {
                let interval = word.split_once_str("=").filter(|(pattern, _)| !pattern.is_empty());
                if interval.and_then(|(_, interval)| value::time(interval)).is_none() {
                    return Err(here.line(format!("invalid channel timeout {}", vis(&word))));
                }
            }
            // 9.2 to 9.6 never counted, so "none" was refused only before other words.
            count += u32::from(self.build.at_least(9, 7));
        }
        self.not_empty(here, count > 0)
    }

    fn permit_open(&mut self, op: Op, here: &Here, words: &mut Words) -> Outcome {
        let new = self.build.at_least(9, 7);
        let mut count = 0;
        while let Some(word) = words.next() {
            if word.is_empty() && !new {
                break;
            }
            if matches!(word.as_slice(), b"any" | b"none") && (new || count == 0) {
                if count > 0 {
                    let says = format!("{} must appear alone on a {} line.", vis(&word), here.keyword);
                    return Err(here.line(says));
                }
                if !new {
                    return Ok(());
                }
                count += 1;
                continue;
            }
            let port = if op == Op::PermitListen && !word.contains(&b':') {
                Some(word.as_slice())
            } else {
                let missing = || here.line(format!("{} missing host", here.keyword));
                value::host_and_port(&word).ok_or_else(missing)?.1
            };
            let sound = port.is_some_and(|port| port == b"*" || self.port(port).is_some_and(|port| port > 0));
            if !sound {
                return Err(here.line(format!("{} bad port number", here.keyword)));
            }
            count += 1;
        }
        if count == 0 { Err(here.missing()) } else { Ok(()) }
    }
}

fn penalties(here: &Here, words: &mut Words) -> Outcome {
    const TIMES: &[&str] =
        &["crash:", "authfail:", "noauth:", "grace-exceeded:", "refuseconnection:", "max:", "min:"];
    const WORDS: &[&[u8]] =
        &[b"overflow:deny-all", b"overflow:permissive", b"overflow6:deny-all", b"overflow6:permissive"];
    let mut any = false;
    while let Some(word) = words.next() {
        any = true;
        if word.eq_ignore_ascii_case(b"no") || word.eq_ignore_ascii_case(b"yes") {
            if words.left() > 0 {
                let says = format!("keyword {} \"{}\" argument must appear alone.", here.keyword, vis(&word));
                return Err(here.line(says));
            }
        } else if let Some(time) = TIMES.iter().find_map(|name| word.strip_prefix(name.as_bytes())) {
            if value::time(time).is_none() {
                return Err(here.line(format!("invalid {} time value.", here.keyword)));
            }
        } else if let Some(number) =
            word.strip_prefix(b"max-sources4:").or_else(|| word.strip_prefix(b"max-sources6:"))
        {
            value::number(number, 0, value::INT_MAX)
                .map_err(|wrong| here.line(format!("{} value {wrong}.", here.keyword)))?;
        } else if !WORDS.contains(&word.as_slice()) {
            return Err(here.line(format!("unsupported {} keyword {}", here.keyword, vis(&word))));
        }
    }
    if any { Ok(()) } else { Err(here.line(format!("no {} specified", here.keyword))) }
}

fn or_none(word: Option<&[u8]>) -> String {
    word.map_or_else(|| "<NONE>".to_owned(), vis)
}
