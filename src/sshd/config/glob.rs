//! glob(3) inside the volume, for Include: sorted bytewise, names with a leading dot only by a literal dot.

use crate::view::{LookError, View, follow, walk_no_follow};
use bstr::ByteSlice;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The most paths that a pattern may come to, and the most names that are looked at for it.
const MAX_PATHS: usize = 5000;
const MAX_NAMES: usize = 200_000;

/// One byte of a pattern's component.
#[derive(Debug)]
enum Token {
    Byte(u8),
    Any,
    Star,
    Set { negated: bool, ranges: Vec<(u8, u8)> },
}

impl Token {
    fn matches(&self, byte: u8) -> bool {
        match self {
            Self::Byte(own) => *own == byte,
            Self::Any => true,
            Self::Star => false,
            Self::Set { negated, ranges } => {
                ranges.iter().any(|(from, to)| (*from..=*to).contains(&byte)) != *negated
            }
        }
    }
}

/// The paths that match, in sshd's order. A relative pattern is taken from `/`, where sshd is started.
///
/// # Errors
/// In words: there are more than are looked at.
pub(super) fn glob(view: &dyn View, pattern: &[u8]) -> Result<Vec<PathBuf>, String> {
    let mut names_left = MAX_NAMES;
    let mut paths: Vec<Vec<u8>> = vec![Vec::new()];
    let mut components = pattern.split_str("/").peekable();
    let mut first = true;
    while let Some(component) = components.next() {
        let last = components.peek().is_none();
        let mut next = Vec::new();
        for path in &paths {
            let mut prefix = path.clone();
            if !first {
                prefix.push(b'/');
            }
            match compile(component) {
                Err(literal) => {
                    prefix.extend_from_slice(&literal);
                    if !last || exists(view, &prefix) {
                        next.push(prefix);
                    }
                }
                Ok(tokens) => {
                    let directory = follow(view, &absolute(&prefix));
                    let Ok(directory) = directory else { continue };
                    let names = match view.list(&directory.path) {
                        Err(error @ LookError::TooLarge { .. }) => return Err(error.to_string()),
                        names => names.unwrap_or_default(),
                    };
                    names_left = names_left
                        .checked_sub(names.len())
                        .ok_or_else(|| format!("it looks at more than {MAX_NAMES} names"))?;
                    let found = names.iter().filter(|name| matches(&tokens, name.as_bytes()));
                    next.extend(found.map(|name| [&prefix, name.as_bytes()].concat()));
                    if next.len() > MAX_PATHS {
                        return Err(format!("it comes to more than {MAX_PATHS} files"));
                    }
                }
            }
        }
        paths = next;
        first = false;
    }
    paths.sort();
    Ok(paths.iter().map(|path| absolute(path)).collect())
}

fn absolute(path: &[u8]) -> PathBuf {
    Path::new("/").join(OsStr::from_bytes(path))
}

fn exists(view: &dyn View, path: &[u8]) -> bool {
    walk_no_follow(view, &absolute(path)).end.is_ok()
}

/// The tokens of a component with wildcards, else the name itself.
fn compile(component: &[u8]) -> Result<Vec<Token>, Vec<u8>> {
    let mut tokens = Vec::new();
    let mut literal = Vec::new();
    let mut wild = false;
    let mut at = 0;
    while let Some(&byte) = component.get(at) {
        at += 1;
        match byte {
            b'*' => {
                wild = true;
                if !matches!(tokens.last(), Some(Token::Star)) {
                    tokens.push(Token::Star);
                }
            }
            b'?' => {
                wild = true;
                tokens.push(Token::Any);
            }
            b'[' => match set(&component[at..]) {
                Some((token, length)) => {
                    wild = true;
                    tokens.push(token);
                    at += length;
                }
                None => {
                    literal.push(byte);
                    tokens.push(Token::Byte(byte));
                }
            },
            _ => {
                let byte = match (byte, component.get(at)) {
                    (b'\\', Some(&escaped)) => {
                        at += 1;
                        escaped
                    }
                    _ => byte,
                };
                literal.push(byte);
                tokens.push(Token::Byte(byte));
            }
        }
    }
    if wild { Ok(tokens) } else { Err(literal) }
}

/// A bracket expression after its `[`: the set, and how many bytes it takes.
fn set(text: &[u8]) -> Option<(Token, usize)> {
    let negated = matches!(text.first(), Some(b'!' | b'^'));
    let mut at = usize::from(negated);
    let start = at;
    let mut ranges = Vec::new();
    loop {
        let byte = *text.get(at)?;
        if byte == b']' && at > start {
            return Some((Token::Set { negated, ranges }, at + 1));
        }
        if let Some(class) = text[at..].strip_prefix(b"[:")
            && let Some(end) = class.find(b":]")
        {
            ranges.extend_from_slice(class_ranges(&class[..end])?);
            at += end + 4;
            continue;
        }
        match (text.get(at + 1), text.get(at + 2)) {
            (Some(b'-'), Some(&to)) if to != b']' => {
                ranges.push((byte, to));
                at += 3;
            }
            _ => {
                ranges.push((byte, byte));
                at += 1;
            }
        }
    }
}

fn class_ranges(name: &[u8]) -> Option<&'static [(u8, u8)]> {
    Some(match name {
        b"digit" => &[(b'0', b'9')],
        b"lower" => &[(b'a', b'z')],
        b"upper" => &[(b'A', b'Z')],
        b"alpha" => &[(b'a', b'z'), (b'A', b'Z')],
        b"alnum" => &[(b'a', b'z'), (b'A', b'Z'), (b'0', b'9')],
        b"xdigit" => &[(b'a', b'f'), (b'A', b'F'), (b'0', b'9')],
        b"punct" => &[(b'!', b'/'), (b':', b'@'), (b'[', b'`'), (b'{', b'~')],
        b"space" => &[(b'\t', b'\r'), (b' ', b' ')],
        _ => return None,
    })
}

fn matches(tokens: &[Token], name: &[u8]) -> bool {
    if name.starts_with(b".") && !matches!(tokens.first(), Some(Token::Byte(b'.'))) {
        return false;
    }
    let (mut at, mut next) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while at < name.len() {
        match tokens.get(next) {
            Some(Token::Star) => {
                next += 1;
                star = Some((at, next));
            }
            Some(token) if token.matches(name[at]) => {
                at += 1;
                next += 1;
            }
            _ => {
                let Some((from, after)) = star else { return false };
                at = from + 1;
                next = after;
                star = Some((at, after));
            }
        }
    }
    tokens[next..].iter().all(|token| matches!(token, Token::Star))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::memory::MemTree;
    use proptest::prelude::*;

    fn found(pattern: &str) -> Vec<String> {
        let mut tree = MemTree::new();
        for name in ["10.conf", "9.conf", "Z.conf", "a.conf", ".hidden.conf", "a.conf.bak", "b[1]"] {
            tree.file(&format!("/etc/ssh/sshd_config.d/{name}"), 0o644, 0, 0, b"");
        }
        tree.link("/etc/ssh/sshd_config.d/dangling.conf", "/nowhere");
        tree.link("/etc/ssh/other.d", "sshd_config.d");
        glob(&tree, pattern.as_bytes()).unwrap().iter().map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn paths_are_sorted_bytewise_and_dot_files_left_out() {
        let dir = "/etc/ssh/sshd_config.d";
        let all =
            ["10.conf", "9.conf", "Z.conf", "a.conf", "dangling.conf"].map(|name| format!("{dir}/{name}"));
        assert_eq!(found("/etc/ssh/sshd_config.d/*.conf"), all);
        assert_eq!(found("/etc/*/sshd_config.d/[0-9]*.conf"), &all[..2]);
        assert_eq!(found("/etc/ssh/other.d/?.conf").len(), 3);
        assert_eq!(found("/etc/ssh/sshd_config.d/[!0-9]*.conf"), &all[2..]);
        assert_eq!(found("/etc/ssh/sshd_config.d/dangling.conf"), [format!("{dir}/dangling.conf")]);
        assert_eq!(found(r"/etc/ssh/sshd_config.d/b\[1\]"), [format!("{dir}/b[1]")]);
        assert!(found("/etc/ssh/none/*.conf").is_empty() && found("/nowhere").is_empty());
        assert_eq!(found("/etc/ssh/sshd_config.d/.h*"), [format!("{dir}/.hidden.conf")]);
    }

    proptest! {
        #[test]
        fn no_pattern_makes_it_panic(pattern: Vec<u8>) {
            let mut tree = MemTree::new();
            tree.file("/etc/ssh/a", 0o644, 0, 0, b"");
            let _ = glob(&tree, &pattern);
            let _ = glob(&tree, &[b"/etc/ssh/[".as_slice(), &pattern].concat());
        }
    }
}
