//! The write-ahead journal of a run, on the helper.
