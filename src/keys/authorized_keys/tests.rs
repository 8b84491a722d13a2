//! The break recipes for the content of authorized_keys, and the rules behind them.

use super::*;
use crate::keys::testing::{build, key, line, rsa};

const V74: (u32, u32) = (7, 4);
const DEBIAN_12: (u32, u32) = (9, 2);

/// Would this sshd find the key on a line without options that refuse it?
fn found(content: &[u8], key: &PublicKey, version: (u32, u32)) -> bool {
    parse(content, &build(version))
        .iter()
        .any(|(_, line)| matches!(line, Line::Key(line) if line.key.same_key(key) && line.options.is_ok()))
}

/// What a person sees in junk or behind a key.
fn seen(content: &[u8], version: (u32, u32)) -> Vec<PublicKey> {
    let lines = parse(content, &build(version)).into_iter();
    lines
        .flat_map(|(_, line)| match line {
            Line::Junk { looks_like, .. } => looks_like.into_iter().collect(),
            Line::Key(line) if line.options.is_err() => vec![line.key],
            Line::Key(line) => line.glued,
            Line::Ignored => Vec::new(),
        })
        .collect()
}

fn why(content: &[u8], version: (u32, u32)) -> String {
    match parse(content, &build(version)).remove(0).1 {
        Line::Junk { why, .. } => why,
        other => panic!("not junk: {other:?}"),
    }
}

fn options(content: &[u8], version: (u32, u32)) -> Result<Options, String> {
    match parse(content, &build(version)).remove(0).1 {
        Line::Key(line) => line.options,
        other => panic!("no key: {other:?}"),
    }
}

/// The baseline file with one change: accepted by Debian, accepted by 7.4.
fn recipe(name: &str, change: impl Fn(&str) -> Vec<u8>, debian: bool, old: bool) {
    for key in [key(1), rsa(2048)] {
        let content = change(&line(&key));
        assert_eq!(found(&content, &key, DEBIAN_12), debian, "{name} on Debian");
        assert_eq!(found(&content, &key, (10, 0)), debian, "{name} on 10.0");
        assert_eq!(found(&content, &key, V74), old, "{name} on 7.4");
    }
}

#[test]
fn the_break_recipes_end_as_they_did_with_real_sshd() {
    let both =
        |name: &str, accepted: bool, change: fn(&str) -> Vec<u8>| recipe(name, change, accepted, accepted);
    both("RK1", false, |_| Vec::new());
    both("RK2", false, |line| format!("#{line}\n").into());
    both("RK3", true, |line| format!("{line}\r\n").into());
    both("RK3 without comment", true, |line| format!("{}\r\n", line.rsplit_once(' ').unwrap().0).into());
    both("RK4", true, |line| line.into());
    both("RK5", true, |line| format!("   {line}\n").into());
    both("RK6", false, |line| format!("\u{feff}{line}\n").into());
    both("RK7", true, |line| format!("\u{feff}# keys\n{line}\n").into());
    both("RK8", false, |line| format!("{line}\n").encode_utf16().flat_map(u16::to_le_bytes).collect());
    both("RK9", false, |line| fold(line, 64));
    recipe("RK10", |line| line.replacen(" AAAA", "  AAAA", 1).into(), true, false);
    recipe("RK11", |line| line.replacen(" AAAA", "\tAAAA", 1).into(), true, false);
    both("RK12", false, |line| line.replacen("ssh-", "SSH-", 1).into());
    recipe("RK13", |line| line.replacen("ssh-", "", 1).into(), false, true);
    both("RK14", false, |line| line.split_once(' ').unwrap().1.into());
    both("RK15", false, |line| format!("- {line}\n").into());
    both("RK16", false, |line| format!("\"{line}\"\n").into());
    both("RK17", false, rfc4716_of);
    both("RK18", false, |line| {
        let text = line.rsplit_once(' ').unwrap().0;
        text[..text.len() - 10].into()
    });
    both("RK19", false, |_| vec![0; 512]);
    both("RK20", false, |line| format!("ssh-rsa AAAAB3Nz{line}\n").into());
    both("RK21", true, |line| format!("{}\n{line}\n", "x".repeat(100_000)).into());
    recipe("RK22", |line| format!("# a\0b\n{line}\n").into(), true, false);
    both("RK23", true, |line| format!("no-pty {line}\n").into());
    both("RK24", false, |line| format!("no-pty, no-user-rc {line}\n").into());
    both("RK25", false, |line| format!("nosuchoption {line}\n").into());
    both("RK26", true, |line| format!("command=\"exit 142\" {line}\n").into());
    both("RK27", false, |line| format!("command=\"echo hi {line}\n").into());
    both("RK29", true, |line| format!("from=\"127.0.0.0/8\" {line}\n").into());
    recipe("RK32", |line| format!("expiry-time=\"20990101\" {line}\n").into(), true, false);
    both("RK34", true, |line| format!("restrict {line}\n").into());
    both("RK35", true, |line| format!("nosuchoption {line}\n{line}\n").into());
}

/// fold(1).
fn fold(line: &str, width: usize) -> Vec<u8> {
    let rows: Vec<&[u8]> = line.as_bytes().chunks(width).collect();
    [rows.join(&b'\n'), b"\n".to_vec()].concat()
}

fn rfc4716_of(line: &str) -> Vec<u8> {
    let blob = line.split(' ').nth(1).unwrap();
    let body = String::from_utf8(fold(blob, 70)).unwrap();
    format!(
        "---- BEGIN SSH2 PUBLIC KEY ----\nComment: \"by, \\\n me\"\n{body}---- END SSH2 PUBLIC KEY ----\n"
    )
    .into()
}

fn ppk_of(line: &str) -> Vec<u8> {
    let words: Vec<&str> = line.split(' ').collect();
    let body = String::from_utf8(fold(words[1], 64)).unwrap();
    let count = body.lines().count();
    format!(
        "PuTTY-User-Key-File-3: {}\r\nEncryption: none\r\nComment: c\r\nPublic-Lines: {count}\r\n{body}Private-Lines: 1\r\nAAAA\r\nPrivate-MAC: 00\r\n",
        words[0]
    )
    .into()
}

#[test]
fn what_the_evaluator_needs_of_options_is_there() {
    let text = line(&key(1));
    let of = |options_text: &str| options(format!("{options_text} {text}").as_bytes(), DEBIAN_12).unwrap();
    assert_eq!(of("command=\"exit 142\"").command.unwrap(), "exit 142");
    assert_eq!(of("from=\"10.9.8.7\"").from.unwrap(), "10.9.8.7");
    assert!(of("from=\"127.0.0.1/8\"").from_problem().is_some());
    assert_eq!(of("expiry-time=\"20200101\"").expiry, Some(1_577_836_800));
    assert!(of("cert-authority").cert_authority);
}

#[test]
fn a_key_in_a_form_that_sshd_does_not_read_is_seen() {
    for key in [key(1), rsa(4096)] {
        let text = line(&key);
        let (_, rest) = text.split_once(' ').unwrap();
        for content in [
            text.as_bytes().to_vec(),
            format!("\u{feff}{text}").into(),
            format!("\u{a0}{text}").into(),
            format!("{text}\n").encode_utf16().flat_map(u16::to_le_bytes).collect(),
            fold(&text, 64),
            fold(&text, 20),
            text.replacen("ssh-", "SSH-", 1).into(),
            rest.into(),
            format!("- {text}").into(),
            format!("\"{text}\"").into(),
            rfc4716_of(&text),
            ppk_of(&text),
            format!("ssh-rsa AAAAB3Nz{text}").into(),
            format!("no-pty, no-user-rc {text}").into(),
            format!("command=\"echo {text}").into(),
            format!("{}{text}", line(&self::key(2))).into(),
            format!("{} {text}", line(&self::key(2))).into(),
        ] {
            let shown = content.to_str_lossy();
            let keys = seen(&content, DEBIAN_12);
            let good = found(&content, &key, DEBIAN_12);
            assert!(good || keys.iter().any(|seen| seen.same_key(&key)), "{shown}");
        }
    }
}

#[test]
fn several_keys_glued_to_each_other_are_all_seen() {
    let (one, two) = (key(1).with_comment(""), key(2));
    let glued = format!("{}{}", line(&one), line(&two));
    assert_eq!(seen(glued.as_bytes(), DEBIAN_12).len(), 2);
    let content = format!("{}{}\n", line(&key(1)), line(&two));
    let [(1, Line::Key(first))] = &parse(content.as_bytes(), &build(DEBIAN_12))[..] else {
        panic!("one line")
    };
    assert!(first.key.same_key(&one) && first.glued.len() == 1 && first.glued[0].same_key(&two));
}

#[test]
fn a_block_of_another_form_does_not_hide_a_good_line_in_it() {
    let (text, other) = (line(&key(1)), line(&key(2).with_comment("a:b")));
    let block = String::from_utf8(rfc4716_of(&text)).unwrap();
    let content = block.replacen("\nAAAA", &format!("\n{other}\nAAAA"), 1);
    assert!(found(content.as_bytes(), &key(2), DEBIAN_12));
    assert_eq!(parse(content.as_bytes(), &build(DEBIAN_12)).len(), content.lines().count());
}

#[test]
fn junk_is_explained() {
    let text = line(&key(1));
    let (_, rest) = text.split_once(' ').unwrap();
    for (content, words) in [
        (format!("\u{feff}{text}"), "byte order mark"),
        (format!("\"{text}\""), "quotes"),
        (rest.to_owned(), "type before the key is missing"),
        (text.replacen("ssh", "SSH", 1), "lower case"),
        (format!("no-pty, pty {text}"), "comma"),
        (format!("command=\"x {text}"), "not closed"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----".into(), "private key"),
        (format!("{}...", &text[..40]), "base64"),
        (text[..40].to_owned(), "cut short"),
        (line(&rsa(768)), "fewer than 1024"),
        (text.replacen("ssh-ed25519", "ssh-rsa", 1), "another type"),
        ("hello".into(), "neither a key"),
    ] {
        let said = why(content.as_bytes(), DEBIAN_12);
        assert!(said.contains(words), "{content}: {said}");
    }
    assert!(options(format!("- {text}").as_bytes(), DEBIAN_12).unwrap_err().contains("dash"));
    assert!(why(text.replacen(' ', "\t", 1).as_bytes(), V74).contains("TAB"));
    assert!(why(text.replacen(' ', "  ", 1).as_bytes(), V74).contains("exactly one blank"));
    let sk = "sk-ssh-ed25519@openssh.com AAAA";
    assert!(why(sk.as_bytes(), (8, 0)).contains("does not know"));
    assert!(why(line(&rsa(760)).as_bytes(), (7, 4)).contains("fewer than 768"));
    assert!(found(line(&rsa(768)).as_bytes(), &rsa(768), (7, 5)));
}

#[test]
fn nul_bytes_count_as_in_each_version() {
    let (text, wanted) = (line(&key(1)), key(1));
    // In the comment: harmless since 7.8.
    let content = format!("{text}\0\n{text}\n");
    assert!(found(format!("{text}\0x\n").as_bytes(), &wanted, (7, 8)));
    assert!(!found(format!("{text}\0x\n").as_bytes(), &wanted, (7, 7)));
    // The next line goes too, but the one after is read.
    assert!(!found(content.as_bytes(), &wanted, (7, 7)));
    assert!(found(format!("{content}{text}\n").as_bytes(), &wanted, (7, 7)));
    // At the start of a line nothing else is lost.
    assert!(found(format!("\0\0\n{text}\n").as_bytes(), &wanted, V74));
    // Not at the end of the file either.
    assert!(found(format!("{text}\0").as_bytes(), &wanted, V74));
}

#[test]
fn lines_beyond_16_kib_are_lost_up_to_7_7() {
    for (length, read) in [(16_382, true), (16_383, false), (40_000, false)] {
        let mut text = line(&key(1));
        text.push_str(&"x".repeat(length - text.len()));
        assert_eq!(found(format!("{text}\n").as_bytes(), &key(1), (7, 7)), read, "{length}");
        assert_eq!(found(text.as_bytes(), &key(1), V74), read, "{length}, no newline");
        assert!(found(text.as_bytes(), &key(1), (7, 8)));
        assert!(found(format!("{text}\n{}\n", line(&key(2))).as_bytes(), &key(2), V74));
    }
}

#[test]
fn a_line_may_look_odd_and_be_read() {
    let text = line(&key(1));
    for content in [
        format!("\t {text}"),
        text.replace(' ', " \t "),
        format!("restrict,command=\"a # b\" \t{text}"),
        format!("junk\n\n#\n  \n{text}"),
        line(&rsa(2048)).replacen("ssh-rsa", "rsa-sha2-256", 1),
    ] {
        let is_found =
            found(content.as_bytes(), &key(1), DEBIAN_12) || found(content.as_bytes(), &rsa(2048), DEBIAN_12);
        assert!(is_found, "{content}");
    }
}

#[test]
fn blank_lines_are_no_junk() {
    for content in ["\n", "\r\n", " \t\n", "\0\0\0\n", "#x\n", "  # y\n", "\0"] {
        assert_eq!(parse(content.as_bytes(), &build(DEBIAN_12)), [(1, Line::Ignored)], "{content:?}");
    }
    assert_eq!(parse(b"", &build(DEBIAN_12)), []);
    assert_eq!(
        parse(b"\n\nx", &build(DEBIAN_12)).iter().map(|(number, _)| *number).collect::<Vec<_>>(),
        [1, 2, 3]
    );
}

#[test]
fn a_switched_off_key_is_found_in_its_comment() {
    let content = format!("# {}\n#none\n{}\n", line(&key(1)), line(&key(2)));
    let keys = commented_keys(content.as_bytes());
    assert_eq!(keys.len(), 1);
    assert!(keys[0].0 == 1 && keys[0].1.same_key(&key(1)));
}

#[test]
fn appended_lines_are_read_whatever_the_file_ends_with() {
    let added = key(9);
    for before in [
        &b""[..],
        b"# a",
        b"# a\n",
        b"x\r\n",
        b"x\r",
        b"\0\0\0",
        b"x\0\0\0",
        b"x\0y\n",
        b"command=\"",
        b"---- BEGIN SSH2 PUBLIC KEY ----",
        "\u{feff}".as_bytes(),
    ] {
        let after = append(before, &[added.to_line()]);
        assert!(after.starts_with(before) && after.ends_with(b"\n"));
        for version in [V74, (7, 7), (7, 8), (10, 0)] {
            assert!(found(&after, &added, version), "{before:?} {version:?}");
        }
    }
    assert_eq!(append(b"x", &[]), b"x");
    assert_eq!(append(b"x\n", &[b"a\r\n".to_vec(), b"b".to_vec()]), b"x\na\nb\n");
}

#[test]
fn hostile_files_take_linear_time() {
    let start = std::time::Instant::now();
    let header = "AAAAB3NzaC1yc2EAAAADAQABAAABAQ";
    for content in [
        "A".repeat(1 << 20),
        format!("{header}\n").repeat(30_000),
        header.repeat(30_000),
        "---- BEGIN SSH2 PUBLIC KEY ----\n".repeat(30_000),
        "PuTTY-User-Key-File-3: x\n".repeat(30_000),
        "\0\n".repeat(300_000),
        "\"\\".repeat(500_000),
        format!("{}\n", line(&key(1))).repeat(100_000),
        format!("{}\n", "AAAAC3NzaC1lZDI1NTE5AAAA".repeat(60)).repeat(700),
    ] {
        let _ = parse(content.as_bytes(), &build(DEBIAN_12));
        let _ = parse(content.as_bytes(), &build(V74));
    }
    // Generous: a quadratic walk over any of these takes minutes.
    assert!(start.elapsed().as_secs() < 120, "{:?}", start.elapsed());
}

proptest::proptest! {
    #[test]
    fn no_file_makes_it_panic(bytes: Vec<u8>, text in r#"(ssh-rsa|ssh-ed25519|AAAAC3NzaC1lZDI1NTE5AAAAI|[ \t\n\r\x00",=#-]|AAAAB3NzaC1yc2EAAA|command="|---- BEGIN SSH2 PUBLIC KEY ----|\PC){0,30}"#) {
        for content in [&bytes[..], text.as_bytes()] {
            for version in [V74, (7, 7), (10, 0)] {
                let lines = parse(content, &build(version));
                let numbers: std::collections::BTreeSet<u32> = lines.iter().map(|(number, _)| *number).collect();
                let expected = content.split(|&byte| byte == b'\n').count() - usize::from(content.is_empty() || content.ends_with(b"\n"));
                proptest::prop_assert_eq!(numbers.len(), expected);
            }
            let _ = commented_keys(content);
        }
    }

    #[test]
    fn what_is_appended_is_found_and_the_rest_stays(bytes in proptest::collection::vec(proptest::prop_oneof![proptest::strategy::Just(b'\n'), proptest::strategy::Just(0_u8), proptest::arbitrary::any::<u8>()], 0..40), number: u8) {
        let key = key(number);
        let after = append(&bytes, &[key.to_line()]);
        proptest::prop_assert!(after.starts_with(&bytes));
        for version in [V74, (7, 7), (9, 2)] {
            proptest::prop_assert!(found(&after, &key, version));
        }
    }
}
