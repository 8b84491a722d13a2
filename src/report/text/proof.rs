//! What a login through the volume's own sshd came to.

use super::diagnosis::mark_of;
use super::layout::wrap;
use super::{BOLD, TRANSCRIPT};
use crate::report::output::Style;
use crate::report::{Proof, UserReport, escape};
use std::fmt::Write as _;

/// What a login came to, in a sentence.
pub(in crate::report) fn proof_words(proof: &Proof) -> String {
    let with = if proof.own_key { "the given key" } else { "a key made for this login" };
    match (&proof.login.ended, proof.login.status) {
        _ if proof.login.accepted => format!("logged in through the volume's own sshd with {with}"),
        (Some(why), _) => format!("the login with {with} was ended: {why}"),
        (None, Some(status)) => {
            format!("the login with {with} failed through the volume's own sshd (ssh ended with {status})")
        }
        (None, None) => format!("the login with {with} failed: ssh was killed"),
    }
}

/// What a login through the volume's own sshd came to; the transcript where it failed.
#[must_use]
pub fn proof(user: &UserReport, style: Style) -> String {
    let Some(proof) = &user.proof else { return String::new() };
    let (mark, code) = mark_of(user.verdict());
    let what = proof_words(proof);
    let line = format!(
        "{}  {}: {}",
        style.paint(code, mark),
        style.paint(BOLD, &escape::words(&user.name)),
        escape::words(&what)
    );
    let mut out = format!("\n{}\n", wrap(&line, 2, 6, style));
    if proof.login.accepted {
        return out;
    }
    for (who, text) in [("ssh", &proof.login.client), ("sshd", &proof.login.server)] {
        // Of sshd's debugging what tells about keys; the JSON document has all of it.
        let told = |line: &&str| {
            let of_keys = ["key file", "keys", "options", "Match", "checking"];
            !line.starts_with("Warning: Permanently added")
                && (!line.starts_with("debug") || of_keys.iter().any(|word| line.contains(word)))
        };
        let lines: Vec<&str> = text.lines().filter(told).collect();
        for line in lines.iter().skip(lines.len().saturating_sub(TRANSCRIPT)) {
            let line = format!("{who}: {}", escape::words(line.trim_end()));
            let _ = writeln!(out, "{}", wrap(&line, 6, 10, style));
        }
    }
    out
}
