//! The thin binary; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(volrescue::run::run(std::env::args_os()))
}
