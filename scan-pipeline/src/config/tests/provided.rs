//! Settings from a program, and what it brings beside them.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::{Config, Provided, engine_from_value};
use super::folder;
use crate::engine::Closure;
use crate::handler::{StepOutput, from_fn};
use crate::model::{Threat, Verdict};
use crate::{ErrorKind, Pipeline};

fn provided() -> Provided {
    let cats = Closure::new("cats", |bytes: &[u8], name: &str| {
        Ok(match bytes.starts_with(b"cat") {
            true => Verdict::Infected { threats: vec![Threat { signature: "Cat".into(), layer_path: name.into() }] },
            false => Verdict::Clean,
        })
    });
    let crm = from_fn("crm", |scanned, _| async move { Ok(StepOutput::new(json!({ "key": scanned.object.key }))) });
    Provided::new().engine(Arc::new(cats)).handler("crm", Arc::new(crm))
}

fn settings() -> Value {
    json!({
        "store": { "url": "state.db" },
        "buckets": { "quarantine": "./quarantine", "clean": { "url": "./clean", "prefix": null } },
        "policy": { "clean": "release", "infected": "report", "unscannable": "leave" },
        "workflow": {
            "release": { "steps": [{ "do": "relocate", "to": "clean" }] },
            "report": { "steps": [{ "do": "custom", "handler": "crm", "retry": { "attempts": 2, "factor": 1.5 } }] },
        },
        "limits": null,
    })
}

async fn pipeline(dir: &std::path::Path) -> Pipeline {
    Config::from_value(&settings(), dir, provided()).expect("settings").build().await.expect("a pipeline")
}

#[tokio::test]
async fn the_pipeline_has_the_engine_and_the_handlers_of_the_program() {
    let dir = folder();
    std::fs::write(dir.path().join("quarantine/cat.txt"), "cat").expect("written");
    std::fs::write(dir.path().join("quarantine/dog.txt"), "dog").expect("written");
    let pipeline = pipeline(dir.path()).await;
    let cat = pipeline.process(pipeline.object("quarantine", "cat.txt").expect("an object")).await.expect("done");
    assert_eq!(cat.record.report.expect("a report").verdict.status(), "infected");
    let run = pipeline.show(cat.record.id).await.expect("asked").expect("a workflow ran");
    assert!(run.to_string().contains("crm: done"), "{run}");
    pipeline.process(pipeline.object("quarantine", "dog.txt").expect("an object")).await.expect("done");
    assert!(dir.path().join("clean/dog.txt").is_file(), "released");
}

#[test]
fn mistakes_name_their_keys_and_no_lines() {
    let dir = folder();
    let mut wrong = settings();
    wrong["workflow"]["report"]["steps"][0]["handler"] = json!("crn");
    wrong["buckets"]["clean"]["wacth"] = json!(true);
    wrong["engine"] = json!({ "clamav": {} });
    let why = Config::from_value(&wrong, dir.path(), provided()).expect_err("mistakes");
    assert_eq!(why.kind(), ErrorKind::Config);
    let why = why.to_string();
    for words in [
        "workflow.report.steps[0].handler: there is no handler `crn`; did you mean `crm`?",
        "buckets.clean.wacth: there is no such key; did you mean `watch`?",
        "engine: the program brings an engine of its own",
    ] {
        assert!(why.contains(words), "{words}: {why}");
    }
    for no_table in [json!(null), json!([]), json!("text")] {
        let why = Config::from_value(&no_table, dir.path(), provided()).expect_err("no table");
        assert!(why.to_string().contains("a table is wanted"), "{why}");
    }
}

#[test]
fn a_file_has_no_handlers_of_a_program() {
    let text = "[[workflow.x.steps]]\ndo = \"custom\"\nhandler = \"crm\"";
    let checked = Config::check(text, std::path::Path::new("/"), &|_| None);
    let said = checked.problems.iter().any(|problem| problem.to_string().contains("this one brings none"));
    assert!(said, "{:?}", checked.problems);
}

#[test]
fn texts_are_taken_as_they_are() {
    let dir = folder();
    let mut settings = settings();
    let odd = "a\"b\\c ${HOME} $$ 'd'\n# [x]\tü";
    settings["workflow"]["release"]["steps"][0]["prefix"] = json!(odd);
    let config = Config::from_value(&settings, dir.path(), provided()).expect("settings");
    let lines = config.explain().join("\n");
    assert!(lines.contains(&format!("{odd:?}")), "{lines}");
    assert!(config.warnings().iter().all(|warning| !warning.message.contains("secret")), "{:?}", config.warnings());
}

#[cfg(feature = "webhook")]
#[test]
fn addresses_that_may_be_secrets_are_not_shown() {
    let dir = folder();
    let explained = |url: &str| {
        let mut settings = settings();
        settings["workflow"]["report"]["steps"] =
            json!([{ "do": "notify", "url": url, "secrets": ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"] }]);
        Config::from_value(&settings, dir.path(), provided()).map(|config| config.explain().join("\n"))
    };
    let lines = explained("https://hooks.example.com/services/hunter2").expect("settings");
    assert!(lines.contains("https://hooks.example.com/...") && !lines.contains("hunter2"), "{lines}");
    for wrong in
        ["ftp://hooks.example.com/hunter2", "http://hooks.example.com/hunter2", "https://u:hunter2@h/", "hunter2"]
    {
        let why = explained(wrong).expect_err("no address of a webhook").to_string();
        assert!(why.contains("steps[0].url") && !why.contains("hunter2"), "{why}");
    }
}

#[tokio::test]
async fn an_engine_alone() {
    let base = std::path::Path::new("/");
    let detect = json!({ "clamd": { "address": "unix:/nowhere" }, "detect": ["ssn"] });
    let info = engine_from_value(&detect, base).await.expect("an engine").info();
    assert!(info.name.contains("clamd"), "{info:?}");
    let why = engine_from_value(&json!({ "clamd": { "adress": "x" } }), base).await.err().expect("a mistake");
    assert!(why.to_string().contains("engine.clamd.adress: there is no such key; did you mean `address`?"), "{why}");
    let why = engine_from_value(&json!({}), base).await.err().expect("none");
    assert!(why.to_string().contains("no engine is set up"), "{why}");
}
