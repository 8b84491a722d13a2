use super::*;
use crate::sshd::build::Family;
use crate::view::FileKind;
use crate::view::memory::MemTree;
use proptest::prelude::*;

fn tree(main: &str) -> MemTree {
    let mut tree = MemTree::new();
    tree.file(MAIN_FILE, 0o600, 0, 0, main.as_bytes());
    tree
}

fn debian() -> Build {
    Build::of(Family::Debian, (9, 2))
}

fn load(main: &str) -> Config {
    Config::load(&tree(main), &debian(), &[])
}

fn load_as(version: (u32, u32), main: &str) -> Config {
    Config::load(&tree(main), &Build::of(Family::Upstream, version), &[])
}

fn says(config: &Config) -> Vec<&str> {
    config.errors.iter().map(|error| error.says.as_str()).collect()
}

fn user(name: &str) -> Connection {
    Connection { user: BString::from(name), groups: Some(vec![BString::from(name)]), ..Connection::default() }
}

fn from(name: &str, address: &str) -> Connection {
    Connection { address: Some(address.parse().unwrap()), ..user(name) }
}

fn effective(config: &Config, connection: &Connection) -> Effective {
    config.effective(connection).0
}

#[test]
fn the_first_global_line_wins_and_knows_its_place() {
    let config = load("# x\nMaxAuthTries 3\nMaxAuthTries 4\n");
    assert!(config.errors.is_empty());
    let tries = effective(&config, &user("u")).max_auth_tries;
    assert_eq!(tries.value, 3);
    assert_eq!(tries.at, Some(Location { file: PathBuf::from(MAIN_FILE), line: 2 }));
    assert_eq!(config.text_at(&tries.at.unwrap()), Some(&b"MaxAuthTries 3"[..]));
}

#[test]
fn a_later_match_all_beats_an_earlier_global_line() {
    let config = load(
        "PermitRootLogin no\nAllowUsers a b\nMatch all\nPermitRootLogin yes\nAllowUsers c\nAllowUsers d\n",
    );
    let effective = effective(&config, &user("u"));
    assert_eq!(effective.permit_root_login.value, PermitRootLogin::Yes);
    let words: Vec<_> = effective.allow_users.iter().map(|word| word.value.clone()).collect();
    assert_eq!(words, ["c", "d"], "the lists of matching blocks add up and replace the global one");
}

#[test]
fn a_global_keyword_in_a_block_stops_sshd_but_not_in_match_all() {
    let config = load("Match User u\n  UsePAM yes\n");
    assert_eq!(
        says(&config),
        ["/etc/ssh/sshd_config line 2: Directive 'UsePAM' is not allowed within a Match block"]
    );
    assert!(config.errors[0].stops_start);
    assert_eq!(config.errors[0].text, "  UsePAM yes");
    assert!(load("Match all\nUsePAM yes\n").errors.is_empty());
}

#[test]
fn an_unknown_keyword_stops_sshd_wherever_it_stands() {
    for main in ["Nonsense yes\n", "Match User nobody\nNonsense yes\n"] {
        let config = load(main);
        assert!(config.errors[0].says.ends_with("Bad configuration option: Nonsense"), "{main}");
    }
    let drop_in = "Include /etc/ssh/sshd_config.d/*.conf\n";
    let mut tree = tree(drop_in);
    tree.file("/etc/ssh/sshd_config.d/x.conf", 0o644, 0, 0, b"\nNonsense yes\n");
    let config = Config::load(&tree, &debian(), &[]);
    assert_eq!(config.errors[0].at, Location { file: "/etc/ssh/sshd_config.d/x.conf".into(), line: 2 });
}

#[test]
fn several_errors_are_told_in_order() {
    let config = load("UsePAM true\nPort 0\nX y\n");
    assert_eq!(config.errors.iter().map(|error| error.at.line).collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn what_is_missing_is_told_apart_from_what_cannot_be_read() {
    let kinds = |tree: &MemTree| {
        let config = Config::load(tree, &debian(), &[]);
        config.errors.iter().map(|error| (error.kind, error.stops_start)).collect::<Vec<_>>()
    };
    assert_eq!(kinds(&MemTree::new()), [(ErrorKind::Missing, true)]);
    let mut tree = MemTree::new();
    tree.link(MAIN_FILE, "/nowhere");
    assert_eq!(kinds(&tree), [(ErrorKind::Missing, true)]);
    tree.link(MAIN_FILE, MAIN_FILE);
    assert_eq!(kinds(&tree), [(ErrorKind::Unreadable, true)]);
    tree.put(MAIN_FILE, FileKind::Fifo, 0o600, 0, 0, b"");
    assert_eq!(kinds(&tree), [(ErrorKind::Unreadable, true)]);
    tree.put(MAIN_FILE, FileKind::Directory, 0o755, 0, 0, b"");
    assert_eq!(kinds(&tree), [], "a directory has no lines");
    tree.link(MAIN_FILE, "/run/generated");
    assert_eq!(kinds(&tree), [(ErrorKind::Unknown, false)]);
    tree.file(MAIN_FILE, 0o600, 0, 0, b"Include x.conf\n");
    tree.link("/etc/ssh/x.conf", "gone");
    assert_eq!(kinds(&tree), [(ErrorKind::Unreadable, true)], "a dangling link that is included");
    tree.dir("/dev", 0o755, 0, 0).link("/etc/ssh/x.conf", "/dev/null");
    assert_eq!(kinds(&tree), []);
}

#[test]
fn revoked_keys_none_in_a_block_is_a_file_of_that_name() {
    let config = load(
        "RevokedKeys none\nTrustedUserCAKeys none\nForceCommand /x\nMatch User u\nRevokedKeys none\nForceCommand none\n",
    );
    let other = effective(&config, &user("other"));
    assert_eq!((other.revoked_keys.value, other.trusted_user_ca_keys.value), (None, None));
    let matched = effective(&config, &user("u"));
    assert_eq!(matched.revoked_keys.value, Some(BString::from("none")));
    assert_eq!(matched.force_command.value, None);
}

#[test]
fn an_unknown_address_is_told_only_where_it_matters() {
    let harmless = "Match Address 10.0.0.0/8\n  X11Forwarding no\n  MaxAuthTries 6\n";
    assert_eq!(load(harmless).effective(&user("u")).1, []);
    let config = load("UsePAM yes\nMatch Address 10.0.0.0/8\nPubkeyAuthentication no\n");
    let (found, undecided) = config.effective(&user("u"));
    assert!(found.pubkey_authentication.value, "an unspecified client does not match");
    assert_eq!(undecided.len(), 1);
    assert_eq!((undecided[0].at.line, undecided[0].missing.as_str()), (2, "the client's address"));
    let (found, undecided) = config.effective(&from("u", "10.1.2.3"));
    assert!(!found.pubkey_authentication.value && undecided.is_empty());
    let other_user = load("Match User root Address 10.0.0.0/8\nPubkeyAuthentication no\n");
    assert_eq!(other_user.effective(&user("u")).1, []);
    assert_eq!(other_user.effective(&user("root")).1.len(), 1);
}

#[test]
fn host_names_count_only_with_use_dns() {
    let host = "Match Host *.example.com\nPubkeyAuthentication no\n";
    let config = load(host);
    let connection = Connection { host: Some("a.example.com".into()), ..from("u", "10.1.2.3") };
    assert!(effective(&config, &connection).pubkey_authentication.value);
    assert_eq!(config.effective(&user("u")).1, [], "no address looks like that name");
    let config = load(&format!("UseDNS yes\n{host}"));
    assert!(!effective(&config, &connection).pubkey_authentication.value);
    assert_eq!(config.effective(&from("u", "10.1.2.3")).1.len(), 1);
}

#[test]
fn two_criteria_that_only_count_together_are_told() {
    let main = "Match LocalAddress 10.0.0.1 Address 10.0.0.0/8\nPubkeyAuthentication no\n";
    assert_eq!(load(main).effective(&user("u")).1.len(), 2);
}

#[test]
fn a_bad_network_stopped_only_connections_before_8_4() {
    let main = "Match Address 10.0.0.5/8\nMaxAuthTries 1\n";
    assert!(load_as((8, 4), main).errors[0].stops_start);
    let config = load_as((8, 0), main);
    assert!(config.errors.is_empty());
    let fatal = effective(&config, &from("u", "192.0.2.1")).fatal.unwrap();
    assert!(fatal.says.ends_with("Bad Match condition") && !fatal.stops_start);
}

#[test]
fn quotes_and_comments_follow_the_version() {
    let users = |version, main: &str| {
        let config = load_as(version, main);
        let words: Vec<String> =
            effective(&config, &user("u")).allow_users.iter().map(|word| word.value.to_string()).collect();
        (config.errors.len(), words)
    };
    let both = |main| (users((8, 4), main), users((9, 2), main));
    let words = |words: &[&str]| (0, words.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert_eq!(both("AllowUsers 'a b'\n"), (words(&["'a", "b'"]), words(&["a b"])));
    assert_eq!(both("AllowUsers a=b\n"), (words(&["a", "b"]), words(&["a=b"])));
    assert_eq!(both("AllowUsers a#b c\n"), (words(&["a"]), words(&["a#b", "c"])));
    assert_eq!(users((8, 4), "AllowUsers \"u\n"), words(&[]), "an open quote drops the rest");
    assert_eq!(users((9, 2), "AllowUsers \"u\n").0, 1);
    assert_eq!(users((9, 6), "AllowUsers # x\n"), words(&[]));
    assert_eq!(users((9, 7), "AllowUsers # x\n").0, 1);
}

#[test]
fn any_in_a_block_over_a_global_list_stops_8_7_to_9_6() {
    let main = "AuthenticationMethods publickey\nMatch User u\nAuthenticationMethods any\n";
    for (version, stops) in [((8, 4), false), ((8, 7), true), ((9, 6), true), ((9, 7), false)] {
        assert_eq!(!load_as(version, main).errors.is_empty(), stops, "{version:?}");
    }
}

#[test]
fn what_cannot_work_as_a_whole_stops_sshd() {
    let config = load("AuthorizedKeysCommand /x\n");
    assert_eq!(says(&config), ["AuthorizedKeysCommand set without AuthorizedKeysCommandUser"]);
    assert_eq!(config.errors[0].at.line, 1);
    assert!(load("AuthorizedKeysCommand none\n").errors.is_empty());
    let config = load("AuthenticationMethods password\nPasswordAuthentication no\n");
    assert!(config.errors[0].says.contains("cannot be satisfied"));
    assert!(
        load("Match User u\nAuthenticationMethods hostbased\n").errors.is_empty(),
        "not asked at the start"
    );
    assert_eq!(load("AddressFamily inet\nListenAddress ::1\n").errors.len(), 1);
    assert_eq!(load("ListenAddress some.host\n").errors[0].kind, ErrorKind::Unknown);
}

#[test]
fn options_of_the_command_line_come_first_and_lose_to_a_block() {
    let options = ["MaxAuthTries=2", "AllowUsers=a"].map(BString::from);
    let tree = tree("MaxAuthTries 3\nAllowUsers b\nMatch User u\nMaxAuthTries 4\n");
    let config = Config::load(&tree, &debian(), &options);
    let other = effective(&config, &user("other"));
    assert_eq!((other.max_auth_tries.value, other.allow_users.len()), (2, 2));
    assert_eq!(other.max_auth_tries.at.unwrap().file, Path::new("command-line"));
    assert_eq!(effective(&config, &user("u")).max_auth_tries.value, 4);
    let bad = Config::load(&tree, &debian(), &[BString::from("Include x")]);
    assert!(bad.errors[0].says.contains("not supported as a command-line option"));
}

#[test]
fn the_crypto_policy_of_el9_comes_by_include() {
    let mut tree = tree("Include /etc/ssh/sshd_config.d/*.conf\n");
    let policy = "PubkeyAcceptedAlgorithms rsa-sha2-512,ssh-ed25519\nRequiredRSASize 2048\n";
    tree.file("/usr/share/crypto-policies/DEFAULT/opensshserver.txt", 0o644, 0, 0, policy.as_bytes());
    tree.link(
        "/etc/crypto-policies/back-ends/opensshserver.config",
        "/usr/share/crypto-policies/DEFAULT/opensshserver.txt",
    );
    let drop_in = "Include /etc/crypto-policies/back-ends/opensshserver.config\nUsePAM yes\n";
    tree.file("/etc/ssh/sshd_config.d/50-redhat.conf", 0o600, 0, 0, drop_in.as_bytes());
    let config = Config::load(&tree, &Build::of(Family::RedHat, (8, 7)), &[]);
    assert!(config.errors.is_empty(), "{:?}", config.errors);
    let effective = effective(&config, &user("u"));
    assert!(effective.use_pam.value);
    assert_eq!(effective.required_rsa_size.value, 2048);
    assert_eq!(effective.pubkey_accepted_algorithms.value.len(), 2);
}

#[test]
fn el7_and_the_oldest_versions_have_their_own_defaults() {
    let config = Config::load(&tree(""), &Build::of(Family::RedHat, (7, 4)), &[]);
    let effective = effective(&config, &user("u"));
    assert_eq!(effective.permit_root_login.value, PermitRootLogin::Yes);
    assert!(effective.use_dns.value && effective.kbd_interactive_authentication.value);
    assert_eq!(effective.host_keys.len(), 4);
    let old = load_as((8, 4), "ChallengeResponseAuthentication no\n");
    assert!(!super::tests::effective(&old, &user("u")).kbd_interactive_authentication.value);
}

#[test]
fn without_pam_in_the_build_use_pam_is_passed_over() {
    let build = Build { pam: false, ..Build::of(Family::Upstream, (9, 7)) };
    let config = Config::load(&tree("UsePAM yes\n"), &build, &[]);
    assert!(config.errors.is_empty());
    assert!(!effective(&config, &user("u")).use_pam.value);
}

#[test]
fn a_block_with_the_only_subsystem_kills_9_5_to_10_0() {
    let main = "Match User u\nSubsystem sftp internal-sftp\n";
    for (version, dies) in [((9, 6), true), ((10, 0), true), ((10, 1), false)] {
        let config = load_as(version, main);
        assert!(config.errors.is_empty());
        assert_eq!(effective(&config, &user("u")).fatal.is_some(), dies, "{version:?}");
        assert!(effective(&config, &user("other")).fatal.is_none());
    }
}

#[test]
fn files_that_include_each_other_end_in_bounded_time() {
    let mut tree = tree("Include a a\n");
    for (name, next) in [("a", "b"), ("b", "c"), ("c", "d"), ("d", "e"), ("e", "f"), ("f", "g"), ("g", "h")] {
        let content = format!("Include {next} {next} {next} {next} {next} {next}\nUsePAM yes\n");
        tree.file(&format!("/etc/ssh/{name}"), 0o644, 0, 0, content.as_bytes());
    }
    let many = "MaxSessions 3\n".repeat(1000);
    tree.file("/etc/ssh/h", 0o644, 0, 0, many.as_bytes());
    let config = Config::load(&tree, &debian(), &[]);
    assert_eq!(config.errors.last().unwrap().kind, ErrorKind::Unknown, "{:?}", config.errors);
    let config = load("Include sshd_config\n");
    assert_eq!(says(&config), ["Too many recursive configuration includes"]);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(main: Vec<u8>, included: Vec<u8>) {
        let mut tree = MemTree::new();
        let main = [b"Include x\nMatch User u\n".as_slice(), &main].concat();
        tree.file(MAIN_FILE, 0o644, 0, 0, &main).file("/etc/ssh/x", 0o644, 0, 0, &included);
        for version in [(7, 4), (8, 4), (9, 2), (10, 0)] {
            let config = Config::load(&tree, &Build::of(Family::RedHat, version), &[BString::from(included.clone())]);
            let _ = config.effective(&user("u"));
        }
    }

    #[test]
    fn no_words_make_it_panic(
        lines in proptest::collection::vec(
            ("(Match|Include|AllowUsers|Port|Subsystem|AuthenticationMethods|PermitOpen|IPQoS|RekeyLimit|Ciphers|\
              ListenAddress|MaxStartups|ChannelTimeout|PerSourcePenalties|SetEnv|ForceCommand|RevokedKeys)",
             "[ =]{1,2}", "[-+^!a-z0-9.:/,*?\"'\\\\\\[\\]~@%= #\t]{0,20}"), 0..12)
    ) {
        let main: String = lines.iter().map(|(keyword, blank, value)| format!("{keyword}{blank}{value}\n")).collect();
        for version in [(7, 4), (8, 0), (8, 4), (9, 2), (10, 0)] {
            let config = load_as(version, &main);
            let _ = config.effective(&user("u"));
            let _ = config.effective(&from("u", "10.1.2.3"));
        }
    }
}
