//! Image formats: which one a file is in, told by its content, and every other file that it names. Pure.
//!
//! What the header of an image names its program opens: a qcow2 whose backing file is `/etc/shadow` would show it as a
//! disk. So all names are read here first, and given to the program as open files or not at all. The layouts are those of
//! QEMU's `docs/interop/qcow2.txt`, of VMware's "Virtual Disk Format 5.0", and of Microsoft's VHD and VHDX specifications.

use super::ReadAt;
use super::bytes::{be16, be32, be64, has, le32, le64};
use bstr::{BString, ByteSlice};
use std::io;

/// The most bytes of a file's name in a qcow2.
const NAME: usize = 1023;
/// The most of a VMDK's description that is read.
const DESCRIPTION: usize = 20 * 512;

/// An image in another format than raw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskImage {
    /// Its format.
    pub format: Format,
    /// The file that it is only the difference to.
    pub backing: Option<Backing>,
    /// Why it can only be read, in words.
    pub read_only: Option<&'static str>,
}

/// A format that is opened here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are the usual ones")]
pub enum Format {
    Raw,
    Qcow2,
    Vmdk,
    Vhd,
    Vhdx,
    Vdi,
}

impl Format {
    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
            Self::Vhd => "vhd",
            Self::Vhdx => "vhdx",
            Self::Vdi => "vdi",
        }
    }

    /// As QEMU calls it.
    #[must_use]
    pub fn driver(self) -> &'static str {
        if self == Self::Vhd { "vpc" } else { self.name() }
    }
}

/// What a qcow2 says of the file below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backing {
    /// The name as it stands in the header: a path, relative to the image's directory, or what QEMU takes for more.
    pub name: BString,
    /// The format that the header gives for it.
    pub format: Option<BString>,
}

/// What the image is; `None`: none of these, so raw. The inner error is a format, or a way to use one, that is not opened
/// here: a phrase.
///
/// # Errors
/// What reading says.
pub fn disk_image(file: &dyn ReadAt) -> io::Result<Option<Result<DiskImage, String>>> {
    let head = file.read_at(0, 4096)?;
    let plain = |format| Some(Ok(DiskImage { format, backing: None, read_only: None }));
    if has(&head, 0, b"QFI\xfb") {
        return qcow2(file, &head).map(Some);
    }
    if has(&head, 0, b"KDMV") {
        return vmdk(file, &head).map(Some);
    }
    if has(&head, 0, b"COWD") || has(&head, 0, b"# Disk DescriptorFile") {
        return Ok(Some(Err("a VMDK whose parts are in other files".into())));
    }
    if has(&head, 0, b"vhdxfile") {
        return Ok(plain(Format::Vhdx));
    }
    if has(&head, 64, &[0x7f, 0x10, 0xda, 0xbe]) {
        return Ok(plain(Format::Vdi));
    }
    // The footer is at the end; of the dynamic ones a copy is at the start.
    let size = file.size();
    let footer = file.read_at(size.saturating_sub(512), 512)?;
    let is_vhd = |bytes: &[u8]| {
        has(bytes, 0, b"conectix") && be32(bytes, 12) >> 16 == 1 && matches!(be32(bytes, 60), 2..=4)
    };
    let Some(vhd) = [&footer, &head].into_iter().find(|bytes| is_vhd(bytes)) else { return Ok(None) };
    Ok(match be32(vhd, 60) {
        4 => Some(Err("a VHD that is the difference to another file".into())),
        _ => plain(Format::Vhd),
    })
}

fn qcow2(file: &dyn ReadAt, head: &[u8]) -> io::Result<Result<DiskImage, String>> {
    const DATA_FILE: u64 = 4;
    let version = be32(head, 4);
    if !matches!(version, 2 | 3) {
        return Ok(Err(format!("a qcow of version {version}")));
    }
    if be32(head, 32) != 0 {
        return Ok(Err("an encrypted qcow2".into()));
    }
    if version == 3 && be64(head, 72) & DATA_FILE != 0 {
        return Ok(Err("a qcow2 whose data is in another file".into()));
    }
    let backing = match (be64(head, 8), be32(head, 16) as usize) {
        (0, _) => None,
        (_, length) if length > NAME => return Ok(Err("a qcow2 with a damaged header".into())),
        (at, length) => Some(Backing { name: file.read_at(at, length)?.into(), format: format_of(head) }),
    };
    Ok(Ok(DiskImage { format: Format::Qcow2, backing, read_only: None }))
}

/// The backing file's format, from the extensions that follow the header.
fn format_of(head: &[u8]) -> Option<BString> {
    const FORMAT: u32 = 0xe279_2aca;
    let mut at = if be32(head, 4) == 3 { be32(head, 100) as usize } else { 72 };
    while at.checked_add(8)? <= head.len() {
        let (kind, length) = (be32(head, at), be32(head, at + 4) as usize);
        if kind == 0 {
            return None;
        }
        if kind == FORMAT {
            return Some(head.get(at + 8..at.checked_add(8)?.checked_add(length)?)?.into());
        }
        at = at.checked_add(8)?.checked_add(length.checked_next_multiple_of(8)?)?;
    }
    None
}

fn vmdk(file: &dyn ReadAt, head: &[u8]) -> io::Result<Result<DiskImage, String>> {
    const COMPRESSED: u32 = 1 << 16;
    // Without a size of its own it is a list of other files.
    if le64(head, 12) == 0 {
        return Ok(Err("a VMDK whose parts are in other files".into()));
    }
    let (at, sectors) = (le64(head, 28), le64(head, 36));
    let length = usize::try_from(sectors.saturating_mul(512)).unwrap_or(DESCRIPTION).min(DESCRIPTION);
    let text = if at == 0 { Vec::new() } else { file.read_at(at.saturating_mul(512), length)? };
    let parent = text.lines().map(<[u8]>::trim_ascii).find_map(|line| line.strip_prefix(b"parentCID="));
    if parent.is_some_and(|id| !id.trim_ascii().eq_ignore_ascii_case(b"ffffffff")) {
        return Ok(Err("a VMDK that is the difference to another file".into()));
    }
    let compressed = le32(head, 8) & COMPRESSED != 0 || be16(head, 77) != 0;
    let read_only = compressed.then_some("a compressed VMDK (streamOptimized) can't be changed in place");
    Ok(Ok(DiskImage { format: Format::Vmdk, backing: None, read_only }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(size: usize, parts: &[(usize, &[u8])]) -> Option<Result<DiskImage, String>> {
        let mut bytes = vec![0; size];
        for (at, part) in parts {
            bytes[*at..at + part.len()].copy_from_slice(part);
        }
        disk_image(&bytes).unwrap()
    }

    fn three() -> [u8; 4] {
        3_u32.to_be_bytes()
    }

    #[test]
    fn the_backing_file_of_a_qcow2_is_read_with_its_format() {
        let found = image(
            4096,
            &[
                (0, b"QFI\xfb"),
                (4, &three()),
                (8, &512_u64.to_be_bytes()),
                (16, &8_u32.to_be_bytes()),
                (100, &104_u32.to_be_bytes()),
                (104, &[0x68, 0x03, 0xf8, 0x57, 0, 0, 0, 5]),
                (120, &[0xe2, 0x79, 0x2a, 0xca, 0, 0, 0, 3]),
                (128, b"raw"),
                (512, b"base.img"),
            ],
        );
        let backing = found.unwrap().unwrap().backing.unwrap();
        assert_eq!((backing.name.to_str(), backing.format.unwrap().to_str()), (Ok("base.img"), Ok("raw")));
    }

    #[test]
    fn what_names_other_files_in_other_ways_is_refused() {
        let words = |found: Option<Result<DiskImage, String>>| found.unwrap().unwrap_err();
        let qcow2: (usize, &[u8]) = (0, b"QFI\xfb");
        assert!(words(image(4096, &[qcow2, (4, &three()), (79, &[4])])).contains("another file"));
        assert!(words(image(4096, &[qcow2, (4, &three()), (35, &[2])])).contains("encrypted"));
        assert!(words(image(4096, &[qcow2, (7, &[1])])).contains("version 1"));
        assert!(words(image(4096, &[(0, b"KDMV"), (28, &[1]), (36, &[1])])).contains("other files"));
        assert!(words(image(4096, &[(0, b"# Disk DescriptorFile\n")])).contains("other files"));
        let delta = b"# Disk DescriptorFile\nparentCID=12345678\n";
        let parts: [(usize, &[u8]); 5] = [(0, b"KDMV"), (12, &[8]), (28, &[1]), (36, &[1]), (512, delta)];
        assert!(words(image(4096, &parts)).contains("difference"));
        let vhd: [(usize, &[u8]); 3] = [(512, b"conectix"), (525, &[1]), (575, &[4])];
        assert!(words(image(1024, &vhd)).contains("difference"));
    }

    #[test]
    fn the_others_are_told_by_their_signatures_and_raw_by_having_none() {
        let format = |found: Option<Result<DiskImage, String>>| found.map(|one| one.unwrap().format);
        assert_eq!(format(image(4096, &[(0, b"vhdxfile")])), Some(Format::Vhdx));
        assert_eq!(format(image(4096, &[(64, &[0x7f, 0x10, 0xda, 0xbe])])), Some(Format::Vdi));
        assert_eq!(format(image(4096, &[(0, b"KDMV"), (12, &[8])])), Some(Format::Vmdk));
        let fixed: [(usize, &[u8]); 3] = [(3584, b"conectix"), (3597, &[1]), (3647, &[2])];
        assert_eq!(format(image(4096, &fixed)), Some(Format::Vhd));
        assert_eq!(format(image(4096, &[])), None);
        assert_eq!(format(image(0, &[])), None);
    }

    #[test]
    fn damaged_lengths_end_nothing_else() {
        let lengths: [(usize, &[u8]); 4] =
            [(0, b"QFI\xfb"), (4, &three()), (8, &[0, 0, 0, 0, 0, 0, 2, 0]), (16, &[255; 4])];
        assert!(image(4096, &lengths).unwrap().is_err());
        let extension: [(usize, &[u8]); 5] =
            [(0, b"QFI\xfb"), (4, &three()), (8, &[255; 8]), (19, &[4]), (100, &[255; 4])];
        let found = image(4096, &extension).unwrap().unwrap();
        assert_eq!(found.backing.unwrap().format, None);
    }
}
