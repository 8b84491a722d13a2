//! Everything that can be seen of a filesystem from outside, entry by entry.

use super::script;
use anyhow::Result;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Path in the volume to everything known about the entry.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Manifest(BTreeMap<PathBuf, String>);

/// Reads below `$ROOT`: type, mode, ids, size, link target, content, attributes (ACLs and labels too), inode flags.
pub(crate) const READ: &str = r#"
cd "$ROOT"
find . -xdev -printf 'P\t%p\t%y %#m %U:%G %l\n'
find . -xdev -type f -printf 'P\t%p\tsize %s links %n\n'
find . -xdev -type f -print0 | xargs -0 -r sha256sum -- | sed 's|^\([^ ]*\)  \(.*\)|P\t\2\t\1|'
getfattr --recursive --physical --dump --match=- --encoding=hex . 2>/dev/null |
    awk '/^# file: / { path = substr($0, 9); next } NF { print "P\t./" path "\t" $0 }'
find . -xdev \( -type f -o -type d \) -print0 | xargs -0 -r lsattr -d 2>/dev/null |
    sed -n 's|^\([-a-zA-Z]*\) \(.*\)|\2\t\1|p' | while IFS='	' read -r path flags; do
        case $flags in *[ia]*) printf 'P\t%s\tflags %s\n' "$path" "$(printf %s "$flags" | tr -cd ia)" ;; esac
    done
"#;

impl Manifest {
    /// What [`READ`] printed.
    pub(crate) fn parse(text: &str) -> Self {
        let mut entries = BTreeMap::<PathBuf, String>::new();
        for line in text.lines() {
            let mut fields = line.splitn(3, '\t');
            let (Some("P"), Some(path), Some(fact)) = (fields.next(), fields.next(), fields.next()) else {
                continue;
            };
            let path =
                Path::new("/").join(if path == "." { "" } else { path.strip_prefix("./").unwrap_or(path) });
            let entry = entries.entry(path).or_default();
            entry.push_str(fact);
            entry.push('\n');
        }
        Self(entries)
    }

    /// Of a directory.
    pub(crate) fn of_directory(directory: &Path) -> Result<Self> {
        Ok(Self::parse(&script(READ, &[("ROOT", directory)])?))
    }

    /// Number of entries.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The paths that are not the same, each with what was and what is.
    pub(crate) fn changes<'a>(&'a self, after: &'a Self) -> BTreeMap<&'a Path, (&'a str, &'a str)> {
        let paths = self.0.keys().chain(after.0.keys());
        paths
            .filter_map(|path| {
                let was = self.0.get(path).map_or("absent", String::as_str);
                let is = after.0.get(path).map_or("absent", String::as_str);
                (was != is).then_some((path.as_path(), (was, is)))
            })
            .collect()
    }
}
