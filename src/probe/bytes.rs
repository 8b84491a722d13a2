//! Numbers, names and checksums out of bytes that may be anything. What lies beyond the end reads as zero.

/// The `N` bytes at `offset`.
pub(super) fn array<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    let mut out = [0; N];
    if let Some(found) = offset.checked_add(N).and_then(|end| bytes.get(offset..end)) {
        out.copy_from_slice(found);
    }
    out
}

pub(super) fn le16(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes(array(bytes, offset))
}

pub(super) fn le32(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(array(bytes, offset))
}

pub(super) fn le64(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(array(bytes, offset))
}

pub(super) fn be16(bytes: &[u8], offset: usize) -> u16 {
    u16::from_be_bytes(array(bytes, offset))
}

pub(super) fn be32(bytes: &[u8], offset: usize) -> u32 {
    u32::from_be_bytes(array(bytes, offset))
}

pub(super) fn be64(bytes: &[u8], offset: usize) -> u64 {
    u64::from_be_bytes(array(bytes, offset))
}

/// Whether `magic` stands at `offset`.
pub(super) fn has(bytes: &[u8], offset: usize, magic: &[u8]) -> bool {
    bytes.get(offset..).is_some_and(|rest| rest.starts_with(magic))
}

/// A UUID in the byte order of RFC 9562; `None` if all bytes are zero.
pub(super) fn uuid(bytes: &[u8], offset: usize) -> Option<String> {
    let raw: [u8; 16] = array(bytes, offset);
    (raw != [0; 16]).then(|| uuid_text(raw))
}

/// A GUID as GPT has it: the first three groups are little-endian (UEFI specification, appendix A).
pub(super) fn guid(bytes: &[u8], offset: usize) -> String {
    let mut raw: [u8; 16] = array(bytes, offset);
    raw[..4].reverse();
    raw[4..6].reverse();
    raw[6..8].reverse();
    uuid_text(raw)
}

fn uuid_text(raw: [u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (i, byte) in raw.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
        }
    }
    text
}

/// A name in a field of fixed length: up to the first NUL, without blanks at the end; `None` if nothing is left.
pub(super) fn name(bytes: &[u8], offset: usize, length: usize) -> Option<String> {
    let field = bytes.get(offset..offset.checked_add(length)?)?;
    let end = field.iter().position(|&b| b == 0).unwrap_or(field.len());
    let text = String::from_utf8_lossy(&field[..end]);
    let text = text.trim_end();
    (!text.is_empty()).then(|| text.to_owned())
}

/// A name in UTF-16, little-endian, as GPT has it.
pub(super) fn utf16(bytes: &[u8], offset: usize, units: usize) -> Option<String> {
    let units = (0..units).map(|i| le16(bytes, offset + 2 * i)).take_while(|&unit| unit != 0);
    let text: String = char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    (!text.is_empty()).then_some(text)
}

/// The CRC-32 of IEEE 802.3, which GPT uses.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = crc32_table();
    !bytes.iter().fold(!0, |crc, &byte| TABLE[((crc ^ u32::from(byte)) & 0xff) as usize] ^ (crc >> 8))
}

const fn crc32_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_standard_check_value() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn what_lies_beyond_the_end_is_zero() {
        assert_eq!(le32(&[1, 2, 3], 0), 0);
        assert_eq!(le64(&[], usize::MAX), 0);
        assert_eq!(name(b"root", 2, usize::MAX), None);
    }

    #[test]
    fn a_guid_has_its_first_three_groups_turned() {
        let esp =
            [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b];
        assert_eq!(guid(&esp, 0), "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
    }
}
