//! Which workflow follows which verdict.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{ReasonKind, Report, Verdict};
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
    accept_unproven: bool,
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
            _ if self.admits(report) => self.clean.as_ref(),
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
        let named = [&self.clean, &self.infected, &self.unscannable].into_iter().flatten();
        named.chain(self.unscannable_for.values()).find(|workflow| workflow.name() == name).cloned()
    }

    /// Every workflow in it, those for fatal errors included.
    pub fn workflows(&self) -> impl Iterator<Item = &Workflow> {
        let named = [&self.clean, &self.infected, &self.unscannable].into_iter().flatten();
        named.chain(self.unscannable_for.values()).flat_map(|workflow| [Some(&**workflow), workflow.fatal()]).flatten()
    }

    /// Checks every workflow, and that no two share a name: the journal knows them by it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`], naming the workflow.
    pub fn check(&self) -> Result<()> {
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
        let mut lines = vec![
            format!("clean: {}", follows(self.clean.as_ref())),
            format!("infected: {}", follows(self.infected.as_ref())),
        ];
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
mod tests {
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
}
