//! Doing what a plan says, through Root, after its inverse is in the journal.
