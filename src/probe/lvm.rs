//! LVM2 volume groups, read without activating anything: label, metadata areas, the text in them (`lvmformat` of the
//! LVM2 sources: `label.h`, `format-text/layout.h`, `config.c`).

use super::bytes::{has, le32, le64};
use super::layout::looked_further;
use super::superblock::{Content, probe};
use super::{ReadAt, Window};
use std::io;

/// What LVM begins its CRC-32 with.
const INITIAL_CRC: u32 = 0xf597_a6cf;
/// Where the text of a metadata area may begin, and go on after its end.
const HEADER: u64 = 512;
/// The longest text that is read; LVM's own areas have 1 MiB.
const TEXT_LIMIT: u64 = 16 << 20;
/// How deep sections may lie in each other; LVM writes four.
const DEPTH: usize = 16;
/// The most logical volumes of a group.
const MANY: usize = 256;

/// A logical volume of a group that this disk has a part of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logical {
    /// The volume group.
    pub group: String,
    /// Its own name.
    pub name: String,
    /// Why it can't be reached here.
    pub fault: Option<String>,
    /// Where it lies, if not in one piece on one disk: it takes device-mapper then.
    pub pieces: Vec<Piece>,
}

/// A part of a logical volume, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Bytes that it adds.
    pub length: u64,
    /// With several stripes: bytes that lie on one of them before the next has its turn.
    pub chunk: u64,
    /// Where: which of the disks, and the first byte there.
    pub stripes: Vec<(usize, u64)>,
}

/// How a fault ends that another disk would mend.
const NOT_HERE: &str = "which is not here";

/// The most pieces of a logical volume, and stripes of a piece.
const PIECES: usize = 1024;
const STRIPES: usize = 128;

/// A logical volume in pieces, as its bytes.
struct Pieced<'a> {
    disks: &'a [&'a dyn ReadAt],
    pieces: &'a [Piece],
}

impl ReadAt for Pieced<'_> {
    fn size(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.length).sum()
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut start = 0;
        for piece in self.pieces {
            while bytes.len() < length {
                let at = offset + bytes.len() as u64;
                let Some(inside) = at.checked_sub(start).filter(|inside| *inside < piece.length) else {
                    break;
                };
                let (turn, rest) = match piece.stripes.len() {
                    1 => (0, piece.length - inside),
                    _ => (inside / piece.chunk, piece.chunk - inside % piece.chunk),
                };
                let stripes = piece.stripes.len() as u64;
                let (disk, first) = piece.stripes[usize::try_from(turn % stripes).unwrap_or(0)];
                let from = match stripes {
                    1 => inside,
                    _ => turn / stripes * piece.chunk + inside % piece.chunk,
                };
                let wanted = usize::try_from(rest).unwrap_or(usize::MAX).min(length - bytes.len());
                let read = self.disks[disk].read_at(first + from, wanted)?;
                let short = read.len() < wanted;
                bytes.extend(read);
                if short {
                    return Ok(bytes);
                }
            }
            start += piece.length;
        }
        Ok(bytes)
    }
}

impl Logical {
    /// `vg/lv`, as LVM's tools name it.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}/{}", self.group, self.name)
    }

    /// Whether a physical volume that it lies on is on a disk that was not given.
    #[must_use]
    pub fn lacks_a_disk(&self) -> bool {
        self.fault.as_ref().is_some_and(|fault| fault.ends_with(NOT_HERE))
    }

    /// Whether a path of /dev is its name: `/dev/vg/lv` or `/dev/mapper/vg-lv`, where dashes are doubled.
    #[must_use]
    pub fn is_node(&self, path: &str) -> bool {
        let doubled = |name: &str| name.replace('-', "--");
        path.strip_prefix("/dev/").is_some_and(|rest| {
            rest == self.id() || rest == format!("mapper/{}-{}", doubled(&self.group), doubled(&self.name))
        })
    }
}

/// A logical volume, and where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name, and its pieces.
    pub logical: Logical,
    /// Which of the disks it lies on, or begins on.
    pub disk: usize,
    /// First byte there; 0 if it lies in pieces or can't be reached.
    pub start: u64,
    /// Size in bytes; 0 if it can't be reached.
    pub size: u64,
    /// What it holds.
    pub content: Content,
}

/// A physical volume.
struct Physical {
    id: String,
    disk: usize,
    start: u64,
    size: u64,
    text: Option<Section>,
}

/// A disk, and the extents (first byte and size) of it that are physical volumes.
pub type Physicals<'a> = (&'a dyn ReadAt, Vec<(u64, u64)>);

/// The logical volumes of the groups that these physical volumes are of, and what is wrong with the metadata: of which
/// disk, and in words.
#[must_use]
pub fn volumes(disks: &[Physicals<'_>]) -> (Vec<Found>, Vec<(usize, String)>) {
    let mut notes = Vec::new();
    let mut physical: Vec<Physical> = Vec::new();
    for (disk, (bytes, extents)) in disks.iter().enumerate() {
        for &(start, size) in extents {
            match read_physical(&Window::new(*bytes, start, size)) {
                Ok((id, text)) => physical.push(Physical { id, disk, start, size, text }),
                Err(why) => notes
                    .push((disk, format!("the LVM metadata of the physical volume at byte {start} {why}"))),
            }
        }
    }
    // Of each group the text that was written last; an older one is what a physical volume kept that was away.
    let mut groups: Vec<(&str, &Section, u64, usize)> = Vec::new();
    for (name, body, disk) in physical.iter().filter_map(|one| {
        let (name, body) = group(one.text.as_ref()?)?;
        Some((name, body, one.disk))
    }) {
        let seqno = body.number("seqno").unwrap_or(0);
        let id = body.text("id");
        match groups.iter_mut().find(|(_, known, ..)| known.text("id") == id) {
            Some(known) if known.2 >= seqno => {}
            Some(known) => *known = (name, body, seqno, disk),
            None => groups.push((name, body, seqno, disk)),
        }
    }
    let bytes: Vec<&dyn ReadAt> = disks.iter().map(|(bytes, _)| *bytes).collect();
    let mut found = Vec::new();
    for (name, body, _, disk) in groups {
        let Some(Value::Section(logical)) = body.get("logical_volumes") else { continue };
        for (lv, value) in logical.0.iter().take(MANY) {
            let Value::Section(lv_body) = value else { continue };
            if !lv_body.list("status").iter().any(|word| word.is("VISIBLE")) || is_pool(lv_body) {
                continue;
            }
            let logical =
                Logical { group: name.to_owned(), name: lv.clone(), fault: None, pieces: Vec::new() };
            found.push(placed(logical, pieces(body, lv_body, &physical), disk, &bytes));
        }
    }
    (found, notes)
}

/// Whether it only holds others, and has no device of its own: a thin pool is visible all the same.
fn is_pool(lv: &Section) -> bool {
    let Some(Value::Section(first)) = lv.get("segment1") else { return false };
    matches!(first.text("type"), Some("thin-pool" | "cache-pool" | "vdo-pool"))
}

fn placed(
    mut logical: Logical,
    pieces: Result<Vec<Piece>, String>,
    disk: usize,
    disks: &[&dyn ReadAt],
) -> Found {
    match pieces {
        Err(fault) => {
            logical.fault = Some(fault);
            Found { logical, disk, start: 0, size: 0, content: Content::Unknown }
        }
        Ok(pieces) => {
            let content =
                |bytes: &dyn ReadAt| looked_further(bytes, probe(bytes).unwrap_or(Content::Unknown));
            if let [Piece { length, stripes, .. }] = pieces.as_slice()
                && let [(disk, start)] = *stripes.as_slice()
            {
                let content = content(&Window::new(disks[disk], start, *length));
                return Found { logical, disk, start, size: *length, content };
            }
            let bytes = Pieced { disks, pieces: &pieces };
            let (size, content) = (bytes.size(), content(&bytes));
            let disk = pieces.first().and_then(|piece| piece.stripes.first()).map_or(disk, |stripe| stripe.0);
            logical.pieces = pieces;
            Found { logical, disk, start: 0, size, content }
        }
    }
}

/// The group's name and body: the one section at the top.
fn group(text: &Section) -> Option<(&str, &Section)> {
    text.0.iter().find_map(|(name, value)| match value {
        Value::Section(body) if body.get("extent_size").is_some() => Some((name.as_str(), body)),
        _ => None,
    })
}

/// Where a logical volume lies, or why it can't be told.
fn pieces(group: &Section, lv: &Section, physical: &[Physical]) -> Result<Vec<Piece>, String> {
    let damaged = || "its metadata is damaged".to_owned();
    let count = lv.number("segment_count").and_then(|count| usize::try_from(count).ok());
    let count = count.filter(|count| (1..=PIECES).contains(count)).ok_or_else(damaged)?;
    let extent =
        group.number("extent_size").and_then(|sectors| sectors.checked_mul(512)).ok_or_else(damaged)?;
    let mut pieces = Vec::new();
    let mut begin = 0_u64;
    for number in 1..=count {
        let Some(Value::Section(segment)) = lv.get(&format!("segment{number}")) else {
            return Err(damaged());
        };
        let kind = segment.text("type").unwrap_or("unknown");
        if kind != "striped" {
            return Err(format!("it is of type {kind}"));
        }
        let extents = segment.number("extent_count").filter(|count| *count > 0).ok_or_else(damaged)?;
        if segment.number("start_extent").unwrap_or(0) != begin {
            return Err(damaged());
        }
        begin = begin.checked_add(extents).ok_or_else(damaged)?;
        let stripes = segment.list("stripes");
        let width = stripes.len() / 2;
        let told = segment.number("stripe_count").and_then(|count| usize::try_from(count).ok());
        if told != Some(width) || !(1..=STRIPES).contains(&width) || !extents.is_multiple_of(width as u64) {
            return Err(damaged());
        }
        let chunk = segment.number("stripe_size").unwrap_or(0).checked_mul(512).ok_or_else(damaged)?;
        let length = extents.checked_mul(extent).ok_or_else(outside)?;
        if width > 1
            && (!chunk.is_power_of_two() || chunk < 4096 || !(length / width as u64).is_multiple_of(chunk))
        {
            return Err(damaged());
        }
        let each = length / width as u64;
        let stripes = stripes.chunks(2).map(|stripe| {
            let [Value::Text(on), Value::Number(first)] = stripe else { return Err(damaged()) };
            on_physical(group, on, *first, extent, each, physical)
        });
        pieces.push(Piece { length, chunk, stripes: stripes.collect::<Result<_, _>>()? });
    }
    // Together they are no larger than a device can be.
    pieces.iter().try_fold(0_u64, |sum, piece| sum.checked_add(piece.length)).ok_or_else(damaged)?;
    Ok(pieces)
}

fn outside() -> String {
    "it does not lie inside its physical volume".to_owned()
}

/// The disk and the byte at which `size` bytes begin that lie in a physical volume from its extent `first` on.
fn on_physical(
    group: &Section,
    on: &str,
    first: u64,
    extent: u64,
    size: u64,
    physical: &[Physical],
) -> Result<(usize, u64), String> {
    let damaged = || "its metadata is damaged".to_owned();
    let Some(Value::Section(all)) = group.get("physical_volumes") else { return Err(damaged()) };
    let Some(Value::Section(pv)) = all.get(on) else { return Err(damaged()) };
    let written = pv.text("id").unwrap_or(on);
    let id = written.replace('-', "");
    let mut same = physical.iter().filter(|one| one.id == id);
    let here = match (same.next(), same.next()) {
        (Some(here), None) => here,
        (Some(_), Some(_)) => {
            return Err(format!("its physical volume {written} is here twice: one is a copy of the other"));
        }
        (None, _) => {
            let device = pv.text("device").map_or_else(String::new, |device| format!(" (once {device})"));
            return Err(format!("it lies on physical volume {written}{device}, {NOT_HERE}"));
        }
    };
    let counted = || {
        let from = pv.number("pe_start")?.checked_mul(512)?.checked_add(first.checked_mul(extent)?)?;
        let end = from.checked_add(size)?;
        (size > 0 && end <= here.size).then_some(here.start.checked_add(from)?)
    };
    counted().map(|start| (here.disk, start)).ok_or_else(outside)
}

/// The id of a physical volume and its metadata, `None` where it keeps none.
fn read_physical(pv: &Window<'_>) -> Result<(String, Option<Section>), String> {
    let read = |error: io::Error| format!("can't be read: {error}");
    let head = pv.read_at(0, 4 * 512).map_err(read)?;
    let label = (0..4).map(|sector| sector * 512).find(|&at| {
        has(&head, at, b"LABELONE")
            && head.get(at + 20..at + 512).is_some_and(|bytes| crc(bytes) == le32(&head, at + 16))
    });
    let at = label.ok_or("has no sound label")?;
    let header = at + le32(&head, at + 20) as usize;
    let id = head.get(header..header + 32).ok_or("has a damaged label")?;
    let id = String::from_utf8_lossy(id).into_owned();
    let mut entry = header + 40;
    let mut areas = Vec::new();
    for list in 0..2 {
        while le64(&head, entry) != 0 && entry + 16 <= at + 512 {
            if list == 1 {
                areas.push((le64(&head, entry), le64(&head, entry + 8)));
            }
            entry += 16;
        }
        entry += 16;
    }
    if areas.is_empty() {
        return Ok((id, None));
    }
    let mut why = String::new();
    let mut best: Option<Section> = None;
    let seqno = |text: &Section| group(text).and_then(|(_, body)| body.number("seqno")).unwrap_or(0);
    for (start, size) in areas {
        match read_area(pv, start, size) {
            Ok(Some(text)) if best.as_ref().is_none_or(|best| seqno(best) < seqno(&text)) => {
                best = Some(text);
            }
            Ok(_) => {}
            Err(error) => why = error,
        }
    }
    if best.is_none() && !why.is_empty() { Err(why) } else { Ok((id, best)) }
}

/// The text of one metadata area; `None` where it has none.
fn read_area(pv: &Window<'_>, start: u64, size: u64) -> Result<Option<Section>, String> {
    let read = |error: io::Error| format!("can't be read: {error}");
    let header = pv.read_at(start, 512).map_err(read)?;
    if !has(&header, 4, b" LVM2 x[5A%r0N*>") || header.len() < 512 || crc(&header[4..]) != le32(&header, 0) {
        return Err("is damaged: the header of its area has a wrong checksum".to_owned());
    }
    let (offset, length) = (le64(&header, 40), le64(&header, 48));
    let (checksum, flags) = (le32(&header, 56), le32(&header, 60));
    if offset == 0 || flags & 1 != 0 {
        return Ok(None);
    }
    if offset < HEADER || offset >= size || length > TEXT_LIMIT || length > size - HEADER {
        return Err("is damaged: its text lies outside of its area".to_owned());
    }
    // The area is a ring: what does not fit before its end goes on after the header.
    let first = length.min(size - offset);
    let bytes = |at: u64, length: u64| {
        pv.read_at(start.saturating_add(at), usize::try_from(length).unwrap_or(0)).map_err(read)
    };
    let mut text = bytes(offset, first)?;
    text.extend(bytes(HEADER, length - first)?);
    if crc(&text) != checksum {
        return Err("is torn: its text has a wrong checksum".to_owned());
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    parse(&text).map(Some).ok_or_else(|| "can't be understood".to_owned())
}

/// CRC-32 as LVM has it: no inversion, and a beginning of its own.
fn crc(bytes: &[u8]) -> u32 {
    bytes.iter().fold(INITIAL_CRC, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| {
                if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 }
            },
        )
    })
}

/// A section of the text, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Section(Vec<(String, Value)>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Number(u64),
    Text(String),
    List(Vec<Value>),
    Section(Section),
}

impl Value {
    fn is(&self, word: &str) -> bool {
        matches!(self, Self::Text(text) if text == word)
    }
}

impl Section {
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    fn number(&self, name: &str) -> Option<u64> {
        if let Some(Value::Number(number)) = self.get(name) { Some(*number) } else { None }
    }

    fn text(&self, name: &str) -> Option<&str> {
        if let Some(Value::Text(text)) = self.get(name) { Some(text) } else { None }
    }

    fn list(&self, name: &str) -> &[Value] {
        if let Some(Value::List(list)) = self.get(name) { list } else { &[] }
    }
}

fn parse(text: &str) -> Option<Section> {
    let mut words = Words { rest: text };
    section(&mut words, 0)
}

fn section(words: &mut Words<'_>, depth: usize) -> Option<Section> {
    let mut out = Section::default();
    if depth > DEPTH {
        return None;
    }
    loop {
        let name = match words.next() {
            None if depth == 0 => return Some(out),
            Some(Word::Mark('}')) if depth > 0 => return Some(out),
            Some(Word::Bare(name)) => name.to_owned(),
            _ => return None,
        };
        let value = match words.next()? {
            Word::Mark('{') => Value::Section(section(words, depth + 1)?),
            Word::Mark('=') => match words.next()? {
                Word::Mark('[') => Value::List(list(words)?),
                word => word.value()?,
            },
            _ => return None,
        };
        out.0.push((name, value));
    }
}

fn list(words: &mut Words<'_>) -> Option<Vec<Value>> {
    let mut out = Vec::new();
    loop {
        match words.next()? {
            Word::Mark(']') => return Some(out),
            Word::Mark(',') => {}
            word => out.push(word.value()?),
        }
    }
}

enum Word<'a> {
    Mark(char),
    Bare(&'a str),
    Quoted(String),
}

impl Word<'_> {
    fn value(self) -> Option<Value> {
        match self {
            Self::Quoted(text) => Some(Value::Text(text)),
            // What is no number is nothing that is needed here.
            Self::Bare(word) => Some(word.parse().map_or_else(|_| Value::Text(word.into()), Value::Number)),
            Self::Mark(_) => None,
        }
    }
}

struct Words<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Words<'a> {
    type Item = Word<'a>;

    fn next(&mut self) -> Option<Word<'a>> {
        loop {
            self.rest = self.rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '\0');
            match self.rest.strip_prefix('#') {
                Some(comment) => self.rest = comment.split_once('\n').map_or("", |(_, rest)| rest),
                None => break,
            }
        }
        let first = self.rest.chars().next()?;
        if "{}[]=,".contains(first) {
            self.rest = &self.rest[1..];
            return Some(Word::Mark(first));
        }
        if first != '"' {
            let end = self.rest.find(|c: char| c.is_ascii_whitespace() || "{}[]=,#\"\0".contains(c));
            let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
            self.rest = rest;
            return Some(Word::Bare(word));
        }
        let mut text = String::new();
        let mut chars = self.rest[1..].char_indices();
        while let Some((at, char)) = chars.next() {
            match char {
                '"' => {
                    self.rest = &self.rest[at + 2..];
                    return Some(Word::Quoted(text));
                }
                '\\' => text.push(chars.next()?.1),
                char => text.push(char),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        # Generated by nobody: "here"
        vg { id = "G" seqno = 3 extent_size = 8
          physical_volumes { pv0 { id = "AB-CD" pe_start = 16 } pv1 { id = "XX" pe_start = 16 } }
          logical_volumes {
            root { status = ["READ", "VISIBLE"] segment_count = 1
              segment1 { extent_count = 2 type = "striped" stripe_count = 1 stripes = ["pv0", 1] } }
            away { status = ["VISIBLE"] segment_count = 1
              segment1 { extent_count = 2 type = "striped" stripe_count = 1 stripes = ["pv1", 1] } }
            huge { status = ["VISIBLE"] segment_count = 1
              segment1 { extent_count = 18446744073709551615 type = "striped" stripe_count = 1 stripes = ["pv0", 1] } }
            thin { status = ["VISIBLE"] segment_count = 1 segment1 { type = "thin" } }
            hidden { status = ["READ"] segment_count = 1 segment1 { type = "linear" } }
            pool { status = ["VISIBLE"] segment_count = 1 segment1 { type = "thin-pool" } }
          } }
        contents = "Text \"Format\" Volume Group"
        version = 1
    "#;

    /// A physical volume whose text begins shortly before the end of its ring.
    fn physical(text: &str) -> Vec<u8> {
        let mut pv = vec![0; 64 << 10];
        let (area, size) = (4096_usize, 16384_usize);
        pv[512..520].copy_from_slice(b"LABELONE");
        pv[532..536].copy_from_slice(&32_u32.to_le_bytes());
        pv[536..544].copy_from_slice(b"LVM2 001");
        pv[544..548].copy_from_slice(b"ABCD");
        // One data area, one metadata area.
        pv[584..592].copy_from_slice(&(32_u64 << 10).to_le_bytes());
        pv[616..624].copy_from_slice(&(area as u64).to_le_bytes());
        pv[624..632].copy_from_slice(&(size as u64).to_le_bytes());
        let sum = crc(&pv[532..1024]);
        pv[528..532].copy_from_slice(&sum.to_le_bytes());
        let offset = size - 100;
        for (i, byte) in text.bytes().enumerate() {
            let at = if i < 100 { offset + i } else { 512 + i - 100 };
            pv[area + at] = byte;
        }
        pv[area + 4..area + 20].copy_from_slice(b" LVM2 x[5A%r0N*>");
        pv[area + 40..area + 48].copy_from_slice(&(offset as u64).to_le_bytes());
        pv[area + 48..area + 56].copy_from_slice(&(text.len() as u64).to_le_bytes());
        pv[area + 56..area + 60].copy_from_slice(&crc(text.as_bytes()).to_le_bytes());
        let sum = crc(&pv[area + 4..area + 512]);
        pv[area..area + 4].copy_from_slice(&sum.to_le_bytes());
        pv
    }

    #[test]
    fn volumes_are_placed_or_their_fault_is_named() {
        // The id has 32 characters; most of these are NUL, as in no real one.
        let id = format!("ABCD{}", "\0".repeat(28));
        let pv = physical(&TEXT.replace("AB-CD", &id));
        let size = pv.len() as u64;
        let (found, notes) = volumes(&[(&pv, vec![(0, size)])]);
        assert_eq!(notes, Vec::new());
        let named: Vec<_> = found.iter().map(|one| one.logical.name.as_str()).collect();
        assert_eq!(named, ["root", "away", "huge", "thin"]);
        assert_eq!((found[0].start, found[0].size), (16 * 512 + 4096, 8192));
        let fault = |i: usize| found[i].logical.fault.clone().unwrap_or_default();
        assert_eq!(fault(0), "");
        assert!(fault(1).contains("XX"), "{}", fault(1));
        let lacking: Vec<_> = found.iter().map(|one| one.logical.lacks_a_disk()).collect();
        assert_eq!(lacking, [false, true, false, false]);
        assert!(fault(2).contains("inside"), "{}", fault(2));
        assert!(fault(3).contains("thin"), "{}", fault(3));
        for torn in [4100, 4096 + 600, 600] {
            let mut pv = pv.clone();
            pv[torn] ^= 1;
            let (found, notes) = volumes(&[(&pv, vec![(0, size)])]);
            assert!(found.is_empty() && notes.len() == 1, "{torn}: {notes:?}");
        }
    }

    const PIECES_TEXT: &str = r#"
        vg { id = "G" seqno = 4 extent_size = 8
          physical_volumes { pv0 { id = "ABCD" pe_start = 64 } pv1 { id = "EFGH" pe_start = 64 } }
          logical_volumes {
            two { status = ["VISIBLE"] segment_count = 2
              segment1 { start_extent = 0 extent_count = 1 type = "striped" stripe_count = 1 stripes = ["pv0", 3] }
              segment2 { start_extent = 1 extent_count = 2 type = "striped" stripe_count = 1 stripes = ["pv1", 0] } }
            wide { status = ["VISIBLE"] segment_count = 1
              segment1 { start_extent = 0 extent_count = 4 type = "striped" stripe_count = 2 stripe_size = 8
                stripes = ["pv0", 0, "pv1", 2] } }
            gap { status = ["VISIBLE"] segment_count = 2
              segment1 { start_extent = 0 extent_count = 1 type = "striped" stripe_count = 1 stripes = ["pv0", 3] }
              segment2 { start_extent = 2 extent_count = 1 type = "striped" stripe_count = 1 stripes = ["pv1", 0] } }
            odd { status = ["VISIBLE"] segment_count = 1
              segment1 { start_extent = 0 extent_count = 3 type = "striped" stripe_count = 2 stripe_size = 8
                stripes = ["pv0", 0, "pv1", 2] } }
          } }
    "#;

    #[test]
    fn pieces_on_several_disks_are_read_in_their_order() {
        let name = |text: &str, name: &str| text.replace(name, &format!("{name}{}", "\0".repeat(28)));
        let text = name(&name(PIECES_TEXT, "ABCD"), "EFGH");
        let mut disks = [physical(&text), physical(&text.replace("seqno = 4", "seqno = 3"))];
        disks[1][544..548].copy_from_slice(b"EFGH");
        let sum = crc(&disks[1][532..1024]);
        disks[1][528..532].copy_from_slice(&sum.to_le_bytes());
        // What is in the extents: their number, and for the second disk 100 more.
        for (disk, base) in disks.iter_mut().zip([0, 100]) {
            for extent in 0_u8..4 {
                let at = (32 << 10) + usize::from(extent) * 4096;
                disk[at..at + 4096].fill(base + extent);
            }
        }
        let size = disks[0].len() as u64;
        let both: Vec<Physicals<'_>> =
            disks.iter().map(|disk| (disk as &dyn ReadAt, vec![(0, size)])).collect();
        let (found, notes) = volumes(&both);
        assert_eq!(notes, Vec::new());
        let bytes: Vec<&dyn ReadAt> = both.iter().map(|(bytes, _)| *bytes).collect();
        let seen = |i: usize| {
            let pieced = Pieced { disks: &bytes, pieces: &found[i].logical.pieces };
            let all = pieced.read_at(0, 1 << 20).unwrap();
            assert_eq!(all.len() as u64, found[i].size);
            // Not only from the start.
            assert_eq!(pieced.read_at(4095, 4098).unwrap(), all[4095..4095 + 4098]);
            assert_eq!(pieced.read_at(found[i].size, 10).unwrap(), b"");
            all.chunks(4096).map(|chunk| chunk[17]).collect::<Vec<u8>>()
        };
        assert_eq!(seen(0), [3, 100, 101]);
        assert_eq!(seen(1), [0, 102, 1, 103]);
        for i in [2, 3] {
            let fault = found[i].logical.fault.as_deref().unwrap_or_default();
            assert!(fault.contains("damaged"), "{i}: {fault}");
        }
        // With one of the disks alone, the other is named; with the same twice it is said.
        let (found, _) = volumes(&both[..1]);
        assert!(found[0].logical.fault.as_ref().unwrap().contains("EFGH"));
        let (found, _) = volumes(&[both[0].clone(), both[1].clone(), both[1].clone()]);
        assert!(found[0].logical.fault.as_ref().unwrap().contains("twice"));
    }

    #[test]
    fn no_text_is_too_odd() {
        for text in
            ["", "{", "}", "a", "a =", "a = [", "a = \"x", "a { b { c = [1,", "= = =", "a = ]", "\u{e9} { }"]
        {
            let _ = parse(text);
        }
        assert_eq!(parse(&"a {".repeat(10_000)), None);
    }

    #[test]
    fn nodes_are_known_with_doubled_dashes() {
        let logical =
            Logical { group: "my-vg".into(), name: "ho-me".into(), fault: None, pieces: Vec::new() };
        assert!(logical.is_node("/dev/my-vg/ho-me") && logical.is_node("/dev/mapper/my--vg-ho--me"));
        assert!(!logical.is_node("/dev/mapper/my-vg-ho-me"));
    }
}
