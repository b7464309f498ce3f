//! Workflows: what follows from a verdict, as named steps in sequence and in parallel.
//!
//! A workflow is data. Each step is journalled under its name, so a restart skips what is done and begins where the
//! last process stopped; what is under way can be shown ([`Run`]). Names are therefore for life: a step that gets
//! another name is another step.

mod run;
mod show;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::handler::ResultHandler;
use crate::{Error, ErrorKind, Result};

pub(crate) use run::{Ended, Runner, has_moved, place_before};
pub use show::{Run, RunNode};

/// A tree of named steps.
///
/// ```
/// use scan_pipeline::handler::{StepOutput, from_fn};
/// use scan_pipeline::workflow::{Step, Workflow};
///
/// # let handler = |name: &str| from_fn(name, |_, _| async { Ok(StepOutput::none()) });
/// let report = Workflow::new("report")
///     .then(handler("mark"))
///     .then(handler("ticket"))
///     .parallel([
///         Step::new(handler("store-ticket")).into(),
///         Step::new(handler("audit-event")).then(handler("store-event-id")),
///         Step::new(handler("mail")).then(handler("store-mail-id")),
///     ]);
/// assert!(report.check().is_ok());
/// ```
#[derive(Debug, Clone)]
pub struct Workflow {
    name: String,
    root: Branch,
    on_fatal: Option<Arc<Workflow>>,
}

/// Steps in sequence, for one arm of a parallel part.
#[derive(Debug, Clone, Default)]
pub struct Branch(pub(crate) Vec<Node>);

#[derive(Debug, Clone)]
pub(crate) enum Node {
    Step(Step),
    Parallel(Vec<Branch>),
}

/// One step: a handler, its name, and how it is retried.
#[derive(Clone)]
pub struct Step {
    pub(crate) name: String,
    pub(crate) handler: Arc<dyn ResultHandler>,
    pub(crate) retry: RetryPolicy,
    pub(crate) timeout: Duration,
}

/// How often, and how far apart, something is tried: exponential, with jitter, capped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryPolicy {
    /// Attempts in all, the first included. Default 8.
    pub max_attempts: u32,
    /// Time before the second attempt. Default half a second.
    pub initial: Duration,
    /// Each time this much longer. Default 2.
    pub factor: f64,
    /// Never longer than this. Default 5 minutes.
    pub cap: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { max_attempts: 8, initial: Duration::from_millis(500), factor: 2.0, cap: Duration::from_secs(300) }
    }
}

impl RetryPolicy {
    /// One attempt.
    pub const fn never() -> Self {
        Self { max_attempts: 1, initial: Duration::ZERO, factor: 1.0, cap: Duration::ZERO }
    }

    /// The time to wait after a failed attempt (1 for the first): between half and the whole of the exponential
    /// time, at random, so that what failed together does not come back together; and not less than the other side
    /// asked for. `None` when it was the last.
    pub fn wait(&self, attempt: u32, asked: Option<Duration>) -> Option<Duration> {
        if attempt >= self.max_attempts {
            return None;
        }
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let whole = (self.initial.as_secs_f64() * self.factor.max(1.0).powi(exponent)).min(self.cap.as_secs_f64());
        let wait = Duration::try_from_secs_f64(whole * (0.5 + fastrand::f64() / 2.0)).unwrap_or(self.cap);
        // The other side's wish is capped as well: a day in a header would stop the step for a day.
        Some(wait.max(asked.unwrap_or_default().min(self.cap.max(Duration::from_secs(3600)))))
    }
}

impl Workflow {
    /// One without steps: nothing follows.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), root: Branch::default(), on_fatal: None }
    }

    /// Adds a step behind what is there.
    #[must_use]
    pub fn then(mut self, step: impl Into<Step>) -> Self {
        self.root.0.push(Node::Step(step.into()));
        self
    }

    /// Adds branches behind what is there. All of them run to their ends, at the same time, whatever becomes of the
    /// others; then comes what follows.
    #[must_use]
    pub fn parallel(mut self, branches: impl IntoIterator<Item = Branch>) -> Self {
        self.root.0.push(Node::Parallel(branches.into_iter().collect()));
        self
    }

    /// What runs when a step has failed for good, before the task is dead.
    #[must_use]
    pub fn on_fatal(mut self, workflow: impl Into<Arc<Self>>) -> Self {
        self.on_fatal = Some(workflow.into());
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What runs when a step has failed for good.
    pub fn fatal(&self) -> Option<&Self> {
        self.on_fatal.as_deref()
    }

    /// Checks that every step has a name of its own.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`], naming the step.
    pub fn check(&self) -> Result<()> {
        if self.name.is_empty() {
            return Err(Error::new(ErrorKind::Config, "a workflow needs a name"));
        }
        let mut seen = BTreeSet::new();
        for step in self.root.steps() {
            if step.name.is_empty() || !seen.insert(&step.name) {
                let why =
                    format!("two steps are named {:?}: give one of them another name with Step::named", step.name);
                return Err(Error::new(ErrorKind::Config, why).about(format!("workflow {}", self.name)));
            }
            if step.retry.max_attempts == 0 || step.timeout.is_zero() {
                let why = format!("step {:?} can never run: it has no attempt or no time", step.name);
                return Err(Error::new(ErrorKind::Config, why).about(format!("workflow {}", self.name)));
            }
        }
        match &self.on_fatal {
            None => Ok(()),
            Some(fatal) if fatal.name == self.name => {
                Err(Error::new(ErrorKind::Config, "the workflow for fatal errors needs a name of its own")
                    .about(format!("workflow {}", self.name)))
            }
            Some(fatal) => fatal.check(),
        }
    }

    pub(crate) fn root(&self) -> &Branch {
        &self.root
    }
}

impl Branch {
    /// Adds a step behind what is there.
    #[must_use]
    pub fn then(mut self, step: impl Into<Step>) -> Self {
        self.0.push(Node::Step(step.into()));
        self
    }

    /// Every step in it.
    pub(crate) fn steps(&self) -> Vec<&Step> {
        self.0
            .iter()
            .flat_map(|node| match node {
                Node::Step(step) => vec![step],
                Node::Parallel(branches) => branches.iter().flat_map(Branch::steps).collect(),
            })
            .collect()
    }
}

impl From<Step> for Branch {
    fn from(step: Step) -> Self {
        Self(vec![Node::Step(step)])
    }
}

impl Step {
    /// A step with the handler's name, 8 attempts and a minute for each.
    pub fn new(handler: impl ResultHandler) -> Self {
        Self::shared(Arc::new(handler))
    }

    /// The same for a handler that is shared.
    pub fn shared(handler: Arc<dyn ResultHandler>) -> Self {
        Self {
            name: handler.name().to_owned(),
            handler,
            retry: RetryPolicy::default(),
            timeout: Duration::from_secs(60),
        }
    }

    /// Gives it a name of its own.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets how it is retried.
    #[must_use]
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// Sets the time for one attempt.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// A branch of this step and another behind it.
    #[must_use]
    pub fn then(self, step: impl Into<Self>) -> Branch {
        Branch::from(self).then(step)
    }
}

impl<H: ResultHandler> From<H> for Step {
    fn from(handler: H) -> Self {
        Self::new(handler)
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, retry, timeout, .. } = self;
        f.debug_struct("Step").field("name", name).field("retry", retry).field("timeout", timeout).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::{StepOutput, from_fn};

    fn step(name: &str) -> Step {
        Step::new(from_fn(name, |_, _| async { Ok(StepOutput::none()) }))
    }

    #[test]
    fn names_are_unique_over_the_whole_tree() {
        assert!(Workflow::new("w").then(step("a")).parallel([step("b").then(step("c"))]).check().is_ok());
        let twice = Workflow::new("w").then(step("a")).parallel([step("b").then(step("a"))]);
        let error = twice.check().expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("\"a\""), "{error}");
        assert!(Workflow::new("w").on_fatal(Workflow::new("w")).check().is_err());
        assert!(Workflow::new("").check().is_err());
    }

    #[test]
    fn waits_grow_to_the_cap_and_end() {
        let retry = RetryPolicy {
            max_attempts: 5,
            initial: Duration::from_secs(1),
            factor: 10.0,
            cap: Duration::from_secs(20),
        };
        for (attempt, whole) in [(1, 1.0), (2, 10.0), (3, 20.0), (4, 20.0)] {
            let wait = retry.wait(attempt, None).expect("another attempt").as_secs_f64();
            assert!((whole / 2.0..=whole).contains(&wait), "{attempt}: {wait}");
        }
        assert_eq!(retry.wait(5, None), None);
        assert_eq!(retry.wait(1, Some(Duration::from_secs(90))), Some(Duration::from_secs(90)));
        let year = Duration::from_secs(31_536_000);
        assert_eq!(retry.wait(1, Some(year)), Some(Duration::from_secs(3600)));
    }
}
