//! Names: the types of keys that a version knows, and the algorithms that a client signs with.

use super::PublicKey;
use super::certificate::plain_type;
use crate::sshd::Build;

/// Does this sshd know keys of this type (the exact name, certificates' too)?
#[must_use]
pub fn known(algorithm: &str, build: &Build) -> bool {
    match plain_type(algorithm).unwrap_or(algorithm) {
        "ssh-rsa" | "ssh-ed25519" | "ecdsa-sha2-nistp256" | "ecdsa-sha2-nistp384" | "ecdsa-sha2-nistp521" => {
            true
        }
        "sk-ssh-ed25519@openssh.com" | "sk-ecdsa-sha2-nistp256@openssh.com" => build.at_least(8, 2),
        // Not built by default since 9.8; gone in 10.0.
        "ssh-dss" => !build.at_least(9, 8),
        _ => false,
    }
}

/// The type of key that a word at the place of the type means to this sshd (`sshkey_type_from_name`,
/// `peek_type_nid`): the exact names, the signature names of RSA, and the short names up to 7.6.
#[must_use]
pub fn type_of_word(word: &[u8], build: &Build) -> Option<&'static str> {
    const NAMES: [&str; 16] = [
        "ssh-ed25519",
        "ssh-rsa",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
        "ssh-dss",
        "ssh-ed25519-cert-v01@openssh.com",
        "ssh-rsa-cert-v01@openssh.com",
        "ecdsa-sha2-nistp256-cert-v01@openssh.com",
        "ecdsa-sha2-nistp384-cert-v01@openssh.com",
        "ecdsa-sha2-nistp521-cert-v01@openssh.com",
        "sk-ssh-ed25519-cert-v01@openssh.com",
        "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com",
        "ssh-dss-cert-v01@openssh.com",
    ];
    let name = match word {
        b"rsa-sha2-256" | b"rsa-sha2-512" => "ssh-rsa",
        b"rsa-sha2-256-cert-v01@openssh.com" | b"rsa-sha2-512-cert-v01@openssh.com"
            if build.at_least(7, 8) =>
        {
            "ssh-rsa-cert-v01@openssh.com"
        }
        b"webauthn-sk-ecdsa-sha2-nistp256@openssh.com" if build.at_least(8, 4) => {
            "sk-ecdsa-sha2-nistp256@openssh.com"
        }
        _ if !build.at_least(7, 7) && word.eq_ignore_ascii_case(b"ed25519") => "ssh-ed25519",
        _ if !build.at_least(7, 7) && word.eq_ignore_ascii_case(b"rsa") => "ssh-rsa",
        _ if !build.at_least(7, 7) && word.eq_ignore_ascii_case(b"dsa") => "ssh-dss",
        _ => NAMES.into_iter().find(|name| name.as_bytes() == word)?,
    };
    known(name, build).then_some(name)
}

/// The algorithms that a current OpenSSH client can sign with for this key and this server, best first.
///
/// For RSA it wants SHA-2, which it uses only with servers that announce it (7.2 and later). With 7.4 to 7.7 it falls
/// back to SHA-1 for RSA certificates (`SSH_BUG_SIGTYPE`), which its own default no longer has: none is left.
#[must_use]
pub fn client_algorithms(key: &PublicKey, build: &Build) -> Vec<String> {
    let names: &[&str] = match key.algorithm.as_str() {
        "ssh-rsa" if build.at_least(7, 2) => &["rsa-sha2-512", "rsa-sha2-256"],
        "ssh-rsa-cert-v01@openssh.com" if build.at_least(7, 8) => {
            &["rsa-sha2-512-cert-v01@openssh.com", "rsa-sha2-256-cert-v01@openssh.com"]
        }
        "ssh-rsa" | "ssh-rsa-cert-v01@openssh.com" | "ssh-dss" | "ssh-dss-cert-v01@openssh.com" => &[],
        name => &[name],
    };
    names.iter().map(|&name| name.to_owned()).collect()
}

/// Would a login of a current OpenSSH client with this key pass this list (the effective PubkeyAcceptedAlgorithms or
/// PubkeyAcceptedKeyTypes, one pattern an element)?
///
/// Up to 7.7 sshd looks for the type of the key, later for the signature algorithm. The client settles on its first
/// algorithm among those that the server announces: up to 9.5 the server announces all that it was built with, so a
/// list with `rsa-sha2-256` but without `rsa-sha2-512` refuses RSA keys; since 9.6 it announces its list.
#[must_use]
pub fn accepted_by(list: &[String], key: &PublicKey, build: &Build) -> bool {
    let offered = client_algorithms(key, build);
    if !build.signature_algorithm_decides() {
        return !offered.is_empty() && matches_list(&key.algorithm, list);
    }
    let tried = if build.at_least(9, 6) { offered.len() } else { 1 };
    offered.iter().take(tried).any(|name| matches_list(name, list))
}

/// `match_pattern_list`: a negated pattern that matches refuses, whatever else the list says.
#[must_use]
pub fn matches_list(name: &str, list: &[String]) -> bool {
    let mut found = false;
    for pattern in list.iter().flat_map(|element| element.split(',')) {
        match pattern.strip_prefix('!') {
            Some(negated) if matches_pattern(name.as_bytes(), negated.as_bytes()) => return false,
            None if matches_pattern(name.as_bytes(), pattern.as_bytes()) => found = true,
            _ => {}
        }
    }
    found
}

/// `*` and `?`, without recursion: only the last star needs to be tried again.
fn matches_pattern(text: &[u8], pattern: &[u8]) -> bool {
    let (mut at, mut want) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while at < text.len() {
        match pattern.get(want) {
            Some(b'*') => {
                star = Some((want, at));
                want += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[at] => {
                at += 1;
                want += 1;
            }
            _ => {
                let Some((pattern_at, text_at)) = star else { return false };
                star = Some((pattern_at, text_at + 1));
                (at, want) = (text_at + 1, pattern_at + 1);
            }
        }
    }
    pattern[want..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::testing::{build, key};

    fn accepted(list: &str, algorithm: &str, version: (u32, u32)) -> bool {
        let key = PublicKey { algorithm: algorithm.into(), ..key(1) };
        accepted_by(&[list.into()], &key, &build(version))
    }

    #[test]
    fn a_list_with_ssh_rsa_only_refuses_modern_clients_from_7_8_on() {
        assert!(accepted("ssh-rsa", "ssh-rsa", (7, 4)));
        assert!(accepted("ssh-rsa", "ssh-rsa", (7, 7)));
        assert!(!accepted("ssh-rsa", "ssh-rsa", (7, 8)));
        assert!(!accepted("ssh-rsa", "ssh-rsa", (10, 0)));
    }

    #[test]
    fn the_client_takes_the_best_algorithm_that_the_server_announces() {
        assert!(!accepted("rsa-sha2-256", "ssh-rsa", (9, 2)));
        assert!(accepted("rsa-sha2-256", "ssh-rsa", (9, 6)));
        assert!(accepted("rsa-sha2-512", "ssh-rsa", (9, 2)));
        assert!(!accepted("rsa-sha2-512,rsa-sha2-256", "ssh-rsa", (7, 4)));
    }

    #[test]
    fn patterns_and_negations_count() {
        assert!(accepted("ssh-*", "ssh-ed25519", (9, 2)));
        assert!(accepted("*-sha2-51?", "ssh-rsa", (9, 2)));
        assert!(!accepted("!ssh-ed25519,*", "ssh-ed25519", (9, 2)));
        assert!(!accepted("*,!ssh-ed25519", "ssh-ed25519", (9, 2)));
        assert!(!accepted("", "ssh-ed25519", (9, 2)));
        assert!(matches_pattern(b"aaab", b"*a*b") && !matches_pattern(b"aaab", b"*a*c"));
    }

    #[test]
    fn types_come_and_go_with_versions() {
        let word = |word: &str, version| type_of_word(word.as_bytes(), &build(version));
        assert_eq!(word("sk-ssh-ed25519@openssh.com", (8, 1)), None);
        assert!(word("sk-ssh-ed25519@openssh.com", (8, 2)).is_some());
        assert!(word("ssh-dss", (9, 2)).is_some());
        assert_eq!(word("ssh-dss", (10, 0)), None);
        assert_eq!(word("Ed25519", (7, 6)), Some("ssh-ed25519"));
        assert_eq!(word("ed25519", (7, 7)), None);
        assert_eq!(word("rsa-sha2-512", (9, 2)), Some("ssh-rsa"));
        assert_eq!(word("SSH-RSA", (7, 4)), None);
    }
}
