use super::*;
use crate::model::{EngineInfo, Reason, Threat};

fn report(verdict: Verdict) -> Report {
    let mut report = Report::new(verdict, EngineInfo::new("test", "0", "0"));
    report.coverage.proven = true;
    report
}

fn unscannable(kinds: &[ReasonKind]) -> Report {
    let reasons = kinds.iter().map(|&kind| Reason { kind, layer_path: String::from("a"), detail: None }).collect();
    report(Verdict::Unscannable { reasons })
}

fn policy() -> Policy {
    Policy::new()
        .clean(Workflow::new("clean"))
        .infected(Workflow::new("infected"))
        .unscannable(Workflow::new("other"))
        .unscannable_for(ReasonKind::Encrypted, Workflow::new("encrypted"))
        .unscannable_for(ReasonKind::TooLarge, Workflow::new("large"))
}

fn name(policy: &Policy, report: &Report) -> Option<String> {
    policy.workflow(report).map(|workflow| workflow.name().to_owned())
}

#[test]
fn each_verdict_has_its_workflow() {
    let threats = vec![Threat { signature: String::from("T"), layer_path: String::from("a") }];
    use ReasonKind::{Encrypted, TooLarge, Unproven, Unsupported};
    for (report, expected) in [
        (report(Verdict::Clean), "clean"),
        (report(Verdict::Infected { threats }), "infected"),
        (unscannable(&[Encrypted]), "encrypted"),
        (unscannable(&[Encrypted, Encrypted]), "encrypted"),
        (unscannable(&[Encrypted, TooLarge]), "other"),
        (unscannable(&[Encrypted, Unsupported]), "other"),
        (unscannable(&[Unsupported]), "other"),
        (unscannable(&[Unproven]), "other"),
    ] {
        assert_eq!(name(&policy(), &report).as_deref(), Some(expected), "{report:?}");
    }
}

#[test]
fn reasons_that_are_not_listed_hold_back() {
    let mut report = unscannable(&[ReasonKind::Encrypted]);
    report.coverage.gap_count = 2;
    assert_eq!(name(&policy(), &report).as_deref(), Some("other"));
}

#[test]
fn unproven_passes_only_where_it_is_accepted() {
    let unproven = unscannable(&[ReasonKind::Unproven]);
    let mixed = unscannable(&[ReasonKind::Unproven, ReasonKind::Encrypted]);
    let mut bare = report(Verdict::Clean);
    bare.coverage.proven = false;
    let accepting = policy().accept_unproven(true);
    for (report, strict, lax) in [(&unproven, false, true), (&mixed, false, false), (&bare, false, true)] {
        assert_eq!(policy().admits(report), strict, "{report:?}");
        assert_eq!(accepting.admits(report), lax, "{report:?}");
    }
    assert_eq!(name(&policy(), &bare).as_deref(), Some("other"), "clean without proof is not clean");
}

fn finding(detector: &str, confidence: f64) -> Finding {
    Finding { detector: detector.to_owned(), confidence, ..Finding::default() }
}

#[test]
fn findings_in_what_is_clean_have_their_workflows() {
    let policy =
        policy().findings_of(["ssn", "credit_card"], 0.8, Workflow::new("cards")).findings(0.5, Workflow::new("any"));
    let with = |findings: &[(&str, f64)]| {
        let mut report = report(Verdict::Clean);
        report.findings = findings.iter().map(|(detector, confidence)| finding(detector, *confidence)).collect();
        report
    };
    for (findings, expected) in [
        (&[][..], "clean"),
        (&[("email", 0.49)], "clean"),
        (&[("email", 0.5)], "any"),
        (&[("email", 0.9), ("ssn", 0.8)], "cards"),
        (&[("credit_card", 0.79)], "any"),
        (&[("ssn", f64::NAN)], "cards"),
    ] {
        assert_eq!(name(&policy, &with(findings)).as_deref(), Some(expected), "{findings:?}");
    }
    let mut omitted = with(&[]);
    omitted.findings_omitted = 1;
    assert_eq!(name(&policy, &omitted).as_deref(), Some("cards"), "what is not listed may be any");
    let words = ["clean, with ssn or credit_card from a confidence of 0.8: workflow cards", "clean: workflow clean"];
    assert_eq!([&policy.explain()[0], &policy.explain()[2]], words);
    assert!(policy.shared_workflow("cards").is_some() && policy.check().is_ok());
    assert_eq!(policy.workflows().count(), 7);
}

#[test]
fn a_worse_verdict_comes_before_findings() {
    let policy = policy().findings(0.0, Workflow::new("any")).accept_unproven(true);
    let threats = vec![Threat { signature: String::from("T"), layer_path: String::from("a") }];
    for (mut report, expected) in [
        (report(Verdict::Infected { threats }), "infected"),
        (unscannable(&[ReasonKind::Encrypted]), "encrypted"),
        (unscannable(&[ReasonKind::NoMalwareScan]), "other"),
        (unscannable(&[ReasonKind::Unproven]), "any"),
    ] {
        report.findings = vec![finding("ssn", 1.0)];
        assert_eq!(name(&policy, &report).as_deref(), Some(expected), "{report:?}");
    }
}

#[test]
fn confidences_are_checked() {
    for wrong in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        let error = Policy::new().findings(wrong, Workflow::new("w")).check().expect_err("refused");
        assert_eq!((error.kind(), error.context()), (ErrorKind::Config, Some("workflow w")), "{error}");
    }
    let shared = Arc::new(Workflow::new("w"));
    let twice = Policy::new().findings(0.1, Arc::clone(&shared)).clean(Workflow::new("w"));
    assert!(twice.check().is_err());
    assert!(Policy::new().findings(0.1, Arc::clone(&shared)).clean(shared).check().is_ok());
}

#[test]
fn no_malware_scan_is_never_let_through() {
    let report = unscannable(&[ReasonKind::NoMalwareScan]);
    assert!(!policy().accept_unproven(true).admits(&report));
    let both = unscannable(&[ReasonKind::Unproven, ReasonKind::NoMalwareScan]);
    assert!(!policy().accept_unproven(true).admits(&both));
}

#[test]
fn what_is_not_named_is_left_alone_and_said() {
    let policy = Policy::new().clean(Workflow::new("c"));
    assert_eq!(policy.left_alone(), ["infected", "unscannable"]);
    assert_eq!(policy.workflow(&unscannable(&[ReasonKind::Encrypted])).map(|w| w.name()), None);
    assert_eq!(policy.explain()[1], "infected: left where it is");
}

#[test]
fn names_are_unique() {
    let twice = Policy::new().clean(Workflow::new("w")).infected(Workflow::new("w"));
    assert_eq!(twice.check().expect_err("refused").kind(), ErrorKind::Config);
    let shared = Arc::new(Workflow::new("w"));
    let once = Policy::new().clean(Arc::clone(&shared)).unscannable_for(ReasonKind::Encrypted, shared);
    assert!(once.check().is_ok(), "one workflow may follow several verdicts");
}
