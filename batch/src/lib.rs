//! The truth: archive the log into the lake, recount it exactly, reconcile, settle
