//! Man pages and shell completions, from the command line's own definition.

use crate::cli::{Cli, GenerateArgs, Generated};
use crate::error::{ExitCode, Refusal};
use anyhow::Result;
use clap::CommandFactory;
use clap_complete::Shell;

/// `generate man|completions DIRECTORY`.
pub(super) fn generate(args: &GenerateArgs) -> ExitCode {
    match write(args) {
        Ok(()) => ExitCode::Accepted,
        Err(error) => {
            let refusal = Refusal::usage(format!("{}: {error:#}", args.directory.display()));
            super::refuse("generate", false, &refusal)
        }
    }
}

fn write(args: &GenerateArgs) -> Result<()> {
    let mut command = Cli::command();
    match args.what {
        Generated::Man => {
            command.build();
            clap_mangen::generate_to(command, &args.directory)?;
        }
        Generated::Completions => {
            for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
                clap_complete::generate_to(shell, &mut command, "volrescue", &args.directory)?;
            }
        }
    }
    Ok(())
}
