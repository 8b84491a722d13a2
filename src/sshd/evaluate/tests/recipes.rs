//! Breakages and false alarms whose outcome was measured with real sshd: on Debian, and on unpatched builds.

use super::*;

type Break = fn(&mut Bed);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Accept,
    Refuse,
    /// Needs what that build does not have.
    NotRun,
}
use Expected::{Accept as A, NotRun as N, Refuse as R};

/// Number, who logs in, what is done to the volume, what Debian's and what upstream's sshd answered.
type Recipe = (&'static str, &'static str, Break, Expected, Expected);

/// sshd of EL, Amazon Linux and upstream.
const UPSTREAM: [&str; 2] = ["8.7p1", "9.9p2"];

fn check(recipes: &[Recipe]) {
    let mut wrong = Vec::new();
    for (number, user, breaks, debian, upstream) in recipes {
        let beds = std::iter::once(("Debian", *debian, Bed::debian()))
            .chain(UPSTREAM.map(|version| (version, *upstream, Bed::upstream(version))));
        for (name, expected, mut bed) in beds {
            if expected == N {
                continue;
            }
            breaks(&mut bed);
            for keys in [vec![key(1)], vec![]] {
                let evaluation = bed.ask(user, &keys);
                let what = format!("{number} on {name} with {} keys", keys.len());
                is_consistent(&evaluation, &what);
                let wanted = if expected == A { Verdict::Accept } else { Verdict::Refuse };
                if evaluation.verdict != wanted {
                    wrong.push(format!(
                        "{what}: {:?}, {:?}, {:?}",
                        evaluation.verdict,
                        blocking(&evaluation),
                        evaluation.unknown
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const AK2: &str = "/home/u/.ssh/authorized_keys2";

#[test]
fn modes_owners_types_and_acls() {
    let recipes: &[Recipe] = &[
        ("RF1", "u", |_| {}, A, A),
        ("RF2", "u", |b| did(b.chmod(SSH, 0o755)), A, A),
        ("RF3", "u", |b| did(b.chmod(KEYS, 0o644)), A, A),
        ("RF4", "u", |b| did(b.chmod(KEYS, 0o444)), A, A),
        ("RF5", "u", |b| did(b.chmod(KEYS, 0o400)), A, A),
        ("RF6", "u", |b| did(b.chmod(HOME, 0o755)), A, A),
        ("RF7", "u", |b| did(b.chmod(HOME, 0o700)), A, A),
        ("RF8", "u", |b| did(b.chmod(HOME, 0o711).chmod(SSH, 0o711)), A, A),
        ("RF9", "u", |b| did(b.chmod(SSH, 0o500)), A, A),
        ("RF10", "u", |b| did(b.chmod(HOME, 0o777)), R, R),
        ("RF11", "u", |b| did(b.chmod(HOME, 0o757)), R, R),
        ("RF12", "u", |b| did(b.chmod(HOME, 0o775)), A, R),
        ("RF13", "u", |b| did(b.chmod(SSH, 0o775)), A, R),
        ("RF14", "u", |b| did(b.chmod(KEYS, 0o664)), A, R),
        ("RF15", "u", |b| did(b.chown(HOME, UID, 100).chmod(HOME, 0o775)), R, R),
        ("RF16", "u", |b| did(b.chmod(SSH, 0o777)), R, R),
        ("RF17", "u", |b| did(b.chmod(KEYS, 0o666)), R, R),
        ("RF18", "u", |b| did(b.chmod(KEYS, 0o602)), R, R),
        ("RF19", "u", |b| did(b.chmod(HOME, 0o600)), R, R),
        ("RF20", "u", |b| did(b.chmod(SSH, 0o600)), R, R),
        ("RF21", "u", |b| did(b.chmod(KEYS, 0)), R, R),
        ("RF22", "u", |b| did(b.chmod(SSH, 0o2755)), A, A),
        ("RF23", "u", |b| did(b.chown(KEYS, 0, 0)), R, R),
        ("RF24", "u", |b| did(b.chown(KEYS, 0, 0).chmod(KEYS, 0o644)), A, A),
        ("RF25", "u", |b| did(b.chown(KEYS, 0, UID).chmod(KEYS, 0o640)), A, A),
        ("RF26", "u", |b| did(b.chown(SSH, 0, 0)), R, R),
        ("RF27", "u", |b| did(b.chown(SSH, 0, 0).chmod(SSH, 0o755)), A, A),
        ("RF28", "u", |b| did(b.chown(HOME, 0, 0)), A, A),
        ("RF29", "u", |b| did(b.chown_all(HOME, 0, 0)), R, R),
        ("RF30", "u", |b| did(b.chown_all(HOME, 0, 0).chmod(SSH, 0o755).chmod(KEYS, 0o644)), A, A),
        ("RF31", "u", |b| did(b.chown(KEYS, 12345, UID).chmod(KEYS, 0o644)), R, R),
        ("RF32", "u", |b| did(b.chown(SSH, 12345, UID).chmod(SSH, 0o755)), R, R),
        ("RF33", "u", |b| did(b.chown(HOME, 12345, UID)), R, R),
        ("RF34", "u", |b| did(b.chown_all(HOME, 12345, 12345)), R, R),
        ("RF35", "u", |b| did(b.chmod("/home", 0o777)), A, A),
        ("RF36", "u", |b| did(b.chown("/home", 12345, 0)), A, A),
        ("RF37", "u", |b| did(b.chmod("/", 0o777)), A, A),
        ("RF38", "u", |b| did(b.chmod("/home", 0o700)), R, R),
        ("RF39", "u", |b| did(b.chmod("/home", 0o711)), A, A),
        ("RF40", "u", |b| did(b.chmod_all("/home", 0o777)), R, R),
        ("RF41", "u", |b| did(b.chmod_all("/home", 0o755)), A, A),
        ("RF42", "u", |b| did(b.mv(KEYS, "/home/u/.ssh/k").link(KEYS, "k")), A, A),
        ("RF43", "u", |b| did(b.tree.dir("/srv/keys", 0o755, 0, 0)), A, A),
        (
            "RF43",
            "u",
            |b| {
                b.dir("/srv/keys", 0o755, 0, 0);
                b.mv(KEYS, "/srv/keys/u").link(KEYS, "/srv/keys/u");
            },
            A,
            A,
        ),
        ("RF44", "u", |b| did(b.mv(KEYS, "/tmp/k").link(KEYS, "/tmp/k")), R, R),
        ("RF45", "u", |b| did(b.mv(SSH, "/srv/ssh-u").link(SSH, "/srv/ssh-u")), A, A),
        ("RF46", "u", |b| did(b.mv(SSH, "/srv/ssh-u").link(SSH, "/srv/ssh-u").chmod(HOME, 0o777)), A, A),
        ("RF47", "u", |b| did(b.mv(SSH, "/srv/ssh-u").link(SSH, "/srv/ssh-u").chmod("/", 0o777)), R, R),
        (
            "RF48",
            "u",
            |b| {
                b.dir("/data", 0o777, 0, 0);
                b.mv(HOME, "/data/u").link(HOME, "/data/u");
            },
            A,
            A,
        ),
        ("RF49", "u", |b| did(b.remove(KEYS).link(KEYS, "/nonexistent")), R, R),
        ("RF50", "u", |b| did(b.remove(KEYS).dir(KEYS, 0o755, UID, UID)), R, R),
        ("RF51", "u", |b| did(b.remove(KEYS).put(KEYS, FileKind::Fifo, 0o644, UID, UID, b"")), R, R),
        ("RF52", "u", |b| did(b.mv(SSH, "/home/u/.SSH")), R, R),
        ("RF53", "u", |b| did(b.mv(KEYS, "/home/u/.ssh/authorized_key")), R, R),
        ("RF54", "u", |b| did(b.mv(KEYS, AK2)), A, A),
        ("RF55", "u", |b| did(b.remove(SSH)), R, R),
        ("RF56", "u", |b| did(b.mv(HOME, "/home/moved")), R, R),
        ("RF57", "u", |b| did(b.acl_user(KEYS, 12345, 6)), A, R),
        ("RF58", "u", |b| did(b.acl_user(SSH, 12345, 7)), A, R),
        ("RF59", "u", |b| did(b.acl_user(KEYS, 12345, 4)), A, A),
        (
            "RF60",
            "u",
            |b| {
                b.chown(KEYS, 0, 0);
                b.acl_user(KEYS, UID, 4);
            },
            A,
            A,
        ),
        (
            "RF61",
            "u",
            |b| {
                b.chown(KEYS, 0, 0).chmod(KEYS, 0o644);
                b.acl_user(KEYS, UID, 0);
            },
            R,
            R,
        ),
        ("RF62", "u", |b| did(b.set_xattr(SSH, crate::permissions::acl::DEFAULT, b"\x02\0\0\0")), A, A),
        ("RF64", "root", |b| did(b.chmod("/root", 0o777)), R, R),
        ("RF65", "root", |b| did(b.chmod("/root/.ssh/authorized_keys", 0)), A, A),
        ("RF66", "root", |b| did(b.chown("/root/.ssh/authorized_keys", UID, 0)), R, R),
        ("RF67", "u", chown_everything, A, A),
        ("RF68", "root", chown_everything, R, R),
    ];
    check(recipes);
}

fn chown_everything(b: &mut Bed) {
    for top in ["/home", "/root", "/etc", "/srv"] {
        b.chown_all(top, UID, UID);
    }
}

/// Something before every line of the keys.
fn before(b: &mut Bed, prefix: &str) {
    b.each_line(KEYS, |line| format!("{prefix}{line}"));
}

#[test]
fn content_of_authorized_keys() {
    let recipes: &[Recipe] = &[
        ("RK1", "u", |b| did(b.write(KEYS, "")), R, R),
        ("RK2", "u", |b| before(b, "#"), R, R),
        ("RK3", "u", |b| did(b.edit(KEYS, |text| text.replace('\n', "\r\n"))), A, A),
        ("RK4", "u", |b| did(b.edit(KEYS, |text| text.trim_end().to_owned())), A, A),
        ("RK5", "u", |b| before(b, "   "), A, A),
        ("RK6", "u", |b| before(b, "\u{feff}"), R, R),
        ("RK7", "u", |b| did(b.prepend(KEYS, "\u{feff}# keys\n")), A, A),
        (
            "RK8",
            "u",
            |b| {
                let wide: Vec<u8> = b.text(KEYS).iter().flat_map(|byte| [*byte, 0]).collect();
                b.write(KEYS, wide);
            },
            R,
            R,
        ),
        (
            "RK9",
            "u",
            |b| {
                let folded: Vec<u8> =
                    b.text(KEYS).chunks(64).flat_map(|part| [part, b"\n"].concat()).collect();
                b.write(KEYS, folded);
            },
            R,
            R,
        ),
        ("RK10", "u", |b| did(b.replace(KEYS, " AAAA", "  AAAA")), A, A),
        ("RK11", "u", |b| did(b.replace(KEYS, " AAAA", "\tAAAA")), A, A),
        ("RK12", "u", |b| did(b.replace(KEYS, "ssh-ed", "SSH-ed")), R, R),
        ("RK13", "u", |b| did(b.replace(KEYS, "ssh-ed25519 ", "ed25519 ")), R, R),
        ("RK14", "u", |b| did(b.replace(KEYS, "ssh-ed25519 ", "")), R, R),
        ("RK15", "u", |b| before(b, "- "), R, R),
        ("RK16", "u", |b| did(b.each_line(KEYS, |line| format!("\"{line}\""))), R, R),
        (
            "RK18",
            "u",
            |b| {
                did(b.edit(KEYS, |text| {
                    text.split(' ').take(2).collect::<Vec<_>>().join(" ")[..60].to_owned()
                }));
            },
            R,
            R,
        ),
        ("RK19", "u", |b| did(b.write(KEYS, [0; 512])), R, R),
        ("RK20", "u", |b| did(b.prepend(KEYS, "ssh-rsa AAAAB3Nz")), R, R),
        ("RK21", "u", |b| did(b.prepend(KEYS, &("x".repeat(100_000) + "\n"))), A, A),
        ("RK22", "u", |b| did(b.prepend(KEYS, "# a\0b\n")), A, A),
        ("RK23", "u", |b| before(b, "no-pty "), A, A),
        ("RK24", "u", |b| before(b, "no-pty, no-user-rc "), R, R),
        ("RK25", "u", |b| before(b, "nosuchoption "), R, R),
        ("RK26", "u", |b| before(b, "command=\"exit 142\" "), R, R),
        ("RK27", "u", |b| before(b, "command=\"echo hi "), R, R),
        ("RK28", "u", |b| before(b, "from=\"10.9.8.7\" "), R, R),
        ("RK29", "u", |b| before(b, "from=\"127.0.0.0/8\" "), A, A),
        ("RK30", "u", |b| before(b, "from=\"127.0.0.1/8\" "), R, R),
        ("RK31", "u", |b| before(b, "expiry-time=\"20200101\" "), R, R),
        ("RK32", "u", |b| before(b, "expiry-time=\"20990101\" "), A, A),
        ("RK33", "u", |b| before(b, "cert-authority "), R, R),
        ("RK34", "u", |b| before(b, "restrict "), A, A),
        ("RK35", "u", |b| did(b.each_line(KEYS, |line| format!("nosuchoption {line}\n{line}"))), A, A),
        ("RK36", "u", |b| did(b.each_line(KEYS, |line| format!("command=\"exit 7\" {line}\n{line}"))), R, R),
    ];
    check(recipes);
}

fn without_pam(b: &mut Bed) {
    b.replace(CONFIG, "UsePAM yes", "UsePAM no");
}

fn shadow(b: &mut Bed, line: &str) {
    b.delete_line("/etc/shadow", "u:").append("/etc/shadow", &format!("{line}\n"));
}

#[test]
fn passwd_shadow_group_shell_and_pam() {
    let recipes: &[Recipe] = &[
        ("RP1", "u", |b| did(b.delete_line("/etc/passwd", "u:")), R, R),
        ("RP2", "u", |b| did(b.field("/etc/passwd", "u", 6, "/bin/nosuchshell")), R, R),
        ("RP3", "u", |b| did(b.field("/etc/passwd", "u", 6, "/usr/sbin/nologin")), R, R),
        ("RP4", "u", |b| did(b.field("/etc/passwd", "u", 6, "")), A, A),
        (
            "RP5",
            "u",
            |b| {
                b.field("/etc/passwd", "u", 6, "/srv/sh").file(
                    "/srv/sh",
                    0o644,
                    0,
                    0,
                    &crate::view::memory::program(""),
                );
            },
            R,
            R,
        ),
        ("RP6", "u", |b| did(b.write("/etc/shells", "")), A, A),
        ("RP7", "u", |b| did(b.edit("/etc/passwd", |text| text.replace('\n', "\r\n"))), R, R),
        ("RP8", "u", |b| did(b.field("/etc/passwd", "u", 2, "4242")), R, R),
        ("RP9", "u", |b| did(b.field("/etc/passwd", "u", 3, "4242")), A, A),
        ("RP10", "u", |b| did(b.field("/etc/passwd", "u", 5, "/home/ux")), R, R),
        ("RP11", "u", |b| did(b.field("/etc/shadow", "u", 1, "!")), A, A),
        ("RP12", "u", without_pam, R, R),
        (
            "RP13",
            "u",
            |b| {
                without_pam(b);
                b.field("/etc/shadow", "u", 1, "*");
            },
            A,
            A,
        ),
        ("RP14", "u", |b| did(b.delete_line(CONFIG, "UsePAM")), R, R),
        ("RP15", "u", |b| shadow(b, "u:*:19000:0:99999:7::18000:"), R, R),
        ("RP16", "u", |b| shadow(b, "u:*:0:0:99999:7:::"), R, R),
        ("RP17", "u", |b| shadow(b, "u:*:15000:0:90:7:::"), R, R),
        ("RP18", "u", |b| shadow(b, "u:*:15000:0:90:7:30::"), R, R),
        ("RP19", "u", |b| did(b.delete_line("/etc/shadow", "u:")), R, R),
        ("RP20", "u", |b| did(b.edit("/etc/shadow", |text| text.replace('\n', "\r\n"))), R, R),
        ("RP21", "u", |b| did(b.chmod("/etc/shadow", 0)), A, A),
        ("RP22", "u", |b| did(b.chmod("/etc/passwd", 0o600).chmod("/etc/group", 0o600)), A, A),
        ("RP23", "u", |b| did(b.write("/etc/nologin", "down\n")), R, R),
        ("RP24", "root", |b| did(b.write("/etc/nologin", "down\n")), A, A),
        ("RP25", "u", |b| did(b.prepend("/etc/pam.d/sshd", "account required pam_nosuch.so\n")), R, R),
        ("RP26", "u", |b| did(b.prepend("/etc/pam.d/sshd", "session required pam_nosuch.so\n")), R, R),
        ("RP27", "u", |b| did(b.prepend("/etc/pam.d/sshd", "auth required pam_deny.so\n")), A, A),
        (
            "RP28",
            "u",
            |b| {
                b.prepend("/etc/pam.d/sshd", "account required pam_access.so\n");
                b.append("/etc/security/access.conf", "-:ALL EXCEPT root:ALL\n");
            },
            R,
            R,
        ),
        ("RP29", "u", |b| did(b.append("/etc/security/access.conf", "-:ALL:ALL\n")), A, A),
        ("RP30", "u", |b| did(b.append("/etc/security/limits.conf", "* hard maxlogins 0\n")), R, R),
        ("RP31", "u", |b| did(b.write("/etc/hosts.deny", "sshd: ALL\n")), R, A),
        ("RP32", "u", |b| did(b.delete_line("/etc/group", "u:")), A, A),
    ];
    check(recipes);
}

fn drop_in(b: &mut Bed, name: &str, text: &str) {
    b.write(&format!("/etc/ssh/sshd_config.d/{name}"), text);
}

/// The keys of U in /etc/ssh/ak/u, root's.
fn keys_in_etc(b: &mut Bed, mode: u32, uid: u32) {
    b.dir("/etc/ssh/ak", 0o755, 0, 0);
    b.mv(KEYS, "/etc/ssh/ak/u").chown("/etc/ssh/ak/u", uid, uid).chmod("/etc/ssh/ak/u", mode);
    b.prepend(CONFIG, "AuthorizedKeysFile /etc/ssh/ak/%u\n");
}

#[test]
fn sshd_config() {
    let recipes: &[Recipe] = &[
        ("RC1", "u", |b| did(b.prepend(CONFIG, "PubkeyAuthentication no\n")), R, R),
        ("RC2", "u", |b| did(b.prepend(CONFIG, "PubkeyAuthentication=no\n")), R, R),
        ("RC3", "u", |b| did(b.append(CONFIG, "PubkeyAuthentication no\n")), R, R),
        (
            "RC4",
            "u",
            |b| {
                did(b
                    .prepend(CONFIG, "PubkeyAuthentication yes\n")
                    .append(CONFIG, "PubkeyAuthentication no\n"));
            },
            A,
            A,
        ),
        (
            "RC5",
            "u",
            |b| {
                b.prepend(CONFIG, "PubkeyAuthentication yes\n")
                    .append(CONFIG, "Match all\n PubkeyAuthentication no\n");
            },
            R,
            R,
        ),
        (
            "RC6",
            "u",
            |b| did(b.append(CONFIG, "Match User someoneelse\n X11Forwarding no\nPubkeyAuthentication no\n")),
            A,
            A,
        ),
        (
            "RC7",
            "u",
            |b| did(b.append(CONFIG, "Match User someoneelse\n X11Forwarding no\nUsePAM yes\n")),
            R,
            R,
        ),
        ("RC8", "u", |b| did(b.append(CONFIG, "Match User !u,*\n PubkeyAuthentication no\n")), A, A),
        ("RC9", "u", |b| did(b.append(CONFIG, "Match Group nosuchgroup\n PubkeyAuthentication no\n")), A, A),
        (
            "RC10",
            "u",
            |b| {
                drop_in(b, "10-x.conf", "PubkeyAuthentication no\n");
                b.append(CONFIG, "PubkeyAuthentication yes\n");
            },
            R,
            R,
        ),
        ("RC11", "u", |b| drop_in(b, "10-x.cfg", "PubkeyAuthentication no\n"), A, A),
        ("RC12", "u", |b| did(b.link("/etc/ssh/sshd_config.d/99-x.conf", "/nonexistent")), R, R),
        ("RC13", "u", |b| did(b.prepend(CONFIG, "AuthorizedKeysFile .ssh/keys\n")), R, R),
        ("RC14", "u", |b| did(b.prepend(CONFIG, "AuthorizedKeysFile none\n")), R, R),
        ("RC15", "u", |b| did(b.prepend(CONFIG, "AuthorizedKeysFile ~/.ssh/authorized_keys\n")), R, R),
        ("RC16", "u", |b| did(b.prepend(CONFIG, "AuthorizedKeysFile %h/.ssh/authorized_keys\n")), A, A),
        ("RC17", "u", |b| keys_in_etc(b, 0o600, 0), R, R),
        ("RC18", "u", |b| keys_in_etc(b, 0o644, 0), A, A),
        (
            "RC19",
            "u",
            |b| {
                keys_in_etc(b, 0o644, UID);
                b.chmod("/", 0o777);
            },
            R,
            R,
        ),
        ("RC20", "u", |b| did(b.prepend(CONFIG, "AllowUsers someoneelse\n")), R, R),
        ("RC21", "u", |b| did(b.prepend(CONFIG, "AllowUsers someoneelse,u\n")), R, R),
        (
            "RC22",
            "u",
            |b| did(b.prepend(CONFIG, "AllowUsers someoneelse\n").append(CONFIG, "AllowUsers u\n")),
            A,
            A,
        ),
        ("RC23", "u", |b| did(b.prepend(CONFIG, "AllowUsers u@10.0.0.0/8\n")), R, R),
        ("RC24", "u", |b| did(b.prepend(CONFIG, "DenyUsers u\n")), R, R),
        ("RC25", "u", |b| did(b.prepend(CONFIG, "AllowGroups nosuchgroup\n")), R, R),
        ("RC26", "u", |b| did(b.prepend(CONFIG, "AllowGroups u\n")), A, A),
        ("RC27", "u", |b| did(b.prepend(CONFIG, "AllowGroups u\n").delete_line("/etc/group", "u:")), R, R),
        ("RC28", "root", |b| did(b.prepend(CONFIG, "PermitRootLogin no\n")), R, R),
        ("RC29", "root", |b| did(b.prepend(CONFIG, "PermitRootLogin without-password\n")), A, A),
        ("RC30", "root", |b| did(b.prepend(CONFIG, "PermitRootLogin forced-commands-only\n")), R, R),
        ("RC31", "u", |b| did(b.prepend(CONFIG, "AuthenticationMethods publickey,password\n")), R, R),
        ("RC32", "u", |b| did(b.prepend(CONFIG, "AuthenticationMethods password publickey\n")), A, A),
        ("RC33", "u", |b| did(b.prepend(CONFIG, "RevokedKeys /etc/ssh/revoked\n")), R, R),
        (
            "RC34",
            "u",
            |b| {
                let keys = b.lines(KEYS);
                b.write("/etc/ssh/revoked", keys).prepend(CONFIG, "RevokedKeys /etc/ssh/revoked\n");
            },
            R,
            R,
        ),
        ("RC35", "u", |b| did(b.append(CONFIG, "Match all\n RevokedKeys none\n")), R, R),
        ("RC36", "u", |b| did(b.prepend(CONFIG, "RevokedKeys none\n")), A, A),
        ("RC37", "u", |b| did(b.prepend(CONFIG, "AuthorizedKeysCommand /opt/nosuch\n")), R, R),
        (
            "RC38",
            "u",
            |b| {
                b.prepend(CONFIG, "AuthorizedKeysCommand /opt/nosuch\nAuthorizedKeysCommandUser nobody\n");
            },
            A,
            A,
        ),
        (
            "RC39",
            "u",
            |b| {
                b.prepend(
                    CONFIG,
                    "PubkeyAcceptedKeyTypes ecdsa-sha2-nistp256,ssh-ed25519-cert-v01@openssh.com\n",
                );
            },
            R,
            R,
        ),
        ("RC40", "u", |b| did(b.prepend(CONFIG, "StrictModes no\n").chmod(HOME, 0o777)), A, A),
        ("RC41", "u", |b| did(b.prepend(CONFIG, "StrictModes no\n").chown(KEYS, 0, 0)), R, R),
        ("RC42", "u", |b| did(b.prepend(CONFIG, "ForceCommand /bin/false\n")), R, R),
        ("RC43", "u", |b| did(b.prepend(CONFIG, "ChrootDirectory %h\n")), R, R),
        ("RC44", "u", |b| did(b.prepend(CONFIG, "MaxAuthTries 1\n")), A, A),
        ("RC45", "u", |b| did(b.prepend(CONFIG, "PubkeyAuthentification yes\n")), R, R),
        ("RC46", "u", |b| did(b.prepend(CONFIG, "PubkeyAuthentication true\n")), R, R),
        ("RC47", "u", |b| did(b.edit(CONFIG, |text| text.replace('\n', "\r\n"))), A, A),
        ("RC48", "u", |b| did(b.prepend(CONFIG, "\u{feff}")), R, R),
        ("RC49", "u", |b| did(b.write(CONFIG, "")), R, R),
        ("RC50", "u", |b| did(b.chmod(CONFIG, 0)), A, A),
        ("RC51", "u", |b| did(b.chmod(CONFIG, 0o666).chown(CONFIG, UID, 0)), A, A),
    ];
    check(recipes);
}

fn host_keys(b: &mut Bed, change: impl Fn(&mut crate::view::memory::Node)) {
    for (path, node) in &mut b.tree.nodes {
        if path.to_str().is_some_and(|path| path.starts_with("/etc/ssh/ssh_host_")) {
            change(node);
        }
    }
}

#[test]
fn start_up() {
    let recipes: &[Recipe] = &[
        (
            "RS1",
            "u",
            |b| {
                for kind in ["rsa", "ecdsa", "ed25519"] {
                    b.remove(&format!("/etc/ssh/ssh_host_{kind}_key"));
                }
            },
            R,
            R,
        ),
        (
            "RS2",
            "u",
            |b| did(b.remove("/etc/ssh/ssh_host_rsa_key").remove("/etc/ssh/ssh_host_ecdsa_key")),
            A,
            A,
        ),
        ("RS3", "u", |b| host_keys(b, |node| node.stat.mode = 0o644), R, R),
        ("RS4", "u", |b| host_keys(b, |node| node.stat.mode = 0o640), R, R),
        ("RS5", "u", |b| host_keys(b, |node| node.stat.mode = 0o400), A, A),
        ("RS6", "u", |b| host_keys(b, |node| (node.stat.uid, node.stat.mode) = (UID, 0o666)), A, A),
        (
            "RS8",
            "u",
            |b| {
                host_keys(b, |node| {
                    node.content.clear();
                    node.stat.size = 0;
                });
            },
            R,
            R,
        ),
        ("RS9", "u", |b| did(b.chmod("/etc/ssh", 0o777)), A, A),
        ("RS10", "u", |b| did(b.chmod_all("/etc", 0o777)), R, R),
        ("RS11", "u", |b| did(b.delete_line("/etc/passwd", "sshd:")), R, R),
        ("RS12", "u", |b| did(b.remove(CONFIG)), R, R),
        ("RS14", "u", |b| did(b.dir("/run/sshd", 0o777, 0, 0)), A, A),
        ("RS15", "u", |b| did(b.remove("/run/sshd")), A, A),
    ];
    check(recipes);
}
