//! Ioctls of device-mapper (`linux/dm-ioctl.h`). Four of them are all that is needed, and no program: `dmsetup` may be
//! missing on a helper, and it can't ask for deferred removal in the moment in which a device is made.

#![expect(unsafe_code, reason = "ioctls that no crate wraps")]

use nix::errno::Errno;
use nix::libc;
use std::os::fd::{AsFd, AsRawFd};

/// `struct dm_ioctl`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Header {
    version: [u32; 3],
    data_size: u32,
    data_start: u32,
    target_count: u32,
    open_count: i32,
    flags: u32,
    event_nr: u32,
    padding: u32,
    dev: u64,
    name: [u8; 128],
    uuid: [u8; 129],
    data: [u8; 7],
}

const SIZE: usize = size_of::<Header>();
/// `struct dm_target_spec`, which the parameters of the target follow.
const SPEC: usize = 40;
const _: () = assert!(SIZE == 312 && SIZE.is_multiple_of(8));

const READ_ONLY: u32 = 1;
const DEFERRED_REMOVE: u32 = 1 << 17;
/// What udev is told with each event (`DM_UDEV_DISABLE_*_FLAG`, and that the event is a genuine one): to look at the
/// device with none of its rules. What is in it is not the helper's: no link by its UUID, no logical volume activated.
const LEAVE_ALONE: u32 = 0x6f << 16;

mod raw {
    use super::Header;
    nix::ioctl_readwrite!(create, 0xfd, 3, Header);
    nix::ioctl_readwrite!(remove, 0xfd, 4, Header);
    nix::ioctl_readwrite!(resume, 0xfd, 6, Header);
    nix::ioctl_readwrite!(load, 0xfd, 9, Header);
}

/// A part of a mapped device, in sectors of 512 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its first sector in the mapped device.
    pub start: u64,
    /// How many.
    pub length: u64,
    /// "linear" or "striped".
    pub kind: &'static str,
    /// Its parameters, as `dmsetup table` shows them.
    pub parameters: String,
}

fn header(name: &str) -> Result<Header, Errno> {
    let mut header = Header {
        version: [4, 0, 0],
        data_size: SIZE as u32,
        data_start: SIZE as u32,
        target_count: 0,
        open_count: 0,
        flags: 0,
        event_nr: 0,
        padding: 0,
        dev: 0,
        name: [0; 128],
        uuid: [0; 129],
        data: [0; 7],
    };
    let place = header.name.get_mut(..name.len()).filter(|place| place.len() < 128).ok_or(Errno::EINVAL)?;
    place.copy_from_slice(name.as_bytes());
    Ok(header)
}

/// Makes a mapped device of these targets and gives its number (major, minor). `control` is `/dev/mapper/control`.
///
/// # Errors
/// Of the ioctls: EBUSY where the name is taken, EINVAL or ENXIO where a target is not to be had. No device is left.
pub fn create(
    control: impl AsFd,
    name: &str,
    targets: &[Target],
    read_only: bool,
) -> Result<(u32, u32), Errno> {
    let control = control.as_fd().as_raw_fd();
    let mut made = header(name)?;
    // SAFETY: the descriptor is open, and the kernel reads and writes the header alone: data_size is its size.
    unsafe { raw::create(control, &raw mut made) }?;
    let number = (libc::major(made.dev), libc::minor(made.dev));
    let done = load(control, name, targets, read_only).and_then(|()| {
        let mut header = header(name)?;
        header.event_nr = LEAVE_ALONE;
        // SAFETY: as above.
        unsafe { raw::resume(control, &raw mut header) }.map(drop)
    });
    match done {
        Ok(()) => Ok(number),
        Err(errno) => {
            let mut header = header(name)?;
            // SAFETY: as above.
            let _ = unsafe { raw::remove(control, &raw mut header) };
            Err(errno)
        }
    }
}

fn load(control: i32, name: &str, targets: &[Target], read_only: bool) -> Result<(), Errno> {
    let table = table(targets)?;
    let mut header = header(name)?;
    header.data_size = u32::try_from(SIZE + table.len()).map_err(|_| Errno::E2BIG)?;
    header.target_count = u32::try_from(targets.len()).map_err(|_| Errno::E2BIG)?;
    header.flags = if read_only { READ_ONLY } else { 0 };
    // The kernel reads the table behind the header: both lie in one buffer, aligned as the header is.
    let mut buffer = vec![header; 1 + table.len().div_ceil(SIZE)];
    let (_, behind) = buffer.split_at_mut(1);
    let behind = behind.as_mut_ptr().cast::<u8>();
    // SAFETY: `behind` begins a buffer of at least `table.len()` bytes that nothing else refers to; a Header may hold
    // any bytes. The kernel reads and writes `data_size` bytes, which the buffer has.
    unsafe {
        std::ptr::copy_nonoverlapping(table.as_ptr(), behind, table.len());
        raw::load(control, buffer.as_mut_ptr())
    }
    .map(drop)
}

/// The targets as the kernel reads them: each specification says how far it is to the next.
fn table(targets: &[Target]) -> Result<Vec<u8>, Errno> {
    let mut bytes = Vec::new();
    for target in targets {
        let length = (SPEC + target.parameters.len() + 1).next_multiple_of(8);
        let end = bytes.len() + length;
        bytes.extend(target.start.to_ne_bytes());
        bytes.extend(target.length.to_ne_bytes());
        bytes.extend(0_i32.to_ne_bytes());
        bytes.extend(u32::try_from(length).map_err(|_| Errno::E2BIG)?.to_ne_bytes());
        let mut kind = [0; 16];
        kind.get_mut(..target.kind.len()).ok_or(Errno::EINVAL)?.copy_from_slice(target.kind.as_bytes());
        bytes.extend(kind);
        bytes.extend(target.parameters.as_bytes());
        bytes.resize(end, 0);
    }
    Ok(bytes)
}

/// Removes the mapped device, or, while it is in use, has the kernel remove it with its last close.
///
/// # Errors
/// Of the ioctl: ENXIO where there is none of this name.
pub fn remove_deferred(control: impl AsFd, name: &str) -> Result<(), Errno> {
    let mut header = header(name)?;
    header.flags = DEFERRED_REMOVE;
    header.event_nr = LEAVE_ALONE;
    // SAFETY: the descriptor is open, and the kernel reads and writes the header alone: data_size is its size.
    unsafe { raw::remove(control.as_fd().as_raw_fd(), &raw mut header) }.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_follow_each_other_as_the_kernel_reads_them() {
        let target = |start, parameters: &str| Target {
            start,
            length: 8,
            kind: "linear",
            parameters: parameters.to_owned(),
        };
        let bytes = table(&[target(0, "7:1 0"), target(8, "7:12 2048")]).unwrap();
        assert_eq!(bytes.len(), 48 + 56);
        assert_eq!(&bytes[20..24], 48_u32.to_ne_bytes());
        assert_eq!(&bytes[24..31], b"linear\0");
        assert_eq!(&bytes[40..46], b"7:1 0\0");
        assert_eq!(&bytes[48..56], 8_u64.to_ne_bytes());
        assert_eq!(&bytes[88..98], b"7:12 2048\0");
    }

    #[test]
    fn a_name_that_is_too_long_is_refused() {
        assert_eq!(header(&"x".repeat(128)).err(), Some(Errno::EINVAL));
        assert!(header(&"x".repeat(127)).is_ok());
    }
}
