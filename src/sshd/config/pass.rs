//! One reading of the configuration, line by line, as sshd does it twice: at the start, where the global lines count
//! and everything is checked, and for a connection, where only the lines of matching blocks count.
//!
//! Source: openssh-portable `servconf.c` (`process_server_config_line_depth`, `parse_server_config_depth`,
//! `match_cfg_line`), 7.7, 8.4, 9.2 and 10.0.

use super::criteria::{Answer, Asked, version};
use super::glob::glob;
use super::keyword::{Op, lookup};
use super::lex::{Cursor, Line, Words, split_words, trim_end, vis};
use super::source::{ReadError, SourceFile, Sources};
use super::{ConfigError, ErrorKind};
use crate::finding::Location;
use crate::sshd::build::Build;
use crate::view::View;
use bstr::{BString, ByteSlice};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The deepest Include.
const MAX_DEPTH: u32 = 16;
/// The most lines of one reading that say something: files that include each other could make it endless.
const MAX_LINES: u32 = 55_000;
/// The most names of one list, such as AllowUsers.
pub(super) const MAX_NAMES: usize = 20_000;
/// The most errors that are told.
const MAX_ERRORS: usize = 200;

/// A file (its number plus one; 0 is the command line) and a line.
pub(super) type At = (u32, u32);

/// What was set, before defaults: only keywords that were.
#[derive(Clone, Debug, Default)]
pub(super) struct Options {
    pub(super) numbers: BTreeMap<Op, (i64, At)>,
    pub(super) texts: BTreeMap<Op, (BString, At)>,
    pub(super) lists: BTreeMap<Op, Vec<(BString, At)>>,
    pub(super) ports: Vec<u16>,
    pub(super) listen: Vec<(Vec<u8>, At)>,
    pub(super) subsystems: BTreeMap<Vec<u8>, At>,
}

/// Where files come from.
pub(super) enum Access<'a> {
    /// The first reading: from the volume.
    Load(&'a mut Sources, &'a dyn View),
    /// Later ones: what the first has read.
    Cached(&'a Sources),
}

impl Access<'_> {
    fn sources(&self) -> &Sources {
        match self {
            Self::Load(sources, _) => sources,
            Self::Cached(sources) => sources,
        }
    }
}

/// What is known of the state of Match blocks while a file is read.
#[derive(Clone, Copy, Debug, Default)]
struct Flags {
    /// Inside a block that does not match: no block of an included file does either.
    never_match: bool,
    /// The second reading before the first Match.
    match_only: bool,
}

/// Why a line stops sshd.
#[derive(Debug)]
pub(super) enum Trouble {
    /// A line that sshd does not take, in its words.
    Line(String),
    /// Something other than the line itself.
    Other(ErrorKind, String),
    /// Nothing can be read any further.
    Halt(ErrorKind, String),
}

type Outcome<T = ()> = Result<T, Trouble>;

/// Why a Match line is not taken, in sshd's words.
enum BadMatch {
    /// Followed by "Bad Match condition".
    Cause(String),
    /// The last word before sshd ends.
    Alone(String),
    /// "Bad Match condition" is all that is said.
    Silent,
}

/// One reading.
pub(super) struct Pass<'a> {
    pub(super) build: &'a Build,
    pub(super) access: Access<'a>,
    /// The connection of the second reading.
    pub(super) asked: Option<&'a Asked<'a>>,
    pub(super) options: Options,
    pub(super) errors: Vec<ConfigError>,
    lines_left: u32,
    halted: bool,
}

impl std::fmt::Debug for Pass<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pass").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Which line is read.
struct Spot {
    /// "/etc/ssh/sshd_config line 3".
    name: String,
    at: At,
    /// The line as sshd counts.
    counted: u32,
}

/// The line that is being read, as its checks need it.
pub(super) struct Here {
    /// "/etc/ssh/sshd_config line 3".
    pub(super) name: String,
    /// The keyword as written.
    pub(super) keyword: String,
    pub(super) at: At,
    /// The line as sshd counts.
    counted: u32,
    pub(super) active: bool,
}

impl Here {
    pub(super) fn line(&self, words: impl AsRef<str>) -> Trouble {
        Trouble::Line(format!("{}: {}", self.name, words.as_ref()))
    }

    /// "FILE line N: KEYWORD missing argument."
    pub(super) fn missing(&self) -> Trouble {
        self.line(format!("{} missing argument.", self.keyword))
    }
}

impl<'a> Pass<'a> {
    pub(super) fn new(build: &'a Build, access: Access<'a>, asked: Option<&'a Asked<'a>>) -> Self {
        let (options, errors) = (Options::default(), Vec::new());
        Self { build, access, asked, options, errors, lines_left: MAX_LINES, halted: false }
    }

    pub(super) fn sources(&self) -> &Sources {
        self.access.sources()
    }

    /// Reads the main file.
    pub(super) fn run(&mut self, main: usize) {
        let mut active = self.asked.is_none();
        let flags = Flags { never_match: false, match_only: self.asked.is_some() };
        self.file(main, flags, &mut active, 0);
    }

    /// Reads one option of the command line.
    pub(super) fn command_line_option(&mut self, option: &[u8]) {
        let end = option.find_byte(0).unwrap_or(option.len());
        let line = Line { text: option[..end].to_vec(), start: 0, number: 0 };
        let mut flags = Flags::default();
        let spot = Spot { name: "command-line line 0".to_owned(), at: (0, 0), counted: 0 };
        let found = self.line(spot, &line, &mut true, &mut flags, None);
        if let Err(trouble) = found {
            self.report(trouble, Location { file: PathBuf::from("command-line"), line: 0 }, option);
        }
    }

    fn file(&mut self, index: usize, mut flags: Flags, active: &mut bool, depth: u32) {
        let Some(file) = self.sources().files.get(index).cloned() else { return };
        let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
        for (line, counted) in file.lines.iter().zip(1_u32..) {
            if self.halted {
                return;
            }
            let says_something = !matches!(line.text.first(), None | Some(b'#'));
            self.lines_left = self.lines_left.saturating_sub(u32::from(says_something));
            let found = if self.options.lists.values().any(|list| list.len() > MAX_NAMES) {
                let says = format!("a list of the configuration has more than {MAX_NAMES} names");
                Err(Trouble::Halt(ErrorKind::Unknown, says))
            } else if self.lines_left == 0 {
                let says = format!("the configuration has more than {MAX_LINES} lines");
                Err(Trouble::Halt(ErrorKind::Unknown, says))
            } else {
                let name = format!("{} line {counted}", file.path.display());
                let spot = Spot { name, at: (number, line.number), counted };
                self.line(spot, line, active, &mut flags, Some(depth))
            };
            if let Err(trouble) = found {
                let at = Location { file: file.path.clone(), line: line.number };
                self.report(trouble, at, written(&file, line));
            }
        }
    }

    fn report(&mut self, trouble: Trouble, at: Location, text: &[u8]) {
        let (kind, says) = match trouble {
            Trouble::Line(says) => (ErrorKind::Syntax, says),
            Trouble::Other(kind, says) => (kind, says),
            Trouble::Halt(kind, says) => {
                self.halted = true;
                (kind, says)
            }
        };
        let stops_start = self.asked.is_none() && kind != ErrorKind::Unknown;
        self.errors.push(ConfigError { at, text: BString::from(text), says, stops_start, kind });
        // The second reading ends with its first error: so does the connection.
        self.halted |= self.errors.len() >= MAX_ERRORS;
    }

    fn line(
        &mut self,
        spot: Spot,
        line: &Line,
        active: &mut bool,
        flags: &mut Flags,
        depth: Option<u32>,
    ) -> Outcome {
        let text = trim_end(&line.text);
        if text.is_empty() || text[0] == b'#' {
            return Ok(());
        }
        let mut cursor = Cursor::new(text.to_vec());
        let Some(mut keyword) = cursor.next() else { return Ok(()) };
        if keyword.is_empty() {
            match cursor.next() {
                Some(next) => keyword = next,
                None => return Ok(()),
            }
        }
        if keyword.is_empty() || keyword[0] == b'#' {
            return Ok(());
        }
        let Spot { name, at, counted } = spot;
        let here = Here { name, keyword: vis(&keyword), at, counted, active: *active };
        let new_words = self.build.at_least(8, 7);
        if new_words && cursor.rest().is_none_or(<[u8]>::is_empty) {
            return Err(here.line(format!("no argument after keyword \"{}\"", here.keyword)));
        }
        let Some(known) = lookup(self.build, &keyword) else {
            if !*active && self.asked.is_some() {
                return Ok(());
            }
            let name = here.name.replacen(" line ", ": line ", 1);
            return Err(Trouble::Line(format!("{name}: Bad configuration option: {}", here.keyword)));
        };
        let mut words = if new_words {
            let rest = cursor.rest().unwrap_or_default().to_vec();
            let words = split_words(&rest).ok_or_else(|| here.line("invalid quotes"))?.into_iter();
            Words::New { words, rest }
        } else {
            Words::Old(cursor)
        };
        if !*active && !known.in_match {
            if self.asked.is_some() {
                return Ok(());
            }
            let says = format!("Directive '{}' is not allowed within a Match block", here.keyword);
            return Err(here.line(says));
        }
        match known.op {
            Op::Match => self.match_line(&here, &mut words, active, flags, depth)?,
            Op::Include => self.include(&here, &mut words, active, *flags, depth)?,
            op => self.set(op, &here, &mut words)?,
        }
        self.nothing_left(&here, &mut words)
    }

    fn nothing_left(&self, here: &Here, words: &mut Words) -> Outcome {
        match words {
            Words::New { words, .. } if words.as_slice().is_empty() => Ok(()),
            Words::New { .. } => {
                Err(here.line(format!("keyword {} extra arguments at end of line", here.keyword)))
            }
            Words::Old(cursor) => match cursor.next() {
                Some(word) if !word.is_empty() => {
                    Err(here.line(format!("garbage at end of line; \"{}\".", vis(&word))))
                }
                _ => Ok(()),
            },
        }
    }

    /// A port number or the name of a service.
    pub(super) fn port(&mut self, text: &[u8]) -> Option<u16> {
        if let Ok(port) = super::value::number(text, 0, 65535) {
            return u16::try_from(port).ok();
        }
        match &mut self.access {
            Access::Load(sources, view) => sources.service_port(*view, text),
            Access::Cached(sources) => sources.known_port(text),
        }
    }

    fn include(
        &mut self,
        here: &Here,
        words: &mut Words,
        active: &mut bool,
        flags: Flags,
        depth: Option<u32>,
    ) -> Outcome {
        let Some(depth) = depth else {
            let says = "Include directive not supported as a command-line option".to_owned();
            return Err(Trouble::Line(says));
        };
        let mut any = false;
        let mut trouble = None;
        while let Some(word) = words.next_listed() {
            if word.is_empty() {
                return Err(here.line(format!("keyword {} empty argument", here.keyword)));
            }
            any = true;
            let pattern = match word.first() {
                Some(b'/' | b'~') => word,
                _ => [b"/etc/ssh/".as_slice(), &word].concat(),
            };
            let inner = Flags { match_only: flags.match_only, never_match: !flags.match_only && !*active };
            let known = self.sources().included(&pattern).map(<[usize]>::to_vec);
            if let Some(files) = known {
                for file in files {
                    self.included(file, inner, active, depth)?;
                }
            } else {
                self.look_up(&pattern, inner, active, depth, &mut trouble)?;
            }
            if self.halted {
                words.consume();
                return Ok(());
            }
        }
        if !any {
            return Err(here.line(format!("{} missing filename argument", here.keyword)));
        }
        trouble.map_or(Ok(()), Err)
    }

    fn included(&mut self, file: usize, flags: Flags, active: &mut bool, depth: u32) -> Outcome {
        if depth + 1 > MAX_DEPTH {
            let says = "Too many recursive configuration includes".to_owned();
            return Err(Trouble::Halt(ErrorKind::Syntax, says));
        }
        let outer = *active;
        self.file(file, flags, active, depth + 1);
        *active = outer;
        Ok(())
    }

    /// Reads what a word of an Include comes to for the first time. A file is remembered for that word only once it
    /// was read: if it includes the same word, it meets the files before it, but not itself.
    fn look_up(
        &mut self,
        pattern: &[u8],
        flags: Flags,
        active: &mut bool,
        depth: u32,
        trouble: &mut Option<Trouble>,
    ) -> Outcome {
        let paths = match &mut self.access {
            Access::Load(_, view) => glob(*view, pattern).map_err(|why| {
                Trouble::Halt(ErrorKind::Unknown, format!("Include {}: {why}", vis(pattern)))
            })?,
            Access::Cached(_) => return Ok(()),
        };
        if paths.is_empty() {
            self.remember(pattern, None);
        }
        for path in paths {
            let read = match &mut self.access {
                Access::Load(sources, view) => sources.read(*view, self.build, &path),
                Access::Cached(_) => return Ok(()),
            };
            match read {
                Ok(file) => {
                    self.included(file, flags, active, depth)?;
                    if self.halted {
                        return Ok(());
                    }
                    self.remember(pattern, Some(file));
                }
                Err(ReadError::Fails { says, .. }) => {
                    trouble.get_or_insert(Trouble::Other(ErrorKind::Unreadable, says));
                }
                Err(ReadError::Unknown(says)) => {
                    trouble.get_or_insert(Trouble::Other(ErrorKind::Unknown, says));
                }
            }
        }
        Ok(())
    }

    fn remember(&mut self, pattern: &[u8], file: Option<usize>) {
        if let Access::Load(sources, _) = &mut self.access {
            sources.remember(pattern, file);
        }
    }

    fn match_line(
        &mut self,
        here: &Here,
        words: &mut Words,
        active: &mut bool,
        flags: &mut Flags,
        depth: Option<u32>,
    ) -> Outcome {
        if depth.is_none() {
            let says = "Match directive not supported as a command-line option".to_owned();
            return Err(Trouble::Line(says));
        }
        let by_words = self.build.at_least(9, 9);
        let rest = words.rest().to_vec();
        let mut cursor = Cursor::new(rest);
        let asked = if flags.never_match { None } else { self.asked };
        let found = if by_words {
            self.criteria(here, asked, &mut || words.next(), true)
        } else {
            self.criteria(here, asked, &mut || cursor.next(), false)
        };
        let matched = found.map_err(|cause| {
            let bad = format!("{}: Bad Match condition", here.name);
            Trouble::Line(match cause {
                BadMatch::Cause(cause) => format!("{cause}; {bad}"),
                BadMatch::Alone(cause) => cause,
                BadMatch::Silent => bad,
            })
        });
        *active = !flags.never_match && *matched.as_ref().unwrap_or(&false);
        flags.match_only = false;
        if !by_words {
            match words {
                Words::New { .. } if cursor.rest().is_none_or(<[u8]>::is_empty) => words.consume(),
                Words::New { .. } => {}
                Words::Old(old) => *old = cursor,
            }
        }
        matched.map(|_| ())
    }

    /// Do all criteria match? Without a connection only their form is checked, and no criterion but `all` (and
    /// `version`, which needs none) matches. The error is sshd's words for the cause.
    fn criteria(
        &mut self,
        here: &Here,
        asked: Option<&Asked<'_>>,
        next: &mut dyn FnMut() -> Option<Vec<u8>>,
        by_words: bool,
    ) -> Result<bool, BadMatch> {
        let mut result = true;
        let mut criteria = 0;
        while let Some(mut name) = next() {
            if name.first() == Some(&b'#') {
                while next().is_some() {}
                break;
            }
            if name.is_empty() && !by_words {
                break;
            }
            criteria += 1;
            if name.eq_ignore_ascii_case(b"all") {
                let behind = next();
                let comment = behind.as_ref().is_some_and(|word| word.first() == Some(&b'#'));
                if criteria > 1 || !(comment || behind.is_none_or(|word| word.is_empty())) {
                    let says = "'all' cannot be combined with other Match attributes";
                    return Err(BadMatch::Cause(says.to_owned()));
                }
                if comment {
                    while next().is_some() {}
                }
                return Ok(true);
            }
            if by_words && name.eq_ignore_ascii_case(b"invalid-user") {
                result &= asked.is_some_and(Asked::invalid_user);
                continue;
            }
            let written = vis(&name);
            let equals = name.find_byte(b'=').filter(|&at| by_words && is_criterion(&name[..at]));
            let value = match equals {
                Some(at) => {
                    let value = name.split_off(at + 1);
                    name.pop();
                    Some(value)
                }
                None => next(),
            };
            let Some(value) = value.filter(|value| !value.is_empty() && value[0] != b'#') else {
                return Err(BadMatch::Cause(format!("Missing Match criteria for {}", vis(&name))));
            };
            result &= self.criterion(here, asked, &name, &value, &written)?;
        }
        if criteria == 0 {
            return Err(BadMatch::Cause("One or more attributes required for Match".to_owned()));
        }
        Ok(result)
    }

    fn criterion(
        &mut self,
        here: &Here,
        asked: Option<&Asked<'_>>,
        name: &[u8],
        value: &[u8],
        written: &str,
    ) -> Result<bool, BadMatch> {
        let name = name.to_ascii_lowercase();
        Ok(match name.as_slice() {
            b"user" => asked.is_some_and(|asked| asked.user(value)),
            b"group" => asked.is_some_and(|asked| asked.group(value)),
            b"host" => asked.is_some_and(|asked| asked.host(value, here.at)),
            b"address" | b"localaddress" => {
                let local = name.starts_with(b"local");
                let answer = match asked {
                    Some(asked) if local => asked.local_address(value, here.at),
                    Some(asked) => asked.address(value, here.at),
                    // Before 8.4 a bad list was noticed by the first connection only.
                    None if self.build.at_least(8, 4) => match_form(value),
                    None => Answer::No,
                };
                match answer {
                    Answer::Yes => true,
                    Answer::No => false,
                    Answer::Malformed if asked.is_some() => return Err(BadMatch::Silent),
                    Answer::Malformed => {
                        let (name, value, line) = (vis(&name), vis(value), here.counted);
                        let says = format!("Invalid Match {name} argument '{value}' at line {line}");
                        return Err(BadMatch::Alone(says));
                    }
                }
            }
            b"localport" => {
                let port = self.port(value);
                let invalid = || BadMatch::Cause(format!("Invalid LocalPort '{}' on Match line", vis(value)));
                let port = port.ok_or_else(invalid)?;
                asked.is_some_and(|asked| asked.local_port(port, value, here.at))
            }
            b"rdomain" if self.build.at_least(7, 7) => {
                asked.is_some_and(|asked| asked.routing_domain(value, here.at))
            }
            b"version" if self.build.at_least(10, 0) => version(self.build, value),
            _ => return Err(BadMatch::Cause(format!("Unsupported Match attribute {written}"))),
        })
    }
}

fn match_form(list: &[u8]) -> Answer {
    use crate::sshd::pattern::{AddressMatch, address_match_list};
    match address_match_list(None, list) {
        AddressMatch::Invalid => Answer::Malformed,
        _ => Answer::No,
    }
}

fn is_criterion(name: &[u8]) -> bool {
    ["user", "group", "host", "address", "localaddress", "localport", "rdomain", "version"]
        .iter()
        .any(|known| known.as_bytes().eq_ignore_ascii_case(name))
}

fn written<'f>(file: &'f SourceFile, line: &Line) -> &'f [u8] {
    file.written(line)
}
