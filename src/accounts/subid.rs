//! subuid(5) and subgid(5): ranges of ids that a user may map in a user namespace.

use super::field;
use bstr::{BString, ByteSlice};

/// One usable line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubidRange {
    /// Login name, or a user id in digits.
    pub owner: BString,
    /// First id.
    pub start: u64,
    /// Number of ids.
    pub count: u64,
}

impl SubidRange {
    /// The line, with its newline.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        field::to_line(&[&self.owner, self.start.to_string().as_bytes(), self.count.to_string().as_bytes()])
    }
}

/// The usable lines of a subuid or subgid file, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subids {
    /// In the order of the file.
    pub ranges: Vec<SubidRange>,
}

impl Subids {
    /// Reads the lines that shadow-utils would use: three fields, the last two numbers.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        Self { ranges: field::lines(text).filter_map(|(_, line)| parse_line(line)).collect() }
    }

    /// `true` if the user has a range, by name or by number.
    #[must_use]
    pub fn has(&self, name: &[u8], uid: u32) -> bool {
        let number = uid.to_string();
        self.ranges.iter().any(|range| range.owner == name || range.owner == number)
    }

    /// The lowest start of a free range of `count` ids between `min` and `max` inclusive, as useradd(8) looks for one.
    #[must_use]
    pub fn free(&self, min: u64, max: u64, count: u64) -> Option<u64> {
        let last = count.checked_sub(1)?;
        let mut taken: Vec<(u64, u64)> = self
            .ranges
            .iter()
            .filter(|range| range.count > 0)
            .map(|range| (range.start, range.count))
            .collect();
        taken.sort_unstable();
        let mut start = min;
        for (from, length) in taken {
            let end = from.saturating_add(length - 1);
            if end < start {
                continue;
            }
            if start.checked_add(last)? < from {
                break;
            }
            start = end.checked_add(1)?;
        }
        (start.checked_add(last)? <= max).then_some(start)
    }
}

fn parse_line(line: &[u8]) -> Option<SubidRange> {
    let mut fields = line.split_str(":");
    let range = SubidRange {
        owner: fields.next().filter(|owner| !owner.is_empty())?.into(),
        start: number(fields.next()?)?,
        count: number(fields.next()?)?,
    };
    fields.next().is_none().then_some(range)
}

fn number(field: &[u8]) -> Option<u64> {
    field.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_free_range_passes_over_those_taken() {
        let subids = Subids::parse(b"a:165536:65536\nb:100000:65536\nc:x:1\nd:1:2:3\n");
        assert_eq!(subids.ranges.len(), 2);
        assert_eq!(subids.free(100_000, 600_100_000, 65_536), Some(231_072));
        assert_eq!(Subids::default().free(100_000, 600_100_000, 65_536), Some(100_000));
        assert_eq!(subids.free(100_000, 200_000, 65_536), None);
        assert_eq!(Subids::parse(b"a:200000:10\n").free(100_000, 600_000, 65_536), Some(100_000));
        assert!(Subids::parse(b"1000:1:1\n").has(b"u", 1000));
    }

    #[test]
    fn absurd_ranges_do_no_harm() {
        let subids =
            Subids::parse(b"a:18446744073709551615:18446744073709551615\nb:0:18446744073709551615\n");
        assert_eq!(subids.free(100_000, 600_100_000, 65_536), None);
        assert_eq!(subids.free(0, 1, 0), None);
    }
}
