//! Lists of hosts and addresses where the client may be unknown (match.c `match_host_and_ip`, addrmatch.c): yes, no,
//! or not to be said from the disk.

use bstr::ByteSlice;
use std::net::IpAddr;

/// An answer that may need what the disk does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tri {
    Yes,
    No,
    Maybe,
}

impl From<bool> for Tri {
    fn from(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }
}

/// match.c, `match_pattern`: `*` and `?`. In time proportional to the product of both lengths, whatever the pattern.
pub(super) fn match_pattern(text: &[u8], pattern: &[u8]) -> bool {
    let (mut at, mut with) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while at < text.len() {
        match pattern.get(with) {
            Some(b'*') => {
                with += 1;
                retry = Some((at, with));
            }
            Some(byte) if *byte == b'?' || *byte == text[at] => {
                at += 1;
                with += 1;
            }
            _ => match retry {
                Some((from, star)) => {
                    at = from + 1;
                    with = star;
                    retry = Some((at, star));
                }
                None => return false,
            },
        }
    }
    pattern[with..].iter().all(|byte| *byte == b'*')
}

/// One word of a list: `!`, then a network, a wildcard for the address, or one for the name.
struct Item<'a> {
    negated: bool,
    text: &'a [u8],
    network: Network,
}

enum Network {
    /// Address and prefix length.
    Cidr(IpAddr, u8),
    /// Not of this form: a wildcard.
    Other,
    /// Host bits set, or a length out of range: sshd takes the whole list for broken.
    Inconsistent,
}

fn network(text: &[u8]) -> Network {
    let Ok(text) = text.to_str() else { return Network::Other };
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let Ok(address) = address.parse::<IpAddr>() else { return Network::Other };
    let bits: u8 = if address.is_ipv4() { 32 } else { 128 };
    let length = match length {
        None => bits,
        Some(length) => match length.parse::<u8>() {
            Ok(length) if length <= bits => length,
            _ => return Network::Inconsistent,
        },
    };
    if masked(address, length) != number(address) {
        return Network::Inconsistent;
    }
    Network::Cidr(address, length)
}

/// The address as a number, left-aligned in 128 bits.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(four) => u128::from(u32::from(four)) << 96,
        IpAddr::V6(six) => u128::from(six),
    }
}

fn masked(address: IpAddr, length: u8) -> u128 {
    let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
    number(address) & mask
}

fn within(address: IpAddr, network: IpAddr, length: u8) -> bool {
    address.is_ipv4() == network.is_ipv4() && masked(address, length) == masked(network, length)
}

/// Could this wildcard be the text of any address?
fn could_be_address(pattern: &[u8]) -> bool {
    pattern.iter().all(|byte| byte.is_ascii_hexdigit() || b".:%*?".contains(byte))
}

/// `from=`, and the host part of AllowUsers and DenyUsers. `host` is the client's name where the question has one;
/// without UseDNS the name is the text of the address.
pub(super) fn host_list(list: &[u8], address: Option<IpAddr>, host: Option<&[u8]>, use_dns: bool) -> Tri {
    let mut items = Vec::new();
    for word in list.split(|byte| *byte == b',') {
        let (negated, text) = match word.strip_prefix(b"!") {
            Some(rest) => (true, rest),
            None => (false, word),
        };
        let network = if text.is_empty() { Network::Inconsistent } else { network(text) };
        if matches!(network, Network::Inconsistent) {
            return Tri::No;
        }
        items.push(Item { negated, text, network });
    }
    let answer = |item: &Item<'_>| item_matches(item, address, host, use_dns);
    let answers: Vec<(bool, Tri)> = items.iter().map(|item| (item.negated, answer(item))).collect();
    if answers.iter().any(|(negated, answer)| *negated && *answer == Tri::Yes) {
        return Tri::No;
    }
    let positive = |wanted: Tri| answers.iter().any(|(negated, answer)| !negated && *answer == wanted);
    if !positive(Tri::Yes) && !positive(Tri::Maybe) {
        return Tri::No;
    }
    let in_doubt = answers.iter().any(|(negated, answer)| *negated && *answer == Tri::Maybe);
    if positive(Tri::Yes) && !in_doubt { Tri::Yes } else { Tri::Maybe }
}

fn item_matches(item: &Item<'_>, address: Option<IpAddr>, host: Option<&[u8]>, use_dns: bool) -> Tri {
    let text = item.text.to_ascii_lowercase();
    if text.iter().all(|byte| *byte == b'*') {
        return Tri::Yes;
    }
    let by_address = match (&item.network, address) {
        (Network::Cidr(network, length), Some(address)) => Tri::from(within(address, *network, *length)),
        (_, Some(address)) => Tri::from(match_pattern(address.to_string().as_bytes(), item.text)),
        (Network::Cidr(..), None) => Tri::Maybe,
        (_, None) => {
            if could_be_address(&text) {
                Tri::Maybe
            } else {
                Tri::No
            }
        }
    };
    if by_address == Tri::Yes {
        return Tri::Yes;
    }
    let by_name = match host {
        _ if !use_dns => Tri::No,
        Some(host) => Tri::from(match_pattern(&host.to_ascii_lowercase(), &text)),
        None if matches!(item.network, Network::Cidr(..)) => Tri::No,
        None => Tri::Maybe,
    };
    match (by_address, by_name) {
        (Tri::No, Tri::No) => Tri::No,
        (_, Tri::Yes) => Tri::Yes,
        _ => Tri::Maybe,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(list: &str, address: &str) -> Tri {
        host_list(list.as_bytes(), address.parse().ok(), None, false)
    }

    #[test]
    fn wildcards_are_those_of_sshd() {
        assert!(match_pattern(b"admin", b"ad*n"));
        assert!(match_pattern(b"admin", b"?dmin*"));
        assert!(!match_pattern(b"admin", b"Admin"));
        assert!(!match_pattern(b"admin", b"!other"));
        let hostile = [b"*a".repeat(5000), b"b".to_vec()].concat();
        assert!(!match_pattern(&b"a".repeat(5000), &hostile));
    }

    #[test]
    fn a_known_address_is_decided() {
        assert_eq!(from("10.0.0.0/8", "10.1.2.3"), Tri::Yes);
        assert_eq!(from("10.0.0.0/8", "127.0.0.1"), Tri::No);
        assert_eq!(from("!10.1.2.3,10.0.0.0/8", "10.1.2.3"), Tri::No);
        assert_eq!(from("!10.1.2.3,10.0.0.0/8", "10.1.2.4"), Tri::Yes);
        assert_eq!(from("!10.1.2.3", "10.9.9.9"), Tri::No, "only negated items never match");
        assert_eq!(from("127.0.0.1/8", "127.0.0.1"), Tri::No, "host bits spoil the list");
        assert_eq!(from("10.*,192.168.?.1", "192.168.7.1"), Tri::Yes);
        assert_eq!(from("fe80::/10", "fe80::1"), Tri::Yes);
        assert_eq!(from("", "127.0.0.1"), Tri::No);
        assert_eq!(from("10.0.0.0/8, 127.0.0.1", "127.0.0.1"), Tri::No, "a blank spoils the item");
    }

    #[test]
    fn an_unknown_address_leaves_open_only_what_hangs_on_it() {
        assert_eq!(from("*", ""), Tri::Yes);
        assert_eq!(from("10.0.0.0/8", ""), Tri::Maybe);
        assert_eq!(from("*,!10.0.0.1", ""), Tri::Maybe);
        assert_eq!(from("bastion.example.com", ""), Tri::No, "without UseDNS a name never matches");
        assert_eq!(from("10.0.0.5/8,*", ""), Tri::No);
        assert_eq!(host_list(b"bastion.example.com", None, None, true), Tri::Maybe);
        assert_eq!(host_list(b"bastion.*", None, Some(b"Bastion.example.com"), true), Tri::Yes);
    }
}
