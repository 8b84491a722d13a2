//! The place that a finding or a step is about: the line as it stands in the file, and the part of it that is meant.

use super::build::Build;
use super::evaluate::Evaluation;
use crate::finding::{CheckId, Finding, Location, Quote};
use crate::keys::authorized_keys::fault_at;
use crate::view::{TEXT_LIMIT, View, read_following};
use bstr::ByteSlice;
use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Bytes of a line that are shown on each side of the marked part, and of that part itself.
const SHOWN: usize = 60;
/// Longer runs of base64 are shortened: keys are known by their fingerprints.
const BASE64: usize = 40;
/// What is left of them.
const BASE64_SHOWN: usize = 12;
/// Stands for what is left out.
const ELLIPSIS: &str = "\u{2026}";

/// Quotes the lines of all findings and steps that name one.
pub fn cite(view: &dyn View, build: &Build, evaluation: &mut Evaluation) {
    let mut files = Files { view, texts: HashMap::new() };
    for finding in &mut evaluation.findings {
        let (Some(path), Some(line)) = (&finding.path, finding.line) else { continue };
        let Some(text) = files.line(path, line) else { continue };
        let meant = meant_by(finding, &text, build);
        finding.quote = Some(Box::new(quote(path, &text, meant)));
    }
    for step in &mut evaluation.trace {
        let Some(Location { file, line }) = &step.at else { continue };
        let Some(text) = files.line(file, *line) else { continue };
        let told = evaluation.findings.iter().find(|finding| {
            !step.passed && finding.path.as_ref() == Some(file) && finding.line == Some(*line)
        });
        if let Some(told) = told {
            step.quote.clone_from(&told.quote);
            continue;
        }
        let meant = find_word(&text, &step.word).unwrap_or_else(|| content(&text));
        step.quote = Some(Box::new(quote(file, &text, meant)));
    }
}

/// Each file is read once.
struct Files<'a> {
    view: &'a dyn View,
    texts: HashMap<PathBuf, Option<Vec<u8>>>,
}

impl Files<'_> {
    /// The line of this number, counted from 1, without its end.
    fn line(&mut self, path: &Path, number: u32) -> Option<Vec<u8>> {
        if !path.is_absolute() {
            return None;
        }
        let view = self.view;
        let text = self
            .texts
            .entry(path.to_owned())
            .or_insert_with(|| read_following(view, path, TEXT_LIMIT).ok())
            .as_ref()?;
        let line = text.split(|byte| *byte == b'\n').nth(number.checked_sub(1)? as usize)?;
        Some(line.strip_suffix(b"\r").unwrap_or(line).to_vec())
    }
}

/// The line without the blanks around it.
fn content(line: &[u8]) -> Range<usize> {
    let start = line.len() - line.trim_ascii_start().len();
    start..start.max(line.trim_ascii_end().len())
}

/// Where this stands in the line, as a word if it does so anywhere.
fn find_word(line: &[u8], word: &str) -> Option<Range<usize>> {
    let word = word.trim().as_bytes();
    if word.is_empty() {
        return None;
    }
    let part_of_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.".contains(byte);
    let whole = |at: &usize| {
        let before = at.checked_sub(1).and_then(|at| line.get(at));
        !before.is_some_and(part_of_word) && !line.get(at + word.len()).is_some_and(part_of_word)
    };
    let at = line.find_iter(word).find(whole).or_else(|| line.find(word))?;
    Some(at..at + word.len())
}

/// Field `index` of a line of passwd(5) or shadow(5), counted from 0.
fn field(line: &[u8], index: usize) -> Option<Range<usize>> {
    let mut start = 0;
    for (at, field) in line.split(|byte| *byte == b':').enumerate() {
        if at == index {
            return Some(start..start + field.len());
        }
        start += field.len() + 1;
    }
    None
}

/// The part of the line that the finding is about.
fn meant_by(finding: &Finding, line: &[u8], build: &Build) -> Range<usize> {
    let of_field = |index| field(line, index);
    let meant = match finding.check {
        CheckId::AccountLocked => of_field(1),
        CheckId::AccountExpired => of_field(7),
        CheckId::PasswordExpired if finding.is.starts_with("last change") => of_field(2),
        CheckId::PasswordExpired => of_field(4),
        CheckId::UserDuplicate => of_field(0),
        CheckId::AccountIdInvalid => of_field(if finding.is.contains(" uid ") { 2 } else { 3 }),
        CheckId::ShellMissing | CheckId::ShellNotExecutable | CheckId::ShellRefusesLogin => of_field(6),
        CheckId::ConfigSyntax | CheckId::ConfigUnreadable => in_config_line(finding, line),
        CheckId::PamRefuses | CheckId::PamUndecided => in_pam_rule(finding, line),
        CheckId::KeyLineRefuses | CheckId::KeyLineFrom | CheckId::KeyLineCommand => {
            in_options(finding, line, build)
        }
        CheckId::KeyLineBroken => in_broken_key(finding, line),
        _ => None,
    };
    meant.or_else(|| in_words(&finding.is, line)).unwrap_or_else(|| content(line))
}

/// "Keyword value": the value, if it stands there so.
fn in_words(is: &str, line: &[u8]) -> Option<Range<usize>> {
    let value = is.split_once(' ').map(|(_, value)| value);
    let first = value.and_then(|value| value.split([' ', ':', ',']).next());
    [value, first, Some(is)].into_iter().flatten().find_map(|words| find_word(line, words))
}

/// What sshd's message quotes of the line; at its end where something is missing there.
fn in_config_line(finding: &Finding, line: &[u8]) -> Option<Range<usize>> {
    let says = finding.sshd_says.as_deref()?;
    let all = content(line);
    let lower = says.to_ascii_lowercase();
    if ["no argument", "missing", "not specified"].iter().any(|words| lower.contains(words)) {
        return Some(all.end..all.end);
    }
    let last = || line[all.clone()].rfind_byteset(b" \t=").map(|at| all.start + at + 1..all.end);
    if lower.contains("extra arguments") || lower.contains("garbage at end") {
        return last();
    }
    // From the back: the message ends with what is wrong.
    let quoted = says.split(['"', '\'']).skip(1).step_by(2);
    let words = says.split([' ', ',']).map(|word| word.trim_matches(['"', '\'', '.', ':', ';']));
    let candidates: Vec<&str> = quoted.chain(words.filter(|word| word.len() > 1)).collect();
    let keyword = line[all.clone()].find_byteset(b" \t=").map_or(all.end, |at| all.start + at);
    let among = |range: Range<usize>, word: &str| {
        let found = find_word(&line[range.clone()], word)?;
        Some(range.start + found.start..range.start + found.end)
    };
    let in_arguments = candidates.iter().rev().find_map(|word| among(keyword..all.end, word));
    let unknown = says.contains("onfiguration option") || says.contains("Directive");
    let whole_keyword = all.start..keyword;
    if unknown { Some(whole_keyword) } else { in_arguments.or(Some(whole_keyword)) }
}

/// The module, or the control where that is what is wrong.
fn in_pam_rule(finding: &Finding, line: &[u8]) -> Option<Range<usize>> {
    let is = finding.is.split(": ").next()?;
    let module = is.split_whitespace().find(|word| word.contains("pam_"));
    let about_module = finding.is.contains(": ");
    let control = is.split_whitespace().next();
    let order = if about_module { [module, control] } else { [control, module] };
    order.into_iter().flatten().find_map(|word| find_word(line, word))
}

/// The option that refuses.
fn in_options(finding: &Finding, line: &[u8], build: &Build) -> Option<Range<usize>> {
    let start = match fault_at(line, build) {
        Some(start) => start,
        None => {
            let names = ["from=", "command=", "expiry-time=", "cert-authority", "principals="];
            let is = finding.is.as_str();
            let name = names
                .iter()
                .find(|name| is.starts_with(name.trim_end_matches('=')))
                .or_else(|| is.starts_with("expired").then_some(&"expiry-time="))
                .or_else(|| is.contains("from list").then_some(&"from="))?;
            line.to_ascii_lowercase().find(name.as_bytes())?
        }
    };
    let mut quoted = false;
    let end = line[start..].iter().position(|byte| {
        quoted ^= *byte == b'"';
        !quoted && b" \t,".contains(byte)
    });
    Some(start..end.map_or(line.len(), |end| start + end))
}

/// The type word of the key that sshd does not read; of one that is glued to another, the later.
fn in_broken_key(finding: &Finding, line: &[u8]) -> Option<Range<usize>> {
    const TYPES: [&str; 5] = ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-", "rsa-sha2-"];
    let places = TYPES.iter().flat_map(|name| line.find_iter(name.as_bytes()));
    let at = if finding.is.contains("glued") { places.max() } else { places.min() }?;
    let end = line[at..].find_byteset(b" \t").map_or(line.len(), |end| at + end);
    if !(finding.is.contains("cut") || finding.is.contains("damaged")) {
        return Some(at..end);
    }
    let blob = end + (line[end..].len() - line[end..].trim_ascii_start().len());
    let blob_end = line[blob..].find_byteset(b" \t").map_or(line.len(), |end| blob + end);
    Some(blob_end..blob_end)
}

/// Of passwd, shadow and their like, the field that may hold a hash.
fn secret(path: &Path, line: &[u8]) -> Option<Range<usize>> {
    let name = path.file_name()?.to_str()?;
    let holds =
        ["shadow", "gshadow", "passwd", "group"].iter().any(|file| name.trim_end_matches('-') == *file);
    let field = field(line, 1).filter(|_| holds)?;
    let harmless: [&[u8]; 7] = [b"", b"x", b"*", b"!", b"!!", b"!*", b"*NP*"];
    (!harmless.contains(&&line[field.clone()])).then_some(field)
}

fn quote(path: &Path, line: &[u8], meant: Range<usize>) -> Quote {
    let secret = secret(path, line);
    let piece = |range: Range<usize>| -> String {
        let Some(hidden) =
            secret.clone().filter(|hidden| hidden.start < range.end && range.start < hidden.end)
        else {
            return shorten(&line[range].to_str_lossy());
        };
        let before = line[range.start..range.start.max(hidden.start)].to_str_lossy();
        let after = line[range.end.min(hidden.end)..range.end].to_str_lossy();
        format!("{before}{ELLIPSIS}{after}")
    };
    let before = piece(0..meant.start);
    let before = match before.char_indices().rev().nth(SHOWN) {
        Some((at, _)) => format!("{ELLIPSIS}{}", &before[at..]),
        None => before.trim_start().to_owned(),
    };
    let column = line[..meant.start].to_str_lossy().chars().count() + 1;
    let (marked, after) = (cut(piece(meant.clone())), cut(piece(meant.end..line.len())));
    Quote {
        column: u32::try_from(column).unwrap_or(u32::MAX),
        before,
        marked,
        after: after.trim_end().to_owned(),
    }
}

/// The beginning of what is long.
fn cut(text: String) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}{ELLIPSIS}", &text[..at]),
        None => text,
    }
}

/// Long runs of base64, shortened.
fn shorten(text: &str) -> String {
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(is_base64) {
        let run = rest[start..].find(|c| !is_base64(c)).unwrap_or(rest.len() - start);
        out.push_str(&rest[..start]);
        if run > BASE64 {
            out.push_str(&rest[start..start + BASE64_SHOWN]);
            out.push_str(ELLIPSIS);
        } else {
            out.push_str(&rest[start..start + run]);
        }
        rest = &rest[start + run..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cited(finding: Finding, path: &str, line: &str) -> (u32, String) {
        let build = Build { version: Some((9, 2)), ..Build::default() };
        let meant = meant_by(&finding, line.as_bytes(), &build);
        let Quote { column, before, marked, after } = quote(Path::new(path), line.as_bytes(), meant);
        (column, format!("{before}[{marked}]{after}"))
    }

    fn config(says: &str, line: &str) -> (u32, String) {
        cited(Finding::blocks(CheckId::ConfigSyntax).is(line).says(says), "/etc/ssh/sshd_config", line)
    }

    #[test]
    fn the_word_that_sshd_complains_of_is_marked() {
        let says = "/etc/ssh/sshd_config: line 3: Bad configuration option: UsePam2";
        assert_eq!(config(says, "  UsePam2 yes"), (3, "[UsePam2] yes".into()));
        let says = "/etc/ssh/sshd_config line 3: unsupported option \"true\".";
        assert_eq!(config(says, "PubkeyAuthentication true"), (22, "PubkeyAuthentication [true]".into()));
        let says = "/etc/ssh/sshd_config line 3: no argument after keyword \"Port\"";
        assert_eq!(config(says, "Port"), (5, "Port[]".into()));
        let says = "/etc/ssh/sshd_config line 3: keyword Port extra arguments at end of line";
        assert_eq!(config(says, "Port 22 23"), (9, "Port 22 [23]".into()));
    }

    #[test]
    fn the_word_in_force_is_marked() {
        let finding = Finding::blocks(CheckId::DeniedUser).is("DenyUsers ad*");
        assert_eq!(cited(finding, "/c", "DenyUsers bob ad* eve"), (15, "DenyUsers bob [ad*] eve".into()));
    }

    #[test]
    fn the_option_that_refuses_is_marked() {
        let key = format!("ssh-ed25519 {}", "A".repeat(68));
        let refuses = |is: &str| Finding::blocks(CheckId::KeyLineRefuses).is(is);
        let shown = "ssh-ed25519 AAAAAAAAAAAA\u{2026}";
        assert_eq!(
            cited(refuses("an option that this sshd does not know"), "/k", &format!("no-pty,nosuch {key}")),
            (8, format!("no-pty,[nosuch] {shown}"))
        );
        assert_eq!(
            cited(refuses("from=\"10.0.0.0/8\""), "/k", &format!("from=\"10.0.0.0/8\" {key} x")),
            (1, format!("[from=\"10.0.0.0/8\"] {shown} x"))
        );
        assert_eq!(
            cited(refuses("expired 3 days ago"), "/k", &format!("restrict,expiry-time=\"20200101\" {key}")).0,
            10
        );
    }

    #[test]
    fn no_hash_is_shown() {
        let line = "admin:!$6$salt$hash:19000:0:99999:7::18000:";
        let finding = Finding::blocks(CheckId::AccountExpired).is("expired on day 18000, today is 20000");
        assert_eq!(
            cited(finding, "/etc/shadow", line),
            (38, "admin:\u{2026}:19000:0:99999:7::[18000]:".into())
        );
        let finding = Finding::blocks(CheckId::AccountLocked).is("a password field that begins with !");
        assert_eq!(
            cited(finding, "/etc/shadow", line),
            (7, "admin:[\u{2026}]:19000:0:99999:7::18000:".into())
        );
    }

    #[test]
    fn long_lines_are_cut_around_the_place() {
        let line = format!("AllowUsers {} bob {}", "x ".repeat(4000), "y ".repeat(4000));
        let finding = Finding::blocks(CheckId::NotAllowedUser).is("AllowUsers bob");
        let (column, text) = cited(finding, "/c", &line);
        assert_eq!(column, 8013);
        assert!(text.contains("[bob]") && text.chars().count() < 140, "{text}");
    }
}
