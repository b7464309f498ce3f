//! The findings of one scan, taken from its layers in the pass that unpacks them.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Detectors, Findings, MOST_FINDINGS};
use crate::clamav::{Layer, LayerDetector};

/// Has every layer of one scan looked at for sensitive data, in the same pass as the malware scan.
///
/// ```no_run
/// use scan_pipeline::clamav::{EngineBuilder, ScanRequest};
/// use scan_pipeline::engine::{Detectors, FindingTaker};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (engine, detectors) = (EngineBuilder::new().build()?, Detectors::builder().first_tier().build()?);
/// let taker = FindingTaker::new(&detectors);
/// let report = engine.scan(std::path::Path::new("upload.zip"), ScanRequest::new().detector(taker.detector()))?;
/// let found = taker.take();
/// println!("{:?}: {} findings and {} more", report.verdict, found.list.len(), found.omitted);
/// # Ok(()) }
/// ```
///
/// [`ClamAv`](super::ClamAvBuilder::detectors) does this by itself.
#[derive(Debug, Clone)]
pub struct FindingTaker {
    detectors: Detectors,
    most: usize,
    taken: Arc<Mutex<Findings>>,
}

impl FindingTaker {
    /// One for one scan, with a limit of 1,000 findings.
    pub fn new(detectors: &Detectors) -> Self {
        Self { detectors: detectors.clone(), most: MOST_FINDINGS, taken: Arc::default() }
    }

    /// Lists at most so many findings of all layers together; those beyond are counted.
    #[must_use]
    pub fn most(mut self, findings: usize) -> Self {
        self.most = findings;
        self
    }

    /// What looks at the layers, to give to [`ScanRequest::detector`](crate::clamav::ScanRequest::detector).
    pub fn detector(&self) -> impl LayerDetector + 'static {
        let this = self.clone();
        move |layer: &Layer<'_>| {
            this.add(this.detectors.find_layer(layer));
            // On to the next layer also where the list is full: the rest is counted.
            ControlFlow::Continue(())
        }
    }

    /// Adds what was found in a layer.
    fn add(&self, found: Findings) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let room = self.most.saturating_sub(taken.list.len()).min(found.list.len());
        let over = (found.list.len() - room) as u64;
        taken.omitted = taken.omitted.saturating_add(found.omitted).saturating_add(over);
        taken.list.extend(found.list.into_iter().take(room));
    }

    /// What was found, once the scan is done. It is given once.
    pub fn take(&self) -> Findings {
        std::mem::take(&mut *self.taken.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Finding;

    fn found(offsets: std::ops::Range<u64>, omitted: u64) -> Findings {
        let list = offsets.map(|byte_offset| Finding { byte_offset, ..Finding::default() }).collect();
        Findings { list, omitted }
    }

    #[test]
    fn the_first_findings_of_all_layers_are_listed_and_the_rest_is_counted() {
        let detectors = Detectors::builder().build().expect("detectors");
        let taker = FindingTaker::new(&detectors).most(5);
        taker.add(found(0..3, 0));
        taker.add(found(3..6, 2));
        taker.add(found(6..8, 0));
        let taken = taker.clone().take();
        assert_eq!(
            (taken.list.iter().map(|one| one.byte_offset).collect::<Vec<_>>(), taken.omitted),
            (vec![0, 1, 2, 3, 4], 5)
        );
        assert_eq!(taker.take(), Findings::default(), "it is given once");
    }
}
