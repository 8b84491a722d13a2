//! A disk that has the name of the helper's own root: whoever boots the helper by that name may get the other one.

use super::directory::superblock;
use super::mounted::RootInfo;
use super::proc::own_mounts;
use std::path::Path;

/// What the operator should know before the helper is rebooted; `None` where the names differ.
pub(super) fn note(root: &RootInfo) -> Option<String> {
    let own = own_mounts().into_iter().rfind(|line| line.point == Path::new("/"))?;
    let own = superblock(&own.source)?;
    words(root, own.uuid.as_deref(), own.label.as_deref())
}

fn words(root: &RootInfo, uuid: Option<&str>, label: Option<&str>) -> Option<String> {
    let same = |a: Option<&str>, b: Option<&str>| a.is_some() && a == b;
    let what = if same(root.uuid.as_deref(), uuid) {
        format!("the id {}", uuid.unwrap_or_default())
    } else if same(root.label.as_deref(), label) {
        format!("the label {}", label.unwrap_or_default())
    } else {
        return None;
    };
    Some(format!(
        "this machine's own root has {what} too: rebooted with this disk attached, it may come up from this one. Detach \
         the disk before any reboot of this machine"
    ))
}

#[cfg(test)]
mod tests {
    use super::super::Journal;
    use super::*;

    #[test]
    fn only_a_name_that_both_have_is_told() {
        let root = RootInfo {
            id: "p1".into(),
            filesystem: "ext4".into(),
            uuid: Some("ab-cd".into()),
            label: Some("cloudimg-rootfs".into()),
            partition: Some(1),
            logical_volume: None,
            subvolume: None,
            journal: Journal::Clean,
            is_read_only: false,
            os: None,
        };
        assert!(words(&root, Some("ab-cd"), None).unwrap().contains("the id ab-cd"));
        assert!(
            words(&root, Some("other"), Some("cloudimg-rootfs"))
                .unwrap()
                .contains("the label cloudimg-rootfs")
        );
        assert_eq!(words(&root, Some("other"), Some("root")), None);
        let nameless = RootInfo { uuid: None, label: None, ..root };
        assert_eq!(words(&nameless, None, None), None);
    }
}
