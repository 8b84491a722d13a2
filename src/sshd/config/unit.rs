//! The options that sshd is started with: `-o` in the unit, its drop-ins and the files of its environment.
//!
//! Sources: systemd.service(5), systemd.exec(5), systemd.unit(5); the units of Debian (`SSHD_OPTS`), RHEL (`OPTIONS`,
//! `CRYPTO_POLICY`) and of ec2-instance-connect.

use crate::sshd::build::{Build, Family};
use crate::view::{View, follow, read_following};
use bstr::{BString, ByteSlice};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The directories of units, the strongest first.
const UNIT_DIRECTORIES: &[&str] = &[
    "/etc/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
/// The most bytes of one unit or environment file.
const FILE_LIMIT: u64 = 1 << 20;
/// The most words of a command line.
const MAX_WORDS: usize = 10_000;
/// The options of sshd(8) that take a value.
const WITH_VALUE: &[u8] = b"CEbcfghkopu";

/// The values of `-o` that the volume's sshd is started with, in order, as [`super::Config::load`] takes them.
/// Empty where nothing gives any, and where the unit cannot be read.
#[must_use]
pub fn command_line_options(view: &dyn View, build: &Build) -> Vec<BString> {
    let names: &[&str] = match build.family {
        Family::Debian => &["ssh.service", "sshd.service"],
        _ => &["sshd.service", "ssh.service"],
    };
    for name in names {
        if let Some(unit) = Unit::read(view, name) {
            return options_in(&unit.command_line(view));
        }
    }
    // No unit: the environment files of init scripts.
    let mut words = Vec::new();
    for (file, variable) in [("/etc/default/ssh", "SSHD_OPTS"), ("/etc/conf.d/sshd", "SSHD_OPTS")] {
        let mut environment = BTreeMap::new();
        read_environment(view, Path::new(file), &mut environment);
        words.extend(environment.remove(variable.as_bytes()).iter().flat_map(|value| split(value)));
    }
    options_in(&words)
}

/// What of a service matters here.
#[derive(Debug, Default)]
struct Unit {
    command: Option<Vec<u8>>,
    environment: Vec<Vec<u8>>,
    files: Vec<Vec<u8>>,
}

impl Unit {
    fn read(view: &dyn View, name: &str) -> Option<Self> {
        let text = UNIT_DIRECTORIES
            .iter()
            .find_map(|directory| read_following(view, &Path::new(directory).join(name), FILE_LIMIT).ok())?;
        let mut unit = Self::default();
        unit.take(&text);
        // Of drop-ins with the same name the one in the strongest directory counts; they are taken by name.
        let mut drop_ins: BTreeMap<OsString, PathBuf> = BTreeMap::new();
        for directory in UNIT_DIRECTORIES.iter().rev() {
            let directory = Path::new(directory).join(format!("{name}.d"));
            let Ok(found) = follow(view, &directory) else { continue };
            for file in view.list(&found.path).unwrap_or_default() {
                if file.as_encoded_bytes().ends_with(b".conf") {
                    drop_ins.insert(file.clone(), directory.join(file));
                }
            }
        }
        for path in drop_ins.values() {
            if let Ok(text) = read_following(view, path, FILE_LIMIT) {
                unit.take(&text);
            }
        }
        Some(unit)
    }

    /// Takes the lines of section `[Service]`; an empty value clears what came before.
    fn take(&mut self, text: &[u8]) {
        let text = text.replace("\\\n", " ");
        let mut service = false;
        for line in text.lines() {
            let line = line.trim_ascii();
            if line.starts_with(b"[") {
                service = line == b"[Service]";
            }
            let Some((key, value)) = line.split_once_str("=").filter(|_| service) else { continue };
            let value = value.trim_ascii();
            let list = match key.trim_ascii() {
                b"ExecStart" => {
                    if value.is_empty() {
                        self.command = None;
                    } else {
                        self.command.get_or_insert_with(|| value.to_vec());
                    }
                    continue;
                }
                b"Environment" => &mut self.environment,
                b"EnvironmentFile" => &mut self.files,
                _ => continue,
            };
            if value.is_empty() {
                list.clear();
            } else {
                list.push(value.to_vec());
            }
        }
    }

    /// The words of ExecStart, variables replaced.
    fn command_line(&self, view: &dyn View) -> Vec<Vec<u8>> {
        let mut environment = BTreeMap::new();
        for word in self.environment.iter().flat_map(|line| split(line)) {
            if let Some((name, value)) = word.split_once_str("=") {
                environment.insert(name.to_vec(), value.to_vec());
            }
        }
        for file in &self.files {
            let file = file.strip_prefix(b"-").unwrap_or(file);
            if let Ok(path) = file.to_path() {
                read_environment(view, path, &mut environment);
            }
        }
        let mut words = Vec::new();
        for word in split(self.command.as_deref().unwrap_or_default()) {
            match word.strip_prefix(b"$") {
                Some(name) if is_name(name) => {
                    words.extend(environment.get(name).iter().flat_map(|value| split(value)));
                }
                _ => words.push(substitute(&word, &environment).replace("%%", "%")),
            }
            words.truncate(MAX_WORDS);
        }
        words
    }
}

fn is_name(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

/// Replaces `${NAME}` inside a word.
fn substitute(word: &[u8], environment: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<u8> {
    let mut done = Vec::new();
    let mut rest = word;
    while let Some(at) = rest.find(b"${") {
        let name = &rest[at + 2..];
        let Some(end) = name.find_byte(b'}').filter(|&end| is_name(&name[..end])) else { break };
        done.extend_from_slice(&rest[..at]);
        done.extend_from_slice(environment.get(&name[..end]).map_or(b"", Vec::as_slice));
        rest = &name[end + 1..];
    }
    done.extend_from_slice(rest);
    done
}

/// `NAME=value` lines, the value as the shell quotes it.
fn read_environment(view: &dyn View, path: &Path, environment: &mut BTreeMap<Vec<u8>, Vec<u8>>) {
    let text = read_following(view, path, FILE_LIMIT).unwrap_or_default().replace("\\\n", "");
    for line in text.lines() {
        let line = line.trim_ascii();
        if line.starts_with(b"#") || line.starts_with(b";") {
            continue;
        }
        let Some((name, value)) = line.split_once_str("=") else { continue };
        let name = name.trim_ascii();
        if is_name(name) {
            environment.insert(name.to_vec(), unquote(value.trim_ascii()));
        }
    }
}

fn unquote(value: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut quote = None;
    let mut bytes = value.iter().copied();
    while let Some(byte) = bytes.next() {
        match (byte, quote) {
            (b'\\', None | Some(b'"')) => plain.extend(bytes.next()),
            (b'"' | b'\'', None) => quote = Some(byte),
            (byte, Some(open)) if byte == open => quote = None,
            _ => plain.push(byte),
        }
    }
    plain
}

/// Words cut at blanks, with quotes of both kinds and backslashes.
fn split(text: &[u8]) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut quote = None;
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        match (byte, quote) {
            (b' ' | b'\t' | b'\n', None) => words.extend(word.take()),
            (b'\\', None | Some(b'"')) => word.get_or_insert_default().extend(bytes.next()),
            (b'"' | b'\'', None) => {
                quote = Some(byte);
                word.get_or_insert_default();
            }
            (byte, Some(open)) if byte == open => quote = None,
            _ => word.get_or_insert_default().push(byte),
        }
    }
    words.extend(word);
    words
}

/// The values of `-o`, read as getopt(3) reads them; the first word of a command line is the program.
fn options_in(words: &[Vec<u8>]) -> Vec<BString> {
    let mut options = Vec::new();
    let mut words = words.iter().peekable();
    if words.peek().is_some_and(|word| !word.starts_with(b"-")) {
        words.next();
    }
    while let Some(word) = words.next() {
        let Some(letters) = word.strip_prefix(b"-").filter(|letters| !letters.is_empty()) else { break };
        if letters == b"-" {
            break;
        }
        if let Some(at) = letters.iter().position(|letter| WITH_VALUE.contains(letter)) {
            let value = match &letters[at + 1..] {
                [] => words.next().map_or(&b""[..], Vec::as_slice),
                value => value,
            };
            if letters[at] == b'o' {
                options.push(BString::from(value));
            }
        }
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::memory::MemTree;
    use proptest::prelude::*;

    #[test]
    fn the_unit_its_drop_ins_and_environment_give_the_options() {
        let mut tree = MemTree::new();
        let unit =
            b"[Unit]\nX=1\n[Service]\nEnvironmentFile=-/etc/default/ssh\nExecStartPre=/usr/sbin/sshd -t\n\
            ExecStart=/usr/sbin/sshd -D $SSHD_OPTS\n";
        tree.file("/usr/lib/systemd/system/ssh.service", 0o644, 0, 0, unit);
        tree.file("/etc/default/ssh", 0o644, 0, 0, b"# x\nSSHD_OPTS=\"-o UsePAM=no -4\"\n");
        let build = Build::of(Family::Debian, (9, 6));
        assert_eq!(command_line_options(&tree, &build), ["UsePAM=no"]);
        let drop_in = b"[Service]\nExecStart=\nExecStart=/usr/sbin/sshd -D -o \"AuthorizedKeysCommand \
            /usr/share/eic_run_authorized_keys %%u %%f\" -oAuthorizedKeysCommandUser=ec2 $SSHD_OPTS\n";
        tree.file("/usr/lib/systemd/system/ssh.service.d/ec2.conf", 0o644, 0, 0, drop_in);
        let options = command_line_options(&tree, &build);
        assert_eq!(options.len(), 3);
        assert!(options[0].starts_with(b"AuthorizedKeysCommand /usr/share/eic"));
        assert_eq!(options[1..], ["AuthorizedKeysCommandUser=ec2", "UsePAM=no"]);
    }

    #[test]
    fn the_crypto_policy_of_el8_is_an_environment_file() {
        let mut tree = MemTree::new();
        let unit = b"[Service]\nEnvironmentFile=-/etc/crypto-policies/back-ends/opensshserver.config\n\
            EnvironmentFile=-/etc/sysconfig/sshd\nExecStart=/usr/sbin/sshd -D $OPTIONS $CRYPTO_POLICY\n";
        tree.file("/usr/lib/systemd/system/sshd.service", 0o644, 0, 0, unit);
        let policy = b"CRYPTO_POLICY='-oCiphers=aes256-ctr -oPubkeyAcceptedKeyTypes=rsa-sha2-256,ssh-rsa'\n";
        tree.file("/usr/share/crypto-policies/DEFAULT/opensshserver.txt", 0o644, 0, 0, policy);
        tree.link(
            "/etc/crypto-policies/back-ends/opensshserver.config",
            "/usr/share/crypto-policies/DEFAULT/opensshserver.txt",
        );
        let build = Build::of(Family::RedHat, (8, 0));
        let expected = ["Ciphers=aes256-ctr", "PubkeyAcceptedKeyTypes=rsa-sha2-256,ssh-rsa"];
        assert_eq!(command_line_options(&tree, &build), expected);
        tree.file("/etc/sysconfig/sshd", 0o644, 0, 0, b"CRYPTO_POLICY=\n");
        assert!(command_line_options(&tree, &build).is_empty(), "switched off");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(unit: Vec<u8>, environment: Vec<u8>) {
            let mut tree = MemTree::new();
            let unit = [b"[Service]\nEnvironmentFile=/e\nExecStart=x $A ${B".as_slice(), &unit].concat();
            tree.file("/lib/systemd/system/sshd.service", 0o644, 0, 0, &unit);
            tree.file("/e", 0o644, 0, 0, &[b"A=".as_slice(), &environment].concat());
            let _ = command_line_options(&tree, &Build::default());
            let _ = (split(&unit), unquote(&environment));
        }
    }
}
