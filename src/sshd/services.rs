//! Ports by their names: services(5), as misc.c `a2port` asks for them.

use crate::view::{TEXT_LIMIT, View, read_following};
use bstr::ByteSlice;
use std::path::Path;

/// The volume's /etc/services; empty where it can't be read.
pub(crate) fn read(view: &dyn View) -> Vec<u8> {
    read_following(view, Path::new("/etc/services"), TEXT_LIMIT).unwrap_or_default()
}

/// The TCP port of a service, by its name or an alias.
pub(crate) fn port(services: &[u8], name: &[u8]) -> Option<u16> {
    services.lines().find_map(|line| {
        let line = &line[..line.find_byte(b'#').unwrap_or(line.len())];
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let service = words.next()?;
        let port = words.next()?.strip_suffix(b"/tcp")?.to_str().ok()?.parse().ok()?;
        (service == name || words.any(|alias| alias == name)).then_some(port)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_found_by_name_and_alias() {
        let text = b"# x\nssh\t\t22/tcp\nhttp 80/tcp www # W\nssh 23/udp\n";
        assert_eq!(port(text, b"ssh"), Some(22));
        assert_eq!(port(text, b"www"), Some(80));
        assert_eq!(port(text, b"W"), None);
    }
}
