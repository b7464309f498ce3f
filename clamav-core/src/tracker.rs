//! Follows one scan: which layers came, what they announce, and what of that was delivered.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use sha2::{Digest, Sha256};

use crate::native::{Flow, LayerEvent, MemberEvent, Observer, Severity};
use crate::report::{Coverage, LayerSummary, Report};
use crate::verdict::{Reason, ReasonKind, Threat};
use crate::witness::{self, Account, Member, TINY, readable};
use crate::{Layer, LayerDetector, Limits};

/// Content that libclamav could not reach and that has to be scanned on its own.
pub(crate) struct FollowUp {
    /// The layer that holds it.
    pub(crate) parent: String,
    /// Its name in there; empty when it is all of the parent's content.
    pub(crate) name: String,
    pub(crate) level: u32,
    pub(crate) bytes: Vec<u8>,
}

/// Why the tracker ended the scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stopped {
    Cancelled,
    Deadline,
    Limit,
}

/// One open layer.
struct Frame {
    /// `None` until libclamav shows the layer's bytes.
    shown: Option<Shown>,
}

struct Shown {
    level: u32,
    path: String,
    account: Account,
    delivered: Vec<bool>,
    announced: Vec<Announced>,
    announced_any: bool,
    children: u32,
    stream_delivered: bool,
}

/// A member that libclamav announced and that has not been delivered yet.
struct Announced {
    name: String,
    size: u64,
    encrypted: bool,
    container: String,
}

/// A member that never came; why is known at the end only, when the alerts are in.
struct Missing {
    path: String,
    size: u64,
    level: u32,
    obstacle: Option<(ReasonKind, String)>,
}

pub(crate) struct Tracker {
    limits: Limits,
    cancelled: Arc<AtomicBool>,
    deadline: Option<Instant>,
    detectors: Vec<Box<dyn LayerDetector>>,
    seen: HashSet<[u8; 32]>,

    frames: Vec<Frame>,
    /// Path and level that the current call into libclamav starts from.
    base: (String, u32),
    level_of_base: u32,

    pub(crate) started: bool,
    pub(crate) stopped: Option<Stopped>,
    pub(crate) file_type: Option<String>,
    pub(crate) threats: Vec<Threat>,
    pub(crate) follow_ups: Vec<FollowUp>,
    pub(crate) layers: Vec<LayerSummary>,
    layer_count: u64,
    bytes: u64,
    depth: u32,
    members: u64,
    gaps: Vec<Reason>,
    gap_count: u64,
    missing: Vec<Missing>,
    missing_count: u64,
    /// Kinds that libclamav raised without a place.
    alerts: Vec<(ReasonKind, String)>,
    pub(crate) errors: Vec<String>,
}

impl Tracker {
    pub(crate) fn new(
        name: String,
        limits: Limits,
        cancelled: Arc<AtomicBool>,
        deadline: Option<Instant>,
        detectors: Vec<Box<dyn LayerDetector>>,
    ) -> Self {
        Self {
            limits,
            cancelled,
            deadline,
            detectors,
            seen: HashSet::new(),
            frames: Vec::new(),
            base: (name, 0),
            level_of_base: 0,
            started: false,
            stopped: None,
            file_type: None,
            threats: Vec::new(),
            follow_ups: Vec::new(),
            layers: Vec::new(),
            layer_count: 0,
            bytes: 0,
            depth: 0,
            members: 0,
            gaps: Vec::new(),
            gap_count: 0,
            missing: Vec::new(),
            missing_count: 0,
            alerts: Vec::new(),
            errors: Vec::new(),
        }
    }

    /// The next call into libclamav scans content of its own at this place.
    pub(crate) fn rebase(&mut self, path: String, level: u32) {
        self.close_all();
        self.base = (path, level);
        self.level_of_base = level;
        self.started = false;
    }

    /// Whether libclamav said that it left something out.
    pub(crate) fn has_alerts(&self) -> bool {
        !self.alerts.is_empty()
    }

    pub(crate) fn root(&self) -> &str {
        &self.base.0
    }

    /// Records something that is not proven to be scanned.
    pub(crate) fn gap(&mut self, kind: ReasonKind, layer_path: String, detail: Option<String>) {
        let known = |gap: &Reason| gap.kind == kind && gap.layer_path == layer_path;
        if self.gaps.iter().any(known) {
            return;
        }
        self.gap_count += 1;
        if self.gaps.len() < Coverage::MOST_GAPS {
            self.gaps.push(Reason { kind, layer_path, detail });
        }
    }

    /// Asks whether the scan has to end now.
    pub(crate) fn check_stop(&mut self) -> Option<Stopped> {
        if self.stopped.is_none() {
            if self.cancelled.load(Ordering::Relaxed) {
                self.stopped = Some(Stopped::Cancelled);
            } else if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                self.stopped = Some(Stopped::Deadline);
                let path = self.current_path().to_owned();
                self.gap(ReasonKind::TimedOut, path, Some(String::from("the deadline passed")));
            }
        }
        self.stopped
    }

    fn current_path(&self) -> &str {
        self.parent_index()
            .and_then(|at| self.frames[at].shown.as_ref())
            .map_or(self.base.0.as_str(), |shown| shown.path.as_str())
    }

    /// The innermost layer whose bytes were shown.
    fn parent_index(&self) -> Option<usize> {
        self.frames.iter().rposition(|frame| frame.shown.is_some())
    }

    fn close_all(&mut self) {
        while let Some(frame) = self.frames.pop() {
            self.close(frame);
        }
    }

    fn close(&mut self, frame: Frame) {
        let Some(shown) = frame.shown else {
            let path = self.current_path().to_owned();
            self.gap(ReasonKind::EngineReported, path, Some(String::from("a layer was not inspected")));
            return;
        };
        let Shown { level, path, account, delivered, announced, announced_any, stream_delivered, .. } = shown;
        for (member, _) in account.members.into_iter().zip(delivered).filter(|(_, delivered)| !delivered) {
            let Member { name, size, obstacle, content, .. } = member;
            if let Some(bytes) = content {
                self.follow_ups.push(FollowUp { parent: path.clone(), name, level: level + 1, bytes });
                continue;
            }
            self.miss(&path, &name, size, level, obstacle);
        }
        for announced in announced {
            let obstacle = match announced.encrypted {
                true => Some((ReasonKind::Encrypted, announced.container)),
                false => account.method_obstacle.clone(),
            };
            self.miss(&path, &announced.name, announced.size, level, obstacle);
        }
        if let Some(gzip) = &account.stream
            && !stream_delivered
            && let Some((kind, detail)) = gzip.objection(&[], self.limits.max_file_size)
        {
            self.miss(&path, "", self.limits.max_file_size, level, Some((kind, detail)));
        }
        if let Some(format) = account.must_announce
            && !announced_any
        {
            let detail = format!("nothing in the {format} archive was unpacked");
            self.gap(ReasonKind::Unsupported, path, Some(detail));
        }
    }

    fn miss(&mut self, container: &str, name: &str, size: u64, level: u32, obstacle: Option<(ReasonKind, String)>) {
        self.missing_count += 1;
        if self.missing.len() < Coverage::MOST_GAPS {
            self.missing.push(Missing { path: join(container, name), size, level, obstacle });
        }
    }

    /// Marks what a delivered layer proves about the layer around it.
    fn deliver(&mut self, parent: usize, layer: &LayerEvent<'_>) -> Option<String> {
        let most = self.limits.max_file_size;
        let shown = self.frames[parent].shown.as_mut()?;
        let size = layer.bytes.len() as u64;
        // Members of containers come one level below them; libclamav delivers what it finds by searching raw bytes once
        // more, further down, and that must not stand for a second member that only claims to be the same.
        let direct = self.level_of_base + layer.level == shown.level + 1;
        let members = &mut shown.account.members;
        let from = members.partition_point(|member| member.size < size);
        let to = members.partition_point(|member| member.size <= size);
        let mut crc = None;
        let mut best: Option<usize> = None;
        for (at, member) in members.iter().enumerate().take(to).skip(from) {
            let same = match member.crc {
                Some(expected) => *crc.get_or_insert_with(|| crc32fast::hash(layer.bytes)) == expected,
                None => true,
            };
            let readable = layer.decrypted || !matches!(member.obstacle, Some((ReasonKind::Encrypted, _)));
            if !same || !readable {
                continue;
            }
            let named = layer.name.is_some_and(|given| member.name.as_bytes().ends_with(given));
            match (shown.delivered[at], named) {
                (false, true) => {
                    best = Some(at);
                    break;
                }
                (false, false) if best.is_none_or(|best| shown.delivered[best]) => best = Some(at),
                (true, _) if best.is_none() => best = Some(at),
                _ => {}
            }
        }
        let mut name = None;
        if let Some(at) = best {
            if direct {
                shown.delivered[at] = true;
                members[at].content = None;
            }
            name = Some(members[at].name.clone());
        }
        let given = layer.name.map(readable);
        let by_name = shown
            .announced
            .iter()
            .position(|announced| announced.size == size && given.as_ref() == Some(&announced.name));
        if let Some(at) = by_name.or_else(|| shown.announced.iter().position(|announced| announced.size == size)) {
            shown.announced.swap_remove(at);
        }
        if let Some(gzip) = &shown.account.stream
            && !shown.stream_delivered
        {
            shown.stream_delivered = true;
            if let Some((kind, detail)) = gzip.objection(layer.bytes, most) {
                let (path, level) = (shown.path.clone(), shown.level);
                self.miss(&path, "", most, level, Some((kind, detail)));
            }
        }
        name
    }

    /// Turns what never came into gaps, now that all alerts are in.
    fn settle(&mut self) {
        let alerted = |kind| self.alerts.iter().any(|(alert, _)| *alert == kind);
        let by_alert = [
            ReasonKind::TimedOut,
            ReasonKind::ScanSize,
            ReasonKind::TooManyFiles,
            ReasonKind::TooDeep,
            ReasonKind::TooLarge,
        ]
        .into_iter()
        .find(|kind| alerted(*kind));
        let unlisted = self.missing_count - self.missing.len() as u64;
        for missing in std::mem::take(&mut self.missing) {
            let Missing { path, size, level, obstacle } = missing;
            let (kind, detail) = if let Some((kind, detail)) = obstacle {
                (kind, detail)
            } else if size > self.limits.max_file_size {
                (ReasonKind::TooLarge, format!("{size} bytes"))
            } else if level + 1 >= self.limits.max_recursion {
                (ReasonKind::TooDeep, format!("level {}", level + 1))
            } else if let Some(kind) = by_alert {
                (kind, String::from("not unpacked"))
            } else if !self.alerts.is_empty() || !self.threats.is_empty() {
                // After an alert it loses its place in large nested containers (over 8 MiB) and ends them early.
                (ReasonKind::EngineReported, String::from("libclamav ended the container early after an alert"))
            } else {
                (
                    ReasonKind::TruncatedOrCorrupt,
                    format!(
                        "announced with {size} bytes, but not unpacked to that: damaged, or packed in an unknown way"
                    ),
                )
            };
            self.gap(kind, path, Some(detail));
        }
        self.gap_count += unlisted;
        for (kind, detail) in std::mem::take(&mut self.alerts) {
            // An alert has no place; it says nothing new where the place is known.
            if !self.gaps.iter().any(|gap| gap.kind == kind) {
                let path = self.root_path();
                self.gap(kind, path, Some(detail));
            }
        }
        // An error message has neither place nor kind; it counts where nothing else explains it.
        if let Some(error) = std::mem::take(&mut self.errors).into_iter().next()
            && self.gaps.is_empty()
        {
            let path = self.root_path();
            self.gap(ReasonKind::EngineReported, path, Some(error));
        }
    }

    fn root_path(&self) -> String {
        self.layers.first().map_or_else(|| self.base.0.clone(), |layer| layer.path.clone())
    }

    /// How many bytes may still be scanned.
    fn spare(&self) -> u64 {
        let queued: usize = self.follow_ups.iter().map(|content| content.bytes.len()).sum();
        self.limits.max_scan_size.saturating_sub(self.bytes).saturating_sub(queued as u64)
    }

    /// Closes what is open and sums up.
    pub(crate) fn finish(&mut self) -> Coverage {
        self.close_all();
        self.settle();
        Coverage {
            started: self.layer_count > 0,
            layers: self.layer_count,
            bytes: self.bytes,
            depth: self.depth,
            members: self.members,
            trivial: false,
            gaps: std::mem::take(&mut self.gaps),
            gap_count: self.gap_count,
            limits: self.limits.clone(),
        }
    }

    /// Shows detectors a file that is too small for libclamav to look at; tells whether one of them panicked.
    pub(crate) fn show_tiny(&mut self, bytes: &[u8]) -> bool {
        let layer =
            LayerEvent { file_type: "CL_TYPE_ANY", name: None, bytes, level: 0, normalized: false, decrypted: false };
        let path = self.base.0.clone();
        catch_unwind(AssertUnwindSafe(|| self.detect(&layer, &path, 0))).is_err()
    }

    fn detect(&mut self, layer: &LayerEvent<'_>, path: &str, depth: u32) {
        if self.detectors.is_empty() || !self.seen.insert(Sha256::digest(layer.bytes).into()) {
            return;
        }
        let layer = Layer { path, file_type: layer.file_type, bytes: layer.bytes, depth, normalized: layer.normalized };
        self.detectors.retain_mut(|detector| detector.inspect(&layer).is_continue());
    }
}

impl Observer for Tracker {
    fn layer_begin(&mut self) {
        self.frames.push(Frame { shown: None });
    }

    fn layer(&mut self, layer: &LayerEvent<'_>) -> Flow {
        if self.check_stop().is_some() {
            return Flow::Stop;
        }
        let level = self.level_of_base + layer.level;
        // The frame that `layer_begin` opened is being filled.
        let own = self.frames.pop().filter(|frame| frame.shown.is_none());
        debug_assert!(own.is_some(), "libclamav announces each layer before it shows it");
        let parent = self.parent_index();
        let mut member_name = None;
        let path = match parent {
            None => {
                self.started = true;
                self.base.0.clone()
            }
            Some(parent) => {
                member_name = if layer.normalized { None } else { self.deliver(parent, layer) };
                let shown = self.frames[parent].shown.as_mut();
                let (container, ordinal) = shown.map_or(("", 0), |shown| {
                    shown.children += 1;
                    (shown.path.as_str(), shown.children)
                });
                let name = member_name
                    .clone()
                    .filter(|name| !name.is_empty())
                    .or_else(|| layer.name.filter(|name| !is_internal(name)).map(readable))
                    .unwrap_or_else(|| format!("#{ordinal}"));
                join(container, &name)
            }
        };
        if level == 0 {
            self.file_type = Some(layer.file_type.to_owned());
        }
        self.layer_count += 1;
        self.bytes += layer.bytes.len() as u64;
        self.depth = self.depth.max(level);
        if self.layers.len() < Report::MOST_LAYERS {
            self.layers.push(LayerSummary {
                path: path.clone(),
                file_type: layer.file_type.to_owned(),
                size: layer.bytes.len() as u64,
            });
        }

        if let Some((kind, detail)) =
            member_name.as_deref().and_then(|name| witness::examine_manifest(name, layer.bytes))
        {
            let container = path.strip_suffix(member_name.as_deref().unwrap_or_default()).unwrap_or(&path);
            self.gap(kind, container.trim_end_matches('/').to_owned(), Some(detail));
        }
        let mut account = if layer.normalized {
            Account::default()
        } else {
            witness::examine(layer.file_type, layer.bytes, &self.limits, self.spare())
        };
        for (kind, detail) in std::mem::take(&mut account.gaps) {
            self.gap(kind, path.clone(), Some(detail));
        }
        for (name, bytes) in std::mem::take(&mut account.unpacked) {
            let parent = path.clone();
            self.follow_ups.push(FollowUp { parent, name, level: level + 1, bytes });
        }
        account.members.sort_by_key(|member| member.size); // For `deliver`, which looks them up by size.
        self.members += account.members.len() as u64;
        self.detect(layer, &path, level);
        self.frames.push(Frame {
            shown: Some(Shown {
                level,
                path,
                delivered: vec![false; account.members.len()],
                account,
                announced: Vec::new(),
                announced_any: false,
                children: 0,
                stream_delivered: false,
            }),
        });
        // libclamav counts within one call; these hold for all calls of this scan together.
        if self.layer_count > u64::from(self.limits.max_files) && self.level_of_base > 0 {
            let path = self.current_path().to_owned();
            self.gap(ReasonKind::TooManyFiles, path, None);
            self.stopped = Some(Stopped::Limit);
            return Flow::Stop;
        }
        if self.bytes > self.limits.max_scan_size && self.level_of_base > 0 {
            let path = self.current_path().to_owned();
            self.gap(ReasonKind::ScanSize, path, None);
            self.stopped = Some(Stopped::Limit);
            return Flow::Stop;
        }
        Flow::Continue
    }

    fn layer_end(&mut self) {
        if let Some(frame) = self.frames.pop() {
            self.close(frame);
        }
    }

    fn member(&mut self, member: &MemberEvent<'_>) {
        let Some(parent) = self.parent_index() else { return };
        let Some(shown) = self.frames[parent].shown.as_mut() else { return };
        shown.announced_any = true;
        let name = member.name.map(readable).unwrap_or_default();
        // Zips are read by us, encryption included. Elsewhere libclamav takes every local header in the raw bytes of a
        // program or an OLE2 file for a member, most of which never were.
        let zip = matches!(
            member.container_type,
            "CL_TYPE_ZIP" | "CL_TYPE_OOXML_WORD" | "CL_TYPE_OOXML_PPT" | "CL_TYPE_OOXML_XL" | "CL_TYPE_OOXML_HWP"
        );
        if shown.account.complete || zip {
            return;
        }
        if member.container_type == "CL_TYPE_ISO9660" && member.size.is_multiple_of(witness::ISO_SECTOR) {
            return; // A directory, or as large as one.
        }
        if member.size <= TINY && !member.encrypted {
            return;
        }
        self.members += 1;
        shown.announced.push(Announced {
            name,
            size: member.size,
            encrypted: member.encrypted,
            container: member.container_type.trim_start_matches("CL_TYPE_").to_ascii_lowercase(),
        });
    }

    fn found(&mut self, signature: &str) {
        match classify(signature) {
            Found::Alert(kind) => {
                if !self.alerts.iter().any(|(known, _)| *known == kind) {
                    self.alerts.push((kind, signature.to_owned()));
                }
            }
            Found::Threat => {
                let threat = Threat { signature: signature.to_owned(), layer_path: self.current_path().to_owned() };
                // libclamav reports a match once more for the layers around it.
                let inside = |known: &Threat| {
                    known.signature == threat.signature
                        && known
                            .layer_path
                            .strip_prefix(&threat.layer_path)
                            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                };
                if !self.threats.iter().any(inside) {
                    self.threats.push(threat);
                }
            }
        }
    }

    fn message(&mut self, severity: Severity, text: &str) {
        const MOST: usize = 8;
        if severity == Severity::Error && self.errors.len() < MOST {
            self.errors.push(text.to_owned());
        }
    }
}

enum Found {
    Threat,
    /// libclamav's way to say that it did not scan everything.
    Alert(ReasonKind),
}

fn classify(signature: &str) -> Found {
    let Some(name) = signature.strip_prefix("Heuristics.") else { return Found::Threat };
    if let Some(limit) = name.strip_prefix("Limits.Exceeded.") {
        return Found::Alert(match limit {
            "MaxFileSize" => ReasonKind::TooLarge,
            "MaxScanSize" => ReasonKind::ScanSize,
            "MaxRecursion" => ReasonKind::TooDeep,
            "MaxFiles" | "EmailMIMEPartsPerMessage" => ReasonKind::TooManyFiles,
            "MaxScanTime" => ReasonKind::TimedOut,
            _ => ReasonKind::EngineReported,
        });
    }
    if name.starts_with("Encrypted.") {
        return Found::Alert(ReasonKind::Encrypted);
    }
    if name.starts_with("Broken.") {
        return Found::Alert(ReasonKind::TruncatedOrCorrupt);
    }
    match name {
        "XZ.DicSizeLimit" => Found::Alert(ReasonKind::Unsupported),
        "BoundsCheck" => Found::Alert(ReasonKind::EngineReported),
        _ => Found::Threat,
    }
}

/// Whether libclamav made the name up: temporary files, mail parts without a name, OLE2 streams by their digest.
fn is_internal(name: &[u8]) -> bool {
    let digest = |name: &[u8]| name.len() >= 32 && name[..32].iter().all(u8::is_ascii_hexdigit);
    name.starts_with(b"clamav-") && name.ends_with(b".tmp")
        || matches!(name, b"textpart" | b"mixedtextportion" | b"textportion" | b"bounce")
        || digest(name) && name[32..].iter().all(|byte| *byte == b'_' || byte.is_ascii_digit())
}

/// The path of a member; a container's only content has the container's path.
pub(crate) fn join(container: &str, name: &str) -> String {
    if name.is_empty() { container.to_owned() } else { format!("{container}/{name}") }
}
