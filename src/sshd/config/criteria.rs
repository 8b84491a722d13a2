//! The criteria of a Match line against a connection, of which not everything may be known.

use super::Connection;
use crate::sshd::build::Build;
use crate::sshd::pattern::{
    AddressMatch, Guess, ListMatch, address_match_list, list_and_unknown_address, match_hostname,
    match_pattern_list,
};
use std::cell::RefCell;

/// Which of the undecidable criteria are taken as matching.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Assume {
    /// None: the answer for an unspecified client.
    Nothing,
    /// The one of this number.
    One(usize),
    /// All.
    Everything,
}

/// A criterion that cannot be decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hanging {
    /// "address 10.0.0.0/8".
    pub(super) criterion: Vec<u8>,
    /// The file and line where it is first asked.
    pub(super) at: (u32, u32),
    pub(super) missing: &'static str,
}

/// A connection as the second pass asks for it.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) connection: &'a Connection,
    pub(super) use_dns: bool,
    pub(super) ports: Vec<u16>,
    pub(super) assume: Assume,
    pub(super) hanging: RefCell<Vec<Hanging>>,
}

/// A value of a list, or an address in it that is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Yes,
    No,
    Malformed,
}

impl Answer {
    fn from_bool(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }
}

impl Asked<'_> {
    pub(super) fn user(&self, list: &[u8]) -> bool {
        match_pattern_list(&self.connection.user, list, false) == ListMatch::Yes
    }

    /// The groups' names in turn; a negation that matches one of them is final.
    pub(super) fn group(&self, list: &[u8]) -> bool {
        let mut found = false;
        for group in self.connection.groups.iter().flatten() {
            match match_pattern_list(group, list, false) {
                ListMatch::Negated => return false,
                ListMatch::Yes => found = true,
                ListMatch::No => {}
            }
        }
        found
    }

    pub(super) fn invalid_user(&self) -> bool {
        self.connection.groups.is_none()
    }

    pub(super) fn host(&self, list: &[u8], at: (u32, u32)) -> bool {
        let connection = self.connection;
        let known = match (self.use_dns, &connection.host, connection.address) {
            (true, Some(host), _) => Some(host.to_vec()),
            (false, _, Some(address)) => Some(address.to_canonical().to_string().into_bytes()),
            _ => None,
        };
        match known {
            Some(host) => match_hostname(&host, list) == ListMatch::Yes,
            None => match list_and_unknown_address(list, self.use_dns) {
                Guess::Always => true,
                Guess::Never => false,
                Guess::Depends => {
                    let missing =
                        if self.use_dns { "the client's host name" } else { "the client's address" };
                    self.depends("host", list, at, missing)
                }
            },
        }
    }

    pub(super) fn address(&self, list: &[u8], at: (u32, u32)) -> Answer {
        self.some_address(self.connection.address, "address", list, at, "the client's address")
    }

    pub(super) fn local_address(&self, list: &[u8], at: (u32, u32)) -> Answer {
        let missing = "the instance's own address";
        self.some_address(self.connection.local_address, "localaddress", list, at, missing)
    }

    fn some_address(
        &self,
        address: Option<std::net::IpAddr>,
        criterion: &str,
        list: &[u8],
        at: (u32, u32),
        missing: &'static str,
    ) -> Answer {
        match address_match_list(address, list) {
            AddressMatch::Invalid => Answer::Malformed,
            found if address.is_some() => Answer::from_bool(found == AddressMatch::Yes),
            _ => Answer::from_bool(match list_and_unknown_address(list, false) {
                Guess::Always => true,
                Guess::Never => false,
                Guess::Depends => self.depends(criterion, list, at, missing),
            }),
        }
    }

    pub(super) fn local_port(&self, port: u16, text: &[u8], at: (u32, u32)) -> bool {
        match self.connection.local_port {
            Some(own) => own == port,
            None if !self.ports.contains(&port) => false,
            None if self.ports.len() == 1 => true,
            None => self.depends("localport", text, at, "the port that the client connects to"),
        }
    }

    pub(super) fn routing_domain(&self, list: &[u8], at: (u32, u32)) -> bool {
        self.depends("rdomain", list, at, "the routing domain of the connection")
    }

    fn depends(&self, criterion: &str, list: &[u8], at: (u32, u32), missing: &'static str) -> bool {
        let criterion = [criterion.as_bytes(), b" ", list].concat();
        let mut hanging = self.hanging.borrow_mut();
        let number = hanging.iter().position(|known| known.criterion == criterion).unwrap_or_else(|| {
            hanging.push(Hanging { criterion, at, missing });
            hanging.len() - 1
        });
        match self.assume {
            Assume::Nothing => false,
            Assume::One(chosen) => chosen == number,
            Assume::Everything => true,
        }
    }
}

/// `Match Version`.
pub(super) fn version(build: &Build, list: &[u8]) -> bool {
    match_pattern_list(build.release_text().as_bytes(), list, false) == ListMatch::Yes
}
