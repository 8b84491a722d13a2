//! Lists of hosts and addresses where the client may be unknown: yes, no, or not to be said from the disk.

use crate::sshd::pattern::{
    AddressMatch, ListMatch, address_match_list, match_host_and_ip, match_pattern_list,
};
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

/// `from=`, and the host part of AllowUsers and DenyUsers (match.c, `match_host_and_ip`). `host` is the client's name
/// where the question has one; without UseDNS the name is the text of the address.
pub(super) fn host_list(list: &[u8], address: Option<IpAddr>, host: Option<&[u8]>, use_dns: bool) -> Tri {
    if address_match_list(None, list) == AddressMatch::Invalid {
        return Tri::No;
    }
    let name = if use_dns {
        host.map(<[u8]>::to_vec)
    } else {
        address.map(|address| address.to_string().into_bytes())
    };
    match (address, name) {
        (Some(address), Some(name)) => Tri::from(match_host_and_ip(&name, address, list).unwrap_or(false)),
        (Some(address), None) => match address_match_list(Some(address), list) {
            AddressMatch::Invalid | AddressMatch::Negated => Tri::No,
            AddressMatch::Yes | AddressMatch::No => without_client(list, |_| true, Some(address)),
        },
        (None, Some(name)) => match match_pattern_list(&name.to_ascii_lowercase(), list, true) {
            ListMatch::Negated => Tri::No,
            // Only a negated network could still speak against it.
            ListMatch::Yes if !list.split(|byte| *byte == b',').any(|entry| entry.starts_with(b"!")) => {
                Tri::Yes
            }
            ListMatch::Yes => Tri::Maybe,
            ListMatch::No => without_client(list, could_be_address, None),
        },
        (None, None) => without_client(list, |entry| use_dns || could_be_address(entry), None),
    }
}

/// What the list itself tells: `*` matches everybody, and what could match nobody matches nobody.
fn without_client(list: &[u8], may: impl Fn(&[u8]) -> bool, address: Option<IpAddr>) -> Tri {
    let (mut all, mut any, mut negated) = (false, false, false);
    for entry in list.split(|byte| *byte == b',') {
        match entry.strip_prefix(b"!") {
            Some(entry) => negated |= may(entry),
            None => {
                all |= entry.iter().all(|byte| *byte == b'*');
                all |= address.is_some() && address_match_list(address, entry) == AddressMatch::Yes;
                any |= may(entry);
            }
        }
    }
    match (all, any) {
        (true, _) if !negated => Tri::Yes,
        (false, false) => Tri::No,
        _ => Tri::Maybe,
    }
}

/// Could this word match the text of any address?
fn could_be_address(entry: &[u8]) -> bool {
    entry.iter().all(|byte| byte.is_ascii_hexdigit() || b".:%*?/".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(list: &str, address: &str) -> Tri {
        host_list(list.as_bytes(), address.parse().ok(), None, false)
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
