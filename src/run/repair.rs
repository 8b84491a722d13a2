//! `repair`: plan, show, ask, apply, verify, let go.

use super::page::{self, PageFile};
use super::session::{self, Mode, Seen, Session};
use super::signals::{Stop, Watcher};
use super::targets::{self, Job};
use super::{ask, host_keys, keys, prove};
use crate::apply::{self, Survey};
use crate::cli::{Chown, Fix, RepairArgs};
use crate::error::{ExitCode, Refusal};
use crate::finding::{CheckId, FixedBy};
use crate::journal::record::Ending;
use crate::journal::{Journal, VolumeLock};
use crate::plan::{self, Action, Applied, Change, Outcome, Plan, TreeOwners, TreePolicy, Wish};
use crate::report::output::{self, Style};
use crate::report::{KeptSummary, Report, text};
use crate::sshd::evaluate::{Client, Question};
use anyhow::Result;
use bstr::BString;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

/// How long the login of `--prove` may take.
const PROVE_SECONDS: u64 = 60;
/// How the note begins that says where the private half is.
const NEW_KEY: &str = "the new private key is in";

/// Runs the command.
pub(super) fn repair(args: &RepairArgs) -> ExitCode {
    let json = args.output.json;
    let many = args.target.targets.len() > 1;
    let key_on_stdin = args.login.keys.iter().any(|key| key.as_os_str() == "-");
    if let Err(refusal) = ask::must_be_possible(args.yes, args.dry_run, key_on_stdin || many) {
        return super::refuse("repair", json, &refusal);
    }
    if !args.chown_from.is_empty() && matches!(args.chown, Some(Chown::All | Chown::Login)) {
        let refusal = Refusal::usage("--chown-from goes with --chown tree only")
            .hint("Leave it out: all takes every owner, login takes no tree.");
        return super::refuse("repair", json, &refusal);
    }
    let page = match PageFile::find(args.page.report.as_deref(), &args.target) {
        Ok(page) => page,
        Err(refusal) => return super::refuse("repair", json, &refusal),
    };
    if many {
        if args.generate_key.is_some() {
            let refusal = Refusal::usage("--generate-key makes one file and can't serve several targets")
                .hint("Make a pair with ssh-keygen and give --key with its public half.");
            return super::refuse("repair", json, &refusal);
        }
        let jobs = args.target.targets.iter().map(|target| job(args, target)).collect();
        return match targets::keys_on_stdin(&args.login.keys) {
            Ok(keys) => targets::run_all("repair", jobs, args.jobs.jobs, json, &keys),
            Err(refusal) => super::refuse("repair", json, &refusal),
        };
    }
    let mut report = Report { command: "repair", dry_run: args.dry_run, ..Report::default() };
    let mut shown = false;
    if let Err(error) = work(args, page.as_ref(), &mut report, &mut shown) {
        report.error = Some(session::refusal_of(&error));
    }
    page::finish(&mut report, page.as_ref(), json, !shown)
}

fn work(args: &RepairArgs, page: Option<&PageFile>, report: &mut Report, shown: &mut bool) -> Result<()> {
    let stop = Stop::listen()?;
    targets::end_with_parent()?;
    let client = session::client(args.from.as_deref())?;
    let keys::Given { mut keys, dropped } = keys::read_all(&args.login.keys)?;
    if keys.iter().any(crate::keys::PublicKey::is_certificate) {
        return Err(Refusal::usage("a certificate is no line of authorized_keys")
            .hint("Give the key that it certifies (the .pub without -cert); volrescue diagnose judges a certificate.")
            .into());
    }
    report.notes.extend(dropped);
    let mut pair = None;
    if let Some(file) = &args.generate_key {
        let made = keys::make_pair(file, args.login.users.first().map_or("volrescue", String::as_str))?;
        keys.push(made.public.clone());
        pair = Some(made);
    }
    let state = session::state_dir(&args.state);
    let mut needed = vec![state.clone()];
    needed.extend(args.generate_key.clone());
    needed.extend(page.map(|page| page.directory().to_owned()));
    let mode = match (args.dry_run, args.fsck) {
        (true, _) => Mode::Look,
        (false, true) => Mode::CheckAndChange,
        (false, false) => Mode::Change,
    };
    let session = Session::open(&args.target, mode, &needed, &stop, report)?;
    let mut change = || -> Result<()> {
        let mut lock = if args.dry_run { None } else { session.lock_for(&state, args.no_journal)? };
        if args.no_journal && !args.dry_run {
            report.notes.push(
                "no journal is kept: this run can't be undone, and should it be stopped half-way, what it had begun is \
                 not known to the next one"
                    .into(),
            );
        }
        let settled = if lock.is_some() { super::undo::settle_earlier(&session, &state, report)? } else { 0 };
        let seen = session.look(report);
        if let Some(checker) = session.checker().filter(|_| args.fsck && args.dry_run) {
            report.notes.push(format!("without --dry-run, {checker} would run first"));
        }
        let users = session.users(&seen, &args.login.users)?;
        for (name, chosen_by) in &users {
            let before = session.ask(&seen, &question(name, &keys, &client));
            report.users.push(session::user_report(name.to_string(), chosen_by.clone(), before));
        }
        // A user is not missing, nor a file wrong, where the disk refused to show what tells of them.
        session::check_all_was_read(&seen)?;
        let is_missing = |name: &BString| seen.system.passwd.by_name(name).is_none();
        if !args.create_user
            && users.iter().all(|(name, _)| is_missing(name))
            && let Some((name, _)) = users.first()
        {
            let given = &keys[..keys.len() - usize::from(pair.is_some())];
            report.accepted_for = session.accepted_for(&seen, &question(name, given, &client), report);
            return Err(no_such_user(name, report).into());
        }
        let names: Vec<BString> = users.iter().map(|(name, _)| name.clone()).collect();
        report.former_ids = plan::user::former_ids(&seen.inventory, &names);
        let wish = wish(args, keys.clone(), &client, &seen, report)?;
        let plan = plan::build(&seen.inventory, &seen.os, &names, &wish);
        session::check_all_was_read(&seen)?;
        let plan = plan?;
        report.notes.splice(0..0, plan.notes.iter().cloned());
        tracing::info!("planned {} actions", plan.actions.len());
        stop.check()?;
        if args.sudo && users.iter().all(|(name, _)| !is_missing(name)) {
            report.notes.push("no user had to be put back, so --sudo changes nothing".into());
        }
        session.check_can_change(plan.actions.iter().map(|action| action.path.as_path()))?;
        if args.dry_run {
            return show_dry_run(&session, plan, &stop, report);
        }
        let mut plan = plan;
        if !args.yes {
            drop_idle_trees(&session, &mut plan, &stop, report)?;
        }
        if !plan.actions.is_empty() {
            if !args.yes {
                show_plan(&plan, report, args.output.json);
                *shown = true;
                if !ask::ask("Make these changes?", &stop)? {
                    report.actions = planned(plan);
                    let words = match settled {
                        0 if report.checked.is_empty() => "not confirmed; nothing was changed",
                        0 => "not confirmed; nothing was changed but by the filesystem's checker",
                        _ => "not confirmed; only what an interrupted run had left half-way was put in order",
                    };
                    return Err(Refusal::new(ExitCode::Refused, words).into());
                }
            }
            let mut pair_written = false;
            if let Some(pair) = &pair {
                if plan.actions.iter().any(|action| pair.is_in(action)) {
                    pair.write()?;
                    pair_written = true;
                    let file = pair.file().display();
                    let user = users.first().map_or_else(|| "USER".into(), |(name, _)| name.to_string());
                    report
                        .notes
                        .insert(0, format!("{NEW_KEY} {file} (0600); log in with ssh -i {file} {user}@HOST"));
                } else {
                    report
                        .notes
                        .push("the new key was not written: nothing on this volume would take it".into());
                }
            }
            let lock = lock.as_mut().filter(|_| !args.no_journal);
            apply(&session, plan, &state, lock, &stop, report, pair.as_ref().filter(|_| pair_written))?;
        }
        verify(&session, &names, &keys, &client, report);
        if args.prove {
            stop.check()?;
            output::stderr(prove::RUNS_PROGRAMS);
            let again = session.look_again(report);
            prove::prove_last(&session, &again, None, PROVE_SECONDS, &stop, report)?;
        }
        Ok(())
    };
    let changed = change();
    session.close(report, changed)
}

/// A wrong user name is the first cause to think of; then an entry that was lost.
fn no_such_user(name: &BString, report: &Report) -> Refusal {
    let other = match report.accepted_for.as_slice() {
        [] => "--user with the name of another account".to_owned(),
        [one] => format!("--user {one}, whom sshd would let in with this key"),
        several => format!("--user with one whom sshd would let in with this key: {}", several.join(", ")),
    };
    let findings = report.users.iter().flat_map(|user| &user.before.findings);
    let hint = match findings.clone().find(|finding| finding.check == CheckId::UserMissing) {
        Some(finding) if finding.fixed_by == FixedBy::Nothing => {
            format!("Give {other}; --create-user can't put the entry back: {}.", finding.is)
        }
        _ => format!("Give {other}, or --create-user to put the entry back."),
    };
    Refusal::new(ExitCode::Refused, format!("{name}: no such user in the passwd of the volume")).hint(hint)
}

fn question<'a>(name: &BString, keys: &'a [crate::keys::PublicKey], client: &Client) -> Question<'a> {
    let Client { address, host } = client.clone();
    Question { user: name.clone(), keys, now: session::now(), address, host }
}

fn wish(
    args: &RepairArgs,
    keys: Vec<crate::keys::PublicKey>,
    client: &Client,
    seen: &Seen<'_>,
    report: &mut Report,
) -> Result<Wish> {
    let tree = match args.chown {
        Some(Chown::All) => TreePolicy::All,
        Some(Chown::Login) => TreePolicy::Login,
        Some(Chown::Tree) => TreePolicy::Tree { also: args.chown_from.clone() },
        None if args.minimal && args.chown_from.is_empty() => TreePolicy::Login,
        None => TreePolicy::Tree { also: args.chown_from.clone() },
    };
    let wants_host_keys = args.fix.iter().any(|fix| matches!(fix, Fix::HostKeys | Fix::All));
    let lacks_host_keys = report.users.iter().any(|user| {
        let mut checks = user.before.findings.iter().map(|finding| finding.check);
        checks.any(|check| matches!(check, CheckId::HostKeysMissing | CheckId::HostKeysUnusable))
    });
    let host_keys = if wants_host_keys && lacks_host_keys {
        let with_config = args.fix.iter().any(|fix| matches!(fix, Fix::SshdConfig | Fix::All));
        let user = report.users.first();
        host_keys::make(&seen.inventory, &seen.os, &seen.system, user, with_config, args.dry_run)?
    } else {
        Vec::new()
    };
    Ok(Wish {
        keys,
        create_user: args.create_user,
        sudo: args.sudo,
        minimal: args.minimal,
        tree,
        host_keys,
        fix: classes(args),
        now: session::now(),
        client: client.clone(),
    })
}

/// The classes of `--fix`, beside the host keys.
fn classes(args: &RepairArgs) -> Vec<FixedBy> {
    let mut classes = Vec::new();
    for fix in &args.fix {
        match fix {
            Fix::SshdConfig => classes.push(FixedBy::SshdConfig),
            Fix::Account => classes.push(FixedBy::Account),
            Fix::Service => classes.push(FixedBy::Service),
            Fix::System => classes.push(FixedBy::System),
            Fix::All => {
                classes.extend([FixedBy::SshdConfig, FixedBy::Account, FixedBy::Service, FixedBy::System]);
            }
            Fix::HostKeys => {}
        }
    }
    classes
}

fn planned(plan: Plan) -> Vec<Applied> {
    let actions = plan.actions.into_iter();
    actions.map(|action| Applied { action, outcome: Outcome::Planned, entries: None }).collect()
}

fn show_plan(plan: &Plan, report: &Report, json: bool) {
    let style = Style::of_stdout();
    let actions: Vec<Applied> =
        planned(Plan { actions: plan.actions.clone(), notes: Vec::new(), predicted: Vec::new() });
    let mut text = text::volume(report, style);
    for user in &report.users {
        text.push_str(&text::diagnosis(user, &user.before, report, style));
    }
    text.push_str(&text::actions(&actions, style));
    for note in &plan.notes {
        text.push_str(&text::note(note, style));
    }
    if json {
        output::stderr(&text);
    } else {
        super::print(&text);
    }
}

/// What a tree would change is counted, and what it would keep.
fn show_dry_run(session: &Session, plan: Plan, stop: &Stop, report: &mut Report) -> Result<()> {
    report.predicted = plan.predicted.iter().map(|answer| answer.verdict).collect();
    let mut actions = planned(plan);
    let mut watch = Watcher::new(stop, "counting");
    for index in 0..actions.len() {
        let (before, rest) = actions.split_at_mut(index);
        if let Some(survey) = session.survey(&rest[0].action, Survey::Whole, &mut watch)? {
            let taken = taken_before(session, before, &rest[0].action);
            rest[0].entries = Some(survey.changed.saturating_sub(taken));
            tell_tree(&survey, report);
        }
    }
    watch.finish();
    stop.check()?;
    actions.retain(|one| one.entries != Some(0));
    report.actions = actions;
    Ok(())
}

/// How many entries of a tree have changed hands, or are gone, before its turn comes: actions before it did that.
fn taken_before(session: &Session, before: &[Applied], tree: &Action) -> u64 {
    let Change::ChownTree { uid, gid, owners } = &tree.change else { return 0 };
    let would_take = |owner: (u32, u32)| {
        owner != (*uid, *gid)
            && match owners {
                TreeOwners::All => true,
                TreeOwners::Of { uids } => uids.contains(&owner.0),
            }
    };
    let mut taken = BTreeSet::new();
    for one in before.iter().map(|one| &one.action) {
        let owner = match &one.change {
            Change::SetOwner { to, .. } => Some(*to),
            Change::WriteFile { uid, gid, .. } => Some((*uid, *gid)),
            Change::RemoveFile { .. } | Change::RemoveLink { .. } => None,
            _ => continue,
        };
        let below = one.path != tree.path && one.path.starts_with(&tree.path);
        if below
            && owner.is_none_or(|owner| !would_take(owner))
            && session.root().lstat(&one.path).is_ok_and(|is| would_take((is.uid, is.gid)))
        {
            taken.insert(&one.path);
        }
    }
    taken.len() as u64
}

/// Nobody is asked about a tree in which nothing would change.
fn drop_idle_trees(session: &Session, plan: &mut Plan, stop: &Stop, report: &mut Report) -> Result<()> {
    let mut watch = Watcher::new(stop, "counting");
    let mut kept = Vec::new();
    for action in plan.actions.drain(..) {
        // Before a home is made, or others of its entries change hands, nothing can be counted.
        match session.survey(&action, Survey::UntilChange, &mut watch)? {
            Some(idle) if idle.changed == 0 => tell_tree(&idle, report),
            _ => kept.push(action),
        }
    }
    watch.finish();
    plan.actions = kept;
    stop.check()
}

fn tell_tree(result: &apply::TreeResult, report: &mut Report) {
    for one in &result.kept {
        report.kept.push(KeptSummary {
            owner: one.owner,
            entries: one.entries,
            example: one.example.clone(),
        });
    }
    if let Some(example) = &result.hardlink_example {
        report.notes.push(format!(
            "{}, as {}",
            text::counted(
                result.hardlinks_outside,
                "file in the home has further names outside it and is left alone",
                "files in the home have further names outside it and are left alone"
            ),
            example.display()
        ));
    }
    if result.other_filesystems > 0 {
        report.notes.push(format!(
            "{} on another filesystem and left alone",
            text::counted(
                result.other_filesystems,
                "directory in the home is",
                "directories in the home are"
            )
        ));
    }
}

fn apply(
    session: &Session,
    plan: Plan,
    state: &Path,
    lock: Option<&mut VolumeLock>,
    stop: &Stop,
    report: &mut Report,
    pair: Option<&keys::Pair>,
) -> Result<()> {
    let paths: Vec<&Path> = plan.actions.iter().map(|action| action.path.as_path()).collect();
    let _accounts = session.lock_accounts(&paths, stop, report)?;
    let mut journal = match lock {
        Some(lock) => Journal::create(state, &session.run_info(report), lock)?,
        None => Journal::none(),
    };
    report.run = journal.run_id().map(str::to_owned);
    let mut watch = Watcher::new(stop, "changing owners");
    let done = apply::apply(session.root(), &plan.actions, &mut journal, &mut watch);
    watch.finish();
    let changed = done.changed();
    for (_, result) in &done.trees {
        tell_tree(result, report);
    }
    report.actions = done.applied;
    // Where the line was not even begun to be written, the private half is of no use, and in the way of the next try.
    let has_line =
        |one: &Applied| pair.is_some_and(|pair| pair.is_in(&one.action)) && may_be_there(&one.outcome);
    let pair_written = report.actions.iter().any(has_line);
    if let Some(pair) = pair.filter(|_| !pair_written) {
        pair.withdraw();
        report.notes.retain(|note| !note.starts_with(NEW_KEY));
        report
            .notes
            .push(format!("the new key was not added to the volume: {} is removed", pair.file().display()));
    }
    let ending = match (&done.error, done.stopped) {
        (Some(_), _) => Ending::Failed,
        (None, true) => Ending::Interrupted,
        (None, false) => Ending::Complete,
    };
    // Intents without effect stay on record; where not even that was begun, there was no run.
    let nothing_begun = done.error.is_none() && !changed && report.actions.iter().all(is_unchanged);
    if nothing_begun && journal.changes() == 0 {
        if journal.discard().is_ok() {
            report.run = None;
        }
        return if done.stopped { Err(super::signals::interrupted().into()) } else { Ok(()) };
    }
    let ended = journal.end(ending);
    let run = report.run.clone().unwrap_or_default();
    let again = if pair_written {
        "Run the command again, with --key in place of --generate-key,"
    } else {
        "Run the same command again"
    };
    let how_to_go_on = if run.is_empty() {
        format!("{again} to go on; without a journal it can't be taken back.")
    } else {
        format!("{again} to go on, or take it back: volrescue undo {run}")
    };
    if let Some(error) = done.error {
        let words = format!("{error:#}");
        let full = words.contains("No space left") || words.contains("quota");
        let hint =
            if full { format!("Free some space on the volume first. {how_to_go_on}") } else { how_to_go_on };
        return Err(Refusal::failed(words).hint(hint).into());
    }
    if done.stopped && changed {
        return Err(Refusal::failed("stopped by a signal before the end of the plan")
            .hint(how_to_go_on)
            .into());
    }
    if done.stopped {
        return Err(super::signals::interrupted().into());
    }
    ended.map_err(|error| Refusal::failed(format!("the journal can't be ended: {error:#}")).into())
}

/// Whether what was to be written may be there.
fn may_be_there(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Changed | Outcome::Unchanged | Outcome::Failed(_))
}

fn is_unchanged(applied: &Applied) -> bool {
    matches!(applied.outcome, Outcome::Unchanged | Outcome::Planned)
}

fn verify(
    session: &Session,
    names: &[BString],
    keys: &[crate::keys::PublicKey],
    client: &Client,
    report: &mut Report,
) {
    let again = session.look_again(report);
    for (name, user) in names.iter().zip(&mut report.users) {
        let question = question(name, keys, client);
        user.after = Some(session.ask(&again, &question));
    }
}

fn job(args: &RepairArgs, target: &str) -> Job {
    let mut line: Vec<OsString> = vec!["repair".into()];
    targets::push_target(&mut line, &args.target);
    targets::push_login(&mut line, &args.login, args.output);
    let flags = [
        (args.create_user, "--create-user"),
        (args.sudo, "--sudo"),
        (args.dry_run, "--dry-run"),
        (args.fsck, "--fsck"),
        (args.minimal, "--minimal"),
        (args.no_journal, "--no-journal"),
        (args.yes, "--yes"),
        (args.prove, "--prove"),
    ];
    line.extend(flags.iter().filter(|(given, _)| *given).map(|(_, flag)| OsString::from(flag)));
    if let Some(chown) = args.chown {
        let word = match chown {
            Chown::Tree => "--chown=tree",
            Chown::All => "--chown=all",
            Chown::Login => "--chown=login",
        };
        line.push(word.into());
    }
    line.extend(args.chown_from.iter().map(|id| OsString::from(format!("--chown-from={id}"))));
    for fix in &args.fix {
        line.push(format!("--fix={}", fix.word()).into());
    }
    if let Some(from) = &args.from {
        line.push(format!("--from={from}").into());
    }
    if let Some(state) = &args.state.state_dir {
        targets::push_path(&mut line, "--state-dir=", state);
    }
    line.push("--".into());
    line.push(target.into());
    Job { target: target.to_owned(), args: line }
}
