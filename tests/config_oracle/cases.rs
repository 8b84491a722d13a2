//! The configurations that are tried.

use crate::lines::{LINES, MATCHES};

/// What lies at a path below /etc/ssh.
pub(crate) enum What {
    File(Vec<u8>),
    Link(String),
    Directory,
}

/// One configuration.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) files: Vec<(String, What)>,
    /// How many of the users are asked for.
    pub(crate) who: usize,
}

fn case(name: impl Into<String>, main: impl Into<Vec<u8>>) -> Case {
    Case { name: name.into(), files: vec![("sshd_config".into(), What::File(main.into()))], who: 4 }
}

impl Case {
    fn file(mut self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.files.push((path.into(), What::File(content.into())));
        self
    }

    fn link(mut self, path: &str, target: &str) -> Self {
        self.files.push((path.into(), What::Link(target.into())));
        self
    }

    fn directory(mut self, path: &str) -> Self {
        self.files.push((path.into(), What::Directory));
        self
    }
}

/// What is put behind a Match line, with other values before it.
const BEFORE: &str = "PermitRootLogin no\nAllowUsers a b\nDenyGroups g\nRevokedKeys /r\nForceCommand /f\n\
    AuthorizedKeysFile x y\nMaxAuthTries 3\nAuthenticationMethods publickey\nTrustedUserCAKeys none\n";
const BEHIND: &str = "PermitRootLogin yes\nAllowUsers c\nAllowUsers d\nRevokedKeys none\nForceCommand none\n\
    AuthorizedKeysFile z\nAuthorizedKeysFile w\nMaxAuthTries 4\nMaxAuthTries 5\nAuthenticationMethods password\n\
    TrustedUserCAKeys none\nPubkeyAcceptedKeyTypes +ssh-rsa\nPubkeyAuthentication no\n";

/// What has gone wrong before, or could.
pub(crate) fn traps() -> Vec<Case> {
    let mut cases = Vec::new();
    for line in LINES {
        let alone = |name: &str, main: String| Case { who: 1, ..case(format!("{name}: {line}"), main) };
        cases.push(alone("alone", format!("{line}\n")));
        cases.push(alone("in Match", format!("Match User nomatch\n  {line}\n")));
        cases.push(alone("in Match all", format!("Match all\n  {line}\n{line}\n")));
    }
    for criteria in MATCHES {
        for dns in ["yes", "no"] {
            let main = format!("UseDNS {dns}\n{BEFORE}Match {criteria}\n{BEHIND}");
            cases.push(case(format!("UseDNS {dns}, Match {criteria}"), main));
        }
        let main = format!("Match {criteria}\n{BEHIND}Match all\n{BEFORE}");
        cases.push(case(format!("twice Match {criteria}"), main));
    }
    cases.extend(forms());
    cases.extend(includes());
    cases
}

/// The form of the file.
fn forms() -> Vec<Case> {
    vec![
        case("empty", ""),
        case("no last newline", "UsePAM yes"),
        case("CRLF", "UsePAM yes\r\nPermitRootLogin no\r\nMatch User alice\r\n  MaxAuthTries 1\r\n"),
        case("BOM", "\u{feff}UsePAM yes\n"),
        case("BOM alone", "\u{feff}\nUsePAM yes\n"),
        case("NUL", "UsePAM yes\0junk\nMaxAuthTries 3\n"),
        case("NUL in a comment", "# a\0b\nUsePAM yes\n"),
        case("NUL at the line's end", "UsePAM yes\n\0\nMaxAuthTries 3\n"),
        case("Latin-1", b"Banner /\xe9\nUsePAM yes\n".to_vec()),
        case("binary", (0_u8..=255).collect::<Vec<u8>>()),
        case("form feed", "UsePAM yes\x0c\n\x0cMaxAuthTries 3\n"),
        case("vertical tab", "UsePAM\x0byes\n"),
        case("blanks only", "   \n\t\n \r\n"),
        case("continuation", "UsePAM \\\nyes\n"),
        case("a long line", format!("Banner /{}\nUsePAM yes\n", "x".repeat(20_000))),
        case("a long list", format!("AllowUsers {}\n", "user ".repeat(5_000))),
        case("256 ports", "Port 22\n".repeat(256)),
        case("257 ports", "Port 22\n".repeat(257)),
        case("two MaxStartups", "MaxStartups 10\nMaxStartups 0\n"),
        case("two MaxStartups, the better one last", "MaxStartups 0\nMaxStartups 10\n"),
        case("MaxStartups of three", "MaxStartups 0:40:10\n"),
        case("MaxStartups as if unset", "MaxStartups -1\n"),
        case("MaxStartups below zero", "MaxStartups -5\n"),
        case("two PerSourceMaxStartups", "PerSourceMaxStartups 1\nPerSourceMaxStartups 0\n"),
        case(
            "two PerSourceMaxStartups, the better one last",
            "PerSourceMaxStartups 0\nPerSourceMaxStartups none\n",
        ),
        case(
            "addresses of both families",
            "ListenAddress ::\nListenAddress 127.1\nListenAddress 0.0.0.0:2222\n",
        ),
        case("inet6 alone", "AddressFamily inet6\n"),
        case("IPv6 address for inet", "AddressFamily inet\nListenAddress ::1\n"),
        case("IPv4 address for inet6", "ListenAddress 127.0.0.1\nAddressFamily inet6\n"),
        case("principals' command after keys' command", {
            "AuthorizedKeysCommand /a\nAuthorizedKeysCommandUser a\nAuthorizedPrincipalsCommand /b\n\
             AuthorizedPrincipalsCommandUser b\n"
        }),
        case("principals' command before keys' command", {
            "AuthorizedPrincipalsCommand /b\nAuthorizedPrincipalsCommandUser b\nAuthorizedPrincipalsCommand /c\n\
             AuthorizedKeysCommand /a\nAuthorizedKeysCommandUser a\n"
        }),
        case("command without user in Match", "Match User alice\nAuthorizedKeysCommand /a\n"),
        case("command none without user", "AuthorizedKeysCommand none\n"),
        case("methods not enabled", "AuthenticationMethods password\nPasswordAuthentication no\n"),
        case("methods not enabled in Match", "Match all\nAuthenticationMethods hostbased\n"),
        case("one list enabled", "AuthenticationMethods password publickey\nPasswordAuthentication no\n"),
        case(
            "any over a list",
            "AuthenticationMethods publickey\nMatch User alice\nAuthenticationMethods any\n",
        ),
        case("any in Match", "Match User alice\nAuthenticationMethods any\n"),
        case("a list before any in Match", "Match User alice\nAuthenticationMethods publickey any\n"),
        case("methods twice", "AuthenticationMethods publickey\nAuthenticationMethods nonsense\n"),
        case("bad methods in Match over a list", {
            "AuthenticationMethods publickey\nMatch User alice\nAuthenticationMethods nonsense\n"
        }),
        case("two subsystems", "Subsystem sftp /a\nSubsystem sftp /b\n"),
        case("two subsystems, one in Match all", "Subsystem sftp /a\nMatch all\nSubsystem sftp /b\n"),
        case("none of the algorithms in Match", "Match User alice\nPubkeyAcceptedKeyTypes RSA\n"),
        case("appended after a Match", "Match User alice\n  MaxAuthTries 1\nUsePAM yes\n"),
        case("appended after Match all", "Match all\nUsePAM yes\nPort 2022\nCiphers aes256-ctr\n"),
        case(
            "lists add up",
            "AllowUsers a\nAllowUsers b c\nMatch all\nAllowUsers d\nMatch User alice\nAllowUsers e\n",
        ),
        case("host keys", "HostKey /etc/ssh/ssh_host_ed25519_key\nHostKey none\nHostKey ~/k\nHostKey k\n"),
    ]
}

/// Include.
fn includes() -> Vec<Case> {
    let include = |name: &str, before: &str, after: &str| {
        case(name, format!("{before}Include sshd_config.d/*.conf\n{after}"))
    };
    let nested = |depth: usize| {
        let mut nest = case(format!("include {depth} deep"), "Include f1\n");
        for number in 1..=depth {
            let content = if number == depth {
                "MaxAuthTries 3\n".to_owned()
            } else {
                format!("Include f{}\n", number + 1)
            };
            nest = nest.file(&format!("f{number}"), content);
        }
        nest
    };
    vec![
        include("nothing to include", "", "UsePAM yes\n"),
        include("first wins", "", "MaxAuthTries 9\n").file("sshd_config.d/a.conf", "MaxAuthTries 3\n"),
        include("too late", "MaxAuthTries 9\n", "").file("sshd_config.d/a.conf", "MaxAuthTries 3\n"),
        include("order", "", "")
            .file("sshd_config.d/9.conf", "MaxAuthTries 9\n")
            .file("sshd_config.d/10.conf", "MaxAuthTries 10\n"),
        include("case order", "", "")
            .file("sshd_config.d/a.conf", "MaxAuthTries 3\n")
            .file("sshd_config.d/Z.conf", "MaxAuthTries 4\n"),
        include("dot files and other names", "", "")
            .file("sshd_config.d/.a.conf", "Nonsense\n")
            .file("sshd_config.d/b.conf.bak", "Nonsense\n")
            .file("sshd_config.d/b", "Nonsense\n"),
        include("dangling", "", "").link("sshd_config.d/a.conf", "/nowhere"),
        include("a loop of links", "", "").link("sshd_config.d/a.conf", "a.conf"),
        include("a link", "", "").link("sshd_config.d/a.conf", "../real").file("real", "MaxAuthTries 3\n"),
        include("a link to /dev/null", "", "").link("sshd_config.d/a.conf", "/dev/null"),
        include("a directory", "", "").directory("sshd_config.d/a.conf"),
        include("a directory that is a file", "", "").file("sshd_config.d", "Nonsense\n"),
        include("an error inside", "", "").file("sshd_config.d/a.conf", "UsePAM yes\nNonsense x\n"),
        include("a Match inside ends there", "", "UsePAM yes\n")
            .file("sshd_config.d/a.conf", "Match User alice\nMaxAuthTries 3\n"),
        include("two with Match", "", "MaxAuthTries 9\n")
            .file("sshd_config.d/a.conf", "Match User alice\nMaxAuthTries 3\n")
            .file("sshd_config.d/b.conf", "MaxSessions 2\nMatch User bob\nMaxAuthTries 4\n"),
        include("in a Match that matches", "Match User alice\n", "MaxSessions 3\n").file(
            "sshd_config.d/a.conf",
            "MaxAuthTries 3\nMatch User bob\nMaxAuthTries 4\nMatch all\nMaxSessions 5\n",
        ),
        include("in a Match that does not", "Match User carol\n", "MaxSessions 3\n").file(
            "sshd_config.d/a.conf",
            "MaxAuthTries 3\nMatch User bob\nMaxAuthTries 4\nMatch all\nMaxSessions 5\n",
        ),
        include("global keyword included in a Match", "Match User alice\n", "")
            .file("sshd_config.d/a.conf", "UsePAM yes\n"),
        include("Match all included in a Match", "Match User alice\n", "MaxAuthTries 2\n")
            .file("sshd_config.d/a.conf", "Match all\nUsePAM yes\n"),
        include("Match all at the end of an included file", "", "UsePAM yes\n")
            .file("sshd_config.d/a.conf", "Match User alice\nMaxAuthTries 3\nMatch all\n"),
        include("included twice", "Include sshd_config.d/*.conf\n", "")
            .file("sshd_config.d/a.conf", "AllowUsers alice\n"),
        include("included by one of its files", "", "")
            .file("sshd_config.d/a.conf", "AllowUsers alice\n")
            .file("sshd_config.d/b.conf", "AllowUsers bob\nInclude sshd_config.d/*.conf\n"),
        include("included by the first of its files", "", "")
            .file("sshd_config.d/a.conf", "AllowUsers alice\nInclude sshd_config.d/*.conf\n")
            .file("sshd_config.d/b.conf", "AllowUsers bob\n"),
        include("unreadable behind an error", "", "")
            .file("sshd_config.d/a.conf", "Nonsense\n")
            .link("sshd_config.d/b.conf", "/nowhere"),
        case("itself", "UsePAM yes\nInclude sshd_config\n"),
        case("itself in a Match", "Match User alice\nInclude sshd_config\n"),
        case("two words", "Include a b\n").file("a", "MaxAuthTries 3\n").file("b", "MaxSessions 3\n"),
        case("quoted", "Include \"a b\"\n").file("a b", "MaxAuthTries 3\n"),
        case("brackets", "Include [a-b]?\n").file("a1", "MaxAuthTries 3\n").file("c1", "Nonsense\n"),
        case("a class", "Include [[:digit:]]x\n").file("1x", "MaxAuthTries 3\n").file("ax", "Nonsense\n"),
        case("escaped", "Include a\\*\n").file("a*", "MaxAuthTries 3\n").file("ab", "Nonsense\n"),
        case("tilde", "Include ~/x\n"),
        case("dots", "Include ../ssh/./a\n").file("a", "MaxAuthTries 3\n"),
        case("a directory by name", "Include sshd_config.d\n").directory("sshd_config.d"),
        case("a trailing slash", "Include a/\n").file("a", "Nonsense\n"),
        case("a comment behind", "Include a # b\n").file("a", "MaxAuthTries 3\n").file("b", "Nonsense\n"),
        case("wild directories", "Include */x.conf\n")
            .file("d1/x.conf", "MaxAuthTries 3\n")
            .file("d2/x.conf", "X\n"),
        nested(15),
        nested(16),
        nested(17),
    ]
}

/// A small generator of random numbers (xorshift), so that a seed gives the same configurations everywhere.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or(0) % bound
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

/// Configurations by chance.
pub(crate) fn generated() -> Vec<Case> {
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
    };
    let (first, count) = (number("VOLRESCUE_SEED", 1), number("VOLRESCUE_CONFIGS", 400));
    (first..first + count).map(|seed| random(&mut Random::new(seed), seed)).collect()
}

fn random(random: &mut Random, seed: u64) -> Case {
    let mut made = case(format!("seed {seed}"), lines(random, 12));
    for name in ["sshd_config.d/a.conf", "sshd_config.d/b.conf", "extra"] {
        if random.one_in(2) {
            made = made.file(name, lines(random, 5));
        }
    }
    if random.one_in(25) {
        made =
            made.link("sshd_config.d/c.conf", random.pick(&["/nowhere", "a.conf", "../extra", "/dev/null"]));
    }
    made
}

fn lines(random: &mut Random, most: usize) -> Vec<u8> {
    let mut text = Vec::new();
    for _ in 0..=random.below(most) {
        let line = if random.one_in(6) {
            format!("Match {}", criteria(random))
        } else if random.one_in(9) {
            let what = ["sshd_config.d/*.conf", "/etc/ssh/extra", "sshd_config.d/a.conf extra", "none/*"];
            format!("Include {}", random.pick(&what))
        } else {
            keyword_line(random)
        };
        if random.one_in(3) {
            text.extend_from_slice(random.pick(&["  ", "\t", "\r"]).as_bytes());
        }
        let line = match random.below(12) {
            0 => line.replacen(' ', "=", 1),
            1 => line.replacen(' ', "\t ", 1),
            2 => line.to_uppercase().replacen("MATCH USER ALICE", "MATCH USER alice", 1),
            _ => line,
        };
        text.extend_from_slice(line.as_bytes());
        text.extend_from_slice(match random.below(30) {
            0 => b" # comment\n",
            1 => b"\r\n",
            2 => b"  \n",
            3 => b"\0rest\n",
            4 if !line.contains("HOSTKEY") && !line.contains("HostKey") => b"#x\n",
            5 => b"\n\n# comment \"\n",
            _ => b"\n",
        });
    }
    if random.one_in(10) {
        text.pop();
    }
    text
}

fn criteria(random: &mut Random) -> String {
    let mut text = String::new();
    for _ in 0..=random.below(2) {
        if random.one_in(4) {
            text += &MATCHES[random.below(MATCHES.len())].replace("ALL", "all");
        } else {
            text +=
                random.pick(&["User alice", "User bob,root", "Group wheel", "Address 10.0.0.0/8", "User *"]);
        }
        text += " ";
        if text.starts_with("all") {
            break;
        }
    }
    text.trim_end().to_owned()
}

fn keyword_line(random: &mut Random) -> String {
    const GOOD: &[&str] = &[
        "UsePAM yes",
        "UsePAM no",
        "StrictModes no",
        "UseDNS yes",
        "PubkeyAuthentication no",
        "PubkeyAuthentication yes",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "ChallengeResponseAuthentication no",
        "ChallengeResponseAuthentication yes",
        "GSSAPIAuthentication yes",
        "HostbasedAuthentication yes",
        "PermitRootLogin yes",
        "PermitRootLogin no",
        "PermitRootLogin forced-commands-only",
        "PermitRootLogin prohibit-password",
        "AuthorizedKeysFile .ssh/authorized_keys",
        "AuthorizedKeysFile none",
        "AuthorizedKeysFile /etc/ssh/keys/%u ~/k",
        "AuthorizedKeysFile \"a b\" c",
        "AuthorizedKeysCommand /usr/bin/keys %u",
        "AuthorizedKeysCommand none",
        "AuthorizedKeysCommandUser nobody",
        "AuthorizedPrincipalsFile none",
        "AuthorizedPrincipalsFile .ssh/p",
        "AuthorizedPrincipalsCommandUser nobody",
        "TrustedUserCAKeys /etc/ssh/ca",
        "TrustedUserCAKeys none",
        "RevokedKeys /etc/ssh/revoked",
        "RevokedKeys none",
        "AllowUsers alice bob",
        "AllowUsers root@10.0.0.0/8 *@*.example.com",
        "DenyUsers eve mallory",
        "AllowGroups wheel",
        "DenyGroups users",
        "AuthenticationMethods publickey",
        "AuthenticationMethods publickey,password password",
        "PubkeyAcceptedKeyTypes +ssh-rsa",
        "PubkeyAcceptedKeyTypes -ecdsa*",
        "PubkeyAcceptedKeyTypes ^rsa-sha2-256",
        "PubkeyAcceptedKeyTypes ssh-ed25519,rsa-*",
        "CASignatureAlgorithms -rsa*",
        "HostKeyAlgorithms ssh-ed25519,rsa-sha2-512",
        "Ciphers aes256-ctr,aes128-ctr",
        "Ciphers +aes256-cbc",
        "MACs -umac*",
        "KexAlgorithms -diffie*",
        "ForceCommand /bin/true \"a b\"",
        "ForceCommand none",
        "ChrootDirectory /srv/%u",
        "ChrootDirectory none",
        "MaxAuthTries 2",
        "MaxAuthTries 6",
        "MaxSessions 0",
        "PermitUserEnvironment yes",
        "Port 22",
        "Port 2222",
        "HostKey /etc/ssh/ssh_host_ed25519_key",
        "LogLevel VERBOSE",
        "AcceptEnv LANG LC_*",
        "X11Forwarding yes",
        "Subsystem sftp internal-sftp",
        "Banner none",
        "PermitOpen any",
        "ClientAliveInterval 2m",
        "ListenAddress 127.0.0.1",
        "ListenAddress ::",
        "AddressFamily any",
        "MaxStartups 5:50:60",
        "Compression no",
    ];
    if random.one_in(70) {
        LINES[random.below(LINES.len())].to_owned()
    } else {
        GOOD[random.below(GOOD.len())].to_owned()
    }
}
