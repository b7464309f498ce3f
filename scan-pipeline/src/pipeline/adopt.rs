//! Verdicts of scanners that are not ours.

use super::{Again, Attended, Pipeline, Round};
use crate::model::{EngineInfo, ObjectRef, Reason, ReasonKind, Report, TaskId, Verdict};
use crate::store::Claim;
use crate::{ErrorKind, Result};

impl Pipeline {
    /// Does what has to follow from a verdict that somebody else came to, by the same policy and as the same task as if
    /// the object had been scanned here. What was handled before is not handled again.
    ///
    /// A verdict that does not say which state of the object it is about counts for nothing: what is there is scanned.
    ///
    /// The scanner's "clean" comes without a proof. So it is unscannable here ([`ReasonKind::Unproven`]), and what follows
    /// is up to the policy ([`Policy::accept_unproven`](crate::Policy::accept_unproven)).
    ///
    /// # Errors
    ///
    /// As [`Pipeline::attend`].
    pub async fn adopt(&self, object: ObjectRef, verdict: Verdict, scanner: EngineInfo) -> Result<Attended> {
        if !object.is_pinned() {
            // It does not say which bytes it is about, and others may be there by now.
            return self.attend(object, &Again::Never).await;
        }
        let permit = self.permit().await?;
        let now = match self.shared.buckets.of(&object)?.stat(&object).await {
            Ok(info) => info.object,
            // The verdict is about bytes that are not there any more. What is there has an event of its own, and a scan
            // here does no harm.
            Err(why) if matches!(why.kind(), ErrorKind::Superseded | ErrorKind::Gone) => {
                return self.attend(object, &Again::Never).await;
            }
            Err(why) => return Err(why.about(object.to_string())),
        };
        let round = match self.claim(TaskId::of(&now, 0), &now).await? {
            Claim::Mine(lease, record) if record.report.is_none() => {
                let report = adopted(&now, verdict, scanner);
                self.follow(self.held(lease, &permit), *record, (report, None)).await?
            }
            claim => self.claimed(claim, &now, &permit).await?,
        };
        match round {
            Round::Ended(done) => Ok(Attended::Done(done)),
            Round::Known(known) => Ok(Attended::Known(known)),
            Round::Superseded | Round::Alone => {
                drop(permit);
                self.attend(object.unpinned(), &Again::Never).await
            }
        }
    }
}

fn adopted(object: &ObjectRef, verdict: Verdict, scanner: EngineInfo) -> Report {
    let verdict = match verdict {
        Verdict::Clean => {
            let detail = Some(format!("{} says clean, and no proof comes with it", scanner.name));
            let layer_path = object.file_name().to_owned();
            Verdict::Unscannable { reasons: vec![Reason { kind: ReasonKind::Unproven, layer_path, detail }] }
        }
        verdict => verdict,
    };
    let mut report = Report::new(verdict, scanner);
    if let Verdict::Unscannable { reasons } = &report.verdict {
        report.coverage.gaps.clone_from(reasons);
        report.coverage.gap_count = reasons.len() as u64;
    }
    report.size = object.size;
    report
}
