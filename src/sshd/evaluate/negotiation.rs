//! Key exchange: is there an algorithm of each kind that a current OpenSSH client has too?

use super::Case;
use super::account::at_setting;
use crate::finding::{CheckId, Finding};
use crate::sshd::config::Setting;

const KEX: [&str; 12] = [
    "mlkem768x25519-sha256",
    "sntrup761x25519-sha512",
    "sntrup761x25519-sha512@openssh.com",
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "diffie-hellman-group-exchange-sha256",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group18-sha512",
    "diffie-hellman-group14-sha256",
];
const HOST_KEYS: [&str; 8] = [
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "sk-ssh-ed25519@openssh.com",
    "rsa-sha2-512",
    "rsa-sha2-256",
];
/// These need no MAC.
const AEAD: [&str; 3] = ["chacha20-poly1305@openssh.com", "aes128-gcm@openssh.com", "aes256-gcm@openssh.com"];
const COUNTER: [&str; 3] = ["aes128-ctr", "aes192-ctr", "aes256-ctr"];
const MACS: [&str; 10] = [
    "umac-64-etm@openssh.com",
    "umac-128-etm@openssh.com",
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
    "hmac-sha1-etm@openssh.com",
    "umac-64@openssh.com",
    "umac-128@openssh.com",
    "hmac-sha2-256",
    "hmac-sha2-512",
    "hmac-sha1",
];

/// `loaded` are the types of the host keys that sshd would load; empty where they are not known.
pub(super) fn check(case: &mut Case<'_>, loaded: &[String]) {
    let effective = case.effective;
    let kex = &effective.kex_algorithms;
    one(case, "KexAlgorithms", kex, common(kex, &KEX), "no matching key exchange method found");
    let ciphers = &effective.ciphers;
    let aead = common(ciphers, &AEAD);
    one(case, "Ciphers", ciphers, aead || common(ciphers, &COUNTER), "no matching cipher found");
    let macs = &effective.macs;
    one(case, "MACs", macs, aead || common(macs, &MACS), "no matching MAC found");
    let list = &effective.host_key_algorithms;
    let usable = |name: &&&str| loaded.is_empty() || loaded.iter().any(|loaded| serves(loaded, name));
    let host_key = (list.value.is_empty() && list.at.is_none())
        || HOST_KEYS.iter().filter(usable).any(|name| list.value.iter().any(|taken| taken == name));
    one(case, "HostKeyAlgorithms", list, host_key, "no matching host key type found");
}

fn common(list: &Setting<Vec<String>>, client: &[&str]) -> bool {
    // An empty list that no line has set is one that was not read; `-*` leaves nothing.
    (list.value.is_empty() && list.at.is_none())
        || list.value.iter().any(|name| client.contains(&name.as_str()))
}

/// Can a key of this type sign with this algorithm? PEM does not tell the curve.
fn serves(loaded: &str, algorithm: &str) -> bool {
    match loaded {
        "ssh-rsa" => algorithm.starts_with("rsa-sha2-"),
        "ecdsa" => algorithm.starts_with("ecdsa-"),
        "pkcs8" => true,
        loaded => loaded == algorithm,
    }
}

fn one(case: &mut Case<'_>, keyword: &str, setting: &Setting<Vec<String>>, matches: bool, says: &str) {
    let detail = if matches { "shared with a current client" } else { "nothing that a current client has" };
    case.traced_at(keyword, setting.at.as_ref(), setting.value.join(","), detail, matches);
    if matches {
        return;
    }
    let finding = at_setting(Finding::blocks(CheckId::NegotiationFails), setting)
        .is(format!("{keyword} {}", setting.value.join(",")))
        .wants("an algorithm that current clients have")
        .says(format!("Unable to negotiate: {says}"));
    case.refuse(finding);
}
