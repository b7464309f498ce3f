use super::*;

#[test]
fn a_report_survives_its_json() {
    let reason =
        Reason { kind: ReasonKind::TooLarge, layer_path: String::from("a.zip/b"), detail: Some(String::from("7")) };
    let threat = Threat { signature: String::from("Test"), layer_path: String::from("a.zip/c") };
    let engine = EngineInfo::new("clamav", "1.4.6", "0123");
    for verdict in [
        Verdict::Clean,
        Verdict::Infected { threats: vec![threat] },
        Verdict::Unscannable { reasons: vec![reason.clone()] },
    ] {
        let mut report = Report::new(verdict, engine.clone());
        report.elapsed = Duration::from_micros(1234);
        report.sha256 = Some(ContentDigest::of(b"abc"));
        if matches!(report.verdict, Verdict::Infected { .. }) {
            report.coverage.gaps.push(reason.clone());
            report.coverage.gap_count = 1;
        }
        let text = serde_json::to_string(&report).expect("serialises");
        assert_eq!(serde_json::from_str::<Report>(&text).expect("parses"), report, "{text}");
    }
}

fn finding(offset: u64) -> Finding {
    Finding {
        detector: String::from("ssn"),
        masked_match: String::from("***-**-1234"),
        context: String::from("ssn ***-**-1234 of"),
        layer_path: String::from("a.zip/b.txt"),
        byte_offset: offset,
        raw_offset: Some(offset + 7),
        confidence: 0.1 + 0.2,
        tags: vec![String::from("keyword")],
        fingerprint: String::from("9f"),
    }
}

#[test]
fn findings_survive_their_json() {
    let mut report = Report::new(Verdict::Clean, EngineInfo::new("clamav", "1.4.6", "0123"));
    report.findings = vec![finding(u64::MAX - 7), Finding { raw_offset: None, ..finding(3) }];
    report.findings_omitted = 12;
    let text = serde_json::to_string(&report).expect("serialises");
    assert_eq!(serde_json::from_str::<Report>(&text).expect("parses"), report, "{text}");
    assert_eq!(report.finding_count(), 14);
    let form: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let keys = |value: &serde_json::Value| value.as_object().map_or(0, serde_json::Map::len);
    assert_eq!((keys(&form["findings"][0]), keys(&form["findings"][1])), (9, 8), "no raw offset, no field");
}

#[test]
fn the_json_of_before_is_read() {
    let report = Report::new(Verdict::Clean, EngineInfo::new("clamav", "1.4.6", "0123"));
    let mut form = serde_json::to_value(&report).expect("a form");
    form.as_object_mut().expect("an object").remove("findings_omitted");
    form["findings"] = serde_json::json!([{ "detector": "card", "masked_match": "4***", "context": "", "layer_path":
        "a", "byte_offset": 1, "confidence": 0.5 }]);
    let back: Report = serde_json::from_value(form).expect("a report");
    let old = &back.findings[0];
    assert_eq!((old.raw_offset, old.tags.len(), old.fingerprint.as_str()), (None, 0, ""));
    assert_eq!(back.findings_omitted, 0);
}

#[test]
fn findings_over_the_limit_are_counted() {
    let mut report = Report::new(Verdict::Clean, EngineInfo::new("test", "0", "0"));
    report.findings = (0..5).map(finding).collect();
    report.limit_findings(5);
    assert_eq!((report.findings.len(), report.findings_omitted), (5, 0));
    report.limit_findings(2);
    report.limit_findings(2);
    assert_eq!((report.findings.len(), report.findings_omitted, report.finding_count()), (2, 3, 5));
    assert_eq!(report.findings, [finding(0), finding(1)]);
    report.findings.push(Finding { detector: String::from("email"), ..finding(2) });
    assert_eq!(report.findings_by_detector().into_iter().collect::<Vec<_>>(), [("email", 1), ("ssn", 2)]);
}

#[test]
fn only_proven_verdicts_without_gaps_are_complete() {
    let mut report = Report::new(Verdict::Clean, EngineInfo::new("test", "0", "0"));
    assert!(!report.is_complete(), "nobody vouches");
    report.coverage.proven = true;
    assert!(report.is_complete());
    report.coverage.gap_count = 1;
    assert!(!report.is_complete());
}

#[test]
fn kinds_are_the_same_words_everywhere() {
    for kind in ReasonKind::ALL {
        let text = serde_json::to_string(&kind).expect("serialises");
        assert_eq!(text, format!("\"{kind}\""));
    }
}
