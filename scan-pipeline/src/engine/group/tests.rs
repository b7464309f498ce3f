use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::engine::Closure;
use crate::model::{ContentDigest, Finding, Threat};

/// An engine that answers what it was told to, or fails.
struct Canned(EngineInfo, Option<Report>);

#[async_trait]
impl Engine for Canned {
    fn info(&self) -> EngineInfo {
        self.0.clone()
    }

    async fn scan(&self, _: &Content, _: &ScanContext) -> Result<Report> {
        self.1.clone().ok_or_else(|| Error::new(ErrorKind::Unavailable, "down"))
    }
}

fn canned(report: Option<Report>) -> Arc<dyn Engine> {
    Arc::new(Canned(EngineInfo::new("canned", "1", "1"), report))
}

fn reason(kind: ReasonKind) -> Reason {
    Reason { kind, layer_path: String::from("a"), detail: None }
}

fn report(verdict: Verdict, proven: bool) -> Report {
    let mut report = Report::new(verdict, EngineInfo::new("canned", "1", "1"));
    report.coverage.proven = proven;
    report
}

fn threat(number: u8) -> Threat {
    Threat { signature: format!("T{number}"), layer_path: String::from("a") }
}

fn reports() -> impl Strategy<Value = Report> {
    let kinds = prop::sample::select(vec![ReasonKind::Unproven, ReasonKind::Unproven, ReasonKind::Encrypted]);
    let reasons = prop::collection::vec(kinds.prop_map(reason), 1..4);
    prop_oneof![
        Just(report(Verdict::Clean, true)),
        // Against the contract, and not to be believed.
        Just(report(Verdict::Clean, false)),
        (prop::collection::vec((0..4u8).prop_map(threat), 1..4), any::<bool>(), prop::option::of(reasons.clone()))
            .prop_map(|(threats, proven, gaps)| {
                let mut report = report(Verdict::Infected { threats }, proven);
                report.coverage.gaps = gaps.unwrap_or_default();
                report.coverage.gap_count = report.coverage.gaps.len() as u64;
                report
            }),
        (reasons, any::<bool>(), 0..3u64).prop_map(|(reasons, proven, unlisted)| {
            let mut report = report(Verdict::Unscannable { reasons }, proven);
            report.coverage.gap_count += unlisted;
            report
        }),
    ]
}

/// Is anything left out that another engine's proof does not make up for?
fn is_open(report: &Report, proof: bool) -> bool {
    match &report.verdict {
        Verdict::Clean => !report.coverage.proven && !proof,
        Verdict::Infected { .. } => false,
        Verdict::Unscannable { reasons } => {
            let only_unproven = reasons.iter().all(|reason| reason.kind == ReasonKind::Unproven);
            !(proof && only_unproven && report.coverage.gap_count == reasons.len() as u64)
        }
    }
}

proptest! {
    #[test]
    fn the_worst_verdict_wins(parts in prop::collection::vec(reports(), 1..5)) {
        let joined = combine(parts.clone(), "a");
        let proof = parts.iter().any(|part| part.verdict == Verdict::Clean && part.coverage.proven);
        let infected = parts.iter().any(|part| part.verdict.status() == "infected");
        let expected = match (infected, parts.iter().any(|part| is_open(part, proof))) {
            (true, _) => "infected",
            (false, true) => "unscannable",
            (false, false) => "clean",
        };
        prop_assert_eq!(joined.verdict.status(), expected);
        match &joined.verdict {
            Verdict::Clean => prop_assert!(joined.is_complete() && proof),
            Verdict::Unscannable { reasons } => {
                prop_assert!(!reasons.is_empty());
                prop_assert!(!(proof && reasons.iter().any(|reason| reason.kind == ReasonKind::Unproven)));
                prop_assert_eq!(reasons, &joined.coverage.gaps);
            }
            Verdict::Infected { threats } => {
                let all: BTreeSet<String> = parts.iter().filter_map(|part| match &part.verdict {
                    Verdict::Infected { threats } => Some(threats.iter().map(|threat| threat.signature.clone())),
                    _ => None,
                }).flatten().collect();
                let joined: Vec<String> = threats.iter().map(|threat| threat.signature.clone()).collect();
                prop_assert_eq!(joined.len(), all.len());
                prop_assert_eq!(joined.into_iter().collect::<BTreeSet<_>>(), all);
            }
        }
        // Complete means that each part was, or that one of them is the proof and the others found or lack nothing else.
        if joined.is_complete() {
            prop_assert!(proof || parts.iter().all(Report::is_complete));
        }
        // Nothing but "unproven" is ever dropped.
        let encrypted = |report: &Report| {
            report.coverage.gaps.iter().filter(|reason| reason.kind == ReasonKind::Encrypted).count()
        };
        prop_assert_eq!(encrypted(&joined), parts.iter().map(encrypted).sum::<usize>());
    }

    #[test]
    fn the_order_makes_no_difference_to_the_verdict(parts in prop::collection::vec(reports(), 1..5)) {
        let reversed = parts.iter().rev().cloned().collect();
        prop_assert_eq!(combine(parts, "a").verdict.status(), combine(reversed, "a").verdict.status());
    }
}

/// Who looks for other things than malware adds what it finds, and neither holds anything back nor lets it through.
#[test]
fn an_engine_without_a_malware_scan_adds_its_findings_alone() {
    let other = || {
        let mut other = report(Verdict::Unscannable { reasons: vec![reason(ReasonKind::NoMalwareScan)] }, false);
        other.findings = vec![Finding { detector: String::from("ssn"), ..Finding::default() }];
        other.findings_omitted = 3;
        other
    };
    let threats = vec![threat(1)];
    for (with, expected) in [
        (report(Verdict::Clean, true), "clean"),
        (report(Verdict::Clean, false), "unscannable"),
        (report(Verdict::Infected { threats }, true), "infected"),
        (report(Verdict::Unscannable { reasons: vec![reason(ReasonKind::Encrypted)] }, true), "unscannable"),
        (report(Verdict::Unscannable { reasons: vec![reason(ReasonKind::Unproven)] }, false), "unscannable"),
        (other(), "unscannable"),
    ] {
        for parts in [vec![with.clone(), other()], vec![other(), with.clone()]] {
            let joined = combine(parts, "a");
            assert_eq!(joined.verdict.status(), expected, "{joined:?}");
            let both = looks_for_malware(&with);
            let kinds = joined.coverage.gaps.iter().map(|gap| gap.kind).collect::<BTreeSet<_>>();
            assert_eq!(kinds.contains(&ReasonKind::NoMalwareScan), !both, "{joined:?}");
            assert!(joined.findings_omitted >= 3 && joined.findings.iter().any(|one| one.detector == "ssn"));
            assert_eq!(joined.is_complete(), expected != "unscannable");
        }
    }
}

#[tokio::test]
async fn an_engine_that_failed_fails_the_group() {
    let content = Content::from_bytes("text");
    let infected = report(Verdict::Infected { threats: vec![threat(1)] }, true);
    let context = ScanContext::named("a");
    let group = Group::new(vec![canned(Some(infected.clone()))]).expect("a group");
    assert_eq!(group.scan(&content, &context).await.expect("a report").verdict.status(), "infected");
    let group = Group::new(vec![canned(Some(infected)), canned(None)]).expect("a group");
    let error = group.scan(&content, &context).await.expect_err("one is down");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "although the other one found something");
    assert_eq!(Group::new(Vec::new()).expect_err("nobody scans").kind(), ErrorKind::Config);
}

#[tokio::test]
async fn a_report_about_other_bytes_is_refused() {
    let content = Content::from_bytes("text");
    let mut other = report(Verdict::Clean, true);
    other.sha256 = Some(ContentDigest::of(b"other"));
    let group = Group::new(vec![canned(Some(other))]).expect("a group");
    let error = group.scan(&content, &ScanContext::named("a")).await.expect_err("other bytes");
    assert_eq!(error.kind(), ErrorKind::Engine);
}

#[tokio::test]
async fn engines_scan_at_the_same_time() {
    // Each waits for the other one: in sequence, neither would come to its end.
    let barrier = Arc::new(std::sync::Barrier::new(2));
    let engine = || -> Arc<dyn Engine> {
        let barrier = Arc::clone(&barrier);
        Arc::new(Closure::new("waits", move |_, _| {
            barrier.wait();
            Ok(Verdict::Clean)
        }))
    };
    let group = Group::new(vec![engine(), engine()]).expect("a group");
    let content = Content::from_bytes("text");
    let context = ScanContext::named("a");
    let scan = group.scan(&content, &context);
    let report = tokio::time::timeout(Duration::from_secs(60), scan).await.expect("no deadlock").expect("a report");
    assert!(report.is_complete());
    assert_eq!((report.sha256, report.size), (Some(content.sha256()), Some(4)));
    assert_eq!(report.engine, group.info());
}

#[test]
fn the_group_changes_with_its_members() {
    let of = |infos: &[EngineInfo]| {
        let engines = infos.iter().map(|info| Arc::new(Canned(info.clone(), None)) as Arc<dyn Engine>).collect();
        Group::new(engines).expect("a group").info()
    };
    let (one, two) = (EngineInfo::new("one", "1", "a"), EngineInfo::new("two", "2", "b"));
    let base = of(&[one.clone(), two.clone()]);
    assert_eq!((&*base.name, &*base.library), ("one+two", "1+2"));
    let newer = EngineInfo { generation: String::from("c"), ..two.clone() };
    assert_ne!(of(&[one.clone(), newer]).generation, base.generation);
    let stricter = EngineInfo { settings: String::from("strict"), ..two.clone() };
    let stricter = of(&[one.clone(), stricter]);
    assert_eq!(stricter.generation, base.generation);
    assert_ne!(stricter.settings, base.settings);
    let unknown = EngineInfo { generation: String::new(), ..two };
    assert_eq!(of(&[one, unknown]).generation, "", "what is not known of one is not known of both");
}
