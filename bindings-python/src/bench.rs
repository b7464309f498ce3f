//! The Rust call that the package stands on, for `benches/scan.py` to compare with: in its process and on its engine,
//! because two processes differ by more than what is asked for.

use bytes::Bytes;
use pyo3::exceptions::{PyIndexError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use scan_pipeline::content::Content;
use scan_pipeline::engine::ScanContext;
use scan_pipeline::model::Verdict;

use crate::engine::Engine;
use crate::process::Process;

/// Contents that are in memory beforehand, as they are for Python.
#[pyclass(frozen, module = "scan_pipeline._native")]
pub(crate) struct Files(Vec<Bytes>);

#[pymethods]
impl Files {
    #[new]
    fn new(contents: Vec<PyBackedBytes>) -> Self {
        Self(contents.iter().map(|content| Bytes::copy_from_slice(content)).collect())
    }

    /// Scans those from number `begin` to the one before `end`, one after the other.
    fn scan(&self, py: Python<'_>, engine: &Engine, begin: usize, end: usize) -> PyResult<()> {
        let files = self.0.get(begin..end).ok_or_else(|| PyIndexError::new_err("there are not so many files"))?;
        let failed = |why: &dyn std::fmt::Display| PyRuntimeError::new_err(why.to_string());
        let process = Process::current().map_err(|why| failed(&why))?;
        let scans = async {
            for file in files {
                let content = Content::from_bytes(file.clone());
                let report = engine.engine.ungated().scan(&content, &ScanContext::named("a.bin")).await;
                if report.map_err(|why| failed(&why))?.verdict != Verdict::Clean {
                    return Err(failed(&"a file of the benches is not clean"));
                }
            }
            Ok(())
        };
        py.detach(|| process.runtime.block_on(scans))
    }
}
