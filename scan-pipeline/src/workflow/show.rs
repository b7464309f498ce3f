//! Showing a run.
