use super::*;
use crate::view::memory::MemTree;

const RULES: &[u8] = b"\
/.*\tsystem_u:object_r:default_t:s0
/home\t-d\tsystem_u:object_r:home_root_t:s0
/home/\\.journal\t<<none>>
/etc/.*\tsystem_u:object_r:etc_t:s0
/etc/passwd[-+]?\t--\tsystem_u:object_r:passwd_file_t:s0
# a comment
/etc/shadow.*\t--\tsystem_u:object_r:shadow_t:s0
/etc/exact\t--\tsystem_u:object_r:exact_t:s0
/etc/exac.\t--\tsystem_u:object_r:loose_t:s0
/srv/a|/srv/b\tsystem_u:object_r:half_t:s0
";
const HOMEDIRS: &[u8] = b"\
/home/[^/]+/.+\tunconfined_u:object_r:user_home_t:s0
/home/[^/]+/\\.ssh(/.*)?\tunconfined_u:object_r:ssh_home_t:s0
/home/[^/]+\t-d\tunconfined_u:object_r:user_home_dir_t:s0
";

/// Gives a tree a small policy in the form of the reference policy.
pub(crate) fn with_policy(tree: &mut MemTree) {
    let base = "/etc/selinux/targeted/contexts";
    tree.file(CONFIG, 0o644, 0, 0, b"# how\nSELINUX=enforcing\nSELINUXTYPE=targeted\n")
        .file(&format!("{base}/files/file_contexts"), 0o644, 0, 0, RULES)
        .file(&format!("{base}/files/file_contexts.homedirs"), 0o644, 0, 0, HOMEDIRS)
        .file(
            &format!("{base}/files/file_contexts.subs_dist"),
            0o644,
            0,
            0,
            b"/export/home /home\n/run /var/run\n",
        )
        .file(&format!("{base}/customizable_types"), 0o644, 0, 0, b"httpd_user_content_t\n");
}

fn policy() -> Policy {
    let mut tree = MemTree::new();
    with_policy(&mut tree);
    Policy::read(&tree)
}

fn label(policy: &Policy, path: &str, kind: FileKind) -> Option<String> {
    policy.context(Path::new(path), kind).unwrap().map(str::to_owned)
}

#[test]
fn the_last_rule_that_matches_decides_and_plain_rules_before_it() {
    use FileKind::{Directory, Regular};
    let policy = policy();
    for (path, kind, wanted) in [
        ("/etc/passwd", Regular, Some("system_u:object_r:passwd_file_t:s0")),
        ("/etc/passwd", Directory, Some("system_u:object_r:etc_t:s0")),
        ("/etc/exact", Regular, Some("system_u:object_r:exact_t:s0")),
        ("/etc/exacT", Regular, Some("system_u:object_r:loose_t:s0")),
        ("/home/u/.ssh", Directory, Some("unconfined_u:object_r:ssh_home_t:s0")),
        ("/export/home/u/.ssh/authorized_keys", Regular, Some("unconfined_u:object_r:ssh_home_t:s0")),
        ("/home/u", Directory, Some("unconfined_u:object_r:user_home_dir_t:s0")),
        ("/home/.journal", Regular, None),
        ("/srv/a/in", Regular, Some("system_u:object_r:half_t:s0")),
        ("/nowhere", Regular, Some("system_u:object_r:default_t:s0")),
    ] {
        assert_eq!(label(&policy, path, kind).as_deref(), wanted, "{path}");
    }
}

#[test]
fn of_a_wrong_label_only_the_type_changes() {
    let policy = policy();
    let restore = |now: Option<&str>| {
        let now = now.map(value);
        policy.restore(Path::new("/home/u/.ssh"), FileKind::Directory, now.as_deref())
    };
    assert_eq!(restore(None), Label::Wrong("unconfined_u:object_r:ssh_home_t:s0".into()));
    assert_eq!(
        restore(Some("staff_u:object_r:user_home_t:s0-s3:c1.c4,c9")),
        Label::Wrong("staff_u:object_r:ssh_home_t:s0-s3:c1.c4,c9".into())
    );
    assert_eq!(restore(Some("staff_u:object_r:ssh_home_t:s0:c5")), Label::Right);
    assert_eq!(restore(Some("u:object_r:httpd_user_content_t:s0")), Label::Right, "customizable");
    assert_eq!(restore(Some("garbage")), Label::Wrong("unconfined_u:object_r:ssh_home_t:s0".into()));
}

#[test]
fn no_policy_no_label() {
    let mut tree = MemTree::new();
    assert!(!Policy::read(&tree).labels());
    with_policy(&mut tree);
    tree.file(CONFIG, 0o644, 0, 0, b"SELINUX=disabled\nSELINUXTYPE=targeted\n");
    assert_eq!(Policy::read(&tree).mode(), Mode::Disabled);
    assert!(!Policy::read(&tree).labels());
    with_policy(&mut tree);
    let main = "/etc/selinux/targeted/contexts/files/file_contexts";
    tree.remove(main).file(&format!("{main}.bin"), 0o644, 0, 0, b"\x8a\xff\x7c\xf9");
    let policy = Policy::read(&tree);
    assert!(!policy.labels());
    assert!(policy.unreadable().unwrap().contains(".bin"), "{policy:?}");
}

#[test]
fn a_rule_beyond_bounds_leaves_the_answer_open() {
    let mut tree = MemTree::new();
    with_policy(&mut tree);
    let local = "/etc/selinux/targeted/contexts/files/file_contexts.local";
    tree.file(local, 0o644, 0, 0, b"/opt/((a{1000}){1000}){1000}\tsystem_u:object_r:bomb_t:s0\n");
    let policy = Policy::read(&tree);
    assert!(policy.context(Path::new("/opt/a"), FileKind::Regular).is_err());
    assert_eq!(
        label(&policy, "/home", FileKind::Directory).as_deref(),
        Some("system_u:object_r:home_root_t:s0")
    );
}
