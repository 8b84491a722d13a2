//! Ioctls of block and loop devices, some of btrfs and one of filesystems (`linux/fs.h`, `linux/loop.h`, `linux/btrfs.h`,
//! `linux/ext4.h`).

#![expect(unsafe_code, reason = "ioctls that no crate wraps")]

use nix::errno::Errno;
use nix::libc::c_int;
use nix::sys::stat::{major, minor};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// `struct loop_info64`.
#[repr(C)]
#[derive(Clone, Copy)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
#[derive(Clone, Copy)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// `struct btrfs_ioctl_ino_lookup_args`.
#[repr(C)]
struct InoLookup {
    tree: u64,
    object: u64,
    name: [u8; 4080],
}

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
struct VolArgs {
    fd: i64,
    name: [u8; 4088],
}

/// Bytes of items that [`TreeItems`] has room for.
const ITEMS: usize = 32 << 10;

/// `struct btrfs_ioctl_search_args_v2`, with room for items.
#[repr(C)]
#[derive(Debug)]
struct TreeSearch {
    tree: u64,
    objects: [u64; 2],
    offsets: [u64; 2],
    transactions: [u64; 2],
    types: [u32; 2],
    count: u32,
    unused: u32,
    unused_more: [u64; 4],
    room: u64,
    items: [u8; ITEMS],
}

const _: () = assert!(size_of::<TreeSearch>() == 112 + ITEMS);
const _: () = assert!(size_of::<LoopInfo>() == 232 && size_of::<LoopConfig>() == 304);
const _: () = assert!(size_of::<InoLookup>() == 4096 && size_of::<VolArgs>() == 4096);

mod raw {
    use super::{InoLookup, LoopConfig, LoopInfo, TreeSearch, VolArgs, c_int};
    nix::ioctl_none_bad!(loop_ctl_get_free, 0x4c82);
    nix::ioctl_write_int_bad!(loop_set_fd, 0x4c00);
    nix::ioctl_none_bad!(loop_clr_fd, 0x4c01);
    nix::ioctl_write_ptr_bad!(loop_set_status64, 0x4c04, LoopInfo);
    nix::ioctl_read_bad!(loop_get_status64, 0x4c05, LoopInfo);
    nix::ioctl_write_int_bad!(loop_set_block_size, 0x4c09);
    nix::ioctl_write_ptr_bad!(loop_configure, 0x4c0a, LoopConfig);
    nix::ioctl_write_ptr_bad!(blkroset, nix::request_code_none!(0x12, 93), c_int);
    nix::ioctl_read_bad!(blkroget, nix::request_code_none!(0x12, 94), c_int);
    nix::ioctl_read_bad!(blksszget, nix::request_code_none!(0x12, 104), c_int);
    nix::ioctl_read!(blkgetsize64, 0x12, 114, u64);
    nix::ioctl_write_int_bad!(ficlone, nix::request_code_write!(0x94, 9, size_of::<c_int>()));
    nix::ioctl_readwrite_bad!(btrfs_tree_search, nix::request_code_readwrite!(0x94, 17, 112), TreeSearch);
    nix::ioctl_read!(btrfs_start_sync, 0x94, 24, u64);
    nix::ioctl_write_ptr!(btrfs_wait_sync, 0x94, 22, u64);
    nix::ioctl_readwrite!(btrfs_ino_lookup, 0x94, 18, InoLookup);
    nix::ioctl_read!(btrfs_subvol_getflags, 0x94, 25, u64);
    nix::ioctl_write_ptr!(btrfs_forget_dev, 0x94, 5, VolArgs);
    nix::ioctl_write_ptr_bad!(shutdown, nix::request_code_read!(b'X', 125, size_of::<u32>()), u32);
}

/// The directory of the block device of this number (`st_dev`, `st_rdev`) in /sys; its last part is the kernel's name.
///
/// # Errors
/// The helper's: there is no such device.
#[expect(clippy::disallowed_methods, reason = "looks into /sys of the helper")]
pub fn directory_of_number(number: u64) -> io::Result<PathBuf> {
    fs::canonicalize(format!("/sys/dev/block/{}:{}", major(number), minor(number)))
}

/// The usual node of the device of this name. The kernel writes a slash in a name as an exclamation mark in /sys.
#[must_use]
pub fn node_of_name(name: &str) -> PathBuf {
    Path::new("/dev").join(name.replace('!', "/"))
}

/// Opens the block device of this number (`st_dev`, `st_rdev`) for reading, by its usual node.
///
/// # Errors
/// The helper's: the device or its node is not there.
#[expect(clippy::disallowed_methods, reason = "opens what is in /dev of the helper")]
pub fn open_number(number: u64) -> io::Result<File> {
    let directory = directory_of_number(number)?;
    let name = directory.file_name().and_then(OsStr::to_str).ok_or(io::ErrorKind::NotFound)?;
    let device = File::open(node_of_name(name))?;
    let is_it = device.metadata().map(|is| is.file_type().is_block_device() && is.rdev() == number)?;
    if is_it { Ok(device) } else { Err(io::ErrorKind::NotFound.into()) }
}

/// How a loop device is to be bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoopSetup {
    /// First byte of the backing file.
    pub offset: u64,
    /// Bytes from there.
    pub size: u64,
    /// Refuse writes.
    pub read_only: bool,
    /// Logical block size; 0 for the kernel's choice.
    pub block_size: u32,
}

impl LoopSetup {
    fn info(&self) -> LoopInfo {
        let mut info = empty_info();
        info.offset = self.offset;
        info.size_limit = self.size;
        info.flags = LO_FLAGS_AUTOCLEAR | if self.read_only { LO_FLAGS_READ_ONLY } else { 0 };
        let name = b"volrescue";
        info.file_name[..name.len()].copy_from_slice(name);
        info
    }
}

/// What a bound loop device is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoopStatus {
    /// `st_dev` of the backing file.
    pub device: u64,
    /// `st_ino` of the backing file.
    pub inode: u64,
    /// `st_rdev` of the backing file, if it is a device.
    pub rdevice: u64,
    /// Where in the backing file it begins, in bytes.
    pub offset: u64,
    /// How many bytes of it there are at the most; 0: all that follow.
    pub size_limit: u64,
    /// It is unbound with its last user.
    pub autoclear: bool,
}

fn empty_info() -> LoopInfo {
    LoopInfo {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: 0,
        file_name: [0; 64],
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    }
}

/// The number of a loop device that is free now; another process may take it before it is bound.
///
/// # Errors
/// The kernel's.
pub fn loop_get_free(control: impl AsFd) -> nix::Result<u32> {
    // SAFETY: LOOP_CTL_GET_FREE takes no argument and touches no memory of this process.
    let number = unsafe { raw::loop_ctl_get_free(control.as_fd().as_raw_fd()) }?;
    u32::try_from(number).map_err(|_| Errno::ERANGE)
}

/// Binds the loop device to `backing` in one step, to be freed with its last user (Linux 5.8).
///
/// # Errors
/// EBUSY: someone else was faster. EINVAL: this kernel does not have the call.
pub fn loop_configure(device: impl AsFd, backing: impl AsFd, setup: &LoopSetup) -> nix::Result<()> {
    let fd = u32::try_from(backing.as_fd().as_raw_fd()).map_err(|_| Errno::EBADF)?;
    let config = LoopConfig { fd, block_size: setup.block_size, info: setup.info(), reserved: [0; 8] };
    // SAFETY: the argument is a live `struct loop_config` of the size that the kernel copies in (asserted above); the
    // kernel takes its own reference of the backing file and keeps no pointer.
    unsafe { raw::loop_configure(device.as_fd().as_raw_fd(), &raw const config) }?;
    Ok(())
}

/// Binds the loop device in the steps of older kernels. A process killed between the first and the second leaves the
/// device bound.
///
/// # Errors
/// EBUSY: someone else was faster. After any other error the device has been unbound again.
pub fn loop_configure_by_steps(device: impl AsFd, backing: impl AsFd, setup: &LoopSetup) -> nix::Result<()> {
    let (device, backing) = (device.as_fd(), backing.as_fd());
    // SAFETY: LOOP_SET_FD takes a descriptor number, which `backing` keeps open during the call.
    unsafe { raw::loop_set_fd(device.as_raw_fd(), backing.as_raw_fd()) }?;
    let info = setup.info();
    // SAFETY: the argument is a live `struct loop_info64` of the size that the kernel copies in (asserted above).
    let mut done = unsafe { raw::loop_set_status64(device.as_raw_fd(), &raw const info) };
    if done.is_ok() && setup.block_size != 0 {
        let size = c_int::try_from(setup.block_size).map_err(|_| Errno::EINVAL)?;
        // SAFETY: LOOP_SET_BLOCK_SIZE takes a number.
        done = unsafe { raw::loop_set_block_size(device.as_raw_fd(), size) };
    }
    if done.is_err() {
        let _ = loop_clear(device);
    }
    done.map(drop)
}

/// Unbinds the loop device, now or when its last user closes it.
///
/// # Errors
/// ENXIO: it is not bound.
pub fn loop_clear(device: impl AsFd) -> nix::Result<()> {
    // SAFETY: LOOP_CLR_FD takes no argument and touches no memory of this process.
    unsafe { raw::loop_clr_fd(device.as_fd().as_raw_fd()) }?;
    Ok(())
}

/// What the loop device is bound to.
///
/// # Errors
/// ENXIO: it is not bound.
pub fn loop_status(device: impl AsFd) -> nix::Result<LoopStatus> {
    let mut info = empty_info();
    // SAFETY: the argument is a live, writable `struct loop_info64` of the size that the kernel copies out (asserted
    // above), and any bytes are valid for its fields.
    unsafe { raw::loop_get_status64(device.as_fd().as_raw_fd(), &raw mut info) }?;
    Ok(LoopStatus {
        device: info.device,
        inode: info.inode,
        rdevice: info.rdevice,
        offset: info.offset,
        size_limit: info.size_limit,
        autoclear: info.flags & LO_FLAGS_AUTOCLEAR != 0,
    })
}

/// Whether the block device refuses writes.
///
/// # Errors
/// ENOTTY: it is no block device.
pub fn is_read_only(device: impl AsFd) -> nix::Result<bool> {
    let mut value: c_int = 0;
    // SAFETY: the argument is a live, writable int, which is what BLKROGET writes.
    unsafe { raw::blkroget(device.as_fd().as_raw_fd(), &raw mut value) }?;
    Ok(value != 0)
}

/// Lifts the mark on the block device that makes it refuse writes. (There is no call to set it: on a loop device it
/// would outlast us.)
///
/// # Errors
/// The kernel's.
pub fn make_writable(device: impl AsFd) -> nix::Result<()> {
    let value: c_int = 0;
    // SAFETY: the argument is a live int, which is what BLKROSET reads.
    unsafe { raw::blkroset(device.as_fd().as_raw_fd(), &raw const value) }?;
    Ok(())
}

/// Size of the block device in bytes.
///
/// # Errors
/// ENOTTY: it is no block device.
pub fn size(device: impl AsFd) -> nix::Result<u64> {
    let mut value = 0_u64;
    // SAFETY: the argument is a live, writable u64, which is what BLKGETSIZE64 writes.
    unsafe { raw::blkgetsize64(device.as_fd().as_raw_fd(), &raw mut value) }?;
    Ok(value)
}

/// Logical sector size of the block device in bytes.
///
/// # Errors
/// ENOTTY: it is no block device.
pub fn sector_size(device: impl AsFd) -> nix::Result<u32> {
    let mut value: c_int = 0;
    // SAFETY: the argument is a live, writable int, which is what BLKSSZGET writes.
    unsafe { raw::blksszget(device.as_fd().as_raw_fd(), &raw mut value) }?;
    u32::try_from(value).map_err(|_| Errno::ERANGE)
}

/// Makes the whole of `copy` share the blocks of `original`, copied when either is written.
///
/// # Errors
/// EOPNOTSUPP, EXDEV, EINVAL: the filesystem can't, or they are on two.
pub fn clone_file(copy: impl AsFd, original: impl AsFd) -> nix::Result<()> {
    // SAFETY: FICLONE takes a descriptor number, which `original` keeps open during the call.
    unsafe { raw::ficlone(copy.as_fd().as_raw_fd(), original.as_fd().as_raw_fd()) }?;
    Ok(())
}

/// Items of a btrfs subvolume's tree.
#[derive(Debug)]
pub struct TreeItems(Box<TreeSearch>);

impl Default for TreeItems {
    fn default() -> Self {
        Self(Box::new(TreeSearch {
            tree: 0,
            objects: [0; 2],
            offsets: [0; 2],
            transactions: [0; 2],
            types: [0; 2],
            count: 0,
            unused: 0,
            unused_more: [0; 4],
            room: 0,
            items: [0; ITEMS],
        }))
    }
}

impl TreeItems {
    /// Up to `most` items, as there is room for, from the first of the inode `from` on, out of the subvolume that `inside`
    /// lies in: each with its header, and how many they are. The kernel keeps some changes of inodes to itself until the
    /// transaction that they are in is committed.
    ///
    /// # Errors
    /// EPERM: CAP_SYS_ADMIN is missing. ENOTTY: it is not on btrfs. EOVERFLOW: the first item is too large.
    pub fn search(&mut self, inside: impl AsFd, from: u64, most: u32) -> nix::Result<(&[u8], usize)> {
        let search = &mut *self.0;
        // Tree 0 stands for that of the subvolume.
        search.tree = 0;
        search.objects = [from, u64::MAX];
        search.offsets = [0, u64::MAX];
        search.transactions = [0, u64::MAX];
        search.types = [0, u32::from(u8::MAX)];
        search.count = most;
        search.room = ITEMS as u64;
        // SAFETY: the argument is a live, writable `struct btrfs_ioctl_search_args_v2` (112 bytes, asserted above),
        // followed by as many bytes as its `buf_size` says; any bytes are valid for its fields.
        unsafe { raw::btrfs_tree_search(inside.as_fd().as_raw_fd(), &raw mut *search) }?;
        Ok((&search.items, usize::try_from(search.count).unwrap_or(usize::MAX)))
    }
}

/// Commits what has changed of inodes and names on this btrfs. What files hold is not written with it, but where the
/// filesystem is mounted with `flushoncommit`.
///
/// # Errors
/// ENOTTY: it is not on btrfs. The kernel's.
pub fn btrfs_commit(inside: impl AsFd) -> nix::Result<()> {
    let inside = inside.as_fd().as_raw_fd();
    let mut transaction = 0_u64;
    // SAFETY: the argument is a live, writable u64, which is what BTRFS_IOC_START_SYNC writes.
    unsafe { raw::btrfs_start_sync(inside, &raw mut transaction) }?;
    // SAFETY: the argument is a live u64, which is what BTRFS_IOC_WAIT_SYNC reads.
    unsafe { raw::btrfs_wait_sync(inside, &raw const transaction) }?;
    Ok(())
}

/// The id of the btrfs subvolume that the inode lies in.
///
/// # Errors
/// ENOTTY: it is not on btrfs.
pub fn btrfs_subvolume_id(inode: impl AsFd) -> nix::Result<u64> {
    /// `BTRFS_FIRST_FREE_OBJECTID`: the root directory of every subvolume.
    const FIRST_OBJECT: u64 = 256;
    let mut lookup = InoLookup { tree: 0, object: FIRST_OBJECT, name: [0; 4080] };
    // SAFETY: the argument is a live, writable `struct btrfs_ioctl_ino_lookup_args` of the size that the kernel copies
    // in and out (asserted above), and any bytes are valid for its fields.
    unsafe { raw::btrfs_ino_lookup(inode.as_fd().as_raw_fd(), &raw mut lookup) }?;
    Ok(lookup.tree)
}

/// Whether the btrfs subvolume whose root directory this is refuses writes, however it is mounted.
///
/// # Errors
/// EINVAL: it is not the root directory of a subvolume. ENOTTY: it is not on btrfs.
pub fn btrfs_is_read_only(subvolume: impl AsFd) -> nix::Result<bool> {
    /// `BTRFS_SUBVOL_RDONLY`.
    const READ_ONLY: u64 = 1 << 1;
    let mut flags = 0_u64;
    // SAFETY: the argument is a live, writable u64, which is what BTRFS_IOC_SUBVOL_GETFLAGS writes.
    unsafe { raw::btrfs_subvol_getflags(subvolume.as_fd().as_raw_fd(), &raw mut flags) }?;
    Ok(flags & READ_ONLY != 0)
}

/// Makes the kernel forget that it has seen a btrfs on `device`, given as the path it was mounted by.
///
/// # Errors
/// ENOENT: it has forgotten already. EBUSY: it is mounted.
pub fn btrfs_forget(control: impl AsFd, device: &str) -> nix::Result<()> {
    let mut args = VolArgs { fd: 0, name: [0; 4088] };
    let name =
        args.name.get_mut(..device.len()).filter(|_| device.len() < 4087).ok_or(Errno::ENAMETOOLONG)?;
    name.copy_from_slice(device.as_bytes());
    // SAFETY: the argument is a live `struct btrfs_ioctl_vol_args` of the size that the kernel copies in (asserted
    // above), and its name ends with a NUL, because it is shorter than the field.
    unsafe { raw::btrfs_forget_dev(control.as_fd().as_raw_fd(), &raw const args) }?;
    Ok(())
}

/// Stops a mounted filesystem as a power cut would, after a last flush of its journal. What is in the journal stays there
/// for the next mount, which writes it to its place; without this, ext4 takes a block whose write failed for written and
/// empties the journal when it is unmounted.
///
/// # Errors
/// ENOTTY: the filesystem can't be stopped. EPERM without `CAP_SYS_ADMIN`.
pub fn stop_filesystem(directory: impl AsFd) -> nix::Result<()> {
    /// `EXT4_GOING_FLAGS_LOGFLUSH`, `XFS_FSOP_GOING_FLAGS_LOGFLUSH`.
    const FLUSH_LOG: u32 = 1;
    let flags = FLUSH_LOG;
    // SAFETY: the argument is a live u32, which the kernel copies in.
    unsafe { raw::shutdown(directory.as_fd().as_raw_fd(), &raw const flags) }?;
    Ok(())
}
