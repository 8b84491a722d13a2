//! Every keyword of sshd_config, by version and distribution: what it is, and whether it may stand in a Match block.
//!
//! Source: the table `keywords[]` of openssh-portable `servconf.c`, 7.4 to 10.0, and the patches of the distributions.

use crate::sshd::build::{Build, Family};

/// What a keyword asks for. Those whose value no decision needs share an entry by the form of their value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Op {
    UsePam,
    PamServiceName,
    StrictModes,
    PubkeyAuthentication,
    PasswordAuthentication,
    KbdInteractive,
    ChallengeResponse,
    GssapiAuthentication,
    GssapiKeyExchange,
    HostbasedAuthentication,
    UseDns,
    RefuseConnection,
    UsePrivilegeSeparation,
    PermitUserEnvironment,
    PermitRootLogin,
    MaxAuthTries,
    MaxSessions,
    RequiredRsaSize,
    AuthorizedKeysFile,
    AuthorizedKeysCommand,
    AuthorizedKeysCommandUser,
    AuthorizedPrincipalsFile,
    AuthorizedPrincipalsCommand,
    AuthorizedPrincipalsCommandUser,
    TrustedUserCaKeys,
    RevokedKeys,
    AllowUsers,
    DenyUsers,
    AllowGroups,
    DenyGroups,
    AuthenticationMethods,
    PubkeyAcceptedAlgorithms,
    CaSignatureAlgorithms,
    HostKeyAlgorithms,
    HostbasedAlgorithms,
    Ciphers,
    Macs,
    KexAlgorithms,
    GssapiKexAlgorithms,
    ForceCommand,
    ChrootDirectory,
    HostKey,
    HostKeyAgent,
    HostCertificate,
    SshdSessionPath,
    SshdAuthPath,
    Port,
    ListenAddress,
    AddressFamily,
    Subsystem,
    Include,
    Match,
    // what follows is only checked
    PubkeyAuthOptions,
    LogFacility,
    LogLevel,
    LogVerbose,
    RekeyLimit,
    MaxStartups,
    PerSourceNetBlockSize,
    PerSourceMaxStartups,
    PerSourcePenalties,
    PerSourceExemptList,
    AcceptEnv,
    SetEnv,
    PermitTunnel,
    PermitOpen,
    PermitListen,
    IpQos,
    VersionAddendum,
    StreamLocalBindMask,
    FingerprintHash,
    RDomain,
    ChannelTimeout,
    UnusedConnectionTimeout,
    IgnoreRhosts,
    SecurityKeyProvider,
    Compression,
    GatewayPorts,
    TcpForwarding,
    ExposeAuthenticationMethods,
    Flag,
    Int,
    Time,
    FileName,
    /// Any value is passed over, with or without a word in the log.
    Ignored,
}

/// Where a keyword may stand.
#[derive(Clone, Copy, Debug)]
enum Scope {
    Global,
    All,
    /// Also in a Match block from this version on.
    MatchSince(u32, u32),
}

/// Which builds know a keyword.
#[derive(Clone, Copy, Debug)]
enum Known {
    Always,
    Since(u32, u32),
    /// From the first version on, or in RHEL's builds of these releases.
    SinceOrEl(u32, u32, u32, u32),
    /// Debian's build.
    Debian,
    /// RHEL's builds of these releases.
    El(u32, u32),
    /// With the patch for GSSAPI key exchange: Debian, RHEL, SUSE.
    Gssapi,
}

use Known::{Always, El, Since, SinceOrEl};
use Scope::{All, Global, MatchSince};

const KEYWORDS: &[(&str, Op, Scope, Known)] = &[
    ("usepam", Op::UsePam, Global, Always),
    ("pamservicename", Op::PamServiceName, All, Since(9, 8)),
    ("pamauthenticationviakbdint", Op::Ignored, Global, Always),
    ("port", Op::Port, Global, Always),
    ("hostkey", Op::HostKey, Global, Always),
    ("hostdsakey", Op::HostKey, Global, Always),
    ("hostkeyagent", Op::HostKeyAgent, Global, Always),
    ("pidfile", Op::FileName, Global, Always),
    ("modulifile", Op::FileName, Global, Since(8, 6)),
    ("serverkeybits", Op::Ignored, Global, Always),
    ("logingracetime", Op::Time, Global, Always),
    ("keyregenerationinterval", Op::Ignored, Global, Always),
    ("permitrootlogin", Op::PermitRootLogin, All, Always),
    ("syslogfacility", Op::LogFacility, Global, Always),
    ("loglevel", Op::LogLevel, MatchSince(7, 6), Always),
    ("logverbose", Op::LogVerbose, All, Since(8, 5)),
    ("rhostsauthentication", Op::Ignored, Global, Always),
    ("rhostsrsaauthentication", Op::Ignored, All, Always),
    ("hostbasedauthentication", Op::HostbasedAuthentication, All, Always),
    ("hostbasedusesnamefrompacketonly", Op::Flag, All, Always),
    ("hostbasedacceptedalgorithms", Op::HostbasedAlgorithms, All, Since(8, 5)),
    ("hostbasedacceptedkeytypes", Op::HostbasedAlgorithms, All, Always),
    ("hostkeyalgorithms", Op::HostKeyAlgorithms, Global, Always),
    ("rsaauthentication", Op::Ignored, All, Always),
    ("pubkeyauthentication", Op::PubkeyAuthentication, All, Always),
    ("pubkeyacceptedalgorithms", Op::PubkeyAcceptedAlgorithms, All, Since(8, 5)),
    ("pubkeyacceptedkeytypes", Op::PubkeyAcceptedAlgorithms, All, Always),
    ("pubkeyauthoptions", Op::PubkeyAuthOptions, All, Since(8, 2)),
    ("dsaauthentication", Op::PubkeyAuthentication, Global, Always),
    ("kerberosauthentication", Op::Flag, All, Always),
    ("kerberosorlocalpasswd", Op::Flag, Global, Always),
    ("kerberosticketcleanup", Op::Flag, Global, Always),
    ("kerberosgetafstoken", Op::Ignored, Global, Always),
    ("kerberostgtpassing", Op::Ignored, Global, Always),
    ("afstokenpassing", Op::Ignored, Global, Always),
    ("gssapiauthentication", Op::GssapiAuthentication, All, Always),
    ("gssapicleanupcredentials", Op::Flag, Global, Always),
    ("gssapicleanupcreds", Op::Flag, Global, Known::Debian),
    ("gssapistrictacceptorcheck", Op::Flag, Global, Always),
    ("gssapikeyexchange", Op::GssapiKeyExchange, Global, Known::Gssapi),
    ("gssapistorecredentialsonrekey", Op::Flag, Global, Known::Gssapi),
    ("gssapikexalgorithms", Op::GssapiKexAlgorithms, Global, Known::Gssapi),
    ("gssusesessionccache", Op::Ignored, Global, Known::Gssapi),
    ("gssapiusesessioncredcache", Op::Ignored, Global, Known::Gssapi),
    ("passwordauthentication", Op::PasswordAuthentication, All, Always),
    ("kbdinteractiveauthentication", Op::KbdInteractive, All, Always),
    ("challengeresponseauthentication", Op::ChallengeResponse, MatchSince(8, 7), Always),
    ("skeyauthentication", Op::ChallengeResponse, MatchSince(8, 7), Always),
    ("checkmail", Op::Ignored, Global, Always),
    ("listenaddress", Op::ListenAddress, Global, Always),
    ("addressfamily", Op::AddressFamily, Global, Always),
    ("printmotd", Op::Flag, Global, Always),
    ("printlastlog", Op::Flag, Global, Always),
    ("ignorerhosts", Op::IgnoreRhosts, MatchSince(8, 3), Always),
    ("ignoreuserknownhosts", Op::Flag, Global, Always),
    ("x11forwarding", Op::Flag, All, Always),
    ("x11displayoffset", Op::Int, All, Always),
    ("x11uselocalhost", Op::Flag, All, Always),
    ("x11maxdisplays", Op::Int, All, El(7, 10)),
    ("xauthlocation", Op::FileName, Global, Always),
    ("strictmodes", Op::StrictModes, Global, Always),
    ("permitblacklistedkeys", Op::Ignored, Global, Known::Debian),
    ("permitemptypasswords", Op::Flag, All, Always),
    ("permituserenvironment", Op::PermitUserEnvironment, Global, Always),
    ("uselogin", Op::Ignored, Global, Always),
    ("compression", Op::Compression, Global, Always),
    ("rekeylimit", Op::RekeyLimit, All, Always),
    ("tcpkeepalive", Op::Flag, Global, Always),
    ("keepalive", Op::Flag, Global, Always),
    ("allowtcpforwarding", Op::TcpForwarding, All, Always),
    ("allowagentforwarding", Op::Flag, All, Always),
    ("allowusers", Op::AllowUsers, All, Always),
    ("denyusers", Op::DenyUsers, All, Always),
    ("allowgroups", Op::AllowGroups, All, Always),
    ("denygroups", Op::DenyGroups, All, Always),
    ("ciphers", Op::Ciphers, Global, Always),
    ("macs", Op::Macs, Global, Always),
    ("protocol", Op::Ignored, Global, Always),
    ("gatewayports", Op::GatewayPorts, All, Always),
    ("subsystem", Op::Subsystem, MatchSince(9, 5), Always),
    ("maxstartups", Op::MaxStartups, Global, Always),
    ("persourcemaxstartups", Op::PerSourceMaxStartups, Global, Since(8, 5)),
    ("persourcenetblocksize", Op::PerSourceNetBlockSize, Global, Since(8, 5)),
    ("persourcepenalties", Op::PerSourcePenalties, Global, Since(9, 8)),
    ("persourcepenaltyexemptlist", Op::PerSourceExemptList, Global, Since(9, 8)),
    ("maxauthtries", Op::MaxAuthTries, All, Always),
    ("maxsessions", Op::MaxSessions, All, Always),
    ("banner", Op::FileName, All, Always),
    ("usedns", Op::UseDns, Global, Always),
    ("verifyreversemapping", Op::Ignored, Global, Always),
    ("reversemappingcheck", Op::Ignored, Global, Always),
    ("clientaliveinterval", Op::Time, All, Always),
    ("clientalivecountmax", Op::Int, All, Always),
    ("authorizedkeysfile", Op::AuthorizedKeysFile, All, Always),
    ("authorizedkeysfile2", Op::Ignored, All, Always),
    ("useprivilegeseparation", Op::UsePrivilegeSeparation, Global, Always),
    ("acceptenv", Op::AcceptEnv, All, Always),
    ("setenv", Op::SetEnv, All, Since(7, 8)),
    ("permittunnel", Op::PermitTunnel, All, Always),
    ("permittty", Op::Flag, All, Always),
    ("permituserrc", Op::Flag, All, Always),
    ("match", Op::Match, All, Always),
    ("permitopen", Op::PermitOpen, All, Always),
    ("permitlisten", Op::PermitListen, All, Since(7, 8)),
    ("forcecommand", Op::ForceCommand, All, Always),
    ("chrootdirectory", Op::ChrootDirectory, All, Always),
    ("hostcertificate", Op::HostCertificate, Global, Always),
    ("revokedkeys", Op::RevokedKeys, All, Always),
    ("trustedusercakeys", Op::TrustedUserCaKeys, All, Always),
    ("authorizedprincipalsfile", Op::AuthorizedPrincipalsFile, All, Always),
    ("kexalgorithms", Op::KexAlgorithms, Global, Always),
    ("include", Op::Include, All, SinceOrEl(8, 2, 8, 8)),
    ("ipqos", Op::IpQos, All, Always),
    ("authorizedkeyscommand", Op::AuthorizedKeysCommand, All, Always),
    ("authorizedkeyscommanduser", Op::AuthorizedKeysCommandUser, All, Always),
    ("authorizedprincipalscommand", Op::AuthorizedPrincipalsCommand, All, Always),
    ("authorizedprincipalscommanduser", Op::AuthorizedPrincipalsCommandUser, All, Always),
    ("versionaddendum", Op::VersionAddendum, Global, Always),
    ("authenticationmethods", Op::AuthenticationMethods, All, Always),
    ("streamlocalbindmask", Op::StreamLocalBindMask, All, Always),
    ("streamlocalbindunlink", Op::Flag, All, Always),
    ("allowstreamlocalforwarding", Op::TcpForwarding, All, Always),
    ("fingerprinthash", Op::FingerprintHash, Global, Always),
    ("disableforwarding", Op::Flag, All, Always),
    ("exposeauthinfo", Op::Flag, All, Since(7, 6)),
    ("rdomain", Op::RDomain, All, Since(7, 7)),
    ("casignaturealgorithms", Op::CaSignatureAlgorithms, All, Since(7, 9)),
    ("securitykeyprovider", Op::SecurityKeyProvider, Global, Since(8, 2)),
    ("requiredrsasize", Op::RequiredRsaSize, All, SinceOrEl(9, 1, 9, 9)),
    ("rsaminsize", Op::RequiredRsaSize, All, El(9, 10)),
    ("channeltimeout", Op::ChannelTimeout, All, Since(9, 2)),
    ("unusedconnectiontimeout", Op::UnusedConnectionTimeout, All, Since(9, 2)),
    ("sshdsessionpath", Op::SshdSessionPath, Global, Since(9, 8)),
    ("sshdauthpath", Op::SshdAuthPath, Global, Since(10, 0)),
    ("refuseconnection", Op::RefuseConnection, All, Since(9, 9)),
    ("debianbanner", Op::Flag, Global, Known::Debian),
    ("exposeauthenticationmethods", Op::ExposeAuthenticationMethods, All, El(7, 7)),
    ("showpatchlevel", Op::Flag, Global, El(6, 7)),
    ("gssapienablek5users", Op::Flag, All, El(7, 10)),
    ("kerberosusekuserok", Op::Flag, All, El(7, 10)),
    ("kerberosuniqueccache", Op::Flag, Global, El(8, 10)),
];

/// A keyword that the build knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Keyword {
    pub(super) op: Op,
    /// May it stand in a Match block?
    pub(super) in_match: bool,
}

/// Looks a keyword up, in any case of letters.
pub(super) fn lookup(build: &Build, word: &[u8]) -> Option<Keyword> {
    let &(name, op, scope, known) =
        KEYWORDS.iter().find(|(name, ..)| name.as_bytes().eq_ignore_ascii_case(word))?;
    let known = match known {
        Known::Always => true,
        Known::Since(major, minor) => build.at_least(major, minor),
        Known::SinceOrEl(major, minor, from, to) => build.at_least(major, minor) || build.is_el(from..=to),
        Known::Debian => build.family == Family::Debian,
        Known::El(from, to) => build.is_el(from..=to),
        Known::Gssapi => build.family != Family::Upstream,
    };
    let in_match = match scope {
        Scope::Global => false,
        Scope::All => true,
        Scope::MatchSince(major, minor) => build.at_least(major, minor),
    };
    known.then_some(Keyword { op: in_this_build(build, name, op), in_match })
}

/// What the keyword comes to in this build: aliases, and what was not compiled in.
fn in_this_build(build: &Build, name: &str, op: Op) -> Op {
    match op {
        Op::UsePam | Op::PamServiceName if !build.pam => Op::Ignored,
        _ if !build.gssapi && (name.starts_with("gssapi") || name.starts_with("kerberos")) => Op::Ignored,
        Op::ChallengeResponse if build.at_least(8, 7) => Op::KbdInteractive,
        Op::ChallengeResponse if name == "skeyauthentication" && build.at_least(8, 0) => Op::Ignored,
        Op::UsePrivilegeSeparation if build.at_least(7, 5) => Op::Ignored,
        op => op,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyword_newer_than_the_binary_or_of_another_family_is_unknown() {
        let known =
            |family, version, word: &str| lookup(&Build::of(family, version), word.as_bytes()).is_some();
        assert!(known(Family::Debian, (9, 2), "RequiredRSASize"));
        assert!(!known(Family::Upstream, (8, 7), "RequiredRSASize"));
        assert!(known(Family::RedHat, (8, 7), "RequiredRSASize"));
        assert!(known(Family::RedHat, (8, 0), "Include"));
        assert!(!known(Family::Upstream, (8, 0), "Include"));
        assert!(known(Family::Debian, (9, 2), "DebianBanner"));
        assert!(!known(Family::RedHat, (8, 7), "DebianBanner"));
        assert!(!known(Family::Upstream, (9, 2), "GSSAPIKeyExchange"));
        assert!(known(Family::RedHat, (7, 4), "ShowPatchLevel"));
    }

    #[test]
    fn scopes_follow_the_version() {
        let in_match = |version, word: &str| {
            lookup(&Build::of(Family::Upstream, version), word.as_bytes()).unwrap().in_match
        };
        assert!(!in_match((9, 2), "USEPAM"));
        assert!(!in_match((8, 4), "ChallengeResponseAuthentication"));
        assert!(in_match((8, 7), "ChallengeResponseAuthentication"));
        assert!(!in_match((9, 4), "Subsystem"));
        assert!(in_match((9, 5), "Subsystem"));
    }
}
