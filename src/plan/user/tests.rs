use super::*;
use crate::plan::{Change, Overlay};
use crate::view::FileKind;
use crate::view::memory::MemTree;
use std::path::PathBuf;

const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nother:x:1003:1003::/home/other:/bin/bash\nnobody:x:65534:65534::/:/usr/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nadm:x:4:syslog\nwheel:x:10:\nsudo:x:27:\nusers:x:100:\nshadow:x:42:\nother:x:1003:\nnogroup:x:65534:\n";
const SHADOW: &str = "root:*:19000:0:99999:7:::\nother:$6$secret:19000:0:99999:7:::\n";
const GSHADOW: &str = "root:*::\nadm:*::syslog\nwheel:*::\nsudo:*::\nother:!::\n";
const LOGIN_DEFS: &str = "UID_MIN 1000\nUID_MAX 60000\nPASS_MIN_DAYS 0\nPASS_MAX_DAYS 99999\nPASS_WARN_AGE 7\nUSERGROUPS_ENAB yes\n";
const OPTIONS: UserOptions = UserOptions { sudo: false, today: 20_000 };

/// A small Amazon Linux without its user.
fn tree() -> MemTree {
    let mut tree = MemTree::new();
    tree.file("/etc/os-release", 0o644, 0, 0, b"ID=amzn\nVERSION_ID=2023\n");
    tree.file("/etc/passwd", 0o644, 0, 0, PASSWD.as_bytes());
    tree.file("/etc/group", 0o644, 0, 0, GROUP.as_bytes());
    tree.file("/etc/shadow", 0o000, 0, 0, SHADOW.as_bytes());
    tree.file("/etc/gshadow", 0o000, 0, 0, GSHADOW.as_bytes());
    tree.file("/etc/login.defs", 0o644, 0, 0, LOGIN_DEFS.as_bytes());
    tree.file("/etc/sudoers", 0o440, 0, 0, b"#includedir /etc/sudoers.d\n");
    tree.dir("/etc/sudoers.d", 0o750, 0, 0);
    tree.file("/bin/bash", 0o755, 0, 0, b"x");
    tree
}

fn plan(tree: &MemTree, name: &str, options: UserOptions) -> Result<UserPlan, Refusal> {
    recreate_user(tree, &OsFacts::detect(tree), name, options)
}

/// The text of a file after the plan.
fn after(tree: &MemTree, actions: &[Action], path: &str) -> String {
    let mut view = Overlay::new(tree);
    actions.iter().for_each(|action| view.apply(action));
    String::from_utf8(view.read(Path::new(path), view::TEXT_LIMIT).unwrap()).unwrap()
}

fn mode_of(actions: &[Action], path: &str) -> (u32, u32, u32) {
    let action = actions.iter().find(|action| action.path == Path::new(path)).unwrap();
    match action.change {
        Change::WriteFile { mode, uid, gid, .. } | Change::CreateDirectory { mode, uid, gid, .. } => {
            (mode, uid, gid)
        }
        _ => panic!("{action:?}"),
    }
}

fn says(plan: &UserPlan, words: &str) -> bool {
    plan.origins.iter().any(|origin| origin.contains(words))
}

#[test]
fn the_images_user_returns_as_its_cloud_init_makes_them() {
    let tree = tree();
    let plan = plan(&tree, "ec2-user", OPTIONS).unwrap();
    let line = "ec2-user:x:1004:1004:EC2 Default User:/home/ec2-user:/bin/bash\n";
    assert_eq!(after(&tree, &plan.actions, "/etc/passwd"), format!("{PASSWD}{line}"));
    assert_eq!(
        after(&tree, &plan.actions, "/etc/shadow"),
        format!("{SHADOW}ec2-user:*:20000:0:99999:7:::\n")
    );
    let group = after(&tree, &plan.actions, "/etc/group");
    assert!(
        group.contains("adm:x:4:syslog,ec2-user\n") && group.contains("wheel:x:10:ec2-user\n"),
        "{group}"
    );
    assert!(group.ends_with("ec2-user:x:1004:\n") && !group.contains("systemd-journal"), "{group}");
    let gshadow = after(&tree, &plan.actions, "/etc/gshadow");
    assert!(gshadow.contains("adm:*::syslog,ec2-user\n") && gshadow.ends_with("ec2-user:!::\n"), "{gshadow}");
    let sudoers = after(&tree, &plan.actions, "/etc/sudoers.d/90-cloud-init-users");
    assert_eq!(sudoers, "# User rules for ec2-user\nec2-user ALL=(ALL) NOPASSWD:ALL\n");
    assert_eq!(mode_of(&plan.actions, "/etc/sudoers.d/90-cloud-init-users"), (0o440, 0, 0));
    assert_eq!(mode_of(&plan.actions, "/etc/shadow"), (0, 0, 0));
    assert_eq!((plan.groups.clone(), plan.entry.line), (vec!["adm".into(), "wheel".into()], 4));
    assert!(says(&plan, "uid 1004 is the next free one"), "{:?}", plan.origins);
    assert!(says(&plan, "left out, for they are not in /etc/group: systemd-journal"), "{:?}", plan.origins);
}

#[test]
fn the_old_entry_comes_back_from_a_backup() {
    let mut tree = tree();
    let old = "ec2-user:x:1000:1000:Old Name:/data/ec2:/bin/zsh\n";
    tree.file("/bin/zsh", 0o755, 0, 0, b"x");
    tree.file("/etc/passwd-", 0o644, 0, 0, format!("{PASSWD}{old}").as_bytes());
    let groups = "adm:x:4:ec2-user\ndocker:x:990:ec2-user\nusers:x:100:ec2-user\nec2-user:x:1000:\n";
    tree.file("/etc/group-", 0o644, 0, 0, groups.as_bytes());
    tree.file("/etc/shadow-", 0o0, 0, 0, b"ec2-user:$6$oldhash:19000:0:99999:7:::\n");
    let plan = plan(&tree, "ec2-user", OPTIONS).unwrap();
    assert!(after(&tree, &plan.actions, "/etc/passwd").ends_with(old));
    assert!(after(&tree, &plan.actions, "/etc/group").ends_with("ec2-user:x:1000:\n"));
    assert_eq!(plan.groups, ["adm", "users"]);
    let shadow = after(&tree, &plan.actions, "/etc/shadow");
    assert!(shadow.ends_with("ec2-user:*:20000:0:99999:7:::\n") && !shadow.contains("oldhash"));
    assert!(says(&plan, "uid 1000 is that of the old entry in /etc/passwd-"), "{:?}", plan.origins);
    assert!(says(&plan, "groups are those of /etc/group-"), "{:?}", plan.origins);
    assert!(says(&plan, "docker"), "{:?}", plan.origins);
}

#[test]
fn debians_daily_backup_serves_too_and_a_shell_that_is_gone_does_not() {
    let mut tree = tree();
    let old = b"me:x:1500:100:Me:/home/me:/bin/fish\n";
    tree.file("/var/backups/passwd.bak", 0o644, 0, 0, old);
    tree.file("/var/backups/gshadow.bak", 0o640, 0, 42, b"sudo:*::me\n");
    let plan = plan(&tree, "me", OPTIONS).unwrap();
    assert_eq!((plan.entry.uid, plan.entry.gid, plan.entry.shell.as_bytes()), (1500, 100, &b"/bin/bash"[..]));
    assert_eq!((plan.primary_group.as_bytes(), plan.groups), (&b"users"[..], vec!["sudo".into()]));
    // A membership that the backup shows comes back; a sudoers line that nothing shows does not.
    assert!(plan.actions.iter().all(|action| !action.path.starts_with("/etc/sudoers.d")));
}

#[test]
fn an_id_that_somebody_has_now_is_not_taken() {
    let mut tree = tree();
    tree.file("/etc/passwd-", 0o644, 0, 0, b"ec2-user:x:1003:1003::/home/ec2-user:/bin/bash\n");
    let plan = plan(&tree, "ec2-user", OPTIONS).unwrap();
    assert_eq!((plan.entry.uid, plan.entry.gid), (1004, 1004));
    assert!(says(&plan, "uid 1003 of the old entry in /etc/passwd- is other's now"), "{:?}", plan.origins);
    for id in [0, 65_534, u32::MAX] {
        let old = format!("ec2-user:x:{id}:{id}::/home/ec2-user:/bin/bash\n");
        tree.file("/etc/passwd-", 0o644, 0, 0, old.as_bytes());
        let plan = super::recreate_user(&tree, &OsFacts::detect(&tree), "ec2-user", OPTIONS).unwrap();
        assert_eq!((plan.entry.uid, plan.entry.gid), (1004, 1004));
    }
}

#[test]
fn the_owner_of_the_surviving_home_gives_the_ids() {
    let mut tree = tree();
    tree.dir("/home/ec2-user", 0o700, 1000, 1000);
    let first = plan(&tree, "ec2-user", OPTIONS).unwrap();
    assert_eq!((first.entry.uid, first.entry.gid), (1000, 1000));
    assert!(says(&first, "uid 1000 is that of the owner of /home/ec2-user"), "{:?}", first.origins);
    // chown -R root has been over the home, but not over what is in it.
    tree.dir("/home/ec2-user", 0o700, 0, 0);
    tree.file("/home/ec2-user/.bashrc", 0o644, 1001, 1001, b"");
    let second = plan(&tree, "ec2-user", OPTIONS).unwrap();
    assert_eq!((second.entry.uid, second.entry.gid), (1001, 1001));
    assert!(says(&second, "/home/ec2-user/.bashrc"), "{:?}", second.origins);
}

#[test]
fn a_home_owned_by_root_a_service_or_another_user_gives_no_ids() {
    let mut tree = tree();
    for owner in [0, 33, 1003, 65_534, 70_000] {
        tree.dir("/home/ec2-user", 0o700, owner, owner);
        assert_eq!(plan(&tree, "ec2-user", OPTIONS).unwrap().entry.uid, 1004, "{owner}");
    }
    // Also not the id that a backup gives to somebody else who is missing.
    tree.dir("/home/ec2-user", 0o700, 1001, 1001);
    tree.file("/etc/passwd-", 0o644, 0, 0, b"bob:x:1001:1001::/home/bob:/bin/bash\n");
    assert_eq!(plan(&tree, "ec2-user", OPTIONS).unwrap().entry.uid, 1004);
    tree.remove("/home/ec2-user");
    // Nor the owner of another home, whom passwd does not know either.
    tree.dir("/home/lost", 0o700, 1004, 1004);
    assert_eq!(plan(&tree, "ec2-user", OPTIONS).unwrap().entry.uid, 1005);
}

#[test]
fn the_next_free_id_falls_to_a_gap_when_the_range_is_full() {
    let mut tree = tree();
    let passwd = format!("{PASSWD}last:x:60000:60000::/:/bin/sh\nfirst:x:1000:1000::/:/bin/sh\n");
    tree.file("/etc/passwd", 0o644, 0, 0, passwd.as_bytes());
    assert_eq!(plan(&tree, "ec2-user", OPTIONS).unwrap().entry.uid, 1001);
    tree.file("/etc/login.defs", 0o644, 0, 0, b"UID_MIN 1000\nUID_MAX 1000\n");
    let refusal = plan(&tree, "ec2-user", OPTIONS).unwrap_err();
    assert!(refusal.message.contains("no uid is free between 1000 and 1000"), "{refusal}");
}

#[test]
fn another_user_gets_no_admin_rights_unless_asked_for() {
    let tree = tree();
    let bare = plan(&tree, "guest", OPTIONS).unwrap();
    assert_eq!(bare.groups, Vec::<BString>::new());
    assert!(bare.actions.iter().all(|action| !action.path.starts_with("/etc/sudoers.d")));
    let sudo = plan(&tree, "guest", UserOptions { sudo: true, ..OPTIONS }).unwrap();
    assert_eq!(sudo.groups, ["wheel", "sudo"]);
    let sudoers = after(&tree, &sudo.actions, "/etc/sudoers.d/90-cloud-init-users");
    assert!(sudoers.contains("guest ALL=(ALL) NOPASSWD:ALL\n"));
}

#[test]
fn a_group_and_shadow_line_that_survived_are_used() {
    let mut tree = tree();
    tree.file(
        "/etc/group",
        0o644,
        0,
        0,
        format!("{GROUP}ec2-user:x:1777:\nvideo:x:44:ec2-user\n").as_bytes(),
    );
    tree.file("/etc/shadow", 0, 0, 0, format!("ec2-user:$6$h:1:0:2:7::3:\n{SHADOW}").as_bytes());
    let plan = plan(&tree, "ec2-user", OPTIONS).unwrap();
    assert_eq!(plan.entry.gid, 1777);
    assert_eq!(
        after(&tree, &plan.actions, "/etc/shadow"),
        format!("ec2-user:*:20000:0:99999:7:::\n{SHADOW}")
    );
    assert!(plan.groups.contains(&"video".into()) && says(&plan, "still lists the user in video"));
}

#[test]
fn odd_lines_stay_byte_for_byte() {
    let mut tree = tree();
    let odd = "# mine\r\nroot:x:0:0:root:/root:/bin/bash\r\n\n???\nec2-user:x:broken\n";
    tree.file("/etc/passwd", 0o644, 0, 0, format!("{odd}+@admins::::::\n+::::::").as_bytes());
    let plan = plan(&tree, "ec2-user", OPTIONS).unwrap();
    let line = "ec2-user:x:1000:1000:EC2 Default User:/home/ec2-user:/bin/bash\n";
    assert_eq!(after(&tree, &plan.actions, "/etc/passwd"), format!("{odd}{line}+@admins::::::\n+::::::"));
    assert_eq!(plan.entry.line, 6);
}

#[test]
fn subordinate_ids_are_given_where_the_files_exist() {
    let mut tree = tree();
    tree.file("/etc/subuid", 0o644, 0, 0, b"other:100000:65536\n");
    tree.file("/etc/subgid", 0o644, 0, 0, b"ec2-user:1:1\n");
    let plan = plan(&tree, "ec2-user", OPTIONS).unwrap();
    assert_eq!(after(&tree, &plan.actions, "/etc/subuid"), "other:100000:65536\nec2-user:165536:65536\n");
    assert!(plan.actions.iter().all(|action| action.path != Path::new("/etc/subgid")));
}

#[test]
fn sudoers_is_made_to_read_its_directory_and_a_rule_is_written_once() {
    let mut tree = tree();
    tree.remove("/etc/sudoers.d");
    tree.file("/etc/sudoers", 0o440, 0, 0, b"root ALL=(ALL) ALL");
    let first = plan(&tree, "ec2-user", OPTIONS).unwrap();
    assert_eq!(mode_of(&first.actions, "/etc/sudoers.d"), (0o750, 0, 0));
    assert_eq!(
        after(&tree, &first.actions, "/etc/sudoers"),
        "root ALL=(ALL) ALL\n#includedir /etc/sudoers.d\n"
    );
    for there in ["/etc/sudoers", "/etc/sudoers.d/rocky"] {
        let mut tree = super::tests::tree();
        let text = "@includedir /etc/sudoers.d/\nec2-user\tALL=(ALL)  NOPASSWD: ALL\n";
        tree.file("/etc/sudoers", 0o440, 0, 0, b"@includedir /etc/sudoers.d\n");
        tree.file(there, 0o440, 0, 0, text.as_bytes());
        let plan = plan(&tree, "ec2-user", OPTIONS).unwrap();
        assert!(plan.actions.iter().all(|action| !action.path.starts_with("/etc/sudoers.d")), "{there}");
    }
    let mut tree = super::tests::tree();
    tree.file("/etc/sudoers.d/90-cloud-init-users", 0o440, 0, 0, b"a ALL=(ALL) ALL");
    let plan = plan(&tree, "ec2-user", OPTIONS).unwrap();
    let text = after(&tree, &plan.actions, "/etc/sudoers.d/90-cloud-init-users");
    assert_eq!(text, "a ALL=(ALL) ALL\n# User rules for ec2-user\nec2-user ALL=(ALL) NOPASSWD:ALL\n");
}

#[test]
fn alpine_gets_its_shell_and_doas() {
    let mut tree = tree();
    tree.file("/etc/os-release", 0o644, 0, 0, b"ID=alpine\nVERSION_ID=3.20.1\n");
    tree.file("/etc/doas.conf", 0o640, 0, 0, b"permit persist :wheel\n");
    tree.file("/bin/ash", 0o755, 0, 0, b"x");
    tree.remove("/etc/gshadow");
    let plan = plan(&tree, "alpine", OPTIONS).unwrap();
    assert_eq!(plan.entry.shell, "/bin/ash");
    let doas = after(&tree, &plan.actions, "/etc/doas.conf");
    assert_eq!(doas, "permit persist :wheel\n# User rules for alpine\npermit nopass alpine\n");
    assert!(plan.actions.iter().all(|action| action.path != Path::new("/etc/gshadow")));
}

#[test]
fn what_is_no_regular_file_is_refused() {
    let mut tree = tree();
    tree.link("/etc/shadow", "/tmp/elsewhere");
    let refusal = plan(&tree, "ec2-user", OPTIONS).unwrap_err();
    assert_eq!(refusal.message, "/etc/shadow: it is a symbolic link");
    tree.put("/etc/shadow", FileKind::Fifo, 0o600, 0, 0, b"");
    assert_eq!(plan(&tree, "ec2-user", OPTIONS).unwrap_err().message, "/etc/shadow: it is a FIFO");
    tree.remove("/etc/passwd");
    assert!(plan(&tree, "ec2-user", OPTIONS).unwrap_err().message.contains("no such file"));
    tree = super::tests::tree();
    assert!(plan(&tree, "a:b", OPTIONS).is_err() && plan(&tree, "other", OPTIONS).is_err());
    tree.file("/etc/group", 0o644, 0, 0, b"ec2-user:x:0:\n");
    assert!(plan(&tree, "ec2-user", OPTIONS).unwrap_err().message.contains("gid 0"));
}

#[test]
fn a_missing_shadow_file_is_made_as_the_family_has_it() {
    let mut tree = tree();
    tree.remove("/etc/shadow");
    tree.file("/etc/os-release", 0o644, 0, 0, b"ID=debian\nVERSION_ID=12\n");
    let plan = plan(&tree, "admin", OPTIONS).unwrap();
    assert_eq!(mode_of(&plan.actions, "/etc/shadow"), (0o640, 0, 42));
}

#[test]
fn a_missing_shadow_line_is_restored_without_password() {
    let mut tree = tree();
    let os = OsFacts::detect(&tree);
    assert_eq!(restore_shadow(&tree, &os, "other", 20_000).unwrap(), []);
    let spoilt = "other:$6$secret:19000:0:99999:7:::\r\n";
    tree.file("/etc/shadow", 0o640, 0, 42, spoilt.as_bytes());
    let actions = restore_shadow(&tree, &os, "other", 20_000).unwrap();
    assert_eq!(after(&tree, &actions, "/etc/shadow"), format!("{spoilt}other:*:20000:0:99999:7:::\n"));
    assert_eq!(mode_of(&actions, "/etc/shadow"), (0o640, 0, 42));
    assert!(restore_shadow(&tree, &os, "who", 20_000).is_err());
    assert!(!format!("{actions:?}").contains("secret"));
}

#[test]
fn sshd_returns_as_its_package_makes_it() {
    let mut tree = tree();
    let plan = recreate_sshd(&tree, &OsFacts::detect(&tree), 20_000).unwrap();
    let passwd = after(&tree, &plan.actions, "/etc/passwd");
    assert!(
        passwd.ends_with("sshd:x:74:74:Privilege-separated SSH:/usr/share/empty.sshd:/sbin/nologin\n"),
        "{passwd}"
    );
    assert!(after(&tree, &plan.actions, "/etc/group").ends_with("sshd:x:74:\n"));
    assert!(after(&tree, &plan.actions, "/etc/shadow").ends_with("sshd:*:20000::::::\n"));
    tree.file("/etc/os-release", 0o644, 0, 0, b"ID=debian\nVERSION_ID=12\n");
    let plan = recreate_sshd(&tree, &OsFacts::detect(&tree), 20_000).unwrap();
    let passwd = after(&tree, &plan.actions, "/etc/passwd");
    assert!(passwd.ends_with("sshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n"), "{passwd}");
    tree.file("/etc/passwd-", 0o644, 0, 0, b"sshd:x:105:65534::/run/sshd:/usr/sbin/nologin\n");
    assert_eq!(recreate_sshd(&tree, &OsFacts::detect(&tree), 20_000).unwrap().entry.uid, 105);
}

#[test]
fn a_missing_home_is_made_from_skel() {
    let mut tree = tree();
    tree.file("/etc/skel/.bashrc", 0o4644, 0, 0, b"x");
    tree.dir("/etc/skel/.config", 0o755, 0, 0);
    tree.file("/etc/skel/.config/a", 0o600, 0, 0, b"");
    tree.link("/etc/skel/link", "/etc/motd");
    tree.put("/etc/skel/fifo", FileKind::Fifo, 0o600, 0, 0, b"");
    tree.dir("/data/home", 0o755, 0, 0);
    tree.link("/home", "data/home");
    let actions = skeleton(&tree, Path::new("/home/team/me"), 1000, 1001);
    let paths: Vec<&str> = actions.iter().map(|action| action.path.to_str().unwrap()).collect();
    let home = "/data/home/team/me";
    let wanted = ["", "/.bashrc", "/.config", "/.config/a", "/link"].map(|name| format!("{home}{name}"));
    assert_eq!(paths[0], "/data/home/team");
    assert_eq!(paths[1..], wanted);
    assert_eq!(mode_of(&actions, "/data/home/team"), (0o755, 0, 0));
    assert_eq!(mode_of(&actions, home), (0o700, 1000, 1001));
    assert_eq!(mode_of(&actions, &format!("{home}/.bashrc")), (0o644, 1000, 1001));
}

#[test]
fn a_home_that_cannot_be_made_is_left_alone() {
    let mut tree = tree();
    tree.dir("/home/me", 0o700, 1, 1);
    tree.link("/dangling", "/nowhere");
    tree.file("/file", 0o644, 0, 0, b"");
    for home in ["/home/me", "/", "", "home/x", "/home/../x", "/dangling", "/dangling/me", "/file/me"] {
        assert_eq!(skeleton(&tree, Path::new(home), 1000, 1000), [], "{home}");
    }
}

#[test]
fn a_huge_skel_is_copied_in_part() {
    let mut tree = tree();
    for number in 0..1200 {
        tree.file(&format!("/etc/skel/{number}"), 0o644, 0, 0, b"x");
    }
    assert!(skeleton(&tree, &PathBuf::from("/home/me"), 1000, 1000).len() <= 1002);
}
