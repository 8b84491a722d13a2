//! TCP wrappers (hosts_access(5)), which Debian's and EL7's sshd ask before they greet the client.

use super::Case;
use crate::finding::{CheckId, Finding, Location};
use crate::sshd::pattern::match_pattern;
use crate::view::{TEXT_LIMIT, read_following};
use bstr::ByteSlice;
use std::net::IpAddr;
use std::path::Path;

/// Does a rule apply: yes, no, or not without the client's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Match {
    Yes,
    No,
    Maybe,
}

pub(super) fn check(case: &mut Case<'_>) {
    if !case.build().tcp_wrappers() {
        return;
    }
    let mut doubtful: Option<Location> = None;
    let peer = Peer { address: case.question.address, name: name_of(case) };
    for (file, allows) in [("/etc/hosts.allow", true), ("/etc/hosts.deny", false)] {
        let Ok(text) = read_following(case.view, Path::new(file), TEXT_LIMIT) else { continue };
        for (line, rule) in rules(&text) {
            let (applies, option) = applies(&rule, &peer);
            let lets_in = match option {
                Some(Verb::Allow) => true,
                Some(Verb::Deny) => false,
                None => allows,
            };
            match applies {
                Match::No => {}
                Match::Maybe => {
                    // Two doubtful rules that say the same leave the rest to the next; any doubt is kept.
                    doubtful.get_or_insert(Location { file: file.into(), line });
                }
                Match::Yes if lets_in => {
                    if let (Some(at), false) = (doubtful, allows) {
                        doubt(case, &at);
                    }
                    let at = Location { file: file.into(), line };
                    case.traced_at("TCP wrappers", Some(&at), "", "a rule lets the client in", true);
                    return;
                }
                Match::Yes => {
                    if let Some(at) = doubtful {
                        doubt(case, &at);
                        return;
                    }
                    let at = Location { file: file.into(), line };
                    case.traced_at("TCP wrappers", Some(&at), "", "a rule refuses the client", false);
                    let finding = Finding::blocks(CheckId::HostsDeny)
                        .at(file)
                        .on_line(line)
                        .is(rule.trim().to_string())
                        .wants("no rule that applies to sshd, or one in /etc/hosts.allow")
                        .says("refused connect");
                    case.refuse(finding);
                    return;
                }
            }
        }
    }
    if let Some(at) = doubtful.filter(|at| at.file == Path::new("/etc/hosts.deny")) {
        doubt(case, &at);
    } else {
        case.traced("TCP wrappers", "no rule applies", true);
    }
}

fn doubt(case: &mut Case<'_>, at: &Location) {
    let finding = Finding::advises(CheckId::HostsDeny)
        .at(&at.file)
        .on_line(at.line)
        .is("hangs on the client's address")
        .wants("an address to judge by");
    case.doubt(finding, format!("the client's address ({at})"));
}

/// The rules with their line numbers, continued lines joined.
fn rules(text: &[u8]) -> Vec<(u32, String)> {
    let mut rules = Vec::new();
    let mut open: Option<(u32, String)> = None;
    for (line, number) in text.lines().zip(1..) {
        let line = line.to_str_lossy();
        let (start, mut whole) = open.take().unwrap_or((number, String::new()));
        if let Some(continued) = line.strip_suffix('\\') {
            whole.push_str(continued);
            open = Some((start, whole));
            continue;
        }
        whole.push_str(&line);
        if !whole.trim().is_empty() && !whole.starts_with('#') {
            rules.push((start, whole));
        }
    }
    rules
}

/// What an option of hosts_options(5) makes of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Allow,
    Deny,
}

/// The name that a lookup of the client's address gives.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    Known(String),
    /// There is none.
    Unknown,
    /// The DNS would have to be asked.
    Open,
}

/// Who connects.
struct Peer {
    address: Option<IpAddr>,
    name: Name,
}

/// The volume's own /etc/hosts comes first; a loopback address is in no DNS.
fn name_of(case: &Case<'_>) -> Name {
    let Some(address) = case.question.address else { return Name::Open };
    let hosts = read_following(case.view, Path::new("/etc/hosts"), TEXT_LIMIT).unwrap_or_default();
    let listed = hosts.lines().find_map(|line| {
        let line = line.to_str_lossy();
        let mut words = line.split('#').next()?.split_whitespace();
        let is_it = words.next()?.parse::<IpAddr>().is_ok_and(|listed| listed == address);
        if is_it { words.next().map(ToOwned::to_owned) } else { None }
    });
    if let Some(name) = listed {
        return Name::Known(name);
    }
    if address.is_loopback() {
        let local = case.system.names.knows_localhost();
        return if local { Name::Known("localhost".to_owned()) } else { Name::Unknown };
    }
    case.question.host.as_ref().map_or(Name::Open, |host| Name::Known(host.to_string()))
}

fn applies(rule: &str, peer: &Peer) -> (Match, Option<Verb>) {
    let mut fields = split_fields(rule).into_iter();
    let daemons = fields.next().unwrap_or_default();
    let Some(clients) = fields.next() else { return (Match::No, None) };
    let verb = fields.find_map(|option| match option.trim().to_ascii_lowercase().as_str() {
        "allow" => Some(Verb::Allow),
        "deny" => Some(Verb::Deny),
        option if option.starts_with("twist") => Some(Verb::Deny),
        _ => None,
    });
    let daemon = list(&daemons, |name| {
        let name = name.split('@').next().unwrap_or_default();
        if name == "ALL" || name.eq_ignore_ascii_case("sshd") { Match::Yes } else { Match::No }
    });
    if daemon == Match::No {
        return (Match::No, verb);
    }
    let client = list(&clients, |name| client(name, peer));
    let both = if daemon == Match::Maybe && client == Match::Yes { Match::Maybe } else { client };
    (both, verb)
}

/// Fields stand between colons; those inside brackets (IPv6) and after a backslash do not count.
fn split_fields(rule: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut inside = false;
    let mut escaped = false;
    for letter in rule.chars() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '[' => inside = true,
            ']' => inside = false,
            ':' if !inside => {
                fields.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(field) = fields.last_mut() {
            field.push(letter);
        }
    }
    fields
}

/// `a, b EXCEPT c`: a list matches if an item does and none of the exceptions.
fn list(text: &str, judge: impl Fn(&str) -> Match + Copy) -> Match {
    let words: Vec<&str> = text.split([' ', '\t', ',']).filter(|word| !word.is_empty()).collect();
    items(&words, judge)
}

fn items(words: &[&str], judge: impl Fn(&str) -> Match + Copy) -> Match {
    let (positive, exceptions) = match words.iter().position(|word| word.eq_ignore_ascii_case("EXCEPT")) {
        Some(at) => (&words[..at], &words[at + 1..]),
        None => (words, &[][..]),
    };
    let any = positive.iter().map(|word| judge(word)).fold(Match::No, |sum, one| match (sum, one) {
        (Match::Yes, _) | (_, Match::Yes) => Match::Yes,
        (Match::Maybe, _) | (_, Match::Maybe) => Match::Maybe,
        (Match::No, Match::No) => Match::No,
    });
    if any == Match::No || exceptions.is_empty() {
        return any;
    }
    match items(exceptions, judge) {
        Match::Yes => Match::No,
        Match::No => any,
        Match::Maybe => Match::Maybe,
    }
}

fn client(name: &str, peer: &Peer) -> Match {
    if name == "ALL" {
        return Match::Yes;
    }
    let Some(address) = peer.address else { return Match::Maybe };
    let text = address.to_string();
    let yes = |yes: bool| if yes { Match::Yes } else { Match::No };
    let bare = name.trim_start_matches('[').split(']').next().unwrap_or_default();
    match (name.split_once('/'), address) {
        _ if bare.parse::<IpAddr>().is_ok_and(|one| one == address) => Match::Yes,
        // "10.1." covers all that begins so.
        _ if name.ends_with('.') && name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') => {
            yes(text.starts_with(name))
        }
        (Some((net, mask)), IpAddr::V4(four)) => {
            let mask = match (mask.parse::<std::net::Ipv4Addr>(), mask.parse::<u32>()) {
                (Ok(mask), _) => Some(u32::from(mask)),
                (_, Ok(bits @ 0..=32)) => Some(u32::MAX.checked_shl(32 - bits).unwrap_or(0)),
                _ => None,
            };
            match (net.parse::<std::net::Ipv4Addr>(), mask) {
                (Ok(net), Some(mask)) => yes(u32::from(four) & mask == u32::from(net)),
                _ => Match::Maybe,
            }
        }
        _ if name.parse::<IpAddr>().is_ok() => Match::No,
        // A netgroup, or a file with more patterns.
        _ if name.starts_with(['@', '/']) => Match::Maybe,
        _ => by_name(name, &peer.name),
    }
}

/// hosts_access.c, `host_match` and `string_match`, where the client's name decides.
fn by_name(pattern: &str, name: &Name) -> Match {
    let yes = |yes: bool| if yes { Match::Yes } else { Match::No };
    match (pattern, name) {
        (_, Name::Open) => Match::Maybe,
        ("LOCAL", Name::Known(name)) => yes(!name.contains('.')),
        ("KNOWN", Name::Known(_)) | ("UNKNOWN", Name::Unknown) => Match::Yes,
        (_, Name::Unknown) | ("UNKNOWN" | "PARANOID", _) => Match::No,
        (pattern, Name::Known(name)) => {
            let (pattern, name) = (pattern.to_ascii_lowercase(), name.to_ascii_lowercase());
            if pattern.starts_with('.') {
                yes(name.ends_with(&pattern))
            } else {
                yes(match_pattern(name.as_bytes(), pattern.as_bytes()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(rule: &str, address: &str) -> Match {
        applies(rule, &Peer { address: address.parse().ok(), name: Name::Open }).0
    }

    #[test]
    fn names_are_matched_where_the_client_has_one() {
        let of = |rule: &str, name: Name| applies(rule, &Peer { address: "10.0.0.1".parse().ok(), name }).0;
        let named = |name: &str| Name::Known(name.to_owned());
        assert_eq!(of("sshd: LOCAL", named("box")), Match::Yes);
        assert_eq!(of("sshd: LOCAL", named("box.example.com")), Match::No);
        assert_eq!(of("sshd: LOCAL", Name::Unknown), Match::No);
        assert_eq!(of("sshd: LOCAL", Name::Open), Match::Maybe);
        assert_eq!(of("sshd: .Example.com", named("box.example.com")), Match::Yes);
        assert_eq!(of("sshd: box.*", named("box.example.com")), Match::Yes);
        assert_eq!(
            (of("ALL: UNKNOWN", Name::Unknown), of("ALL: KNOWN", Name::Unknown)),
            (Match::Yes, Match::No)
        );
        assert_eq!(of("sshd: @admins", named("box")), Match::Maybe);
    }

    #[test]
    fn rules_are_matched_as_hosts_access_says() {
        assert_eq!(on("ALL: ALL", ""), Match::Yes);
        assert_eq!(on("sshd : ALL", ""), Match::Yes);
        assert_eq!(on("in.telnetd: ALL", ""), Match::No);
        assert_eq!(on("ALL EXCEPT sshd: ALL", ""), Match::No);
        assert_eq!(on("sshd: 10.0.0.0/255.0.0.0", "10.2.3.4"), Match::Yes);
        assert_eq!(on("sshd: 10.0.0.0/8", "11.2.3.4"), Match::No);
        assert_eq!(on("sshd: 192.168.", "192.168.7.7"), Match::Yes);
        assert_eq!(on("sshd: [::1]", "::1"), Match::Yes);
        assert_eq!(on("sshd: .example.com", "10.0.0.1"), Match::Maybe);
        assert_eq!(on("sshd: 10.0.0.1", ""), Match::Maybe);
    }

    #[test]
    fn an_option_turns_a_rule_round() {
        let peer = Peer { address: None, name: Name::Open };
        assert_eq!(applies("sshd: ALL: deny", &peer), (Match::Yes, Some(Verb::Deny)));
        assert_eq!(applies("sshd: ALL: ALLOW", &peer), (Match::Yes, Some(Verb::Allow)));
    }

    #[test]
    fn continued_lines_are_one_rule() {
        assert_eq!(
            rules(b"# x\nsshd: \\\n ALL\n\nALL: ALL\n"),
            [(2, "sshd:  ALL".into()), (5, "ALL: ALL".into())]
        );
    }
}
