//! What is encrypted with LUKS, opened with a key. cryptsetup finds the volume key; the mapping is made here, so that it
//! is private and goes by itself: what cryptsetup opens, udev looks into and LVM may activate.

#![expect(clippy::disallowed_methods, reason = "reads the key that cryptsetup wrote for us")]

use super::disk::{Access, Disk};
use super::loopdev::LoopDevice;
use super::mapped::{self, Mapped};
use super::search::bind;
use super::stack::Part;
use super::tmpfs::PrivateTmpfs;
use crate::error::Refusal;
use crate::probe::{Encrypted, Slot, Superblock, Window};
use crate::sys::mapper::Target;
use anyhow::{Context, Result};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

/// How often a passphrase is asked for.
const TRIES: usize = 3;

/// Where the keys for what is encrypted come from.
pub trait Keys {
    /// The contents of the key files that were given.
    fn files(&self) -> Vec<Vec<u8>>;

    /// Whether somebody can be asked for a passphrase.
    fn can_ask(&self) -> bool;

    /// A passphrase for `what`, typed; `wrong` says that the last one was.
    ///
    /// # Errors
    /// A signal ended the wait, or the terminal can't be read.
    fn ask(&mut self, what: &str, wrong: bool) -> Result<Vec<u8>>;
}

/// No keys at all.
#[derive(Clone, Copy, Debug)]
pub struct NoKeys;

impl Keys for NoKeys {
    fn files(&self) -> Vec<Vec<u8>> {
        Vec::new()
    }

    fn can_ask(&self) -> bool {
        false
    }

    fn ask(&mut self, _: &str, _: bool) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }
}

/// Opens what is on the slot. The disk that it gives is named as the one that it lies on.
///
/// # Errors
/// [`Refusal`] (3): no device-mapper, no cryptsetup, no key that fits, or what LUKS can do and this can't.
pub(super) fn open(part: &Part, slot: &Slot, superblock: &Superblock, keys: &mut dyn Keys) -> Result<Disk> {
    let what = format!("the {} on {}", superblock.kind.name(), slot.words());
    let window = Window::new(&part.disk, slot.start, slot.size);
    let encrypted = Encrypted::read(&window).map_err(|why| {
        Refusal::target(format!("{what} can't be opened: {why}")).hint(
            "Open it with cryptsetup, which can do more, and give the mapped device as target. Mend a damaged header \
             on a copy only.",
        )
    })?;
    mapped::control().map_err(|refusal| {
        let message = format!("{what} can't be opened: {}", refusal.message);
        Refusal { message, ..refusal }
    })?;
    let below = bind(&part.disk, &part.layout, slot, superblock, part.disk.access)?;
    let key = volume_key(&below, &what, keys)?;
    let size = encrypted.size.unwrap_or_else(|| slot.size.saturating_sub(encrypted.offset));
    let target = target(&encrypted, size, &key, below.path())?;
    let writable = part.disk.access == Access::ReadWrite;
    let mapped = Mapped::create(&what, &[target], vec![below], writable)?;
    Disk::mapped(mapped, &part.disk)
}

/// The line of the table, as cryptsetup would write it.
fn target(encrypted: &Encrypted, size: u64, key: &[u8], below: &Path) -> Result<Target> {
    let mut hex = String::new();
    key.iter().for_each(|byte| {
        let _ = write!(hex, "{byte:02x}");
    });
    let Encrypted { cipher, offset, sector, first, .. } = encrypted;
    let mut parameters = format!("{cipher} {hex} {first} {} {}", below.display(), offset / 512);
    if *sector != 512 {
        write!(parameters, " 1 sector_size:{sector}")?;
    }
    let length = size / u64::from(*sector) * u64::from(*sector) / 512;
    Ok(Target { start: 0, length, kind: "crypt", parameters })
}

/// The key that the data is encrypted with. Key files first, then what is typed.
fn volume_key(device: &LoopDevice, what: &str, keys: &mut dyn Keys) -> Result<Vec<u8>> {
    let files = keys.files();
    for file in &files {
        if let Some(key) = attempt(device, what, file)? {
            return Ok(key);
        }
        // A passphrase that an editor has put into a file ends with a newline.
        if let Some(line) = file.strip_suffix(b"\n")
            && let Some(key) = attempt(device, what, line)?
        {
            return Ok(key);
        }
    }
    if !keys.can_ask() {
        let refusal = if files.is_empty() {
            Refusal::target(format!("{what} is encrypted, and no key was given"))
                .hint("Give --luks-key FILE, or run this on a terminal to be asked for the passphrase.")
        } else {
            Refusal::target(format!("no key that was given opens {what}"))
                .hint("cryptsetup luksDump shows which key slots it has.")
        };
        return Err(refusal.into());
    }
    for count in 0..TRIES {
        let typed = keys.ask(what, count > 0)?;
        if let Some(key) = attempt(device, what, &typed)? {
            return Ok(key);
        }
    }
    Err(Refusal::target(format!("{TRIES} passphrases were typed, and none opens {what}"))
        .hint("Check the keyboard's layout and that it is the right volume.")
        .into())
}

/// Asks cryptsetup; `None`: the key is wrong.
fn attempt(device: &LoopDevice, what: &str, key: &[u8]) -> Result<Option<Vec<u8>>> {
    /// What cryptsetup ends with where no key slot opens.
    const WRONG: i32 = 2;
    // In memory, in a directory that no other process sees.
    let place = PrivateTmpfs::mount()?;
    let file = place.path().join("key");
    let mut command = mapped::tool("cryptsetup");
    command
        .args(["luksDump", "--batch-mode", "--dump-volume-key", "--key-file", "-", "--master-key-file"])
        .arg(&file)
        .arg(device.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .map_err(|error| mapped::missing(&error, what, "cryptsetup", "cryptsetup-bin (cryptsetup)"))?;
    let written = child.stdin.take().map_or(Ok(()), |mut pipe| pipe.write_all(key));
    let output = child.wait_with_output().context("waiting for cryptsetup")?;
    let found = if output.status.success() {
        written.context("giving cryptsetup the key")?;
        Some(fs::read(&file).context("reading the key that cryptsetup found")?)
    } else if output.status.code() == Some(WRONG) {
        None
    } else {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim().lines().last().unwrap_or("nothing").to_owned();
        return Err(Refusal::target(format!("{what} can't be opened: cryptsetup says: {said}")).into());
    };
    place.unmount()?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_what_cryptsetup_would_load() {
        let mut encrypted = Encrypted {
            cipher: "aes-xts-plain64".into(),
            offset: 16 << 20,
            size: None,
            sector: 4096,
            first: 0,
        };
        let table = target(&encrypted, (1 << 20) + 512, &[0xab, 0x01], Path::new("/dev/loop7")).unwrap();
        assert_eq!((table.start, table.length, table.kind), (0, 2048, "crypt"));
        assert_eq!(table.parameters, "aes-xts-plain64 ab01 0 /dev/loop7 32768 1 sector_size:4096");
        encrypted.sector = 512;
        let table = target(&encrypted, (1 << 20) + 512, &[0xab], Path::new("/dev/loop7")).unwrap();
        assert_eq!(
            (table.length, table.parameters.as_str()),
            (2049, "aes-xts-plain64 ab 0 /dev/loop7 32768")
        );
    }
}
