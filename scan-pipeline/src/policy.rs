//! Which workflow follows which verdict.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{Finding, ReasonKind, Report, Verdict};
use crate::workflow::Workflow;
use crate::{Error, ErrorKind, Result};

/// Which [`Workflow`] follows which [`Verdict`].
///
/// What no workflow is named for is left where it is: an object in quarantine stays there. That is said in the log when
/// a pipeline is built, and by [`Policy::explain`]. Verdicts may share a workflow, as clones of one `Arc`.
///
/// ```
/// use scan_pipeline::Policy;
/// use scan_pipeline::handler::relocate;
/// use scan_pipeline::model::ReasonKind;
/// use scan_pipeline::workflow::Workflow;
///
/// let policy = Policy::new()
///     .clean(Workflow::new("release").then(relocate("clean")))
///     .infected(Workflow::new("isolate").then(relocate("infected")))
///     .unscannable_for(ReasonKind::Encrypted, Workflow::new("ask-for-password"));
/// assert_eq!(policy.explain().last().unwrap(), "unscannable for another reason: left where it is");
/// ```
#[derive(Debug, Clone, Default)]
pub struct Policy {
    clean: Option<Arc<Workflow>>,
    infected: Option<Arc<Workflow>>,
    unscannable: Option<Arc<Workflow>>,
    unscannable_for: BTreeMap<ReasonKind, Arc<Workflow>>,
    findings: Vec<FindingsRule>,
    accept_unproven: bool,
}

/// What follows when it is clean, but with findings such as these.
#[derive(Debug, Clone)]
struct FindingsRule {
    /// Empty for all.
    detectors: Vec<String>,
    min_confidence: f64,
    workflow: Arc<Workflow>,
}

impl FindingsRule {
    /// Findings that are not listed may be any.
    fn matches(&self, report: &Report) -> bool {
        let asked = |finding: &Finding| {
            let detector = self.detectors.is_empty() || self.detectors.contains(&finding.detector);
            // One that is no number is none to rely on.
            detector && (finding.confidence >= self.min_confidence || finding.confidence.is_nan())
        };
        report.findings_omitted > 0 || report.findings.iter().any(asked)
    }

    /// The rule in words, without its workflow.
    fn explain(&self) -> String {
        let what = if self.detectors.is_empty() { String::from("findings") } else { self.detectors.join(" or ") };
        match self.min_confidence > 0.0 {
            true => format!("clean, with {what} from a confidence of {}", self.min_confidence),
            false => format!("clean, with {what}"),
        }
    }
}

impl Policy {
    /// Everything is left where it is.
    pub fn new() -> Self {
        Self::default()
    }

    /// What follows when it is clean, with proof.
    #[must_use]
    pub fn clean(mut self, workflow: impl Into<Arc<Workflow>>) -> Self {
        self.clean = Some(workflow.into());
        self
    }

    /// What follows when it is clean, but with findings of sensitive data at or above this confidence (0 to 1; 0 for
    /// any). Of several such rules the first that matches counts. What is infected or unscannable follows its own
    /// workflow, whatever else was found in it.
    ///
    /// A report lists so many findings and no more. Where it leaves some out, they may be any, and every rule matches.
    ///
    /// ```
    /// use scan_pipeline::Policy;
    /// use scan_pipeline::handler::{relocate, tag};
    /// use scan_pipeline::workflow::Workflow;
    ///
    /// let policy = Policy::new()
    ///     .findings_of(["aws_secret_key"], 0.0, Workflow::new("revoke").then(relocate("secrets")))
    ///     .findings(0.8, Workflow::new("review").then(tag()).then(relocate("review")))
    ///     .clean(Workflow::new("release").then(relocate("clean")));
    /// assert_eq!(policy.explain()[1], "clean, with findings from a confidence of 0.8: workflow review");
    /// ```
    #[must_use]
    pub fn findings(self, min_confidence: f64, workflow: impl Into<Arc<Workflow>>) -> Self {
        self.findings_of::<String>([], min_confidence, workflow)
    }

    /// The same for findings of these detectors alone, such as `credit_card`.
    #[must_use]
    pub fn findings_of<D: Into<String>>(
        mut self,
        detectors: impl IntoIterator<Item = D>,
        min_confidence: f64,
        workflow: impl Into<Arc<Workflow>>,
    ) -> Self {
        let detectors = detectors.into_iter().map(Into::into).collect();
        self.findings.push(FindingsRule { detectors, min_confidence, workflow: workflow.into() });
        self
    }

    /// What follows when it is infected.
    #[must_use]
    pub fn infected(mut self, workflow: impl Into<Arc<Workflow>>) -> Self {
        self.infected = Some(workflow.into());
        self
    }

    /// What follows when it is unscannable, for a reason that has no workflow of its own.
    #[must_use]
    pub fn unscannable(mut self, workflow: impl Into<Arc<Workflow>>) -> Self {
        self.unscannable = Some(workflow.into());
        self
    }

    /// What follows when it is unscannable for this reason and for no other that has another workflow.
    #[must_use]
    pub fn unscannable_for(mut self, reason: ReasonKind, workflow: impl Into<Arc<Workflow>>) -> Self {
        self.unscannable_for.insert(reason, workflow.into());
        self
    }

    /// Treats what an engine found nothing in as clean although the engine cannot prove what it looked at (clamd).
    /// The report still says `unproven`.
    #[must_use]
    pub fn accept_unproven(mut self, accept: bool) -> Self {
        self.accept_unproven = accept;
        self
    }

    /// Whether the content may be handed on as clean.
    pub fn admits(&self, report: &Report) -> bool {
        match &report.verdict {
            // An engine that says clean without proof breaks its contract; it does not get through here either.
            Verdict::Clean => {
                let whole = report.coverage.gap_count == 0 && report.coverage.gaps.is_empty();
                whole && (report.coverage.proven || self.accept_unproven)
            }
            Verdict::Infected { .. } => false,
            Verdict::Unscannable { reasons } => {
                // What is not listed may be anything.
                let listed = report.coverage.gap_count <= reasons.len() as u64;
                let mut all = reasons.iter().chain(&report.coverage.gaps);
                self.accept_unproven
                    && listed
                    && !reasons.is_empty()
                    && all.all(|reason| reason.kind == ReasonKind::Unproven)
            }
        }
    }

    /// The workflow that follows; `None` leaves the object where it is.
    pub fn workflow(&self, report: &Report) -> Option<&Arc<Workflow>> {
        match &report.verdict {
            _ if self.admits(report) => {
                let rule = self.findings.iter().find(|rule| rule.matches(report));
                rule.map(|rule| &rule.workflow).or(self.clean.as_ref())
            }
            Verdict::Infected { .. } => self.infected.as_ref(),
            Verdict::Clean => self.unscannable.as_ref(),
            Verdict::Unscannable { reasons } => {
                // A rule for one reason must not let through what another reason holds back.
                let mut chosen = reasons.iter().map(|reason| self.unscannable_for.get(&reason.kind));
                let first = chosen.next().flatten();
                let listed = report.coverage.gap_count <= reasons.len() as u64;
                match first {
                    Some(first)
                        if listed && chosen.all(|other| other.is_some_and(|other| Arc::ptr_eq(other, first))) =>
                    {
                        Some(first)
                    }
                    _ => self.unscannable.as_ref(),
                }
            }
        }
    }

    /// A workflow that follows a verdict, by its name.
    pub(crate) fn shared_workflow(&self, name: &str) -> Option<Arc<Workflow>> {
        self.named().find(|workflow| workflow.name() == name).cloned()
    }

    /// Every workflow that something is said to follow, but for those of fatal errors.
    fn named(&self) -> impl Iterator<Item = &Arc<Workflow>> {
        let verdicts = [&self.clean, &self.infected, &self.unscannable].into_iter().flatten();
        verdicts.chain(self.unscannable_for.values()).chain(self.findings.iter().map(|rule| &rule.workflow))
    }

    /// Every workflow in it, those for fatal errors included.
    pub fn workflows(&self) -> impl Iterator<Item = &Workflow> {
        self.named().flat_map(|workflow| [Some(&**workflow), workflow.fatal()]).flatten()
    }

    /// Checks every workflow, that no two share a name, by which the journal knows them, and every confidence.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`], naming the workflow.
    pub fn check(&self) -> Result<()> {
        if let Some(rule) = self.findings.iter().find(|rule| !(0.0..=1.0).contains(&rule.min_confidence)) {
            let why = format!("a confidence is from 0 to 1, and here it is {}", rule.min_confidence);
            return Err(Error::new(ErrorKind::Config, why).about(format!("workflow {}", rule.workflow.name())));
        }
        let mut seen: BTreeMap<&str, &Workflow> = BTreeMap::new();
        for workflow in self.workflows() {
            workflow.check()?;
            if seen.insert(workflow.name(), workflow).is_some_and(|other| !std::ptr::eq(other, workflow)) {
                return Err(Error::new(ErrorKind::Config, "two workflows have this name; give one of them another")
                    .about(format!("workflow {}", workflow.name())));
            }
        }
        Ok(())
    }

    /// What happens with which verdict, one sentence each, for people.
    pub fn explain(&self) -> Vec<String> {
        let follows = |workflow: Option<&Arc<Workflow>>| match workflow {
            None => String::from("left where it is"),
            Some(workflow) => format!("workflow {}", workflow.name()),
        };
        let rule = |rule: &FindingsRule| format!("{}: {}", rule.explain(), follows(Some(&rule.workflow)));
        let mut lines: Vec<String> = self.findings.iter().map(rule).collect();
        lines.push(format!("clean: {}", follows(self.clean.as_ref())));
        lines.push(format!("infected: {}", follows(self.infected.as_ref())));
        if self.accept_unproven {
            lines.push(String::from("unproven: as clean"));
        }
        for (reason, workflow) in &self.unscannable_for {
            lines.push(format!("unscannable ({reason}): {}", follows(Some(workflow))));
        }
        let rest = if self.unscannable_for.is_empty() { "unscannable" } else { "unscannable for another reason" };
        lines.push(format!("{rest}: {}", follows(self.unscannable.as_ref())));
        lines
    }

    /// The verdicts for which nothing is named, as words.
    pub fn left_alone(&self) -> Vec<&'static str> {
        [("clean", &self.clean), ("infected", &self.infected), ("unscannable", &self.unscannable)]
            .into_iter()
            .filter_map(|(verdict, workflow)| workflow.is_none().then_some(verdict))
            .collect()
    }
}

#[cfg(test)]
mod tests;
