//! A stand-in for the helper, a tree to spoil, and the program under a watch.

use crate::Needs;
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Set for the process that runs and measures another: where it writes what it saw.
pub(crate) const MEASURE: &str = "VOLRESCUE_TEST_MEASURE";
/// No command uses more time of a processor, whatever the volume is.
const CPU: u64 = 10_000;
/// What takes longer by the clock hangs, however busy the machine is.
const SECONDS: u64 = 300;
/// Nor more memory: KiB resident.
const MEMORY: i64 = 128 << 10;
/// The login user of the trees.
pub(crate) const USER: &str = "admin";
/// What of the helper must stay as it is.
const GUARDED: [&str; 4] = ["/etc", "/home", "/root", "/tmp"];

/// Why trials that need this cannot run here.
pub(crate) fn lacking(needs: Needs) -> Option<String> {
    static NAMESPACE: OnceLock<bool> = OnceLock::new();
    let unshare = || {
        let output = Command::new("unshare").args(["--mount", "--propagation", "private", "true"]).output();
        output.is_ok_and(|output| output.status.success())
    };
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root".into());
    }
    if !*NAMESPACE.get_or_init(unshare) {
        return Some("needs mount namespaces".into());
    }
    (needs == Needs::Loop && !Path::new("/dev/loop-control").exists()).then(|| "needs loop devices".into())
}

/// The directory of `target` that holds the Debian trees.
pub(crate) fn trees() -> Result<PathBuf> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap_or(repository);
    let output = Command::new(repository.join("scripts/prepare"))
        .arg("--trees")
        .env("CARGO_TARGET_DIR", target)
        .stdin(Stdio::null())
        .output()
        .context("scripts/prepare")?;
    ensure!(output.status.success(), "scripts/prepare: {}", String::from_utf8_lossy(&output.stderr));
    Ok(target.join("trees"))
}

/// PATH with the directories of the administrator's tools.
fn tool_path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

/// Runs and measures the words of its command line: the first process of the program's, so that the memory is its alone.
pub(crate) fn measure(report: &OsStr) -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let Some((program, arguments)) = words.split_first() else { return ExitCode::FAILURE };
    let begun = Instant::now();
    let spawned = Command::new(program).args(arguments).env_remove(MEASURE).stdin(Stdio::null()).spawn();
    let Ok(mut child) = spawned else { return ExitCode::FAILURE };
    let deadline = begun + Duration::from_secs(SECONDS);
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(2)),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
        }
    };
    let Ok(usage) = getrusage(UsageWho::RUSAGE_CHILDREN) else { return ExitCode::FAILURE };
    let millis = |time: TimeVal| time.num_milliseconds();
    let cpu = millis(usage.user_time()) + millis(usage.system_time());
    let ended = match status {
        None => "late".to_owned(),
        Some(status) => status.code().map_or_else(|| format!("{status}"), |code| code.to_string()),
    };
    let seen = format!("{} {cpu} {ended}", usage.max_rss());
    if fs::write(report, seen).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How a run of the program ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// KiB.
    pub(crate) memory: i64,
    /// Milliseconds of a processor.
    pub(crate) cpu: u64,
    words: String,
}

impl Run {
    pub(crate) fn transcript(&self) -> String {
        let cut = |text: &str| text.trim_end().chars().take(3000).collect::<String>();
        format!(
            "$ {}\n[{}] {} ms, {} KiB\n{}\n{}",
            self.words,
            self.code,
            self.cpu,
            self.memory,
            cut(&self.stdout),
            cut(&self.stderr)
        )
    }

    pub(crate) fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout)
            .with_context(|| format!("standard output is no JSON\n{}", self.transcript()))
    }

    /// Nothing on the way to a terminal could drive it.
    fn ensure_harmless(&self) -> Result<()> {
        for text in [&self.stdout, &self.stderr] {
            let drives = |c: &char| {
                c.is_control() && *c != '\n'
                    || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            };
            let bad = text.chars().find(drives);
            ensure!(bad.is_none(), "{bad:?} reaches the terminal\n{:?}", self.transcript());
        }
        Ok(())
    }
}

/// A helper of the trial's own; gone with its thread.
pub(crate) struct World {
    /// A tmpfs.
    pub(crate) scratch: PathBuf,
}

impl World {
    /// Runs `body` in one.
    pub(crate) fn with<T: Send + 'static>(
        body: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let thread = std::thread::spawn(|| body(&Self::new()?));
        thread.join().map_err(|_| anyhow!("the trial's thread panicked"))?
    }

    fn new() -> Result<Self> {
        let none = None::<&str>;
        unshare(CloneFlags::CLONE_NEWNS).context("unshare")?;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("making / private")?;
        let scratch = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hostile");
        fs::create_dir_all(&scratch)?;
        mount(Some("tmpfs"), &scratch, Some("tmpfs"), MsFlags::empty(), Some("size=6g,nr_inodes=4m"))
            .context("mounting a tmpfs")?;
        let world = Self { scratch };
        for guarded in GUARDED {
            let (upper, work) = (world.upper(guarded), world.scratch.join(format!("work{guarded}")));
            fs::create_dir_all(&upper)?;
            fs::create_dir_all(&work)?;
            let options =
                format!("lowerdir={guarded},upperdir={},workdir={}", upper.display(), work.display());
            mount(Some("overlay"), guarded, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
                .with_context(|| format!("laying an overlay over {guarded}"))?;
        }
        for point in ["/dev", "/run", "/sys", "/"] {
            let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
            let done = mount(none, point, none, read_only, none);
            ensure!(done.is_ok() || point != "/", "making / read-only: {done:?}");
        }
        Ok(world)
    }

    fn upper(&self, guarded: &str) -> PathBuf {
        self.scratch.join(format!("upper{guarded}"))
    }

    /// A healthy tree.
    pub(crate) fn tree(&self, slim: &Path) -> Result<PathBuf> {
        let tree = self.scratch.join("root");
        self.script("cp -a \"$SLIM\" \"$T\"", &[("SLIM", slim), ("T", &tree)])?;
        Ok(tree)
    }

    /// Runs a shell script here.
    pub(crate) fn script(&self, body: &str, variables: &[(&str, &Path)]) -> Result<String> {
        let output = Command::new("timeout")
            .args(["--signal", "KILL", "300", "sh", "-euc", body])
            .env("PATH", tool_path())
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .output()
            .context("running a script")?;
        ensure!(
            output.status.success(),
            "{}: {}\nin the script: {body}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Nobody has changed anything of the helper's since the world was made.
    pub(crate) fn ensure_untouched(&self) -> Result<()> {
        for guarded in GUARDED {
            if let Some(first) = fs::read_dir(self.upper(guarded))?.next() {
                bail!("{guarded}/{} of the helper was changed", first?.file_name().to_string_lossy());
            }
        }
        Ok(())
    }

    /// Runs volrescue, and fails where it is late, large, killed, or ends otherwise than `codes`.
    pub(crate) fn volrescue<S: AsRef<OsStr>>(&self, words: &[S], codes: &[i32]) -> Result<Run> {
        let program = std::env::var_os("VOLRESCUE_PROGRAM")
            .map_or_else(|| env!("CARGO_BIN_EXE_volrescue").into(), PathBuf::from);
        let report = self.scratch.join("measured");
        let output = Command::new(std::env::current_exe()?)
            .arg(program)
            .args(words)
            .env(MEASURE, &report)
            .env_remove("VOLRESCUE_STATE_DIR")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .output()
            .context("running volrescue")?;
        let seen = fs::read_to_string(&report).context("what was measured")?;
        let mut seen = seen.splitn(3, ' ');
        let mut next = || seen.next().unwrap_or_default();
        let (memory, cpu, ended) = (next().parse()?, next().parse()?, next().to_owned());
        let run = Run {
            code: ended.parse().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            memory,
            cpu,
            words: words.iter().map(|word| word.as_ref().to_string_lossy()).collect::<Vec<_>>().join(" "),
        };
        ensure!(codes.contains(&run.code), "ended {ended}, not in {codes:?}\n{}", run.transcript());
        ensure!(run.cpu <= CPU, "took {} ms\n{}", run.cpu, run.transcript());
        ensure!(run.memory <= MEMORY, "took {} KiB\n{}", run.memory, run.transcript());
        ensure!(!run.stderr.contains("panicked"), "{}", run.transcript());
        run.ensure_harmless()?;
        if std::env::var_os("VOLRESCUE_TEST_FIGURES").is_some() {
            println!("figures: {} ms {} KiB {}", run.cpu, run.memory, run.words);
        }
        Ok(run)
    }
}

/// Every entry of a tree, but for what lies beyond the length of a path: what could be seen of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Manifest(BTreeMap<PathBuf, String>);

impl Manifest {
    /// Of a tree, or of an image, which is mounted for as long as that takes.
    pub(crate) fn of(world: &World, target: &Path) -> Result<Self> {
        if target.is_dir() {
            return Self::of_tree(target);
        }
        let point = world.scratch.join("mounted");
        fs::create_dir_all(&point)?;
        let both: [(&str, &Path); 2] = [("F", target), ("P", &point)];
        world.script("mount -o ro,loop \"$F\" \"$P\"", &both)?;
        let all = Self::of_tree(&point);
        // A process that another trial starts holds what this one has open, until it is another program.
        world.script("for try in $(seq 50); do umount \"$P\" && exit; sleep 0.1; done; exit 1", &both)?;
        all
    }

    fn of_tree(tree: &Path) -> Result<Self> {
        let mut all = BTreeMap::new();
        let mut ahead = vec![PathBuf::from("/")];
        while let Some(inside) = ahead.pop() {
            let path = tree.join(inside.strip_prefix("/").unwrap_or(&inside));
            let looked = fs::symlink_metadata(&path);
            if let Err(error) = &looked
                && error.raw_os_error() == Some(nix::libc::EINVAL)
            {
                all.insert(inside, error.to_string());
                continue;
            }
            let stat = looked.with_context(|| format!("{}", path.display()))?;
            let mut facts = facts(&path, &stat)?;
            if stat.is_dir() {
                let names = fs::read_dir(&path).map(|entries| entries.map(|entry| Ok(entry?.file_name())));
                let names: Vec<OsString> = match names {
                    Ok(names) => names.collect::<Result<_>>()?,
                    // A malformed ACL keeps root out too.
                    Err(error) if error.raw_os_error() == Some(nix::libc::EINVAL) => Vec::new(),
                    Err(error) => return Err(error).with_context(|| format!("{}", path.display())),
                };
                if names.len() > CROWD {
                    facts.push_str(&crowd(&path, &names)?);
                } else {
                    let below = names.iter().map(|name| inside.join(name));
                    ahead.extend(below.filter(|below| below.as_os_str().len() < 3000));
                }
            }
            all.insert(inside, facts);
        }
        Ok(Self(all))
    }

    /// The paths that are not the same, and how.
    pub(crate) fn changes(&self, after: &Self) -> Vec<(PathBuf, String)> {
        let paths: std::collections::BTreeSet<&PathBuf> = self.0.keys().chain(after.0.keys()).collect();
        let words = |all: &Self, path| all.0.get(path).map_or("absent", String::as_str).to_owned();
        paths
            .into_iter()
            .filter(|path| self.0.get(*path) != after.0.get(*path))
            .map(|path| (path.clone(), format!("{} -> {}", words(self, path), words(after, path))))
            .collect()
    }
}

/// A directory of more names than this is seen as a whole.
const CROWD: usize = 2000;

/// What can be seen of many entries, in one number.
fn crowd(path: &Path, names: &[OsString]) -> Result<String> {
    let directory = fs::File::open(path)?;
    let mut sum = 0_u64;
    for name in names {
        let stat =
            nix::sys::stat::fstatat(&directory, name.as_os_str(), nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let mut hash = DefaultHasher::new();
        hash.write(name.as_bytes());
        for fact in [u64::from(stat.st_mode), stat.st_uid.into(), stat.st_gid.into(), stat.st_nlink] {
            hash.write_u64(fact);
        }
        hash.write_i64(stat.st_mtime);
        hash.write_i64(stat.st_mtime_nsec);
        sum = sum.wrapping_add(hash.finish());
    }
    Ok(format!(" {} entries {sum:x}", names.len()))
}

fn facts(path: &Path, stat: &fs::Metadata) -> Result<String> {
    let mut hash = DefaultHasher::new();
    if stat.is_file() && stat.len() <= 1 << 16 {
        match fs::read(path) {
            Err(error) if error.raw_os_error() == Some(nix::libc::EINVAL) => {}
            content => hash.write(&content?),
        }
    }
    if stat.is_symlink() {
        hash.write(fs::read_link(path)?.as_os_str().as_bytes());
    }
    let mut names: Vec<OsString> = xattr::list(path).map(Iterator::collect).unwrap_or_default();
    names.sort();
    for name in names {
        hash.write(name.as_bytes());
        match xattr::get(path, &name) {
            Ok(value) => hash.write(&value.unwrap_or_default()),
            // Malformed; that it is so can be seen.
            Err(error) if matches!(error.raw_os_error(), Some(nix::libc::EINVAL | nix::libc::EOVERFLOW)) => {
                hash.write(error.to_string().as_bytes());
            }
            Err(error) => return Err(error).with_context(|| format!("{}", path.display())),
        }
    }
    let size = if stat.is_dir() { 0 } else { stat.len() };
    Ok(format!(
        "{:o} {}:{} links {} size {size} at {}.{} {:x}",
        stat.mode(),
        stat.uid(),
        stat.gid(),
        if stat.is_dir() { 0 } else { stat.nlink() },
        stat.mtime(),
        stat.mtime_nsec(),
        hash.finish()
    ))
}

/// Checks that a document names, users and all, and everything it says in words.
pub(crate) fn checks(document: &Value) -> Vec<String> {
    let users = document["users"].as_array().into_iter().flatten();
    let findings = users.flat_map(|user| user["findings"].as_array().into_iter().flatten());
    findings.filter_map(|finding| finding["check"].as_str().map(str::to_owned)).collect()
}
