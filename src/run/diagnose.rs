//! `diagnose`: look, judge, let go. Nothing is written.

use super::keys;
use super::page::{self, PageFile};
use super::session::{self, Mode, Session};
use super::signals::Stop;
use super::targets::{self, Job};
use crate::cli::DiagnoseArgs;
use crate::error::ExitCode;
use crate::report::Report;
use crate::sshd::evaluate::{Client, Question};
use anyhow::Result;
use std::ffi::OsString;
use std::path::PathBuf;

/// Runs the command.
pub(super) fn diagnose(args: &DiagnoseArgs) -> ExitCode {
    let page = match PageFile::find(args.page.report.as_deref(), &args.target) {
        Ok(page) => page,
        Err(refusal) => return super::refuse("diagnose", args.output.json, &refusal),
    };
    if args.target.targets.len() > 1 {
        let jobs = args.target.targets.iter().map(|target| job(args, target)).collect();
        return match targets::keys_on_stdin(&args.login.keys) {
            Ok(keys) => targets::run_all("diagnose", jobs, args.jobs.jobs, args.output.json, &keys),
            Err(refusal) => super::refuse("diagnose", args.output.json, &refusal),
        };
    }
    let mut report = Report { command: "diagnose", explain: args.explain, ..Report::default() };
    if let Err(error) = examine(args, page.as_ref(), &mut report) {
        report.error = Some(session::refusal_of(&error));
    }
    page::finish(&mut report, page.as_ref(), args.output.json, true)
}

fn examine(args: &DiagnoseArgs, page: Option<&PageFile>, report: &mut Report) -> Result<()> {
    let stop = Stop::listen()?;
    targets::end_with_parent()?;
    let Client { address, host } = session::client(args.from.as_deref())?;
    let keys = keys::read_all(&args.login.keys)?.keys;
    let mode = if args.replay { Mode::Replay } else { Mode::Look };
    let needed: Vec<PathBuf> = page.map(|page| page.directory().to_owned()).into_iter().collect();
    let session = Session::open(&args.target, mode, &needed, &stop, report)?;
    let looked = (|| {
        let seen = session.look(report);
        let users = session.users(&seen, &args.login.users)?;
        let mut question = Question {
            user: Default::default(),
            keys: &keys,
            now: session::now(),
            address,
            host: host.clone(),
        };
        for (name, chosen_by) in users {
            stop.check()?;
            question.user.clone_from(&name);
            let before = session.ask(&seen, &question);
            report.users.push(session::user_report(name.to_string(), chosen_by, before));
        }
        report.accepted_for = session.accepted_for(&seen, &question, report);
        Ok(())
    })();
    session.close(report, looked)
}

fn job(args: &DiagnoseArgs, target: &str) -> Job {
    let mut line: Vec<OsString> = vec!["diagnose".into()];
    targets::push_target(&mut line, &args.target);
    targets::push_login(&mut line, &args.login, args.output);
    if args.replay {
        line.push("--replay".into());
    }
    if args.explain {
        line.push("--explain".into());
    }
    if let Some(from) = &args.from {
        line.push(format!("--from={from}").into());
    }
    line.push("--".into());
    line.push(target.into());
    Job { target: target.to_owned(), args: line }
}
