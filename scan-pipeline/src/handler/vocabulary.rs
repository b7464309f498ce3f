//! Verdicts as tags, in the words of this and of other scanners.

use super::Scanned;
use crate::model::{Report, Tags, Verdict};

/// What a tag says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fact {
    /// The verdict, as one of the three words of [`Vocabulary::words`].
    Status,
    /// The first signature that matched; no tag where none did.
    Threat,
    /// The same, and `OK` on what is clean.
    ThreatOrOk,
    /// Why it is unscannable: the kind of the first reason, such as `encrypted`.
    Reason,
    /// How many findings of sensitive data there are; no tag where there are none, or nobody looked.
    Findings,
    /// The detectors that found something, such as `credit_card ssn`; with `and more` where findings are not listed.
    Detectors,
    /// The generation of the engine's definitions.
    Definitions,
    /// The SHA-256 of what was scanned.
    Sha256,
    /// The task's id.
    Task,
}

/// Which tags say what a scan found: names and facts from most to least important, and the words for the verdicts.
///
/// An object has at most 10 tags. The user's stay, so the least important of these are left out where there is no room.
///
/// No tag says when: a repeated call has to write the same tags as the first, and a report has no time of day. The
/// time of a scan is in the store, under the task.
///
/// ```
/// use scan_pipeline::handler::{Fact, Vocabulary};
///
/// let ours = Vocabulary::new("virus-check", Fact::Status).words("passed", "virus", "unknown").and("virus-name", Fact::Threat);
/// assert_eq!(ours.names().collect::<Vec<_>>(), ["virus-check", "virus-name"]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vocabulary {
    tags: Vec<(String, Fact)>,
    clean: String,
    infected: String,
    unscannable: String,
    accept_unproven: bool,
}

impl Default for Vocabulary {
    /// `scan-status` = `clean`, `infected` or `unscannable`, `scan-threat`, `scan-reason`, `scan-findings` (their number)
    /// and `scan-definitions`.
    fn default() -> Self {
        Self::new("scan-status", Fact::Status)
            .and("scan-threat", Fact::Threat)
            .and("scan-reason", Fact::Reason)
            .and("scan-findings", Fact::Findings)
            .and("scan-definitions", Fact::Definitions)
    }
}

impl Vocabulary {
    /// One tag, with the words `clean`, `infected` and `unscannable`.
    pub fn new(name: impl Into<String>, fact: Fact) -> Self {
        let [clean, infected, unscannable] = ["clean", "infected", "unscannable"].map(String::from);
        Self { tags: vec![(name.into(), fact)], clean, infected, unscannable, accept_unproven: false }
    }

    /// `av-status` = `CLEAN`, `INFECTED` or `UNSCANNABLE`, and `av-signature`, as scanners in Lambda functions write
    /// them. They have no word for what could not be scanned: readers have to ask for `CLEAN`, not for the absence of
    /// `INFECTED`; where one asks the latter, give [`words`](Self::words) with `INFECTED` for both. Their
    /// `av-timestamp` is left out: see the type's page.
    pub fn av_status() -> Self {
        Self::new("av-status", Fact::Status)
            .words("CLEAN", "INFECTED", "UNSCANNABLE")
            .and("av-signature", Fact::ThreatOrOk)
    }

    /// `scan-status` = `CLEAN`, `INFECTED` or `ERROR`, and nothing else.
    pub fn scan_status() -> Self {
        Self::new("scan-status", Fact::Status).words("CLEAN", "INFECTED", "ERROR")
    }

    /// `clamav-status` = `clean`, `infected` or `unscannable`.
    pub fn clamav_status() -> Self {
        Self::new("clamav-status", Fact::Status)
    }

    /// `GuardDutyMalwareScanStatus` = `NO_THREATS_FOUND`, `THREATS_FOUND` or `UNSUPPORTED`, as GuardDuty writes it.
    /// A policy of the account may keep everyone but GuardDuty from writing it.
    pub fn guard_duty() -> Self {
        let name = "GuardDutyMalwareScanStatus";
        Self::new(name, Fact::Status).words("NO_THREATS_FOUND", "THREATS_FOUND", "UNSUPPORTED")
    }

    /// Adds a tag that is less important than those before it.
    #[must_use]
    pub fn and(mut self, name: impl Into<String>, fact: Fact) -> Self {
        self.tags.push((name.into(), fact));
        self
    }

    /// Leaves a tag out.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.tags.retain(|(each, _)| each != name);
        self
    }

    /// Sets the words for the verdicts.
    #[must_use]
    pub fn words(
        mut self,
        clean: impl Into<String>,
        infected: impl Into<String>,
        unscannable: impl Into<String>,
    ) -> Self {
        (self.clean, self.infected, self.unscannable) = (clean.into(), infected.into(), unscannable.into());
        self
    }

    /// Writes the word for clean on what [`Policy::accept_unproven`](crate::Policy::accept_unproven) lets through.
    /// Without it that is unscannable here, also in the workflow for what is clean.
    #[must_use]
    pub fn accept_unproven(mut self, accept: bool) -> Self {
        self.accept_unproven = accept;
        self
    }

    /// The names, from most to least important.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tags.iter().map(|(name, _)| name.as_str())
    }

    /// The tags for what was scanned, from most to least important.
    pub fn tags(&self, scanned: &Scanned) -> Vec<(String, String)> {
        let value = |fact| self.value(fact, scanned).filter(|value| !value.is_empty());
        self.tags.iter().filter_map(|(name, fact)| Some((name.clone(), value(*fact)?))).collect()
    }

    /// The same for an object that has these tags: what an earlier scan left there, and this one has nothing to say
    /// about, becomes `none`. A threat's name beside "clean" would contradict it, and a tag cannot be taken off.
    pub(crate) fn tags_over(&self, scanned: &Scanned, there: &Tags) -> Vec<(String, String)> {
        let mut tags = self.tags(scanned);
        for name in self.names() {
            if there.get(name).is_some() && !tags.iter().any(|(ours, _)| ours == name) {
                tags.push((String::from(name), String::from("none")));
            }
        }
        tags
    }

    fn value(&self, fact: Fact, scanned: &Scanned) -> Option<String> {
        let report = &*scanned.report;
        let clean = self.is_clean(report);
        match fact {
            Fact::Status => Some(match &report.verdict {
                Verdict::Infected { .. } => self.infected.clone(),
                _ if clean => self.clean.clone(),
                Verdict::Clean | Verdict::Unscannable { .. } => self.unscannable.clone(),
            }),
            Fact::Threat => first_threat(report),
            Fact::ThreatOrOk => first_threat(report).or_else(|| clean.then(|| String::from("OK"))),
            Fact::Reason => match &report.verdict {
                Verdict::Unscannable { reasons } => reasons.first().map(|reason| reason.kind.to_string()),
                Verdict::Clean if !report.coverage.proven => Some(String::from("unproven")),
                Verdict::Clean | Verdict::Infected { .. } => None,
            },
            Fact::Findings => Some(report.finding_count()).filter(|count| *count > 0).map(|count| count.to_string()),
            Fact::Detectors => {
                let mut names: Vec<_> = report.findings_by_detector().into_keys().collect();
                if report.findings_omitted > 0 {
                    names.push("and more");
                }
                Some(names.join(" "))
            }
            Fact::Definitions => Some(report.engine.generation.clone()),
            Fact::Sha256 => report.sha256.map(|sha256| sha256.to_string()),
            Fact::Task => Some(scanned.task.to_string()),
        }
    }

    fn is_clean(&self, report: &Report) -> bool {
        crate::Policy::new().accept_unproven(self.accept_unproven).admits(report)
    }
}

fn first_threat(report: &Report) -> Option<String> {
    match &report.verdict {
        Verdict::Infected { threats } => threats.first().map(|threat| threat.signature.clone()),
        Verdict::Clean | Verdict::Unscannable { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::fixture::{clean, infected, scanned, unscannable};
    use crate::model::Finding;

    fn written(vocabulary: &Vocabulary, report: Report) -> Vec<(String, String)> {
        vocabulary.tags(&scanned(report))
    }

    fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, String)> {
        pairs.map(|(name, value)| (String::from(name), String::from(value))).to_vec()
    }

    #[test]
    fn the_standard_words() {
        let standard = Vocabulary::default();
        assert_eq!(written(&standard, clean()), pairs([("scan-status", "clean"), ("scan-definitions", "g1")]));
        let expected = [("scan-status", "infected"), ("scan-threat", "{HEX}Test"), ("scan-definitions", "g1")];
        assert_eq!(written(&standard, infected()), pairs(expected));
        let expected = [("scan-status", "unscannable"), ("scan-reason", "encrypted"), ("scan-definitions", "g1")];
        assert_eq!(written(&standard, unscannable()), pairs(expected));
    }

    #[test]
    fn the_words_of_others() {
        for (vocabulary, words) in [
            (Vocabulary::av_status(), ["CLEAN", "INFECTED", "UNSCANNABLE"]),
            (Vocabulary::scan_status(), ["CLEAN", "INFECTED", "ERROR"]),
            (Vocabulary::clamav_status(), ["clean", "infected", "unscannable"]),
            (Vocabulary::guard_duty(), ["NO_THREATS_FOUND", "THREATS_FOUND", "UNSUPPORTED"]),
        ] {
            for (report, word) in [clean(), infected(), unscannable()].into_iter().zip(words) {
                assert_eq!(written(&vocabulary, report)[0].1, word, "{vocabulary:?}");
            }
        }
        assert_eq!(written(&Vocabulary::av_status(), clean())[1].1, "OK");
        assert_eq!(written(&Vocabulary::av_status(), infected())[1].1, "{HEX}Test");
        assert_eq!(written(&Vocabulary::av_status(), unscannable()).len(), 1);
    }

    #[test]
    fn findings_are_counted_and_never_shown() {
        let mut report = clean();
        let found = Vocabulary::default().and("found", Fact::Detectors);
        assert_eq!(written(&found, report.clone()), written(&Vocabulary::default(), clean()));
        report.findings = ["ssn", "credit_card", "ssn"]
            .map(|detector| Finding {
                detector: String::from(detector),
                masked_match: String::from("***-**-1234"),
                ..Finding::default()
            })
            .to_vec();
        let expected = [("scan-status", "clean"), ("scan-findings", "3"), ("scan-definitions", "g1")];
        assert_eq!(written(&Vocabulary::default(), report.clone()), pairs(expected));
        assert_eq!(written(&found, report.clone())[3].1, "credit_card ssn");
        report.findings_omitted = 4;
        assert_eq!(
            (&*written(&found, report.clone())[1].1, &*written(&found, report)[3].1),
            ("7", "credit_card ssn and more")
        );
    }

    #[test]
    fn clean_without_proof_is_not_called_clean() {
        let mut bare = clean();
        bare.coverage.proven = false;
        let standard = Vocabulary::default();
        assert_eq!(
            written(&standard, bare.clone())[..2],
            pairs([("scan-status", "unscannable"), ("scan-reason", "unproven")])
        );
        assert_eq!(written(&standard.accept_unproven(true), bare)[0].1, "clean");
    }

    #[test]
    fn what_an_earlier_scan_left_is_not_left_standing() {
        let there = Tags::from([("scan-status", "infected"), ("scan-threat", "Old"), ("owner", "me")]);
        let tags = Vocabulary::default().tags_over(&scanned(clean()), &there);
        let expected = [("scan-status", "clean"), ("scan-definitions", "g1"), ("scan-threat", "none")];
        assert_eq!(tags, pairs(expected));
    }
}
