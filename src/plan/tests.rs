//! Plans over a volume in memory, judged by the evaluation that made the diagnosis.

use super::*;
use crate::finding::Finding;
use crate::keys::testing::key;
use crate::sshd::evaluate::tests::Bed;
use crate::view::{FileKind, LookError};
use std::path::Path;

const HOME: &str = "/home/u";
const SSH: &str = "/home/u/.ssh";
const KEYS: &str = "/home/u/.ssh/authorized_keys";
/// 2025-11-24.
const NOW: i64 = 1_764_000_000;

fn wish() -> Wish {
    Wish {
        keys: vec![],
        create_user: false,
        sudo: false,
        minimal: false,
        tree: TreePolicy::Tree { also: vec![] },
        host_keys: vec![],
        fix: vec![],
        now: NOW,
        client: Client::default(),
    }
}

fn minimal() -> Wish {
    Wish { minimal: true, tree: TreePolicy::Login, ..wish() }
}

fn plan(bed: &Bed, wish: &Wish) -> Plan {
    build(&bed.tree, &OsFacts::detect(&bed.tree), &[BString::from("u")], wish).unwrap()
}

/// The volume after the plan.
fn after<'a>(bed: &'a Bed, plan: &Plan) -> Overlay<'a> {
    let mut view = Overlay::new(&bed.tree);
    plan.actions.iter().for_each(|action| view.apply(action));
    view
}

fn shown(view: &dyn View, path: &str) -> String {
    view.lstat(Path::new(path)).map_or_else(|error| error.to_string(), |stat| stat.mode_owner())
}

fn paths(plan: &Plan) -> Vec<String> {
    paths_of(&plan.actions)
}

fn paths_of(actions: &[Action]) -> Vec<String> {
    let single = actions.iter().filter(|action| !matches!(action.change, Change::ChownTree { .. }));
    single.map(|action| action.path.display().to_string()).collect()
}

#[test]
fn the_documented_tree_is_brought_whatever_was_there() {
    let mut bed = Bed::debian();
    bed.chmod("/", 0o777).chmod("/home", 0o777).chown("/home", 55, 55);
    bed.chmod(HOME, 0o2777)
        .chown(HOME, 55, 55)
        .chmod(SSH, 0o755)
        .chown(SSH, 0, 0)
        .chmod(KEYS, 0o4666)
        .chown(KEYS, 7, 7);
    let plan = plan(&bed, &wish());
    assert_eq!(plan.predicted[0].verdict, Verdict::Accept);
    let view = after(&bed, &plan);
    assert_eq!(shown(&view, "/"), "0755 0:0");
    assert_eq!(shown(&view, "/home"), "0755 0:0");
    assert_eq!(shown(&view, HOME), "0700 1000:1000");
    assert_eq!(shown(&view, SSH), "0700 1000:1000");
    assert_eq!(shown(&view, KEYS), "0600 1000:1000");
    let again = build(&view, &OsFacts::detect(&view), &[BString::from("u")], &wish()).unwrap();
    assert_eq!(paths(&again), Vec::<String>::new());
}

#[test]
fn what_a_file_says_once_it_can_be_read_keeps_nobody_from_closing_it() {
    let mut bed = Bed::debian();
    let asked = Wish { keys: vec![key(1)], ..wish() };
    // An option that no sshd knows; unseen as long as the file is open to others.
    let text = String::from_utf8(key(1).to_line()).unwrap();
    bed.write(KEYS, format!("- {}\n", text.trim_end())).chmod(KEYS, 0o666);
    let plan = plan(&bed, &asked);
    assert_eq!(plan.predicted[0].verdict, Verdict::Accept);
    let view = after(&bed, &plan);
    assert_eq!(shown(&view, KEYS), "0600 1000:1000");
    let again = build(&view, &OsFacts::detect(&view), &[BString::from("u")], &asked).unwrap();
    assert_eq!(paths(&again), Vec::<String>::new());
}

#[test]
fn a_forced_command_that_comes_to_light_keeps_nobody_from_closing_the_directory() {
    let mut bed = Bed::debian();
    let text = String::from_utf8(key(1).to_line()).unwrap();
    bed.write(KEYS, format!("command=\"exit 3\" {}\n", text.trim_end())).chmod(SSH, 0o444);
    let plan = plan(&bed, &wish());
    let view = after(&bed, &plan);
    assert_eq!(shown(&view, SSH), "0700 1000:1000", "{:?}", plan.notes);
    let again = build(&view, &OsFacts::detect(&view), &[BString::from("u")], &wish()).unwrap();
    assert_eq!(paths(&again), Vec::<String>::new());
}

#[test]
fn no_bit_is_added_that_no_check_needs() {
    let mut bed = Bed::debian();
    bed.chmod("/home", 0o711).chmod(HOME, 0o500).chmod(SSH, 0o500).chmod(KEYS, 0o400);
    let plan = plan(&bed, &wish());
    assert_eq!(paths(&plan), Vec::<String>::new());
}

#[test]
fn what_is_broken_gets_the_documented_mode_whole() {
    let mut bed = Bed::debian();
    bed.chmod("/home", 0o700).chmod(HOME, 0o0).chmod(SSH, 0o600).chmod(KEYS, 0o0);
    let view_plan = plan(&bed, &wish());
    let view = after(&bed, &view_plan);
    for (path, wanted) in
        [("/home", "0755 0:0"), (HOME, "0700 1000:1000"), (SSH, "0700 1000:1000"), (KEYS, "0600 1000:1000")]
    {
        assert_eq!(shown(&view, path), wanted);
    }
}

#[test]
fn minimal_leaves_alone_what_sshd_accepts() {
    let mut bed = Bed::debian();
    bed.chmod("/home", 0o777).chmod(HOME, 0o755).chmod(SSH, 0o755).chmod(KEYS, 0o644).chown(KEYS, 0, 0);
    assert_eq!(paths(&plan(&bed, &minimal())), Vec::<String>::new());
    bed.chmod(HOME, 0o757).chmod("/home", 0o700);
    let plan = plan(&bed, &minimal());
    assert_eq!(plan.predicted[0].verdict, Verdict::Accept);
    let view = after(&bed, &plan);
    assert_eq!(shown(&view, HOME), "0755 1000:1000");
    assert_eq!(shown(&view, "/home"), "0701 0:0");
    assert_eq!(shown(&view, KEYS), "0644 0:0");
}

#[test]
fn a_chroot_home_of_root_stays_roots() {
    let mut bed = Bed::debian();
    let config = "UsePAM yes\nChrootDirectory %h\nForceCommand internal-sftp\n";
    bed.file("/etc/ssh/sshd_config", 0o644, 0, 0, config.as_bytes());
    bed.chown(HOME, 0, 0).chmod(HOME, 0o755);
    let plan = plan(&bed, &wish());
    assert_eq!(shown(&after(&bed, &plan), HOME), "0755 0:0");
    assert!(plan.notes.iter().any(|note| note.contains("sshd would refuse")), "{:?}", plan.notes);
}

#[test]
fn a_link_out_of_the_home_leads_to_no_change_there() {
    let mut bed = Bed::debian();
    bed.remove(SSH).link(SSH, "/etc").chmod("/etc/passwd", 0o644);
    bed.file("/etc/authorized_keys", 0o666, 9, 9, b"junk\n");
    let plan = plan(&bed, &Wish { keys: vec![key(9)], ..wish() });
    assert!(!paths(&plan).iter().any(|path| path.starts_with("/etc/authorized_keys")), "{:?}", paths(&plan));
    assert_ne!(plan.predicted[0].verdict, Verdict::Accept);
}

#[test]
fn a_dangling_link_gives_way_to_a_directory_of_keys() {
    let mut bed = Bed::debian();
    let line = bed.tree.nodes[Path::new(KEYS)].content.clone();
    bed.remove(SSH).link(SSH, "/nowhere/at/all");
    let given = crate::keys::read_key(&line).unwrap();
    let crate::keys::KeyForm::Public(keys) = given else { panic!("the bed's key is public") };
    let plan = plan(&bed, &Wish { keys, ..wish() });
    assert_eq!(plan.predicted[0].verdict, Verdict::Accept, "{:?}", plan.predicted[0].findings);
    let view = after(&bed, &plan);
    assert_eq!(shown(&view, SSH), "0700 1000:1000");
    assert_eq!(shown(&view, KEYS), "0600 1000:1000");
    assert_eq!(view.lstat(Path::new("/nowhere")).unwrap_err(), LookError::NotFound);
}

#[test]
fn a_key_is_added_once_and_other_lines_stay() {
    let mut bed = Bed::debian();
    let old = bed.tree.nodes[Path::new(KEYS)].content.clone();
    let wish = Wish { keys: vec![key(8)], ..wish() };
    let first = plan(&bed, &wish);
    let view = after(&bed, &first);
    let new = view.read(Path::new(KEYS), 1 << 20).unwrap();
    assert!(new.starts_with(&old));
    bed.file(KEYS, 0o600, 1000, 1000, &new);
    assert!(!paths(&plan(&bed, &wish)).contains(&KEYS.to_owned()));
}

#[test]
fn a_line_that_binds_the_key_by_policy_is_not_bypassed() {
    let mut bed = Bed::debian();
    let mut line = b"from=\"10.0.0.1\" ".to_vec();
    line.extend(bed.tree.nodes[Path::new(KEYS)].content.clone());
    bed.file(KEYS, 0o600, 1000, 1000, &line);
    let crate::keys::KeyForm::Public(keys) = crate::keys::read_key(&line).unwrap() else { panic!() };
    let plan = plan(&bed, &Wish { keys, ..wish() });
    assert!(!paths(&plan).contains(&KEYS.to_owned()));
    assert!(plan.notes.iter().any(|note| note.contains("from=")), "{:?}", plan.notes);
}

#[test]
fn a_missing_home_is_made_from_the_skeleton() {
    let mut bed = Bed::debian();
    bed.remove(HOME).file("/etc/skel/.profile", 0o644, 0, 0, b"x\n");
    let plan = plan(&bed, &Wish { keys: vec![key(9)], ..wish() });
    let view = after(&bed, &plan);
    assert_eq!(shown(&view, HOME), "0700 1000:1000");
    assert_eq!(shown(&view, "/home/u/.profile"), "0644 1000:1000");
    assert_eq!(plan.predicted[0].verdict, Verdict::Accept, "{:?}", plan.predicted[0].findings);
}

#[test]
fn a_fifo_where_the_keys_belong_is_named_and_left() {
    let mut bed = Bed::debian();
    bed.remove(KEYS).put(KEYS, FileKind::Fifo, 0o600, 1000, 1000, b"");
    let plan = plan(&bed, &Wish { keys: vec![key(9)], ..wish() });
    let view = after(&bed, &plan);
    assert_eq!(view.lstat(Path::new(KEYS)).unwrap().kind, FileKind::Fifo);
    assert!(plan.predicted[0].findings.iter().any(|finding| finding.check == CheckId::KeyFileNotRegular));
    // sshd goes on to the second file.
    assert_eq!(plan.predicted[0].verdict, Verdict::Accept);
    assert!(view.lstat(Path::new("/home/u/.ssh/authorized_keys2")).is_ok());
}

#[test]
fn a_missing_user_comes_back_with_the_ids_of_the_home() {
    let mut bed = Bed::debian();
    let passwd = String::from_utf8(bed.tree.nodes[Path::new("/etc/passwd")].content.clone()).unwrap();
    let without: String =
        passwd.lines().filter(|line| !line.starts_with("u:")).map(|line| format!("{line}\n")).collect();
    bed.file("/etc/passwd", 0o644, 0, 0, without.as_bytes());
    let plan = plan(&bed, &Wish { create_user: true, ..wish() });
    assert_eq!(plan.predicted[0].verdict, Verdict::Accept, "{:?}", plan.predicted[0].findings);
    assert_eq!(plan.predicted[0].user.as_ref().unwrap().uid, 1000);
}

#[test]
fn a_user_that_is_put_back_in_part_is_completed_by_the_next_run() {
    let mut bed = Bed::debian();
    for name in ["passwd", "group", "shadow"] {
        let path = format!("/etc/{name}");
        let (content, mode) = {
            let node = &bed.tree.nodes[Path::new(&path)];
            (node.content.clone(), if name == "shadow" { 0o640 } else { 0o644 })
        };
        let text = String::from_utf8(content).unwrap();
        let without: String =
            text.lines().filter(|line| !line.starts_with("u:")).map(|line| format!("{line}\n")).collect();
        bed.file(&path, mode, 0, if name == "shadow" { 42 } else { 0 }, without.as_bytes());
    }
    bed.file("/etc/gshadow", 0o640, 0, 42, b"root:*::\n");
    let wish = Wish { create_user: true, ..wish() };
    let files = ["/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow"].map(Path::new);
    let text =
        |view: &dyn View| files.map(|file| String::from_utf8(view.read(file, 1 << 20).unwrap()).unwrap());
    let whole = plan(&bed, &wish);
    let expected = text(&after(&bed, &whole));
    for (file, text) in files.iter().zip(&expected) {
        assert!(text.contains("\nu:"), "{}: {text}", file.display());
    }
    for stopped in 0..=whole.actions.len() {
        let mut view = Overlay::new(&bed.tree);
        whole.actions[..stopped].iter().for_each(|action| view.apply(action));
        let rest = build(&view, &OsFacts::detect(&view), &[BString::from("u")], &wish).unwrap();
        let mut completed = Overlay::new(&view);
        rest.actions.iter().for_each(|action| completed.apply(action));
        assert_eq!(text(&completed), expected, "stopped after {:?}", paths_of(&whole.actions[..stopped]));
    }
}

#[test]
fn a_home_that_is_not_the_users_own_is_not_walked() {
    let mut bed = Bed::debian();
    let passwd = String::from_utf8(bed.tree.nodes[Path::new("/etc/passwd")].content.clone()).unwrap();
    bed.file("/etc/passwd", 0o644, 0, 0, passwd.replace(":/home/u:", ":/var/www:").as_bytes());
    bed.dir("/var/www", 0o755, 0, 0);
    let plan = plan(&bed, &Wish { keys: vec![key(9)], ..wish() });
    assert!(!plan.actions.iter().any(|action| matches!(action.change, Change::ChownTree { .. })));
    assert_eq!(shown(&after(&bed, &plan), "/var/www"), "0755 0:0");
    assert_eq!(plan.predicted[0].verdict, Verdict::Accept, "{:?}", plan.predicted[0].findings);
}

#[test]
fn two_users_come_back_in_one_writing_of_each_file() {
    let mut bed = Bed::debian();
    bed.dir("/home/a", 0o755, 1001, 1001).dir("/home/b", 0o755, 1002, 1002);
    let users = [BString::from("a"), BString::from("b")];
    let wish = Wish { create_user: true, keys: vec![key(9)], ..wish() };
    let plan = build(&bed.tree, &OsFacts::detect(&bed.tree), &users, &wish).unwrap();
    let mut written = Vec::new();
    for action in &plan.actions {
        if let Change::WriteFile { before, .. } = &action.change {
            assert!(!written.contains(&action.path), "{} is written twice", action.path.display());
            written.push(action.path.clone());
            let there = bed.tree.lstat(&action.path).ok().map(|stat| stat.ino);
            let expected = if let Before::Regular { ino, .. } = before { Some(*ino) } else { None };
            assert_eq!(expected, there, "{}", action.path.display());
        }
    }
    assert!(plan.predicted.iter().all(|answer| answer.verdict == Verdict::Accept));
}

#[test]
fn a_link_to_roots_keys_is_not_written_through_a_linked_home() {
    let mut bed = Bed::debian();
    bed.remove("/home").link("/home", "/var/home").dir("/var/home/u", 0o700, 1000, 1000);
    bed.dir("/root/.ssh", 0o700, 0, 0).link("/var/home/u/.ssh", "/root/.ssh");
    let plan = plan(&bed, &Wish { keys: vec![key(9)], ..wish() });
    assert!(!paths(&plan).iter().any(|path| path.starts_with("/root")), "{:?}", paths(&plan));
}

#[test]
fn keys_beside_a_home_that_is_the_root_directory_stay_roots() {
    let mut bed = Bed::debian();
    let passwd = String::from_utf8(bed.tree.nodes[Path::new("/etc/passwd")].content.clone()).unwrap();
    bed.file("/etc/passwd", 0o644, 0, 0, passwd.replace(":/home/u:", ":/:").as_bytes());
    bed.file("/etc/ssh/sshd_config", 0o644, 0, 0, b"UsePAM yes\nAuthorizedKeysFile /etc/ssh/keys/%u\n");
    let plan = plan(&bed, &Wish { keys: vec![key(9)], ..wish() });
    let view = after(&bed, &plan);
    assert_eq!(shown(&view, "/etc/ssh/keys"), "0755 0:0");
    assert_eq!(shown(&view, "/etc/ssh/keys/u"), "0644 0:0");
    assert_eq!(plan.predicted[0].verdict, Verdict::Accept, "{:?}", plan.predicted[0].findings);
}

#[test]
fn what_is_made_and_what_is_on_the_way_gets_the_label_of_the_volumes_policy() {
    let mut bed = Bed::debian();
    crate::selinux::tests::with_policy(&mut bed.tree);
    bed.remove(HOME);
    for (path, label) in [
        ("/", "system_u:object_r:root_t:s0\0"),
        ("/home", "system_u:object_r:etc_t:s0\0"),
        ("/etc/passwd", "staff_u:object_r:etc_t:s0:c1\0"),
    ] {
        bed.set_xattr(path, crate::selinux::XATTR, label.as_bytes());
    }
    let plan = plan(&bed, &Wish { keys: vec![key(9)], ..wish() });
    let view = after(&bed, &plan);
    let label = |path: &str| {
        view.xattr(Path::new(path), crate::selinux::XATTR).unwrap().map(|raw| String::from_utf8(raw).unwrap())
    };
    assert_eq!(label(HOME).as_deref(), Some("unconfined_u:object_r:user_home_dir_t:s0\0"));
    assert_eq!(label(SSH).as_deref(), Some("unconfined_u:object_r:ssh_home_t:s0\0"));
    assert_eq!(label(KEYS).as_deref(), Some("unconfined_u:object_r:ssh_home_t:s0\0"));
    assert_eq!(label("/home").as_deref(), Some("system_u:object_r:home_root_t:s0\0"));
    assert_eq!(label("/etc/passwd").as_deref(), Some("staff_u:object_r:passwd_file_t:s0:c1\0"));
    assert_eq!(plan.predicted[0].verdict, Verdict::Accept);
    assert!(!plan.predicted[0].findings.iter().any(|finding| finding.check == CheckId::LabelWrong));
}

#[test]
fn a_hard_link_to_anothers_file_is_not_copied_for_the_user() {
    let mut bed = Bed::debian();
    bed.file(KEYS, 0o644, 0, 42, b"root:$6$secret:1::::::\n");
    bed.tree.nodes.get_mut(Path::new(KEYS)).unwrap().stat.nlink = 2;
    let plan = plan(&bed, &Wish { keys: vec![key(9)], ..wish() });
    let copied = plan.actions.iter().any(
        |action| matches!(&action.change, Change::WriteFile { content, .. } if content.starts_with(b"root:")),
    );
    assert!(!copied);
}

#[test]
fn a_file_with_two_names_of_the_users_own_is_replaced_with_a_note() {
    let mut bed = Bed::debian();
    bed.tree.nodes.get_mut(Path::new(KEYS)).unwrap().stat.nlink = 2;
    let plan = plan(&bed, &Wish { keys: vec![key(9)], ..wish() });
    assert!(plan.actions.iter().any(|action| matches!(action.change, Change::WriteFile { .. })));
    assert!(plan.notes.iter().any(|note| note.contains("the other name of the old one")), "{:?}", plan.notes);
}

#[test]
fn who_shares_the_home_is_not_locked_out() {
    let mut bed = Bed::debian();
    let mut passwd = bed.tree.nodes[Path::new("/etc/passwd")].content.clone();
    passwd.extend(b"git:x:1005:1005::/home/u:/bin/bash\n");
    bed.file("/etc/passwd", 0o644, 0, 0, &passwd);
    let shadow =
        [bed.tree.nodes[Path::new("/etc/shadow")].content.clone(), b"git:*:19000:0:99999:7:::\n".to_vec()]
            .concat();
    bed.file("/etc/shadow", 0o640, 0, 42, &shadow);
    bed.chown(HOME, 1005, 1005).chown(SSH, 1005, 1005).chown(KEYS, 1005, 1005);
    // Also with a key that git does not have: it is git's own that must go on to open its account.
    for wish in [wish(), Wish { keys: vec![key(9)], ..wish() }] {
        let plan = plan(&bed, &wish);
        assert!(paths(&plan).is_empty(), "{:?}", paths(&plan));
        assert!(plan.notes.iter().any(|note| note.contains("locked out")), "{:?}", plan.notes);
    }
}

#[test]
fn where_the_line_of_the_group_shadow_is_lost_its_files_stay_in_it() {
    let mut bed = Bed::debian();
    bed.tree.nodes.remove(Path::new("/etc/group"));
    let plan = plan(&bed, &wish());
    assert!(!paths(&plan).iter().any(|path| path.contains("shadow")), "{:?}", paths(&plan));
    assert!(
        plan.notes.iter().any(|note| note.contains("/etc/group has no line of root's")),
        "{:?}",
        plan.notes
    );
}

#[test]
fn a_passwd_without_root_is_told_beside_a_login_that_works() {
    let mut bed = Bed::debian();
    let old = bed.tree.nodes[Path::new("/etc/passwd")].content.clone();
    bed.file("/etc/passwd-", 0o644, 0, 0, &old);
    let own = bstr::ByteSlice::lines(old.as_slice()).filter(|line| !line.starts_with(b"root:"));
    let own: Vec<u8> = own.flat_map(|line| [line, b"\n"].concat()).collect();
    bed.file("/etc/passwd", 0o644, 0, 0, &own);
    let plan = plan(&bed, &wish());
    let told = plan.notes.iter().any(|note| note.contains("may not start") && note.contains("/etc/passwd-"));
    assert!(told, "{:?}", plan.notes);
}

#[test]
fn a_private_key_of_the_client_becomes_0600() {
    let mut bed = Bed::debian();
    let path = format!("{SSH}/id_ed25519");
    bed.file(&path, 0o777, 1000, 1000, b"-----BEGIN OPENSSH PRIVATE KEY-----\n");
    let plan = plan(&bed, &wish());
    let set = plan.actions.iter().find(|action| action.path == Path::new(&path)).map(|action| &action.change);
    assert!(matches!(set, Some(Change::SetMode { to: 0o600, .. })), "{set:?}");
}

/// What the diagnosis says, held against the repair it leads to.
fn diagnosed(bed: &Bed, keys: &[PublicKey]) -> Evaluation {
    let question = Question { user: BString::from("u"), keys, now: NOW, address: None, host: None };
    let mut answer = evaluate::evaluate(&bed.tree, &System::read(&bed.tree), &question);
    promise::keep(&bed.tree, &OsFacts::detect(&bed.tree), &mut answer, &question);
    answer
}

fn known_key() -> PublicKey {
    key(1)
}

fn move_home(bed: &mut Bed, home: &str) {
    let passwd = String::from_utf8(bed.tree.nodes[Path::new("/etc/passwd")].content.clone()).unwrap();
    bed.file("/etc/passwd", 0o644, 0, 0, passwd.replace(":/home/u:", &format!(":{home}:")).as_bytes());
}

/// Every finding about a mode wants what the repair brings; `fix` as on the command line.
fn wants_what_is_done(bed: &Bed, fix: &[FixedBy]) {
    let answer = diagnosed(bed, &[known_key()]);
    let plan = plan(bed, &Wish { keys: vec![known_key()], fix: fix.to_vec(), ..wish() });
    assert_eq!(plan.predicted[0].verdict, Verdict::Accept, "{:?}", plan.predicted[0].findings);
    let view = after(bed, &plan);
    let mut held = 0;
    for finding in &answer.findings {
        let path = finding.path.as_deref().unwrap();
        if bed.tree.lstat(path).is_ok_and(|stat| stat.mode_owner() == finding.is) {
            held += 1;
            assert_eq!(finding.wants, view.lstat(path).unwrap().mode_owner(), "{finding:?}");
            assert_ne!(finding.fixed_by, FixedBy::Nothing, "{finding:?}");
        }
    }
    assert!(held > 0, "{:?}", answer.findings);
}

#[test]
fn a_closed_directory_on_the_way_to_the_shell_is_opened() {
    for (path, mode) in [("/usr", 0o700), ("/usr/bin", 0o750), ("/bin", 0o700)] {
        let mut bed = Bed::debian();
        let shell = if path == "/bin" { "/bin/bash" } else { "/usr/bin/bash" };
        let passwd = String::from_utf8(bed.tree.nodes[Path::new("/etc/passwd")].content.clone()).unwrap();
        bed.file("/etc/passwd", 0o644, 0, 0, passwd.replace("/bin/bash", shell).as_bytes());
        let program = crate::view::memory::program("");
        bed.file(shell, 0o755, 0, 0, &program).chmod(path, mode);
        wants_what_is_done(&bed, &[]);
        let plan = plan(&bed, &wish());
        assert_eq!(shown(&after(&bed, &plan), path), "0755 0:0");
        assert!(plan.notes.is_empty(), "{:?}", plan.notes);
    }
}

#[test]
fn a_home_that_is_the_systems_loses_no_more_than_sshd_asks_for_and_says_who_loses() {
    let mut bed = Bed::debian();
    let group = [bed.tree.nodes[Path::new("/etc/group")].content.clone(), b"www:x:33:\n".to_vec()].concat();
    bed.file("/etc/group", 0o644, 0, 0, &group);
    let line = bed.tree.nodes[Path::new(KEYS)].content.clone();
    move_home(&mut bed, "/var/www");
    let mut passwd = bed.tree.nodes[Path::new("/etc/passwd")].content.clone();
    passwd.extend(b"www:x:33:33::/var/www:/usr/sbin/nologin\n");
    bed.file("/etc/passwd", 0o644, 0, 0, &passwd);
    bed.dir("/var/www", 0o775, 33, 33).dir("/var/www/.ssh", 0o700, 1000, 1000);
    bed.file("/var/www/.ssh/authorized_keys", 0o600, 1000, 1000, &line);
    wants_what_is_done(&bed, &[]);
    let plan = plan(&bed, &wish());
    assert_eq!(shown(&after(&bed, &plan), "/var/www"), "0755 0:33");
    assert!(plan.notes[0].starts_with("www can no longer write to /var/www"), "{:?}", plan.notes);
}

#[test]
fn the_home_of_another_is_not_opened_and_gets_no_key() {
    let mut bed = Bed::debian();
    let config = "UsePAM yes\nAuthorizedKeysFile /root/.ssh/authorized_keys\n";
    bed.file("/etc/ssh/sshd_config", 0o644, 0, 0, config.as_bytes());
    bed.dir("/root", 0o700, 0, 0).dir("/root/.ssh", 0o700, 0, 0);
    bed.file("/root/.ssh/authorized_keys", 0o600, 0, 0, b"");
    for exists in [true, false] {
        if !exists {
            bed.remove("/root/.ssh/authorized_keys");
        }
        let given = Wish { keys: vec![key(9)], ..wish() };
        let plain = plan(&bed, &given);
        assert!(!paths(&plain).iter().any(|path| path.starts_with("/root")), "{:?}", paths(&plain));
        assert!(plain.notes[0].contains("home of root"), "{:?}", plain.notes);
        let blocks = |answer: &Evaluation| {
            answer.findings.iter().all(|finding| {
                finding.severity != Severity::Blocks || finding.fixed_by == FixedBy::SshdConfig
            })
        };
        let told = diagnosed(&bed, &[key(9)]);
        assert!(told.verdict == Verdict::Refuse && blocks(&told), "{:?}", told.findings);
        let own = plan(&bed, &Wish { fix: vec![FixedBy::SshdConfig], ..given });
        assert_eq!(own.predicted[0].verdict, Verdict::Accept, "{:?}", own.predicted[0].findings);
        assert!(!paths(&own).iter().any(|path| path.starts_with("/root")), "{:?}", paths(&own));
    }
}

#[test]
fn whom_a_shared_file_opens_is_named_first() {
    let mut bed = Bed::debian();
    let config = "UsePAM yes\nAuthorizedKeysFile /etc/ssh/keys\n";
    bed.file("/etc/ssh/sshd_config", 0o644, 0, 0, config.as_bytes());
    bed.file("/etc/ssh/keys", 0o644, 0, 0, b"");
    let plan = plan(&bed, &Wish { keys: vec![key(9)], ..wish() });
    assert!(plan.notes[0].contains("now opens root too"), "{:?}", plan.notes);
}

#[test]
fn what_is_there_without_its_bits_is_not_called_absent() {
    let mut bed = Bed::debian();
    bed.file("/usr/sbin/sshd", 0o644, 0, 0, &crate::view::memory::program("OpenSSH_9.2p1\0"));
    let answer = diagnosed(&bed, &[known_key()]);
    let found = answer.findings.iter().find(|finding| finding.severity == Severity::Blocks).unwrap();
    assert_eq!((found.check.name(), found.is.as_str()), ("sshd-not-executable", "0644 0:0"));
    wants_what_is_done(&bed, &[FixedBy::System]);
}

#[test]
fn policy_and_what_nothing_mends_promises_nothing() {
    let line = String::from_utf8(known_key().to_line()).unwrap();
    type Break = (&'static str, fn(&mut Bed, &str));
    let breaks: &[Break] = &[
        ("a forced command", |bed, line| did(bed.write(KEYS, format!("command=\"false\" {line}\n")))),
        ("an expired line", |bed, line| did(bed.write(KEYS, format!("expiry-time=\"20200101\" {line}\n")))),
        ("a hard link of root's", |bed, _| {
            bed.chown(KEYS, 0, 0);
            bed.tree.nodes.get_mut(Path::new(KEYS)).unwrap().stat.nlink = 2;
        }),
        ("a home that is a file", |bed, _| did(bed.remove(HOME).file(HOME, 0o644, 0, 0, b""))),
        ("a .ssh that is a file", |bed, _| did(bed.remove(SSH).file(SSH, 0o644, 0, 0, b""))),
        ("a home behind a dangling link", |bed, _| did(bed.remove(HOME).link(HOME, "/data/u"))),
        ("a home that is nowhere", |bed, _| move_home(bed, "/nonexistent")),
    ];
    for (name, breaks) in breaks {
        let mut bed = Bed::debian();
        breaks(&mut bed, &line);
        let answer = diagnosed(&bed, &[known_key()]);
        let blocking: Vec<&Finding> =
            answer.findings.iter().filter(|finding| finding.severity == Severity::Blocks).collect();
        assert!(!blocking.is_empty(), "{name}");
        for finding in blocking {
            assert_eq!(finding.fixed_by, FixedBy::Nothing, "{name}: {finding:?}");
        }
    }
}

#[test]
fn no_advice_is_given_that_would_break_the_login() {
    let mut bed = Bed::debian();
    let config = "UsePAM yes\nChrootDirectory %h\nForceCommand internal-sftp\n";
    bed.file("/etc/ssh/sshd_config", 0o644, 0, 0, config.as_bytes());
    bed.chown(HOME, 0, 0).chmod(HOME, 0o755);
    let answer = diagnosed(&bed, &[known_key()]);
    assert!(
        !answer.findings.iter().any(|finding| finding.check == CheckId::HomeMode),
        "{:?}",
        answer.findings
    );
}

#[test]
fn what_diagnosis_wants_is_what_repair_does() {
    type Break = fn(&mut Bed);
    let breaks: &[Break] = &[
        |bed| did(bed.chmod("/home", 0o700).chmod(HOME, 0o777).chmod(SSH, 0o070)),
        |bed| did(bed.chmod("/etc/shadow", 0o777).chmod("/etc/passwd", 0o666)),
        |bed| did(bed.chown(HOME, 55, 55).chown(KEYS, 0, 0)),
    ];
    for breaks in breaks {
        let mut bed = Bed::debian();
        breaks(&mut bed);
        wants_what_is_done(&bed, &[]);
    }
}

#[test]
fn a_system_open_to_everybody_is_told_in_one_finding() {
    let mut bed = Bed::debian();
    bed.chmod("/var", 0o777).chmod("/usr", 0o777);
    let answer = diagnosed(&bed, &[known_key()]);
    let found = answer.findings.iter().find(|finding| finding.check == CheckId::SystemWritable).unwrap();
    assert_eq!((found.is.as_str(), found.fixed_by), ("0777, and so /var", FixedBy::Nothing));
    assert_eq!(answer.verdict, Verdict::Accept);
}

/// The beds' calls can be chained.
fn did<T>(_: T) {}

#[test]
fn a_home_under_another_name_is_pointed_out() {
    let mut bed = Bed::debian();
    bed.mv(HOME, "/home/old");
    let plan = plan(&bed, &Wish { keys: vec![key(9)], ..wish() });
    assert!(plan.notes[0].starts_with("/home/old belongs to u's uid 1000"), "{:?}", plan.notes);
}

#[test]
fn the_plan_says_which_key_it_adds() {
    let bed = Bed::debian();
    let plan = plan(&bed, &Wish { keys: vec![key(9)], ..wish() });
    let of_keys = plan.actions.iter().find(|action| action.path == Path::new(KEYS)).unwrap();
    assert!(of_keys.why.contains(&key(9).fingerprint()), "{}", of_keys.why);
}
