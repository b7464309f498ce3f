//! The native module of the Python package: it passes sources in, runs scans, and hands reports over as the JSON of the
//! Rust model. Everything that can be Python is Python (`python/scan_pipeline/`).

#[cfg(feature = "bench")]
mod bench;
mod engine;
mod failure;
mod feed;
mod handler;
mod job;
mod logs;
mod pipeline;
mod process;

use pyo3::prelude::*;

#[pymodule]
mod _native {
    #[cfg(feature = "bench")]
    #[pymodule_export]
    use crate::bench::Files;
    #[pymodule_export]
    use crate::engine::Engine;
    #[pymodule_export]
    use crate::feed::Feed;
    #[pymodule_export]
    use crate::handler::Call;
    #[pymodule_export]
    use crate::job::Job;
    #[pymodule_export]
    use crate::logs::{next_records, set_level, start_logging};
    #[pymodule_export]
    use crate::pipeline::{Pipeline, Running, Upload, Work};
    #[pymodule_export]
    use crate::process::{after_fork_in_child, after_fork_in_parent, at_exit, before_fork};

    use super::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("version", env!("CARGO_PKG_VERSION"))?;
        module.add("library_version", scan_pipeline::clamav::library_version())
    }
}
