//! Results of GuardDuty Malware Protection for S3, which come by EventBridge.

use super::json::{Node, Object, excerpt, unreadable};
use super::{Event, ScannedElsewhere, bucket, etag, key, version};
use crate::Result;
use crate::model::{EngineInfo, ObjectRef, Reason, ReasonKind, Threat, Verdict};

const RESULT: &str = "GuardDuty Malware Protection Object Scan Result";

/// An event whose source is `aws.guardduty`.
pub(super) fn read(message: &Object) -> Result<Event> {
    match message.required("detail-type")? {
        RESULT => result(message.object("detail")?),
        kind if kind.starts_with("GuardDuty Malware Protection Resource Status") => {
            Ok(Event::ignored(kind, "it is about a bucket's protection, and no object"))
        }
        kind @ "GuardDuty Malware Protection Post Scan Action Failed" => {
            Ok(Event::ignored(kind, "only GuardDuty's tag is missing; the result is an event of its own"))
        }
        other => Err(unreadable(format!("is an event {} of GuardDuty, which is not understood", excerpt(other)))),
    }
}

fn result(detail: &Object) -> Result<Event> {
    let form = detail.required("schemaVersion")?;
    if !form.starts_with("1.") {
        return Err(unreadable(format!("is a result of schema {}; 1.x is understood", excerpt(form))));
    }
    let resource = detail.required("resourceType")?;
    if resource != "S3_OBJECT" {
        return Err(unreadable(format!("is a result for {}, and not for an object of S3", excerpt(resource))));
    }
    let scanned = detail.object("s3ObjectDetails")?;
    // AWS's own types have both spellings.
    let tag = scanned.text("eTag")?.or(scanned.text("etag")?);
    let object = ObjectRef {
        version: version(scanned.text("versionId")?)?,
        etag: etag(tag)?,
        ..ObjectRef::new(bucket("s3", scanned.required("bucketName")?)?, key(scanned.required("objectKey")?)?)
    };
    let verdict = verdict(detail, object.file_name())?;
    let scanner = EngineInfo::new("guardduty", "", "");
    Ok(Event::ScannedElsewhere(ScannedElsewhere { object, verdict, scanner }))
}

/// Clean needs all that says so to agree. What contradicts itself is no verdict at all.
fn verdict(detail: &Object, name: &str) -> Result<Verdict> {
    let status = detail.required("scanStatus")?;
    let (result, threats) = match detail.get("scanResultDetails") {
        None => (None, Vec::new()),
        Some(_) => {
            let details = detail.object("scanResultDetails")?;
            (details.text("scanResultStatus")?, threats(details, name)?)
        }
    };
    let unscannable = |kind: ReasonKind, word: &str| {
        let detail = Some(format!("GuardDuty: {word}"));
        Verdict::Unscannable { reasons: vec![Reason { kind, layer_path: name.to_owned(), detail }] }
    };
    Ok(match (status, result) {
        ("COMPLETED", Some("NO_THREATS_FOUND")) if threats.is_empty() => Verdict::Clean,
        ("COMPLETED", Some("THREATS_FOUND")) if threats.is_empty() => {
            let unnamed = Threat { signature: String::from("THREATS_FOUND"), layer_path: name.to_owned() };
            Verdict::Infected { threats: vec![unnamed] }
        }
        ("COMPLETED", Some("THREATS_FOUND")) => Verdict::Infected { threats },
        (_, Some("UNSUPPORTED")) if threats.is_empty() => unscannable(ReasonKind::Unsupported, "UNSUPPORTED"),
        (_, Some(word @ ("ACCESS_DENIED" | "FAILED"))) if threats.is_empty() => {
            unscannable(ReasonKind::EngineReported, word)
        }
        ("SKIPPED", None) => unscannable(ReasonKind::Unsupported, "SKIPPED"),
        ("FAILED", None) => unscannable(ReasonKind::EngineReported, "FAILED"),
        (status, result) => {
            return Err(unreadable(format!(
                "is a scan that is {} with the result {} and {} threats, which is not understood",
                excerpt(status),
                excerpt(result.unwrap_or("(none)")),
                threats.len()
            )));
        }
    })
}

fn threats(details: &Object, name: &str) -> Result<Vec<Threat>> {
    let list = match details.get("threats") {
        None => return Ok(Vec::new()),
        Some(Node::List(list)) => list,
        Some(other) => return Err(unreadable(format!("`threats` should be a list, and is {}", other.kind()))),
    };
    let threat = |node: &Node| match node {
        Node::Object(threat) => {
            Ok(Threat { signature: threat.required("name")?.to_owned(), layer_path: name.to_owned() })
        }
        other => Err(unreadable(format!("a threat should be an object, and is {}", other.kind()))),
    };
    list.iter().map(threat).collect()
}
