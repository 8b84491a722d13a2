//! Asks real sshd and volrescue the same, and tells where they differ.

use crate::cases::{Case, What};
use crate::tree::Laid;
use anyhow::{Context, Result, ensure};
use bstr::{BString, ByteSlice};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use volrescue::sshd::Build;
use volrescue::sshd::config::{Config, Connection, Effective, ErrorKind, PermitRootLogin, Setting};
use volrescue::sshd::pattern::parse_address;

/// Who connects, in every configuration: name, groups, address, host name.
const WHO: &[(&str, Option<&[&str]>, &str, &str)] = &[
    ("alice", Some(&["alice", "wheel", "devs"]), "10.1.2.3", "Client.Example.com"),
    ("bob", Some(&["users"]), "192.168.7.9", "bob.example.org"),
    ("root", Some(&["root"]), "2001:db8::7", "six.example.net"),
    ("nobodyhere", None, "203.0.113.5", "far.example.net"),
];

/// Runs each case: mounts its /etc/ssh over the tree's in a namespace of its own, and asks sshd.
const SCRIPT: &str = r#"
set -e
mount --make-rprivate /
mount --bind "$WORK/etc" "$TREE/etc"
mount -t tmpfs none "$TREE/run"
mkdir -p "$TREE/run/sshd"
for case in "$WORK"/cases/*; do
    mount --bind "$case/ssh" "$TREE/etc/ssh"
    rc=0; timeout 10 chroot "$TREE" /usr/sbin/sshd -t >"$case/t.out" 2>"$case/t.err" </dev/null || rc=$?
    echo $rc >"$case/t.rc"
    [ $rc = 0 ] || : >"$case/specs"
    n=0
    while read -r spec; do
        rc=0; timeout 10 chroot "$TREE" /usr/sbin/sshd -T -C "$spec" >"$case/$n.out" 2>"$case/$n.err" </dev/null || rc=$?
        echo $rc >"$case/$n.rc"
        n=$((n + 1))
    done <"$case/specs"
    umount "$TREE/etc/ssh"
done
"#;

/// What sshd and volrescue do not agree on, in words.
pub(crate) fn disagreements(tree: &Path, cases: &[Case]) -> Result<Vec<String>> {
    let work = Work::new(tree)?;
    let mut loaded = Vec::new();
    let view = |ssh: PathBuf| Laid { tree: tree.to_owned(), etc: work.0.join("etc"), ssh };
    let build = Build::detect(&view(tree.join("etc/ssh")));
    ensure!(build.version.is_some(), "no version of sshd was found in {}", tree.display());
    for (number, case) in cases.iter().enumerate() {
        let directory = work.0.join(format!("cases/{number:05}"));
        case.write(&directory.join("ssh"), &work.0)?;
        let config = Config::load(&view(directory.join("ssh")), &build, &[]);
        let use_dns = config.effective(&Connection::default()).0.use_dns.value;
        let specs: Vec<String> = WHO
            .iter()
            .take(case.who)
            .map(|(user, _, address, host)| {
                let host = if use_dns { host } else { address };
                format!("user={user},host={host},addr={address},laddr=10.9.9.9,lport=2222")
            })
            .collect();
        std::fs::write(directory.join("specs"), specs.join("\n") + "\n")?;
        loaded.push((directory, config));
    }
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", SCRIPT])
        .env("TREE", tree)
        .env("WORK", &work.0)
        .stdin(Stdio::null())
        .output()
        .context("unshare")?;
    ensure!(output.status.success(), "the trial failed: {}", output.stderr.as_bstr());
    let mut found = Vec::new();
    for (case, (directory, config)) in cases.iter().zip(&loaded) {
        let mut differences = String::new();
        compare(&build, case.who, directory, config, &mut differences)?;
        if !differences.is_empty() {
            found.push(format!("--- {}\n{}{differences}", case.name, case.show()));
        }
    }
    Ok(found)
}

fn compare(build: &Build, who: usize, directory: &Path, config: &Config, out: &mut String) -> Result<()> {
    let read = |name: &str| -> Result<String> {
        let bytes = std::fs::read(directory.join(name)).with_context(|| name.to_owned())?;
        Ok(bytes.to_str_lossy().into_owned())
    };
    let starts = read("t.rc")?.trim() == "0";
    let errors = read("t.err")?;
    if config.errors.iter().any(|error| error.kind == ErrorKind::Unknown) {
        // What is not on the disk (a name to resolve) is not asked.
        return Ok(());
    }
    if errors.contains("no hostkeys available") {
        // The configuration was taken; that a generated HostKey names nothing is another matter.
        return Ok(());
    }
    let stops: Vec<_> = config.errors.iter().filter(|error| error.stops_start).collect();
    if starts != stops.is_empty() {
        writeln!(out, "sshd starts: {starts}; volrescue: {:?}\nsshd: {errors}", config.errors)?;
        return Ok(());
    }
    if let Some(first) = stops.first() {
        // The words of other ages are not told apart.
        let ours = first.says.split("; ").all(|part| errors.contains(part));
        if build.at_least(9, 0) && !build.at_least(9, 3) && !ours {
            writeln!(out, "sshd says: {errors}volrescue: {}", first.says)?;
        }
        return Ok(());
    }
    for (number, (user, groups, address, host)) in WHO.iter().enumerate().take(who) {
        let groups = groups.map(|groups| groups.iter().copied().map(BString::from).collect());
        let connection = Connection {
            user: BString::from(*user),
            groups,
            address: Some(address.parse::<IpAddr>()?),
            host: Some(BString::from(*host)),
            local_address: Some("10.9.9.9".parse()?),
            local_port: Some(2222),
        };
        let (effective, undecided) = config.effective(&connection);
        let lives = read(&format!("{number}.rc"))?.trim() == "0";
        if lives == effective.fatal.is_some() {
            let errors = read(&format!("{number}.err"))?;
            writeln!(out, "{user}: sshd lives: {lives}; volrescue: {:?}\nsshd: {errors}", effective.fatal)?;
            continue;
        }
        if !lives {
            continue;
        }
        let output = read(&format!("{number}.out"))?;
        let theirs = printed(&output);
        for (keyword, ours) in expected(build, &effective) {
            let theirs = theirs.get(keyword).map_or(&[][..], Vec::as_slice);
            if !same(keyword, theirs, &ours) {
                writeln!(out, "{user}: {keyword}: sshd {theirs:?}, volrescue {ours:?}")?;
            }
        }
        // A routing domain is never known; everything else was told.
        if undecided.iter().any(|undecided| !undecided.missing.contains("routing domain")) {
            writeln!(out, "{user}: undecided without cause: {undecided:?}")?;
        }
    }
    Ok(())
}

/// Lists of algorithms in any order; `none` is dropped from AuthorizedKeysFile; an empty list for the key exchange
/// shows as the default only because `sshd -T` goes through the lists once more, as for a connection.
fn same(keyword: &str, theirs: &[String], ours: &[String]) -> bool {
    let sorted = |values: &[String], separator: char| {
        let words = values.iter().flat_map(|value| value.split(separator)).map(str::to_owned);
        let mut words: Vec<String> = words.filter(|word| !word.eq_ignore_ascii_case("none")).collect();
        words.sort();
        words
    };
    match keyword {
        "authorizedkeysfile" => sorted(theirs, ' ') == sorted(ours, ' '),
        "ciphers" | "macs" | "kexalgorithms" | "hostkeyalgorithms" if ours == [""] => true,
        _ if keyword.ends_with("algorithms") || keyword == "macs" || keyword == "pubkeyacceptedkeytypes" => {
            sorted(theirs, ',') == sorted(ours, ',')
        }
        "listenaddress" => {
            let host = |value: &String| {
                let value = value.split(' ').next().unwrap_or_default();
                value.rsplit_once(':').map_or(value, |(host, _)| host).trim_matches(['[', ']']).to_owned()
            };
            let theirs: BTreeSet<String> = theirs.iter().map(host).collect();
            // What a name stands for is the resolver's.
            ours.contains(&"a name".to_owned()) || theirs == ours.iter().cloned().collect()
        }
        "maxstartups" | "persourcemaxstartups" => {
            theirs.iter().map(|value| dropped(value)).eq(ours.iter().cloned())
        }
        "hostkey" => theirs.iter().filter(|file| *file != "(null)").eq(ours),
        _ => {
            theirs == ours
                || (ours == ["none"]
                    && theirs.len() == 1
                    && theirs.iter().all(|one| one.eq_ignore_ascii_case("none")))
        }
    }
}

/// How many of a hundred first connections these values drop (sshd.c, `drop_connection`).
fn dropped(value: &str) -> String {
    let numbers: Vec<i64> = value.split(':').filter_map(|number| number.parse().ok()).collect();
    let dropped = match numbers[..] {
        [begin, ..] if begin > 0 => 0,
        [_, rate, most] if most > 0 => rate,
        [] => 0,
        _ => 100,
    };
    dropped.to_string()
}

fn printed(text: &str) -> BTreeMap<&str, Vec<String>> {
    let mut values: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for line in text.lines() {
        let (keyword, value) = line.split_once(' ').unwrap_or((line, ""));
        values.entry(keyword).or_default().push(value.to_owned());
    }
    values
}

/// Every keyword of [`Effective`] as `sshd -T` prints it.
fn expected(build: &Build, effective: &Effective) -> Vec<(&'static str, Vec<String>)> {
    let one = |value: String| vec![value];
    let flag = |setting: &Setting<bool>| one(if setting.value { "yes" } else { "no" }.to_owned());
    let text = |setting: &Setting<Option<BString>>| {
        one(setting.value.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string))
    };
    let list = |settings: &[Setting<BString>]| settings.iter().map(|word| word.value.to_string()).collect();
    let names = |setting: &Setting<Vec<String>>| one(setting.value.join(","));
    let words = |words: &[BString], none: &str| {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        one(if words.is_empty() { none.to_owned() } else { words.join(" ") })
    };
    let count = |setting: &Setting<u32>| one(setting.value.to_string());
    let root = match effective.permit_root_login.value {
        PermitRootLogin::Yes => "yes",
        PermitRootLogin::ProhibitPassword => "without-password",
        PermitRootLogin::ForcedCommandsOnly => "forced-commands-only",
        PermitRootLogin::No => "no",
    };
    let e = effective;
    let (family, everywhere) = match e.address_family.value {
        4 => ("inet", vec!["0.0.0.0"]),
        6 => ("inet6", vec!["::"]),
        _ => ("any", vec!["0.0.0.0", "::"]),
    };
    let listens = if e.listen_addresses.is_empty() {
        everywhere.into_iter().map(str::to_owned).collect()
    } else {
        let shown = |host: &Setting<BString>| {
            parse_address(&host.value).map_or_else(|| "a name".to_owned(), |address| address.to_string())
        };
        e.listen_addresses.iter().map(shown).collect()
    };
    let mut all = vec![
        ("usepam", flag(&e.use_pam)),
        ("strictmodes", flag(&e.strict_modes)),
        ("pubkeyauthentication", flag(&e.pubkey_authentication)),
        ("passwordauthentication", flag(&e.password_authentication)),
        ("kbdinteractiveauthentication", flag(&e.kbd_interactive_authentication)),
        ("gssapiauthentication", flag(&e.gssapi_authentication)),
        ("gssapikeyexchange", flag(&e.gssapi_key_exchange)),
        ("hostbasedauthentication", flag(&e.hostbased_authentication)),
        ("permitrootlogin", one(root.to_owned())),
        ("authorizedkeysfile", words(&e.authorized_keys_file.value, "none")),
        ("authorizedkeyscommand", text(&e.authorized_keys_command)),
        ("authorizedkeyscommanduser", text(&e.authorized_keys_command_user)),
        ("authorizedprincipalsfile", text(&e.authorized_principals_file)),
        ("authorizedprincipalscommand", text(&e.authorized_principals_command)),
        ("authorizedprincipalscommanduser", text(&e.authorized_principals_command_user)),
        ("trustedusercakeys", text(&e.trusted_user_ca_keys)),
        ("revokedkeys", text(&e.revoked_keys)),
        ("allowusers", list(&e.allow_users)),
        ("denyusers", list(&e.deny_users)),
        ("allowgroups", list(&e.allow_groups)),
        ("denygroups", list(&e.deny_groups)),
        ("authenticationmethods", words(&e.authentication_methods.value, "any")),
        ("casignaturealgorithms", names(&e.ca_signature_algorithms)),
        ("kexalgorithms", names(&e.kex_algorithms)),
        ("ciphers", names(&e.ciphers)),
        ("macs", names(&e.macs)),
        ("hostkeyalgorithms", names(&e.host_key_algorithms)),
        ("forcecommand", text(&e.force_command)),
        ("chrootdirectory", text(&e.chroot_directory)),
        ("maxauthtries", count(&e.max_auth_tries)),
        ("maxsessions", count(&e.max_sessions)),
        ("usedns", flag(&e.use_dns)),
        ("hostkey", list(&e.host_keys)),
        ("hostkeyagent", text(&e.host_key_agent)),
        ("addressfamily", one(family.to_owned())),
        ("listenaddress", listens),
        ("maxstartups", count(&e.max_startups)),
        ("port", e.ports.iter().map(ToString::to_string).collect()),
    ];
    let accepted = if build.at_least(8, 5) { "pubkeyacceptedalgorithms" } else { "pubkeyacceptedkeytypes" };
    all.push((accepted, names(&e.pubkey_accepted_algorithms)));
    if build.at_least(8, 5) {
        all.push(("persourcemaxstartups", count(&e.per_source_max_startups)));
    }
    if build.at_least(9, 1) {
        all.push(("requiredrsasize", count(&e.required_rsa_size)));
    }
    if build.at_least(9, 8) {
        all.push(("pamservicename", one(e.pam_service_name.value.to_string())));
        all.push(("sshdsessionpath", text(&e.sshd_session_path)));
    }
    if build.at_least(9, 9) {
        all.push(("refuseconnection", flag(&e.refuse_connection)));
    }
    if build.at_least(10, 0) {
        all.push(("sshdauthpath", text(&e.sshd_auth_path)));
    }
    all
}

/// A directory of this trial's own; gone with it.
struct Work(PathBuf);

impl Work {
    fn new(tree: &Path) -> Result<Self> {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("volrescue-config-oracle-{}-{number}", std::process::id());
        let work = Self(std::env::temp_dir().join(name));
        std::fs::create_dir_all(work.0.join("cases"))?;
        let copied = Command::new("cp").arg("-a").arg(tree.join("etc")).arg(work.0.join("etc")).status()?;
        ensure!(copied.success(), "cp failed");
        let add = |file: &str, lines: &str| -> Result<()> {
            let path = work.0.join("etc").join(file);
            let text = std::fs::read_to_string(&path).unwrap_or_default() + lines;
            Ok(std::fs::write(path, text)?)
        };
        add("passwd", "alice:x:2001:2001::/home/alice:/bin/sh\nbob:x:2002:100::/home/bob/:/bin/sh\n")?;
        add("group", "alice:x:2001:\nwheel:x:2010:alice\ndevs:x:2011:alice,carol\n")?;
        for kind in ["ecdsa", "ed25519"] {
            let key = work.0.join(format!("ssh_host_{kind}_key"));
            let made = Command::new("ssh-keygen").args(["-q", "-N", "", "-t", kind, "-f"]).arg(key).status();
            ensure!(made.context("ssh-keygen")?.success(), "ssh-keygen failed");
        }
        add("services", "\nssh 22/tcp\nodd 2222/tcp strange # x\n")?;
        Ok(work)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // Nothing is mounted here but in the namespace of the trial, which is gone.
        let _ = Command::new("rm").args(["-rf", "--one-file-system"]).arg(&self.0).status();
    }
}

impl Case {
    fn write(&self, ssh: &Path, keys: &Path) -> Result<()> {
        std::fs::create_dir_all(ssh)?;
        for kind in ["ecdsa", "ed25519"] {
            let name = format!("ssh_host_{kind}_key");
            let key = std::fs::read(keys.join(&name))?;
            let path = ssh.join(name);
            std::fs::write(&path, key)?;
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        }
        for (path, what) in &self.files {
            let path = ssh.join(path);
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            match what {
                What::File(content) => std::fs::write(path, content)?,
                What::Link(target) => std::os::unix::fs::symlink(target, path)?,
                What::Directory => std::fs::create_dir_all(path)?,
            }
        }
        Ok(())
    }

    fn show(&self) -> String {
        let mut text = String::new();
        for (path, what) in &self.files {
            let _ = match what {
                What::File(content) => writeln!(text, "[{path}] {:?}", content.as_bstr()),
                What::Link(target) => writeln!(text, "[{path}] -> {target}"),
                What::Directory => writeln!(text, "[{path}] a directory"),
            };
        }
        text
    }
}
