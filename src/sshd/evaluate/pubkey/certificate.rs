//! Certificates: trusted by TrustedUserCAKeys or by a cert-authority line (auth2-pubkey.c, auth2-pubkeyfile.c,
//! PROTOCOL.certkeys).

use super::super::Case;
use super::super::account::at_setting;
use super::super::hosts::{Tri, host_list};
use super::super::path::{Places, State, expand};
use super::super::session::exit_status;
use super::{Judgement, LineAnswer, Trial};
use crate::accounts::PasswdEntry;
use crate::finding::{CheckId, Finding, Location, Severity};
use crate::keys::PublicKey;
use crate::keys::authorized_keys::{Line, Options, parse, parse_options};
use crate::keys::certificate::{Certificate, Kind};
use crate::permissions::Identity;
use crate::sshd::config::PermitRootLogin;
use crate::sshd::pattern::{AddressMatch, address_match_list};
use crate::view::{TEXT_LIMIT, read_following};
use bstr::{BString, ByteSlice};
use std::path::{Path, PathBuf};

/// The authorities of TrustedUserCAKeys.
pub(super) struct Trust {
    file: PathBuf,
    authorities: Vec<(u32, Vec<u8>)>,
    principals: Principals,
}

/// AuthorizedPrincipalsFile, as sshd opens it for the user.
enum Principals {
    /// Not set: the login name itself must be a principal.
    LoginName,
    /// Set, and not usable: nobody is one.
    Closed(Box<Finding>),
    /// The lines.
    Lines(PathBuf, Vec<u8>),
}

/// What a certificate, a line or a principals line leaves open or forces.
#[derive(Default)]
struct Terms {
    command: Option<BString>,
    doubt: Option<String>,
}

impl Trust {
    pub(super) fn read(case: &Case<'_>, user: &PasswdEntry, who: &Identity) -> Self {
        let mut trust =
            Self { file: PathBuf::new(), authorities: Vec::new(), principals: Principals::LoginName };
        let Some(file) = &case.effective.trusted_user_ca_keys.value else { return trust };
        trust.file = Path::new("/").join(&*file.to_os_str_lossy());
        let Ok(text) = read_following(case.view, &trust.file, TEXT_LIMIT) else { return trust };
        for (number, line) in parse(&text, case.build()) {
            match line {
                Line::Ignored => {}
                Line::Key(key) => trust.authorities.push((number, key.key.blob.clone())),
                // A line that cannot be read ends the search (sshkey_in_file).
                Line::Junk { .. } => break,
            }
        }
        trust.principals = principals(case, user, who);
        trust
    }

    pub(super) fn judge(
        &self,
        case: &mut Case<'_>,
        key: &PublicKey,
        trial: &Trial<'_>,
        judgement: &mut Judgement,
    ) {
        let Some(certificate) = key.certificate() else {
            judgement.findings.push(refuses("not a certificate that can be read", None));
            return;
        };
        if key.certificate_is_forged() {
            judgement.findings.push(refuses("its signature is not the authority's", None));
            return;
        }
        let accepted = &case.effective.ca_signature_algorithms;
        let signed = &certificate.signature_algorithm;
        if case.build().at_least(7, 9) && !accepted.value.is_empty() && !accepted.value.contains(signed) {
            let finding =
                refuses(&format!("signed with {signed}, which CASignatureAlgorithms does not have"), None);
            judgement.findings.push(at_setting(finding, accepted));
            return;
        }
        let mut denials = Vec::new();
        let ways = [Self::by_line, Self::by_file];
        // Since 8.1 the files of keys are asked first.
        let ways = if case.build().files_come_first() { ways } else { [ways[1], ways[0]] };
        for way in ways {
            match way(self, case, trial, &certificate, &mut denials) {
                Some((at, terms)) => {
                    judgement.found = Some(at.clone());
                    if let Some(missing) = terms.doubt {
                        judgement.doubts.push((told(&at, "its answer hangs on the client"), missing));
                    }
                    command(case, trial.user, &at, terms.command.as_ref(), judgement);
                    return;
                }
                None => continue,
            }
        }
        if trial.command {
            let finding = Finding::advises(CheckId::CertificateRefused).is("no file lets it in");
            judgement.doubts.push((finding, "what AuthorizedKeysCommand answers".into()));
        } else if denials.is_empty() {
            judgement.findings.push(refuses("its authority is in no file that sshd reads", None));
        } else {
            judgement.findings.append(&mut denials);
        }
    }

    /// A cert-authority line of authorized_keys (`auth_check_authkey_line`).
    fn by_line(
        &self,
        case: &Case<'_>,
        trial: &Trial<'_>,
        certificate: &Certificate,
        denials: &mut Vec<Finding>,
    ) -> Option<(Location, Terms)> {
        for place in trial.places_of(&certificate.ca) {
            let file = &trial.files[place.file];
            if file.state != State::Usable {
                continue;
            }
            let at = Location { file: file.shown().to_owned(), line: place.line };
            let Ok(options) = &place.key.options else { continue };
            if !options.cert_authority {
                continue;
            }
            let mut terms = Terms { command: options.command.clone(), doubt: None };
            match trial.authorises(case, options, &at) {
                LineAnswer::Denies(finding) => {
                    denials.push(*finding);
                    continue;
                }
                LineAnswer::Doubts(_, missing) => terms.doubt = Some(missing),
                LineAnswer::Allows => {}
            }
            if let Err(finding) = restrictions(case, certificate, &mut terms) {
                denials.push(finding);
                continue;
            }
            if let Some(list) = &options.principals {
                let listed = |name: &BString| list.split_str(",").any(|word| word == name.as_slice());
                if !certificate.principals.iter().any(listed) {
                    let says = "Certificate does not contain an authorized principal";
                    denials.push(refuses("none of its principals is in principals=", Some(says)));
                    continue;
                }
            }
            let name = options.principals.is_none().then_some(&trial.user.name);
            match validity(case, certificate, name, false) {
                Ok(()) => return Some((at, terms)),
                Err(finding) => denials.push(finding),
            }
        }
        None
    }

    /// TrustedUserCAKeys (`user_cert_trusted_ca`).
    fn by_file(
        &self,
        case: &Case<'_>,
        trial: &Trial<'_>,
        certificate: &Certificate,
        denials: &mut Vec<Finding>,
    ) -> Option<(Location, Terms)> {
        let (line, _) = self.authorities.iter().find(|(_, blob)| {
            PublicKey::from_blob(blob.clone()).is_ok_and(|authority| authority.same_key(&certificate.ca))
        })?;
        let at = Location { file: self.file.clone(), line: *line };
        let asks = case.effective.authorized_principals_command.value.is_some();
        let mut terms = Terms::default();
        let mut lines = Terms::default();
        let named = match &self.principals {
            Principals::LoginName => false,
            Principals::Closed(finding) => {
                if !asks {
                    denials.push((**finding).clone());
                    return None;
                }
                false
            }
            Principals::Lines(file, text) => {
                let found = trial.principal_line(case, file, text, certificate);
                if found.is_none() && !asks {
                    let says = "Certificate does not contain an authorized principal";
                    let is = format!("none of its principals is in {}", file.display());
                    denials.push(refuses(&is, Some(says)));
                    return None;
                }
                found.is_some_and(|(options, answer)| {
                    lines.command = options.command;
                    if let LineAnswer::Doubts(_, missing) = answer {
                        lines.doubt = Some(missing);
                        return true;
                    }
                    if let LineAnswer::Denies(finding) = answer {
                        denials.push(*finding);
                    }
                    true
                })
            }
        };
        if !denials.is_empty() && named {
            return None;
        }
        let name_counts = matches!(self.principals, Principals::LoginName) && !asks;
        if asks && !named {
            terms.doubt = Some("what AuthorizedPrincipalsCommand answers".into());
        }
        if let Err(finding) = validity(case, certificate, name_counts.then_some(&trial.user.name), true) {
            denials.push(finding);
            return None;
        }
        terms.command = lines.command;
        if let Err(finding) = restrictions(case, certificate, &mut terms) {
            denials.push(finding);
            return None;
        }
        terms.doubt = terms.doubt.or(lines.doubt);
        Some((at, terms))
    }
}

impl Trial<'_> {
    /// The first line of a principals file that names one of the certificate's (`process_principals`), with its
    /// options and what they say of this client.
    fn principal_line(
        &self,
        case: &Case<'_>,
        file: &Path,
        text: &[u8],
        certificate: &Certificate,
    ) -> Option<(Options, LineAnswer)> {
        const BLANKS: &[u8] = b" \t";
        for (line, number) in text.split(|byte| *byte == b'\n').zip(1..) {
            let line = line.split(|byte| *byte == 0).next().unwrap_or_default();
            let line = line.trim_start_with(|c| c == ' ' || c == '\t');
            let line = line.split(|byte| *byte == b'#').next().unwrap_or_default();
            let line = line.trim_end_with(|c| c == ' ' || c == '\t');
            if line.is_empty() {
                continue;
            }
            // What stands before the last blank are options.
            let blank = line.rfind_byteset(BLANKS);
            let (options, name) = match blank {
                Some(at) => (&line[..at], &line[at + 1..]),
                None => (b"".as_slice(), line),
            };
            let Ok(options) = parse_options(options, case.build()) else { continue };
            if certificate.principals.iter().any(|principal| principal == name) {
                let at = Location { file: file.to_owned(), line: number };
                let answer = self.authorises(case, &options, &at);
                return Some((options, answer));
            }
        }
        None
    }
}

/// AuthorizedPrincipalsFile is opened as a file of keys is (`auth_openprincipals`).
fn principals(case: &Case<'_>, user: &PasswdEntry, who: &Identity) -> Principals {
    let setting = &case.effective.authorized_principals_file;
    let Some(pattern) = &setting.value else { return Principals::LoginName };
    let closed = |path: &Path, is: &str| {
        let finding = refuses(is, Some("Certificate does not contain an authorized principal"));
        Principals::Closed(Box::new(finding.at(path)))
    };
    let Ok(path) = expand(pattern, user, case.system) else {
        return closed(Path::new("/etc/ssh/sshd_config"), "AuthorizedPrincipalsFile has an unknown token");
    };
    let opened = Places::of(case, user, who).open(&path);
    match (opened.state, opened.content) {
        (State::Usable, Some(text)) => Principals::Lines(path, text),
        (State::Missing, _) => closed(&path, "the file of principals does not exist"),
        _ => closed(&path, "sshd does not take the file of principals"),
    }
}

fn refuses(is: &str, says: Option<&str>) -> Finding {
    let mut finding = Finding::blocks(CheckId::CertificateRefused)
        .is(is)
        .wants("a certificate that is valid for this user, by an authority that sshd trusts");
    finding.sshd_says = says.map(str::to_owned);
    finding
}

fn told(at: &Location, is: &str) -> Finding {
    Finding::advises(CheckId::CertificateRefused).at(&at.file).on_line(at.line).is(is).wants("a plain key")
}

/// sshkey.c, `sshkey_cert_check_authority`.
fn validity(
    case: &Case<'_>,
    certificate: &Certificate,
    name: Option<&BString>,
    needs_principal: bool,
) -> Result<(), Finding> {
    let now = u64::try_from(case.question.now).unwrap_or(0);
    if certificate.kind != Kind::User {
        return Err(refuses("a host certificate", Some("Certificate invalid: not a user certificate")));
    }
    if now < certificate.valid_after {
        return Err(refuses("not yet valid", Some("Certificate invalid: not yet valid")));
    }
    if now >= certificate.valid_before {
        return Err(refuses("expired", Some("Certificate invalid: expired")));
    }
    if certificate.principals.is_empty() {
        if needs_principal {
            return Err(refuses("no principal", Some("Certificate lacks principal list")));
        }
        return Ok(());
    }
    match name {
        Some(name) if !certificate.principals.contains(name) => {
            let says = "Certificate invalid: name is not a listed principal";
            Err(refuses("the user is not among its principals", Some(says)))
        }
        _ => Ok(()),
    }
}

/// auth-options.c, `sshauthopt_from_cert`, and what its options say of this client; a command that is forced twice must
/// be the same.
fn restrictions(case: &Case<'_>, certificate: &Certificate, terms: &mut Terms) -> Result<(), Finding> {
    let invalid = |why: &str| refuses(why, Some("Invalid certificate options"));
    let mut seen: Vec<&BString> = Vec::new();
    for (name, value) in &certificate.critical_options {
        if seen.contains(&name) {
            return Err(invalid(&format!("its option {name} is given twice")));
        }
        seen.push(name);
        match name.as_slice() {
            b"force-command" => {
                if terms.command.as_ref().is_some_and(|command| command != value) {
                    return Err(refuses("its forced command is not that of the line", None));
                }
                terms.command = Some(value.clone());
            }
            b"source-address" => {
                if address_match_list(None, value) == AddressMatch::Invalid || value.contains(&b'!') {
                    return Err(invalid("its source-address is not a list of networks"));
                }
                match host_list(value, case.question.address, None, false) {
                    Tri::Yes => {}
                    Tri::No => {
                        return Err(refuses(&format!("it is for clients at {value} only"), None));
                    }
                    Tri::Maybe => {
                        terms.doubt = Some(format!("the client's address (the certificate is for {value})"));
                    }
                }
            }
            b"verify-required" => {}
            _ => return Err(invalid(&format!("its option {name} is not one that sshd knows"))),
        }
    }
    Ok(())
}

/// A forced command runs in place of `true`, and is what `forced-commands-only` asks of root.
fn command(
    case: &Case<'_>,
    user: &PasswdEntry,
    at: &Location,
    command: Option<&BString>,
    judgement: &mut Judgement,
) {
    let permit = &case.effective.permit_root_login;
    if user.uid == 0 && permit.value == PermitRootLogin::ForcedCommandsOnly && command.is_none() {
        let finding = at_setting(Finding::blocks(CheckId::RootLoginDenied), permit)
            .is("PermitRootLogin forced-commands-only, and nothing forces a command")
            .wants("PermitRootLogin prohibit-password")
            .says("ROOT LOGIN REFUSED");
        judgement.findings.push(finding);
    }
    let Some(command) = command.filter(|_| case.effective.force_command.value.is_none()) else { return };
    let finding = |severity| {
        Finding::new(CheckId::KeyLineCommand, severity)
            .at(&at.file)
            .on_line(at.line)
            .is(format!("the certificate's login runs {command}"))
            .wants("no forced command")
    };
    match exit_status(command) {
        Some(0) => {}
        Some(_) => judgement.findings.push(finding(Severity::Blocks)),
        None => {
            let missing =
                format!("the exit status of the command that the certificate's login runs: {command}");
            judgement.doubts.push((finding(Severity::Advises), missing));
        }
    }
}
