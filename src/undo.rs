//! Taking a run back from its journal.
