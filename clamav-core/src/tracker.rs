//! Follows one scan: which layers came, what they announce, and what of that was delivered.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use sha2::{Digest, Sha256};

use crate::ledger::Ledger;
use crate::native::{Flow, LayerEvent, MemberEvent, Observer, Severity};
use crate::report::{Coverage, LayerSummary, Report};
use crate::verdict::{ReasonKind, Threat};
use crate::witness::{self, Account, Digests, Identity, Member, TINY, readable};
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
}

/// A member that libclamav announced and that has not been delivered yet.
struct Announced {
    name: String,
    size: u64,
    encrypted: bool,
    container: String,
}

pub(crate) struct Tracker {
    limits: Limits,
    cancelled: Arc<AtomicBool>,
    deadline: Option<Instant>,
    detectors: Vec<Box<dyn LayerDetector>>,
    /// Whether there is room to unpack so many bytes, asked at each layer, whose parts are no longer than itself: a
    /// shortage may end before the scan does.
    has_room: Box<dyn Fn(u64) -> bool>,
    pub(crate) ran_short: bool,
    seen: HashSet<[u8; 32]>,

    frames: Vec<Frame>,
    /// Path and level that the current call into libclamav starts from.
    base: (String, u32),

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
    pub(crate) ledger: Ledger,
}

impl Tracker {
    pub(crate) fn new(
        name: String,
        limits: Limits,
        cancelled: Arc<AtomicBool>,
        deadline: Option<Instant>,
        detectors: Vec<Box<dyn LayerDetector>>,
        has_room: Box<dyn Fn(u64) -> bool>,
    ) -> Self {
        Self {
            limits,
            cancelled,
            deadline,
            detectors,
            has_room,
            ran_short: false,
            seen: HashSet::new(),
            frames: Vec::new(),
            base: (name, 0),
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
            ledger: Ledger::default(),
        }
    }

    /// The next call into libclamav scans content of its own at this place.
    pub(crate) fn rebase(&mut self, path: String, level: u32) {
        self.close_all();
        self.base = (path, level);
        self.started = false;
    }

    pub(crate) fn root(&self) -> &str {
        &self.base.0
    }

    /// Asks whether the scan has to end now.
    pub(crate) fn check_stop(&mut self) -> Option<Stopped> {
        if self.stopped.is_none() {
            if self.cancelled.load(Ordering::Relaxed) {
                self.stopped = Some(Stopped::Cancelled);
            } else if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                self.stopped = Some(Stopped::Deadline);
                let path = self.current_path().to_owned();
                self.ledger.gap(ReasonKind::TimedOut, path, Some(String::from("the deadline passed")));
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
            self.ledger.gap(ReasonKind::EngineReported, path, Some(String::from("a layer was not inspected")));
            return;
        };
        let Shown { level, path, account, delivered, announced, announced_any, .. } = shown;
        for (member, _) in account.members.into_iter().zip(delivered).filter(|(_, delivered)| !delivered) {
            if let Identity::Content(bytes) = member.identity {
                let (parent, name) = (path.clone(), member.name);
                self.follow_ups.push(FollowUp { parent, name, level: level + 1, bytes });
            } else {
                self.ledger.miss(join(&path, &member.name), level, &member);
            }
        }
        for Announced { name, size, encrypted, container } in announced {
            let obstacle = match encrypted {
                true => Some((ReasonKind::Encrypted, container)),
                false => account.method_obstacle.clone(),
            };
            let member = Member { name, size, identity: Identity::Size, obstacle, blocked: false };
            self.ledger.miss(join(&path, &member.name), level, &member);
        }
        if let Some(format) = account.must_announce
            && !announced_any
        {
            let detail = format!("nothing in the {format} archive was unpacked");
            self.ledger.gap(ReasonKind::Unsupported, path, Some(detail));
        }
    }

    /// Marks what a delivered layer proves about the layer around it, and gives the member's name.
    fn deliver(&mut self, parent: usize, layer: &LayerEvent<'_>) -> Option<String> {
        let shown = self.frames[parent].shown.as_mut()?;
        let size = layer.bytes.len() as u64;
        // Members of containers come one level below them; libclamav delivers what it finds by searching raw bytes once
        // more, further down. A checksum is easily forged, so only a member's own delivery may prove it.
        let direct = self.base.1 + layer.level == shown.level + 1;
        let members = &mut shown.account.members;
        let from = members.partition_point(|member| member.size < size);
        let to = members.partition_point(|member| member.size <= size);
        let mut digests = Digests::of(layer.bytes);
        let mut best: Option<usize> = None;
        for (at, member) in members.iter().enumerate().take(to).skip(from) {
            if !digests.are_of(&member.identity) || member.blocked && !layer.decrypted {
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
        let name = best.map(|at| members[at].name.clone());
        if let Some(at) = best.filter(|at| direct || members[*at].identity.is_certain()) {
            shown.delivered[at] = true;
            if let Identity::Sha256(sha256) = members[at].identity {
                self.ledger.delivered(sha256);
            }
            if matches!(members[at].identity, Identity::Content(_)) {
                members[at].identity = Identity::Delivered; // The copy is not needed any more.
            }
        }
        let given = layer.name.map(readable);
        let by_name = shown
            .announced
            .iter()
            .position(|announced| announced.size == size && given.as_ref() == Some(&announced.name));
        if let Some(at) = by_name.or_else(|| shown.announced.iter().position(|announced| announced.size == size)) {
            shown.announced.swap_remove(at);
        }
        name
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
        for FollowUp { parent, name, .. } in std::mem::take(&mut self.follow_ups) {
            if self.stopped.is_some() {
                break; // The reason for that is known.
            }
            self.ledger.gap(ReasonKind::EngineReported, join(&parent, &name), Some(String::from("not scanned")));
        }
        let root = self.root_path();
        let (gaps, gap_count) = self.ledger.settle(&root, &self.limits, !self.threats.is_empty());
        Coverage {
            started: self.layer_count > 0,
            layers: self.layer_count,
            bytes: self.bytes,
            depth: self.depth,
            members: self.members,
            trivial: false,
            gaps,
            gap_count,
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
        self.ran_short |= !(self.has_room)(layer.bytes.len() as u64);
        let level = self.base.1 + layer.level;
        // The frame that `layer_begin` opened is being filled.
        if self.frames.pop().is_none_or(|frame| frame.shown.is_some()) {
            let path = self.current_path().to_owned();
            self.ledger.gap(ReasonKind::EngineReported, path, Some(String::from("a layer came unannounced")));
        }
        let parent = self.parent_index();
        let path = match parent {
            None => {
                self.started = true;
                self.base.0.clone()
            }
            Some(parent) => {
                let member_name = if layer.normalized { None } else { self.deliver(parent, layer) };
                let shown = self.frames[parent].shown.as_mut();
                let (container, ordinal) = shown.map_or(("", 0), |shown| {
                    shown.children += 1;
                    (shown.path.as_str(), shown.children)
                });
                let name = member_name
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

        let named = layer.name.unwrap_or(path.as_bytes());
        if witness::may_be_manifest(named)
            && let Some((kind, detail)) = witness::examine_manifest(layer.bytes)
        {
            // META-INF/manifest.xml of a container: the reason is the container's.
            let container = path.rsplitn(3, '/').nth(2).unwrap_or(&path);
            self.ledger.gap(kind, container.to_owned(), Some(detail));
        }
        let mut account = if layer.normalized {
            Account::default()
        } else {
            witness::examine(layer.file_type, layer.bytes, &self.limits, self.spare())
        };
        for (kind, detail) in std::mem::take(&mut account.gaps) {
            self.ledger.gap(kind, path.clone(), Some(detail));
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
            }),
        });
        // libclamav counts within one call; these hold for all calls of this scan together.
        if self.layer_count > u64::from(self.limits.max_files) && self.base.1 > 0 {
            let path = self.current_path().to_owned();
            self.ledger.gap(ReasonKind::TooManyFiles, path, None);
            self.stopped = Some(Stopped::Limit);
            return Flow::Stop;
        }
        if self.bytes > self.limits.max_scan_size && self.base.1 > 0 {
            let path = self.current_path().to_owned();
            self.ledger.gap(ReasonKind::ScanSize, path, None);
            self.stopped = Some(Stopped::Limit);
            return Flow::Stop;
        }
        Flow::Continue
    }

    fn layer_end(&mut self) {
        self.ran_short |= !(self.has_room)(0);
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
            Found::Alert(kind) => self.ledger.alert(kind, signature),
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
        if severity == Severity::Error {
            self.ledger.error(text);
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
