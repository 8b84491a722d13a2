//! What the program may do itself, and on which kernel it works at all.

use crate::kit::{World, trees};
use crate::{Case, Needs};
use anyhow::{Context as _, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("own::rights-are-those-that-are-used", Needs::Namespace, rights),
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
