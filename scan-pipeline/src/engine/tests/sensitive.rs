//! Sensitive data in the pass that unpacks.

use std::collections::BTreeSet;

use scan_pipeline_tests::personal::{Letter, card, ssn};
use scan_pipeline_tests::{mail, office, pdf, tape};

use super::*;
use crate::model::{Finding, Report};

fn first_tier() -> DetectorsBuilder {
    Detectors::builder().first_tier().fingerprint_key([7; 32])
}

async fn engine(change: impl FnOnce(ClamAvBuilder) -> ClamAvBuilder) -> (ClamAv, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let definitions = marker::test_definitions(dir.path()).expect("definitions");
    let engine = change(ClamAv::builder().definitions(definitions).threads(2)).build().await;
    (engine.expect("an engine"), dir)
}

async fn looking() -> (ClamAv, tempfile::TempDir) {
    engine(|builder| builder.detectors(first_tier().build().expect("detectors"))).await
}

async fn scan(engine: &ClamAv, bytes: Vec<u8>, name: &str) -> Report {
    engine.scan(&Content::from_bytes(bytes), &ScanContext::named(name)).await.expect("a report")
}

/// Detectors and layers, each pair once.
fn places(findings: &[Finding]) -> BTreeSet<(&str, &str)> {
    findings.iter().map(|finding| (finding.detector.as_str(), finding.layer_path.as_str())).collect()
}

#[tokio::test]
async fn every_layer_is_looked_at_with_its_path() {
    let (engine, _dir) = looking().await;
    let letter = Letter::new(1);
    let all = ["aws_access_key", "credit_card", "email", "ssn"];
    for (name, bytes, layer) in [
        ("a.txt", letter.text.clone().into_bytes(), "a.txt"),
        ("a.zip", zip::plain(&[("dir/b.txt", letter.text.as_bytes())]), "a.zip/dir/b.txt"),
        (
            "outer.zip",
            zip::plain(&[("inner.zip", &zip::plain(&[("c.csv", letter.text.as_bytes())]))]),
            "outer.zip/inner.zip/c.csv",
        ),
    ] {
        let report = scan(&engine, bytes, name).await;
        assert!(report.verdict == Verdict::Clean && report.is_complete(), "{report:?}");
        let found = places(&report.findings);
        for detector in all {
            assert!(found.contains(&(detector, layer)), "{detector} in {layer}: {found:?}");
        }
        for finding in &report.findings {
            assert!(finding.layer_path.starts_with(name), "{finding:?}");
        }
        let text = format!("{report:?} {}", serde_json::to_string(&report).expect("JSON"));
        assert!(letter.leaks(text.as_bytes()).is_empty(), "{:?}", letter.leaks(text.as_bytes()));
    }
}

#[tokio::test]
async fn containers_of_all_kinds_show_what_is_in_them() {
    let (engine, _dir) = looking().await;
    let letter = Letter::new(2);
    let text = letter.text.as_bytes();
    for (name, bytes) in [
        ("a.tar.gz", tape::tar_gz(&[("b.txt", text)])),
        ("a.eml", mail::attachment("b.txt", text)),
        ("a.docx", office::docx(&letter.text)),
        ("a.xlsx", office::xlsx(&letter.text)),
    ] {
        let report = scan(&engine, bytes, name).await;
        assert_eq!(report.verdict, Verdict::Clean, "{name}");
        let detectors: BTreeSet<_> = report.findings.iter().map(|finding| finding.detector.as_str()).collect();
        assert!(detectors.contains("ssn") && detectors.contains("credit_card"), "{name}: {:?}", report.findings);
        let json = serde_json::to_string(&report).expect("JSON");
        assert!(letter.leaks(json.as_bytes()).is_empty(), "{name}: {:?}", letter.leaks(json.as_bytes()));
    }
}

/// What a container holds as it is, its own bytes show, too.
#[tokio::test]
async fn what_lies_open_in_a_container_counts_once() {
    let (engine, _dir) = looking().await;
    let letter = Letter::new(9);
    let text = letter.text.as_bytes();
    let stored = |name: &str, bytes: &[u8]| zip::with_method(zip::Method::Stored, &[(name, bytes)]);
    let page = format!("<html><body><p>{}</p></body></html>", letter.text);
    for (name, bytes, layer) in [
        ("a.zip", stored("b.txt", text), Some("a.zip/b.txt")),
        ("a.tar", tape::tar(&[("b.txt", text)]), Some("a.tar/b.txt")),
        ("a.zip", stored("c.zip", &stored("b.txt", text)), Some("a.zip/c.zip/b.txt")),
        ("a.zip", stored("b.html", page.as_bytes()), Some("a.zip/b.html")),
        ("a.eml", mail::text(text), None),
        ("a.pdf", pdf::attachment("b.txt", text), None),
    ] {
        let report = scan(&engine, bytes, name).await;
        let found: Vec<_> =
            report.findings.iter().map(|one| (one.detector.as_str(), one.layer_path.as_str())).collect();
        for detector in ["aws_access_key", "credit_card", "email", "ssn"] {
            let of: Vec<_> = found.iter().filter(|(one, _)| *one == detector).collect();
            // The head of a mail has addresses of its own.
            let head = name == "a.eml" && detector == "email";
            assert!(if head { of.len() > 1 } else { of.len() == 1 }, "{detector} in {name}: {found:?}");
            assert!(layer.is_none_or(|layer| of[0].1 == layer), "{detector} in {name}: {found:?}");
        }
        let prints = |outer: bool| -> BTreeSet<_> {
            let of = report.findings.iter().filter(|one| (one.layer_path == name) == outer);
            of.map(|one| (&one.detector, &one.fingerprint)).collect()
        };
        assert!(prints(true).is_disjoint(&prints(false)) && !prints(false).is_empty(), "{name}: {found:?}");
    }
}

#[tokio::test]
async fn what_a_container_has_of_its_own_counts_beside_its_members() {
    let (engine, _dir) = looking().await;
    let number = ssn(3);
    let member = format!("the first line\nSSN: {number} of somebody\n");
    let entries = [zip::entry("b.txt", member.as_bytes(), zip::Method::Stored)];
    let bytes = zip::raw::write(b"", &entries, format!("comment: {number}").as_bytes());
    let report = scan(&engine, bytes, "a.zip").await;
    let found: Vec<_> = report.findings.iter().map(|one| one.layer_path.as_str()).collect();
    assert_eq!(found, ["a.zip", "a.zip/b.txt"], "{:?}", report.findings);
}

/// Word cuts a number wherever somebody has moved the cursor.
#[tokio::test]
async fn a_number_that_is_split_across_runs_is_found() {
    let (engine, _dir) = looking().await;
    let bytes = office::docx_split_runs(&format!("SSN: {} card {}", ssn(4), card(4)));
    let report = scan(&engine, bytes, "a.docx").await;
    let found = places(&report.findings);
    for detector in ["ssn", "credit_card"] {
        assert!(found.contains(&(detector, "a.docx/word/document.xml")), "{detector}: {found:?}");
    }
}

#[tokio::test]
async fn findings_change_no_verdict() {
    let (engine, _dir) = looking().await;
    let letter = Letter::new(5);
    let infected = zip::plain(&[("a.com", &marker::eicar()), ("b.txt", letter.text.as_bytes())]);
    let report = scan(&engine, infected, "a.zip").await;
    assert_eq!(report.verdict.status(), "infected");
    assert!(places(&report.findings).contains(&("ssn", "a.zip/b.txt")), "{:?}", report.findings);
    let locked: [(&str, &[u8]); 1] = [("secret.txt", &marker::harmless())];
    let report = scan(&engine, zip::encrypted::mixed(&[("b.txt", letter.text.as_bytes())], &locked), "a.zip").await;
    assert_eq!(report.verdict.status(), "unscannable");
    assert!(places(&report.findings).contains(&("ssn", "a.zip/b.txt")), "{:?}", report.findings);
    let nothing = scan(&engine, marker::harmless(), "a.txt").await;
    assert_eq!((nothing.findings.len(), nothing.findings_omitted), (0, 0), "{:?}", nothing.findings);
}

/// Two members of one archive with the same at the same offset are two findings; the same member twice is one layer.
#[tokio::test]
async fn members_are_told_apart() {
    let (engine, _dir) = looking().await;
    let text = |word: &str| format!("SSN: {} {word}", ssn(6));
    let (one, other) = (text("one"), text("other"));
    let bytes = zip::plain(&[("a", one.as_bytes()), ("b", other.as_bytes()), ("c", one.as_bytes())]);
    let report = scan(&engine, bytes, "a.zip").await;
    let found: Vec<_> = report.findings.iter().map(|one| (one.layer_path.as_str(), one.byte_offset)).collect();
    assert_eq!(found, [("a.zip/a", 5), ("a.zip/b", 5)], "{:?}", report.findings);
    let prints: BTreeSet<_> = report.findings.iter().map(|finding| &finding.fingerprint).collect();
    assert_eq!(prints.len(), 1, "the same number in both: {prints:?}");
}

#[tokio::test]
async fn a_report_lists_so_many_and_counts_the_rest() {
    let detectors = Detectors::builder().detect(Detector::Ssn).build().expect("detectors");
    let (engine, _dir) = engine(|builder| builder.detectors(detectors).max_findings(10)).await;
    let many = |from: u32| (from..from + 30).map(|number| format!("SSN: {}\n", ssn(number))).collect::<String>();
    let bytes = zip::plain(&[("a", many(0).as_bytes()), ("b", many(100).as_bytes())]);
    let report = scan(&engine, bytes, "a.zip").await;
    assert_eq!((report.findings.len(), report.findings_omitted, report.finding_count()), (10, 50, 60));
    assert!(report.is_complete(), "it is clean all the same");
}

/// Without detectors the settings are those of before, so that verdicts on record stay good; with others they are others,
/// so that no verdict without these findings is taken for one with them.
#[tokio::test]
async fn the_settings_follow_the_detectors() {
    let mut settings = BTreeSet::new();
    let plain = engine(|builder| builder).await.0.info().settings;
    settings.insert(plain.clone());
    for detectors in [
        first_tier(),
        first_tier().min_confidence(0.9),
        first_tier().fingerprint_key([8; 32]),
        Detectors::builder().detect(Detector::Ssn),
        Detectors::builder().all(),
    ] {
        let build = || detectors.clone().build().expect("detectors");
        let one = engine(|builder| builder.detectors(build())).await.0.info().settings;
        assert_eq!(engine(|builder| builder.detectors(build())).await.0.info().settings, one);
        settings.insert(one);
    }
    settings.insert(
        engine(|builder| builder.detectors(first_tier().build().expect("ok")).max_findings(7)).await.0.info().settings,
    );
    assert_eq!(settings.len(), 7);
    let (engine, _dir) = looking().await;
    let report = scan(&engine, marker::harmless(), "a.txt").await;
    assert_eq!(report.engine.settings, engine.info().settings);
    assert_ne!(report.engine.settings, plain);
}

/// A clamd shows nobody what it unpacks; beside it, what lies there is looked at.
#[tokio::test]
async fn beside_a_clamd_what_lies_there_is_looked_at() {
    let running = clamd::start(&[]);
    let detectors = first_tier().build().expect("detectors");
    let clamd = Clamd::unix(running.socket()).build().expect("an engine");
    let group = Group::new(vec![Arc::new(DetectOnly::new(detectors)), Arc::new(clamd)]).expect("a group");
    let scan = async |bytes: Vec<u8>| {
        group.scan(&Content::from_bytes(bytes), &ScanContext::named("a.txt")).await.expect("a report")
    };
    let report = scan(Letter::new(8).text.into_bytes()).await;
    let Verdict::Unscannable { reasons } = &report.verdict else { panic!("{report:?}") };
    assert_eq!(reasons.iter().map(|reason| reason.kind).collect::<Vec<_>>(), [ReasonKind::Unproven], "as clamd alone");
    assert!(places(&report.findings).contains(&("ssn", "a.txt")), "{:?}", report.findings);
    assert_eq!(scan(marker::eicar()).await.verdict.status(), "infected");
}
