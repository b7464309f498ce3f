//! The findings of one scan, taken from its layers in the pass that unpacks them.

use std::collections::HashMap;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Detectors, Findings, MOST_FINDINGS};
use crate::clamav::{Layer, LayerDetector};
use crate::model::Finding;

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
    taken: Arc<Mutex<Taken>>,
}

/// What was found so far.
#[derive(Default)]
struct Taken {
    list: Vec<Taking>,
    omitted: u64,
    /// How many layers were looked at.
    layers: usize,
}

struct Taking {
    finding: Finding,
    /// Which of the layers it is in, by the order in which they came.
    layer: usize,
    /// How deep that lies: a member may have a name that begins with that of the one beside it.
    depth: u32,
    around: Around,
}

/// The bytes next to the beginning of a match in its layer, by which it is known again where a container holds a member
/// as it is: in a stored zip, a tar or a mail both show the same bytes.
struct Around {
    before: Vec<u8>,
    from: Vec<u8>,
}

impl Around {
    const BEFORE: usize = 16;
    /// Behind the beginning: the longest number, with some bytes to spare.
    const FROM: usize = 40;

    fn new(bytes: &[u8], place: u64) -> Self {
        let place = usize::try_from(place).unwrap_or(usize::MAX).min(bytes.len());
        // Readers of mail take their own ends of lines.
        let is_kept = |byte: &&u8| **byte != b'\r';
        let left = &bytes[place.saturating_sub(2 * Self::BEFORE)..place];
        let right = &bytes[place..bytes.len().min(place + 2 * Self::FROM)];
        let mut before: Vec<u8> = left.iter().rev().filter(is_kept).take(Self::BEFORE).copied().collect();
        before.reverse();
        Self { before, from: right.iter().filter(is_kept).take(Self::FROM).copied().collect() }
    }

    /// Whether what stands in a member could be what stands in its container. A reader may have changed what is at one of
    /// its sides; at the other one there has to be enough to tell.
    fn is_in(&self, container: &Self) -> bool {
        let (left, right) = (container.before.ends_with(&self.before), container.from.starts_with(&self.from));
        left && (self.before.len() == Self::BEFORE || right && self.before.len() + self.from.len() >= Self::FROM)
            || right && self.from.len() == Self::FROM
    }
}

impl fmt::Debug for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the bytes.
        f.debug_struct("Taken").field("listed", &self.list.len()).field("omitted", &self.omitted).finish()
    }
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
            this.add(this.detectors.find_layer(layer), layer.path, layer.depth, layer.bytes);
            // On to the next layer also where the list is full: the rest is counted.
            ControlFlow::Continue(())
        }
    }

    /// Adds what was found in a layer. What lies open in the layers around it was found there before: it counts once, in
    /// the innermost one.
    fn add(&self, found: Findings, path: &str, depth: u32, bytes: &[u8]) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let layer = taken.layers;
        taken.layers += 1;
        taken.omitted = taken.omitted.saturating_add(found.omitted);
        if found.list.is_empty() {
            return;
        }
        let mut outer = taken.of_containers(path, depth);
        for finding in found.list {
            let around = Around::new(bytes, finding.byte_offset);
            let same = outer.get_mut(&key(&finding)).and_then(|places| {
                let place = places.iter().rposition(|place| around.is_in(&taken.list[*place].around))?;
                Some(places.remove(place))
            });
            let taking = Taking { finding, layer, depth, around };
            match same {
                Some(place) => {
                    // It is as sure as it was where more could be seen.
                    let old = std::mem::replace(&mut taken.list[place], taking).finding;
                    let new = &mut taken.list[place].finding;
                    new.confidence = new.confidence.max(old.confidence);
                    new.raw_offset = new.raw_offset.or(old.raw_offset);
                }
                None if taken.list.len() < self.most => taken.list.push(taking),
                None => taken.omitted = taken.omitted.saturating_add(1),
            }
        }
    }

    /// What was found, once the scan is done, layer by layer. It is given once.
    pub fn take(&self) -> Findings {
        let taken = std::mem::take(&mut *self.taken.lock().unwrap_or_else(PoisonError::into_inner));
        let mut list = taken.list;
        // What took the place of another one stands where that stood.
        list.sort_by_key(|taking| (taking.layer, taking.finding.byte_offset));
        let list = list.into_iter().map(|taking| taking.finding).collect();
        Findings { list, omitted: taken.omitted }
    }
}

/// What is equal of the same match in two layers.
fn key(finding: &Finding) -> (String, String) {
    (finding.detector.clone(), finding.fingerprint.clone())
}

impl Taken {
    /// The findings in the layers around one, by what they are of, the innermost last.
    fn of_containers(&self, path: &str, depth: u32) -> HashMap<(String, String), Vec<usize>> {
        let mut all: HashMap<_, Vec<usize>> = HashMap::new();
        let around = |outer: &Taking| {
            let rest = path.strip_prefix(outer.finding.layer_path.as_str());
            outer.depth < depth && rest.is_some_and(|rest| rest.starts_with('/'))
        };
        let mut places: Vec<_> = (0..self.list.len()).filter(|i| around(&self.list[*i])).collect();
        places.sort_by_key(|i| self.list[*i].depth);
        for place in places {
            all.entry(key(&self.list[place].finding)).or_default().push(place);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(offsets: std::ops::Range<u64>, omitted: u64) -> Findings {
        let one =
            |byte_offset: u64| Finding { byte_offset, fingerprint: byte_offset.to_string(), ..Finding::default() };
        let list = offsets.map(one).collect();
        Findings { list, omitted }
    }

    #[test]
    fn the_first_findings_of_all_layers_are_listed_and_the_rest_is_counted() {
        let detectors = Detectors::builder().build().expect("detectors");
        let taker = FindingTaker::new(&detectors).most(5);
        taker.add(found(0..3, 0), "a", 0, b"");
        taker.add(found(3..6, 2), "a", 0, b"");
        taker.add(found(6..8, 0), "a", 0, b"");
        let taken = taker.clone().take();
        assert_eq!(
            (taken.list.iter().map(|one| one.byte_offset).collect::<Vec<_>>(), taken.omitted),
            (vec![0, 1, 2, 3, 4], 5)
        );
        assert_eq!(taker.take(), Findings::default(), "it is given once");
    }

    #[test]
    fn a_member_whose_name_begins_with_that_of_another_is_not_in_it() {
        let detectors = Detectors::builder().build().expect("detectors");
        let text = [b'7'; 100];
        let of = |path: &str| {
            let one = Finding { byte_offset: 30, layer_path: String::from(path), ..Finding::default() };
            Findings { list: vec![one], omitted: 0 }
        };
        for (depth, count) in [(1, 2), (2, 1)] {
            let taker = FindingTaker::new(&detectors);
            taker.add(of("x.tar/a"), "x.tar/a", 1, &text);
            taker.add(of("x.tar/a/b"), "x.tar/a/b", depth, &text);
            assert_eq!(taker.take().list.len(), count, "at a depth of {depth}");
        }
    }
}
