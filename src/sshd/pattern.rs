//! Patterns of sshd_config and authorized_keys: wildcards, lists with negation, addresses and networks.
//!
//! Source of the rules: openssh-portable `match.c`, `addr.c` and `addrmatch.c`.

use super::build::Build;
use bstr::ByteSlice;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest pattern inside a list; a longer one makes the whole list fail.
const MAX_SUBPATTERN: usize = 1023;
/// The longest text that is taken for an address with a mask.
const MAX_CIDR: usize = 63;

/// What a comma-separated list with negations says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListMatch {
    /// A `!` entry matches, so the list does not, whatever else matches.
    Negated,
    /// No entry matches.
    No,
    /// An entry matches and no `!` entry does.
    Yes,
}

/// What a list of addresses, networks and wildcards says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressMatch {
    /// An entry is empty or a network has bits set outside its mask.
    Invalid,
    /// A `!` entry matches.
    Negated,
    /// No entry matches.
    No,
    /// An entry matches.
    Yes,
}

/// Does the whole text match the pattern of `*`, `?` and literal bytes?
#[must_use]
pub fn match_pattern(text: &[u8], pattern: &[u8]) -> bool {
    let (mut at, mut next) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while at < text.len() {
        match pattern.get(next) {
            Some(b'*') => {
                next += 1;
                star = Some((at, next));
            }
            Some(&byte) if byte == b'?' || byte == text[at] => {
                at += 1;
                next += 1;
            }
            _ => {
                let Some((from, after)) = star else { return false };
                at = from + 1;
                next = after;
                star = Some((at, after));
            }
        }
    }
    pattern[next..].iter().all(|&byte| byte == b'*')
}

/// Does the text match the comma-separated list? `lowercase` folds the patterns (not the text).
#[must_use]
pub fn match_pattern_list(text: &[u8], list: &[u8], lowercase: bool) -> ListMatch {
    let mut found = ListMatch::No;
    let mut rest = list;
    while let Some(&first) = rest.first() {
        let negated = first == b'!';
        if negated {
            rest = &rest[1..];
        }
        let end = rest.find_byte(b',').unwrap_or(rest.len());
        if end >= MAX_SUBPATTERN {
            return ListMatch::No;
        }
        let matched = if lowercase {
            match_pattern(text, &rest[..end].to_ascii_lowercase())
        } else {
            match_pattern(text, &rest[..end])
        };
        match (matched, negated) {
            (true, true) => return ListMatch::Negated,
            (true, false) => found = ListMatch::Yes,
            (false, _) => {}
        }
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    found
}

/// Does the host name match the list, without regard to case?
#[must_use]
pub fn match_hostname(host: &[u8], list: &[u8]) -> ListMatch {
    match_pattern_list(&host.to_ascii_lowercase(), list, true)
}

/// Does the address match the list of networks and wildcards? Without an address, only its form is checked.
#[must_use]
pub fn address_match_list(address: Option<IpAddr>, list: &[u8]) -> AddressMatch {
    let address = address.map(|address| (address.to_canonical(), address.to_canonical().to_string()));
    let mut found = AddressMatch::No;
    for entry in list.split_str(",") {
        let (negated, entry) = match entry.strip_prefix(b"!") {
            Some(rest) => (true, rest),
            None => (false, entry),
        };
        if entry.is_empty() {
            return AddressMatch::Invalid;
        }
        let matched = match (Network::parse(entry), &address) {
            (Err(NetworkError::Inconsistent), _) => return AddressMatch::Invalid,
            (_, None) => false,
            (Ok(network), Some((address, _))) => network.contains(*address),
            (Err(NetworkError::NotANetwork), Some((_, text))) => match_pattern(text.as_bytes(), entry),
        };
        match (matched, negated) {
            (true, true) => return AddressMatch::Negated,
            (true, false) => found = AddressMatch::Yes,
            (false, _) => {}
        }
    }
    found
}

/// Does the address lie in one of the networks (no wildcards, no negation; `source-address` of a certificate)?
/// `None` if the list is malformed.
#[must_use]
pub fn match_cidr(address: IpAddr, list: &[u8]) -> Option<bool> {
    let address = address.to_canonical();
    let mut found = false;
    for entry in list.split_str(",") {
        let plain = entry.iter().all(|byte| byte.is_ascii_hexdigit() || b".:/".contains(byte));
        if entry.is_empty() || !plain {
            return None;
        }
        found |= Network::parse(entry).ok()?.contains(address);
    }
    Some(found)
}

/// Does the client match the list of host names and addresses (`from=`, the part after `@` of AllowUsers)?
/// `None` if an address in the list is malformed.
#[must_use]
pub fn match_host_and_ip(host: &[u8], address: IpAddr, list: &[u8]) -> Option<bool> {
    let by_address = match address_match_list(Some(address), list) {
        AddressMatch::Invalid => return None,
        AddressMatch::Negated => return Some(false),
        AddressMatch::No => false,
        AddressMatch::Yes => true,
    };
    match match_hostname(host, list) {
        ListMatch::Negated => Some(false),
        ListMatch::Yes => Some(true),
        ListMatch::No => Some(by_address),
    }
}

/// The two parts of a word of AllowUsers or DenyUsers: the user's pattern, and the list of hosts after the `@`.
#[must_use]
pub fn split_user_pattern<'a>(build: &Build, word: &'a [u8]) -> (&'a [u8], Option<&'a [u8]>) {
    // match.c 1.45 takes the last @, so that names may hold one.
    let at = if build.at_least(9, 9) { word.rfind_byte(b'@') } else { word.find_byte(b'@') };
    match at {
        Some(at) => (&word[..at], Some(&word[at + 1..])),
        None => (word, None),
    }
}

/// Does the user at that host match a word of AllowUsers or DenyUsers? `None` if the word is malformed.
#[must_use]
pub fn match_user(build: &Build, user: &[u8], host: &[u8], address: IpAddr, word: &[u8]) -> Option<bool> {
    match split_user_pattern(build, word) {
        (pattern, _) if !match_pattern(user, pattern) => Some(false),
        (_, None) => Some(true),
        (_, Some(hosts)) => match_host_and_ip(host, address, hosts),
    }
}

/// May the list match some address of a remote client, as far as the text of the list tells?
pub(super) fn list_and_unknown_address(list: &[u8], names_too: bool) -> Guess {
    let mut may = false;
    let mut sure = true;
    let mut all = false;
    for entry in list.split_str(",") {
        if let Some(entry) = entry.strip_prefix(b"!") {
            sure &= !entry_may_match(entry, names_too);
        } else {
            may |= entry_may_match(entry, names_too);
            all |= !entry.is_empty() && entry.iter().all(|&byte| byte == b'*');
        }
    }
    match (may, all && sure) {
        (_, true) => Guess::Always,
        (false, _) => Guess::Never,
        (true, false) => Guess::Depends,
    }
}

/// What is known of a criterion without the client's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guess {
    /// It matches every client.
    Always,
    /// It matches no client that comes over a network.
    Never,
    /// It hangs on the client.
    Depends,
}

fn entry_may_match(entry: &[u8], names_too: bool) -> bool {
    match Network::parse(entry) {
        // A remote client does not come from the loopback network.
        Ok(network) => !network.is_loopback(),
        Err(NetworkError::Inconsistent) => names_too,
        Err(NetworkError::NotANetwork) => {
            names_too || entry.iter().all(|byte| byte.is_ascii_hexdigit() || b".:*?%".contains(byte))
        }
    }
}

/// An address with the length of its mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    bits: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NetworkError {
    /// Not of this form: to be tried as a wildcard.
    NotANetwork,
    /// The mask does not fit the address.
    Inconsistent,
}

impl Network {
    fn parse(text: &[u8]) -> Result<Self, NetworkError> {
        let not = NetworkError::NotANetwork;
        if text.len() > MAX_CIDR {
            return Err(not);
        }
        let (address, mask) = match text.split_once_str("/") {
            Some((address, mask)) => {
                let digits = !mask.is_empty() && mask.iter().all(u8::is_ascii_digit);
                let mask = mask.to_str().ok().filter(|_| digits).and_then(|mask| mask.parse::<u32>().ok());
                (address, Some(mask.filter(|&bits| bits <= 128).ok_or(not)?))
            }
            None => (text, None),
        };
        let address = parse_address(address).ok_or(not)?;
        let (width, host) = match address {
            IpAddr::V4(address) => (32, u128::from(address.to_bits()) << 96),
            IpAddr::V6(address) => (128, address.to_bits()),
        };
        let bits = mask.unwrap_or(width);
        if bits > width || (bits < 128 && host << bits != 0) {
            return Err(NetworkError::Inconsistent);
        }
        Ok(Self { address, bits })
    }

    fn contains(self, other: IpAddr) -> bool {
        let (net, other, width) = match (self.address, other) {
            (IpAddr::V4(net), IpAddr::V4(other)) => {
                (u128::from(net.to_bits()), u128::from(other.to_bits()), 32)
            }
            (IpAddr::V6(net), IpAddr::V6(other)) => (net.to_bits(), other.to_bits(), 128),
            _ => return false,
        };
        (net ^ other).checked_shr(width - self.bits).unwrap_or(0) == 0
    }

    fn is_loopback(self) -> bool {
        match self.address {
            IpAddr::V4(address) => self.bits >= 8 && address.octets()[0] == 127,
            IpAddr::V6(address) => self.bits == 128 && address == Ipv6Addr::LOCALHOST,
        }
    }
}

/// A numeric address as getaddrinfo(3) with `AI_NUMERICHOST` takes it: also `127.1` and `0x7f000001`.
#[must_use]
pub fn parse_address(text: &[u8]) -> Option<IpAddr> {
    if let Some(address) = inet_aton(text) {
        return Some(IpAddr::V4(address));
    }
    let (address, scope) = match text.split_once_str("%") {
        Some((address, scope)) => (address, Some(scope)),
        None => (text, None),
    };
    // The name of an interface is not on the disk; its number is accepted as it stands.
    if scope.is_some_and(|scope| scope.is_empty() || !scope.iter().all(u8::is_ascii_digit)) {
        return None;
    }
    address.to_str().ok()?.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

fn inet_aton(text: &[u8]) -> Option<Ipv4Addr> {
    let parts: Vec<&[u8]> = text.splitn_str(5, ".").collect();
    let (last, first) = parts.split_last()?;
    if first.len() > 3 {
        return None;
    }
    let mut value: u64 = 0;
    for part in first {
        value = value << 8 | number(part).filter(|&part| part <= 255)?;
    }
    let room = 32 - 8 * u32::try_from(first.len()).ok()?;
    let last = number(last).filter(|&last| last < 1 << room)?;
    u32::try_from(value << room | last).ok().map(Ipv4Addr::from_bits)
}

/// A number in C's notation: decimal, `0` octal or `0x` hexadecimal.
fn number(text: &[u8]) -> Option<u64> {
    let (digits, radix) = match text {
        [b'0', b'x' | b'X', rest @ ..] => (rest, 16),
        [b'0', rest @ ..] if !rest.is_empty() => (rest, 8),
        _ => (text, 10),
    };
    if digits.is_empty() || digits.len() > 20 || !digits.iter().all(u8::is_ascii_alphanumeric) {
        return None;
    }
    u64::from_str_radix(digits.to_str().ok()?, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sshd::build::Family;
    use proptest::prelude::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn stars_and_question_marks_match_as_in_openssh() {
        for (text, pattern, expected) in [
            ("admin", "admin", true),
            ("admin", "ad*", true),
            ("admin", "*m?n", true),
            ("admin", "a?min*", true),
            ("admin", "?", false),
            ("", "*", true),
            ("", "", true),
            ("admin", "Admin", false),
            ("aXbXc", "a*X*c", true),
            ("admin,root", "admin", false),
        ] {
            assert_eq!(match_pattern(text.as_bytes(), pattern.as_bytes()), expected, "{text} {pattern}");
        }
    }

    #[test]
    fn a_negation_beats_every_other_entry() {
        let list = |text: &str, list: &str| match_pattern_list(text.as_bytes(), list.as_bytes(), false);
        assert_eq!(list("bob", "!bob,*"), ListMatch::Negated);
        assert_eq!(list("bob", "*,!bob"), ListMatch::Negated);
        assert_eq!(list("eve", "!bob"), ListMatch::No);
        assert_eq!(list("eve", "!bob,*"), ListMatch::Yes);
        assert_eq!(match_hostname(b"A.Example.COM", b"*.example.com"), ListMatch::Yes);
        let long = format!("eve,{}", "x".repeat(1023));
        assert_eq!(list("eve", &long), ListMatch::No, "a pattern that is too long fails the list");
    }

    #[test]
    fn networks_match_and_host_bits_are_an_error() {
        let list = |address: &str, list: &str| address_match_list(Some(ip(address)), list.as_bytes());
        assert_eq!(list("10.1.2.3", "10.0.0.0/8"), AddressMatch::Yes);
        assert_eq!(list("10.1.2.3", "!10.1.0.0/16,10.0.0.0/8"), AddressMatch::Negated);
        assert_eq!(list("10.1.2.3", "192.168.*"), AddressMatch::No);
        assert_eq!(list("10.1.2.3", "10.1.*"), AddressMatch::Yes);
        assert_eq!(list("10.1.2.3", "10.0.0.5/8"), AddressMatch::Invalid);
        assert_eq!(list("10.1.2.3", "10.0.0.0/8,"), AddressMatch::Invalid);
        assert_eq!(list("10.1.2.3", "0.0.0.0/0"), AddressMatch::Yes);
        assert_eq!(list("2001:db8::1", "2001:db8::/32"), AddressMatch::Yes);
        assert_eq!(list("2001:db8::1", "::/0"), AddressMatch::Yes);
        assert_eq!(list("127.0.0.1", "127.1"), AddressMatch::Yes);
        assert_eq!(list("::ffff:10.1.2.3", "10.0.0.0/8"), AddressMatch::Yes);
        assert_eq!(list("10.1.2.3", "10/8"), AddressMatch::Invalid, "10 is 0.0.0.10");
        assert_eq!(match_cidr(ip("10.1.2.3"), b"10.0.0.0/8"), Some(true));
        assert_eq!(match_cidr(ip("10.1.2.3"), b"10.*"), None);
    }

    #[test]
    fn users_match_with_their_hosts() {
        let build = Build::of(Family::Debian, (9, 2));
        let user = |word: &str| match_user(&build, b"eve", b"10.1.2.3", ip("10.1.2.3"), word.as_bytes());
        assert_eq!(user("eve"), Some(true));
        assert_eq!(user("eve@10.0.0.0/8"), Some(true));
        assert_eq!(user("e*@!10.0.0.0/8,*"), Some(false));
        assert_eq!(user("eve@10.0.0.5/8"), None);
        assert_eq!(user("bob@10.0.0.5/8"), Some(false));
        assert_eq!(user("!bob"), Some(false), "no negation of the user");
    }

    #[test]
    fn an_unknown_client_is_remote() {
        let guess = |list: &str| list_and_unknown_address(list.as_bytes(), false);
        assert_eq!(guess("*"), Guess::Always);
        assert_eq!(guess("10.0.0.0/8"), Guess::Depends);
        assert_eq!(guess("127.0.0.1,::1"), Guess::Never);
        assert_eq!(guess("*,!10.0.0.0/8"), Guess::Depends);
        assert_eq!(guess("*.example.com"), Guess::Never);
        assert_eq!(list_and_unknown_address(b"*.example.com", true), Guess::Depends);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(text: Vec<u8>, list: Vec<u8>) {
            let build = Build::of(Family::Upstream, (10, 0));
            let _ = match_pattern(&text, &list);
            let _ = match_pattern_list(&text, &list, true);
            let _ = address_match_list(None, &list);
            let _ = address_match_list(Some(ip("10.0.0.1")), &list);
            let _ = match_cidr(ip("::1"), &list);
            let _ = match_user(&build, &text, &text, ip("::1"), &list);
            let _ = list_and_unknown_address(&list, true);
        }

        #[test]
        fn addresses_are_read_as_the_standard_library_writes_them(bits: u128, four: u32) {
            let (six, four) = (Ipv6Addr::from_bits(bits), Ipv4Addr::from_bits(four));
            prop_assert_eq!(parse_address(six.to_string().as_bytes()), Some(IpAddr::V6(six)));
            prop_assert_eq!(parse_address(four.to_string().as_bytes()), Some(IpAddr::V4(four)));
        }
    }
}
