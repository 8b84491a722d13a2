//! Whether the kernel and the loader could run a program for a user: its interpreter and its libraries are files of the
//! volume too (`chmod -R 700 /usr/lib` ends every session but root's).

use super::path::may_read;
use crate::permissions::{Access, Identity, may, unsearchable};
use crate::view::{Found, View, follow, read_following, walk};
use bstr::{BString, ByteSlice};
use std::path::{Path, PathBuf};

/// The largest program whose header is looked at; larger ones are taken for good.
const LIMIT: u64 = 8 << 20;
/// The most libraries that are looked at.
const LIBRARIES: usize = 64;

/// What the obstacle is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A directory that the user may not search.
    Directory,
    /// A file that the user may not read or execute.
    File,
    /// A file that is not there.
    Missing,
}

/// Why the user could not run the program at `path`.
#[derive(Debug)]
pub(super) struct Obstacle {
    pub(super) kind: Kind,
    pub(super) path: PathBuf,
    pub(super) is: String,
    pub(super) wants: String,
}

/// The first thing that keeps a dynamically linked program from running; `None` also for what is not understood.
pub(super) fn obstacle(view: &dyn View, path: &Path, who: &Identity) -> Option<Obstacle> {
    let program = read_following(view, path, LIMIT).ok()?;
    let elf = Elf::read(&program)?;
    let interpreter = elf.interpreter.as_ref()?;
    let interpreter = PathBuf::from(&*interpreter.to_os_str_lossy());
    let walked = walk(view, &interpreter);
    let Ok(found) = &walked.end else {
        let is = format!("{}, which {} needs, does not exist", interpreter.display(), path.display());
        return Some(Obstacle {
            kind: Kind::Missing,
            path: interpreter,
            is,
            wants: "the loader of the C library".into(),
        });
    };
    let closed = unsearchable(view, &walked, who).unwrap_or_default();
    if let Some((directory, stat)) = closed.first() {
        return Some(closed_directory(directory, stat));
    }
    if !may(view, &found.path, &found.stat, who, Access::Execute).unwrap_or(true) {
        return Some(closed_file(&found.path, &found.stat));
    }
    if elf.own_path {
        return None;
    }
    let mut directories = None;
    let mut seen = elf.needed.clone();
    let mut at = 0;
    while at < seen.len().min(LIBRARIES) {
        let name = seen[at].clone();
        at += 1;
        if name.contains(&b'/') {
            continue;
        }
        let directories = directories.get_or_insert_with(|| library_directories(view, &interpreter));
        let mut closed = None;
        let mut usable = None;
        for directory in directories.iter() {
            let file = directory.join(&*name.to_os_str_lossy());
            let walked = walk(view, &file);
            let Ok(found) = &walked.end else { continue };
            if may_read(view, &file, who) {
                usable = Some(found.path.clone());
                break;
            }
            if closed.is_none() {
                let shut = unsearchable(view, &walked, who).unwrap_or_default();
                closed = Some(match shut.first() {
                    Some((directory, stat)) => closed_directory(directory, stat),
                    None => closed_file(&found.path, &found.stat),
                });
            }
        }
        match (usable, closed) {
            (None, Some(closed)) => return Some(closed),
            (Some(file), _) => {
                // What a library needs in turn; the C library itself needs nothing but the loader.
                if let Ok(content) = read_following(view, &file, LIMIT)
                    && let Some(elf) = Elf::read(&content)
                    && !elf.own_path
                {
                    let new: Vec<BString> =
                        elf.needed.into_iter().filter(|name| !seen.contains(name)).collect();
                    seen.extend(new);
                }
            }
            // In none of the places that are known here: the loader's cache may know another.
            (None, None) => {}
        }
    }
    None
}

fn closed_directory(directory: &Path, stat: &crate::view::Stat) -> Obstacle {
    Obstacle {
        kind: Kind::Directory,
        path: directory.to_owned(),
        is: stat.mode_owner(),
        wants: format!("{:04o} {}:{}", stat.mode | 0o111, stat.uid, stat.gid),
    }
}

fn closed_file(file: &Path, stat: &crate::view::Stat) -> Obstacle {
    Obstacle {
        kind: Kind::File,
        path: file.to_owned(),
        is: stat.mode_owner(),
        wants: format!("{:04o} {}:{}", stat.mode | 0o555, stat.uid, stat.gid),
    }
}

/// Where the loader looks without a cache: its own directory, the fixed ones, and those of ld.so.conf(5).
fn library_directories(view: &dyn View, interpreter: &Path) -> Vec<PathBuf> {
    let mut files = vec![PathBuf::from("/etc/ld.so.conf")];
    let more = Path::new("/etc/ld.so.conf.d");
    files.extend(view.list(more).unwrap_or_default().into_iter().map(|name| more.join(name)));
    let mut directories = Vec::new();
    for file in files {
        let text = read_following(view, &file, 1 << 16).unwrap_or_default();
        for line in text.lines() {
            let line = line.trim_ascii();
            if line.starts_with(b"/") {
                directories.push(PathBuf::from(&*line.to_os_str_lossy()));
            }
        }
    }
    directories.extend(["/lib64", "/usr/lib64", "/lib", "/usr/lib"].map(PathBuf::from));
    directories.extend(interpreter.parent().map(Path::to_owned));
    directories
}

/// What execve(2) makes of a file that may be executed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Runs {
    /// A program, as far as its header tells.
    Program,
    /// A script, and what that does is its own affair.
    Script,
    /// Not at all, and why.
    Never(String),
}

/// `root`: where the interpreter of a script is looked up.
pub(super) fn runs(view: &dyn View, found: &Found, root: Option<&Path>) -> Runs {
    if found.stat.size == 0 {
        return Runs::Never("empty".into());
    }
    let Ok(content) = view.read(&found.path, LIMIT) else { return Runs::Program };
    if content.starts_with(b"\x7fELF") {
        let fault = damage(&content).or_else(|| foreign(view, &found.path, &content));
        return fault.map_or(Runs::Program, Runs::Never);
    }
    let Some(line) = content.strip_prefix(b"#!") else {
        return Runs::Never("neither a program nor a script with #!".into());
    };
    let line = line.lines().next().unwrap_or_default().trim_ascii();
    let interpreter = line.split(u8::is_ascii_whitespace).next().unwrap_or_default();
    let interpreter = PathBuf::from(&*interpreter.to_os_str_lossy());
    let at = root.map_or_else(
        || interpreter.clone(),
        |root| root.join(interpreter.strip_prefix("/").unwrap_or(&interpreter)),
    );
    match follow(view, &at) {
        Ok(_) => Runs::Script,
        Err(_) => Runs::Never(format!("a script for {}, which does not exist", interpreter.display())),
    }
}

/// What the kernel or the first access to a page that is not there ends. A table of sections may lack: nobody needs it
/// to run.
fn damage(content: &[u8]) -> Option<String> {
    const EXECUTABLE: u16 = 2;
    const SHARED: u16 = 3;
    if content.len() < 52 {
        return Some(format!("a program cut off after {} bytes", content.len()));
    }
    if !content.starts_with(b"\x7fELF\x02\x01") {
        // Of 32 bits or of the other order of bytes: its header is not read here.
        return None;
    }
    if !matches!(u16_at(content, 0x10), Some(EXECUTABLE | SHARED)) {
        return Some("an ELF file, but no program".into());
    }
    let ends = Elf::read(content).map(|elf| elf.ends);
    let length = content.len() as u64;
    ends.is_none_or(|ends| ends > length).then(|| format!("a program cut off after {length} bytes"))
}

/// Made for another machine than everything else here.
fn foreign(view: &dyn View, path: &Path, content: &[u8]) -> Option<String> {
    const OTHERS: [&str; 6] =
        ["/usr/lib/systemd/systemd", "/sbin/init", "/bin/sh", "/bin/cat", "/usr/bin/env", "/bin/busybox"];
    /// The processors whose kernels also run these.
    const ALSO: [(u16, u16); 2] = [(62, 3), (183, 40)];
    let own = machine(content)?;
    let mut another = None;
    for other in OTHERS {
        let Ok(other) = follow(view, Path::new(other)).and_then(|found| {
            if found.path == path { Err(crate::view::LookError::Loop) } else { view.read(&found.path, LIMIT) }
        }) else {
            continue;
        };
        let Some(machine) = machine(&other) else { continue };
        if machine == own || ALSO.contains(&(machine, own)) {
            return None;
        }
        another = Some(machine);
    }
    let another = another?;
    Some(format!("a program for {}, and the others are for {}", machine_name(own), machine_name(another)))
}

/// `e_machine` of an ELF file.
fn machine(content: &[u8]) -> Option<u16> {
    if !content.starts_with(b"\x7fELF") {
        return None;
    }
    let big = content.get(5) == Some(&2);
    array(content, 0x12).map(if big { u16::from_be_bytes } else { u16::from_le_bytes })
}

fn machine_name(machine: u16) -> String {
    let known = match machine {
        3 => "i386",
        21 => "ppc64",
        22 => "s390x",
        40 => "arm",
        62 => "x86-64",
        183 => "aarch64",
        243 => "riscv64",
        258 => "loongarch64",
        _ => return format!("the machine {machine}"),
    };
    known.to_owned()
}

/// What of an ELF file says what it needs.
#[derive(Debug, Default)]
struct Elf {
    interpreter: Option<BString>,
    needed: Vec<BString>,
    /// It says itself where its libraries are.
    own_path: bool,
    /// Where the last of what is loaded ends in the file.
    ends: u64,
}

impl Elf {
    /// Reads a 64-bit little-endian file, which those of all current images are; `None` for anything else.
    fn read(bytes: &[u8]) -> Option<Self> {
        const INTERPRETER: u32 = 3;
        const LOAD: u32 = 1;
        const DYNAMIC: u32 = 2;
        let (half, word, long) = (u16_at, u32_at, u64_at);
        if !bytes.starts_with(b"\x7fELF\x02\x01") {
            return None;
        }
        let table = usize::try_from(long(bytes, 0x20)?).ok()?;
        let (size, number) = (usize::from(half(bytes, 0x36)?), usize::from(half(bytes, 0x38)?));
        let mut elf = Self::default();
        let mut loads = Vec::new();
        let mut dynamic = None;
        for header in (0..number).filter_map(|at| at.checked_mul(size)?.checked_add(table)) {
            let (kind, offset) = (word(bytes, header)?, long(bytes, header.checked_add(8)?)?);
            let (address, length) =
                (long(bytes, header.checked_add(16)?)?, long(bytes, header.checked_add(32)?)?);
            match kind {
                INTERPRETER => elf.interpreter = string_at(bytes, usize::try_from(offset).ok()?),
                LOAD => {
                    elf.ends = elf.ends.max(offset.saturating_add(length));
                    loads.push((address, offset, length));
                }
                DYNAMIC => dynamic = Some((usize::try_from(offset).ok()?, usize::try_from(length).ok()?)),
                _ => {}
            }
        }
        let Some((start, length)) = dynamic else { return Some(elf) };
        let (mut names, mut strings) = (Vec::new(), None);
        for entry in (0..length / 16).filter_map(|at| start.checked_add(at * 16)) {
            let (tag, value) = (long(bytes, entry)?, long(bytes, entry.checked_add(8)?)?);
            match tag {
                0 => break,
                1 => names.push(value),
                5 => strings = Some(value),
                15 | 29 => elf.own_path = true,
                _ => {}
            }
        }
        let strings = strings?;
        let (address, offset, _) = loads
            .into_iter()
            .find(|(address, _, length)| (*address..address.saturating_add(*length)).contains(&strings))?;
        let base = strings.checked_sub(address)?.checked_add(offset)?;
        for name in names.into_iter().take(LIBRARIES) {
            elf.needed.extend(string_at(bytes, usize::try_from(base.checked_add(name)?).ok()?));
        }
        Some(elf)
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array(bytes, at).map(u64::from_le_bytes)
}

fn string_at(bytes: &[u8], at: usize) -> Option<BString> {
    let rest = bytes.get(at..)?;
    let end = rest.iter().take(4096).position(|byte| *byte == 0)?;
    Some(rest[..end].into())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests read their own program")]
mod tests {
    use super::*;

    #[test]
    fn what_this_test_itself_needs_is_read() {
        let me = std::env::current_exe().unwrap();
        let elf = Elf::read(&std::fs::read(me).unwrap()).unwrap();
        assert!(elf.interpreter.is_some());
        assert!(elf.needed.iter().any(|name| name.starts_with(b"libc.")), "{elf:?}");
    }

    #[test]
    fn damage_is_no_panic() {
        let me = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        for length in [0, 5, 6, 40, 63, 64, 200, 1000] {
            let _ = Elf::read(&me[..length]);
        }
        let mut odd = me[..4096].to_vec();
        for at in 0x20..0x40 {
            odd[at] = 0xff;
            let _ = Elf::read(&odd);
        }
    }
}
