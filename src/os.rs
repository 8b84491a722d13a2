//! Which distribution the volume holds, and what differs by it. Pure.
