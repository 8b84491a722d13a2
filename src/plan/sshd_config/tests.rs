//! Edits over a volume in memory; against the real sshd in tests/rescue/fixes.rs.

use crate::finding::{FixedBy, Verdict};
use crate::keys::testing::key;
use crate::os::OsFacts;
use crate::plan::{Change, Plan, TreePolicy, Wish, build};
use crate::sshd::evaluate::Client;
use crate::sshd::evaluate::tests::Bed;
use bstr::BString;

/// Without PAM the account of the bed counts as locked.
const HEAD: &str = "UsePAM yes\n";

fn plan(config: &str) -> (Plan, String) {
    let mut bed = Bed::debian();
    let whole = format!("{HEAD}{config}");
    bed.file("/etc/ssh/sshd_config", 0o644, 0, 0, whole.as_bytes());
    let wish = Wish {
        keys: vec![key(1)],
        create_user: false,
        sudo: false,
        minimal: true,
        tree: TreePolicy::Login,
        host_keys: vec![],
        fix: vec![FixedBy::SshdConfig],
        now: 1_764_000_000,
        client: Client::default(),
    };
    let plan = build(&bed.tree, &OsFacts::detect(&bed.tree), &[BString::from("u")], &wish).unwrap();
    let written = plan.actions.iter().find_map(|action| match &action.change {
        Change::WriteFile { content, .. } if action.path.ends_with("sshd_config") => Some(content.clone()),
        _ => None,
    });
    let text = written.map_or(whole, |content| String::from_utf8(content).unwrap());
    (plan, text.strip_prefix(HEAD).unwrap_or("the head is gone").to_owned())
}

#[test]
fn each_fault_gets_the_edit_of_least_effect() {
    let block = |line: &str| format!("# added by volrescue\nMatch User u\n    {line}\n");
    for (config, wanted) in [
        (
            "PubkeyAuthentication no\n",
            format!("PubkeyAuthentication no\n{}", block("PubkeyAuthentication yes")),
        ),
        ("Nonsense yes\nUseDNS no\n", "#volrescue# Nonsense yes\nUseDNS no\n".into()),
        ("AllowUsers a b\n", "#volrescue# AllowUsers a b\n# added by volrescue\nAllowUsers u a b\n".into()),
        ("DenyUsers x u\n", "#volrescue# DenyUsers x u\n# added by volrescue\nDenyUsers x\n".into()),
        ("DenyUsers u\n", "#volrescue# DenyUsers u\n".into()),
        ("DenyUsers *\n", format!("DenyUsers *\n{}", block("DenyUsers !u"))),
        (
            "AuthenticationMethods publickey,password",
            format!("AuthenticationMethods publickey,password\n{}", block("AuthenticationMethods publickey")),
        ),
        (
            "AuthorizedKeysFile none\n",
            format!("AuthorizedKeysFile none\n{}", block("AuthorizedKeysFile .ssh/authorized_keys")),
        ),
        ("ForceCommand /bin/false\n", format!("ForceCommand /bin/false\n{}", block("ForceCommand none"))),
        ("MaxSessions 0\n", format!("MaxSessions 0\n{}", block("MaxSessions 10"))),
    ] {
        let (plan, text) = plan(config);
        assert_eq!(text, wanted);
        assert_eq!(plan.predicted[0].verdict, Verdict::Accept, "{config}: {:?}", plan.predicted[0].findings);
    }
}

#[test]
fn a_block_that_rules_before_ours_loses_its_line() {
    let (plan, text) = plan("Match all\n PubkeyAuthentication no\n X11Forwarding no\n");
    assert_eq!(plan.predicted[0].verdict, Verdict::Accept, "{text}");
    assert!(text.contains(" X11Forwarding no\n"), "{text}");
}

#[test]
fn what_is_accepted_is_not_edited() {
    for config in
        ["", "PubkeyAuthentication yes\n", "Match User x\n PubkeyAuthentication no\n", "DenyUsers x\n"]
    {
        assert_eq!(plan(config).1, config);
    }
}
