//! What a configuration will do, in words.

use super::Config;
use super::units::show_duration;
use super::workflows::{LEAVE, NodeSpec};
use crate::model::ReasonKind;

impl Config {
    /// What the pipeline will do, as lines for people.
    pub fn explain(&self) -> Vec<String> {
        let mut lines: Vec<String> =
            self.engines.iter().map(|engine| format!("scan with {}", engine.describe())).collect();
        if let Some(detect) = &self.detect {
            lines.push(format!("look for sensitive data: {}", detect.names().join(", ")));
        }
        lines.push(format!("keep tasks, steps and the audit log in {}", self.store));
        for bucket in &self.buckets {
            let place = bucket.place.describe();
            lines.push(match bucket.watch.as_deref() {
                None => format!("bucket {}: {place}", bucket.name),
                Some("") => format!("bucket {}: {place}, everything in it is scanned", bucket.name),
                Some(prefix) => format!("bucket {}: {place}, what is under {prefix:?} is scanned", bucket.name),
            });
        }
        let policy = &self.policy;
        for rule in &policy.findings {
            self.follows(&mut lines, &format!("clean, with {}", rule.describe()), Some(&rule.workflow));
        }
        self.follows(&mut lines, "clean", policy.clean.as_deref());
        if policy.accept_unproven {
            let all = ReasonKind::Unproven;
            lines.push(format!("when it is unscannable for no other reason than {all}: as when it is clean"));
        }
        self.follows(&mut lines, "infected", policy.infected.as_deref());
        for (reason, workflow) in &policy.unscannable_for {
            self.follows(&mut lines, &format!("unscannable because of {reason} alone"), Some(workflow));
        }
        let rest = match policy.unscannable_for.is_empty() {
            true => "unscannable",
            false => "unscannable for another reason, or several",
        };
        self.follows(&mut lines, rest, policy.unscannable.as_deref());
        lines
    }

    fn follows(&self, lines: &mut Vec<String>, verdict: &str, workflow: Option<&str>) {
        let spec = workflow.and_then(|name| Some((name, self.workflows.get(name)?)));
        let Some((name, spec)) = spec else {
            let meant = if workflow == Some(LEAVE) { "" } else { ", because the policy names no workflow" };
            lines.push(format!("when it is {verdict}: it is left where it is{meant}"));
            return;
        };
        lines.push(format!("when it is {verdict}: workflow {name}"));
        self.steps(lines, &spec.steps);
        if !spec.on_fatal.is_empty() {
            lines.push(String::from("  and when one of these fails for good:"));
            self.steps(lines, &spec.on_fatal);
        }
    }

    fn steps(&self, lines: &mut Vec<String>, nodes: &[NodeSpec]) {
        let bucket = |name: &str| {
            let bucket = self.buckets.iter().find(|bucket| bucket.name == name)?;
            Some(bucket.place.describe())
        };
        for (index, node) in nodes.iter().enumerate() {
            let number = index + 1;
            match node {
                NodeSpec::Step(step) => lines.push(format!("  {number}. {}", step.describe(&bucket))),
                NodeSpec::Parallel(branches) => {
                    lines.push(format!("  {number}. side by side:"));
                    for branch in branches {
                        let all: Vec<_> = branch.iter().map(|step| step.describe(&bucket)).collect();
                        lines.push(format!("     - {}", all.join(", then ")));
                    }
                }
            }
        }
    }

    /// How `run` works, as one line.
    pub fn explain_run(&self) -> String {
        format!(
            "`run` looks at the watched buckets every {}, and waits up to {} for workflows at its end",
            show_duration(self.run.interval),
            show_duration(self.run.drain)
        )
    }
}
