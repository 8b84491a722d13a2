//! What was seen of a volume, read through Root once and remembered.
