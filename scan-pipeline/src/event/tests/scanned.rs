//! GuardDuty's results. Clean is only what all of the message says is clean.

use super::*;
use crate::model::{ObjectRef, ReasonKind, Verdict};

fn result(status: &str, result: &str, threats: &str) -> String {
    r#"{
      "version": "0",
      "id": "72c7d362-737a-6dce-fc78-9e27a0171419",
      "detail-type": "GuardDuty Malware Protection Object Scan Result",
      "source": "aws.guardduty",
      "account": "111122223333",
      "time": "2024-02-28T01:01:01Z",
      "region": "us-east-1",
      "resources": ["arn:aws:guardduty:us-east-1:111122223333:malware-protection-plan/b4c7f464ab3a4EXAMPLE"],
      "detail": {
        "schemaVersion": "1.0",
        "scanStatus": @status,
        "resourceType": "S3_OBJECT",
        "s3ObjectDetails": {
          "bucketName": "amzn-s3-demo-bucket",
          "objectKey": "in/APKAEIBAERJR2EXAMPLE+1%20.zip",
          "eTag": "ASIAI44QH8DHBEXAMPLE",
          "versionId": "d41d8cd98f00b204e9800998eEXAMPLE",
          "s3Throttled": false
        },
        "scanResultDetails": {"scanResultStatus": @result, "threats": @threats}
      }
    }"#
    .replace("@status", status)
    .replace("@result", result)
    .replace("@threats", threats)
}

/// The key is as EventBridge writes it, and the version pins.
#[test]
fn clean() {
    for message in [
        result(r#""COMPLETED""#, r#""NO_THREATS_FOUND""#, "null"),
        result(r#""COMPLETED""#, r#""NO_THREATS_FOUND""#, "[]"),
        in_sns(&result(r#""COMPLETED""#, r#""NO_THREATS_FOUND""#, "null")),
    ] {
        let scanned = scanned(&message);
        assert_eq!(scanned.verdict, Verdict::Clean);
        assert_eq!(scanned.scanner.name, "guardduty");
        let expected =
            ObjectRef::new("s3://amzn-s3-demo-bucket".parse().expect("an address"), "in/APKAEIBAERJR2EXAMPLE+1%20.zip");
        let expected = expected.with_version("d41d8cd98f00b204e9800998eEXAMPLE").with_etag("ASIAI44QH8DHBEXAMPLE");
        assert_eq!(scanned.object, expected);
    }
}

#[test]
fn infected() {
    let names = |message: &str| match scanned(message).verdict {
        Verdict::Infected { threats } => threats.into_iter().map(|threat| threat.signature).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let threats = r#"[{"name": "Trojan.Example (made up)"}, {"name": "other", "source": "AMAZON"}]"#;
    let found = result(r#""COMPLETED""#, r#""THREATS_FOUND""#, threats);
    assert_eq!(names(&found), ["Trojan.Example (made up)", "other"]);
    for none in ["null", "[]"] {
        assert_eq!(names(&result(r#""COMPLETED""#, r#""THREATS_FOUND""#, none)), ["THREATS_FOUND"]);
    }
}

#[test]
fn what_was_not_scanned_is_unscannable() {
    for (status, said, kind) in [
        ("SKIPPED", "UNSUPPORTED", ReasonKind::Unsupported),
        ("COMPLETED", "UNSUPPORTED", ReasonKind::Unsupported),
        ("SKIPPED", "ACCESS_DENIED", ReasonKind::EngineReported),
        ("FAILED", "ACCESS_DENIED", ReasonKind::EngineReported),
        ("FAILED", "FAILED", ReasonKind::EngineReported),
    ] {
        let message = result(&format!("\"{status}\""), &format!("\"{said}\""), "null");
        let Verdict::Unscannable { reasons } = scanned(&message).verdict else { panic!("{status} {said}") };
        assert_eq!(reasons[0].kind, kind);
        assert!(reasons[0].detail.as_deref().is_some_and(|detail| detail.contains(said)));
    }
    for status in ["SKIPPED", "FAILED"] {
        let message = result(&format!("\"{status}\""), "null", "null");
        assert_eq!(scanned(&message).verdict.status(), "unscannable");
        let message = message.replace("\"scanResultDetails\"", "\"other\"");
        assert_eq!(scanned(&message).verdict.status(), "unscannable");
    }
}

/// Nothing but the one combination is clean, and what contradicts itself is no verdict.
#[test]
fn nothing_else_is_clean() {
    let words = ["COMPLETED", "SKIPPED", "FAILED", "RUNNING", "completed", ""];
    let results =
        ["NO_THREATS_FOUND", "THREATS_FOUND", "UNSUPPORTED", "ACCESS_DENIED", "FAILED", "THREAT_FOUND", "CLEAN", ""];
    let mut clean = 0;
    for status in words {
        for said in results {
            for threats in ["null", "[]", r#"[{"name": "x"}]"#] {
                let event = event(&result(&format!("\"{status}\""), &format!("\"{said}\""), threats));
                match event {
                    Event::ScannedElsewhere(scanned) => {
                        clean += usize::from(scanned.verdict == Verdict::Clean);
                        assert!(scanned.verdict != Verdict::Clean || !threats.contains('x'));
                        assert!(!threats.contains('x') || scanned.verdict.status() == "infected", "{status} {said}");
                    }
                    Event::Unreadable(_) => {}
                    other => panic!("{other:?}"),
                }
            }
        }
    }
    assert_eq!(clean, 2, "no threats, as null and as an empty list");
    for message in [
        result("null", r#""NO_THREATS_FOUND""#, "null"),
        result(r#""COMPLETED""#, "null", "null"),
        result(r#""COMPLETED""#, "0", "null"),
        result(r#""COMPLETED""#, r#""NO_THREATS_FOUND""#, "0"),
        result(r#""COMPLETED""#, r#""THREATS_FOUND""#, "[1]"),
        result(r#""COMPLETED""#, r#""NO_THREATS_FOUND""#, "null").replace("S3_OBJECT", "EBS_VOLUME"),
        result(r#""COMPLETED""#, r#""NO_THREATS_FOUND""#, "null").replace("\"1.0\"", "\"2.0\""),
    ] {
        unreadable(&message);
    }
}

#[test]
fn other_events_of_guardduty() {
    let with = |kind: &str| {
        result(r#""COMPLETED""#, r#""NO_THREATS_FOUND""#, "null")
            .replace("GuardDuty Malware Protection Object Scan Result", kind)
    };
    for kind in
        ["GuardDuty Malware Protection Resource Status Active", "GuardDuty Malware Protection Post Scan Action Failed"]
    {
        assert_eq!(ignored(&with(kind)).event, kind);
    }
    assert!(unreadable(&with("GuardDuty Finding")).to_string().contains("`GuardDuty Finding`"));
}
