//! The key itself: auth2-pubkey.c, from `userauth_pubkey` to the first line that lets it in.

use super::account::at_setting;
use super::advice::Hidden;
use super::hosts::{Tri, host_list};
use super::path::{Opened, Places, State, expand, key_files, picture};
use super::revoked::{Revocation, Revoked};
use super::session::exit_status;
use super::{Case, KeyEvaluation, KeyFile, PathNode};
use crate::accounts::PasswdEntry;
use crate::finding::{CheckId, Finding, FixedBy, Location, Severity, Verdict};
use crate::keys::PublicKey;
use crate::keys::algorithms::{accepted_by, client_algorithms};
use crate::keys::authorized_keys::{BAD_PORT, KeyLine, Line, Options, parse};
use crate::permissions::Identity;
use crate::sshd::config::PermitRootLogin;
use crate::sshd::services;
use crate::view::View;
use std::collections::HashMap;
use std::path::Path;

mod certificate;
mod command;
mod told;

/// The most findings about single lines that are kept: a file may have ten thousand.
const LINE_FINDINGS: usize = 20;

/// What came of the keys.
pub(super) struct Tried {
    pub(super) verdict: Verdict,
    pub(super) keys: Vec<KeyEvaluation>,
    pub(super) key_files: Vec<KeyFile>,
    pub(super) path: Vec<PathNode>,
}

pub(super) fn check(case: &mut Case<'_>, user: &PasswdEntry, who: &Identity) -> Tried {
    methods(case);
    root_login(case, user);
    let effective = case.effective;
    let strict = &effective.strict_modes;
    case.traced_setting("StrictModes", if strict.value { "yes" } else { "no" }, strict, true);
    let patterns = &effective.authorized_keys_file;
    let words: Vec<String> = patterns.value.iter().map(ToString::to_string).collect();
    case.traced_setting("AuthorizedKeysFile", &words.join(" "), patterns, true);
    let files = key_files(case.system, case.effective, user);
    unknown_tokens(case, user);
    let mut opened: Vec<Opened> = {
        let places = Places::of(case, user, who);
        files.iter().map(|file| places.open(&file.path)).collect()
    };
    // A second file that is absent is no fault where the first is there, whatever is wrong with it.
    if opened.iter().any(|file| file.walk.end.is_ok()) {
        for file in &mut opened {
            file.findings.retain(|finding| finding.check != CheckId::KeyFileMissing);
        }
    }
    trace_files(case, &opened);
    let mut lines: Vec<Vec<(u32, Line)>> = opened
        .iter()
        .map(|file| file.content.as_deref().map_or_else(Vec::new, |content| parse(content, case.build())))
        .collect();
    refuse_unknown_services(case.view, lines.iter_mut().flatten());
    let revoked = Revoked::read(case);
    let command = command::look(case, user);
    let trial = Trial {
        files: &opened,
        lines: &lines,
        index: index(&opened, &lines),
        revoked: &revoked,
        certificates: certificate::Trust::read(case, user, who),
        command: command.asks,
        user,
    };
    let home = Hidden::home_of(case, user);
    let of_home = home.is_some();
    let hidden = home.or_else(|| {
        let mut all = Hidden::all(case).into_iter();
        all.find(|one| opened.iter().any(|file| one.covers(file.shown())))
    });
    let mut asked: Vec<Judgement> = case.question.keys.iter().map(|key| trial.judge(case, key)).collect();
    let mut hidden_matters = false;
    let mut look_behind = |judgements: &mut Vec<Judgement>| {
        for judgement in judgements {
            hidden_matters |= hidden.as_ref().is_some_and(|hidden| judgement.is_hidden_by(hidden));
        }
    };
    look_behind(&mut asked);
    let keys = case.question.keys.iter().zip(&asked).map(|(key, judgement)| KeyEvaluation {
        fingerprint: key.fingerprint(),
        algorithm: key.algorithm.clone(),
        verdict: judgement.verdict,
        found: judgement.found.clone(),
        stands: judgement.stands.clone(),
    });
    let keys: Vec<KeyEvaluation> = keys.collect();
    let judgements = if case.question.keys.is_empty() {
        let mut all = trial.judge_all(case);
        look_behind(&mut all);
        all
    } else {
        asked
    };
    let verdicts = judgements.iter().map(|judgement| judgement.verdict);
    let verdict = if case.question.keys.is_empty() {
        let none = if trial.command { Verdict::Unknown } else { Verdict::Refuse };
        verdicts.min().unwrap_or(none).min(none)
    } else {
        verdicts.max().unwrap_or(Verdict::Refuse)
    };
    let behind = |file: &Opened| hidden.as_ref().is_some_and(|hidden| hidden.covers(file.shown()));
    if judgements.is_empty() {
        hidden_matters |= opened.iter().any(behind);
    }
    let open_file = opened.iter().any(|file| file.state == State::Unknown);
    let nothing_else = judgements.iter().all(|judgement| judgement.findings.is_empty());
    let whole = if verdict == Verdict::Refuse && (open_file || hidden_matters) && nothing_else {
        Verdict::Unknown
    } else {
        verdict
    };
    let hidden = hidden.filter(|_| hidden_matters);
    if let Some(hidden) = &hidden {
        let (finding, missing) = if of_home { hidden.finding() } else { hidden.missing() };
        let before = case.unknown.len();
        case.doubt(finding, missing);
        case.doubts_of_keys += case.unknown.len() - before;
    }
    let mut told = told::Told { case, accepted: whole == Verdict::Accept, hidden };
    told.files(&opened, &lines, &trial);
    for judgement in judgements {
        told.judgement(judgement);
    }
    if whole != Verdict::Accept
        && let Some((finding, missing)) = command.doubt
    {
        told.doubt(finding, missing);
    } else if let Some(finding) = command.advice {
        case.advise(finding);
    }
    let shown = opened.iter().find(|file| file.state != State::Missing).or(opened.first());
    Tried {
        verdict: whole,
        keys,
        key_files: files,
        path: shown.map_or_else(Vec::new, |file| picture(&file.walk)),
    }
}

/// PubkeyAuthentication, and AuthenticationMethods that want more than one key.
fn methods(case: &mut Case<'_>) {
    let effective = case.effective;
    let pubkey = &effective.pubkey_authentication;
    let word = if pubkey.value { "yes" } else { "no" };
    case.traced_setting("PubkeyAuthentication", word, pubkey, pubkey.value);
    if !pubkey.value {
        let finding = at_setting(Finding::blocks(CheckId::PubkeyAuthenticationOff), pubkey)
            .is("PubkeyAuthentication no")
            .wants("PubkeyAuthentication yes");
        case.refuse(finding);
    }
    let methods = &effective.authentication_methods;
    let enough =
        methods.value.is_empty() || methods.value.iter().any(|list| list == "publickey" || list == "any");
    let lists: Vec<String> = methods.value.iter().map(ToString::to_string).collect();
    let shown = if lists.is_empty() { "any".to_owned() } else { lists.join(" ") };
    case.traced_setting("AuthenticationMethods", &shown, methods, enough);
    if !enough {
        let finding = at_setting(Finding::blocks(CheckId::MoreMethodsNeeded), methods)
            .is(format!("AuthenticationMethods {}", lists.join(" ")))
            .wants("a list that is publickey alone");
        case.refuse(finding);
    }
}

fn root_login(case: &mut Case<'_>, user: &PasswdEntry) {
    let setting = &case.effective.permit_root_login;
    if user.uid == 0 {
        let passed = setting.value != PermitRootLogin::No;
        case.traced_setting("PermitRootLogin", setting.value.word(), setting, passed);
    }
    if user.uid == 0 && setting.value == PermitRootLogin::No {
        let finding = at_setting(Finding::blocks(CheckId::RootLoginDenied), setting)
            .is("PermitRootLogin no")
            .wants("PermitRootLogin prohibit-password")
            .says("ROOT LOGIN REFUSED");
        case.refuse(finding);
    }
}

/// A token that percent_expand does not know ends the connection once a key is tried.
fn unknown_tokens(case: &mut Case<'_>, user: &PasswdEntry) {
    let setting = &case.effective.authorized_keys_file;
    for pattern in &setting.value {
        if let Err(token) = expand(pattern, user, case.system) {
            let finding = at_setting(Finding::blocks(CheckId::NoKeyFiles), setting)
                .is(format!("AuthorizedKeysFile {pattern}"))
                .wants("only the tokens %h, %u, %U and %%")
                .says(format!("unknown key %{}", token.0));
            case.refuse(finding);
        }
    }
}

/// The way to each file, directory by directory as far as sshd comes, and what became of it.
fn trace_files(case: &mut Case<'_>, files: &[Opened]) {
    let strict = if case.effective.strict_modes.value { "StrictModes: " } else { "" };
    let setting = &case.effective.authorized_keys_file;
    let mut passed = Vec::new();
    for file in files {
        for node in picture(&file.walk) {
            let Some(stat) = node.stat else { continue };
            if passed.contains(&node.path) {
                continue;
            }
            let fault = file.findings.iter().find(|finding| finding.path.as_ref() == Some(&node.path));
            let wants = fault.map_or_else(String::new, |fault| format!(", wants {}", fault.wants));
            let link = node.link.map_or_else(String::new, |target| format!(" -> {}", target.display()));
            let detail = format!("{}{link} {}{wants}", node.path.display(), stat.mode_owner());
            case.traced(format!("{strict}the way to the keys"), detail, fault.is_none());
            passed.push(node.path);
        }
        let other = files.iter().any(|other| other.state != State::Missing);
        let (detail, good) = match file.state {
            // Nothing is wrong where another is there.
            State::Missing if other => {
                (format!("{}: no such file, which is no fault", file.path.display()), true)
            }
            State::Missing => (format!("{}: no such file", file.path.display()), false),
            State::Usable => (file.shown().display().to_string(), true),
            State::Refused | State::Unknown => {
                let why = file.findings.first().map_or("refused", |finding| finding.check.name());
                (format!("{}: {why}", file.shown().display()), false)
            }
        };
        case.traced_at("the file of keys", setting.at.as_ref(), "", detail, good);
    }
}

/// Where each key stands, in sshd's order.
type Index<'a> = HashMap<&'a [u8], Vec<Place<'a>>>;

#[derive(Clone, Copy)]
struct Place<'a> {
    file: usize,
    line: u32,
    key: &'a KeyLine,
}

/// What only the volume tells of a line: the names of services that stand for ports.
fn refuse_unknown_services<'a>(view: &dyn View, lines: impl Iterator<Item = &'a mut (u32, Line)>) {
    let mut known = None;
    for (_, line) in lines {
        let Line::Key(key) = line else { continue };
        let Ok(options) = &key.options else { continue };
        let is_known =
            |name| services::port(known.get_or_insert_with(|| services::read(view)), name).is_some();
        if !options.services.iter().map(|name| name.as_slice()).all(is_known) {
            key.options = Err(BAD_PORT.into());
        }
    }
}

fn index<'a>(files: &[Opened], lines: &'a [Vec<(u32, Line)>]) -> Index<'a> {
    let mut index: Index<'a> = HashMap::new();
    for (file, lines) in lines.iter().enumerate().take(files.len()) {
        for (line, read) in lines {
            if let Line::Key(key) = read {
                index.entry(&key.key.blob).or_default().push(Place { file, line: *line, key });
            }
        }
    }
    index
}

/// What every key is held against.
struct Trial<'a> {
    files: &'a [Opened],
    lines: &'a [Vec<(u32, Line)>],
    index: Index<'a>,
    revoked: &'a Revoked,
    certificates: certificate::Trust,
    /// AuthorizedKeysCommand would be asked.
    command: bool,
    user: &'a PasswdEntry,
}

/// What came of one key.
struct Judgement {
    verdict: Verdict,
    found: Option<Location>,
    /// The first line with the key, whether or not sshd reads or takes it.
    stands: Option<Location>,
    /// Why not; they block unless another key lets the user in.
    findings: Vec<Finding>,
    /// Findings that come with a doubt, and what is missing.
    doubts: Vec<(Finding, String)>,
}

impl Judgement {
    /// Leaves open what was seen in a place that another filesystem covers; `true` if it makes a difference.
    fn is_hidden_by(&mut self, hidden: &Hidden) -> bool {
        let covered = |path: Option<&Path>| path.is_some_and(|path| hidden.covers(path));
        let before = self.findings.len();
        self.findings.retain(|finding| !covered(finding.path.as_deref()));
        let found_there = self.found.as_ref().is_some_and(|found| hidden.covers(&found.file));
        let matters = found_there || before > self.findings.len();
        if matters && self.findings.is_empty() {
            self.verdict = Verdict::Unknown;
        }
        matters
    }
}

impl Trial<'_> {
    /// Every key of the files that sshd would open, each once.
    fn judge_all(&self, case: &mut Case<'_>) -> Vec<Judgement> {
        let mut seen = std::collections::HashSet::new();
        let mut judgements = Vec::new();
        for (file, lines) in self.files.iter().zip(self.lines) {
            if file.state != State::Usable {
                continue;
            }
            for (_, line) in lines {
                let Line::Key(key) = line else { continue };
                let authority = key.options.as_ref().is_ok_and(|options| options.cert_authority);
                if !authority && seen.insert(&key.key.blob) {
                    judgements.push(self.judge(case, &key.key));
                }
            }
        }
        judgements
    }

    /// One key, as if the client offered it alone.
    fn judge(&self, case: &mut Case<'_>, key: &PublicKey) -> Judgement {
        let mut judgement = Judgement {
            verdict: Verdict::Accept,
            found: None,
            stands: None,
            findings: Vec::new(),
            doubts: Vec::new(),
        };
        self.algorithm(case, key, &mut judgement);
        match self.revoked.asks(key) {
            Revocation::Not => {}
            Revocation::Listed(finding) => judgement.findings.push(*finding),
            // The finding is one for all keys, and told already.
            Revocation::Everything => {}
            Revocation::Unknown(finding, missing) => judgement.doubts.push((*finding, missing)),
        }
        if key.is_certificate() {
            self.certificates.judge(case, key, self, &mut judgement);
        } else {
            self.lines(case, key, &mut judgement);
        }
        judgement.verdict = if !judgement.findings.is_empty() {
            Verdict::Refuse
        } else if judgement.doubts.is_empty() && judgement.found.is_some() {
            Verdict::Accept
        } else {
            Verdict::Unknown
        };
        judgement
    }

    /// PubkeyAcceptedAlgorithms and RequiredRSASize.
    fn algorithm(&self, case: &mut Case<'_>, key: &PublicKey, judgement: &mut Judgement) {
        let effective = case.effective;
        let setting = &effective.pubkey_accepted_algorithms;
        let accepted = accepted_by(&setting.value, key, case.build());
        let step =
            if case.build().at_least(8, 5) { "PubkeyAcceptedAlgorithms" } else { "PubkeyAcceptedKeyTypes" };
        let detail = if accepted { "accepted" } else { "not accepted" };
        let default = if setting.at.is_none() { " by default" } else { "" };
        let detail = format!("{} is {detail}{default}", key.algorithm);
        case.traced_at(step, setting.at.as_ref(), setting.value.join(","), detail, accepted);
        if !accepted {
            let offered = client_algorithms(key, case.build());
            let offered = offered.first().map_or(key.algorithm.as_str(), String::as_str);
            let says = match case.build().version {
                Some(version) if version < (8, 5) => {
                    format!("userauth_pubkey: key type {offered} not in PubkeyAcceptedKeyTypes")
                }
                Some(version) if version < (9, 0) => {
                    format!("userauth_pubkey: key type {offered} not in PubkeyAcceptedAlgorithms")
                }
                _ => {
                    format!("userauth_pubkey: signature algorithm {offered} not in PubkeyAcceptedAlgorithms")
                }
            };
            let finding = at_setting(Finding::blocks(CheckId::KeyTypeNotAccepted), setting)
                .is(format!("{} is not accepted", key.algorithm))
                .wants(format!("PubkeyAcceptedAlgorithms with {offered}, or a key of another type"))
                .says(says);
            judgement.findings.push(finding);
        }
        let required = &effective.required_rsa_size;
        let least = required.value.max(case.build().least_rsa_bits());
        if let Some(bits) = key.rsa_bits() {
            let default = if required.at.is_none() { " (default)" } else { "" };
            let detail = format!("{bits} bits, at least {least}{default}");
            case.traced_at("RequiredRSASize", required.at.as_ref(), "", detail, bits >= least);
        }
        if let Some(bits) = key.rsa_bits().filter(|bits| *bits < least) {
            let finding = at_setting(Finding::blocks(CheckId::KeyTooShort), required)
                .is(format!("{bits} bits"))
                .wants(format!("at least {least} bits"))
                .says("refusing RSA key: Invalid key length");
            judgement.findings.push(finding);
        }
    }

    /// The lines with this key, in order; the first that lets it in wins.
    fn lines(&self, case: &mut Case<'_>, key: &PublicKey, judgement: &mut Judgement) {
        let places = self.places_of(key);
        let places = places.as_slice();
        judgement.stands = places
            .first()
            .map(|place| Location { file: self.files[place.file].shown().to_owned(), line: place.line });
        let mut denials = Vec::new();
        let mut doubts = Vec::new();
        for place in places {
            let file = &self.files[place.file];
            if file.state != State::Usable {
                continue;
            }
            let at = Location { file: file.shown().to_owned(), line: place.line };
            match self.line(case, place.key, &at) {
                LineAnswer::Allows => {
                    case.traced_at(
                        "the key line",
                        Some(&at),
                        key.algorithm.as_str(),
                        key.fingerprint(),
                        true,
                    );
                    judgement.found = Some(at.clone());
                    self.command_of(case, place.key, &at, judgement);
                    // A doubtful line before this one may win, with its own command; without one both let in.
                    let may_force = doubts.iter().any(|(_, _, forced): &(Finding, String, bool)| *forced);
                    if may_force {
                        judgement
                            .doubts
                            .extend(doubts.into_iter().map(|(finding, missing, _)| (finding, missing)));
                    }
                    return;
                }
                LineAnswer::Denies(finding) => {
                    case.traced_at("the key line", Some(&at), "", &finding.is, false);
                    denials.push(finding);
                }
                LineAnswer::Doubts(finding, missing) => {
                    let forced = place.key.options.as_ref().is_ok_and(|options| options.command.is_some());
                    doubts.push((*finding, missing, forced));
                }
            }
        }
        if !doubts.is_empty() {
            judgement.doubts.extend(doubts.into_iter().map(|(finding, missing, _)| (finding, missing)));
            return;
        }
        if !denials.is_empty() {
            judgement.findings.extend(denials.into_iter().map(|finding| *finding));
            return;
        }
        let refused_file = places.iter().any(|place| self.files[place.file].state == State::Refused);
        if refused_file {
            // The path's findings tell it; the key itself is where it should be.
            judgement.findings.extend(
                places
                    .iter()
                    .map(|place| &self.files[place.file])
                    .flat_map(|file| file.findings.iter().cloned()),
            );
            return;
        }
        if self.files.iter().all(|file| file.state == State::Missing) {
            // key-file-missing tells it.
            if !self.command {
                judgement.findings.extend(self.files.first().and_then(|file| file.findings.first()).cloned());
                if self.files.is_empty() {
                    judgement.findings.push(absent(key, Path::new("/etc/ssh/sshd_config")));
                }
            }
            return;
        }
        // The key may be in what was not read.
        let unread = self.files.iter().filter(|file| file.state == State::Unknown).find_map(|file| {
            let cannot = |finding: &&Finding| {
                matches!(finding.check, CheckId::FileUnreadable | CheckId::KeyFileTooLarge)
            };
            Some((file, file.findings.iter().find(cannot)?))
        });
        if let Some((file, finding)) = unread {
            judgement.doubts.push((finding.clone(), file.missing(finding)));
            return;
        }
        let file = self.files.iter().find(|file| file.state != State::Missing).unwrap_or(&self.files[0]);
        let mut finding = self.broken_form_of(key).unwrap_or_else(|| absent(key, file.shown()));
        if file.anothers {
            finding.fixed_by = FixedBy::SshdConfig;
        }
        case.traced("the key line", format!("{}: the key is on no line", file.shown().display()), false);
        if self.command {
            let mut finding = finding;
            finding.severity = Severity::Advises;
            judgement.doubts.push((finding, "what AuthorizedKeysCommand answers".to_owned()));
        } else {
            judgement.findings.push(finding);
        }
    }

    /// Where the key stands, in sshd's order. The same key may be spelt in other bytes (leading zeros of a number).
    fn places_of(&self, key: &PublicKey) -> Vec<Place<'_>> {
        if let Some(places) = self.index.get(key.blob.as_slice()) {
            return places.clone();
        }
        let others = self.index.values().flatten().filter(|place| place.key.key.algorithm == key.algorithm);
        let mut places: Vec<Place<'_>> =
            others.filter(|place| place.key.key.same_key(key)).copied().collect();
        places.sort_by_key(|place| (place.file, place.line));
        places
    }

    /// Is the key there in a form that sshd does not read?
    fn broken_form_of(&self, key: &PublicKey) -> Option<Finding> {
        for (file, lines) in self.files.iter().zip(self.lines) {
            for (line, read) in lines {
                let why = match read {
                    Line::Junk { why, looks_like: Some(hidden) } if hidden.same_key(key) => why.as_str(),
                    Line::Key(outer) if outer.glued.iter().any(|hidden| hidden.same_key(key)) => {
                        "glued to the comment of another key"
                    }
                    _ => continue,
                };
                let finding = Finding::blocks(CheckId::KeyLineBroken)
                    .at(file.shown())
                    .on_line(*line)
                    .is(why)
                    .wants("the key on a line of its own");
                return Some(finding);
            }
        }
        None
    }

    fn line(&self, case: &Case<'_>, key: &KeyLine, at: &Location) -> LineAnswer {
        let options = match &key.options {
            Ok(options) => options,
            Err(why) => return LineAnswer::denies(at, why.clone()),
        };
        if options.cert_authority {
            return LineAnswer::denies(at, "cert-authority: the line is for certificates".into());
        }
        self.authorises(case, options, at)
    }

    /// What the options say of this client (auth.c, `auth_authorise_keyopts`).
    fn authorises(&self, case: &Case<'_>, options: &Options, at: &Location) -> LineAnswer {
        // The instance's time zone is taken for UTC.
        if let Some(expiry) = options.expiry.filter(|expiry| case.question.now > *expiry) {
            let days = (case.question.now - expiry) / 86_400;
            return LineAnswer::denies(at, format!("expired {days} days ago")).by_policy();
        }
        if let Some(problem) = options.from_problem() {
            return LineAnswer::denies(at, problem);
        }
        let host = case.question.host.as_ref().map(|host| host.as_slice());
        let mut open = None;
        for from in options.from.iter().chain(&options.more_from) {
            match host_list(from, case.question.address, host, case.effective.use_dns.value) {
                Tri::Yes => {}
                Tri::No => {
                    let client =
                        case.question.address.map_or_else(String::new, |address| address.to_string());
                    let says = format!(
                        "{at}: Authentication tried for {} with correct key but not from a permitted host (host={client}, ip={client}, required={from}).",
                        case.name()
                    );
                    return LineAnswer::denies(at, format!("from=\"{from}\"")).says(says).by_policy();
                }
                Tri::Maybe => open = Some(from),
            }
        }
        let Some(from) = open else { return LineAnswer::Allows };
        let finding = Finding::advises(CheckId::KeyLineFrom)
            .at(&at.file)
            .on_line(at.line)
            .is(format!("from=\"{from}\""))
            .wants("an address to judge by");
        LineAnswer::Doubts(Box::new(finding), format!("the client's address (from= at {at})"))
    }

    /// `command=` runs in place of `true`, unless the configuration forces another.
    fn command_of(&self, case: &Case<'_>, key: &KeyLine, at: &Location, judgement: &mut Judgement) {
        let effective = case.effective;
        let command = key.options.as_ref().ok().and_then(|options| options.command.as_ref());
        let only_forced = effective.permit_root_login.value == PermitRootLogin::ForcedCommandsOnly;
        if self.user.uid == 0 && only_forced && command.is_none() {
            let finding = at_setting(Finding::blocks(CheckId::RootLoginDenied), &effective.permit_root_login)
                .is("PermitRootLogin forced-commands-only, and the key line has no command=")
                .wants("PermitRootLogin prohibit-password")
                .says("ROOT LOGIN REFUSED");
            judgement.findings.push(finding);
        }
        let Some(command) = command.filter(|_| effective.force_command.value.is_none()) else { return };
        let finding = |severity| {
            Finding::new(CheckId::KeyLineCommand, severity)
                .at(&at.file)
                .on_line(at.line)
                .is(format!("command=\"{command}\""))
                .wants("a line without command=")
        };
        match exit_status(command) {
            Some(0) => {}
            Some(_) => judgement.findings.push(finding(Severity::Blocks)),
            None => {
                let missing = format!("the exit status of the command that {at} forces");
                judgement.doubts.push((finding(Severity::Advises), missing));
            }
        }
    }
}

fn absent(key: &PublicKey, file: &Path) -> Finding {
    Finding::blocks(CheckId::KeyAbsent)
        .at(file)
        .is(format!("no line with {} {}", key.algorithm, key.fingerprint()))
        .wants("a line with the key")
}

enum LineAnswer {
    Allows,
    Denies(Box<Finding>),
    Doubts(Box<Finding>, String),
}

impl LineAnswer {
    fn denies(at: &Location, is: String) -> Self {
        let finding = Finding::blocks(CheckId::KeyLineRefuses)
            .at(&at.file)
            .on_line(at.line)
            .is(is)
            .wants("a line that lets the key in");
        Self::Denies(Box::new(finding))
    }

    fn says(self, says: String) -> Self {
        match self {
            Self::Denies(finding) => Self::Denies(Box::new(finding.says(says))),
            other => other,
        }
    }

    /// The line says so on purpose, and no key is added beside it.
    fn by_policy(self) -> Self {
        match self {
            Self::Denies(finding) => Self::Denies(Box::new(finding.fixed_by(FixedBy::Nothing))),
            other => other,
        }
    }
}
