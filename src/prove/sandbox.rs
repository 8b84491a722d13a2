//! The sandbox around the login: namespaces, the overlay, the loopback, the client, and the watch over all of it.

#![expect(clippy::disallowed_methods, reason = "makes a tmpfs of its own and starts the client and sshd")]

use super::{Answer, COMMAND, Key, Login, PARENT, Request, SELF, end, gather};
use crate::inside::through;
use crate::inventory::Inventory;
use crate::keys::generate_ed25519;
use crate::root::{Crossing, Root};
use crate::sys::process::bring_loopback_up;
use crate::view::follow;
use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, fstat};
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, PipeWriter, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Directories that every helper has; one of them is covered here, where nobody else sees it.
const POINTS: [&str; 5] = ["/media", "/srv", "/opt", "/mnt", "/tmp"];
/// What sshd and the session may write altogether, in the words of tmpfs(5).
const TMPFS: &str = "size=256m,nr_inodes=65536,mode=0700";
/// What is kept of the words of sshd and of the client, in bytes each.
const WORDS: u64 = 256 << 10;
/// How much memory the processes inside may have altogether, in bytes, and how many they may be.
const MEMORY: u64 = 1 << 30;
const PROCESSES: u64 = 256;

/// The stage: reads the request, answers on standard output.
pub(super) fn stage() -> u8 {
    let parent = std::env::var(PARENT).ok().and_then(|pid| pid.parse::<i32>().ok());
    if parent != Some(nix::unistd::getppid().as_raw()) {
        return 1;
    }
    let answer: Answer = attempt().map_err(|error| format!("{error:#}"));
    let Ok(text) = serde_json::to_string(&answer) else { return 1 };
    u8::from(std::io::stdout().write_all(text.as_bytes()).is_err())
}

fn attempt() -> Result<Login> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("reading the request")?;
    let request: Request = serde_json::from_str(&text).context("reading the request")?;
    // Without a controlling terminal: nothing inside can type on the operator's.
    nix::unistd::setsid().context("leaving the terminal")?;
    let all = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    unshare(all).context("making namespaces")?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .context("making the mounts private")?;
    nix::unistd::sethostname("volrescue-prove").context("naming the sandbox")?;
    let socket = UdpSocket::bind("0.0.0.0:0").context("making a socket")?;
    bring_loopback_up(&socket).context("bringing the loopback interface up")?;
    let place = tmpfs(&request.lower)?;
    overlay(&request, &place)?;
    let key = place.join("key");
    write_key(&request, &place, &key)?;
    converse(&request, &place.join("root"), &key)
}

fn tmpfs(lower: &Path) -> Result<PathBuf> {
    let flags = MsFlags::MS_NOSUID;
    for point in POINTS.map(Path::new) {
        // What covers the volume's own mount point would hide it.
        if !lower.starts_with(point)
            && mount(Some("volrescue"), point, Some("tmpfs"), flags, Some(TMPFS)).is_ok()
        {
            return Ok(point.to_owned());
        }
    }
    bail!("none of {} takes a tmpfs", POINTS.join(", "))
}

/// The volume below, memory above; its further filesystems each in its place.
fn overlay(request: &Request, place: &Path) -> Result<()> {
    let lower = open_directory(&request.lower)?;
    let stat = fstat(&lower).context("looking at the volume")?;
    ensure!(
        (stat.st_dev, stat.st_ino) == request.lower_id,
        "another volume is at {}",
        request.lower.display()
    );
    let merged = place.join("root");
    fs::create_dir(&merged).context("making a directory in memory")?;
    lay(&lower, place, 0, &merged)?;
    let below = Root::new(lower, Crossing::LoginPath)?;
    for (point, number) in request.branches.iter().zip(1..) {
        let of = |root: &Root| -> Result<OwnedFd> {
            let directory = root.directory(point);
            let directory =
                directory.with_context(|| format!("opening {} of the volume", point.display()))?;
            Ok(directory.as_fd().try_clone_to_owned()?)
        };
        let above = Root::new(open_directory(&merged)?, Crossing::LoginPath)?;
        lay(&of(&below)?, place, number, &through(&of(&above)?))?;
    }
    Ok(())
}

/// One overlay. Its top directory has owner, mode and ACL of the upper one, so these are copied.
fn lay(lower: &OwnedFd, place: &Path, number: usize, on: &Path) -> Result<()> {
    const ACL: &str = "system.posix_acl_access";
    let [upper, work] = ["upper", "work"].map(|name| place.join(format!("{name}-{number}")));
    for directory in [&upper, &work] {
        fs::create_dir(directory).context("making a directory in memory")?;
    }
    let stat = fstat(lower).context("looking at the volume")?;
    std::os::unix::fs::chown(&upper, Some(stat.st_uid), Some(stat.st_gid))
        .context("preparing the overlay")?;
    fs::set_permissions(&upper, fs::Permissions::from_mode(stat.st_mode & 0o7777))
        .context("preparing the overlay")?;
    if let Ok(Some(acl)) = xattr::get_deref(through(lower), ACL) {
        xattr::set(&upper, ACL, &acl).context("preparing the overlay")?;
    }
    // Features that are the overlay's and not the disk's are off: what the volume carries of them means nothing.
    let options = format!(
        "lowerdir={},upperdir={},workdir={},index=off,metacopy=off,redirect_dir=nofollow",
        through(lower).display(),
        upper.display(),
        work.display()
    );
    mount(Some("volrescue"), on, Some("overlay"), MsFlags::MS_NODEV, Some(options.as_str()))
        .context("laying an overlay over the volume (does this kernel have overlayfs?)")
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(path, flags, Mode::empty()).with_context(|| format!("opening {}", path.display()))
}

/// The private key in memory, and for one made here its public half in the files of keys.
fn write_key(request: &Request, place: &Path, file: &Path) -> Result<()> {
    let mut out = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .context("writing the private key into memory")?;
    match &request.key {
        Key::Own(text) => {
            out.write_all(text.as_bytes())?;
            if !text.ends_with('\n') {
                out.write_all(b"\n")?;
            }
        }
        Key::Made(files) => {
            let (private, public) =
                generate_ed25519("volrescue prove").map_err(|error| anyhow::anyhow!(error))?;
            private.write(|text| out.write_all(text))?;
            let root = Root::new(open_directory(&place.join("root"))?, Crossing::LoginPath)?;
            let view = Inventory::new(&root);
            for file in files {
                let Ok(found) = follow(&view, file) else { continue };
                if found.stat.is_file()
                    && let Ok(handle) = root.handle(&found.path)
                {
                    handle
                        .append(&[b"\n", public.to_line().as_slice(), b"\n"].concat())
                        .with_context(|| format!("adding the key to {}", found.path.display()))?;
                }
            }
        }
    }
    Ok(())
}

/// One connection between the helper's ssh and the volume's sshd.
fn converse(request: &Request, root: &Path, key: &Path) -> Result<Login> {
    let limit = Instant::now() + Duration::from_secs(request.seconds);
    let listener = TcpListener::bind("127.0.0.1:0").context("listening in the sandbox")?;
    listener.set_nonblocking(true).context("listening in the sandbox")?;
    let port = listener.local_addr().context("listening in the sandbox")?.port();
    let mut client = client(request, key, port)?;
    let client_words = gather(client.stderr.take(), WORDS);
    let mut login = Login::default();
    let mut server = None;
    if let Some(stream) = accept(&listener, &mut client, limit)? {
        let (words, writer) = std::io::pipe().context("making a pipe")?;
        let words = gather(Some(words), WORDS);
        // The children from now on, sshd alone, are in a pid namespace of their own. No thread can be started any more.
        unshare(CloneFlags::CLONE_NEWPID).context("making a pid namespace")?;
        let mut init = init(request, root, stream, writer)?;
        login.ended = watch(&mut client, &mut init, limit);
        end(&mut init);
        server = Some(words);
    }
    if login.ended.is_some() || matches!(client.try_wait(), Ok(None)) {
        end(&mut client);
    }
    login.status = client.wait().ok().and_then(|status| status.code());
    login.accepted = login.ended.is_none() && login.status == Some(0);
    let text = |bytes: Vec<u8>| without_hashes(&String::from_utf8_lossy(&bytes));
    login.client = text(client_words.join().unwrap_or_default());
    login.server = text(server.and_then(|words| words.join().ok()).unwrap_or_default());
    Ok(login)
}

/// `ssh -n USER@host true` with this key alone, and nothing of the helper's own configuration.
fn client(request: &Request, key: &Path, port: u16) -> Result<Child> {
    let port = port.to_string();
    let options = [
        "BatchMode=yes",
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "GlobalKnownHostsFile=/dev/null",
        "ControlPath=none",
        "PreferredAuthentications=publickey",
        "ConnectTimeout=30",
    ];
    let mut ssh = Command::new(SELF);
    ssh.env(PARENT, std::process::id().to_string());
    ssh.args([COMMAND, "client", "--", "-F", "none", "-n", "-T", "-p", &port, "-i"]).arg(key);
    for option in options {
        ssh.args(["-o", option]);
    }
    ssh.args(["-l", &request.user, "127.0.0.1", "true"]);
    ssh.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    ssh.spawn().context("starting the client")
}

fn accept(listener: &TcpListener, client: &mut Child, limit: Instant) -> Result<Option<TcpStream>> {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).context("taking the client's connection")?;
                return Ok(Some(stream));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).context("taking the client's connection"),
        }
        if Instant::now() > limit {
            return Ok(None);
        }
        if let Ok(Some(status)) = client.try_wait() {
            let words = super::gather(client.stderr.take(), WORDS).join().unwrap_or_default();
            bail!("ssh of this helper did not connect ({status}) {}", String::from_utf8_lossy(&words).trim());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn init(request: &Request, root: &Path, stream: TcpStream, words: PipeWriter) -> Result<Child> {
    let stream = OwnedFd::from(stream);
    let output = stream.try_clone().context("handing the connection to sshd")?;
    let mut init = Command::new(SELF);
    init.env(PARENT, std::process::id().to_string());
    init.args([COMMAND, "init", "--"]).arg(root).arg(&request.program);
    init.args(["-i", "-e", "-o", "LogLevel=DEBUG1"]);
    for option in &request.options {
        init.args(["-o", option]);
    }
    init.stdin(Stdio::from(stream)).stdout(Stdio::from(output)).stderr(Stdio::from(words));
    init.spawn().context("starting sshd")
}

/// The text without password hashes (crypt(5)): what runs inside can read the volume's shadow, and may say anything.
fn without_hashes(text: &str) -> String {
    let is_hash = |word: &str| {
        let method = word.strip_prefix('$').and_then(|rest| rest.split_once('$'));
        method.is_some_and(|(method, rest)| method.len() <= 8 && rest.len() >= 16)
    };
    let word = |word: &str| {
        let parts = word.split(':').map(|part| if is_hash(part.trim()) { "[a hash]" } else { part });
        parts.collect::<Vec<_>>().join(":")
    };
    text.split_inclusive([' ', '\n', '\t']).map(word).collect()
}

/// Waits for the client. Says in words why it had to be ended, if it had to.
fn watch(client: &mut Child, init: &mut Child, limit: Instant) -> Option<String> {
    let mut after = None;
    let mut looked = Instant::now();
    loop {
        if !matches!(client.try_wait(), Ok(None)) {
            return None;
        }
        let now = Instant::now();
        if now > limit {
            return Some("it took too long".into());
        }
        // With sshd gone the client has the rest of its bytes to read, and then ends.
        if !matches!(init.try_wait(), Ok(None)) && now > *after.get_or_insert(now + Duration::from_secs(5)) {
            return Some("sshd ended and the client did not".into());
        }
        if now > looked + Duration::from_millis(100) {
            looked = now;
            let (memory, processes) = usage(init.id());
            if memory > MEMORY || processes > PROCESSES {
                return Some(format!(
                    "what runs inside took {processes} processes and {} MiB of memory",
                    memory >> 20
                ));
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Resident memory in bytes, and how many processes there are, in the pid namespace of a process.
fn usage(init: u32) -> (u64, u64) {
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let Some(inside) = namespace(&init.to_string()) else { return (0, 0) };
    let (mut memory, mut processes) = (0, 0);
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else {
            continue;
        };
        if namespace(pid).as_ref() != Some(&inside) {
            continue;
        }
        processes += 1;
        let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
        let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0);
        memory += pages * 4096;
    }
    (memory, processes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_not_told_on() {
        let said = "root:$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7:19000 costs $5$ now\n";
        assert_eq!(without_hashes(said), "root:[a hash]:19000 costs $5$ now\n");
    }
}
