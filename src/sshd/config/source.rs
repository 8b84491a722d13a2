//! The files of the configuration, read once: sshd_config and what it includes, and what its values refer to.

use super::lex::{Line, lines, vis};
use crate::accounts::Passwd;
use crate::sshd::build::Build;
use crate::sshd::services;
use crate::view::{FileKind, LookError, TEXT_LIMIT, View, read_accounts, walk};
use bstr::ByteSlice;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The most bytes of all configuration files together.
const ALL_BYTES: usize = 32 << 20;
/// The most files, the most lines of all of them, and the longest line in bytes.
const ALL_FILES: usize = 5000;
const ALL_LINES: usize = 400_000;
const LONGEST: usize = 1 << 20;
/// What is filled at boot only.
const VOLATILE: &[&str] = &["/dev", "/proc", "/run", "/sys", "/tmp", "/var/run"];

/// One file.
#[derive(Debug)]
pub(super) struct SourceFile {
    /// As sshd names it.
    pub(super) path: PathBuf,
    pub(super) content: Vec<u8>,
    pub(super) lines: Vec<Line>,
}

impl SourceFile {
    /// The line as it is written.
    pub(super) fn written(&self, line: &Line) -> &[u8] {
        let rest = self.content.get(line.start..).unwrap_or_default();
        let end = rest.find_byte(b'\n').unwrap_or(rest.len());
        &rest[..end]
    }
}

/// Why a file gives no lines.
#[derive(Debug)]
pub(super) enum ReadError {
    /// sshd cannot open it either; its words.
    Fails { missing: bool, says: String },
    /// What sshd would find is not on the disk, or more than is read.
    Unknown(String),
}

/// Everything that was read.
#[derive(Clone, Debug, Default)]
pub(super) struct Sources {
    pub(super) files: Vec<Arc<SourceFile>>,
    /// What each word of an Include came to.
    includes: BTreeMap<Vec<u8>, Vec<usize>>,
    by_path: BTreeMap<PathBuf, usize>,
    ports: BTreeMap<Vec<u8>, Option<u16>>,
    passwd: Option<Passwd>,
    bytes: usize,
    lines: usize,
}

impl Sources {
    /// Bytes of the main file and of what is included, as servconf.c, `load_server_config` keeps them.
    pub(super) fn size_in_memory(&self, main: Option<usize>) -> usize {
        /// The length before a string.
        const LENGTH: usize = 4;
        let kept = |file: &SourceFile| -> usize {
            let lines = file.content.split_inclusive(|byte| *byte == b'\n');
            let kept = |line: &[u8]| line.iter().skip_while(|byte| b" \t\r".contains(byte)).count();
            lines.map(kept).sum()
        };
        let item = |selector: &[u8], file: &SourceFile| {
            3 * LENGTH + selector.len() + file.path.as_os_str().len() + kept(file)
        };
        let included = self.includes.iter().flat_map(|(selector, files)| {
            files.iter().filter_map(|file| Some(item(selector, self.files.get(*file)?)))
        });
        let main = main.and_then(|main| self.files.get(main)).map_or(0, |file| kept(file));
        main + included.sum::<usize>()
    }

    /// Reads one file, or takes it from what was read before.
    pub(super) fn read(&mut self, view: &dyn View, build: &Build, path: &Path) -> Result<usize, ReadError> {
        if let Some(&index) = self.by_path.get(path) {
            return Ok(index);
        }
        let content = read_as_sshd(view, path)?;
        self.bytes += content.len();
        if self.bytes > ALL_BYTES {
            return Err(ReadError::Unknown(format!("the configuration has more than {ALL_BYTES} bytes")));
        }
        self.lines += content.find_iter(b"\n").count();
        if content.lines().any(|line| line.len() > LONGEST) {
            return Err(ReadError::Unknown(format!("{} has a line of more than 1 MiB", path.display())));
        }
        if self.lines > ALL_LINES {
            return Err(ReadError::Unknown(format!("the configuration has more than {ALL_LINES} lines")));
        }
        if self.files.len() >= ALL_FILES {
            return Err(ReadError::Unknown(format!("the configuration has more than {ALL_FILES} files")));
        }
        if self.passwd.is_none() && content.contains(&b'~') {
            let text = read_accounts(view, Path::new("/etc/passwd")).unwrap_or_default();
            self.passwd = Some(Passwd::parse(&text));
        }
        let lines = lines(&content, build);
        self.files.push(Arc::new(SourceFile { path: path.to_owned(), content, lines }));
        self.by_path.insert(path.to_owned(), self.files.len() - 1);
        Ok(self.files.len() - 1)
    }

    /// The files that a word of an Include came to.
    pub(super) fn included(&self, word: &[u8]) -> Option<&[usize]> {
        self.includes.get(word).map(Vec::as_slice)
    }

    /// Remembers that a word of an Include came to this file also, or (without one) that it was looked up at all.
    pub(super) fn remember(&mut self, word: &[u8], file: Option<usize>) {
        self.includes.entry(word.to_vec()).or_default().extend(file);
    }

    /// `~` and `~user` at the start of a path, as sshd replaces them (it runs as uid 0); the error is its words.
    pub(super) fn expand_tilde(&self, path: &[u8]) -> Result<Vec<u8>, String> {
        let Some(rest) = path.strip_prefix(b"~") else { return Ok(path.to_vec()) };
        let (user, rest) = match rest.find_byte(b'/') {
            Some(slash) => (&rest[..slash], rest[slash..].trim_start_with(|c| c == '/')),
            None => (rest, &b""[..]),
        };
        let passwd = self.passwd.as_ref();
        let home = if user.is_empty() {
            let entry = passwd.and_then(|passwd| passwd.by_uid(0));
            entry.ok_or_else(|| "tilde_expand: No such uid 0".to_owned())?.home.clone()
        } else {
            let entry = passwd.and_then(|passwd| passwd.by_name(user));
            entry.ok_or_else(|| format!("tilde_expand: No such user {}", vis(user)))?.home.clone()
        };
        let slash: &[u8] = if home.ends_with(b"/") { b"" } else { b"/" };
        Ok([home.as_bytes(), slash, rest].concat())
    }

    /// The path of a file as sshd keeps it: `none` as it is, `~` replaced, a relative one taken from `/`.
    pub(super) fn file_name(&self, path: &[u8]) -> Result<Vec<u8>, String> {
        if path.eq_ignore_ascii_case(b"none") {
            return Ok(b"none".to_vec());
        }
        let path = self.expand_tilde(path)?;
        // getcwd() is "/", and a slash is put after it all the same.
        Ok(if path.starts_with(b"/") { path } else { [b"//".as_slice(), &path].concat() })
    }

    /// The port of a service's name, from /etc/services. Without a view, only names asked for before are known.
    pub(super) fn service_port(&mut self, view: &dyn View, name: &[u8]) -> Option<u16> {
        if !self.ports.contains_key(name) {
            self.ports.insert(name.to_vec(), services::port(&services::read(view), name));
        }
        self.known_port(name)
    }

    /// A port that was looked up before.
    pub(super) fn known_port(&self, name: &[u8]) -> Option<u16> {
        self.ports.get(name).copied().flatten()
    }
}

/// The content as fopen(3) and getline(3) would give it: a directory has no lines.
fn read_as_sshd(view: &dyn View, path: &Path) -> Result<Vec<u8>, ReadError> {
    let walk = walk(view, path);
    let reached = &walk.reached;
    if reached == Path::new("/dev/null") {
        return Ok(Vec::new());
    }
    let fails = |error: &str| {
        let says = format!("{}: {error}", path.display());
        ReadError::Fails { missing: error == NO_SUCH_FILE, says }
    };
    let found = match walk.end {
        Ok(found) => found,
        Err(_) if VOLATILE.iter().any(|at| reached.starts_with(at)) => {
            let unknown = format!("{} leads to {}, which is made at boot", path.display(), reached.display());
            return Err(ReadError::Unknown(unknown));
        }
        Err(LookError::OtherFilesystem) => {
            return Err(ReadError::Unknown(format!("{} lies on another filesystem", path.display())));
        }
        Err(error) => return Err(fails(&error_words(&error))),
    };
    match found.stat.kind {
        FileKind::Directory => Ok(Vec::new()),
        FileKind::Regular => view.read(&found.path, TEXT_LIMIT).map_err(|error| match error {
            LookError::TooLarge { .. } | LookError::OtherFilesystem => {
                ReadError::Unknown(format!("{}: {error}", path.display()))
            }
            error => fails(&error_words(&error)),
        }),
        FileKind::Socket => Err(fails("No such device or address")),
        FileKind::Fifo => Err(ReadError::Fails {
            missing: false,
            says: format!("{}: a FIFO, on which sshd waits for ever", path.display()),
        }),
        kind => Err(ReadError::Unknown(format!("{} is {}", path.display(), kind.words()))),
    }
}

const NO_SUCH_FILE: &str = "No such file or directory";

/// As perror(3) says it.
fn error_words(error: &LookError) -> String {
    match error {
        LookError::NotFound => NO_SUCH_FILE.to_owned(),
        LookError::NotDirectory => "Not a directory".to_owned(),
        LookError::Loop => "Too many levels of symbolic links".to_owned(),
        LookError::NameTooLong => "File name too long".to_owned(),
        error => error.to_string(),
    }
}
