//! The ssh unit of systemd, enabled and not masked (`--fix service`), as `systemctl enable` and `systemctl unmask` do it
//! on a volume that does not run (systemd.unit(5), section "Install").

use super::action::{Action, Before, Change};
use super::builder::Builder;
use super::fix::{self, Proposal, why};
use crate::finding::{CheckId, Finding, FixedBy};
use crate::sshd::evaluate::Evaluation;
use crate::view::{LookError, View, follow, read_following};
use bstr::ByteSlice;
use std::path::{Path, PathBuf};

const OWN: &str = "/etc/systemd/system";
/// Units are short.
const UNIT_LIMIT: u64 = 256 << 10;

/// Plans what makes the service start at boot again.
pub fn mend(builder: &mut Builder<'_>, ask: &dyn Fn(&dyn View) -> Evaluation) {
    fix::mend(builder, FixedBy::Service, ask, &|view, finding| match (finding.check, &finding.path) {
        (CheckId::ServiceDisabled, Some(path)) if finding.is == "disabled" => {
            vec![enable(view, path, finding)]
        }
        // A unit that is masked, or a file whose presence keeps sshd from starting.
        (CheckId::ServiceDisabled, Some(path)) => vec![remove(view, path, finding)],
        _ => Vec::new(),
    });
}

fn remove(view: &dyn View, path: &Path, finding: &Finding) -> Proposal {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let parent = follow(view, parent).map_err(|error| format!("{}: {error}", parent.display()))?;
    let path = parent.path.join(path.file_name().unwrap_or_default());
    let stat = view.lstat(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let change = match view.read_link(&path) {
        Ok(target) => Change::RemoveLink { target },
        Err(_) if stat.is_file() && stat.nlink == 1 => Change::RemoveFile {
            before: Before::Regular { ino: stat.ino, size: stat.size, mtime: stat.mtime },
        },
        Err(_) => return Err(format!("{} is {}, and is not removed", path.display(), stat.kind.words())),
    };
    Ok(vec![Action { path, change, why: why(finding) }])
}

/// The links that [Install] asks for.
fn enable(view: &dyn View, unit: &Path, finding: &Finding) -> Proposal {
    let text =
        read_following(view, unit, UNIT_LIMIT).map_err(|error| format!("{}: {error}", unit.display()))?;
    let name = unit.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let why = why(finding);
    let own = follow(view, Path::new(OWN)).map_err(|error| format!("{OWN}: {error}"))?.path;
    let mut actions = Vec::new();
    let mut made: Vec<PathBuf> = Vec::new();
    for (key, value) in install(&text) {
        let link = match key {
            "WantedBy" => own.join(format!("{value}.wants")).join(name),
            "RequiredBy" => own.join(format!("{value}.requires")).join(name),
            _ => own.join(&value),
        };
        let directory = link.parent().unwrap_or(&own).to_path_buf();
        if view.lstat(&directory) == Err(LookError::NotFound) && !made.contains(&directory) {
            let change = Change::CreateDirectory { mode: 0o755, uid: 0, gid: 0, xattrs: Vec::new() };
            actions.push(Action { path: directory.clone(), change, why: why.clone() });
            made.push(directory);
        }
        if view.lstat(&link) == Err(LookError::NotFound) {
            let change = Change::CreateLink { target: unit.to_path_buf(), uid: 0, gid: 0 };
            actions.push(Action { path: link, change, why: why.clone() });
        }
    }
    Ok(actions)
}

/// WantedBy, RequiredBy and Alias of a unit, one name each. Names with a specifier or a slash are nothing for sshd.
fn install(text: &[u8]) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        let line = line.trim_ascii();
        if line.starts_with(b"[") {
            inside = line == b"[Install]";
            continue;
        }
        let Some((key, value)) = line.split_once_str("=").filter(|_| inside) else { continue };
        let Some(key) = ["WantedBy", "RequiredBy", "Alias"]
            .into_iter()
            .find(|known| key.trim_ascii() == known.as_bytes())
        else {
            continue;
        };
        for name in value.to_str().unwrap_or_default().split_whitespace() {
            if !name.contains(['/', '%']) {
                found.push((key, name.to_owned()));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_install_section_is_read() {
        let text = b"[Unit]\nWantedBy=no.target\n[Install]\n WantedBy = a.target b.target\n#Alias=x\nAlias=sshd.service\nAlias=../x\n[X]\nAlias=no\n";
        let found = install(text);
        let expected = [("WantedBy", "a.target"), ("WantedBy", "b.target"), ("Alias", "sshd.service")];
        assert_eq!(found, expected.map(|(key, value)| (key, value.to_owned())));
    }
}
