//! `[workflow.*]` and `[policy]`: what follows from a verdict.

use std::collections::BTreeMap;

use super::buckets::BucketSpec;
use super::detect::DetectSpec;
use super::problem::{Severity, hint};
use super::read::{Item, Reader, Section};
use super::steps::{Action, StepSpec, step};
use super::text::Text;
use crate::engine::Detector;
use crate::model::ReasonKind;

/// A workflow by its table.
#[derive(Debug, Clone, Default)]
pub(super) struct WorkflowSpec {
    pub(super) steps: Vec<NodeSpec>,
    pub(super) on_fatal: Vec<NodeSpec>,
    at: usize,
}

/// A step, or branches side by side.
#[derive(Debug, Clone)]
pub(super) enum NodeSpec {
    Step(Box<StepSpec>),
    Parallel(Vec<Vec<StepSpec>>),
}

/// Which workflow follows which verdict, by name.
#[derive(Debug, Clone, Default)]
pub(super) struct PolicySpec {
    pub(super) clean: Option<String>,
    pub(super) infected: Option<String>,
    pub(super) unscannable: Option<String>,
    pub(super) unscannable_for: BTreeMap<ReasonKind, String>,
    pub(super) findings: Vec<FindingsSpec>,
    pub(super) accept_unproven: bool,
}

/// What follows when it is clean, with findings such as these.
#[derive(Debug, Clone)]
pub(super) struct FindingsSpec {
    pub(super) workflow: String,
    pub(super) min_confidence: f64,
    /// Empty for all.
    pub(super) detectors: Vec<String>,
}

impl FindingsSpec {
    /// Which findings, in words.
    pub(super) fn describe(&self) -> String {
        let what = if self.detectors.is_empty() { String::from("findings") } else { self.detectors.join(" or ") };
        match self.min_confidence > 0.0 {
            true => format!("{what} from a confidence of {}", self.min_confidence),
            false => what,
        }
    }
}

/// What says that nothing is to follow, and that this is meant: a workflow without steps.
pub(super) const LEAVE: &str = "leave";

impl WorkflowSpec {
    pub(super) fn all_steps(&self) -> impl Iterator<Item = &StepSpec> {
        self.steps.iter().chain(&self.on_fatal).flat_map(NodeSpec::all_steps)
    }
}

impl NodeSpec {
    pub(super) fn all_steps(&self) -> Vec<&StepSpec> {
        match self {
            Self::Step(step) => vec![step],
            Self::Parallel(branches) => branches.iter().flatten().collect(),
        }
    }
}

pub(super) fn workflows(
    root: &Section<'_>,
    buckets: &[BucketSpec],
    names: &[String],
) -> BTreeMap<String, WorkflowSpec> {
    let mut all = BTreeMap::new();
    let Some(section) = root.section("workflow") else { return all };
    for (name, at, item) in section.entries() {
        let Some(section) = item.section() else { continue };
        if name == LEAVE {
            item.mistake("`leave` is the word for no workflow: give it another name");
        }
        let spec = section.read(|workflow| {
            let list = |name| workflow.get(name).map(|item| nodes(&item)).unwrap_or_default();
            let (steps, on_fatal) = (list("steps"), list("on_fatal"));
            if !workflow.is_there("steps") {
                workflow.missing("steps", format!("is missing: write [[workflow.{name}.steps]] with do = \"...\""));
            }
            WorkflowSpec { steps, on_fatal, at }
        });
        unique(section.reader, &spec.steps);
        unique(section.reader, &spec.on_fatal);
        for step in spec.all_steps() {
            targets(section.reader, step, buckets, names);
        }
        order(section.reader, &spec);
        all.insert(name, spec);
    }
    all
}

fn nodes(item: &Item<'_>) -> Vec<NodeSpec> {
    item.list().unwrap_or_default().iter().filter_map(node).collect()
}

fn node(item: &Item<'_>) -> Option<NodeSpec> {
    let is_parallel = item.is_table() && item.section()?.is_there("parallel");
    if !is_parallel {
        return step(item).map(|step| NodeSpec::Step(Box::new(step)));
    }
    let branches = item.section()?.read(|section| {
        let parallel = section.get("parallel")?;
        let branches = parallel.list()?;
        if branches.is_empty() {
            parallel.mistake("has no branches: write parallel = [[{ do = \"...\" }], [{ do = \"...\" }]]");
        }
        Some(branches)
    })?;
    let branch = |branch: &Item<'_>| -> Vec<StepSpec> {
        // A branch of one step needs no brackets.
        if branch.is_table() {
            return step(branch).into_iter().collect();
        }
        branch.list().unwrap_or_default().iter().filter_map(step).collect()
    };
    Some(NodeSpec::Parallel(branches.iter().map(branch).collect()))
}

/// The journal knows steps by their names.
fn unique(reader: &Reader<'_>, nodes: &[NodeSpec]) {
    let mut seen: BTreeMap<&str, ()> = BTreeMap::new();
    for step in nodes.iter().flat_map(NodeSpec::all_steps) {
        if seen.insert(&step.name, ()).is_some() {
            let why = format!("another step of the workflow is named {:?}: give this one `name = \"...\"`", step.name);
            reader.note(Severity::Mistake, step.at, &step.key, why, false);
        }
    }
}

fn targets(reader: &Reader<'_>, step: &StepSpec, buckets: &[BucketSpec], names: &[String]) {
    let (to, prefix) = match &step.action {
        Action::Relocate(spec) => (&spec.to, spec.prefix.as_deref()),
        Action::Record { to: Some(to), prefix } => (to, prefix.as_deref()),
        _ => return,
    };
    if !names.contains(&to.value) {
        let hint = hint(&to.value, names.iter().map(String::as_str));
        to.dangling(reader, format!("there is no bucket `{}`{hint}", to.written));
    }
    let watched = buckets.iter().find(|bucket| bucket.name == to.value).and_then(|bucket| bucket.watch.as_deref());
    let prefix = prefix.unwrap_or_default();
    if watched.is_some_and(|watched| prefix.starts_with(watched) || watched.starts_with(prefix)) {
        to.warning(reader, "this bucket is watched: what is written there is scanned, and follows the policy again");
    }
}

/// Objects come from the buckets that are watched, and from those that nothing is written to. What lands there between
/// the scan and a delete must not be lost.
pub(super) fn sources(reader: &Reader<'_>, buckets: &[BucketSpec], workflows: &BTreeMap<String, WorkflowSpec>) {
    let steps = || workflows.iter().flat_map(|(name, spec)| spec.all_steps().map(move |step| (name, step)));
    let Some((workflow, step)) = steps().find(|(_, step)| step.action.deletes()) else { return };
    let written =
        |bucket: &BucketSpec| steps().any(|(_, step)| step.action.to().is_some_and(|to| to.value == bucket.name));
    let source = |bucket: &BucketSpec| bucket.watch.is_some() || !written(bucket);
    let all = !buckets.iter().any(source);
    for bucket in buckets.iter().filter(|bucket| (all || source(bucket)) && !bucket.accept_unpinned_delete) {
        let Some(what) = bucket.place.cannot_pin_deletes() else { continue };
        let why = format!(
            "{what} cannot be bound to what was scanned, and step {:?} of workflow {workflow} deletes: an upload that \
             lands in between is lost, unscanned. Write keep_source = true there, or accept_unpinned_delete = true here",
            step.name
        );
        reader.note(Severity::Mistake, bucket.at, &format!("buckets.{}", bucket.name), why, false);
    }
}

/// Nothing is left to act on behind a delete.
fn order(reader: &Reader<'_>, spec: &WorkflowSpec) {
    let mut deleted = false;
    for node in &spec.steps {
        for step in node.all_steps() {
            if deleted && matches!(step.action, Action::Tag { .. } | Action::Relocate(_) | Action::Delete) {
                reader.note(Severity::Warning, step.at, &step.key, "does nothing: the object is deleted before", false);
            }
        }
        deleted |= node.all_steps().iter().any(|step| matches!(step.action, Action::Delete));
    }
}

/// `[[policy.findings]]`, or the name of a workflow for all findings.
fn findings(
    item: &Item<'_>,
    detect: Option<&DetectSpec>,
    named: &mut impl FnMut(&Reader<'_>, Text) -> Option<String>,
) -> Vec<FindingsSpec> {
    let reader = item.reader;
    if detect.is_none() {
        let why = "nothing is looked for, so there are no findings: write detect = \"all\" or a list in [engine]";
        reader.note(Severity::Warning, item.span.start, &item.key, why, true);
    }
    if !item.is_list() {
        let workflow = item.text().and_then(|text| named(reader, text));
        return workflow
            .map(|workflow| FindingsSpec { workflow, min_confidence: 0.0, detectors: Vec::new() })
            .into_iter()
            .collect();
    }
    let rule = |item: &Item<'_>| {
        item.section()?.read(|rule| {
            let workflow = rule.required("workflow", "the workflow that follows, or \"leave\"");
            let min_confidence = rule.get("min_confidence").and_then(|item| item.float(0.0..=1.0));
            let detectors = rule.texts("detectors");
            for text in &detectors {
                check_detector(reader, text, detect);
            }
            let detectors = detectors.into_iter().map(|text| text.value).collect();
            let workflow = named(reader, workflow?)?;
            Some(FindingsSpec { workflow, min_confidence: min_confidence.unwrap_or_default(), detectors })
        })
    };
    item.list().unwrap_or_default().iter().filter_map(rule).collect()
}

/// A rule for what nobody looks for never matches.
fn check_detector(reader: &Reader<'_>, text: &Text, detect: Option<&DetectSpec>) {
    // An engine that is brought along looks for what it was told to.
    if reader.provided.engine.is_some() {
        return;
    }
    let asked: Vec<&str> = detect.map(DetectSpec::names).unwrap_or_default();
    if asked.contains(&text.value.as_str()) {
        return;
    }
    let known = || Detector::ALL.into_iter().map(Detector::as_str);
    if known().any(|known| known == text.value) {
        if detect.is_some() {
            text.warning(reader, format!("`{}` is not looked for: it is not in engine.detect", text.written));
        }
        return;
    }
    let mut all: Vec<&str> = known().collect();
    all.extend(asked);
    text.mistake(reader, format!("there is no detector `{}`{}", text.written, hint(&text.value, all)));
}

pub(super) fn policy(
    root: &Section<'_>,
    workflows: &BTreeMap<String, WorkflowSpec>,
    detect: Option<&DetectSpec>,
) -> PolicySpec {
    let mut spec = PolicySpec::default();
    let mut used: Vec<String> = Vec::new();
    let mut named = |reader: &Reader<'_>, text: Text| -> Option<String> {
        used.push(text.value.clone());
        if text.value != LEAVE && !workflows.contains_key(&text.value) {
            let hint = match workflows.is_empty() {
                true => {
                    format!(": write [[workflow.{}.steps]], or \"{LEAVE}\" to leave such objects alone", text.written)
                }
                false => hint(&text.value, workflows.keys().map(String::as_str)),
            };
            text.dangling(reader, format!("there is no workflow `{}`{hint}", text.written));
        }
        Some(text.value)
    };
    let Some(item) = root.get("policy") else {
        root.missing("policy", "no policy is set up: write [policy] with clean, infected and unscannable");
        return spec;
    };
    let Some(section) = item.section() else { return spec };
    section.read(|policy| {
        for (verdict, slot) in
            [("clean", &mut spec.clean), ("infected", &mut spec.infected), ("unscannable", &mut spec.unscannable)]
        {
            match policy.get(verdict) {
                Some(item) => *slot = item.text().and_then(|text| named(policy.reader, text)),
                None => policy.warning(format!(
                    "{verdict}: no workflow; such objects are left where they are. Write {verdict} = \"{LEAVE}\" if \
                     that is meant"
                )),
            }
        }
        if let Some(item) = policy.get("findings") {
            spec.findings = findings(&item, detect, &mut named);
        }
        spec.accept_unproven = policy.flag("accept_unproven").unwrap_or_default();
        if let Some(reasons) = policy.section("unscannable_for") {
            for (name, at, item) in reasons.entries() {
                let text = item.text();
                match ReasonKind::ALL.into_iter().find(|kind| kind.as_str() == name) {
                    Some(kind) => {
                        if let Some(workflow) = text.and_then(|text| named(policy.reader, text)) {
                            spec.unscannable_for.insert(kind, workflow);
                        }
                    }
                    None => {
                        let hint = hint(&name, ReasonKind::ALL.iter().map(|kind| kind.as_str()));
                        let key = format!("policy.unscannable_for.{name}");
                        policy.reader.note(
                            Severity::Mistake,
                            at,
                            &key,
                            format!("there is no such reason{hint}"),
                            false,
                        );
                    }
                }
            }
        }
    });
    for (name, workflow) in workflows.iter().filter(|(name, _)| !used.contains(name)) {
        let key = format!("workflow.{name}");
        section.reader.note(Severity::Warning, workflow.at, &key, "the policy does not use it, so it never runs", true);
    }
    spec
}
