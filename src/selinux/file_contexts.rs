//! The rules of selabel_file(5) and the order in which libselinux asks them.
//!
//! A path is first put through the substitutions, those of the administrator before those of the distribution, the last
//! line of a file first. Then the rules without a metacharacter are tried, the last one first, and after them the
//! others, again the last one first. A rule whose first component is plain is asked only for paths below that
//! component, and then only with the rest of both; the expression is anchored by `^` and `$` without brackets, so
//! that an alternative of its own is anchored at one end only. `$` also matches before a final newline, as in PCRE.
//!
//! So do libselinux up to 3.7 and from 3.9 on. In between, of rules for one plain path in several files the first counted,
//! and substitutions were asked otherwise; that was mended as a mistake, and no version is looked for here.
//!
//! What a hostile policy could make large is bounded: the number of rules, the size of one expression, and what all
//! of them cost together. A rule that cannot be compiled within that leaves the answer open.

use crate::view::FileKind;
use bstr::ByteSlice;
use regex::bytes::{Regex, RegexBuilder};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// More rules than the largest distribution has, many times over.
const MOST_RULES: usize = 200_000;
/// The compiled form of one rule, in bytes.
const REGEX_SIZE: usize = 48 << 10;
/// What matching one of them may remember, in bytes.
const DFA_SIZE: usize = 32 << 10;
/// The longest expression, in bytes.
const LONGEST: usize = 4096;
/// What may be compiled in all, in bytes of source; repetitions with a count are dearer.
const BUDGET: usize = 4 << 20;
const COUNTED: usize = 8 << 10;
/// Compiled rules that are kept.
const CACHE: usize = 1024;

const META: &[u8] = b".^$?*+|[({";

#[derive(Debug)]
struct Rule {
    pattern: Vec<u8>,
    /// Length of the plain first component, if there is one.
    stem: Option<usize>,
    /// What every path that matches begins with.
    prefix: Vec<u8>,
    kind: Option<FileKind>,
    context: String,
}

/// All rules, in the order in which libselinux stores them: it asks them from the end.
#[derive(Debug)]
pub(super) struct FileContexts {
    rules: Vec<Rule>,
    /// The lists of substitutions, in the order in which they are asked.
    substitutions: [Vec<(Vec<u8>, Vec<u8>)>; 2],
    compiled: RefCell<HashMap<usize, Option<Regex>>>,
    budget: Cell<usize>,
}

/// What the rules give.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Given<'a> {
    Context(&'a str),
    Nothing,
    /// This expression is beyond what is compiled here, and could match.
    Undecided(String),
}

impl FileContexts {
    /// `rules` are file_contexts, .homedirs and .local; `subs` .subs and .subs_dist.
    pub(super) fn parse(rules: &[Vec<u8>; 3], subs: &[Vec<u8>; 2]) -> Result<Self, String> {
        let mut all = Vec::new();
        for rule in rules.iter().flat_map(|text| text.lines()).filter_map(parse_rule) {
            all.push(rule);
            if all.len() > MOST_RULES {
                return Err(format!("more than {MOST_RULES} rules"));
            }
        }
        let (mut sorted, plain): (Vec<Rule>, Vec<Rule>) =
            all.into_iter().partition(|rule| has_meta(&rule.pattern));
        sorted.extend(plain);
        Ok(Self {
            rules: sorted,
            substitutions: [substitutions(&subs[0]), substitutions(&subs[1])],
            compiled: RefCell::default(),
            budget: Cell::new(BUDGET),
        })
    }

    pub(super) fn lookup(&self, path: &Path, kind: FileKind) -> Given<'_> {
        let mut key = path.as_os_str().as_bytes().to_vec();
        for list in &self.substitutions {
            if let Some(other) = list.iter().find_map(|(from, to)| substitute(&key, from, to)) {
                key = other;
            }
        }
        for (at, rule) in self.rules.iter().enumerate().rev() {
            if rule.kind.is_some_and(|only| only != kind) || !key.starts_with(&rule.prefix) {
                continue;
            }
            let rest = match rule.stem {
                None => &key[..],
                Some(stem) if first_component(&key) == Some(stem) && key[..stem] == rule.pattern[..stem] => {
                    &key[stem..]
                }
                Some(_) => continue,
            };
            match self.matches(at, rest) {
                Some(true) if rule.context == "<<none>>" => return Given::Nothing,
                Some(true) => return Given::Context(&rule.context),
                Some(false) => {}
                None => return Given::Undecided(rule.pattern.to_str_lossy().into_owned()),
            }
        }
        Given::Nothing
    }

    /// `None` where the rule cannot be compiled.
    fn matches(&self, at: usize, text: &[u8]) -> Option<bool> {
        let mut compiled = self.compiled.borrow_mut();
        if compiled.len() >= CACHE {
            compiled.clear();
        }
        let regex = compiled.entry(at).or_insert_with(|| self.compile(&self.rules[at]));
        regex.as_ref().map(|regex| regex.is_match(text))
    }

    fn compile(&self, rule: &Rule) -> Option<Regex> {
        let source = rule.pattern[rule.stem.unwrap_or(0)..].to_str().ok()?;
        let cost = 64 + source.len() + source.matches('{').count() * COUNTED;
        let left = self.budget.get().checked_sub(cost)?;
        self.budget.set(left);
        if source.len() > LONGEST {
            return None;
        }
        RegexBuilder::new(&format!(r"^{source}(?:\n?\z)"))
            .unicode(false)
            .dot_matches_new_line(true)
            .size_limit(REGEX_SIZE)
            .dfa_size_limit(DFA_SIZE)
            .nest_limit(64)
            .build()
            .ok()
    }
}

/// `EXPRESSION [TYPE] CONTEXT`; `None` for a comment and for what libselinux refuses.
fn parse_rule(line: &[u8]) -> Option<Rule> {
    let line = line.trim_ascii();
    if line.first().is_none_or(|first| *first == b'#') || !line.is_ascii() {
        return None;
    }
    let mut fields = line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
    let (pattern, second) = (fields.next()?, fields.next()?);
    let (kind, context) = match fields.next() {
        None => (None, second),
        Some(context) => (Some(kind_of(second)?), context),
    };
    let stem =
        first_component(pattern).filter(|stem| !pattern[..*stem].iter().any(|byte| META.contains(byte)));
    Some(Rule {
        pattern: pattern.to_vec(),
        stem,
        prefix: prefix_of(pattern),
        kind,
        context: String::from_utf8_lossy(context).into_owned(),
    })
}

fn kind_of(word: &[u8]) -> Option<FileKind> {
    Some(match word {
        b"--" => FileKind::Regular,
        b"-d" => FileKind::Directory,
        b"-l" => FileKind::Symlink,
        b"-p" => FileKind::Fifo,
        b"-s" => FileKind::Socket,
        b"-c" => FileKind::CharDevice,
        b"-b" => FileKind::BlockDevice,
        _ => return None,
    })
}

/// Length of "/usr" in "/usr/bin"; none where there is no second slash.
fn first_component(path: &[u8]) -> Option<usize> {
    path.get(1..)?.find_byte(b'/').map(|at| at + 1)
}

/// A backslash takes the meaning from the next character.
fn has_meta(pattern: &[u8]) -> bool {
    let mut bytes = pattern.iter();
    while let Some(byte) = bytes.next() {
        if *byte == b'\\' {
            bytes.next();
        } else if META.contains(byte) {
            return true;
        }
    }
    false
}

/// The plain beginning of an expression; empty where an alternative could begin otherwise.
fn prefix_of(pattern: &[u8]) -> Vec<u8> {
    if pattern.contains(&b'|') && !pattern.contains(&b'(') || has_outer_alternative(pattern) {
        return Vec::new();
    }
    let end = pattern.iter().position(|byte| META.contains(byte) || *byte == b'\\').unwrap_or(pattern.len());
    // A quantifier speaks of the character before it.
    let quantified = pattern.get(end).is_some_and(|byte| b"?*+{".contains(byte));
    pattern[..end.saturating_sub(usize::from(quantified))].to_vec()
}

fn has_outer_alternative(pattern: &[u8]) -> bool {
    let mut depth = 0_i32;
    let mut bytes = pattern.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => {
                bytes.next();
            }
            b'(' => depth += 1,
            b')' => depth -= 1,
            // A bracket in a class may mislead the count; then the prefix is only not used.
            b'|' if depth <= 0 => return true,
            b'[' if pattern.contains(&b'|') => return true,
            _ => {}
        }
    }
    false
}

/// `FROM TO` on each line; libselinux asks the last line first.
fn substitutions(text: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let pair = |line: &[u8]| {
        let line = line.trim_ascii();
        let mut fields = line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
        let (from, to) = (fields.next()?, fields.next()?);
        (!line.starts_with(b"#")).then(|| (from.to_vec(), to.to_vec()))
    };
    let mut pairs: Vec<_> = text.lines().filter_map(pair).take(10_000).collect();
    pairs.reverse();
    pairs
}

fn substitute(path: &[u8], from: &[u8], to: &[u8]) -> Option<Vec<u8>> {
    let rest = path.strip_prefix(from)?;
    match rest.first() {
        None => Some(to.to_vec()),
        Some(b'/') if to == b"/" => Some(rest.to_vec()),
        Some(b'/') => Some([to, rest].concat()),
        Some(_) => None,
    }
}
