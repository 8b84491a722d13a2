//! What people give with `--key`.

use super::*;
use crate::keys::testing::{key, line, rsa};

fn keys(content: &[u8]) -> Vec<PublicKey> {
    match read_key(content) {
        Ok(KeyForm::Public(keys)) => keys,
        other => panic!("not public: {other:?}"),
    }
}

fn error(content: impl AsRef<[u8]>) -> String {
    read_key(content.as_ref()).map(|form| format!("{form:?}")).expect_err("an error")
}

#[test]
fn a_public_line_is_read_as_people_save_it() {
    for wanted in [key(1), rsa(2048)] {
        let text = line(&wanted);
        let utf16 = |units: fn(u16) -> [u8; 2]| {
            format!("\u{feff}{text}\r\n").encode_utf16().flat_map(units).collect()
        };
        let contents: Vec<Vec<u8>> = vec![
            text.clone().into(),
            format!("{text}\n").into(),
            format!("\r\n  {text}\r\n\r\n").into(),
            format!("\u{feff}{text}\r\n").into(),
            utf16(u16::to_le_bytes),
            utf16(u16::to_be_bytes),
            text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            text.replacen(' ', "\t", 1).into(),
            format!("# mine\n\n{text}\n").into(),
            format!("no-pty,command=\"a b\" {text}\n").into(),
            format!("\"{text}\"\n").into(),
            format!("  - {text}\n").into(),
        ];
        for content in contents {
            let read = keys(&content);
            assert_eq!(read, std::slice::from_ref(&wanted), "{}", content.to_str_lossy());
        }
        let bare = text.split(' ').nth(1).unwrap();
        assert!(keys(bare.as_bytes())[0].same_key(&wanted));
    }
}

#[test]
fn several_keys_are_all_read() {
    let content = format!("{}\n# second\n{}\n", line(&key(1)), line(&rsa(2048)));
    assert_eq!(keys(content.as_bytes()), [key(1), rsa(2048)]);
}

#[test]
fn a_wrapped_key_is_put_together() {
    for width in [40, 64, 72, 76] {
        for wanted in [key(1), rsa(2048), rsa(4096)] {
            let wanted = wanted.with_comment("");
            let text = line(&wanted);
            for end in ["\n", "\r\n"] {
                let rows: Vec<&str> =
                    text.as_bytes().chunks(width).map(|row| str::from_utf8(row).unwrap()).collect();
                let folded = rows.join(end);
                assert_eq!(keys(folded.as_bytes()), std::slice::from_ref(&wanted), "{width}: {folded}");
            }
        }
    }
    let text = line(&key(1));
    let (head, tail) = text.split_at(50);
    assert_eq!(keys(format!("{head}\n{tail}").as_bytes()), [key(1)]);
}

#[test]
fn a_wrapped_key_with_something_after_it_is_not_guessed() {
    let text = line(&key(1).with_comment(""));
    let (head, tail) = text.split_at(50);
    assert!(error(format!("{head}\n{tail}AAAA")).contains(".pub"));
    assert!(error(format!("{head}\n{}", &tail[..10])).contains(".pub"));
}

#[test]
fn rfc_4716_is_read_with_putty_s_ways() {
    let blob = line(&key(1)).split(' ').nth(1).unwrap().to_owned();
    let (one, two) = blob.split_at(40);
    let block = format!(
        "---- BEGIN SSH2 PUBLIC KEY ----\r\nComment: \"long \\\r\nname\"\r\nSubject: me\r\nx-a: b\\\r\nc\r\n{one}\r\n{two}\r\n---- END SSH2 PUBLIC KEY ----\r\n"
    );
    assert_eq!(keys(block.as_bytes()), [key(1).with_comment("long name")]);
    assert!(error(block.replace("---- END", "")).contains("RFC 4716"));
}

#[test]
fn pem_private_keys_go_to_ssh_keygen() {
    for label in ["RSA PRIVATE KEY", "EC PRIVATE KEY", "PRIVATE KEY", "ENCRYPTED PRIVATE KEY"] {
        let text = format!("Bag Attributes\n\n-----BEGIN {label}-----\nMIIE\n-----END {label}-----\n");
        assert!(matches!(read_key(text.as_bytes()), Ok(KeyForm::NeedsSshKeygen)), "{label}");
        assert!(error(format!("-----BEGIN {label}-----\nMIIE\n")).contains("cut short"));
    }
}

#[test]
fn what_is_no_key_is_named() {
    let text = line(&key(1));
    let pem = |label: &str| format!("-----BEGIN {label}-----\nMIIB\n-----END {label}-----\n");
    for (content, words) in [
        (String::new(), "empty"),
        (" \r\n\t".into(), "empty"),
        ("# only\n".into(), "comments"),
        (pem("CERTIFICATE"), "X.509"),
        (pem("CERTIFICATE REQUEST"), "request"),
        (pem("PGP PUBLIC KEY BLOCK"), "GPG"),
        (pem("PUBLIC KEY"), "ssh-keygen -i"),
        (pem("DSA PRIVATE KEY"), "DSA"),
        (pem("OPENSSH PRIVATE KEY"), "damaged"),
        (pem("SSH SIGNATURE"), "signature"),
        ("<!DOCTYPE html><html>".into(), "web page"),
        ("<?xml version=\"1.0\"?><Error>".into(), "XML"),
        ("{\"KeyMaterial\": 1}".into(), "JSON"),
        ("SHA256:abcdef".into(), "fingerprint"),
        ("256 SHA256:abc me (ED25519)".into(), "fingerprint"),
        ("PuTTY-User-Key-File-2: ssh-rsa\nPublic-Lines: 9\nAAAA".into(), "PuTTY"),
        ("PuTTY-User-Key-File-1: ssh-rsa\n".into(), "PuTTY"),
        (format!("github.com {text}"), "known_hosts"),
        (format!("|1|abc|def {text}"), "known_hosts"),
        (format!("@cert-authority *.x {text}"), "known_hosts"),
        (format!("cert-authority {text}"), "certificate authority"),
        (format!("nosuch {text}"), "neither"),
        (format!("{text}{text}"), "several keys"),
        (text[..50].into(), "cut short"),
        (text.replacen("AAAA", "AA!A", 1), "base64"),
        (line(&rsa(768)), "fewer than 1024"),
        ("hello\nworld".into(), "line 1"),
        (format!("{text}\nworld"), "line 2"),
        ("\x7fELF\0\x01".into(), "binary"),
    ] {
        let said = error(&content);
        assert!(said.contains(words), "{content}: {said}");
    }
    assert!(error(vec![b'x'; 2 << 20]).contains("too large"));
    assert!(error(b"0\x82\x03\xff\0\xff").contains("DER"));
}

#[test]
fn no_error_echoes_the_file() {
    let secret = "c2VjcmV0c2VjcmV0";
    for content in [
        format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{secret}\n-----END OPENSSH PRIVATE KEY-----"),
        format!("-----BEGIN {secret}-----\n{secret}\n"),
        secret.to_owned(),
        format!("ssh-rsa {secret} {secret}"),
        format!("{secret} {}", line(&key(1))),
    ] {
        assert!(!error(&content).contains(secret), "{content}");
    }
}

#[test]
fn the_public_half_of_a_locked_private_key_is_in_clear() {
    // Wire form with a cipher named; the rest need not be decrypted.
    let string = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
    let blob = [
        b"openssh-key-v1\0".to_vec(),
        string(b"aes256-ctr"),
        string(b"bcrypt"),
        string(b"salt"),
        vec![0, 0, 0, 1],
        string(&key(1).blob),
        string(&[7; 64]),
    ]
    .concat();
    let body = String::from_utf8(base64::encode(&blob)).unwrap();
    let text =
        format!("-----BEGIN OPENSSH PRIVATE KEY-----\r\n{body}\r\n-----END OPENSSH PRIVATE KEY-----\r\n");
    assert!(keys(text.as_bytes())[0].same_key(&key(1)));
}

proptest::proptest! {
    #[test]
    fn no_file_makes_it_panic(bytes: Vec<u8>, text in r#"(-----BEGIN |OPENSSH PRIVATE KEY-----|\n|---- BEGIN SSH2 PUBLIC KEY ----|Public-Lines: |PuTTY-User-Key-File-3: |[0-9 :"\\]|AAAAC3NzaC1lZDI1NTE5AAAAI|ssh-ed25519 |\PC){0,20}"#) {
        let _ = read_key(&bytes);
        let _ = read_key(text.as_bytes());
    }
}
