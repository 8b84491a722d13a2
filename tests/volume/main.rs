//! The volume module on real filesystems, partition tables and loop devices, through the library.
//!
//! Needs root, loop devices, e2fsprogs, xfsprogs, btrfs-progs, fdisk and gdisk. Where root or loop devices are missing
//! the trials are listed as ignored; with `VOLRESCUE_ROOT_TESTS=require` they run all the same, and fail.

#![expect(clippy::disallowed_methods, reason = "a test sets up and looks at the volume from outside")]

mod bad;
mod fixture;
mod layouts;
mod letting_go;
mod subvolumes;

use libtest_mimic::{Arguments, Failed, Trial};

type Case = (String, Box<dyn FnOnce() -> anyhow::Result<()> + Send>);

fn case(name: impl Into<String>, run: impl FnOnce() -> anyhow::Result<()> + Send + 'static) -> Case {
    (name.into(), Box::new(run))
}

fn main() {
    if let Some(image) = std::env::var_os(letting_go::REFUSED) {
        return letting_go::write_what_is_refused(image.as_ref());
    }
    if let Some(image) = std::env::var_os(letting_go::HOLD) {
        return letting_go::hold(image.as_ref());
    }
    let arguments = Arguments::from_args();
    let required = std::env::var_os("VOLRESCUE_ROOT_TESTS").is_some_and(|value| value == "require");
    let able = nix::unistd::geteuid().is_root() && std::path::Path::new("/dev/loop-control").exists();
    let cases =
        [layouts::cases(), subvolumes::cases(), bad::cases(), letting_go::cases()].into_iter().flatten();
    let trials = cases.map(|(name, run)| {
        let trial = Trial::test(name, move || run().map_err(|error| Failed::from(format!("{error:#}"))));
        trial.with_ignored_flag(!able && !required)
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}
