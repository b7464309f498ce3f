//! Showing a run: the tree with each step's state, attempt, last error and output.

use std::fmt;

use serde::Serialize;

use super::{Branch, Node, Workflow};
use crate::model::Timestamp;
use crate::store::{StepRecord, StepState};

/// A workflow with what has become of its steps, before, during and after. It displays as a tree.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// The workflow.
    pub workflow: String,
    /// Its steps.
    pub nodes: Vec<RunNode>,
    /// The workflow for fatal errors, once one of its steps has begun.
    pub on_fatal: Option<Box<Run>>,
}

/// A step, or branches side by side.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunNode {
    /// A step.
    Step {
        /// Its name.
        name: String,
        /// What has become of it; `None` when it has not begun.
        state: Option<StepState>,
        /// How often it was begun.
        attempt: u32,
        /// Its last error.
        error: Option<String>,
        /// What it gave.
        output: Option<serde_json::Value>,
        /// When it will be tried again.
        next_at: Option<Timestamp>,
    },
    /// Branches side by side.
    Parallel(Vec<Vec<RunNode>>),
}

impl Run {
    /// The tree of a workflow with the journal of a task.
    pub fn new(workflow: &Workflow, steps: &[StepRecord]) -> Self {
        let ours: Vec<_> = steps.iter().filter(|step| step.workflow == workflow.name()).collect();
        let on_fatal = workflow
            .fatal()
            .filter(|fatal| steps.iter().any(|step| step.workflow == fatal.name()))
            .map(|fatal| Box::new(Self::new(fatal, steps)));
        Self { workflow: workflow.name().to_owned(), nodes: nodes(workflow.root(), &ours), on_fatal }
    }

    /// The run of a workflow that is not set up any more: its steps in the order of their beginning.
    pub fn of_unknown(workflow: &str, steps: &[StepRecord]) -> Self {
        let nodes = steps.iter().filter(|step| step.workflow == workflow).map(|step| node(&step.step, Some(step)));
        Self { workflow: workflow.to_owned(), nodes: nodes.collect(), on_fatal: None }
    }
}

fn nodes(branch: &Branch, steps: &[&StepRecord]) -> Vec<RunNode> {
    branch
        .0
        .iter()
        .map(|each| match each {
            Node::Step(step) => node(&step.name, steps.iter().find(|record| record.step == step.name).copied()),
            Node::Parallel(branches) => RunNode::Parallel(branches.iter().map(|branch| nodes(branch, steps)).collect()),
        })
        .collect()
}

fn node(name: &str, record: Option<&StepRecord>) -> RunNode {
    RunNode::Step {
        name: name.to_owned(),
        state: record.map(|record| record.state),
        attempt: record.map_or(0, |record| record.attempt),
        error: record.and_then(|record| record.error.clone()),
        output: record.and_then(|record| record.output.as_ref()).map(|output| output.value.clone()),
        next_at: record.and_then(|record| record.next_at),
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.workflow)?;
        write_nodes(f, &self.nodes, "")?;
        match &self.on_fatal {
            Some(fatal) => write!(f, "{fatal}"),
            None => Ok(()),
        }
    }
}

fn write_nodes(f: &mut fmt::Formatter<'_>, nodes: &[RunNode], indent: &str) -> fmt::Result {
    for (i, node) in nodes.iter().enumerate() {
        let last = i + 1 == nodes.len();
        let (corner, below) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        match node {
            RunNode::Parallel(branches) => {
                writeln!(f, "{indent}{corner}side by side")?;
                for (j, branch) in branches.iter().enumerate() {
                    let (corner, deeper) =
                        if j + 1 == branches.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
                    writeln!(f, "{indent}{below}{corner}branch {}", j + 1)?;
                    write_nodes(f, branch, &format!("{indent}{below}{deeper}"))?;
                }
            }
            RunNode::Step { name, state, attempt, error, next_at, .. } => {
                write!(f, "{indent}{corner}{name}: {}", state.map_or("not begun", StepState::as_str))?;
                if *attempt > 1 {
                    write!(f, ", attempt {attempt}")?;
                }
                if let Some(next_at) = next_at {
                    write!(f, ", again at {next_at}")?;
                }
                if let Some(error) = error {
                    // Errors carry strangers' words: one line, whatever is in them.
                    write!(f, " ({})", error.escape_debug())?;
                }
                writeln!(f)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::{StepOutput, from_fn};
    use crate::workflow::Step;

    #[test]
    fn a_run_is_shown_as_a_tree() {
        let step = |name: &str| Step::new(from_fn(name, |_, _| async { Ok(StepOutput::none()) }));
        let workflow =
            Workflow::new("report").then(step("mark")).parallel([step("a").then(step("b")), step("c").into()]);
        let record = |name: &str, state, attempt, error: Option<&str>| StepRecord {
            workflow: String::from("report"),
            step: String::from(name),
            state,
            attempt,
            output: None,
            error: error.map(str::to_owned),
            next_at: None,
            updated: Timestamp(0),
        };
        let steps = [
            record("mark", StepState::Done, 1, None),
            record("a", StepState::Waiting, 3, Some("503\nnot now")),
            record("c", StepState::Running, 1, None),
        ];
        let expected = "\
report
├─ mark: done
└─ side by side
   ├─ branch 1
   │  ├─ a: waiting, attempt 3 (503\\nnot now)
   │  └─ b: not begun
   └─ branch 2
      └─ c: running
";
        assert_eq!(Run::new(&workflow, &steps).to_string(), expected);
    }
}
