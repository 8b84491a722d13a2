//! The algorithm names that a build knows, its defaults, and lists with `+`, `-`, `^` and wildcards.
//!
//! Sources: openssh-portable `myproposal.h`, `kex.c` (`kex_assemble_names`), `sshkey.c` (`sshkey_names_valid2`).

use crate::sshd::build::Build;
use crate::sshd::pattern::{ListMatch, match_pattern_list};
use bstr::ByteSlice;

/// Which list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Key and signature algorithms.
    Key,
    /// Those with which a certificate may be signed.
    CaSignature,
    Cipher,
    Mac,
    Kex,
}

/// One name: since which version, until which (exclusive), and since and until which it is in the default list.
struct Name(&'static str, V, V, V, V);
type V = (u32, u32);
const OLD: V = (0, 0);
const NEVER: V = (999, 0);

const fn always(name: &'static str) -> Name {
    Name(name, OLD, NEVER, OLD, NEVER)
}
const fn since(name: &'static str, version: V) -> Name {
    Name(name, version, NEVER, version, NEVER)
}
const fn known(name: &'static str) -> Name {
    Name(name, OLD, NEVER, NEVER, NEVER)
}
const fn gone(name: &'static str, version: V) -> Name {
    Name(name, OLD, version, NEVER, NEVER)
}

const KEYS: &[Name] = &[
    always("ssh-ed25519-cert-v01@openssh.com"),
    always("ecdsa-sha2-nistp256-cert-v01@openssh.com"),
    always("ecdsa-sha2-nistp384-cert-v01@openssh.com"),
    always("ecdsa-sha2-nistp521-cert-v01@openssh.com"),
    since("sk-ssh-ed25519-cert-v01@openssh.com", (8, 2)),
    since("sk-ecdsa-sha2-nistp256-cert-v01@openssh.com", (8, 2)),
    since("rsa-sha2-512-cert-v01@openssh.com", (7, 8)),
    since("rsa-sha2-256-cert-v01@openssh.com", (7, 8)),
    Name("ssh-rsa-cert-v01@openssh.com", OLD, NEVER, OLD, (8, 8)),
    always("ssh-ed25519"),
    always("ecdsa-sha2-nistp256"),
    always("ecdsa-sha2-nistp384"),
    always("ecdsa-sha2-nistp521"),
    since("sk-ssh-ed25519@openssh.com", (8, 2)),
    since("sk-ecdsa-sha2-nistp256@openssh.com", (8, 2)),
    always("rsa-sha2-512"),
    always("rsa-sha2-256"),
    Name("ssh-rsa", OLD, NEVER, OLD, (8, 8)),
    Name("webauthn-sk-ecdsa-sha2-nistp256@openssh.com", (8, 4), NEVER, NEVER, NEVER),
    gone("ssh-dss", (9, 8)),
    gone("ssh-dss-cert-v01@openssh.com", (9, 8)),
];

const CIPHERS: &[Name] = &[
    always("chacha20-poly1305@openssh.com"),
    always("aes128-ctr"),
    always("aes192-ctr"),
    always("aes256-ctr"),
    always("aes128-gcm@openssh.com"),
    always("aes256-gcm@openssh.com"),
    known("3des-cbc"),
    known("aes128-cbc"),
    known("aes192-cbc"),
    known("aes256-cbc"),
    gone("rijndael-cbc@lysator.liu.se", (8, 5)),
    gone("blowfish-cbc", (7, 6)),
    gone("cast128-cbc", (7, 6)),
    gone("arcfour", (7, 6)),
    gone("arcfour128", (7, 6)),
    gone("arcfour256", (7, 6)),
];

const MACS: &[Name] = &[
    always("umac-64-etm@openssh.com"),
    always("umac-128-etm@openssh.com"),
    always("hmac-sha2-256-etm@openssh.com"),
    always("hmac-sha2-512-etm@openssh.com"),
    always("hmac-sha1-etm@openssh.com"),
    always("umac-64@openssh.com"),
    always("umac-128@openssh.com"),
    always("hmac-sha2-256"),
    always("hmac-sha2-512"),
    always("hmac-sha1"),
    known("hmac-sha1-96"),
    known("hmac-md5"),
    known("hmac-md5-96"),
    known("hmac-sha1-96-etm@openssh.com"),
    known("hmac-md5-etm@openssh.com"),
    known("hmac-md5-96-etm@openssh.com"),
    gone("hmac-ripemd160", (7, 6)),
    gone("hmac-ripemd160@openssh.com", (7, 6)),
    gone("hmac-ripemd160-etm@openssh.com", (7, 6)),
];

const KEXES: &[Name] = &[
    Name("mlkem768x25519-sha256", (9, 9), NEVER, (9, 9), NEVER),
    Name("sntrup761x25519-sha512", (9, 9), NEVER, (9, 9), NEVER),
    Name("sntrup761x25519-sha512@openssh.com", (8, 5), NEVER, (9, 0), NEVER),
    Name("sntrup4591761x25519-sha512@tinyssh.org", (8, 0), (8, 5), NEVER, NEVER),
    always("curve25519-sha256"),
    always("curve25519-sha256@libssh.org"),
    always("ecdh-sha2-nistp256"),
    always("ecdh-sha2-nistp384"),
    always("ecdh-sha2-nistp521"),
    Name("diffie-hellman-group-exchange-sha256", OLD, NEVER, OLD, (10, 0)),
    Name("diffie-hellman-group16-sha512", OLD, NEVER, OLD, (10, 0)),
    Name("diffie-hellman-group18-sha512", OLD, NEVER, OLD, (10, 0)),
    Name("diffie-hellman-group14-sha256", OLD, NEVER, OLD, (10, 0)),
    Name("diffie-hellman-group14-sha1", OLD, NEVER, OLD, (8, 2)),
    known("diffie-hellman-group1-sha1"),
    known("diffie-hellman-group-exchange-sha1"),
];

/// The families of GSSAPI key exchange, each followed by the name of a mechanism.
const GSSAPI_KEXES: &[&str] = &[
    "gss-gex-sha1-",
    "gss-group1-sha1-",
    "gss-group14-sha1-",
    "gss-group14-sha256-",
    "gss-group16-sha512-",
    "gss-nistp256-sha256-",
    "gss-curve25519-sha256-",
];

/// Names that sshd took for a type of key up to 9.8, though no algorithm bears them.
const SHORT_NAMES: &[&str] = &["ED25519", "ED25519-SK", "ECDSA", "ECDSA-SK", "RSA", "DSA"];

fn table(kind: Kind) -> &'static [Name] {
    match kind {
        Kind::Key | Kind::CaSignature => KEYS,
        Kind::Cipher => CIPHERS,
        Kind::Mac => MACS,
        Kind::Kex => KEXES,
    }
}

fn is_certificate(name: &str) -> bool {
    name.ends_with("-cert-v01@openssh.com")
}

/// Every name that the build knows.
fn all(build: &Build, kind: Kind) -> Vec<&'static str> {
    let backported = backports(build);
    table(kind)
        .iter()
        .filter(|name| backported.contains(&name.0) || build.at_least(name.1.0, name.1.1))
        .filter(|name| !build.at_least(name.2.0, name.2.1))
        .map(|name| name.0)
        .filter(|name| kind != Kind::CaSignature || !is_certificate(name))
        .collect()
}

/// What a distribution has taken from a later version.
fn backports(build: &Build) -> &'static [&'static str] {
    // Debian 12's security update; the same name is in Ubuntu 24.04's 9.6.
    let debian = build.family == crate::sshd::build::Family::Debian && build.at_least(9, 2);
    if debian { &["sntrup761x25519-sha512"] } else { &[] }
}

/// The list that is in force where nothing is set.
pub(super) fn default(build: &Build, kind: Kind) -> Vec<String> {
    if kind == Kind::CaSignature && !build.at_least(7, 9) {
        return all(build, kind).into_iter().map(str::to_owned).collect();
    }
    let backported = backports(build);
    let list = table(kind)
        .iter()
        .filter(|name| backported.contains(&name.0) || build.at_least(name.3.0, name.3.1))
        .filter(|name| match (kind, name.0) {
            // The signatures of certificates lost SHA-1 earlier.
            (Kind::CaSignature, "ssh-rsa") => !build.at_least(8, 2),
            _ => !build.at_least(name.4.0, name.4.1),
        })
        .map(|name| name.0)
        .filter(|name| kind != Kind::CaSignature || !is_certificate(name));
    let mut list: Vec<String> = list.map(str::to_owned).collect();
    if kind == Kind::Key && build.is_el(6..=7) {
        list.extend(["ssh-dss-cert-v01@openssh.com".to_owned(), "ssh-dss".to_owned()]);
    }
    if kind == Kind::Cipher && build.at_least(10, 0) {
        // 10.0 prefers AES-GCM to AES-CTR.
        list.sort_by_key(
            |name| if name.starts_with("chacha") { 0 } else { 1 + u8::from(name.ends_with("-ctr")) },
        );
    }
    list
}

/// Is the value one that sshd takes for this keyword?
pub(super) fn is_valid(build: &Build, kind: Kind, value: &[u8]) -> bool {
    let names = match value.split_first() {
        Some((b'-', _)) if build.at_least(7, 5) => return true,
        Some((b'+', names)) => names,
        Some((b'^', names)) if build.at_least(8, 1) => names,
        _ => value,
    };
    if names.is_empty() {
        return false;
    }
    let all = all(build, kind);
    let every_key = if kind == Kind::CaSignature { all_keys(build) } else { all.clone() };
    // An empty name ends the check: what follows it is not looked at.
    names.split_str(",").take_while(|name| !name.is_empty()).all(|name| match kind {
        Kind::Key | Kind::CaSignature => {
            if every_key.iter().any(|known| known.as_bytes() == name) || is_short_name(build, name) {
                return kind == Kind::Key
                    || !build.at_least(9, 9)
                    || !name.to_str().is_ok_and(is_certificate);
            }
            every_key.iter().any(|known| match_pattern_list(known.as_bytes(), name, false) != ListMatch::No)
                || (build.gssapi && match_pattern_list(b"null", name, false) != ListMatch::No)
        }
        Kind::Kex => {
            all.iter().any(|known| known.as_bytes() == name) || (build.gssapi && is_gssapi_kex(build, name))
        }
        Kind::Cipher | Kind::Mac => all.iter().any(|known| known.as_bytes() == name),
    })
}

fn all_keys(build: &Build) -> Vec<&'static str> {
    all(build, Kind::Key)
}

fn is_short_name(build: &Build, name: &[u8]) -> bool {
    let taken = !build.at_least(9, 9);
    taken
        && SHORT_NAMES.iter().any(|short| {
            short.as_bytes().eq_ignore_ascii_case(name)
                && (*short != "DSA" || !build.at_least(9, 8))
                && (!short.ends_with("-SK") || build.at_least(8, 2))
        })
        || (build.gssapi && name.eq_ignore_ascii_case(b"null"))
}

fn is_gssapi_kex(build: &Build, name: &[u8]) -> bool {
    build.family != crate::sshd::build::Family::Upstream
        && GSSAPI_KEXES.iter().any(|family| name.starts_with(family.as_bytes()))
}

/// Is the value one that sshd takes for GSSAPIKexAlgorithms?
pub(super) fn is_valid_gssapi(build: &Build, value: &[u8]) -> bool {
    !value.is_empty()
        && value
            .split_str(",")
            .take_while(|name| !name.is_empty())
            .all(|name| name.starts_with(b"gss-") && is_gssapi_kex(build, name))
}

/// Applies `+`, `-`, `^` and wildcards to the build's default; `None` where sshd gives up (nothing is left).
pub(super) fn assemble(build: &Build, kind: Kind, value: &[u8]) -> Option<Vec<String>> {
    let default = default(build, kind);
    let (patterns, rest) = match value.split_first() {
        None => return Some(default),
        Some((b'-', names)) => {
            let kept = |name: &String| match_pattern_list(name.as_bytes(), names, false) != ListMatch::Yes;
            return Some(default.into_iter().filter(kept).collect());
        }
        Some((b'+', names)) => (default.iter().map(|name| name.as_bytes()).collect(), Some(names)),
        Some((b'^', names)) => (Vec::new(), Some(names)),
        Some(_) => (value.split_str(",").collect::<Vec<_>>(), None),
    };
    let mut patterns = patterns;
    if let Some(names) = rest {
        let head = patterns.is_empty();
        patterns.extend(names.split_str(",").take_while(|name| !name.is_empty()));
        if head {
            patterns.extend(default.iter().map(|name| name.as_bytes()));
        }
    }
    let all = all(build, kind);
    let mut list: Vec<String> = Vec::new();
    for pattern in patterns {
        if pattern.starts_with(b"!") {
            return None;
        }
        for name in &all {
            let matched = match_pattern_list(name.as_bytes(), pattern, false) == ListMatch::Yes;
            if matched && !list.iter().any(|listed| listed == name) {
                list.push((*name).to_owned());
            }
        }
    }
    (!list.is_empty()).then_some(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sshd::build::Family;
    use proptest::prelude::*;

    #[test]
    fn defaults_lose_sha1_and_dsa_in_time() {
        let has = |version, name: &str| {
            default(&Build::of(Family::Upstream, version), Kind::Key).iter().any(|known| known == name)
        };
        assert!(has((8, 7), "ssh-rsa") && !has((8, 8), "ssh-rsa"));
        assert!(!has((8, 0), "sk-ssh-ed25519@openssh.com") && has((8, 2), "sk-ssh-ed25519@openssh.com"));
        assert!(!has((8, 4), "ssh-dss"));
        assert!(default(&Build::of(Family::RedHat, (7, 4)), Kind::Key).iter().any(|name| name == "ssh-dss"));
    }

    #[test]
    fn lists_are_changed_by_their_first_byte() {
        let build = Build::of(Family::Debian, (9, 2));
        let list = |value: &str| assemble(&build, Kind::Key, value.as_bytes());
        assert!(list("+ssh-rsa").unwrap().contains(&"ssh-rsa".to_owned()));
        assert!(!list("-*ed25519*").unwrap().iter().any(|name| name.contains("ed25519")));
        assert_eq!(list("^rsa-sha2-256").unwrap()[0], "rsa-sha2-256");
        assert_eq!(list("ssh-ed25519,rsa-sha2-*").unwrap()[0], "ssh-ed25519");
        assert_eq!(list("-*").unwrap(), Vec::<String>::new());
        assert_eq!(list("!ssh-rsa"), None);
        assert_eq!(list("RSA"), None);
    }

    #[test]
    fn unknown_names_are_refused_unless_they_are_removed() {
        let valid = |version, value: &str| {
            is_valid(&Build::of(Family::Upstream, version), Kind::Key, value.as_bytes())
        };
        assert!(valid((9, 2), "ssh-rsa") && valid((9, 2), "+ssh-dss") && valid((9, 2), "-nonsense"));
        assert!(!valid((9, 2), "nonsense") && !valid((9, 2), "+nonsense") && !valid((9, 2), ""));
        assert!(!valid((10, 0), "+ssh-dss"));
        assert!(!valid((7, 4), "-ssh-rsa") && !valid((8, 0), "^ssh-rsa") && valid((8, 1), "^ssh-rsa"));
        assert!(valid((9, 2), "ssh-*") && valid((9, 2), "rsa"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(value: Vec<u8>) {
            let build = Build::of(Family::Debian, (9, 2));
            for kind in [Kind::Key, Kind::CaSignature, Kind::Cipher, Kind::Mac, Kind::Kex] {
                let _ = (is_valid(&build, kind, &value), assemble(&build, kind, &value));
            }
            let _ = is_valid_gssapi(&build, &value);
        }
    }
}
