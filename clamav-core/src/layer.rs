//! Layers as other detectors see them.

use std::ops::ControlFlow;

/// One unpacked part of a scanned file, or the file itself, while libclamav has it in memory.
#[derive(Debug, Clone, Copy)]
pub struct Layer<'a> {
    /// Where it is, such as `outer.zip/inner.docx/word/document.xml`. Parts without a name (a PDF's streams, a mail's
    /// bodies) have their number among their siblings instead: `report.pdf/#3`. Numbers follow the order in which
    /// libclamav delivers, which for mails may differ between two scans.
    pub path: &'a str,
    /// libclamav's name of its type, such as `CL_TYPE_OOXML_WORD`.
    pub file_type: &'a str,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// 0 for the file itself.
    pub depth: u32,
    /// It was made from the layer around it by normalisation (HTML, scripts) and holds no content of its own.
    pub normalized: bool,
}

/// Code that looks at every unpacked layer in the same pass as the malware scan.
///
/// Each distinct content of a scan is shown once, however often the file repeats it. The detector runs on the scan
/// thread between libclamav's steps, so it should not block. It cannot change the verdict; a panic in it is
/// contained and fails the scan with [`ErrorKind::Panicked`](crate::ErrorKind::Panicked). `Break` means that it has
/// seen enough of this file; the malware scan goes on.
///
/// ```
/// use std::ops::ControlFlow;
/// use std::sync::{Arc, Mutex};
/// use clamav_core::{Layer, ScanRequest};
///
/// let paths = Arc::new(Mutex::new(Vec::new()));
/// let seen = Arc::clone(&paths);
/// let request = ScanRequest::named("report.docx").detector(move |layer: &Layer<'_>| {
///     seen.lock().unwrap().push(layer.path.to_owned());
///     ControlFlow::Continue(())
/// });
/// # let _ = request;
/// ```
pub trait LayerDetector: Send {
    /// Looks at one layer.
    fn inspect(&mut self, layer: &Layer<'_>) -> ControlFlow<()>;
}

impl<F> LayerDetector for F
where
    F: FnMut(&Layer<'_>) -> ControlFlow<()> + Send,
{
    fn inspect(&mut self, layer: &Layer<'_>) -> ControlFlow<()> {
        self(layer)
    }
}
