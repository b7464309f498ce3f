//! Running a workflow.
