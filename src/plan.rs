//! What would be done: actions with what they expect to find and what undoes them. Pure.

pub mod action;
pub mod overlay;
pub mod user;

pub use action::{Action, Applied, Before, Change, Outcome, TreeOwners};
pub use overlay::Overlay;
