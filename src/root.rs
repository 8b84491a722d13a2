//! The only door to files of the volume: every path is resolved inside it (openat2(2)).
