//! What can be wrong: the table of all checks, and the finding that one of them made.

use serde::Serialize;
use std::path::PathBuf;

/// Would sshd accept?
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// `ssh -n U@host true` with this key ends with 0.
    Accept,
    /// The answer is not on the disk, or hangs on the client's address.
    Unknown,
    /// It does not.
    Refuse,
}

impl Verdict {
    /// The word of the JSON contract.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Unknown => "unknown",
            Self::Refuse => "refuse",
        }
    }
}

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// With this, sshd refuses.
    Blocks,
    /// Worth knowing or mending; sshd accepts all the same. Also what makes a verdict `unknown`.
    Advises,
}

/// The class of change that mends a finding; all but the first three need `--fix CLASS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FixedBy {
    /// Modes, owners, ACLs, missing directories: `repair`.
    Permissions,
    /// A public key: `repair --key` or `--generate-key`.
    Key,
    /// The user entry: `repair --create-user`.
    User,
    /// `repair --fix sshd-config`.
    SshdConfig,
    /// `repair --fix account`.
    Account,
    /// `repair --fix host-keys`.
    HostKeys,
    /// `repair --fix service`.
    Service,
    /// `repair --fix system`.
    System,
    /// Not by this tool.
    Nothing,
}

impl FixedBy {
    /// The word of the JSON contract.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Permissions => "permissions",
            Self::Key => "key",
            Self::User => "user",
            Self::SshdConfig => "sshd-config",
            Self::Account => "account",
            Self::HostKeys => "host-keys",
            Self::Service => "service",
            Self::System => "system",
            Self::Nothing => "nothing",
        }
    }
}

/// A place in a text file of the volume.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// The file, absolute in the volume.
    pub file: PathBuf,
    /// The line, counted from 1.
    pub line: u32,
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// A line of the volume, and the part of it that is meant. Hashes and long runs of base64 are left out, and what is far
/// from the part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// Where the part begins in the line, in characters, counted from 1.
    pub column: u32,
    /// The line before it.
    pub before: String,
    /// The part; empty where something is missing there.
    pub marked: String,
    /// The line behind it.
    pub after: String,
}

/// One thing that a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which check.
    pub check: CheckId,
    /// Whether sshd refuses for it.
    pub severity: Severity,
    /// What it is about: an absolute path of the volume, if there is one.
    pub path: Option<PathBuf>,
    /// The line in `path`, counted from 1, if it is about a line.
    pub line: Option<u32>,
    /// What is there ("0777 1000:1000", "PubkeyAuthentication no"). Never a hash or a private key.
    pub is: String,
    /// What should be there.
    pub wants: String,
    /// What sshd logs about it, word for word, where it logs anything at its default level; without the client's address,
    /// so that it can be searched for.
    pub sshd_says: Option<String>,
    /// What mends it here; the check's own class unless this case differs.
    pub fixed_by: FixedBy,
    /// The line as it stands there, once it has been looked up.
    pub quote: Option<Box<Quote>>,
}

impl Finding {
    /// A finding of `check`, without path or log line, fixed by the check's own class.
    #[must_use]
    pub fn new(check: CheckId, severity: Severity) -> Self {
        Self {
            check,
            severity,
            path: None,
            line: None,
            is: String::new(),
            wants: String::new(),
            sshd_says: None,
            fixed_by: check.fixed_by(),
            quote: None,
        }
    }

    /// A finding for which sshd refuses.
    #[must_use]
    pub fn blocks(check: CheckId) -> Self {
        Self::new(check, Severity::Blocks)
    }

    /// A finding that sshd does not care about.
    #[must_use]
    pub fn advises(check: CheckId) -> Self {
        Self::new(check, Severity::Advises)
    }

    /// Says where.
    #[must_use]
    pub fn at(mut self, path: impl Into<PathBuf>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// Says which line of the file.
    #[must_use]
    pub fn on_line(mut self, line: u32) -> Self {
        self.line = Some(line);
        self
    }

    /// Says what is there.
    #[must_use]
    pub fn is(mut self, is: impl Into<String>) -> Self {
        self.is = is.into();
        self
    }

    /// Says what should be there.
    #[must_use]
    pub fn wants(mut self, wants: impl Into<String>) -> Self {
        self.wants = wants.into();
        self
    }

    /// Says what sshd logs.
    #[must_use]
    pub fn says(mut self, words: impl Into<String>) -> Self {
        self.sshd_says = Some(words.into());
        self
    }

    /// Says what mends it, where that is not the check's own class.
    #[must_use]
    pub fn fixed_by(mut self, class: FixedBy) -> Self {
        self.fixed_by = class;
        self
    }
}

macro_rules! checks {
    ($($id:ident $name:literal $class:ident $meaning:literal;)*) => {
        /// Every check, by its stable name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum CheckId {
            $(#[doc = $meaning] $id,)*
        }

        impl CheckId {
            /// All checks, in the order in which sshd comes to them.
            pub const ALL: &'static [CheckId] = &[$(Self::$id,)*];

            /// The stable kebab-case name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$id => $name,)* }
            }

            /// What it means, in one sentence.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$id => $meaning,)* }
            }

            /// The class of change that mends it.
            #[must_use]
            pub fn fixed_by(self) -> FixedBy {
                match self { $(Self::$id => FixedBy::$class,)* }
            }
        }
    };
}

checks! {
    // the volume
    FileUnreadable "file-unreadable" Nothing "A file that the answer hangs on is there and cannot be read (I/O error, size).";
    // sshd starts
    SshdMissing "sshd-missing" Nothing "No sshd program was found on the volume.";
    SshdNotExecutable "sshd-not-executable" System "The sshd program is there, but lacks the x bit.";
    SshdBroken "sshd-broken" Nothing "The sshd program is there, but is nothing that the machine can run.";
    SshdHelperMissing "sshd-helper-missing" Nothing "A program that sshd starts for each connection does not exist or cannot be executed.";
    ConfigMissing "config-missing" SshdConfig "sshd_config does not exist, so sshd does not start.";
    ConfigUnreadable "config-unreadable" SshdConfig "sshd_config or a file it includes cannot be read, so sshd does not start.";
    ConfigSyntax "config-syntax" SshdConfig "A line of the configuration is one that this sshd does not take, so it does not start.";
    ConfigTooLarge "config-too-large" Nothing "The configuration is larger than the message in which sshd hands it to the process of a connection, so every connection ends.";
    ConfigNotUnderstood "config-not-understood" Nothing "The configuration uses something whose effect is not on the disk, or that volrescue does not evaluate.";
    ListenAddress "listen-address" Nothing "sshd listens on no address that the client is sure to reach.";
    PrivsepUserMissing "privsep-user-missing" User "The user sshd, which privilege separation needs, is not in passwd.";
    PrivsepDirMissing "privsep-dir-missing" Permissions "The privilege separation directory does not exist.";
    PrivsepDirMode "privsep-dir-mode" Permissions "The privilege separation directory is not root's alone to write.";
    HostKeysMissing "host-keys-missing" HostKeys "No host key exists, so sshd does not start.";
    HostKeysUnusable "host-keys-unusable" HostKeys "A host key is empty, damaged or encrypted.";
    HostKeysTooOpen "host-keys-too-open" Permissions "A private host key can be read by others, so sshd does not load it.";
    // the account
    UserMissing "user-missing" User "The user is not in the volume's passwd.";
    UserDuplicate "user-duplicate" Nothing "More than one passwd line bears the user's name; the first is in force.";
    UserDirectoryService "user-directory-service" Nothing "The user may come from a directory service that nsswitch.conf names.";
    GroupServicesMissing "group-services-missing" Account "nsswitch.conf names no service for groups, and the C library reads past the empty list.";
    AccountIdInvalid "account-id-invalid" Nothing "The uid or gid of the account is 4294967295, which the kernel takes for none at all.";
    AccountLocked "account-locked" Account "The password field begins with ! and UsePAM is off, so sshd takes the account for locked.";
    AccountExpired "account-expired" Account "The account's expiry date is past.";
    PasswordExpired "password-expired" Account "The password is too old and must be changed at login, which ends the session.";
    ShadowEntryMissing "shadow-entry-missing" User "passwd points to shadow, but shadow has no usable line for the user.";
    AccountFileMode "account-file-mode" Permissions "An account file has the wrong mode or owner.";
    ShellMissing "shell-missing" Account "The login shell does not exist on the volume.";
    ShellNotExecutable "shell-not-executable" Account "The login shell is not a file that the user can execute.";
    LibraryUnreadable "library-unreadable" System "The user may not read a library that the login shell needs, or it is missing.";
    ShellRefusesLogin "shell-refuses-login" Account "The login shell is one that ends every session (nologin, false).";
    ShellStartupExits "shell-startup-exits" Nothing "The user's .bashrc ends the shell before it runs anything.";
    NologinFile "nologin-file" Account "/etc/nologin exists and keeps out everybody but root.";
    PamRefuses "pam-refuses" Account "A PAM account or session rule refuses the user.";
    PamUndecided "pam-undecided" Nothing "A PAM module decides by something that is not on the disk.";
    DeniedUser "denied-user" SshdConfig "DenyUsers or DenyGroups names the user.";
    NotAllowedUser "not-allowed-user" SshdConfig "AllowUsers or AllowGroups is set and does not name the user.";
    RootLoginDenied "root-login-denied" SshdConfig "PermitRootLogin keeps out uid 0.";
    ConnectionRefused "connection-refused" SshdConfig "The configuration refuses the connection of this user.";
    HostsDeny "hosts-deny" System "The TCP wrapper refuses the client.";
    NegotiationFails "negotiation-fails" SshdConfig "The configuration leaves no algorithm that a current client has.";
    // public keys at all
    PubkeyAuthenticationOff "pubkey-authentication-off" SshdConfig "PubkeyAuthentication is off for this user.";
    KeyTypeNotAccepted "key-type-not-accepted" SshdConfig "The key's algorithm is not one that this sshd accepts.";
    KeyTooShort "key-too-short" SshdConfig "The RSA key is shorter than this sshd accepts.";
    RevokedKeysUnusable "revoked-keys-unusable" SshdConfig "RevokedKeys names a file that cannot be used, so every key counts as revoked.";
    KeyRevoked "key-revoked" SshdConfig "The key is in the RevokedKeys file.";
    MoreMethodsNeeded "more-methods-needed" SshdConfig "AuthenticationMethods asks for more than a public key.";
    NoKeyFiles "no-key-files" SshdConfig "AuthorizedKeysFile names no file that sshd would read.";
    KeyCommand "key-command" Nothing "AuthorizedKeysCommand may give further keys; its answer is not on the disk.";
    // the path
    RootDirectoryMode "root-directory-mode" Permissions "The root directory is not 0755 root:root.";
    DirectoryNotSearchable "directory-not-searchable" Permissions "A directory on the way lacks the x bit for the user.";
    DirectoryWritableByOthers "directory-writable-by-others" Permissions "A directory on the way can be written by others.";
    DirectoryWrongOwner "directory-wrong-owner" Permissions "A directory on the way belongs to neither root nor the user.";
    HomeParentMode "home-parent-mode" Permissions "A directory above the home is not 0755 root:root.";
    HomeMissing "home-missing" Permissions "The home directory does not exist.";
    HomeNotDirectory "home-not-directory" Nothing "The home of the user is no directory.";
    HomeWrongOwner "home-wrong-owner" Permissions "The home directory belongs to somebody else.";
    HomeWritableByOthers "home-writable-by-others" Permissions "The home directory can be written by others.";
    HomeNotSearchable "home-not-searchable" Permissions "The user may not enter the home directory.";
    HomeMode "home-mode" Permissions "The home directory is not 0700 and the user's; sshd accepts it.";
    HomeElsewhere "home-elsewhere" Nothing "Another filesystem is mounted over the home at boot, so what is seen here is not what sshd sees.";
    FilesystemMissing "filesystem-missing" Nothing "Boot mounts a filesystem that is on no volume given here, so what lies on it is not seen.";
    PathNotDirectory "path-not-directory" Nothing "Something on the way to the keys is no directory.";
    SshDirMissing "ssh-dir-missing" Permissions "The directory .ssh does not exist.";
    SshDirNotDirectory "ssh-dir-not-directory" Nothing ".ssh is no directory.";
    SshDirWrongOwner "ssh-dir-wrong-owner" Permissions ".ssh belongs to somebody else.";
    SshDirWritableByOthers "ssh-dir-writable-by-others" Permissions ".ssh can be written by others.";
    SshDirNotSearchable "ssh-dir-not-searchable" Permissions "The user may not enter .ssh.";
    PathLocked "path-locked" Nothing "A flag (chattr +i or +a) keeps everybody from changing this; a repair lifts it for its own change and puts it back.";
    SshDirDefaultAcl "ssh-dir-default-acl" Permissions "A default ACL of the directory of keys lets others write what is made in it, whatever the umask: a new file of keys would be refused.";
    SshDirMode "ssh-dir-mode" Permissions ".ssh is not 0700 and the user's; sshd accepts it.";
    KeyFileMissing "key-file-missing" Key "No file that AuthorizedKeysFile names exists.";
    KeyFileNotRegular "key-file-not-regular" Nothing "The authorized_keys file is no regular file.";
    KeyFileLinkBroken "key-file-link-broken" Key "A symbolic link on the way to the keys dangles or loops.";
    LinkOutsideHome "link-outside-home" Nothing "A symbolic link leads out of the home to what is not changed here.";
    KeyFileHardLinked "key-file-hard-linked" Nothing "The authorized_keys file has other names, so it is not changed in place.";
    KeyFileWrongOwner "key-file-wrong-owner" Permissions "The authorized_keys file belongs to somebody else.";
    KeyFileWritableByOthers "key-file-writable-by-others" Permissions "The authorized_keys file can be written by others.";
    KeyFileUnreadable "key-file-unreadable" Permissions "The user may not read the authorized_keys file.";
    KeyFileMode "key-file-mode" Permissions "The authorized_keys file is not 0600 and the user's; sshd accepts it.";
    KeyFileShared "key-file-shared" Nothing "The file of keys serves several users.";
    KeyFileTooLarge "key-file-too-large" Nothing "The file of keys is larger than volrescue reads.";
    // the lines
    KeyFileEmpty "key-file-empty" Key "The file of keys holds no line that sshd could read as a key.";
    KeyAbsent "key-absent" Key "The key is on no line that sshd would accept.";
    KeyLineBroken "key-line-broken" Key "A line holds a key in a form that sshd does not read (wrapped, glued, converted).";
    KeyLineRefuses "key-line-refuses" Key "The key's line has options that refuse this login (expired, from, principals).";
    KeyLineFrom "key-line-from" Nothing "The key's line admits only some client addresses.";
    CertificateRefused "certificate-refused" Key "The certificate is not one that sshd takes for this user.";
    KeyLineCommand "key-line-command" Nothing "The key's line forces a command in place of a shell.";
    // the session
    ForcedCommand "forced-command" SshdConfig "ForceCommand replaces the shell.";
    ChrootUnusable "chroot-unusable" SshdConfig "ChrootDirectory is not a directory that sshd accepts.";
    MaxSessionsZero "max-sessions-zero" SshdConfig "MaxSessions, MaxAuthTries or MaxStartups leaves no room for a login.";
    // beside the way
    ClientKeyMode "client-key-mode" Permissions "A private key or config in .ssh is open to others, so the user's own ssh refuses it.";
    LabelWrong "label-wrong" Permissions "The SELinux label of a file on the way is missing, or not the one that the volume's policy gives it.";
    SystemWritable "system-writable" Nothing "Files or directories of the system can be written by everybody.";
    SudoersMode "sudoers-mode" System "sudo refuses to work with the mode or owner of its own files.";
    ServiceDisabled "service-disabled" Service "The ssh service is masked, disabled or kept from starting.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn check_names_are_unique_and_kebab_case() {
        let names: BTreeSet<_> = CheckId::ALL.iter().map(|check| check.name()).collect();
        assert_eq!(names.len(), CheckId::ALL.len());
        assert!(names.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')));
    }
}
