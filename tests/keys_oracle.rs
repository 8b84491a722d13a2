//! Keys against the programs that make and read them: ssh-keygen, puttygen, and the helper's sshd. Needs root (sshd
//! logs in root, with a configuration of its own) and the packages openssh-client, openssh-server and
//! putty-tools.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "the tests run the programs that they compare with"
)]

use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use volrescue::keys::algorithms::accepted_by;
use volrescue::keys::authorized_keys::{Line, append, parse};
use volrescue::keys::{KeyForm, PublicKey, generate_ed25519, read_key};
use volrescue::sshd::Build;
use volrescue::sshd::build::Family;

/// A fresh directory.
fn fresh(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("keys").join(name);
    if path.exists() {
        fs::remove_dir_all(&path).unwrap();
    }
    fs::create_dir_all(&path).unwrap();
    path
}

/// Runs a program that must be there and succeed; its output.
fn run(directory: &Path, program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(directory).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| {
        panic!("{program} can't be run ({error}): install openssh-client, openssh-server and putty-tools")
    });
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn keys(content: &[u8]) -> Vec<PublicKey> {
    match read_key(content) {
        Ok(KeyForm::Public(keys)) => keys,
        other => panic!("{other:?}"),
    }
}

/// Every kind of key that ssh-keygen makes without a security key in reach.
const KINDS: [(&str, &str); 7] = [
    ("ed25519", "256"),
    ("rsa", "1024"),
    ("rsa", "3072"),
    ("rsa", "4096"),
    ("ecdsa", "256"),
    ("ecdsa", "384"),
    ("ecdsa", "521"),
];

fn generate(directory: &Path, kind: (&str, &str), passphrase: &str, extra: &[&str]) -> String {
    let name = format!("{}-{}", kind.0, kind.1);
    let fixed = ["-q", "-t", kind.0, "-b", kind.1, "-N", passphrase, "-C", "me@there", "-f", &name];
    run(directory, "ssh-keygen", &[&fixed[..], extra].concat());
    name
}

fn fingerprint(directory: &Path, file: &str) -> String {
    run(directory, "ssh-keygen", &["-l", "-f", file]).split(' ').nth(1).unwrap().to_owned()
}

#[test]
fn public_private_and_exported_keys_have_the_fingerprint_of_ssh_keygen() {
    let directory = fresh("forms");
    for kind in KINDS {
        let name = generate(&directory, kind, "", &[]);
        let public = fs::read(directory.join(format!("{name}.pub"))).unwrap();
        let wanted = keys(&public).remove(0);
        assert_eq!(wanted.fingerprint(), fingerprint(&directory, &name), "{name}");
        assert_eq!([wanted.to_line(), b"\n".to_vec()].concat(), public, "{name}");
        if kind.0 == "rsa" {
            assert_eq!(wanted.rsa_bits().unwrap().to_string(), kind.1);
        }
        assert_eq!(keys(&fs::read(directory.join(&name)).unwrap()), std::slice::from_ref(&wanted), "{name}");
        let exported = run(&directory, "ssh-keygen", &["-e", "-f", &name]);
        assert!(keys(exported.as_bytes())[0].same_key(&wanted), "{name}");
        for form in ["RFC4716", "PEM", "PKCS8"] {
            if kind.0 == "rsa" && form != "RFC4716" {
                let exported = run(&directory, "ssh-keygen", &["-e", "-m", form, "-f", &name]);
                assert!(
                    read_key(exported.as_bytes()).unwrap_err().contains("ssh-keygen -i"),
                    "{name} {form}"
                );
            }
        }
        run(&directory, "ssh-keygen", &["-p", "-q", "-P", "", "-N", "secret", "-f", &name]);
        let locked = keys(&fs::read(directory.join(&name)).unwrap());
        assert!(locked[0].same_key(&wanted), "{name} with a passphrase");
    }
}

#[test]
fn pem_private_keys_are_left_to_ssh_keygen() {
    let directory = fresh("pem");
    for kind in [("rsa", "2048"), ("ecdsa", "256")] {
        for (form, passphrase) in [("PEM", ""), ("PEM", "secret"), ("PKCS8", ""), ("PKCS8", "secret")] {
            let name = generate(&directory, kind, passphrase, &["-m", form]);
            let text = fs::read(directory.join(&name)).unwrap();
            assert!(matches!(read_key(&text), Ok(KeyForm::NeedsSshKeygen)), "{name} {form}");
            fs::remove_file(directory.join(&name)).unwrap();
            fs::remove_file(directory.join(format!("{name}.pub"))).unwrap();
        }
    }
}

#[test]
fn putty_s_files_have_the_same_key() {
    let directory = fresh("putty");
    fs::write(directory.join("phrase"), "secret\n").unwrap();
    fs::write(directory.join("none"), "").unwrap();
    for kind in KINDS {
        let name = generate(&directory, kind, "", &[]);
        let wanted = keys(&fs::read(directory.join(format!("{name}.pub"))).unwrap()).remove(0);
        for version in ["version=2", "version=3"] {
            for phrase in ["none", "phrase"] {
                let arguments = [
                    &name,
                    "-O",
                    "private",
                    "--ppk-param",
                    version,
                    "--new-passphrase",
                    phrase,
                    "-o",
                    "k.ppk",
                ];
                run(&directory, "puttygen", &arguments);
                let text = fs::read(directory.join("k.ppk")).unwrap();
                assert_eq!(keys(&text), std::slice::from_ref(&wanted), "{name} {version} {phrase}");
                let windows = String::from_utf8(text).unwrap().replace('\n', "\r\n");
                assert_eq!(keys(windows.as_bytes()), std::slice::from_ref(&wanted), "{name} {version} CRLF");
            }
        }
        for form in ["public", "public-openssh"] {
            run(&directory, "puttygen", &[&name, "-O", form, "-o", "k.pub"]);
            let text = fs::read(directory.join("k.pub")).unwrap();
            assert_eq!(keys(&text), std::slice::from_ref(&wanted), "{name} {form}");
        }
    }
}

#[test]
fn a_certificate_says_what_ssh_keygen_says() {
    let directory = fresh("certificates");
    let ca = generate(&directory, ("ecdsa", "384"), "", &[]);
    for kind in [("ed25519", "256"), ("rsa", "2048"), ("ecdsa", "256")] {
        let name = generate(&directory, kind, "", &[]);
        let fixed = [
            "-q",
            "-s",
            &ca,
            "-I",
            "the id",
            "-z",
            "42",
            "-n",
            "a,b",
            "-V",
            "20240101000000Z:20300101000000Z",
        ];
        let options = ["-O", "force-command=exit 3", "-O", "source-address=10.0.0.0/8", &name];
        run(&directory, "ssh-keygen", &[&fixed[..], &options].concat());
        let public = format!("{name}-cert.pub");
        let key = keys(&fs::read(directory.join(&public)).unwrap()).remove(0);
        assert_eq!(key.fingerprint(), fingerprint(&directory, &public));
        let certificate = key.certificate().unwrap();
        assert_eq!(certificate.key.fingerprint(), fingerprint(&directory, &name));
        assert_eq!(certificate.ca.fingerprint(), fingerprint(&directory, &ca));
        assert_eq!((certificate.key_id.as_slice(), certificate.serial), (&b"the id"[..], 42));
        assert_eq!(certificate.principals, ["a", "b"]);
        assert_eq!((certificate.valid_after, certificate.valid_before), (1_704_067_200, 1_893_456_000));
        let critical: Vec<String> =
            certificate.critical_options.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(critical, ["force-command=exit 3", "source-address=10.0.0.0/8"]);
        assert!(certificate.extensions.iter().any(|(name, value)| name == "permit-pty" && value.is_empty()));
        assert_eq!(certificate.signature_algorithm, "ecdsa-sha2-nistp384");
    }
}

#[test]
fn a_generated_pair_is_good_to_ssh_keygen() {
    let directory = fresh("generated");
    let (private, public) = generate_ed25519("rescue").unwrap();
    private.write(|text| fs::write(directory.join("k"), text)).unwrap();
    run(&directory, "chmod", &["600", "k"]);
    let line = run(&directory, "ssh-keygen", &["-y", "-f", "k"]);
    assert_eq!(line.trim_end().as_bytes(), public.to_line());
}

/// The helper's own sshd, as inetd would run it: one process for each connection, from 127.0.0.1.
struct Sshd {
    directory: PathBuf,
    build: Build,
    key: PublicKey,
}

impl Sshd {
    fn new(name: &str, kind: (&str, &str)) -> Self {
        let directory = fresh(name);
        let key_name = generate(&directory, kind, "", &[]);
        run(&directory, "ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", "host"]);
        let at = directory.display();
        let config =
            format!("HostKey {at}/host\nStrictModes no\nUsePAM no\nPidFile none\nPermitRootLogin yes\n");
        fs::write(directory.join("config"), config).unwrap();
        fs::rename(directory.join(&key_name), directory.join("k")).unwrap();
        let public = fs::read(directory.join(format!("{key_name}.pub"))).unwrap();
        // A container has no unit that made it.
        let _ = fs::create_dir("/run/sshd");
        let output = Command::new("ssh").arg("-V").output().expect("install openssh-client");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let mut numbers = text.trim_start_matches("OpenSSH_").split(|char: char| !char.is_ascii_digit());
        let mut number = || numbers.next().unwrap().parse().unwrap();
        let build = Build::of(Family::Debian, (number(), number()));
        Self { directory, build, key: keys(&public).remove(0) }
    }

    /// Does sshd accept the key with this content, put into this file, and with these settings?
    fn accepts(&self, content: &[u8], file: &str, settings: &[&str]) -> bool {
        let file = self.directory.join(file);
        fs::write(&file, content).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let mut ssh = Command::new("ssh");
        ssh.args([
            "-v",
            "-F",
            "none",
            "-i",
            "k",
            "-o",
            "BatchMode=yes",
            "-o",
            "IdentitiesOnly=yes",
            "-p",
            &port,
        ]);
        ssh.args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]);
        ssh.args([
            "-o",
            "KexAlgorithms=curve25519-sha256",
            "-o",
            "IdentityAgent=none",
            "root@127.0.0.1",
            "true",
        ]);
        ssh.current_dir(&self.directory).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let ssh = ssh.spawn().expect("install openssh-client");
        let connection = OwnedFd::from(listener.accept().unwrap().0);
        let mut sshd = Command::new("/usr/sbin/sshd");
        sshd.args(["-i", "-f"]).arg(self.directory.join("config")).stderr(Stdio::null());
        sshd.arg("-o").arg(format!("AuthorizedKeysFile={}", file.display()));
        for setting in settings {
            sshd.args(["-o", setting]);
        }
        sshd.stdin(connection.try_clone().unwrap()).stdout(connection);
        let mut server = sshd.spawn().expect("install openssh-server");
        drop(sshd);
        let output = ssh.wait_with_output().unwrap();
        server.wait().unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        let (yes, no) = (log.contains("Authenticated to"), log.contains("Permission denied"));
        assert!(yes != no, "sshd did not decide (it needs root, and the package openssh-server): {log}");
        yes
    }

    /// Do we think that it does?
    fn expected(&self, content: &[u8]) -> bool {
        parse(content, &self.build).iter().any(|(_, line)| {
            let Line::Key(line) = line else { return false };
            let options = line.options.as_ref().is_ok_and(|options| {
                !options.cert_authority
                    && options.from_problem().is_none()
                    // Of the lists here only this one names the client in order to refuse it.
                    && options.from.as_ref().is_none_or(|list| !list.starts_with(b"!127"))
                    && options.expiry.is_none_or(|time| time > 1_800_000_000)
            });
            line.key.same_key(&self.key) && options
        })
    }
}

#[test]
fn lines_are_accepted_exactly_when_sshd_accepts_them() {
    let sshd = Sshd::new("lines", ("ed25519", "256"));
    let line = String::from_utf8(sshd.key.to_line()).unwrap();
    let (name, blob) = ("ssh-ed25519", line.split(' ').nth(1).unwrap());
    let with = |options: &str| format!("{options} {line}\n").into_bytes();
    let mut contents: Vec<Vec<u8>> = vec![
        line.clone().into(),
        format!("{line}\r\n").into(),
        format!("{name} {blob}\r\n").into(),
        format!("{name}\t \t{blob}\tcomment\n").into(),
        format!("\r{line}\n").into(),
        format!("\x0b{line}\n").into(),
        format!("\u{a0}{line}\n").into(),
        format!("\u{feff}{line}\n").into(),
        format!("{name} {blob}=\n").into(),
        format!("{name} {blob}A\n").into(),
        format!("{name} {blob}AAAA\n").into(),
        format!("{name} {blob}#comment\n").into(),
        format!("{name} {}\x0b{} x\n", &blob[..20], &blob[20..]).into(),
        format!("{name} {}\r{} x\n", &blob[..20], &blob[20..]).into(),
        format!("{name} {name} {blob}\n").into(),
        format!("ssh-rsa {blob}\n").into(),
        format!("{blob}\n").into(),
        format!("ed25519 {blob}\n").into(),
        format!("SSH-ED25519 {blob}\n").into(),
        format!("{line}\0junk\n").into(),
        format!("{name} {blob}\0\n").into(),
        format!("{name}\0 {blob}\n").into(),
        format!("\0{line}\n").into(),
        format!("# a\0b\n{line}\n").into(),
        format!("junk {line}\n{line}\n").into(),
        format!("{}\n{line}", "x".repeat(70_000)).into(),
        format!("{line}{}\n", "x".repeat(70_000)).into(),
        format!("{name} {blob}{name} {blob}\n").into(),
        append(b"", &[sshd.key.to_line()]),
        append(b"x\0\0", &[sshd.key.to_line()]),
        append(b"command=\"", &[sshd.key.to_line()]),
    ];
    contents.extend(
        [
            "no-pty",
            "NO-PTY,No-User-RC",
            ",no-pty",
            "no-pty,,no-user-rc",
            "no-pty,",
            ",",
            "no-pty, no-user-rc",
            "no-ptyx",
            "no-pty\t",
            "restrict,pty",
            "no-restrict",
            "no-cert-authority",
            "cert-authority",
            "cert-authority,principals=\"root\"",
            "principals=\"root\"",
            "touch-required",
            "no-touch-required,verify-required",
            "command=\"true\"",
            "command=\"a \\\"b\\\" # c\"",
            "command=\"a\\\\\"",
            "command=\"\"",
            "command=\"a\",command=\"b\"",
            "command='true'",
            "command=true",
            "command",
            "COMMAND=\"true\"",
            "from=\"*\"",
            "from=\"!127.0.0.1,*\"",
            "from=\"10.0.0.0/8,127.0.0.0/8\"",
            "from=\"127.0.0.1\"",
            "from=\"\"",
            "from=\"!*\"",
            "from=\"*,\"",
            "from=\"*,127.0.0.1/8\"",
            "from=\"127.0.0.0/8,*\"",
            "from=\"127.0.0.0/40,*\"",
            "from=\"x/y,*\"",
            "from=\"*\",from=\"*\"",
            "expiry-time=\"20990101\"",
            "expiry-time=\"20990101Z\"",
            "expiry-time=\"209901011200utc\"",
            "expiry-time=\"20991301\"",
            "expiry-time=\"20990231\"",
            "expiry-time=\"2099010112\"",
            "expiry-time=\"20990101246060\"",
            "expiry-time=\"20990101235961\"",
            "expiry-time=\"20990101235962\"",
            "expiry-time=\"2099-01-01\"",
            "expiry-time=\"20200101\"",
            "expiry-time=\"20990101\",expiry-time=\"20200101\"",
            "expiry-time=\"19700101000000Z\"",
            "expiry-time=\"19691231235959Z\"",
            "environment=\"A=b\"",
            "environment=\"A-B=c\"",
            "environment=\"=b\"",
            "environment=\"A\"",
            "environment=\"A=b\",environment=\"A=c\"",
            "permitopen=\"h:80\",permitopen=\"[::1]:*\"",
            "permitopen=\"h\"",
            "permitopen=\"h:0\"",
            "permitopen=\"h:65536\"",
            "permitopen=\"h:+1\"",
            "permitopen=\"h:ssh\"",
            "permitopen=\":80\"",
            "permitopen=\"[x:80\"",
            "permitopen=\"h/80\"",
            "permitlisten=\"80\"",
            "permitlisten=\"*\"",
            "permitlisten=\"h:80\"",
            "permitlisten=\"\"",
            "tunnel=\"0\"",
            "tunnel=\"any\"",
            "tunnel=\"-1\"",
            "tunnel=\"2147483645\"",
            "tunnel=\"2147483646\"",
            "tunnel=\"x\"",
            "nosuch",
            "nosuch=\"x\"",
            "\"no-pty\"",
            "no-pty=\"x\"",
            "-",
        ]
        .map(with),
    );
    let wrong = std::thread::scope(|scope| {
        let check = |(slot, part): (usize, &[Vec<u8>])| {
            let mut wrong = Vec::new();
            for content in part {
                let expected = sshd.expected(content);
                if sshd.accepts(content, &format!("lines-{slot}"), &[]) != expected {
                    wrong.push(format!(
                        "we say {expected}: {}",
                        String::from_utf8_lossy(&content[..content.len().min(120)])
                    ));
                }
            }
            wrong
        };
        let parts = contents.chunks(contents.len().div_ceil(4)).enumerate();
        let threads: Vec<_> = parts.map(|part| scope.spawn(move || check(part))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<String>>()
    });
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), contents.len(), wrong.join("\n"));
}

#[test]
fn rsa_lines_are_accepted_exactly_when_sshd_accepts_them() {
    for (bits, words) in
        [("2048", ["ssh-rsa", "rsa-sha2-256", "rsa"]), ("1024", ["ssh-rsa", "rsa-sha2-512", "SSH-RSA"])]
    {
        let sshd = Sshd::new(&format!("rsa-{bits}"), ("rsa", bits));
        let line = String::from_utf8(sshd.key.to_line()).unwrap();
        for word in words {
            let content = line.replacen("ssh-rsa", word, 1);
            assert_eq!(
                sshd.expected(content.as_bytes()),
                sshd.accepts(content.as_bytes(), "lines", &[]),
                "{word} {bits}"
            );
        }
    }
}

#[test]
fn a_list_of_algorithms_accepts_what_sshd_accepts() {
    let lists = [
        "rsa-sha2-256",
        "rsa-sha2-512",
        "ssh-rsa",
        "rsa-sha2-*",
        "ssh-ed25519",
        "ssh-*",
        "rsa-sha2-256,rsa-sha2-512",
    ];
    for kind in [("rsa", "2048"), ("ed25519", "256")] {
        let sshd = Sshd::new(&format!("algorithms-{}", kind.0), kind);
        for list in lists {
            let setting = format!("PubkeyAcceptedKeyTypes={list}");
            let accepted = sshd.accepts(&sshd.key.to_line(), "lines", &[&setting]);
            assert_eq!(accepted_by(&[list.to_owned()], &sshd.key, &sshd.build), accepted, "{list} {kind:?}");
        }
    }
}

#[test]
fn types_that_need_a_security_key_are_read_like_ssh_keygen_reads_them() {
    let directory = fresh("sk");
    let string = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
    let ed25519: Vec<u8> = [&b"sk-ssh-ed25519@openssh.com"[..], &[9; 32], b"ssh:"]
        .iter()
        .flat_map(|field| string(field))
        .collect();
    let key = PublicKey::from_blob(ed25519).unwrap();
    fs::write(directory.join("k.pub"), key.to_line()).unwrap();
    assert_eq!(fingerprint(&directory, "k.pub"), key.fingerprint());
    assert!(keys(&key.to_line())[0].same_key(&key));
}
