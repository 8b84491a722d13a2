//! volrescue opens the volume of an instance that answers *Server refused our key*, finds out as sshd would why, mends
//! it, and lets go of the volume. This crate is the whole tool; the binary only calls [`run::run`].
//!
//! ```text
//! argv -> cli -> run
//!   Volume        exclusive; refuses what is in use            effect
//!   -> roots      which partition or subvolume is "/"          pure over bytes, then confirmed by reading
//!   -> Mount      private namespace, nosuid nodev noexec       effect
//!   -> fstab      what boot mounts over the login path         pure, then mounted
//!   -> Root       the only door to files inside                effect
//!   -> Inventory  what was seen, remembered; a View            effect
//!   -> Evaluation what sshd would say, and why                 pure over a View
//!   -> Plan       actions with precondition and inverse        pure   (--dry-run stops here)
//!   -> apply      through Root, write-ahead Journal            effect
//!   -> verify     a new Inventory, the same evaluation         effect + pure
//!   -> prove      on request: a login through the volume's own sshd, in a sandbox   effect
//!   -> close      sync, unmount, detach, look again            effect
//! ```
//!
//! Three floors, dependency downward only:
//! - *words*: [`run`], [`cli`], [`report`];
//! - *effects*: [`volume`], [`inventory`], [`apply`], [`journal`], [`undo`], [`prove`],
//!   [`shell`], [`inside`], over [`root`], over [`sys`];
//! - *pure*: [`sshd`], [`accounts`], [`keys`], [`permissions`], [`os`], [`plan`], [`finding`], [`view`], [`probe`],
//!   [`fstab`], [`selinux`], [`userdata`].
//!
//! A pure module imports no effect: what it wants to know of the volume it asks a [`view::View`].

pub mod accounts;
pub mod apply;
pub mod cli;
pub mod error;
pub mod finding;
pub mod fstab;
pub mod inside;
pub mod inventory;
pub mod journal;
pub mod keys;
pub mod os;
pub mod permissions;
pub mod plan;
pub mod probe;
pub mod prove;
pub mod report;
pub mod root;
pub mod run;
pub mod selinux;
pub mod shell;
pub mod sshd;
pub mod sys;
pub mod undo;
pub mod userdata;
pub mod view;
pub mod volume;
