//! Certificates: trusted by TrustedUserCAKeys or by a cert-authority line (auth2-pubkey.c, PROTOCOL.certkeys).

use super::super::Case;
use super::{Judgement, Trial};
use crate::accounts::PasswdEntry;
use crate::finding::{CheckId, Finding, Location};
use crate::keys::PublicKey;
use crate::keys::authorized_keys::{Line, parse};
use crate::keys::certificate::{Certificate, Kind};
use crate::view::{TEXT_LIMIT, read_following};
use bstr::{BString, ByteSlice};
use std::path::{Path, PathBuf};

/// The authorities of TrustedUserCAKeys.
pub(super) struct Trust {
    file: PathBuf,
    authorities: Vec<(u32, Vec<u8>)>,
}

impl Trust {
    pub(super) fn read(case: &Case<'_>) -> Self {
        let none = Self { file: PathBuf::new(), authorities: Vec::new() };
        let Some(file) = &case.effective.trusted_user_ca_keys.value else { return none };
        let file = Path::new("/").join(&*file.to_os_str_lossy());
        let Ok(text) = read_following(case.view, &file, TEXT_LIMIT) else { return none };
        let mut authorities = Vec::new();
        for (number, line) in parse(&text, case.build()) {
            match line {
                Line::Ignored => {}
                Line::Key(key) => authorities.push((number, key.key.blob.clone())),
                // A line that cannot be read ends the search (sshkey_in_file).
                Line::Junk { .. } => break,
            }
        }
        Self { file, authorities }
    }

    pub(super) fn judge(
        &self,
        case: &mut Case<'_>,
        key: &PublicKey,
        trial: &Trial<'_>,
        judgement: &mut Judgement,
    ) {
        let refuses = |is: &str, says: Option<&str>| {
            let mut finding = Finding::blocks(CheckId::CertificateRefused)
                .is(is)
                .wants("a certificate that is valid for this user, by an authority that sshd trusts");
            finding.sshd_says = says.map(str::to_owned);
            finding
        };
        let Some(certificate) = key.certificate() else {
            judgement.findings.push(refuses("not a certificate that can be read", None));
            return;
        };
        let user = trial.user;
        let Some((at, principals)) = self.authority(trial, &certificate, user) else {
            if trial.command {
                let finding =
                    Finding::advises(CheckId::CertificateRefused).is("an authority that no file names");
                judgement.doubts.push((finding, "what AuthorizedKeysCommand answers".into()));
            } else {
                judgement.findings.push(refuses("its authority is in no file that sshd reads", None));
            }
            return;
        };
        let now = u64::try_from(case.question.now).unwrap_or(0);
        let named = |name: &BString| principals.iter().any(|principal| principal == name);
        let effective = case.effective;
        if certificate.kind != Kind::User {
            judgement
                .findings
                .push(refuses("a host certificate", Some("Certificate invalid: not a user certificate")));
        } else if now < certificate.valid_after {
            judgement.findings.push(refuses("not yet valid", Some("Certificate invalid: not yet valid")));
        } else if now >= certificate.valid_before {
            judgement.findings.push(refuses("expired", Some("Certificate invalid: expired")));
        } else if effective.authorized_principals_file.value.is_some()
            || effective.authorized_principals_command.value.is_some()
            || !certificate.critical_options.is_empty()
        {
            let finding = Finding::advises(CheckId::CertificateRefused)
                .at(&at.file)
                .is("its principals or options are not evaluated")
                .wants("a plain key");
            judgement
                .doubts
                .push((finding, "whether the principals and options of the certificate let it in".into()));
            judgement.found = Some(at);
        } else if certificate.principals.is_empty() {
            judgement.findings.push(refuses("no principal", Some("Certificate lacks principal list")));
        } else if !certificate.principals.iter().any(named) {
            judgement.findings.push(refuses(
                "the user is not among its principals",
                Some("Certificate invalid: name is not a listed principal"),
            ));
        } else {
            judgement.found = Some(at);
        }
    }

    /// Where the authority is trusted, and for which principals.
    fn authority(
        &self,
        trial: &Trial<'_>,
        certificate: &Certificate,
        user: &PasswdEntry,
    ) -> Option<(Location, Vec<BString>)> {
        for place in trial.index.get(certificate.ca.blob.as_slice()).into_iter().flatten() {
            let file = &trial.files[place.file];
            let Ok(options) = &place.key.options else { continue };
            if file.state == super::State::Usable && options.cert_authority {
                let principals = options.principals.as_ref().map_or_else(
                    || vec![user.name.clone()],
                    |list| list.split_str(",").map(BString::from).collect(),
                );
                return Some((Location { file: file.shown().to_owned(), line: place.line }, principals));
            }
        }
        let (line, _) = self.authorities.iter().find(|(_, blob)| *blob == certificate.ca.blob)?;
        Some((Location { file: self.file.clone(), line: *line }, vec![user.name.clone()]))
    }
}
