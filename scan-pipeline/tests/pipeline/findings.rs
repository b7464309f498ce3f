//! Sensitive data on its way through the pipeline: into the report, the store, the policy and what follows.

use std::sync::Arc;

use async_trait::async_trait;
use scan_pipeline::content::Content;
use scan_pipeline::engine::{DetectOnly, Detector, Detectors, Engine, Group, ScanContext};
use scan_pipeline::handler::{record, tag};
use scan_pipeline::model::{EngineInfo, Finding, ObjectRef, Report, Verdict};
use scan_pipeline::objects::ObjectOps;
use scan_pipeline::store::{SqliteStore, TaskState};
use scan_pipeline::workflow::Workflow;
use scan_pipeline::{Pipeline, Policy, Result};
use scan_pipeline_tests::personal::{Letter, ssn};

use crate::common::{Rig, engine, get, whole};

fn detectors() -> Detectors {
    Detectors::builder().first_tier().fingerprint_key([3; 32]).build().expect("detectors")
}

/// Who looks for words as for malware, and these detectors.
fn looking(rig: &Rig, detectors: Detectors) -> Group {
    Group::new(vec![Arc::new(engine(&rig.scans)), Arc::new(DetectOnly::new(detectors))]).expect("a group")
}

fn policy(rig: &Rig) -> Policy {
    let cards = Workflow::new("cards").then(tag()).then(rig.notify());
    let any = Workflow::new("any").then(record()).then(rig.notify());
    rig.policy().findings_of(["ssn", "credit_card"], 0.6, cards).findings(0.5, any)
}

async fn pipeline(rig: &Rig, store: SqliteStore) -> Pipeline {
    let builder = rig.builder().await.engine(looking(rig, detectors())).policy(policy(rig)).store(store);
    builder.build().expect("a pipeline")
}

fn detectors_in(report: Option<&Report>) -> Vec<String> {
    let findings = &report.expect("a report").findings;
    let mut all: Vec<_> = findings.iter().map(|finding| finding.detector.clone()).collect();
    all.sort();
    all.dedup();
    all
}

#[tokio::test]
async fn what_is_clean_with_findings_follows_their_workflow() {
    let rig = Rig::new();
    let pipeline = pipeline(&rig, SqliteStore::in_memory().await.expect("a store")).await;
    let letter = Letter::new(1);
    for (key, text, workflow) in [
        ("plain.txt", String::from("Dear Sir or Madam"), "release"),
        ("letter.txt", letter.text.clone(), "cards"),
        ("mail.txt", String::from("write to w.harriman@example.org about it"), "any"),
        ("bad.txt", format!("infected {}", letter.text), "isolate"),
        ("locked.txt", format!("locked {}", letter.text), "hold"),
    ] {
        let done = pipeline.process(rig.drop_in(key, &text).await).await.expect("done");
        assert_eq!((done.record.workflow.as_deref(), done.record.state), (Some(workflow), TaskState::Done), "{key}");
        let stored = pipeline.store().task(done.record.id).await.expect("reads").expect("is there");
        assert_eq!(stored.report.as_ref().map(|report| &report.findings), done.report().map(|report| &report.findings));
        let found = detectors_in(stored.report.as_ref());
        match key {
            "plain.txt" => assert!(found.is_empty(), "{found:?}"),
            "mail.txt" => assert_eq!(found, ["email"]),
            _ => assert!(found.contains(&String::from("ssn")), "{key}: {found:?}"),
        }
        let said = format!("{stored:?} {}", serde_json::to_string(&stored).expect("JSON"));
        assert!(letter.leaks(said.as_bytes()).is_empty(), "{key}: {:?}", letter.leaks(said.as_bytes()));
    }
    let object = ObjectRef::new(rig.quarantine.url().clone(), "letter.txt");
    let tags = rig.quarantine.tags(&object).await.expect("tags");
    assert_eq!(tags.get("scan-status"), Some("clean"));
    assert!(
        tags.get("scan-findings").is_some_and(|count| count.parse::<u64>().is_ok_and(|count| count >= 4)),
        "{tags:?}"
    );
    assert_eq!(get(&*rig.clean, "letter.txt").await, None);
    assert!(get(&*rig.clean, "plain.txt").await.is_some());
    whole(&pipeline).await;
}

/// A verdict that is known already keeps its findings, in memory and in the store, under the name of the object at hand.
#[tokio::test]
async fn a_cached_verdict_keeps_its_findings_and_says_where() {
    let rig = Rig::new();
    let store = SqliteStore::in_memory().await.expect("a store");
    let letter = Letter::new(2);
    let first = pipeline(&rig, store.clone()).await;
    first.process(rig.drop_in("a.txt", &letter.text).await).await.expect("done");
    assert_eq!(rig.scans.get(), 1);
    // The second pipeline is another process, which remembers nothing by itself.
    for (pipeline, key) in [(&first, "b.txt"), (&pipeline(&rig, store.clone()).await, "c.txt")] {
        let done = pipeline.process(rig.drop_in(key, &letter.text).await).await.expect("done");
        assert_eq!((rig.scans.get(), done.record.workflow.as_deref()), (1, Some("cards")), "{key}");
        let findings = &done.report().expect("a report").findings;
        assert!(!findings.is_empty() && findings.iter().all(|finding| finding.layer_path == key), "{findings:?}");
    }
}

/// Detectors that were not there when it was scanned would have found something: such a verdict is not taken.
#[tokio::test]
async fn a_verdict_without_findings_does_not_pass_for_one_with() {
    let rig = Rig::new();
    let store = SqliteStore::in_memory().await.expect("a store");
    let letter = Letter::new(3);
    let emails = || Detectors::builder().detect(Detector::Email).build().expect("detectors");
    let with = async |engine: Option<Detectors>| {
        let builder = rig.builder().await.policy(policy(&rig)).store(store.clone());
        let builder = match engine {
            None => builder.engine(engine_alone(&rig)),
            Some(detectors) => builder.engine(looking(&rig, detectors)),
        };
        builder.build().expect("a pipeline")
    };
    for (number, (engine, workflow)) in
        [(None, "release"), (Some(emails()), "any"), (Some(detectors()), "cards"), (None, "release")]
            .into_iter()
            .enumerate()
    {
        let key = format!("{number}.txt");
        let done = with(engine).await.process(rig.drop_in(&key, &letter.text).await).await.expect("done");
        assert_eq!(done.record.workflow.as_deref(), Some(workflow), "{key}");
    }
    assert_eq!(rig.scans.get(), 3, "the last one was known");
}

fn engine_alone(rig: &Rig) -> impl Engine + use<> {
    engine(&rig.scans)
}

/// An engine that knows no bounds.
struct Says(Report);

#[async_trait]
impl Engine for Says {
    fn info(&self) -> EngineInfo {
        self.0.engine.clone()
    }

    async fn scan(&self, _: &Content, _: &ScanContext) -> Result<Report> {
        Ok(self.0.clone())
    }
}

#[tokio::test]
async fn an_engine_that_knows_no_bounds_is_held_to_some() {
    let rig = Rig::new();
    let mut report = Report::new(Verdict::Clean, EngineInfo::new("says", "1", "1"));
    report.coverage.proven = true;
    let finding = |byte_offset, confidence| Finding {
        detector: String::from("own"),
        layer_path: String::from("a"),
        byte_offset,
        confidence,
        ..Finding::default()
    };
    report.findings = vec![finding(0, f64::NAN), finding(1, 7.0), finding(2, -1.0)];
    // The same once more, and another one at its place.
    report.findings.extend([finding(1, 7.0), finding(2, 0.3)]);
    report.findings.extend((10..150_000).map(|offset| finding(offset, 0.5)));
    let total = 3 + 1 + 149_990;
    let builder = rig.builder().await.engine(Says(report)).policy(policy(&rig));
    let pipeline = builder.build().expect("a pipeline");
    let done = pipeline.process(rig.drop_in("a", "text").await).await.expect("done");
    let report = done.report().expect("a report");
    assert_eq!((report.findings.len(), report.finding_count()), (100_000, total));
    let confidences: Vec<_> = report.findings[..3].iter().map(|finding| finding.confidence).collect();
    assert_eq!(confidences, [1.0, 1.0, 0.0]);
    whole(&pipeline).await;
}

/// What fits no detector's bounds: a text with more than a report lists.
#[tokio::test]
async fn more_than_is_listed_is_counted_and_follows_the_first_rule() {
    let rig = Rig::new();
    let detectors = Detectors::builder().detect(Detector::Ssn).max_findings(5).build().expect("detectors");
    let builder = rig.builder().await.engine(looking(&rig, detectors)).policy(policy(&rig));
    let pipeline = builder.build().expect("a pipeline");
    let text: String = (0..20).map(|number| format!("SSN: {}\n", ssn(number))).collect();
    let done = pipeline.process(rig.drop_in("a.txt", &text).await).await.expect("done");
    let report = done.report().expect("a report");
    assert_eq!((report.findings.len(), report.findings_omitted), (5, 15));
    assert_eq!(done.record.workflow.as_deref(), Some("cards"));
    let stored = pipeline.store().task(done.record.id).await.expect("reads").expect("is there");
    assert_eq!(stored.report.map(|report| report.findings_omitted), Some(15));
    whole(&pipeline).await;
}
