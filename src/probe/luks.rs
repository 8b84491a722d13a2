//! Where and how a LUKS header says that its data is encrypted (the LUKS1 and LUKS2 on-disk formats of the cryptsetup
//! project). The keys are not read here: cryptsetup finds the volume key, and checks the header on the way.

use super::ReadAt;
use super::bytes::{be16, be32, be64, has, name};

/// The largest header of LUKS2.
const HEADER: u64 = 4 << 20;

/// The encrypted extent, as device-mapper's crypt target wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encrypted {
    /// "aes-xts-plain64"
    pub cipher: String,
    /// First byte, counted in the device.
    pub offset: u64,
    /// Bytes; `None`: to the end of the device.
    pub size: Option<u64>,
    /// Bytes that are encrypted at a time.
    pub sector: u32,
    /// The number that the first sector's IV is made of.
    pub first: u64,
}

impl Encrypted {
    /// What the header at the start of `device` says.
    ///
    /// # Errors
    /// Why it can't be opened, in words for the report.
    pub fn read(device: &dyn ReadAt) -> Result<Self, String> {
        let read = |at, length| {
            device.read_at(at, length).map_err(|error| format!("its header can't be read: {error}"))
        };
        let head = read(0, 4096)?;
        if !has(&head, 0, b"LUKS\xba\xbe") {
            return Err("it has no LUKS header".to_owned());
        }
        let found = match be16(&head, 6) {
            1 => Self::version_1(&head),
            2 => {
                let size = be64(&head, 8);
                if !(4096..=HEADER).contains(&size) {
                    return Err("its header is damaged".to_owned());
                }
                let json = read(4096, usize::try_from(size - 4096).unwrap_or(0))?;
                let end = json.iter().position(|&byte| byte == 0).unwrap_or(json.len());
                Self::version_2(json.get(..end).unwrap_or_default())
            }
            other => Err(format!("it is of LUKS version {other}, which is not known here")),
        }?;
        let end = found.size.map_or(Some(found.offset + 1), |size| found.offset.checked_add(size));
        if end.is_none_or(|end| end > device.size()) {
            return Err("its data does not lie inside it: it is cut off".to_owned());
        }
        Ok(found)
    }

    fn version_1(head: &[u8]) -> Result<Self, String> {
        let word = |at| name(head, at, 32).filter(|word| is_plain(word));
        let (Some(cipher), Some(mode)) = (word(8), word(40)) else {
            return Err("its header is damaged".to_owned());
        };
        let offset = u64::from(be32(head, 104)) * 512;
        Ok(Self { cipher: format!("{cipher}-{mode}"), offset, size: None, sector: 512, first: 0 })
    }

    fn version_2(json: &[u8]) -> Result<Self, String> {
        let damaged = || "its header is damaged".to_owned();
        let json: serde_json::Value = serde_json::from_slice(json).map_err(|_| damaged())?;
        let needs = json["config"]["requirements"]["mandatory"].as_array();
        if let Some(need) = needs.and_then(|needs| needs.first()) {
            let need = need.as_str().filter(|need| is_plain(need)).unwrap_or("something unknown");
            return Err(format!("it needs {need}"));
        }
        let segments = json["segments"].as_object().ok_or_else(damaged)?;
        let is_backup = |segment: &serde_json::Value| {
            segment["flags"].as_array().is_some_and(|flags| {
                flags.iter().any(|flag| flag.as_str().is_some_and(|f| f.starts_with("backup")))
            })
        };
        let mut live = segments.values().filter(|segment| !is_backup(segment));
        let (Some(segment), None) = (live.next(), live.next()) else {
            return Err("its data is in several segments: a re-encryption is under way".to_owned());
        };
        if segment["type"] != "crypt" {
            return Err("its data is not encrypted now: a re-encryption is under way".to_owned());
        }
        if !segment["integrity"].is_null() {
            return Err("it has integrity tags (dm-integrity)".to_owned());
        }
        let number = |value: &serde_json::Value| value.as_str()?.parse::<u64>().ok();
        let cipher = segment["encryption"].as_str().filter(|cipher| is_plain(cipher)).ok_or_else(damaged)?;
        let sector = segment["sector_size"].as_u64().and_then(|size| u32::try_from(size).ok());
        let sector = sector.filter(|size| matches!(size, 512 | 1024 | 2048 | 4096)).ok_or_else(damaged)?;
        let offset = number(&segment["offset"]).filter(|at| at.is_multiple_of(512)).ok_or_else(damaged)?;
        let size = match segment["size"].as_str() {
            Some("dynamic") => None,
            _ => Some(number(&segment["size"]).filter(|size| size.is_multiple_of(512)).ok_or_else(damaged)?),
        };
        let first = number(&segment["iv_tweak"]).ok_or_else(damaged)?;
        Ok(Self { cipher: cipher.to_owned(), offset, size, sector, first })
    }
}

/// Whether it is a word of a table of device-mapper: the header is the volume's, and the table is the kernel's.
fn is_plain(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_:(),.".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two(json: &str) -> Vec<u8> {
        let mut bytes = vec![0; 32 << 20];
        bytes[..8].copy_from_slice(b"LUKS\xba\xbe\0\x02");
        bytes[8..16].copy_from_slice(&16384_u64.to_be_bytes());
        bytes[4096..4096 + json.len()].copy_from_slice(json.as_bytes());
        bytes
    }

    const SEGMENT: &str = r#"{"type":"crypt","offset":"16777216","size":"dynamic","iv_tweak":"0","encryption":"aes-xts-plain64","sector_size":512}"#;

    fn with(segments: &str, config: &str) -> Result<Encrypted, String> {
        Encrypted::read(&two(&format!(
            r#"{{"keyslots":{{}},"segments":{{{segments}}},"config":{{{config}}}}}"#
        )))
    }

    #[test]
    fn both_versions_say_where_their_data_lies() {
        let found = with(&format!("\"0\":{SEGMENT}"), "").unwrap();
        assert_eq!((found.cipher.as_str(), found.offset, found.size), ("aes-xts-plain64", 16 << 20, None));
        let mut bytes = vec![0; 4 << 20];
        bytes[..8].copy_from_slice(b"LUKS\xba\xbe\0\x01");
        bytes[8..11].copy_from_slice(b"aes");
        bytes[40..51].copy_from_slice(b"xts-plain64");
        bytes[104..108].copy_from_slice(&4096_u32.to_be_bytes());
        let found = Encrypted::read(&bytes).unwrap();
        assert_eq!((found.cipher.as_str(), found.offset, found.sector), ("aes-xts-plain64", 2 << 20, 512));
    }

    #[test]
    fn what_is_not_plain_encryption_is_refused_by_name() {
        let why = |segments: &str, config| with(segments, config).unwrap_err();
        let one = format!("\"0\":{SEGMENT}");
        assert!(why(&format!("{one},\"1\":{SEGMENT}"), "").contains("re-encryption"));
        assert!(
            why(&one, r#""requirements":{"mandatory":["online-reencrypt-v2"]}"#)
                .contains("online-reencrypt-v2")
        );
        assert!(
            why(&one.replace("\"sector_size\"", "\"integrity\":{\"type\":\"x\"},\"sector_size\""), "")
                .contains("integrity")
        );
        assert!(why(&one.replace("16777216", "99999999999999999999"), "").contains("damaged"));
        assert!(why(&one.replace("16777216", "167772160"), "").contains("cut off"));
        assert!(why(&one.replace("aes-xts-plain64", "aes xts 0 7:0"), "").contains("damaged"));
        assert!(with("", "").is_err() && Encrypted::read(&two("{")).is_err());
    }
}
