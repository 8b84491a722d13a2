//! What `repair --key --create-user` mends without any `--fix`.

/// One way to break the login.
#[derive(Debug)]
pub(crate) struct Breakage {
    pub(crate) name: &'static str,
    /// Shell, with the variables of the kit.
    pub(crate) recipe: &'static str,
    /// `diagnose` must name one of these.
    pub(crate) checks: &'static [&'static str],
}

const fn breakage(name: &'static str, recipe: &'static str, checks: &'static [&'static str]) -> Breakage {
    Breakage { name, recipe, checks }
}

/// In an order in which each can follow any other: content, then what is there at all, then owners, then modes, then
/// ACLs and flags.
pub(crate) const BREAKAGES: &[Breakage] = &[
    // what the file of keys says
    breakage("keys-empty", ": >$A", &["key-file-empty", "key-absent"]),
    breakage(
        "keys-commented-out",
        "sed -i 's/^/#/' $A",
        &["key-absent", "key-file-empty", "key-line-broken"],
    ),
    breakage(
        "keys-of-somebody-else",
        "echo 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ3yqk3c8mNn6yO0cJ0sB5m1d8bVdQy2t0mH0n3s1x9Q old@laptop' >$A",
        &["key-absent"],
    ),
    breakage(
        "keys-glued-to-the-line-before",
        "printf 'ssh-rsa AAAAB3Nz' >$A.n; cat $A >>$A.n; cat $A.n >$A; rm $A.n",
        &["key-line-broken", "key-absent"],
    ),
    breakage(
        "keys-wrapped",
        "fold -w 64 $A >$A.n; cat $A.n >$A; rm $A.n",
        &["key-line-broken", "key-absent"],
    ),
    breakage(
        "keys-as-putty-exports-them",
        "ssh-keygen -e -f $A >$A.n; cat $A.n >$A; rm $A.n",
        &["key-line-broken", "key-absent", "key-file-empty"],
    ),
    breakage(
        "keys-in-utf-16",
        "iconv -t UTF-16LE $A >$A.n; cat $A.n >$A; rm $A.n",
        &["key-line-broken", "key-absent", "key-file-empty"],
    ),
    breakage(
        "keys-zeroed-by-a-crash",
        "truncate -s 0 $A; truncate -s 512 $A",
        &["key-absent", "key-file-empty", "key-line-broken"],
    ),
    breakage(
        "keys-with-a-word-too-many",
        "sed -i 's/^/- /' $A",
        &["key-line-refuses", "key-line-broken", "key-absent"],
    ),
    breakage(
        "keys-without-last-newline-and-another",
        "printf 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ3yqk3c8mNn6yO0cJ0sB5m1d8bVdQy2t0mH0n3s1x9Q old' >$A",
        &["key-absent"],
    ),
    // what is there
    breakage("key-file-missing", "rm -f $A", &["key-file-missing"]),
    breakage("key-file-misnamed", "mv $A $H/.ssh/authorized_key", &["key-file-missing"]),
    breakage("key-file-a-dangling-link", "rm -f $A; ln -s /nonexistent $A", &["key-file-link-broken"]),
    breakage("key-file-a-link-to-itself", "rm -f $A; ln -s authorized_keys $A", &["key-file-link-broken"]),
    breakage("ssh-dir-missing", "rm -r $H/.ssh", &["ssh-dir-missing", "key-file-missing"]),
    breakage("ssh-dir-misspelt", "mv $H/.ssh $H/.SSH", &["ssh-dir-missing", "key-file-missing"]),
    breakage("home-missing", "rm -r $H", &["home-missing"]),
    breakage("home-moved", "mv $H $R/home/moved", &["home-missing"]),
    breakage("user-not-in-passwd", "sed -i \"/^$U:/d\" $R/etc/passwd", &["user-missing"]),
    breakage(
        "user-nowhere-but-in-the-backups",
        "for f in passwd shadow group gshadow subuid subgid; do sed -i \"/^$U:/d;s/\\([:,]\\)$U\\$/\\1/\" $R/etc/$f; done",
        &["user-missing"],
    ),
    breakage(
        "user-nowhere-at-all",
        "for f in passwd shadow group gshadow passwd- shadow- group- gshadow- subuid subgid; do sed -i \"/^$U:/d;s/\\([:,]\\)$U\\$/\\1/\" $R/etc/$f; done",
        &["user-missing"],
    ),
    breakage("shadow-line-missing", "sed -i \"/^$U:/d\" $R/etc/shadow", &["shadow-entry-missing"]),
    // whose it is
    breakage("home-of-a-stranger", "chown 12345 $H", &["home-wrong-owner"]),
    breakage("home-tree-of-a-stranger", "chown -R 12345:12345 $H", &["home-wrong-owner"]),
    breakage(
        "home-tree-of-root",
        "mkdir -p $H/project/src; touch $H/project/src/main.c; chown -R 0:0 $H",
        &["ssh-dir-not-searchable", "key-file-unreadable", "home-drift", "ssh-dir-wrong-owner"],
    ),
    breakage(
        "home-of-root-and-closed",
        "chown 0:0 $H; chmod 700 $H",
        &["home-not-searchable", "home-wrong-owner"],
    ),
    breakage("ssh-dir-of-root", "chown 0:0 $H/.ssh", &["ssh-dir-not-searchable", "ssh-dir-wrong-owner"]),
    breakage("ssh-dir-of-a-stranger", "chown 12345 $H/.ssh; chmod 755 $H/.ssh", &["ssh-dir-wrong-owner"]),
    breakage("key-file-of-root", "chown 0:0 $A", &["key-file-unreadable", "key-file-wrong-owner"]),
    breakage("key-file-of-a-stranger", "chown 12345 $A; chmod 644 $A", &["key-file-wrong-owner"]),
    // modes
    breakage("slash-home-closed", "chmod 700 $R/home", &["directory-not-searchable", "home-parent-mode"]),
    breakage("everything-in-home-0777", "chmod -R 777 $R/home", &["home-writable-by-others"]),
    breakage("home-0777", "chmod 777 $H", &["home-writable-by-others"]),
    breakage("home-writable-by-users", "chgrp 100 $H; chmod 775 $H", &["home-writable-by-others"]),
    breakage("home-0600", "chmod 600 $H", &["home-not-searchable"]),
    breakage("home-0000", "chmod 000 $H", &["home-not-searchable"]),
    breakage("ssh-dir-0777", "chmod 777 $H/.ssh", &["ssh-dir-writable-by-others"]),
    breakage("ssh-dir-0600", "chmod 600 $H/.ssh", &["ssh-dir-not-searchable"]),
    breakage("key-file-0666", "chmod 666 $A", &["key-file-writable-by-others"]),
    breakage("key-file-0602", "chmod 602 $A", &["key-file-writable-by-others"]),
    breakage("key-file-0000", "chmod 000 $A", &["key-file-unreadable"]),
    breakage("host-keys-0644", "chmod 644 $R/etc/ssh/ssh_host_*_key", &["host-keys-too-open"]),
    breakage("etc-ssh-0777-throughout", "chmod -R 777 $R/etc/ssh", &["host-keys-too-open"]),
    breakage("slash-closed", "chmod 700 $R", &["directory-not-searchable", "root-directory-mode"]),
    // ACLs and flags
    breakage(
        "acl-shuts-the-user-out",
        "chown 0:0 $A; chmod 644 $A; setfacl -m u:$I:--- $A",
        &["key-file-unreadable"],
    ),
    breakage("acl-lets-everybody-write", "setfacl -m o::rwx $H", &["home-writable-by-others"]),
    breakage("key-file-0666-and-immutable", "chmod 666 $A; chattr +i $A", &["key-file-writable-by-others"]),
    breakage(
        "key-file-append-only-and-empty",
        "chattr -i $A; : >$A; chmod 600 $A; chattr +a $A",
        &["key-absent", "key-file-empty"],
    ),
    breakage(
        "ssh-dir-0777-and-immutable",
        "chmod 777 $H/.ssh; chattr +i $H/.ssh",
        &["ssh-dir-writable-by-others"],
    ),
];
