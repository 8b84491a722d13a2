//! What was seen of a mounted volume, remembered: the [`View`] of a [`Root`].

use crate::root::Root;
use crate::selinux::Policy;
use crate::sshd::build::Build;
use crate::view::{LIST_LIMIT, LookError, Stat, View};
use nix::errno::Errno;
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// How many answers of one kind are remembered before all of them are forgotten.
const MEMORY: usize = 4096;
/// How many bytes of file contents are remembered.
const CONTENT_MEMORY: usize = 32 << 20;

type Memory<V, K = PathBuf> = RefCell<HashMap<K, Result<V, LookError>>>;

/// Answers from the volume; each question is asked of the disk once, as far as memory is allowed for it.
#[derive(Debug)]
pub struct Inventory<'a> {
    root: &'a Root,
    stats: Memory<Stat>,
    links: Memory<PathBuf>,
    lists: Memory<Vec<OsString>>,
    contents: Memory<Vec<u8>>,
    content_bytes: RefCell<usize>,
    xattrs: Memory<Option<Vec<u8>>, (PathBuf, String)>,
    selinux: OnceCell<Rc<Policy>>,
    sshd: OnceCell<Build>,
    unread: RefCell<Option<(PathBuf, LookError)>>,
}

impl<'a> Inventory<'a> {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(root: &'a Root) -> Self {
        Self {
            root,
            stats: Memory::default(),
            links: Memory::default(),
            lists: Memory::default(),
            contents: Memory::default(),
            content_bytes: RefCell::default(),
            xattrs: RefCell::default(),
            selinux: OnceCell::new(),
            sshd: OnceCell::new(),
            unread: RefCell::default(),
        }
    }

    /// The first path that the disk or the filesystem refused to show, as damaged ones do. What was asked for there may
    /// have been taken for absent.
    #[must_use]
    pub fn unread(&self) -> Option<(PathBuf, LookError)> {
        self.unread.borrow().clone()
    }

    /// Remembers such a path.
    fn noted<T>(&self, path: &Path, answer: Result<T, LookError>) -> Result<T, LookError> {
        /// What the kernel answers for a disk that fails and for a filesystem that is damaged (EFSBADCRC, EFSCORRUPTED).
        const DAMAGE: [Errno; 3] = [Errno::EIO, Errno::EBADMSG, Errno::EUCLEAN];
        if let Err(LookError::Errno(errno)) = &answer
            && DAMAGE.contains(&Errno::from_raw(*errno))
        {
            self.unread.borrow_mut().get_or_insert_with(|| (path.to_path_buf(), LookError::Errno(*errno)));
        }
        answer
    }
}

fn remembered<K, V, Q>(memory: &RefCell<HashMap<K, V>>, key: &Q, ask: impl FnOnce() -> V) -> V
where
    K: std::hash::Hash + Eq + std::borrow::Borrow<Q>,
    Q: std::hash::Hash + Eq + ToOwned<Owned = K> + ?Sized,
    V: Clone,
{
    if let Some(answer) = memory.borrow().get(key) {
        return answer.clone();
    }
    let answer = ask();
    let mut memory = memory.borrow_mut();
    if memory.len() >= MEMORY {
        memory.clear();
    }
    memory.insert(key.to_owned(), answer.clone());
    answer
}

impl View for Inventory<'_> {
    fn lstat(&self, path: &Path) -> Result<Stat, LookError> {
        remembered(&self.stats, path, || self.noted(path, self.root.lstat(path)))
    }

    fn read_link(&self, path: &Path) -> Result<PathBuf, LookError> {
        remembered(&self.links, path, || self.noted(path, self.root.read_link(path)))
    }

    fn read(&self, path: &Path, limit: u64) -> Result<Vec<u8>, LookError> {
        if let Some(answer) = self.contents.borrow().get(path) {
            match answer {
                Ok(content) if content.len() as u64 > limit => {
                    return Err(LookError::TooLarge { size: content.len() as u64, limit });
                }
                // What was too large for one limit may be small enough for another.
                Err(LookError::TooLarge { size, .. }) if *size > limit => {
                    return Err(LookError::TooLarge { size: *size, limit });
                }
                Err(LookError::TooLarge { .. }) => {}
                answer => return answer.clone(),
            }
        }
        let answer = self.noted(path, self.root.read(path, limit));
        let size = answer.as_ref().map_or(0, Vec::len);
        let mut bytes = self.content_bytes.borrow_mut();
        let mut contents = self.contents.borrow_mut();
        if contents.len() >= MEMORY || *bytes + size > CONTENT_MEMORY {
            contents.clear();
            *bytes = 0;
        }
        if size <= CONTENT_MEMORY {
            *bytes += size;
            contents.insert(path.to_path_buf(), answer.clone());
        }
        answer
    }

    fn list(&self, path: &Path) -> Result<Vec<OsString>, LookError> {
        let ask = || self.noted(path, self.root.list(path, LIST_LIMIT));
        if let Some(answer) = self.lists.borrow().get(path) {
            return answer.clone();
        }
        let answer = ask();
        let small = answer.as_ref().map_or(0, Vec::len) <= MEMORY;
        if small { remembered(&self.lists, path, || answer) } else { answer }
    }

    fn xattr(&self, path: &Path, name: &str) -> Result<Option<Vec<u8>>, LookError> {
        let key = (path.to_path_buf(), name.to_owned());
        remembered(&self.xattrs, &key, || self.noted(path, self.root.xattr(path, name)))
    }

    fn flags(&self, path: &Path) -> Result<u32, LookError> {
        self.root.handle(path)?.flags()
    }

    fn selinux(&self) -> Rc<Policy> {
        Rc::clone(self.selinux.get_or_init(|| Rc::new(Policy::read(self))))
    }

    fn sshd(&self) -> Build {
        self.sshd.get_or_init(|| Build::detect(self)).clone()
    }
}
