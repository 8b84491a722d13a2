//! What the program may do itself, and on which kernel it works at all.

use crate::kit::{World, trees};
use crate::{Case, Needs};
use anyhow::{Context as _, Result, bail, ensure};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("own::rights-are-those-that-are-used", Needs::Namespace, rights),
        Case::new("own::no-name-of-the-volume-reaches-a-call-by-path", Needs::Namespace, by_path),
        Case::new("own::the-modules-that-open-by-path-are-these", Needs::Namespace, modules),
        Case::new("own::a-kernel-without-openat2-is-refused-at-once", Needs::Namespace, old_kernel),
    ]
}

/// `CHOWN` to `LINUX_IMMUTABLE`, and the few others that the program says it uses; of what an attacker would like, loading
/// modules, raw I/O, raw sockets, the clock, BPF and tracing are gone.
const GONE: [(&str, u32); 8] = [
    ("SYS_MODULE", 16),
    ("SYS_RAWIO", 17),
    ("NET_RAW", 13),
    ("SYS_BOOT", 22),
    ("SYS_TIME", 25),
    ("SYSLOG", 34),
    ("PERFMON", 38),
    ("BPF", 39),
];

fn rights() -> Result<()> {
    let program = program();
    let tree = trees()?.join("bookworm-slim");
    // It waits for a key on its standard input, so that it can be looked at.
    let mut child = Command::new(program)
        .args(["diagnose", "--key", "-", "--user", "admin"])
        .arg(tree)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let status = Path::new("/proc").join(child.id().to_string()).join("status");
    let seen = (0..600).find_map(|_| {
        std::thread::sleep(Duration::from_millis(50));
        let text = fs::read_to_string(&status).ok()?;
        let reads = text.contains("NoNewPrivs:\t1") && text.contains("Name:\tvolrescue");
        reads.then_some(text)
    });
    // The last of the three has been done once it reads.
    std::thread::sleep(Duration::from_millis(500));
    let text = fs::read_to_string(&status).unwrap_or_default();
    let _ = child.kill();
    child.wait()?;
    seen.context("new privileges were never given up")?;
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd"] {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{set}:\t"))).context(set)?;
        let bits = u64::from_str_radix(line.trim(), 16)?;
        for (name, number) in GONE {
            ensure!(bits >> number & 1 == 0, "{set} has CAP_{name}: {line}");
        }
        ensure!(
            set == "CapInh" || bits >> 21 & 1 == 1,
            "{set} lacks CAP_SYS_ADMIN, which mounting needs: {line}"
        );
    }
    Ok(())
}

fn program() -> PathBuf {
    std::env::var_os("VOLRESCUE_PROGRAM")
        .map_or_else(|| env!("CARGO_BIN_EXE_volrescue").into(), PathBuf::from)
}

/// In the home and beside the configuration every name has this in it, and no other name on this machine.
const MARK: &str = "zzqmark";

const MARKED: &str = "mv $R/home/admin $R/home/zzqmark; sed -i s,/home/admin:,/home/zzqmark:, $R/etc/passwd
    echo UseDNS no >$R/etc/ssh/sshd_config.d/zzqmark.conf
    mkdir -p $R/home/zzqmark/zzqmark.d/zzqmark; touch $R/home/zzqmark/zzqmark.d/zzqmark/zzqmark; ln -s zzqmark.d $R/home/zzqmark/zzqmark.l
    chown -R 0:0 $R/home/zzqmark; chmod 777 $R/home/zzqmark";

/// As the kernel sees it: a system call that takes a path has a name of the volume only below a directory that is held, or
/// by /proc/self/fd; no program is given one. What runs in the sandbox of `prove`, behind its pivot_root, is the volume's.
fn by_path() -> Result<()> {
    let (slim, key) = (trees()?.join("bookworm-slim"), trees()?.join("login_key.pub"));
    World::with(move |world| {
        let tree = world.tree(&slim)?;
        world.script(&format!("R=$T; {MARKED}"), &[("T", &tree)])?;
        let (state, log) = (world.scratch.join("state"), world.scratch.join("strace"));
        let traced = |words: &[OsString], input: &str, meets: bool| -> Result<String> {
            let mut child = Command::new("strace")
                .args([
                    "-f",
                    "-qq",
                    "--pidns-translation",
                    "-s",
                    "4096",
                    "-e",
                    "trace=%file,%process",
                    "-e",
                    "signal=none",
                    "-o",
                ])
                .arg(&log)
                .arg(program())
                .args(words)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .context("strace")?;
            child.stdin.take().context("standard input")?.write_all(input.as_bytes())?;
            let output = child.wait_with_output()?;
            let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
            let lines = || {
                text.lines()
                    .filter_map(|line| line.split_once(' '))
                    .map(|(pid, call)| (pid, call.trim_start()))
            };
            // A child may be seen before its parent's call returns.
            let mut all: BTreeSet<String> = lines()
                .filter(|(_, call)| call.starts_with("pivot_root("))
                .map(|(pid, _)| pid.to_owned())
                .collect();
            let born = || lines().filter(|(_, call)| call.contains("clone") || call.contains("fork"));
            let child = |call: &'_ str| -> Option<String> {
                let (_, result) = call.rsplit_once("= ")?;
                let outer = result.split("/* ").nth(1).unwrap_or(result);
                outer.split_whitespace().next().map(str::to_owned)
            };
            let children: Vec<(&str, String)> =
                born().filter_map(|(pid, call)| Some((pid, child(call)?))).collect();
            loop {
                let before = all.len();
                all.extend(
                    children
                        .iter()
                        .filter(|(parent, _)| all.contains(*parent))
                        .map(|(_, child)| child.clone())
                        .collect::<Vec<_>>(),
                );
                if all.len() == before {
                    break;
                }
            }
            let mut met = 0;
            for (pid, call) in lines() {
                if all.contains(pid) {
                    continue;
                }
                if !call.contains(MARK) {
                    continue;
                }
                met += 1;
                let (name, arguments) = call.split_once('(').unwrap_or_default();
                let mut parts = arguments.split(", ");
                let first = parts.next().unwrap_or_default();
                let held = first.parse::<u32>().is_ok() && !arguments.contains("\"/");
                let through =
                    ["\"/proc/self/fd/", "\"/proc/thread-self/fd/"].iter().any(|fd| first.starts_with(fd));
                // symlinkat's first argument is what the link says.
                let link = name == "symlinkat" && parts.next().is_some_and(|fd| fd.parse::<u32>().is_ok());
                // A single name, not followed, where the thread itself stands: a directory that it holds.
                let beside = name == "lgetxattr" && first == format!("\"{MARK}\"");
                ensure!(held || through || link || beside, "{words:?}: {call}");
            }
            ensure!(met > 0 || !meets, "{words:?} met no name of the volume");
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        };
        let words = |all: &[&str], last: &[&Path]| -> Vec<OsString> {
            let last = last.iter().map(|path| path.as_os_str().to_owned());
            all.iter().map(OsString::from).chain(last).collect()
        };
        let (key, state, tree) = (key.as_path(), state.as_path(), tree.as_path());
        let login = ["--json", "--user", "admin"];
        let diagnose = words(&[&["diagnose"], &login[..], &["--key"]].concat(), &[key, tree]);
        traced(&diagnose, "", true)?;
        let options = ["--yes", "--fix", "all", "--create-user"];
        let repair = [&["repair"], &login[..], &options[..]].concat();
        let repair = words(&repair, &["--key".as_ref(), key, "--state-dir".as_ref(), state, tree]);
        let said = traced(&repair, "", true)?;
        let document: serde_json::Value = serde_json::from_str(&said).context(said)?;
        ensure!(document["users"][0]["verdict"] == "accept", "{document}");
        let run = document["run"].as_str().context("no run")?;
        traced(&words(&[&["prove"], &login[..]].concat(), &[tree]), "", true)?;
        traced(&words(&["shell", "--state-dir"], &[state, tree]), "true\n", false)?;
        traced(&words(&["undo", "--yes", "--state-dir"], &[state, run.as_ref()]), "", true)?;
        world.ensure_untouched()
    })
}

/// The lint keeps calls by path out of every other module; a module that is added here has been looked at.
fn modules() -> Result<()> {
    const ALLOWED: &[&str] = &[
        "apply/accounts_lock.rs",
        "apply/tree/desk.rs",
        "inside.rs",
        "journal.rs",
        "prove.rs",
        "prove/inside.rs",
        "prove/sandbox.rs",
        "root/handle.rs",
        "run/host_keys.rs",
        "run/keys.rs",
        "run/luks.rs",
        "run/page.rs",
        "run/session.rs",
        "run/targets.rs",
        "shell.rs",
        "sshd/evaluate/program.rs",
        "sys/block.rs",
        "sys/mounts.rs",
        "volume.rs",
    ];
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut ahead = vec![source.clone()];
    while let Some(path) = ahead.pop() {
        if path.is_dir() {
            ahead.extend(fs::read_dir(&path)?.flatten().map(|entry| entry.path()));
            continue;
        }
        let text = fs::read_to_string(&path)?;
        let inside = path.strip_prefix(&source)?.to_string_lossy().into_owned();
        // All of volume works with the helper's devices and mount points; what is in the volume it asks a Root.
        let allowed = ALLOWED.contains(&inside.as_str()) || inside.starts_with("volume/");
        ensure!(allowed || !text.contains("disallowed_methods"), "{inside} opens by path");
        // Only names below a directory that is held, but for what is the helper's.
        let bare = text.contains("AT_FDCWD") && !inside.starts_with("root") && !inside.starts_with("sys/");
        ensure!(allowed || !bare, "{inside} resolves names from the working directory");
    }
    Ok(())
}

/// A filter that answers ENOSYS to openat2 (437 everywhere), then the program.
const WITHOUT: &str = r#"
import ctypes, os, struct, sys
code = b"".join(struct.pack("HBBI", *step) for step in
    [(0x20, 0, 0, 0), (0x15, 0, 1, 437), (0x06, 0, 0, 0x00050000 | 38), (0x06, 0, 0, 0x7fff0000)])
buffer = ctypes.create_string_buffer(code)
class Program(ctypes.Structure): _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
libc = ctypes.CDLL(None, use_errno=True)
filter = Program(4, ctypes.addressof(buffer))
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(filter), 0, 0): sys.exit("no filter")
os.execv(sys.argv[1], sys.argv[1:])
"#;

fn old_kernel() -> Result<()> {
    let slim = trees()?.join("bookworm-slim");
    World::with(move |world| {
        let tree = world.tree(&slim)?;
        let state = world.scratch.join("state");
        for command in [
            &["diagnose"][..],
            &["repair", "--yes"],
            &["prove", "--user", "admin"],
            &["shell"],
            &["undo", "x"],
        ] {
            let mut words: Vec<&std::ffi::OsStr> = command.iter().map(|word| (*word).as_ref()).collect();
            if command[0] == "repair" || command[0] == "undo" {
                words.extend(["--state-dir".as_ref(), state.as_os_str()]);
            }
            if command[0] != "undo" {
                words.push(tree.as_os_str());
            }
            words.push("--json".as_ref());
            let output = Command::new("python3")
                .args(["-c", WITHOUT])
                .arg(program())
                .args(&words)
                .stdin(Stdio::null())
                .output()?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let document: serde_json::Value = serde_json::from_str(&text).with_context(|| {
                format!("{command:?}: {text}\n{}", String::from_utf8_lossy(&output.stderr))
            })?;
            let message = document["error"]["message"].as_str().unwrap_or_default();
            if output.status.code() != Some(3) || !message.contains("openat2") {
                bail!("{command:?} ended {:?}: {text}", output.status.code());
            }
        }
        ensure!(!state.exists(), "something was written");
        world.ensure_untouched()
    })
}
