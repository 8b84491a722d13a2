//! As much of YAML as cloud.cfg needs: block mappings and lists by indentation, flow collections, quotes, comments.
//!
//! Never fails: what it does not understand it passes over. Anchors, aliases, tags and multi-line scalars are not read.

use std::collections::BTreeMap;

/// A value that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// A plain or quoted scalar.
    Scalar(String),
    /// The scalars of a list.
    List(Vec<String>),
}

/// Values by the keys that lead to them.
pub(super) type Values = BTreeMap<Vec<String>, Value>;

/// Nested deeper, a value is passed over.
const MAX_DEPTH: usize = 16;
/// The longest flow collection, in bytes.
const MAX_FLOW: usize = 64 << 10;
/// The most values of one file.
const MAX_VALUES: usize = 1000;
/// The longest list that is kept.
const MAX_LIST: usize = 1000;

/// The values below one of the `roots`, the first keys of their paths.
pub(super) fn parse(text: &str, roots: &[&str]) -> Values {
    let mut reader = Reader { roots, stack: Vec::new(), values: Values::new() };
    let mut block_scalar: Option<usize> = None;
    let mut lines = text.lines();
    while let Some(raw) = lines.next() {
        let indent = raw.len() - raw.trim_start_matches(' ').len();
        if block_scalar.is_some_and(|parent| raw.trim().is_empty() || indent > parent) {
            continue;
        }
        block_scalar = None;
        let line = without_comment(raw).trim();
        if line == "..." {
            break;
        }
        if line.is_empty() || line.starts_with("---") || line.starts_with('%') {
            continue;
        }
        if let Some(item) = line.strip_prefix('-').filter(|item| item.is_empty() || item.starts_with(' ')) {
            reader.item(indent, item.trim());
            continue;
        }
        let Some((key, rest)) = split_key(line) else { continue };
        let mut rest = rest.trim().to_owned();
        if rest.starts_with(['|', '>']) {
            block_scalar = Some(indent);
            rest.clear();
        }
        if rest.starts_with(['[', '{']) {
            // A flow collection may go on over the next lines.
            let mut brackets = Brackets::default();
            let mut closed = brackets.closed_after(&rest);
            while !closed && rest.len() < MAX_FLOW {
                let Some(more) = lines.next() else { break };
                let more = without_comment(more).trim();
                closed = brackets.closed_after(more);
                rest.push(' ');
                rest.push_str(more);
            }
        }
        reader.key(indent, key, &rest);
    }
    reader.values
}

struct Reader<'a> {
    roots: &'a [&'a str],
    /// Indentation and key of the mappings that are open; "-" stands for a list item.
    stack: Vec<(usize, String)>,
    values: Values,
}

impl Reader<'_> {
    fn path(&self, key: Option<&str>) -> Vec<String> {
        self.stack.iter().map(|(_, key)| key.clone()).chain(key.map(str::to_owned)).collect()
    }

    fn wanted(&self, path: &[String]) -> bool {
        path.len() <= MAX_DEPTH
            && self.values.len() < MAX_VALUES
            && path.first().is_some_and(|first| self.roots.contains(&first.as_str()))
    }

    fn key(&mut self, indent: usize, key: String, rest: &str) {
        while self.stack.last().is_some_and(|(at, _)| *at >= indent) {
            self.stack.pop();
        }
        let path = self.path(Some(&key));
        if self.stack.len() <= MAX_DEPTH {
            self.stack.push((indent, key));
        }
        if !self.wanted(&path) {
            return;
        }
        // The last of two equal keys counts, with all below it.
        self.values.retain(|at, _| !at.starts_with(&path));
        if rest.starts_with(['[', '{']) {
            Flow { rest }.value(path, &mut self.values, 0);
        } else if !rest.is_empty() {
            self.values.insert(path, Value::Scalar(scalar(rest)));
        }
    }

    fn item(&mut self, indent: usize, item: &str) {
        while self.stack.last().is_some_and(|(at, key)| *at > indent || (*at == indent && key == "-")) {
            self.stack.pop();
        }
        let path = self.path(None);
        if self.stack.len() <= MAX_DEPTH {
            self.stack.push((indent, "-".to_owned()));
        }
        if !self.wanted(&path) || item.is_empty() || path.iter().any(|key| key == "-") {
            return;
        }
        if item.starts_with(['[', '{']) || split_key(item).is_some() {
            return;
        }
        let list = self.values.entry(path).or_insert_with(|| Value::List(Vec::new()));
        match list {
            Value::List(items) if items.len() < MAX_LIST => items.push(scalar(item)),
            Value::List(_) => {}
            Value::Scalar(_) => *list = Value::List(vec![scalar(item)]),
        }
    }
}

/// A flow collection, read from the front.
struct Flow<'a> {
    rest: &'a str,
}

impl Flow<'_> {
    fn value(&mut self, path: Vec<String>, values: &mut Values, depth: usize) {
        if depth > MAX_DEPTH {
            self.rest = "";
            return;
        }
        self.blanks();
        if self.take('{') {
            while !self.rest.is_empty() && !self.take('}') {
                let key = self.scalar(&[':', ',', '}', ']']);
                self.blanks();
                if self.take(':') && values.len() < MAX_VALUES {
                    let mut path = path.clone();
                    path.push(key);
                    self.value(path, values, depth + 1);
                }
                self.blanks();
                self.skip_separator('}');
            }
        } else if self.take('[') {
            let mut items = Vec::new();
            while !self.rest.is_empty() && !self.take(']') {
                self.blanks();
                if self.rest.starts_with(['[', '{']) {
                    self.value(vec!["-".to_owned()], &mut Values::new(), depth + 1);
                } else {
                    let item = self.scalar(&[',', ']', '}']);
                    if !item.is_empty() && items.len() < MAX_LIST {
                        items.push(item);
                    }
                }
                self.blanks();
                self.skip_separator(']');
            }
            values.insert(path, Value::List(items));
        } else {
            let value = self.scalar(&[',', '}', ']']);
            values.insert(path, Value::Scalar(value));
        }
    }

    fn blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, wanted: char) -> bool {
        self.blanks();
        match self.rest.strip_prefix(wanted) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Goes on at every step, so that a stray bracket cannot hold up the loop.
    fn skip_separator(&mut self, close: char) {
        if !self.rest.starts_with(close) {
            let mut chars = self.rest.chars();
            chars.next();
            self.rest = chars.as_str();
        }
    }

    fn scalar(&mut self, ends: &[char]) -> String {
        self.blanks();
        let length = match self.rest.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                closing_quote(self.rest, quote).map_or(self.rest.len(), |at| at + 1)
            }
            _ => self.rest.find(ends).unwrap_or(self.rest.len()),
        };
        let (text, rest) = self.rest.split_at(length);
        self.rest = rest;
        scalar(text.trim())
    }
}

/// Brackets outside quotes, counted as the text goes by.
#[derive(Default)]
struct Brackets {
    depth: i32,
    quote: Option<char>,
}

impl Brackets {
    /// Are all closed after this, too?
    fn closed_after(&mut self, text: &str) -> bool {
        for c in text.chars() {
            match (self.quote, c) {
                (None, '"' | '\'') => self.quote = Some(c),
                (Some(open), c) if open == c => self.quote = None,
                (None, '[' | '{') => self.depth += 1,
                (None, ']' | '}') => self.depth -= 1,
                _ => {}
            }
        }
        self.depth <= 0
    }
}

/// The line up to a `#` that begins it or follows a blank, outside quotes.
fn without_comment(line: &str) -> &str {
    let mut quote = None;
    let mut before = ' ';
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (None, '#') if before.is_whitespace() => return &line[..at],
            (None, '"' | '\'') if before.is_whitespace() || matches!(before, '[' | '{' | ',' | ':') => {
                quote = Some(c);
            }
            (Some(open), c) if open == c => quote = None,
            _ => {}
        }
        before = c;
    }
    line
}

/// "key: rest" or "key:".
fn split_key(line: &str) -> Option<(String, &str)> {
    let after_key = match line.chars().next()? {
        quote @ ('"' | '\'') => closing_quote(line, quote)? + 1,
        '[' | '{' => return None,
        _ => {
            let colon = line.match_indices(':').map(|(at, _)| at);
            let mut ends = colon.filter(|at| line[at + 1..].chars().next().is_none_or(char::is_whitespace));
            ends.next()?
        }
    };
    let rest = line[after_key..].trim_start().strip_prefix(':')?;
    Some((scalar(line[..after_key].trim()), rest))
}

fn closing_quote(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' && quote == '"' {
            escaped = true;
        } else if c == quote {
            return Some(at);
        }
    }
    None
}

/// Without the quotes around it.
fn scalar(text: &str) -> String {
    for quote in ['"', '\''] {
        if let Some(inner) = text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) {
            return if quote == '\'' { inner.replace("''", "'") } else { inner.replace("\\\"", "\"") };
        }
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn get(text: &str, path: &[&str]) -> Option<Value> {
        let path: Vec<String> = path.iter().map(|key| (*key).to_owned()).collect();
        parse(text, &[path[0].as_str()]).get(&path).cloned()
    }

    fn word(text: &str) -> Option<Value> {
        Some(Value::Scalar(text.to_owned()))
    }

    fn list(items: &[&str]) -> Option<Value> {
        Some(Value::List(items.iter().map(|item| (*item).to_owned()).collect()))
    }

    #[test]
    fn mappings_nest_by_indentation() {
        let text = "# c\nusers:\n   - default\nsystem_info:\n  # c\n  distro: debian\n  default_user:\n     name: admin # c\n     sudo: [\"ALL=(ALL) NOPASSWD:ALL\"]\n     groups: [adm, 'audio',\n       cdrom]\n     gecos: A # B\n  other:\n    name: no\nname: no\n";
        assert_eq!(get(text, &["system_info", "default_user", "name"]), word("admin"));
        assert_eq!(get(text, &["system_info", "default_user", "groups"]), list(&["adm", "audio", "cdrom"]));
        assert_eq!(get(text, &["system_info", "default_user", "sudo"]), list(&["ALL=(ALL) NOPASSWD:ALL"]));
        assert_eq!(get(text, &["system_info", "default_user", "gecos"]), word("A"));
        assert_eq!(get(text, &["system_info", "other", "name"]), word("no"));
    }

    #[test]
    fn block_lists_may_stand_at_the_indentation_of_their_key() {
        let text = "a:\n  groups:\n  - adm\n  - \"wheel\"\n  name: x\n  more:\n    - name: y\n      groups: [z]\n    - plain\n  last: 1\n";
        assert_eq!(get(text, &["a", "groups"]), list(&["adm", "wheel"]));
        assert_eq!(get(text, &["a", "name"]), word("x"));
        assert_eq!(get(text, &["a", "more"]), list(&["plain"]));
        assert_eq!(get(text, &["a", "last"]), word("1"));
    }

    #[test]
    fn flow_mappings_and_block_scalars_are_met() {
        let text = "s: {d: {name: \"u: x\", groups: [a, b], lock: True}, e: 1}\nt: |\n  s: no\n\n  d: no\nu: http://x:1/\n";
        assert_eq!(get(text, &["s", "d", "name"]), word("u: x"));
        assert_eq!(get(text, &["s", "d", "groups"]), list(&["a", "b"]));
        assert_eq!(get(text, &["s", "e"]), word("1"));
        assert_eq!(get(text, &["u"]), word("http://x:1/"));
        assert_eq!(get("s: {a: [}, b: ]\n", &["s", "x"]), None);
    }

    #[test]
    fn a_key_given_twice_counts_once_with_all_below() {
        let text = "s:\n  a: 1\ns:\n  b: 2\n";
        assert_eq!(get(text, &["s", "a"]), None);
        assert_eq!(get(text, &["s", "b"]), word("2"));
    }

    proptest! {
        #[test]
        fn any_text_is_met(text in "([a-c:{}\\[\\],'\"|#\\-\n é]|s: |  ){0,60}") {
            parse(&text, &["s", "a", "b", "c"]);
        }
    }

    #[test]
    fn deep_nesting_does_no_harm() {
        parse(&format!("s: {}", "[".repeat(200_000)), &["s"]);
        parse(&format!("s: {}", "{a: ".repeat(100_000)), &["s"]);
        let steps: String = (0..2000).map(|depth| format!("{}s:\n", " ".repeat(depth))).collect();
        parse(&steps, &["s"]);
        let items: String = (0..2000).map(|depth| format!("{}- \n", " ".repeat(depth))).collect();
        parse(&format!("s:\n{items}"), &["s"]);
    }
}
