//! The read path: merge settled and provisional cells into one answer, with its provenance, and push it live
