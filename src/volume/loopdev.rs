//! Loop devices that vanish with their last user.

#![expect(clippy::disallowed_methods, reason = "opens loop devices of the helper")]

use super::proc::text;
use super::retry;
use crate::error::Refusal;
use crate::sys::block as ioctl;
use crate::sys::block::LoopSetup;
use anyhow::{Context, Result, anyhow};
use nix::errno::Errno;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A loop device. However this process ends, the kernel unbinds it with the last close or unmount; [`Self::close`]
/// also waits for that.
#[derive(Debug)]
pub(super) struct LoopDevice {
    file: File,
    path: PathBuf,
    /// What /sys says that it is bound to.
    bound: Option<String>,
}

impl LoopDevice {
    /// Binds a free loop device to a part of `backing`.
    ///
    /// # Errors
    /// [`Refusal`] (3) where there are no loop devices to be had.
    pub(super) fn attach(backing: impl AsFd, setup: &LoopSetup) -> Result<Self> {
        let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control");
        let control = control.map_err(|error| no_loop(&error))?;
        // Between asking for a free device and binding it someone else may take it.
        for _ in 0..64 {
            let number = ioctl::loop_get_free(&control).map_err(|errno| no_loop(&errno.into()))?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let file =
                OpenOptions::new().read(true).write(true).open(&path).map_err(|error| no_loop(&error))?;
            let done = match ioctl::loop_configure(&file, &backing, setup) {
                Err(Errno::EINVAL | Errno::ENOTTY) => ioctl::loop_configure_by_steps(&file, &backing, setup),
                done => done,
            };
            match done {
                Ok(()) => {
                    if !setup.read_only && ioctl::is_read_only(&file) == Ok(true) {
                        // A former user marked this device with blockdev --setro, and the mark outlasts the binding.
                        ioctl::make_writable(&file)
                            .with_context(|| format!("making {} writable", path.display()))?;
                    }
                    let bound = text(&sys(&path));
                    return Ok(Self { file, path, bound });
                }
                Err(Errno::EBUSY) => {}
                Err(Errno::EACCES | Errno::EPERM) => return Err(no_loop(&Errno::EPERM.into()).into()),
                Err(errno) => return Err(errno).with_context(|| format!("binding {}", path.display())),
            }
        }
        Err(anyhow!("no loop device stayed free long enough to be bound"))
    }

    /// Its node.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Unbinds it and waits until it is free.
    ///
    /// # Errors
    /// It is still bound after five seconds: something else uses it.
    pub(super) fn close(self) -> Result<()> {
        let Self { file, path, bound } = self;
        match ioctl::loop_clear(&file) {
            Ok(()) | Err(Errno::ENXIO) => {}
            Err(errno) => return Err(errno).with_context(|| format!("unbinding {}", path.display())),
        }
        drop(file);
        retry(Duration::from_secs(5), || (text(&sys(&path)) != bound || bound.is_none()).then_some(()))
            .ok_or_else(|| anyhow!("{} is still in use five seconds after it was unbound", path.display()))
    }
}

fn sys(path: &Path) -> PathBuf {
    Path::new("/sys/block").join(path.file_name().unwrap_or_default()).join("loop/backing_file")
}

fn no_loop(error: &io::Error) -> Refusal {
    Refusal::target(format!("no loop device can be had here: {error}")).hint(
        "Load the module (modprobe loop); in a container, run it with --privileged and the devices of the host. \
         Or mount the volume yourself and give the directory as target.",
    )
}
