//! The command line: types only; the doc comments are the help. Keep every help text within 80 columns.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Offline rescue of a volume whose instance refuses the SSH key.
///
/// Attach the root volume of the broken instance (or a copy of it) to a helper
/// machine, then: diagnose, repair, detach.
#[derive(Debug, Parser)]
#[command(name = "volrescue", version, max_term_width = 80, help_expected = true)]
#[command(after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 every verdict is accept; 1 a verdict is refuse or unknown;
2 usage; 3 the target can't be opened or understood; 4 refused for safety;
5 failed while changing; 130 stopped by a signal before any change.";

/// The commands of the contract.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the disks attached here, what is on them, what could be rescued.
    List(ListArgs),
    /// Tell whether sshd would accept the key, and if not, why. Changes nothing.
    Diagnose(DiagnoseArgs),
    /// Plan, show, ask, apply, verify, unmount.
    Repair(RepairArgs),
    /// Log in through the volume's own sshd, which runs in a sandbox here.
    Prove(ProveArgs),
    /// Put back everything that a run changed.
    Undo(UndoArgs),
    /// List the runs recorded on this helper, or show one.
    History(HistoryArgs),
    /// Open a shell with the volume mounted for it alone; gone when it ends.
    ///
    /// Ends with 0 once the volume is let go, whatever the shell itself ended
    /// with.
    Shell(ShellArgs),
    /// List every check: its name, what it means, what fixes it.
    Checks(ChecksArgs),
    /// Print EC2 user data that mends the login path at boot, without a helper.
    Userdata(UserdataArgs),
    /// Write the man pages or the shell completions into a directory.
    #[command(hide = true)]
    Generate(GenerateArgs),
    /// Do one stage of shell; started by shell itself.
    #[command(hide = true)]
    Enclose(EncloseArgs),
    /// Do one stage of the sandbox of prove; started by prove itself.
    #[command(hide = true)]
    Sandbox(SandboxArgs),
    /// Become a tool that works on the volume; started by volrescue itself.
    #[command(hide = true)]
    Tool(ToolArgs),
}

impl Command {
    /// How often `-v` was given.
    #[must_use]
    pub fn verbosity(&self) -> u8 {
        match self {
            Self::List(args) => args.output.verbose,
            Self::Diagnose(args) => args.output.verbose,
            Self::Repair(args) => args.output.verbose,
            Self::Prove(args) => args.output.verbose,
            Self::Undo(args) => args.output.verbose,
            Self::History(args) => args.output.verbose,
            Self::Shell(args) => args.output.verbose,
            Self::Checks(args) => args.output.verbose,
            Self::Generate(_) | Self::Enclose(_) | Self::Sandbox(_) | Self::Tool(_) | Self::Userdata(_) => 0,
        }
    }
}

/// Which volume, and which filesystem of it.
#[derive(Clone, Debug, Args)]
pub struct TargetArgs {
    /// Disk, partition, disk image, EBS volume id (vol-...) or directory.
    #[arg(required = true, value_name = "TARGET")]
    pub targets: Vec<String>,
    /// Take partition N as the root.
    #[arg(long, value_name = "N")]
    pub partition: Option<u32>,
    /// Take this filesystem as the root: UUID, label, PARTUUID, subvolume or
    /// VG/LV.
    #[arg(long, value_name = "ID")]
    pub root: Option<String>,
    /// Another volume that holds part of the tree, as a /home. May repeat.
    #[arg(long, value_name = "TARGET")]
    pub with: Vec<String>,
    /// Follow the backing file of an image also outside of its directory.
    #[arg(long)]
    pub allow_backing: bool,
    /// Open what is encrypted with LUKS with the key or passphrase in FILE. May
    /// repeat. Without it, a passphrase is asked for on the terminal.
    #[arg(long, value_name = "FILE")]
    pub luks_key: Vec<PathBuf>,
    /// Allow / itself, the running system, as the target.
    #[arg(long)]
    pub live: bool,
}

/// Who asks.
#[derive(Clone, Debug, Args)]
pub struct LoginArgs {
    /// The login user; may repeat. Default: the image's own default user.
    #[arg(long = "user", short = 'u', value_name = "U")]
    pub users: Vec<String>,
    /// A key: OpenSSH, RFC 4716 or PuTTY public key, or a private key (only
    /// its public half is taken); - is standard input. May repeat.
    #[arg(long = "key", short = 'k', value_name = "FILE")]
    pub keys: Vec<PathBuf>,
}

/// How to answer.
#[derive(Clone, Copy, Debug, Args)]
pub struct OutputArgs {
    /// Print one JSON document on standard output, nothing else there.
    #[arg(long)]
    pub json: bool,
    /// Say more on standard error about what is being done.
    #[arg(long, short, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// How many targets are worked at a time, where several are given.
#[derive(Clone, Copy, Debug, Args)]
pub struct JobsArgs {
    /// Work on N targets at a time.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: u16,
}

/// Where a page goes.
#[derive(Clone, Debug, Args)]
pub struct PageArgs {
    /// Write a page of HTML about the run to FILE here, for a ticket (0600; of
    /// files that exist only an earlier report is replaced).
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

/// Where runs are journaled.
#[derive(Clone, Debug, Args)]
pub struct StateArgs {
    /// Where runs are journaled [env: VOLRESCUE_STATE_DIR].
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

/// `list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// How to answer.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `diagnose`.
#[derive(Debug, Args)]
pub struct DiagnoseArgs {
    /// Which volume.
    #[command(flatten)]
    pub target: TargetArgs,
    /// How many at a time.
    #[command(flatten)]
    pub jobs: JobsArgs,
    /// Who asks.
    #[command(flatten)]
    pub login: LoginArgs,
    /// Let the kernel replay a dirty journal on the volume itself (a write).
    #[arg(long)]
    pub replay: bool,
    /// Judge for a client at this address, and host name, if given.
    #[arg(long, value_name = "ADDR[,HOST]")]
    pub from: Option<String>,
    /// Print every step that sshd takes, passed or failed.
    #[arg(long)]
    pub explain: bool,
    /// Write the report as a page of HTML, for a ticket.
    #[command(flatten)]
    pub page: PageArgs,
    /// How to answer.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `repair`.
#[derive(Debug, Args)]
pub struct RepairArgs {
    /// Which volume.
    #[command(flatten)]
    pub target: TargetArgs,
    /// How many at a time.
    #[command(flatten)]
    pub jobs: JobsArgs,
    /// Who asks.
    #[command(flatten)]
    pub login: LoginArgs,
    /// Make an Ed25519 pair, write its private half to FILE here, add it.
    #[arg(long, value_name = "FILE")]
    pub generate_key: Option<PathBuf>,
    /// Put back the user entry if it is missing.
    #[arg(long)]
    pub create_user: bool,
    /// With --create-user: admin groups and sudo also for other users than
    /// the image's default user.
    #[arg(long, requires = "create_user")]
    pub sudo: bool,
    /// Judge for a client at this address, and host name, if given: rules that
    /// name client addresses are then decided, and mended by their --fix class.
    #[arg(long, value_name = "ADDR[,HOST]")]
    pub from: Option<String>,
    /// Print the plan, change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Change only what makes sshd refuse.
    #[arg(long)]
    pub minimal: bool,
    /// Whose entries in the home become the user's: root's and the wrong
    /// owner's (tree), all, or only the path that sshd looks at (login).
    /// Default: tree; with --minimal: login.
    #[arg(long, value_enum, value_name = "WHAT")]
    pub chown: Option<Chown>,
    /// With tree: take entries of this owner too. May repeat.
    #[arg(long, value_name = "ID")]
    pub chown_from: Vec<u32>,
    /// Allow changes beyond permissions, keys and the user entry.
    #[arg(long, value_enum, value_name = "CLASS", value_delimiter = ',')]
    pub fix: Vec<Fix>,
    /// Let the filesystem's own checker run first: e2fsck -p, xfs_repair after
    /// its log is replayed, or btrfs check, which only looks.
    #[arg(long)]
    pub fsck: bool,
    /// End with a login through the volume's own sshd, as prove does.
    #[arg(long)]
    pub prove: bool,
    /// Keep no journal, where nothing can be written here: the run can then not
    /// be undone, and what a killed one left half-way is not known.
    #[arg(long)]
    pub no_journal: bool,
    /// Do not ask.
    #[arg(long, short)]
    pub yes: bool,
    /// Write the report as a page of HTML, for a ticket.
    #[command(flatten)]
    pub page: PageArgs,
    /// Where runs are journaled.
    #[command(flatten)]
    pub state: StateArgs,
    /// How to answer.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `prove`.
#[derive(Debug, Args)]
#[command(mut_arg("targets", |one| one.num_args(1).action(clap::ArgAction::Set)))]
pub struct ProveArgs {
    /// Which volume.
    #[command(flatten)]
    pub target: TargetArgs,
    /// The login user.
    #[arg(long, short, value_name = "U")]
    pub user: String,
    /// A private key without passphrase to log in with; - is standard input.
    /// Default: a pair made for this login, added in memory to the files of
    /// keys that exist, so that all but the key itself is proved.
    #[arg(long = "key", short = 'k', value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// End the login after so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub timeout: u16,
    /// How to answer.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `undo`.
#[derive(Debug, Args)]
pub struct UndoArgs {
    /// The run, as `history` lists it.
    #[arg(value_name = "RUN")]
    pub run: String,
    /// The volume, where it is not found by its recorded id.
    #[arg(long, value_name = "T")]
    pub target: Option<String>,
    /// The volume that held part of the tree, if it is not where it was.
    #[arg(long, value_name = "TARGET")]
    pub with: Vec<String>,
    /// Follow the backing file of an image also outside of its directory.
    #[arg(long)]
    pub allow_backing: bool,
    /// Open what is encrypted with LUKS with the key or passphrase in FILE.
    #[arg(long, value_name = "FILE")]
    pub luks_key: Vec<PathBuf>,
    /// Allow / itself as the target.
    #[arg(long)]
    pub live: bool,
    /// Print what would be put back, change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Take the old state also where something was changed since the run.
    #[arg(long)]
    pub force: bool,
    /// Do not ask.
    #[arg(long, short)]
    pub yes: bool,
    /// Where runs are journaled.
    #[command(flatten)]
    pub state: StateArgs,
    /// How to answer.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `history`.
#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// Show this run alone, record by record.
    #[arg(value_name = "RUN")]
    pub run: Option<String>,
    /// Remove the runs that are undone; with DAYS also those that ended by
    /// themselves and began so many days ago, which can then not be undone.
    #[arg(long, value_name = "DAYS", num_args = 0..=1, require_equals = true, conflicts_with = "run")]
    pub prune: Option<Option<u32>>,
    /// Where runs are journaled.
    #[command(flatten)]
    pub state: StateArgs,
    /// How to answer.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `shell`.
#[derive(Debug, Args)]
#[command(mut_arg("targets", |one| one.num_args(1).action(clap::ArgAction::Set)))]
pub struct ShellArgs {
    /// Which volume.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Mount the volume so that it can be changed; undo can't take it back.
    #[arg(long)]
    pub writable: bool,
    /// Run the volume's own shell, with the volume as its /: its programs run on this machine, held back by namespaces.
    #[arg(long)]
    pub chroot: bool,
    /// Where runs are journaled: none of them may work on the volume meanwhile.
    #[command(flatten)]
    pub state: StateArgs,
    /// How to answer.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `checks`.
#[derive(Debug, Args)]
pub struct ChecksArgs {
    /// How to answer.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `enclose`.
#[derive(Debug, Args)]
pub struct EncloseArgs {
    /// Which stage.
    pub stage: String,
    /// What it needs to know.
    #[arg(last = true)]
    pub words: Vec<std::ffi::OsString>,
}

/// `sandbox`.
#[derive(Debug, Args)]
pub struct SandboxArgs {
    /// Which stage.
    pub stage: String,
    /// What it needs to know.
    #[arg(last = true)]
    pub words: Vec<std::ffi::OsString>,
}

/// `tool`.
#[derive(Debug, Args)]
pub struct ToolArgs {
    /// What becomes of it when its parent ends.
    pub bond: String,
    /// The program and its arguments.
    #[arg(last = true)]
    pub words: Vec<std::ffi::OsString>,
}

/// `userdata`.
#[derive(Debug, Args)]
pub struct UserdataArgs {
    /// The login user.
    #[arg(long, short, value_name = "U")]
    pub user: String,
    /// A key to add, as for repair; may repeat.
    #[arg(long = "key", short = 'k', value_name = "FILE")]
    pub keys: Vec<PathBuf>,
}

/// `generate`.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// What to write.
    #[arg(value_enum)]
    pub what: Generated,
    /// Where to; the directory must exist.
    pub directory: PathBuf,
}

/// What `generate` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Generated {
    /// Man pages.
    Man,
    /// Completions for bash, zsh and fish.
    Completions,
}

/// `--chown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Chown {
    /// Entries of root and of the wrong owner found on the home or .ssh.
    Tree,
    /// Literally everything, as `chown -R`.
    All,
    /// Only the path that sshd looks at.
    Login,
}

/// `--fix`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fix {
    /// Edit sshd_config; no line is deleted, what must go becomes a comment.
    SshdConfig,
    /// Lock (no password is set), expiry, shell, nologin, PAM's lists.
    Account,
    /// Make missing or unusable host keys anew.
    HostKeys,
    /// Enable and unmask the ssh unit.
    Service,
    /// TCP wrappers that refuse the client, owner and mode of sudo's files.
    System,
    /// All classes that there are.
    All,
}

impl Fix {
    /// The word of the command line.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::SshdConfig => "sshd-config",
            Self::Account => "account",
            Self::HostKeys => "host-keys",
            Self::Service => "service",
            Self::System => "system",
            Self::All => "all",
        }
    }
}
