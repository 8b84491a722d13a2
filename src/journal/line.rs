//! One record as one line: `{"crc":"1a2b3c4d","seq":7,"record":...}`, the checksum being that of all after its comma.

use super::record::Record;
use anyhow::{Context, Result};
use serde::Deserialize;

/// `{"crc":"` + eight digits + `",`.
const HEAD: usize = 18;

/// What a line turned out to be.
#[derive(Debug)]
pub(super) enum Line {
    /// Whole.
    Good(u64, Box<Record>),
    /// Not as it was written, or of a form that we do not know.
    Damaged,
}

pub(super) fn to_line(seq: u64, record: &Record) -> Result<Vec<u8>> {
    let json = serde_json::to_string(record).context("writing a record of the journal")?;
    let rest = format!("\"seq\":{seq},{}", json.strip_prefix('{').unwrap_or(&json));
    Ok(format!("{{\"crc\":\"{:08x}\",{rest}\n", crc32(rest.as_bytes())).into_bytes())
}

#[derive(Deserialize)]
struct Number {
    seq: u64,
}

/// What has to be known of a line to find its step again: the batches of a large tree are not read for that.
pub(super) enum Index {
    /// A batch, and the number of its intent.
    Batch(u64, u64),
    /// Any other record.
    Other(u64, Box<Record>),
    /// See [`Line::Damaged`].
    Damaged,
}

/// As [`parse`], without what fills a batch.
pub(super) fn parse_index(line: &[u8]) -> Index {
    #[derive(Deserialize)]
    struct Head<'a> {
        seq: u64,
        record: &'a str,
        of: Option<u64>,
    }
    let Some(()) = check(line) else { return Index::Damaged };
    if let Ok(Head { seq, record: "tree", of: Some(of) }) = serde_json::from_slice(line) {
        return Index::Batch(seq, of);
    }
    match parse(line) {
        Line::Good(seq, record) => Index::Other(seq, record),
        Line::Damaged => Index::Damaged,
    }
}

/// `None` if the line is not as it was written.
fn check(line: &[u8]) -> Option<()> {
    let (head, rest) = line.split_at_checked(HEAD)?;
    let sum = head.strip_prefix(b"{\"crc\":\"")?.strip_suffix(b"\",")?;
    let sum = u32::from_str_radix(std::str::from_utf8(sum).ok()?, 16).ok()?;
    (sum == crc32(rest)).then_some(())
}

/// Reads a line without its newline.
pub(super) fn parse(line: &[u8]) -> Line {
    let parse = || {
        check(line)?;
        let number: Number = serde_json::from_slice(line).ok()?;
        Some(Line::Good(number.seq, Box::new(serde_json::from_slice(line).ok()?)))
    };
    parse().unwrap_or(Line::Damaged)
}

/// CRC-32 as in IEEE 802.3, a byte at a time.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0u32; 256];
        let mut index = 0u32;
        while index < 256 {
            let mut value = index;
            let mut bit = 0;
            while bit < 8 {
                value = if value & 1 == 1 { value >> 1 ^ 0xedb8_8320 } else { value >> 1 };
                bit += 1;
            }
            table[index as usize] = value;
            index += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |crc, byte| crc >> 8 ^ TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_usual_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn a_line_is_json_and_any_flipped_bit_is_seen() {
        let line = to_line(7, &Record::Done { of: 3, changes: 1 }).unwrap();
        let line = line.strip_suffix(b"\n").unwrap();
        let json: serde_json::Value = serde_json::from_slice(line).unwrap();
        assert_eq!((&json["seq"], &json["record"], &json["of"]), (&7.into(), &"done".into(), &3.into()));
        let Line::Good(7, record) = parse(line) else { panic!("the line is whole") };
        assert_eq!(*record, Record::Done { of: 3, changes: 1 });
        for bit in 0..line.len() * 8 {
            let mut damaged = line.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            // The case of a hexadecimal digit is no damage.
            if !damaged.eq_ignore_ascii_case(line) {
                assert!(matches!(parse(&damaged), Line::Damaged), "bit {bit}");
            }
        }
        for length in 0..line.len() {
            assert!(matches!(parse(&line[..length]), Line::Damaged), "{length} bytes");
        }
    }
}
