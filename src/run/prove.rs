//! `prove`: a login through the volume's own sshd, in a sandbox.

use super::keys::{self, PrivateKey};
use super::session::{self, Mode, Seen, Session};
use super::signals::Stop;
use super::targets;
use crate::cli::ProveArgs;
use crate::error::{ExitCode, Refusal};
use crate::keys::PublicKey;
use crate::prove::{self, Key, Request};
use crate::report::{Proof, Report};
use crate::sshd::config::command_line_options;
use crate::sshd::evaluate::Question;
use crate::view::follow;
use anyhow::Result;
use bstr::BString;

/// How much of a program is looked at to tell its architecture, in bytes.
const PROGRAM_LIMIT: u64 = 64 << 20;
/// Said before anything of the volume runs.
pub(super) const RUNS_PROGRAMS: &str =
    "note: sshd and what it starts are programs of the volume; they run here now, in a sandbox\n";

/// Runs the command.
pub(super) fn prove(args: &ProveArgs) -> ExitCode {
    let mut report = Report { command: "prove", ..Report::default() };
    if let Err(error) = try_login(args, &mut report) {
        report.error = Some(session::refusal_of(&error));
    }
    session::finish(&report, args.output.json, true)
}

fn try_login(args: &ProveArgs, report: &mut Report) -> Result<()> {
    let stop = Stop::listen()?;
    targets::end_with_parent()?;
    let own = args.key.as_deref().map(keys::read_private).transpose()?;
    let session = Session::open(&args.target, Mode::Look, &[], &stop, report)?;
    let proved = (|| {
        let seen = session.look(report);
        let name = BString::from(args.user.as_str());
        let public: &[PublicKey] = own.as_ref().map_or(&[], |own| std::slice::from_ref(&own.public));
        let question =
            Question { user: name.clone(), keys: public, now: session::now(), address: None, host: None };
        let before = session.ask(&seen, &question);
        report.users.push(session::user_report(args.user.clone(), "given with --user".into(), before));
        stop.check()?;
        crate::report::output::stderr(RUNS_PROGRAMS);
        prove_last(&session, &seen, own.as_ref(), u64::from(args.timeout), &stop, report)
    })();
    session.close(report, proved)
}

/// Tries to log in as each user of the report, and writes there what came of it.
///
/// # Errors
/// Where no login can be tried: no sshd, another architecture, no sandbox.
pub(super) fn prove_last(
    session: &Session,
    seen: &Seen<'_>,
    own: Option<&PrivateKey>,
    seconds: u64,
    stop: &Stop,
    report: &mut Report,
) -> Result<()> {
    let Some(program) = seen.system.program.clone() else {
        return Err(Refusal::target("the volume has no sshd that could be run")
            .hint("Reinstall the package with the SSH server on the volume.")
            .into());
    };
    let found = follow(&seen.inventory, &program)
        .and_then(|found| session.root().handle(&found.path)?.read(PROGRAM_LIMIT));
    let header = found.map_err(|error| Refusal::target(format!("{}: {error}", program.display())))?;
    let architecture = prove::architecture(&header).unwrap_or_else(|| "an unknown architecture".into());
    // A script in its place is for the kernel to start.
    if !header.starts_with(b"#!") && !prove::runs_here(&architecture) {
        return Err(Refusal::target(format!(
            "the volume's programs are for {architecture}, and this helper runs those for {}",
            std::env::consts::ARCH
        ))
        .hint("Prove it on a helper of the volume's own architecture; diagnose and repair work here.")
        .into());
    }
    let (lower, lower_id) = session.place()?;
    let options = command_line_options(&seen.inventory, &seen.system.build);
    for user in &mut report.users {
        let key = match own {
            Some(own) => Key::Own(own.text.clone()),
            None => Key::Made(user.last().key_files.iter().map(|file| file.path.clone()).collect()),
        };
        let request = Request {
            lower: lower.clone(),
            lower_id,
            branches: session.branches(),
            program: program.clone(),
            options: options.iter().map(ToString::to_string).collect(),
            user: user.name.clone(),
            key,
            seconds,
        };
        let login = prove::login(&request, &mut || stop.asked())?;
        user.proof = Some(Proof { login, own_key: own.is_some() });
    }
    Ok(())
}
