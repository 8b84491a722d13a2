//! Opening a volume exclusively, finding its root, mounting it privately, letting go of it.
