//! System calls that no crate wraps, and what /proc and /sys tell: the one module with unsafe code.

pub mod block;
pub mod bytes;
pub mod inode;
pub mod mapper;
pub mod mounts;
pub mod process;
pub mod seccomp;
