//! The one module with unsafe code: ioctls that no crate wraps.

pub mod block;
pub mod inode;
