//! `--report FILE`: the page of a run, written on the helper.
//!
//! The file appears whole or not at all (a new file beside it, synced, then renamed), 0600, since it names accounts and
//! keys. An earlier page of volrescue is replaced; any other file, link or device is left alone and the run refused before
//! a volume is opened.

#![expect(clippy::disallowed_methods, reason = "this is a file of the helper that the operator named")]

use super::session;
use crate::cli::TargetArgs;
use crate::error::{ExitCode, Refusal};
use crate::journal::clock;
use crate::report::output;
use crate::report::page::{MARK, page};
use crate::report::{Report, text};
use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::libc::{O_NOFOLLOW, O_NONBLOCK, O_TMPFILE};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A page that can be written when the run is over.
#[derive(Debug)]
pub(super) struct PageFile {
    path: PathBuf,
    directory: PathBuf,
}

impl PageFile {
    /// Checks before anything else is done that a page can be written to `file`.
    ///
    /// # Errors
    /// A usage error if it can't, and a refusal if it would be written into the volume.
    pub(super) fn find(file: Option<&Path>, target: &TargetArgs) -> Result<Option<Self>, Refusal> {
        let Some(file) = file else { return Ok(None) };
        let shown = file.display();
        if target.targets.len() > 1 {
            return Err(Refusal::usage("--report makes one page and can't serve several targets")
                .hint("Run the targets one by one, each with a --report of its own."));
        }
        let Some(name) = file.file_name() else {
            return Err(Refusal::usage(format!("{shown}: --report wants the name of a file")));
        };
        let given = file.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = fs::canonicalize(given.unwrap_or(Path::new("."))).map_err(|error| {
            Refusal::usage(format!("{shown}: the report can't be written there: {error}"))
                .hint("Give a path in a directory of this helper that exists.")
        })?;
        let page = Self { path: directory.join(name), directory };
        for volume in target.targets.iter().chain(&target.with) {
            let inside = fs::canonicalize(volume)
                .is_ok_and(|volume| volume.is_dir() && page.directory.starts_with(volume));
            if inside && !target.live {
                return Err(Refusal::unsafe_(format!(
                    "{shown}: the report would be written into the volume"
                ))
                .hint("Give a path outside the target."));
            }
        }
        page.place().map_err(|error| {
            Refusal::usage(format!("{shown}: {error:#}"))
                .hint("Give another name: only an earlier report of volrescue is replaced.")
        })?;
        // Where such files can't be had, the end will tell.
        let probe = OpenOptions::new().write(true).mode(0o600).custom_flags(O_TMPFILE).open(&page.directory);
        match probe {
            Err(error)
                if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) =>
            {
                Err(Refusal::usage(format!("{shown}: the report can't be written there: {error}"))
                    .hint("Give a path in a directory of this helper that can be written."))
            }
            _ => Ok(Some(page)),
        }
    }

    /// The directory, which nothing may be mounted over.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether an earlier page is there; nothing may be otherwise.
    fn place(&self) -> Result<Place> {
        let there = match fs::symlink_metadata(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Place::Free),
            there => there.context("the report can't be written there")?,
        };
        if !there.is_file() {
            bail!("what is there is no regular file, and is not replaced by the report");
        }
        let mut head = Vec::new();
        let flags = O_NOFOLLOW | O_NONBLOCK;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(&self.path);
        file.and_then(|file| file.take(MARK.len() as u64).read_to_end(&mut head))
            .context("the file that is there can't be read")?;
        if head != MARK.as_bytes() {
            bail!("the file that is there is no report of volrescue, and is not overwritten");
        }
        Ok(Place::EarlierPage)
    }

    fn write(&self, text: &str) -> Result<()> {
        let new = self.directory.join(format!(".volrescue-report-{}", std::process::id()));
        let written = (|| {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
            file.set_permissions(fs::Permissions::from_mode(0o600))?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            anyhow::Ok(())
        })()
        .and_then(|()| self.rename(&new));
        if written.is_err() {
            let _ = fs::remove_file(&new);
        }
        written?;
        // That a directory can't be synced (some network filesystems) does not make the page unwritten.
        let _ = File::open(&self.directory).and_then(|directory| directory.sync_all());
        Ok(())
    }

    fn rename(&self, new: &Path) -> Result<()> {
        if self.place()? == Place::Free {
            match renameat2(AT_FDCWD, new, AT_FDCWD, &self.path, RenameFlags::RENAME_NOREPLACE) {
                // Not every filesystem has it.
                Err(Errno::EINVAL) => {}
                done => return Ok(done?),
            }
        }
        Ok(fs::rename(new, &self.path)?)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Place {
    Free,
    EarlierPage,
}

/// Writes the page, prints the report and gives the exit code; that the page could not be written is an error of the run.
pub(super) fn finish(
    report: &mut Report,
    page_file: Option<&PageFile>,
    json: bool,
    diagnosis: bool,
) -> ExitCode {
    let Some(file) = page_file else { return session::finish(report, json, diagnosis) };
    let made = clock::readable(session::now());
    let next = session::next_step(report);
    let html = page(report, session::exit_code(report), &made, next.as_deref());
    let written = file.write(&html);
    if written.is_ok() {
        report.page = Some(file.path.clone());
    }
    let code = session::finish(report, json, diagnosis);
    match written {
        Ok(()) => code,
        Err(error) => {
            let refusal = Refusal::target(format!(
                "{}: the report could not be written: {error:#}; all else was done as told",
                file.path.display()
            ));
            output::stderr(&text::error(&refusal, output::Style { colour: false, columns: 80 }));
            code.max(refusal.code)
        }
    }
}
