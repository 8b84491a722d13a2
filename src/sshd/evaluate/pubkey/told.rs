//! What a person is told of the files and the keys, and how it counts.

use super::super::Case;
use super::super::account::at_setting;
use super::super::advice::Hidden;
use super::super::path::{Opened, State};
use super::{Judgement, LINE_FINDINGS, Trial};
use crate::finding::{CheckId, Finding, FixedBy, Severity};
use crate::keys::authorized_keys::Line;

/// Puts what came of the files and keys into the case, and counts it as theirs.
pub(super) struct Told<'c, 'a> {
    pub(super) case: &'c mut Case<'a>,
    /// What sshd accepts needs no more than advice.
    pub(super) accepted: bool,
    /// What is seen below this is not what sshd sees.
    pub(super) hidden: Option<Hidden>,
}

impl Told<'_, '_> {
    fn push(&mut self, mut finding: Finding) {
        let hidden = self
            .hidden
            .as_ref()
            .zip(finding.path.as_deref())
            .is_some_and(|(hidden, path)| hidden.covers(path));
        if self.accepted || hidden {
            finding.severity = Severity::Advises;
        }
        let same = |told: &Finding| {
            told.check == finding.check && told.path == finding.path && told.line == finding.line
        };
        if self.case.findings.iter().any(same) {
            return;
        }
        if finding.severity == Severity::Blocks {
            self.case.of_keys += 1;
        }
        self.case.findings.push(finding);
    }

    pub(super) fn doubt(&mut self, finding: Finding, missing: String) {
        let before = self.case.unknown.len();
        self.case.doubt(finding, missing);
        self.case.doubts_of_keys += self.case.unknown.len() - before;
    }

    /// The files: why they are refused; or that there is none, or nothing in them.
    pub(super) fn files(&mut self, files: &[Opened], lines: &[Vec<(u32, Line)>], trial: &Trial<'_>) {
        let effective = self.case.effective;
        let all_missing = files.iter().all(|file| file.state == State::Missing);
        if effective.authorized_keys_file.value.is_empty() && !trial.command && !self.accepted {
            let finding = at_setting(Finding::blocks(CheckId::NoKeyFiles), &effective.authorized_keys_file)
                .is("AuthorizedKeysFile none")
                .wants("AuthorizedKeysFile .ssh/authorized_keys");
            self.push(finding);
        }
        for file in files {
            match file.state {
                State::Missing | State::Usable => {}
                State::Refused => {
                    for finding in file.findings.clone() {
                        self.push(finding);
                    }
                }
                State::Unknown => {
                    for finding in file.findings.clone() {
                        let missing = file.missing(&finding);
                        if self.accepted {
                            self.case.advise(finding);
                        } else {
                            self.doubt(finding, missing);
                        }
                    }
                }
            }
        }
        if all_missing && !self.accepted {
            for finding in files.first().map_or_else(Vec::new, |file| file.findings.clone()) {
                self.push(finding);
            }
            return;
        }
        if self.case.question.keys.is_empty() {
            self.empty_files(files, lines);
        }
    }

    /// Without a key to ask for: files in which sshd finds none.
    fn empty_files(&mut self, files: &[Opened], lines: &[Vec<(u32, Line)>]) {
        let is_key = |line: &Line| match line {
            Line::Key(key) => !key.options.as_ref().is_ok_and(|options| options.cert_authority),
            Line::Ignored | Line::Junk { .. } => false,
        };
        let any_key = lines.iter().flatten().any(|(_, line)| is_key(line));
        let mut told = 0;
        for (file, lines) in files.iter().zip(lines) {
            for (line, read) in lines {
                let why = match read {
                    Line::Junk { why, looks_like: Some(_) } => why.as_str(),
                    Line::Key(key) if !key.glued.is_empty() => "another key is glued to its comment",
                    _ => continue,
                };
                told += 1;
                if told > LINE_FINDINGS {
                    return;
                }
                let mut finding = Finding::blocks(CheckId::KeyLineBroken)
                    .at(file.shown())
                    .on_line(*line)
                    .is(why)
                    .wants("the key on a line of its own");
                if any_key {
                    finding.severity = Severity::Advises;
                }
                self.push(finding);
            }
        }
        if any_key {
            return;
        }
        let first = files.iter().find(|file| file.content.is_some());
        if let Some(file) = first {
            let size = file.content.as_ref().map_or(0, Vec::len);
            let finding = Finding::blocks(CheckId::KeyFileEmpty)
                .at(file.shown())
                .is(if size == 0 { "empty".to_owned() } else { format!("{size} bytes without a key") })
                .wants("a line with the key");
            self.push(if file.anothers { finding.fixed_by(FixedBy::SshdConfig) } else { finding });
        }
    }

    pub(super) fn judgement(&mut self, judgement: Judgement) {
        let line_findings = self
            .case
            .findings
            .iter()
            .filter(|finding| finding.line.is_some() && finding.check >= CheckId::KeyFileEmpty);
        let room = LINE_FINDINGS.saturating_sub(line_findings.count());
        for finding in judgement.findings.into_iter().take(room.max(1)) {
            self.push(finding);
        }
        for (finding, missing) in judgement.doubts.into_iter().take(room.max(1)) {
            if self.accepted {
                self.push(finding);
            } else {
                self.doubt(finding, missing);
            }
        }
    }
}
