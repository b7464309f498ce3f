//! Steps of workflows: what is done, under which name, and how often it is tried.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::mail::{EmailSpec, email};
use super::problem::hint;
use super::read::{Item, Section};
use super::table::{TABLES, TableSpec, table};
use super::text::Text;
use super::vocabulary::{VocabularySpec, vocabulary};
use super::webhook::{WebhookSpec, webhook};
use crate::handler::OnConflict;
use crate::workflow::RetryPolicy;

/// A step.
#[derive(Debug, Clone)]
pub(super) struct StepSpec {
    pub(super) name: String,
    /// Where the name stands, or the step where it has none of its own.
    pub(super) at: usize,
    pub(super) key: String,
    pub(super) action: Action,
    pub(super) retry: Option<RetryPolicy>,
    pub(super) timeout: Option<Duration>,
}

/// What a step does.
#[derive(Debug, Clone)]
pub(super) enum Action {
    Tag {
        vocabulary: VocabularySpec,
        optional: bool,
    },
    Relocate(RelocateSpec),
    Delete,
    Notify(Box<WebhookSpec>),
    Email(Box<EmailSpec>),
    Record {
        to: Option<Text>,
        prefix: Option<String>,
    },
    RecordToTable(Box<TableSpec>),
    /// A handler that the program brings, by its name.
    Custom(String),
}

#[derive(Debug, Clone)]
pub(super) struct RelocateSpec {
    /// The short name of a bucket.
    pub(super) to: Text,
    pub(super) prefix: Option<String>,
    pub(super) template: Option<String>,
    pub(super) tags: Option<VocabularySpec>,
    pub(super) keep_source: bool,
    pub(super) on_conflict: OnConflict,
}

/// What `do` can be.
const ACTIONS: [&str; 7] = ["tag", "relocate", "delete", "notify", "email", "record", "custom"];
const TIMES: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(7 * 86_400);

impl StepSpec {
    /// What the step does, in words; with the address of a bucket behind its name.
    pub(super) fn describe(&self, bucket: &dyn Fn(&str) -> Option<String>) -> String {
        let does = match &self.action {
            Action::Tag { vocabulary, .. } => format!("tag the object with {}", vocabulary.describe()),
            Action::Delete => String::from("delete the object"),
            Action::Relocate(spec) => {
                let verb = if spec.keep_source { "copy the object" } else { "move the object" };
                let place = bucket(&spec.to.value).map(|url| format!(" ({url})")).unwrap_or_default();
                let key = match (&spec.prefix, &spec.template) {
                    (Some(prefix), _) => format!(", its key behind {prefix:?}"),
                    (_, Some(template)) => format!(", its key made of {template:?}"),
                    _ => String::new(),
                };
                let tags = spec.tags.as_ref().map(|tags| format!(", tagged with {}", tags.describe()));
                format!("{verb} to {}{place}{key}{}", spec.to.value, tags.unwrap_or_default())
            }
            Action::Notify(spec) => format!("send a webhook to {}", spec.shown),
            Action::Email(spec) => format!("send an e-mail to {}", spec.to.join(", ")),
            Action::Record { to: None, .. } => String::from("keep a summary in the journal"),
            Action::Record { to: Some(to), .. } => format!("write the whole report to {}", to.value),
            Action::RecordToTable(spec) => format!("write the result to {}", spec.to.written),
            Action::Custom(name) => format!("call {name}"),
        };
        let word = does.split(' ').next().unwrap_or_default();
        if self.name == word || self.name == self.action.name() { does } else { format!("{}: {does}", self.name) }
    }
}

impl Action {
    /// Whether the object is deleted where it is.
    pub(super) fn deletes(&self) -> bool {
        matches!(self, Self::Delete) || matches!(self, Self::Relocate(spec) if !spec.keep_source)
    }

    /// The bucket that it writes to.
    pub(super) fn to(&self) -> Option<&Text> {
        match self {
            Self::Relocate(spec) => Some(&spec.to),
            Self::Record { to, .. } => to.as_ref(),
            _ => None,
        }
    }

    /// The handler's own name, which the step has unless it is given another.
    fn name(&self) -> &str {
        match self {
            Self::Tag { .. } => "tag",
            Self::Relocate(_) => "relocate",
            Self::Delete => "delete",
            Self::Notify(_) => "notify",
            Self::Email(_) => "email",
            Self::Record { .. } | Self::RecordToTable(_) => "record",
            Self::Custom(name) => name,
        }
    }
}

/// A step by its table.
pub(super) fn step(item: &Item<'_>) -> Option<StepSpec> {
    let section = item.section()?;
    section.read(|step| {
        let name = step.text("name");
        let timeout = step.time("timeout", TIMES);
        let retry = step.get("retry").and_then(|item| retry(&item));
        let action = action(step);
        if let Some(name) = &name
            && name.value.trim().is_empty()
        {
            name.mistake(step.reader, "a name has letters: the journal knows the step by it");
        }
        let mut action = action?;
        match (&mut action, timeout) {
            (Action::Notify(spec), Some(time)) => spec.set_timeout(time),
            (Action::Email(spec), Some(time)) => spec.set_timeout(time),
            _ => {}
        }
        Some(StepSpec {
            at: name.as_ref().map_or(step.at(), |name| name.at),
            key: name.as_ref().map_or_else(|| step.key().to_owned(), |name| name.key.clone()),
            name: name.map_or_else(|| action.name().to_owned(), |name| name.value),
            action,
            retry,
            timeout,
        })
    })
}

fn action(step: &Section<'_>) -> Option<Action> {
    let Some(action) =
        step.required("do", "write do = \"tag\", \"relocate\", \"delete\", \"notify\", \"email\" or \"record\"")
    else {
        step.any_key();
        return None;
    };
    match action.value.as_str() {
        "tag" => {
            let vocabulary = step.get("vocabulary").map_or_else(|| Some(VocabularySpec::default()), |v| vocabulary(&v));
            Some(Action::Tag { vocabulary: vocabulary?, optional: step.flag("optional").unwrap_or_default() })
        }
        "relocate" => relocate(step).map(Action::Relocate),
        "delete" => Some(Action::Delete),
        "notify" => webhook(step).map(|spec| Action::Notify(Box::new(spec))),
        "email" => email(step).map(|spec| Action::Email(Box::new(spec))),
        "record" => {
            let to = step.text("to");
            if let Some(to) = to.as_ref().filter(|to| to.value.starts_with(TABLES)) {
                return Some(Action::RecordToTable(Box::new(table(step, to.clone()))));
            }
            let prefix = step.text("prefix");
            if let (None, Some(prefix)) = (&to, &prefix) {
                prefix.mistake(step.reader, "says nothing without `to`, the bucket that records are written to");
            }
            Some(Action::Record { to, prefix: prefix.map(|prefix| prefix.value) })
        }
        "custom" => custom(step).map(Action::Custom),
        other => {
            let hint = hint(other, ACTIONS);
            action.mistake(step.reader, format!("there is no handler `{}`{hint}", action.written));
            step.any_key();
            None
        }
    }
}

/// A handler that the program brings. A file that is read by our own program has none to name.
fn custom(step: &Section<'_>) -> Option<String> {
    let name = step.required("handler", "name the handler that the program brings: handler = \"crm\"")?;
    let known = &step.reader.provided.handlers;
    if !known.contains_key(&name.value) {
        let hint = match known.is_empty() {
            true => String::from(": handlers of one's own are for programs that bring them, and this one brings none"),
            false => hint(&name.value, known.keys().map(String::as_str)),
        };
        name.mistake(step.reader, format!("there is no handler `{}`{hint}", name.written));
        return None;
    }
    Some(name.value)
}

fn relocate(step: &Section<'_>) -> Option<RelocateSpec> {
    let to = step.required("to", "name the bucket that the object goes to: to = \"clean\"");
    let prefix = step.text("prefix");
    let template = step.text("key");
    let tags = step.get("tags");
    let keep_source = step.flag("keep_source").unwrap_or_default();
    let choices = [
        ("update", OnConflict::Update),
        ("overwrite", OnConflict::Overwrite),
        ("rename", OnConflict::Rename),
        ("fail", OnConflict::Fail),
    ];
    let on_conflict = step.get("on_conflict").and_then(|item| item.choice(&choices)).unwrap_or_default();
    if let (Some(_), Some(template)) = (&prefix, &template) {
        template.mistake(step.reader, "there is a prefix, too: write one of them, such as key = \"prefix/{key}\"");
    }
    if let Some(template) = &template
        && let Err(why) = crate::handler::relocate("bucket").key_template(&template.value)
    {
        template.mistake(step.reader, template.hide(&why.to_string()));
    }
    let tags = match tags {
        None => None,
        Some(item) if item.is_flag() => item.flag()?.then(VocabularySpec::default),
        Some(item) => Some(vocabulary(&item)?),
    };
    let template = template.map(|template| template.value);
    Some(RelocateSpec { to: to?, prefix: prefix.map(|p| p.value), template, tags, keep_source, on_conflict })
}

/// How often a step is tried; what is not given is as in [`RetryPolicy::default`].
fn retry(item: &Item<'_>) -> Option<RetryPolicy> {
    let section = item.section()?;
    let default = RetryPolicy::default();
    Some(section.read(|retry| {
        let attempts = retry.count("attempts", 1..=10_000).and_then(|count| u32::try_from(count).ok());
        let policy = RetryPolicy {
            max_attempts: attempts.unwrap_or(default.max_attempts),
            initial: retry.time("initial", Duration::ZERO..=*TIMES.end()).unwrap_or(default.initial),
            factor: retry.get("factor").and_then(|item| item.float(1.0..=100.0)).unwrap_or(default.factor),
            cap: retry.time("cap", Duration::ZERO..=*TIMES.end()).unwrap_or(default.cap),
        };
        if policy.cap < policy.initial {
            retry.warning("cap is below initial: the waits are as long as cap from the start");
        }
        policy
    }))
}
