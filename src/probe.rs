//! What the bytes of a disk say: partition tables and superblocks. Pure.
