//! Mutations with parameters, drawn at random: what an administrator, a tool or a damaged disk could have left.

use super::Mutation;
use crate::kit::random::Random;

/// One mutation, by a generator that is drawn as well.
pub(super) fn mutation(random: &mut Random) -> Mutation {
    let (touches, shell) = match random.below(16) {
        0 | 1 => ("modes", mode(random)),
        2 => ("modes", owner(random)),
        3 => ("modes", acl(random)),
        4 | 5 => ("config", config(random)),
        6 => ("match", matching(random)),
        7 => ("include", include(random)),
        8 => ("keys", options(random)),
        9 => ("keys", damage(random)),
        10 => ("passwd", passwd(random)),
        11 => ("shadow", shadow(random)),
        12 => ("group", group(random)),
        13 => ("links", link(random)),
        _ => ("pam", pam(random)),
    };
    Mutation { touches, name: "generated".into(), shell }
}

fn pick<'a>(random: &mut Random, list: &[&'a str]) -> &'a str {
    list[random.below(list.len())]
}

/// For the shell, in single quotes.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

const PATHS: &[&str] = &[
    "$R",
    "$R/home",
    "$H",
    "$H",
    "$H/.ssh",
    "$H/.ssh",
    "$A",
    "$A",
    "$A",
    "$R/etc",
    "$R/etc/ssh",
    "$C",
    "$R/etc/ssh/sshd_config.d",
    "$R/etc/passwd",
    "$R/etc/shadow",
    "$R/etc/group",
    "$R/etc/pam.d",
    "$R/etc/pam.d/sshd",
    "$R/etc/pam.d/common-account",
    "$R/etc/security",
    "$R/etc/ssh/ssh_host_rsa_key",
    "$R/etc/ssh/ssh_host_ecdsa_key",
    "$R/etc/ssh/ssh_host_ed25519_key",
    "$R/etc/nsswitch.conf",
    "$R/usr",
    "$R/usr/bin",
    "$R/usr/bin/bash",
    "$R/root",
    "$R/root/.ssh",
    "$R/root/.ssh/authorized_keys",
];

fn mode(random: &mut Random) -> String {
    // Most of the bits of a healthy mode, one or two of them turned.
    let base = [0o755, 0o700, 0o600, 0o644, 0o640, 0o711, 0o775][random.below(7)];
    let turned = (0..random.below(3)).fold(base, |mode: u32, _| mode ^ (1 << random.below(12)));
    let any = random.next() as u32 & 0o7777;
    let mode = if random.below(5) == 0 { any } else { turned };
    format!("chmod {mode:04o} {}", pick(random, PATHS))
}

fn owner(random: &mut Random) -> String {
    let user = pick(random, &["0", "$I", "12345", "65534", "1", "$I"]);
    let group = pick(random, &["0", "$G", "100", "27", "12345", "1"]);
    let recursive = if random.below(5) == 0 { "-R " } else { "" };
    format!("chown {recursive}{user}:{group} {}", pick(random, PATHS))
}

fn acl(random: &mut Random) -> String {
    let who = pick(
        random,
        &["u:12345", "u:$I", "g:100", "g:27", "g:$G", "m:", "o:", "u:", "g:", "u:1", "d:u:12345"],
    );
    let may = pick(random, &["---", "r--", "rw-", "r-x", "rwx", "--x", "-w-"]);
    format!("setfacl -n -m {who}:{may} {}", pick(random, PATHS)).replace("-n -m m:", "-m m:")
}

const KEYWORDS: &[(&str, &[&str])] = &[
    ("PubkeyAuthentication", &["yes", "no", "YES", "true", "", "\"yes\"", "no # x"]),
    ("UsePAM", &["yes", "no", "No", "1"]),
    ("StrictModes", &["yes", "no"]),
    (
        "PermitRootLogin",
        &["yes", "no", "without-password", "prohibit-password", "forced-commands-only", "maybe"],
    ),
    (
        "AllowUsers",
        &[
            "admin",
            "root",
            "admin root",
            "admin,root",
            "adm*",
            "*",
            "!admin *",
            "admin@127.0.0.1",
            "admin@localhost",
            "admin@10.0.0.0/8",
            "root admin@127.0.0.0/8",
            "admin@!127.0.0.1,*",
            "\"admin\"",
            "ADMIN",
            "a?min",
        ],
    ),
    (
        "DenyUsers",
        &["admin", "root", "nobody", "adm*", "*@127.0.0.1", "!admin", "admin@10.*", "admin@!10.*,*"],
    ),
    ("AllowGroups", &["admin", "sudo", "adm root", "nogroup", "s*", "admin,sudo", "!sudo *"]),
    ("DenyGroups", &["admin", "sudo", "nogroup", "root", "a??"]),
    (
        "AuthorizedKeysFile",
        &[
            ".ssh/authorized_keys",
            ".ssh/authorized_keys2",
            "%h/.ssh/authorized_keys",
            "/home/%u/.ssh/authorized_keys",
            "none",
            "none .ssh/authorized_keys",
            ".ssh/other .ssh/authorized_keys",
            "~/.ssh/authorized_keys",
            "%h/.ssh/%u",
            "%%h/x",
            "\".ssh/authorized_keys\"",
            ".ssh//authorized_keys",
            "../admin/.ssh/authorized_keys",
            "./.ssh/authorized_keys",
            "",
            "%x",
            "%k",
            "%i/%%",
        ],
    ),
    (
        "AuthenticationMethods",
        &[
            "publickey",
            "any",
            "publickey,password",
            "password publickey",
            "publickey,publickey",
            "keyboard-interactive",
            "none",
            "password",
            "publickey:x",
            "hostbased publickey",
            "publickey,keyboard-interactive publickey",
        ],
    ),
    ("PasswordAuthentication", &["yes", "no"]),
    ("KbdInteractiveAuthentication", &["yes", "no"]),
    ("ChallengeResponseAuthentication", &["yes", "no"]),
    (
        "PubkeyAcceptedKeyTypes",
        &[
            "ssh-ed25519",
            "ssh-rsa",
            "+ssh-rsa",
            "-ssh-ed25519",
            "^ssh-rsa",
            "*",
            "ssh-*",
            "rsa-sha2-512",
            "rsa-sha2-256,rsa-sha2-512",
            "ecdsa-sha2-*",
            "nothing",
            "-nothing",
            "ssh-ed25519,nothing",
            "+ssh-dss",
            "ssh-ed25519-cert-v01@openssh.com",
        ],
    ),
    ("PubkeyAcceptedAlgorithms", &["ssh-ed25519", "rsa-sha2-512,ssh-ed25519", "-*", "ssh-rsa"]),
    ("RequiredRSASize", &["1024", "2048", "4096", "0", "x"]),
    ("RevokedKeys", &["none", "/etc/ssh/nothing", "/dev/null", "/etc/passwd", "/etc/ssh", "nothing"]),
    ("TrustedUserCAKeys", &["none", "/etc/ssh/nothing", "/etc/passwd"]),
    ("AuthorizedPrincipalsFile", &["none", "/etc/ssh/nothing", ".ssh/principals"]),
    ("AuthorizedKeysCommand", &["none", "/bin/false", "/usr/bin/true", "bin/true", "/nothing %u"]),
    ("AuthorizedKeysCommandUser", &["nobody", "root", "nosuchuser", "%u"]),
    (
        "ForceCommand",
        &["none", "true", "false", "/bin/true", "exit 2", "echo hi", "\"true\"", "internal-sftp", ": ; true"],
    ),
    ("ChrootDirectory", &["none", "/", "%h", "/srv", "/nothing", "/home", "~", "relative"]),
    ("MaxAuthTries", &["0", "1", "2", "6", "x", "-1"]),
    ("MaxSessions", &["0", "1", "10"]),
    ("MaxStartups", &["1", "10:30:100", "0", "1:1:1"]),
    ("LoginGraceTime", &["0", "1m", "120", "x", "1"]),
    ("PermitTTY", &["yes", "no"]),
    ("PermitUserEnvironment", &["yes", "no", "A*", "A,B"]),
    ("PermitUserRC", &["yes", "no"]),
    ("Port", &["22", "0", "65536", "ssh", "2022"]),
    ("ListenAddress", &["0.0.0.0", "127.0.0.1", "::", "[::]:22", "nonsense:x"]),
    ("AddressFamily", &["any", "inet", "ipv4"]),
    (
        "HostKey",
        &[
            "/etc/ssh/ssh_host_rsa_key",
            "/etc/ssh/ssh_host_ed25519_key",
            "/etc/ssh/nothing",
            "ssh_host_rsa_key",
            "/etc/ssh/sshd_config",
            "none",
        ],
    ),
    (
        "HostKeyAlgorithms",
        &[
            "ssh-ed25519",
            "rsa-sha2-256",
            "ssh-rsa",
            "ecdsa-sha2-nistp256",
            "+ssh-rsa",
            "nothing",
            "-ssh-ed25519",
            "ecdsa-sha2-nistp521",
        ],
    ),
    ("HostCertificate", &["/etc/ssh/nothing", "/etc/ssh/ssh_host_ed25519_key.pub"]),
    (
        "KexAlgorithms",
        &[
            "curve25519-sha256",
            "diffie-hellman-group14-sha1",
            "diffie-hellman-group14-sha256",
            "ecdh-sha2-nistp256",
            "+diffie-hellman-group1-sha1",
            "nothing",
            "sntrup761x25519-sha512@openssh.com",
            "-curve25519-*",
            "diffie-hellman-group-exchange-sha256",
        ],
    ),
    (
        "Ciphers",
        &[
            "aes128-ctr",
            "aes256-gcm@openssh.com",
            "3des-cbc",
            "chacha20-poly1305@openssh.com",
            "aes128-cbc",
            "-aes*",
            "none",
            "+aes128-cbc",
        ],
    ),
    ("MACs", &["hmac-sha1", "hmac-sha2-256", "hmac-md5", "umac-64@openssh.com", "-hmac*", "hmac-sha1-96"]),
    ("Compression", &["yes", "no", "delayed", "x"]),
    ("UseDNS", &["yes", "no"]),
    ("Banner", &["none", "/etc/issue", "/nothing"]),
    ("Subsystem", &["sftp /bin/false", "own /bin/true", "own"]),
    ("AcceptEnv", &["LANG", "*", ""]),
    ("SetEnv", &["A=b", "A", "A=b B=c"]),
    ("LogLevel", &["INFO", "QUIET", "DEBUG3", "loud"]),
    ("SyslogFacility", &["AUTH", "LOCAL7", "NOWHERE"]),
    ("VersionAddendum", &["none", "x y"]),
    ("IgnoreRhosts", &["yes", "no", "shosts-only"]),
    ("HostbasedAuthentication", &["yes", "no"]),
    ("GSSAPIAuthentication", &["yes", "no"]),
    ("KerberosAuthentication", &["no", "yes"]),
    ("ExposeAuthInfo", &["yes", "no"]),
    ("AllowTcpForwarding", &["no", "local", "x"]),
    ("PermitOpen", &["any", "h:1", "h"]),
    ("PermitListen", &["none", "8080", "x:y:z"]),
    ("X11Forwarding", &["yes", "no"]),
    ("ClientAliveInterval", &["0", "5m", "x"]),
    ("RekeyLimit", &["default none", "1G 1h", "1"]),
    ("IPQoS", &["lowdelay", "af21 cs1", "x"]),
    ("StreamLocalBindMask", &["0177", "9"]),
    ("PidFile", &["none", "/run/sshd.pid", "/nothing/x"]),
    ("PrintMotd", &["no", "yes"]),
    ("Protocol", &["2", "1", "2,1"]),
    ("UsePrivilegeSeparation", &["no", "sandbox"]),
    ("RSAAuthentication", &["yes"]),
    ("CASignatureAlgorithms", &["ssh-ed25519", "-ssh-ed25519", "rsa-sha2-512", "nothing"]),
    ("PubkeyAuthOptions", &["none", "touch-required", "verify-required", "x"]),
    ("RefuseConnection", &["yes", "no"]),
    ("PAMServiceName", &["sshd", "other", "login", "nothing"]),
    ("PerSourceMaxStartups", &["1", "none"]),
    ("UnusedConnectionTimeout", &["5m", "none"]),
    ("ChannelTimeout", &["none", "session=1m", "x"]),
    ("Nonsense", &["yes", ""]),
];

fn line(random: &mut Random) -> String {
    let (keyword, values) = KEYWORDS[random.below(KEYWORDS.len())];
    let value = pick(random, values);
    let keyword = match random.below(12) {
        0 => keyword.to_lowercase(),
        1 => keyword.to_uppercase(),
        _ => keyword.to_owned(),
    };
    match random.below(14) {
        0 => format!("{keyword}={value}"),
        1 => format!("  {keyword}\t{value}  "),
        2 => format!("{keyword} {value} # comment"),
        3 => format!("{keyword} \"{value}\""),
        4 if random.below(3) == 0 => format!("{keyword} {value} extra"),
        5 if random.below(3) == 0 => format!("\"{keyword}\" {value}"),
        6 if random.below(3) == 0 => format!("{keyword} = {value}"),
        7 if random.below(3) == 0 => format!("{keyword} '{value}'"),
        8 if random.below(3) == 0 => format!("{keyword} {value}\r"),
        _ => format!("{keyword} {value}"),
    }
    .replace('\r', "")
}

fn config(random: &mut Random) -> String {
    let lines: Vec<String> = (0..=random.below(2)).map(|_| quoted(&line(random))).collect();
    let place = pick(random, &["top $C", "top $C", "bottom $C", "dropin 10-x.conf", "dropin 50-y.conf"]);
    format!("{place} {}", lines.join(" "))
}

fn criteria(random: &mut Random) -> String {
    const CRITERIA: &[&str] = &[
        "all",
        "User admin",
        "User root",
        "User adm*",
        "User !admin,*",
        "User !admin",
        "User nobody,admin",
        "user admin",
        "Group sudo",
        "Group admin",
        "Group nogroup",
        "Group !sudo,*",
        "Group s*,a*",
        "Address 127.0.0.1",
        "Address 127.0.0.0/8",
        "Address !127.0.0.1,*",
        "Address 10.0.0.0/8",
        "Address 127.*",
        "Address ::/0",
        "Host localhost",
        "Host 127.0.0.1",
        "Host *",
        "LocalPort 2222",
        "LocalPort 22",
        "LocalAddress 127.0.0.1",
        "LocalAddress 10.0.0.1",
        "RDomain x",
        "Version *",
        "Invalid-User",
        "User",
        "User=admin",
        "User \"admin\"",
        "Nonsense x",
        "User admin,",
        "Address 127.0.0.1/8",
        "Localport x",
        "Tagged x",
        "LocalNetwork 127.0.0.0/8",
        "Command x",
        "exec true",
        "User admin Group sudo",
        "Canonical all",
    ];
    let mut words = vec![pick(random, CRITERIA)];
    if random.below(3) == 0 {
        words.push(pick(random, CRITERIA));
    }
    words.join(" ")
}

fn matching(random: &mut Random) -> String {
    let mut lines = Vec::new();
    for _ in 0..=random.below(2) {
        lines.push(quoted(&format!("Match {}", criteria(random))));
        lines.extend((0..=random.below(2)).map(|_| quoted(&line(random))));
    }
    let place = pick(random, &["bottom $C", "bottom $C", "bottom $C", "top $C", "dropin 20-m.conf"]);
    format!("{place} {}", lines.join(" "))
}

fn include(random: &mut Random) -> String {
    let name = pick(
        random,
        &["x", "x.conf", "own/x.conf", "own/.x.conf", "sshd_config.d/z.conf", "sshd_config.d/.z.conf"],
    );
    let word = pick(
        random,
        &[
            "x",
            "x*",
            "/etc/ssh/x",
            "/etc/ssh/own/*",
            "own/*.conf",
            "\"x\"",
            "x nothing",
            "/nothing/*",
            "[x]",
            "?",
            "~/x",
            "own",
            "/dev/null",
            "/etc/ssh/sshd_config.d/*",
        ],
    );
    let inside = if random.below(3) == 0 {
        format!("{} {}", quoted(&format!("Match {}", criteria(random))), quoted(&line(random)))
    } else {
        quoted(&line(random))
    };
    let block = if random.below(4) == 0 {
        format!("{} ", quoted(&format!("Match {}", criteria(random))))
    } else {
        String::new()
    };
    let place = pick(random, &["top", "bottom"]);
    format!(
        "mkdir -p $R/etc/ssh/own; printf '%s\\n' {inside} > $R/etc/ssh/{name}; {place} $C {block}{}",
        quoted(&format!("Include {word}"))
    )
}

fn options(random: &mut Random) -> String {
    const OPTIONS: &[&str] = &[
        "no-pty",
        "restrict",
        "pty",
        "NO-PTY",
        "no-agent-forwarding",
        "agent-forwarding",
        "no-port-forwarding",
        "no-X11-forwarding",
        "no-user-rc",
        "no-touch-required",
        "verify-required",
        "from=\"127.0.0.1\"",
        "from=\"!127.0.0.1,*\"",
        "from=\"10.0.0.0/8\"",
        "from=\"127.0.0.0/8\"",
        "from=\"localhost\"",
        "from=\"127.*\"",
        "from=\"*\"",
        "from=\"\"",
        "from=\"::1,127.0.0.1\"",
        "from=\"10.0.0.1/8,127.0.0.1\"",
        "from=\"!10.0.0.0/8,*\"",
        "command=\"true\"",
        "command=\"false\"",
        "command=\"exit 3\"",
        "command=\"echo \\\"x\\\"\"",
        "command=\"\"",
        "command=true",
        "command=\"/bin/true\"",
        "expiry-time=\"20200101\"",
        "expiry-time=\"20990101\"",
        "expiry-time=\"209901011200\"",
        "expiry-time=\"20990101120000\"",
        "expiry-time=\"20990101Z\"",
        "expiry-time=\"2099010\"",
        "expiry-time=\"\"",
        "expiry-time=\"20991301\"",
        "expiry-time=\"209901012500\"",
        "environment=\"A=b\"",
        "environment=\"A-b=c\"",
        "environment=\"A\"",
        "environment=\"=b\"",
        "permitopen=\"h:22\"",
        "permitopen=\"h\"",
        "permitopen=\"*:*\"",
        "permitopen=\"[::1]:22\"",
        "permitlisten=\"22\"",
        "permitlisten=\"h:x\"",
        "tunnel=\"1\"",
        "tunnel=\"x\"",
        "tunnel=\"any\"",
        "principals=\"admin\"",
        "cert-authority",
        "nosuch",
        "nosuch=\"x\"",
        "no-pty=\"x\"",
        "restrict,no-pty",
        "user-rc",
        "port-forwarding",
        "X11-forwarding",
        "zos-key-ring-label=\"x\"",
        "",
        "no-cert-authority",
        "no-restrict",
    ];
    let list: Vec<&str> = (0..=random.below(3)).map(|_| pick(random, OPTIONS)).collect();
    let separator = pick(random, &[",", ",", ",", ",", ",,", ", ", " "]);
    let after = pick(random, &[" ", " ", " ", "\t", "  ", ", ", ""]);
    format!("prefix {}", quoted(&format!("{}{after}", list.join(separator))))
}

fn damage(random: &mut Random) -> String {
    let byte = pick(
        random,
        &[
            "\\000",
            "\\r",
            "\\t",
            " ",
            "\\042",
            "\\\\",
            "#",
            "=",
            "A",
            "\\377",
            "\\f",
            "\\v",
            ",",
            "\\n",
            "\\302\\240",
            "\\033",
        ],
    );
    let at = if random.below(3) == 0 { random.below(12) } else { random.below(100) };
    let over = random.below(2);
    match random.below(4) {
        // One byte put in or over another.
        0 | 1 => format!(
            "{{ head -c {at} $A; printf '{byte}'; tail -c +{} $A; }} > $A.n; cat $A.n > $A",
            at + 1 + over
        ),
        // A piece taken out.
        2 => {
            format!("{{ head -c {at} $A; tail -c +{} $A; }} > $A.n; cat $A.n > $A", at + 2 + random.below(8))
        }
        _ => {
            let lines = [
                "junk",
                "# x",
                "",
                "ssh-rsa AAAA",
                "ssh-ed25519",
                "\\r",
                "no-pty",
                "\"",
                "\\000",
                "command=\"exit 3",
                "---- BEGIN SSH2 PUBLIC KEY ----",
            ];
            let line = pick(random, &lines);
            let end = pick(random, &["\\n", "\\n", "\\n", "", "\\r\\n", "\\r"]);
            let order = if random.below(2) == 0 { "- $A" } else { "$A -" };
            format!("printf '{line}{end}' | cat {order} > $A.n; cat $A.n > $A")
        }
    }
}

fn passwd(random: &mut Random) -> String {
    let user = pick(random, &["$U", "$U", "$U", "$U", "sshd", "root"]);
    let field = 1 + random.below(7);
    let values: &[&str] = match field {
        1 => &["Admin", " admin", "admin ", "adm", "+admin", "#admin"],
        2 => &["x", "*", "!", "", "!!", "$6$x$y"],
        3 | 4 => &[
            "0",
            "1000",
            "1001",
            "65534",
            "-1",
            "",
            "x",
            " 1000",
            "1000 ",
            "01000",
            "4294967295",
            "4294967296",
            "1000.5",
            "+1000",
        ],
        5 => &["", "a,b,c", "caf\u{e9}", "x y"],
        6 => &[
            "/home/admin",
            "/home/admin/",
            "//home/admin",
            "/home/./admin",
            "",
            "home/admin",
            "/nothing",
            "/",
            "/root",
            "/home",
            "/etc/passwd",
        ],
        _ => &[
            "/bin/bash",
            "/bin/sh",
            "/bin/dash",
            "",
            "/bin/false",
            "/usr/sbin/nologin",
            "/nothing",
            "bash",
            "/bin/bash -l",
            "/usr/bin/env",
            "/bin/true",
            "/bin/cat",
            "/bin/ls",
            "/etc/passwd",
            "/bin//bash",
            "/bin/../bin/bash",
        ],
    };
    match random.below(8) {
        0 => {
            let line = pick(
                random,
                &[
                    "garbage",
                    "#x",
                    "",
                    "::::::",
                    "+",
                    "-admin::::::",
                    "admin:x:1000:1000::/home/admin:/bin/bash",
                    "admin:x",
                    "other:x:1000:1000::/home/other:/bin/sh",
                    "other:x:1001:1000::/home/other:/bin/sh",
                    "admin:x:0:0::/root:/bin/bash",
                    "a:x:99999999999:1::/:/bin/sh",
                ],
            );
            format!("{} $R/etc/passwd {}", pick(random, &["top", "bottom"]), quoted(line))
        }
        _ => format!("field passwd {user} {field} {}", quoted(pick(random, values))),
    }
}

fn shadow(random: &mut Random) -> String {
    let field = 2 + random.below(8);
    let values: &[&str] = if field == 2 {
        &["*", "!", "!!", "", "x", "*LK*", "!*", "$6$x$y"]
    } else {
        &[
            "",
            "0",
            "1",
            "7",
            "90",
            "30",
            "19000",
            "20000",
            "20500",
            "20700",
            "99999",
            "-1",
            "x",
            " 5",
            "5 ",
            "99999999999",
            "-2",
        ]
    };
    match random.below(8) {
        0 => {
            let line = pick(
                random,
                &[
                    "garbage",
                    "#x",
                    "",
                    "::::::::",
                    "+",
                    "admin:*:19000:0:99999:7:::",
                    "admin:*:19000:0:90:7:::",
                    "admin:!",
                    "admin:*:0:0:99999:7:::",
                ],
            );
            format!("{} $R/etc/shadow {}", pick(random, &["top", "bottom"]), quoted(line))
        }
        1 => format!(
            "field shadow $U 3 {}; field shadow $U 5 {}; field shadow $U 7 {}",
            quoted(pick(random, values)),
            quoted(pick(random, values)),
            quoted(pick(random, values))
        ),
        _ => format!("field shadow $U {field} {}", quoted(pick(random, values))),
    }
}

fn group(random: &mut Random) -> String {
    let line = pick(
        random,
        &[
            "other:x:1000:",
            "other:x:1000:daemon",
            "admin:x:1000:admin",
            "admin:x:1001:",
            "garbage",
            "",
            "+",
            "#",
            "sudo:x:27:",
            "x:x:4242:admin",
            "admin::1000:",
            "admin:x:1000:admin,admin",
            "admin:x:1000:ADMIN",
        ],
    );
    let change = match random.below(5) {
        0 => format!("top $R/etc/group {}", quoted(line)),
        1 => format!("bottom $R/etc/group {}", quoted(line)),
        2 => format!(
            "field group $U 4 {}",
            quoted(pick(
                random,
                &["admin", "root", "daemon", "admin,daemon", ",admin", "admin,", " admin", "ghost", ""]
            ))
        ),
        3 => {
            format!("field group $U 3 {}", quoted(pick(random, &["1001", "0", "", "x", "-1", "4294967296"])))
        }
        _ => format!(
            "field group {} 1 {}",
            pick(random, &["$U", "sudo", "adm"]),
            quoted(pick(random, &["x", "", "admin", "sudo"]))
        ),
    };
    match random.below(4) {
        0 => format!("{change}; chmod g+w $H"),
        1 => format!("{change}; chmod g+w $A"),
        2 => format!(
            "{change}; top $C 'AllowGroups {}'",
            pick(random, &["admin", "sudo", "x", "other", "adm"])
        ),
        _ => change,
    }
}

fn link(random: &mut Random) -> String {
    let (path, name) = [
        ("$A", "keys"),
        ("$H/.ssh", "dot-ssh"),
        ("$H", "home"),
        ("$C", "config"),
        ("$R/etc/passwd", "passwd"),
        ("$R/etc/pam.d/sshd", "pam"),
        ("$R/etc/ssh/sshd_config.d", "dropins"),
        ("$R/home", "homes"),
    ][random.below(8)];
    let place = pick(random, &["srv", "tmp", "opt", "etc/ssh", "usr", "srv/a/b", "root", "mnt"]);
    let up = pick(random, &["/", "/", "../../../../../../../", "/./", "/srv/../"]);
    let mode = pick(random, &["755", "700", "777", "711", "1777", "775"]);
    format!(
        "mkdir -p $R/{place}; mv {path} $R/{place}/{name}; ln -s {up}{place}/{name} {path}; chmod {mode} $R/{place}"
    )
}

fn pam(random: &mut Random) -> String {
    let kind = pick(
        random,
        &[
            "account", "account", "account", "session", "session", "auth", "password", "-account",
            "-session", "ACCOUNT",
        ],
    );
    let control = pick(
        random,
        &[
            "required",
            "required",
            "requisite",
            "sufficient",
            "optional",
            "[success=1 default=ignore]",
            "[success=ok new_authtok_reqd=ok ignore=ignore default=bad]",
            "[default=die]",
            "[success=done default=ignore]",
            "[success=2 new_authtok_reqd=done default=ignore]",
            "[default=reset]",
            "[success=bad]",
            "Required",
            "nonsense",
        ],
    );
    let module = pick(
        random,
        &[
            "pam_deny.so",
            "pam_permit.so",
            "pam_nosuch.so",
            "pam_unix.so",
            "pam_nologin.so",
            "pam_access.so",
            "pam_shells.so",
            "pam_limits.so",
            "pam_env.so",
            "pam_keyinit.so revoke",
            "pam_loginuid.so",
            "pam_motd.so noupdate",
            "pam_mail.so standard",
            "pam_warn.so",
            "pam_echo.so",
            "pam_rootok.so",
            "pam_wheel.so",
            "pam_localuser.so",
            "pam_succeed_if.so uid >= 1000",
            "pam_succeed_if.so uid < 1000",
            "pam_succeed_if.so user ingroup sudo",
            "pam_succeed_if.so user = admin quiet",
            "pam_succeed_if.so shell = /bin/bash",
            "pam_time.so",
            "pam_umask.so",
            "pam_mkhomedir.so",
            "pam_listfile.so item=user sense=allow file=/etc/passwd onerr=fail",
            "pam_listfile.so item=user sense=deny file=/etc/nothing onerr=succeed",
            "pam_usertype.so isregular",
            "pam_usertype.so issystem",
            "pam_faildelay.so",
            "pam_group.so",
            "pam_securetty.so",
            "pam_debug.so acct=perm_denied",
            "pam_issue.so",
            "/lib/x86_64-linux-gnu/security/pam_permit.so",
            "/nothing/pam_permit.so",
            "pam_permit",
        ],
    );
    let file = pick(
        random,
        &["sshd", "sshd", "sshd", "common-account", "common-session", "common-password", "other"],
    );
    match random.below(12) {
        0 => format!("sed -i {}d $R/etc/pam.d/{file}", 1 + random.below(30)),
        1 => format!(
            "{} $R/etc/pam.d/{file} {}",
            pick(random, &["top", "bottom"]),
            quoted(pick(
                random,
                &[
                    "@include common-account",
                    "@include nothing",
                    "account include common-account",
                    "session include nothing",
                    "account substack common-account",
                    "# x",
                    "garbage",
                    "\\"
                ]
            ))
        ),
        2 => format!("mv $R/etc/pam.d/{file} $R/etc/pam.d/gone"),
        3 => format!(
            "rm $R/usr/lib/x86_64-linux-gnu/security/{}",
            pick(
                random,
                &[
                    "pam_nologin.so",
                    "pam_unix.so",
                    "pam_env.so",
                    "pam_motd.so",
                    "pam_loginuid.so",
                    "pam_deny.so",
                    "pam_mail.so",
                    "pam_permit.so"
                ]
            )
        ),
        place => format!(
            "{} $R/etc/pam.d/{file} {}",
            if place < 9 { "top" } else { "bottom" },
            quoted(&format!("{kind} {control} {module}"))
        ),
    }
}
