//! The one module with unsafe code: system calls that no crate wraps.

pub mod block;
pub mod bytes;
pub mod inode;
pub mod mapper;
pub mod process;
pub mod seccomp;
