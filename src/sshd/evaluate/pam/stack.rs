//! The stacks of /etc/pam.d: how libpam reads them (pam.conf(5)) and what it makes of the modules' answers.

use crate::finding::Location;
use crate::view::{FileKind, LookError, TEXT_LIMIT, View, walk};
use bstr::ByteSlice;
use std::path::{Path, PathBuf};

/// The deepest nesting of includes (`PAM_SUBSTACK_MAX_LEVEL`).
const MAX_LEVEL: usize = 16;
/// The most rules of one service: includes multiply.
const MAX_RULES: usize = 4096;
/// The most files that one service includes: a file may include itself ten times.
const MAX_INCLUDES: usize = 1000;
const DIRECTORIES: [&str; 3] = ["/etc/pam.d", "/usr/lib/pam.d", "/usr/etc/pam.d"];

/// What a stack is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Account,
    Session,
}

impl Kind {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Session => "session",
        }
    }
}

/// A return value of a module (`_pam_types.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Code(u8);

/// The names of pam.conf(5), in the order of their numbers.
const NAMES: [&str; 32] = [
    "success",
    "open_err",
    "symbol_err",
    "service_err",
    "system_err",
    "buf_err",
    "perm_denied",
    "auth_err",
    "cred_insufficient",
    "authinfo_unavail",
    "user_unknown",
    "maxtries",
    "new_authtok_reqd",
    "acct_expired",
    "session_err",
    "cred_unavail",
    "cred_expired",
    "cred_err",
    "no_module_data",
    "conv_err",
    "authtok_err",
    "authtok_recover_err",
    "authtok_lock_busy",
    "authtok_disable_aging",
    "try_again",
    "ignore",
    "abort",
    "authtok_expired",
    "module_unknown",
    "bad_item",
    "conv_again",
    "incomplete",
];

impl Code {
    pub(super) const SUCCESS: Self = Self(0);
    pub(super) const SERVICE_ERR: Self = Self(3);
    pub(super) const SYSTEM_ERR: Self = Self(4);
    pub(super) const PERM_DENIED: Self = Self(6);
    pub(super) const AUTH_ERR: Self = Self(7);
    pub(super) const AUTHINFO_UNAVAIL: Self = Self(9);
    pub(super) const USER_UNKNOWN: Self = Self(10);
    pub(super) const NEW_AUTHTOK_REQD: Self = Self(12);
    pub(super) const ACCT_EXPIRED: Self = Self(13);
    pub(super) const SESSION_ERR: Self = Self(14);
    pub(super) const IGNORE: Self = Self(25);
    pub(super) const AUTHTOK_EXPIRED: Self = Self(27);
    pub(super) const MODULE_UNKNOWN: Self = Self(28);

    /// The value of a name of pam.conf(5).
    pub(super) fn named(name: &str) -> Option<Self> {
        let at = NAMES.iter().position(|known| *known == name)?;
        u8::try_from(at).ok().map(Self)
    }

    /// The name of pam.conf(5).
    pub(super) fn name(self) -> &'static str {
        NAMES[usize::from(self.0)]
    }

    /// pam_strerror(3) of those that sshd logs.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::PERM_DENIED => "Permission denied",
            Self::SERVICE_ERR => "Error in service module",
            Self::MODULE_UNKNOWN => "Module is unknown",
            _ => "Cannot make/remove an entry for the specified session",
        }
    }
}

/// What libpam does with a return value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Ignore,
    Bad,
    Die,
    Ok,
    Done,
    Reset,
    Jump(usize),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Handler {
    /// The file name or path of a module.
    Module(String),
    /// A rule that libpam could not read: it fails when it is reached.
    MustFail,
    /// The line that opened a substack.
    Substack,
}

/// One rule.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) at: Location,
    pub(super) handler: Handler,
    pub(super) arguments: Vec<String>,
    control: String,
    actions: [Action; 32],
    level: usize,
}

impl Rule {
    /// Does this answer of the rule count against the user?
    pub(super) fn counts(&self, code: Code) -> bool {
        matches!(self.actions[usize::from(code.0)], Action::Bad | Action::Die)
    }

    /// The module, or nothing where the rule names none that can be read.
    pub(super) fn module(&self) -> &str {
        match &self.handler {
            Handler::Module(module) => module,
            _ => "",
        }
    }

    /// The rule as a person would write it, without its type.
    pub(super) fn words(&self) -> String {
        let module = match &self.handler {
            Handler::Module(module) => module.as_str(),
            Handler::MustFail => "(not readable)",
            Handler::Substack => "",
        };
        let mut words = format!("{} {module}", self.control);
        for argument in &self.arguments {
            words.push(' ');
            words.push_str(argument);
        }
        words.trim().to_owned()
    }
}

/// The stacks of a service; where it has none of a kind, those of `other`.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) service: String,
    own: Stacks,
    other: Stacks,
}

#[derive(Debug, Default)]
struct Stacks {
    file: Option<PathBuf>,
    account: Vec<Rule>,
    session: Vec<Rule>,
}

impl Stacks {
    fn of(&self, kind: Kind) -> &Vec<Rule> {
        match kind {
            Kind::Account => &self.account,
            Kind::Session => &self.session,
        }
    }
}

impl Loaded {
    pub(super) fn rules(&self, kind: Kind) -> &[Rule] {
        let own = self.own.of(kind);
        if own.is_empty() { self.other.of(kind) } else { own }
    }

    /// The file of the service, or that of `other`.
    pub(super) fn file(&self, kind: Kind) -> Option<&Path> {
        let stacks =
            if self.own.of(kind).is_empty() && self.own.file.is_none() { &self.other } else { &self.own };
        stacks.file.as_deref()
    }
}

/// Why libpam gives up before any module is asked.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) file: PathBuf,
    pub(super) line: Option<u32>,
    pub(super) why: String,
    pub(super) end: End,
}

/// What becomes of a login whose stacks libpam does not get to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// `pam_start` fails, and sshd with it.
    Fails,
    /// sshd reads, or waits to, until the client gives up.
    Hangs,
    /// What libpam would read is not known here.
    Open,
}

/// Reads the stacks of a service and of `other`, as `_pam_init_handlers`.
pub(super) fn load(view: &dyn View, service: &str) -> Result<Loaded, Fault> {
    let own = load_service(view, service)?;
    let other = load_service(view, "other")?;
    if own.file.is_none() && other.file.is_none() {
        let file = Path::new(DIRECTORIES[0]).join(service);
        let why = "neither it nor /etc/pam.d/other can be read".into();
        return Err(Fault { file, line: None, why, end: End::Fails });
    }
    Ok(Loaded { service: service.to_owned(), own, other })
}

fn load_service(view: &dyn View, service: &str) -> Result<Stacks, Fault> {
    let any_length = view.sshd().pam_at_least_1_6();
    let mut reader = Reader { view, any_length, stacks: Stacks::default(), includes: 0 };
    let Some((file, text)) = open(view, service)? else { return Ok(reader.stacks) };
    reader.stacks.file = Some(file.clone());
    match reader.file(&file, &text, None, 0, 0)? {
        None => Ok(reader.stacks),
        Some(line) => {
            let why = "a line that ends with a backslash, and none follows".into();
            Err(Fault { file, line: Some(line), why, end: End::Fails })
        }
    }
}

/// `None` if there is none that could be opened: the next directory is tried, and then `other`.
fn open(view: &dyn View, name: &str) -> Result<Option<(PathBuf, Vec<u8>)>, Fault> {
    if name.starts_with('/') {
        let path = PathBuf::from(name);
        return Ok(read(view, &path)?.map(|text| (path, text)));
    }
    for directory in DIRECTORIES {
        let path = Path::new(directory).join(name);
        if let Some(text) = read(view, &path)? {
            return Ok(Some((path, text)));
        }
    }
    Ok(None)
}

/// The content as fopen(3) and fgets(3) would give it.
fn read(view: &dyn View, path: &Path) -> Result<Option<Vec<u8>>, Fault> {
    let fault = |why: String, end| Fault { file: path.to_owned(), line: None, why, end };
    let walk = walk(view, path);
    // Made at boot, whatever the disk has there.
    match walk.reached.to_str() {
        Some("/dev/null") => return Ok(Some(Vec::new())),
        Some("/dev/zero" | "/dev/full" | "/dev/random" | "/dev/urandom") => {
            return Err(fault(format!("{}, which has no end", walk.reached.display()), End::Hangs));
        }
        _ => {}
    }
    let Ok(found) = walk.end else { return Ok(None) };
    match found.stat.kind {
        FileKind::Regular => match view.read(&found.path, TEXT_LIMIT) {
            Ok(text) => Ok(Some(text)),
            Err(error @ (LookError::TooLarge { .. } | LookError::OtherFilesystem | LookError::Errno(_))) => {
                Err(fault(error.to_string(), End::Open))
            }
            Err(_) => Ok(None),
        },
        FileKind::Fifo => Err(fault("a FIFO, on which sshd waits for ever".into(), End::Hangs)),
        // It can be opened, and no line comes of it.
        FileKind::Directory => Ok(Some(Vec::new())),
        FileKind::Socket | FileKind::Symlink => Ok(None),
        kind @ (FileKind::CharDevice | FileKind::BlockDevice) => {
            Err(fault(kind.words().to_owned(), End::Open))
        }
    }
}

struct Reader<'a> {
    view: &'a dyn View,
    /// From libpam 1.6 a line may have any length.
    any_length: bool,
    stacks: Stacks,
    includes: usize,
}

impl Reader<'_> {
    /// `wanted`: only rules of this type ("account"), for an include; `None` takes all. Gives the line that has no end,
    /// at which libpam gives up this file.
    fn file(
        &mut self,
        file: &Path,
        text: &[u8],
        wanted: Option<&str>,
        depth: usize,
        level: usize,
    ) -> Result<Option<u32>, Fault> {
        let mut lines = Lines { rest: text, number: 1, any_length: self.any_length };
        loop {
            match lines.next() {
                Err(Unfinished(line)) => return Ok(Some(line)),
                Ok(None) => return Ok(None),
                Ok(Some((line, text))) => {
                    let at = Location { file: file.to_owned(), line };
                    self.rule(at, &words(&text), wanted, depth, level)?;
                }
            }
        }
    }

    fn rule(
        &mut self,
        at: Location,
        words: &[String],
        wanted: Option<&str>,
        depth: usize,
        level: usize,
    ) -> Result<(), Fault> {
        let mut words = words.iter();
        let Some(first) = words.next() else { return Ok(()) };
        if first.eq_ignore_ascii_case("@include") {
            let name = words.next().map_or("", String::as_str);
            if self.include(name, wanted, depth, level)? {
                return Ok(());
            }
            // Debian's own directive: without a type of its own there is no stack that could fail alone.
            let Some(wanted) = wanted else {
                return Err(Fault {
                    file: at.file.clone(),
                    line: Some(at.line),
                    why: format!("@include {name}: cannot be read"),
                    end: End::Fails,
                });
            };
            self.push(wanted, must_fail(at, format!("@include {name}"), level))?;
            return Ok(());
        }
        let first = first.strip_prefix('-').unwrap_or(first).to_ascii_lowercase();
        let known = ["auth", "account", "session", "password"].contains(&first.as_str());
        let kind = if known { first.as_str() } else { wanted.unwrap_or("auth") };
        if wanted.is_some_and(|wanted| wanted != kind) {
            return Ok(());
        }
        if !matches!(kind, "account" | "session") {
            // Never run for a login by key, and whatever is wrong in it fails only there.
            return Ok(());
        }
        let Some(control) = words.next() else {
            return self.push(kind, must_fail(at, "no control".into(), level));
        };
        let lower = control.to_ascii_lowercase();
        if lower == "include" || lower == "substack" {
            let sub = usize::from(lower == "substack");
            let name = words.next().map_or("", String::as_str);
            if sub == 1 {
                let mut marker = must_fail(at.clone(), format!("substack {name}"), level);
                marker.handler = Handler::Substack;
                self.push(kind, marker)?;
            }
            if !self.include(name, Some(kind), depth, level + sub)? {
                self.push(kind, must_fail(at, format!("{lower} {name}"), level))?;
            }
            return Ok(());
        }
        let Some(module) = words.next() else {
            return self.push(kind, must_fail(at, control.clone(), level));
        };
        let rule = Rule {
            at,
            handler: if known { Handler::Module(module.clone()) } else { Handler::MustFail },
            arguments: words.cloned().collect(),
            control: control.clone(),
            actions: actions(control),
            level,
        };
        self.push(kind, rule)
    }

    /// `false` if the file cannot be read.
    fn include(
        &mut self,
        name: &str,
        wanted: Option<&str>,
        depth: usize,
        level: usize,
    ) -> Result<bool, Fault> {
        if depth + 1 >= MAX_LEVEL || name.is_empty() {
            return Ok(false);
        }
        self.includes += 1;
        if self.includes > MAX_INCLUDES {
            let why = "too many includes".into();
            return Err(Fault { file: PathBuf::from(name), line: None, why, end: End::Fails });
        }
        match open(self.view, name)? {
            Some((file, text)) => Ok(self.file(&file, &text, wanted, depth + 1, level)?.is_none()),
            None => Ok(false),
        }
    }

    fn push(&mut self, kind: &str, rule: Rule) -> Result<(), Fault> {
        let stack = match kind {
            "account" => &mut self.stacks.account,
            "session" => &mut self.stacks.session,
            // Never run for a login by key.
            _ => return Ok(()),
        };
        if stack.len() >= MAX_RULES {
            let why = "too many rules".into();
            return Err(Fault { file: rule.at.file, line: Some(rule.at.line), why, end: End::Fails });
        }
        stack.push(rule);
        Ok(())
    }
}

fn must_fail(at: Location, control: String, level: usize) -> Rule {
    Rule { at, handler: Handler::MustFail, arguments: Vec::new(), control, actions: [Action::Bad; 32], level }
}

/// The room that libpam before 1.6 has for a line and its end.
const LINE_ROOM: usize = 1024;
/// What may stand behind a backslash that continues a line; a CR may not, it is part of the last word.
const BLANKS: [char; 3] = [' ', '\t', '\n'];

/// A line that is continued, and the file ends or the room does.
#[derive(Debug, PartialEq, Eq)]
struct Unfinished(u32);

/// The lines of a file as libpam puts them together: continued ones joined, comments cut.
struct Lines<'a> {
    rest: &'a [u8],
    /// Of the line that is read next, counted from 1.
    number: u32,
    any_length: bool,
}

impl<'a> Lines<'a> {
    /// The next line that is not empty, and the number of its first part.
    fn next(&mut self) -> Result<Option<(u32, String)>, Unfinished> {
        let line = if self.any_length { self.of_any_length() } else { self.within_room() };
        Ok(line?.map(|(number, bytes)| (number, until(&bytes, b"\0").to_str_lossy().into_owned())))
    }

    /// At most so many bytes, up to the end of the line and with it, as fgets(3) gives them.
    fn chunk(&mut self, most: usize) -> Option<(u32, &'a [u8])> {
        let end = self.rest.find_byte(b'\n').map_or(self.rest.len(), |at| at + 1).min(most);
        let (chunk, rest) = self.rest.split_at(end);
        let number = self.number;
        self.rest = rest;
        self.number += u32::from(chunk.ends_with(b"\n"));
        (!chunk.is_empty()).then_some((number, chunk))
    }

    /// `_pam_assemble_line` before 1.6: what does not fit is a line of its own; blank lines and comments within a
    /// continued line are passed over.
    fn within_room(&mut self) -> Result<Option<(u32, Vec<u8>)>, Unfinished> {
        let mut whole = Vec::new();
        let mut first = None;
        loop {
            let room = LINE_ROOM - whole.len();
            let Some((number, chunk)) = (room > 1).then(|| self.chunk(room - 1)).flatten() else {
                return first.map_or(Ok(None), |first| Err(Unfinished(first)));
            };
            let chunk = until(chunk, b"\0");
            let line = chunk.trim_start_with(|char| BLANKS.contains(&char));
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let first = *first.get_or_insert(number);
            let code = until(chunk, b"#");
            match continued(chunk).filter(|_| code.len() == chunk.len()) {
                Some(part) => {
                    whole.extend_from_slice(part);
                    whole.push(b' ');
                }
                None => {
                    whole.extend_from_slice(code);
                    return Ok(Some((first, whole)));
                }
            }
        }
    }

    /// `_pam_line_assemble` from 1.6: a blank line or a comment ends a continued one.
    fn of_any_length(&mut self) -> Result<Option<(u32, Vec<u8>)>, Unfinished> {
        let mut whole = Vec::new();
        let mut first = None;
        while let Some((number, chunk)) = self.chunk(usize::MAX) {
            let part = continued(chunk);
            let line = part.map_or_else(|| chunk.to_vec(), |part| [part, b" "].concat());
            let code = until(&line, b"#").trim_start_with(|char| char == ' ' || char == '\t');
            let begins = *first.get_or_insert(number);
            whole.extend_from_slice(code);
            if part.is_none() || until(&line, b"\0").contains(&b'#') {
                if !whole.trim_with(|char| BLANKS.contains(&char)).is_empty() {
                    return Ok(Some((begins, whole)));
                }
                whole.clear();
                first = None;
            }
        }
        first.map_or(Ok(None), |first| Err(Unfinished(first)))
    }
}

/// What stands before the backslash that ends a line, if one does.
fn continued(chunk: &[u8]) -> Option<&[u8]> {
    chunk.trim_end_with(|char| BLANKS.contains(&char)).strip_suffix(b"\\")
}

fn until<'a>(bytes: &'a [u8], end: &[u8]) -> &'a [u8] {
    bytes.find(end).map_or(bytes, |at| &bytes[..at])
}

/// The words of a line; `[...]` is one.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.trim_matches(BLANKS);
    while !rest.is_empty() {
        let end = if rest.starts_with('[') {
            rest.find(']').map_or(rest.len(), |at| at + 1)
        } else {
            rest.find(BLANKS).unwrap_or(rest.len())
        };
        words.push(rest[..end].to_owned());
        rest = rest[end..].trim_start_matches(BLANKS);
    }
    words
}

fn actions(control: &str) -> [Action; 32] {
    let code = |code: Code| usize::from(code.0);
    let simple = |success: Action, otherwise: Action, ignores: bool| {
        let mut actions = [otherwise; 32];
        actions[code(Code::SUCCESS)] = success;
        actions[code(Code::NEW_AUTHTOK_REQD)] = success;
        if ignores {
            actions[code(Code::IGNORE)] = Action::Ignore;
        }
        actions
    };
    match control.to_ascii_lowercase().as_str() {
        "required" => simple(Action::Ok, Action::Bad, true),
        "requisite" => simple(Action::Ok, Action::Die, true),
        "optional" => simple(Action::Ok, Action::Ignore, false),
        "sufficient" => simple(Action::Done, Action::Ignore, false),
        bracketed => bracketed_actions(bracketed).unwrap_or([Action::Bad; 32]),
    }
}

/// `[success=1 default=ignore]`; `None` for what libpam does not take.
fn bracketed_actions(control: &str) -> Option<[Action; 32]> {
    let inside = control.strip_prefix('[')?.strip_suffix(']')?;
    let mut actions: [Option<Action>; 32] = [None; 32];
    for pair in inside.split_whitespace() {
        let (name, action) = pair.split_once('=')?;
        let action = match action {
            "ignore" => Action::Ignore,
            "bad" => Action::Bad,
            "die" => Action::Die,
            "ok" => Action::Ok,
            "done" => Action::Done,
            "reset" => Action::Reset,
            number => Action::Jump(number.parse().ok().filter(|count| *count > 0)?),
        };
        if name == "default" {
            for unset in actions.iter_mut().filter(|action| action.is_none()) {
                *unset = Some(action);
            }
        } else {
            let at = NAMES.iter().position(|known| *known == name)?;
            actions[at] = Some(action);
        }
    }
    Some(actions.map(|action| action.unwrap_or(Action::Bad)))
}

/// What a stack comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) code: Code,
    /// The rules that were asked, and what they returned.
    pub(super) asked: Vec<(usize, Code)>,
    /// The rule that turned the stack against the user.
    pub(super) turned: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Impression {
    Undefined,
    Positive,
    Negative,
}

/// Runs a stack, as `_pam_dispatch_aux`.
pub(super) fn dispatch(rules: &[Rule], answer: impl Fn(usize) -> Code) -> Outcome {
    let (mut impression, mut status) = (Impression::Undefined, Code::PERM_DENIED);
    let mut before = [(impression, status); MAX_LEVEL + 1];
    let mut asked = Vec::new();
    let mut turned = None;
    let mut previous = 0;
    let mut at = 0;
    while let Some(rule) = rules.get(at) {
        let level = rule.level.min(MAX_LEVEL);
        if previous < level {
            before[level] = (impression, status);
        }
        previous = level;
        if rule.handler == Handler::Substack {
            at += 1;
            continue;
        }
        let code = answer(at);
        asked.push((at, code));
        let mut decided = false;
        let ruling = at;
        match rule.actions[usize::from(code.0)] {
            Action::Ignore => {}
            Action::Reset => (impression, status) = before[level],
            action @ (Action::Ok | Action::Done) => {
                let open = impression == Impression::Undefined
                    || (impression == Impression::Positive && status == Code::SUCCESS);
                if open {
                    (impression, status) = (Impression::Positive, code);
                }
                decided = impression == Impression::Positive && action == Action::Done;
            }
            action @ (Action::Bad | Action::Die) => {
                if impression != Impression::Negative {
                    impression = Impression::Negative;
                    status = if code == Code::IGNORE { Code::PERM_DENIED } else { code };
                }
                decided = action == Action::Die;
            }
            Action::Jump(count) => {
                let mut left = count;
                while left > 0 && rules.get(at + 1).is_some_and(|next| next.level >= rule.level) {
                    at += 1;
                    // A substack is stepped over whole.
                    while rules.get(at + 1).is_some_and(|next| next.level > rule.level) {
                        at += 1;
                    }
                    left -= 1;
                }
                if left > 0 {
                    (impression, status) = (Impression::Negative, Code::PERM_DENIED);
                }
            }
        }
        if impression == Impression::Negative {
            turned.get_or_insert(ruling);
        } else {
            turned = None;
        }
        if decided {
            while rules.get(at + 1).is_some_and(|next| next.level >= rule.level) {
                at += 1;
            }
        }
        at += 1;
    }
    if status == Code::SUCCESS && impression != Impression::Positive {
        status = Code::PERM_DENIED;
    }
    Outcome { code: status, asked, turned }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::memory::MemTree;

    fn account(files: &[(&str, &str)], answers: &[(&str, Code)]) -> Code {
        let mut tree = MemTree::new();
        for (name, text) in files {
            tree.file(&format!("/etc/pam.d/{name}"), 0o644, 0, 0, text.as_bytes());
        }
        let loaded = load(&tree, "sshd").unwrap();
        let rules = loaded.rules(Kind::Account);
        let answer = |at: usize| match &rules[at].handler {
            Handler::Module(module) => {
                answers.iter().find(|(name, _)| module == name).map_or(Code::SUCCESS, |(_, code)| *code)
            }
            _ => Code::PERM_DENIED,
        };
        dispatch(rules, answer).code
    }

    const DEBIAN: &str = "account [success=1 new_authtok_reqd=done default=ignore] pam_unix.so\n\
        account requisite pam_deny.so\naccount required pam_permit.so\n";

    #[test]
    fn debians_stack_jumps_over_the_denial() {
        let sshd = "account required pam_nologin.so\n@include common-account\n";
        let files = [("sshd", sshd), ("common-account", DEBIAN)];
        let deny = ("pam_deny.so", Code::ACCT_EXPIRED);
        assert_eq!(account(&files, &[("pam_nologin.so", Code::IGNORE), deny]), Code::SUCCESS);
        assert_eq!(account(&files, &[("pam_unix.so", Code::AUTHINFO_UNAVAIL), deny]), Code::ACCT_EXPIRED);
        let aged = [("pam_nologin.so", Code::IGNORE), ("pam_unix.so", Code::NEW_AUTHTOK_REQD), deny];
        assert_eq!(account(&files, &aged), Code::NEW_AUTHTOK_REQD);
    }

    #[test]
    fn a_stack_in_which_nobody_says_yes_refuses() {
        let files = [("sshd", "account required pam_nologin.so\n")];
        assert_eq!(account(&files, &[("pam_nologin.so", Code::IGNORE)]), Code::PERM_DENIED);
    }

    #[test]
    fn an_absent_service_falls_to_other() {
        assert_eq!(account(&[("other", "account required pam_permit.so\n")], &[]), Code::SUCCESS);
        assert_eq!(
            account(&[("other", "account required pam_deny.so\n")], &[("pam_deny.so", Code::ACCT_EXPIRED)]),
            Code::ACCT_EXPIRED
        );
    }

    #[test]
    fn an_include_that_cannot_be_read_fails_only_its_own_stack() {
        assert_eq!(
            account(&[("sshd", "auth include gone\naccount required pam_permit.so\n")], &[]),
            Code::SUCCESS
        );
        assert_eq!(
            account(&[("sshd", "account include gone\naccount required pam_permit.so\n")], &[]),
            Code::PERM_DENIED
        );
        let mut tree = MemTree::new();
        tree.file("/etc/pam.d/sshd", 0o644, 0, 0, b"@include common-auth\naccount required pam_permit.so\n");
        assert!(load(&tree, "sshd").is_err(), "Debian's directive ends it all");
    }

    #[test]
    fn sufficient_in_a_substack_ends_only_the_substack() {
        let sshd = "account substack inner\naccount required pam_deny.so\n";
        let files = [("sshd", sshd), ("inner", "account sufficient pam_localuser.so\n")];
        assert_eq!(account(&files, &[("pam_deny.so", Code::ACCT_EXPIRED)]), Code::ACCT_EXPIRED);
        let included = [("sshd", "account include inner\naccount required pam_deny.so\n"), files[1]];
        assert_eq!(account(&included, &[("pam_deny.so", Code::ACCT_EXPIRED)]), Code::SUCCESS);
    }

    #[test]
    fn includes_that_include_themselves_end() {
        let mut tree = MemTree::new();
        tree.file("/etc/pam.d/sshd", 0o644, 0, 0, "account include sshd\naccount include sshd\n".as_bytes());
        assert!(load(&tree, "sshd").is_err());
        tree.file("/etc/pam.d/sshd", 0o644, 0, 0, "@include sshd\n".repeat(10).as_bytes());
        assert!(load(&tree, "sshd").is_err());
    }

    fn lines(text: &[u8], any_length: bool) -> Result<Vec<(u32, Vec<String>)>, Unfinished> {
        let mut lines = Lines { rest: text, number: 1, any_length };
        let mut all = Vec::new();
        while let Some((number, line)) = lines.next()? {
            all.push((number, words(&line)));
        }
        Ok(all)
    }

    fn of(line: u32, words: &str) -> (u32, Vec<String>) {
        (line, words.split(' ').map(str::to_owned).collect())
    }

    #[test]
    fn comments_continuations_and_brackets_are_read() {
        for any_length in [false, true] {
            assert_eq!(
                lines(b"account \\\n [success=1 default=ignore]\tpam_unix.so # x\n\n#y\n", any_length)
                    .unwrap(),
                [(1, vec!["account".to_owned(), "[success=1 default=ignore]".into(), "pam_unix.so".into()])]
            );
            assert_eq!(
                lines(b"a \\ \t\nb\n# c \\\nd # \\\ne\n", any_length).unwrap(),
                [of(1, "a b"), of(4, "d"), of(5, "e")]
            );
            for unfinished in [&b"a\n\\"[..], b"a\nb \\\n", b"a\n\\ \n"] {
                assert_eq!(lines(unfinished, any_length), Err(Unfinished(2)), "{unfinished:?}");
            }
        }
    }

    #[test]
    fn from_1_6_a_blank_line_ends_a_continued_one_and_a_long_one_is_one() {
        assert_eq!(lines(b"a \\\n\n# x\nb\n", false).unwrap(), [of(1, "a b")]);
        assert_eq!(lines(b"a \\\n\n# x\nb\n", true).unwrap(), [of(1, "a"), of(4, "b")]);
        let long = [&b"a "[..], &[b'x'; 1030], b"\n"].concat();
        assert_eq!(lines(&long, true).unwrap().len(), 1);
        assert_eq!(
            lines(&long, false).unwrap(),
            [of(1, &format!("a {}", "x".repeat(1021))), of(1, &"x".repeat(9))]
        );
        let endless = b"a \\\n".repeat(600);
        assert_eq!(lines(&endless, false), Err(Unfinished(1)));
    }
}
