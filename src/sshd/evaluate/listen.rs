//! Whether a client gets through to sshd: the addresses that it listens on (servconf.c, `fill_default_server_options`;
//! sshd.c, `server_listen`), and how many connections it takes. Who does not is not refused by a key, but never gets to
//! show one.

use super::Case;
use super::account::at_setting;
use crate::finding::{CheckId, Finding};
use crate::sshd::pattern::parse_address;
use std::net::IpAddr;

/// What one address lets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listens {
    /// On every interface, for clients of its family.
    Everywhere(Family),
    /// On the loopback interface, for programs of the same machine.
    Loopback(Family),
    /// On an interface that has this address, if there is one.
    At(IpAddr),
    /// A name, or whatever else the disk does not tell.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Inet,
    Inet6,
}

impl Family {
    /// sshd's sockets for IPv6 never serve IPv4 (`IPV6_V6ONLY`).
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(_) => Self::Inet,
            IpAddr::V6(_) => Self::Inet6,
        }
    }
}

pub(super) fn check(case: &mut Case<'_>) {
    let effective = case.effective;
    let lines = &effective.listen_addresses;
    let listens: Vec<Listens> = if lines.is_empty() {
        match effective.address_family.value {
            4 => vec![Listens::Everywhere(Family::Inet)],
            6 => vec![Listens::Everywhere(Family::Inet6)],
            _ => return,
        }
    } else {
        lines.iter().map(|line| listens_on(&line.value)).collect()
    };
    let at = lines.first().map_or(effective.address_family.at.as_ref(), |line| line.at.as_ref());
    let (is, wants) = if lines.is_empty() {
        let family = if effective.address_family.value == 4 { "inet" } else { "inet6" };
        (format!("AddressFamily {family}"), "AddressFamily any")
    } else {
        let words = lines.iter().map(|line| format!("ListenAddress {}", line.value));
        (words.collect::<Vec<_>>().join(", "), "ListenAddress 0.0.0.0 and ::, or none")
    };
    let first = |finding: Finding| match lines.first() {
        Some(line) => at_setting(finding, line),
        None => at_setting(finding, &effective.address_family),
    };
    let told = |finding: Finding| finding.is(&is).wants(wants);
    let client = case.question.address.map(|address| address.to_canonical());
    if listens.iter().any(|one| matches!(one, Listens::Unknown) || admits(*one, client)) {
        return;
    }
    // Every interface's address is the machine's own affair: after a move to another subnet it may be another.
    for (listens, line) in listens.iter().zip(lines) {
        if let Listens::At(address) = listens
            && may_admit(*listens, client)
        {
            let missing = format!("whether the machine has the address {address}, on which sshd listens");
            case.doubt(told(at_setting(Finding::advises(CheckId::ListenAddress), line)), missing);
            return;
        }
    }
    match client {
        Some(client) => {
            case.traced_at("the addresses that sshd listens on", at, "", format!("none for {client}"), false);
            case.refuse(
                told(first(Finding::blocks(CheckId::ListenAddress))).says("Connection refused (the client)"),
            );
        }
        None => case.advise(told(first(Finding::advises(CheckId::ListenAddress)))),
    }
}

/// sshd.c, `drop_connection`: before anything is said, whoever the client is.
pub(super) fn room(case: &mut Case<'_>) {
    let effective = case.effective;
    for (name, setting) in [
        ("MaxStartups", &effective.max_startups),
        ("PerSourceMaxStartups", &effective.per_source_max_startups),
    ] {
        let finding = |finding: Finding| {
            at_setting(finding, setting)
                .is(format!("{name} that drops {} of 100 connections", setting.value))
                .wants(format!("{name} that drops none as long as few are being opened"))
        };
        match setting.value {
            0 => {}
            100.. => {
                case.traced_at("room for a connection", setting.at.as_ref(), "", name, false);
                let finding = finding(Finding::blocks(CheckId::MaxSessionsZero));
                case.refuse(
                    finding.says("drop connection #0 (with the address of the client) past MaxStartups"),
                );
            }
            _ => {
                let missing = format!("whether {name} drops the connection, which it does at random");
                case.doubt(finding(Finding::advises(CheckId::MaxSessionsZero)), missing);
            }
        }
    }
}

fn listens_on(host: &[u8]) -> Listens {
    match parse_address(host) {
        Some(address) if address.is_unspecified() => Listens::Everywhere(Family::of(address)),
        Some(address) if address.to_canonical().is_loopback() => Listens::Loopback(Family::of(address)),
        Some(address) => Listens::At(address),
        None => Listens::Unknown,
    }
}

/// Whether this client gets through for certain; without a client, one of another machine.
fn admits(listens: Listens, client: Option<IpAddr>) -> bool {
    match (listens, client) {
        (Listens::Everywhere(_), None) => true,
        (Listens::Everywhere(family), Some(client)) => Family::of(client) == family,
        (Listens::Loopback(family), Some(client)) => client.is_loopback() && Family::of(client) == family,
        (Listens::At(address), Some(client)) => address.to_canonical() == client,
        (Listens::Loopback(_) | Listens::At(_), None) | (Listens::Unknown, _) => false,
    }
}

/// Whether it would, if the machine has this address.
fn may_admit(listens: Listens, client: Option<IpAddr>) -> bool {
    match (listens, client) {
        (Listens::At(_), None) => true,
        (Listens::At(address), Some(client)) => {
            Family::of(client) == Family::of(address) && !client.is_loopback()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn an_address_admits_clients_of_its_family_only() {
        let four = Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
        let six = Some(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)));
        let (here4, here6) = (Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), Some(IpAddr::V6(Ipv6Addr::LOCALHOST)));
        for (host, yes, no) in [
            ("0.0.0.0", vec![four, here4, None], vec![six, here6]),
            ("::", vec![six, here6, None], vec![four, here4]),
            ("127.0.0.1", vec![here4], vec![here6, four, None]),
            ("127.1", vec![here4], vec![here6, four, None]),
            ("::1", vec![here6], vec![here4, six, None]),
            ("192.0.2.1", vec![four], vec![six, here4, None]),
            ("a.name", vec![], vec![four, six, here4, here6, None]),
        ] {
            let listens = listens_on(host.as_bytes());
            assert!(yes.iter().all(|client| admits(listens, *client)), "{host}");
            assert!(!no.iter().any(|client| admits(listens, *client)), "{host}");
        }
    }
}
