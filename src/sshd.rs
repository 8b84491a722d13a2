//! sshd's decision, step by step as sshd takes it, over a [`crate::view::View`].
//!
//! Sources of the rules: openssh-portable `sshd.c` (start), `servconf.c` (configuration), `auth.c` (`allowed_user`),
//! `auth2-pubkey.c` and `auth2-pubkeyfile.c` (keys), `misc.c` (`safe_path`), `session.c` (the session), and the
//! patches of the distributions. All of it is pure: it asks a view, and is told the time.

pub mod build;
pub mod cite;
pub mod config;
pub mod evaluate;
pub mod pattern;
mod services;

pub use build::{Build, Family};
pub use config::Effective;
pub use evaluate::{Evaluation, Question, evaluate};
