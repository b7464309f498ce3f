//! The function as Lambda runs it: a process that asks the runtime API for batches and answers each of them.

mod api;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use api::{Answer, RuntimeApi};
use scan_pipeline_tests::marker::{eicar, harmless};
use serde_json::{Value, json};
use tempfile::TempDir;

const CONFIG: &str = r#"
[engine.clamav]
definitions = "${DEFINITIONS}"
threads = 2
[store]
url = "sqlite://state.db"
[buckets]
quarantine = "./quarantine"
clean = "./clean"
infected = "./infected"
[limits]
settle = "0s"
[policy]
clean = "release"
infected = "isolate"
unscannable = "leave"
[[workflow.release.steps]]
do = "relocate"
to = "clean"
[[workflow.isolate.steps]]
do = "relocate"
to = "infected"
"#;

/// A function with its buckets, and the runtime API that it asks.
struct Function {
    dir: TempDir,
    api: RuntimeApi,
    child: Child,
}

impl Function {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        for bucket in ["quarantine", "clean", "infected"] {
            std::fs::create_dir(dir.path().join(bucket)).expect("a bucket");
        }
        std::fs::write(dir.path().join("pipeline.toml"), CONFIG).expect("written");
        let api = RuntimeApi::start();
        let definitions = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scan-pipeline/definitions");
        let child = Command::new(env!("CARGO_BIN_EXE_lambda"))
            .current_dir(dir.path())
            .env_remove("SCAN_PIPELINE_CONFIG")
            .env("DEFINITIONS", definitions)
            .env("AWS_LAMBDA_RUNTIME_API", api.address())
            // What Lambda sets for every function.
            .env("AWS_LAMBDA_FUNCTION_NAME", "scan")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "2048")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .stdin(Stdio::null())
            .spawn()
            .expect("the function starts");
        Self { dir, api, child }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts an object there, and gives the message that somebody sends about it.
    fn upload(&self, key: &str, bytes: &[u8]) -> String {
        std::fs::write(self.path("quarantine").join(key), bytes).expect("written");
        self.event(key)
    }

    fn event(&self, key: &str) -> String {
        json!({ "bucket": format!("file://{}", self.path("quarantine").display()), "key": key }).to_string()
    }

    fn call(&self, batch: &Value) -> Answer {
        self.api.call(&batch.to_string())
    }

    /// The messages that have to come back.
    fn failures(&self, batch: &Value) -> Value {
        let answer = self.call(batch);
        assert!(answer.path.ends_with("/response"), "{answer:?}");
        answer.body
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn batch(queue: &str, bodies: &[&str]) -> Value {
    let record = |(at, body): (usize, &&str)| {
        json!({
            "messageId": format!("m{at}"),
            "receiptHandle": "AQEB",
            "body": body,
            "attributes": { "ApproximateReceiveCount": "1", "SentTimestamp": "1545082649183" },
            "messageAttributes": {},
            "md5OfBody": "",
            "eventSource": "aws:sqs",
            "eventSourceARN": format!("arn:aws:sqs:eu-central-1:123456789012:{queue}"),
            "awsRegion": "eu-central-1",
        })
    };
    json!({ "Records": bodies.iter().enumerate().map(record).collect::<Vec<_>>() })
}

/// The answer that names these messages and no others.
fn named(ids: &[&str]) -> Value {
    json!({ "batchItemFailures": ids.iter().map(|id| json!({ "itemIdentifier": id })).collect::<Vec<_>>() })
}

#[test]
fn just_what_cannot_be_done_comes_back() {
    let function = Function::start();
    assert_eq!(function.failures(&batch("scans", &[])), named(&[]), "nothing fails in an empty batch");

    let letter = function.upload("letter.txt", &harmless());
    let virus = function.upload("eicar.com", &eicar());
    let elsewhere = r#"{"bucket": "s3://nobody-has-it", "key": "k"}"#;
    let test = r#"{"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2026-01-01T00:00:00Z", "Bucket": "b"}"#;
    let never_there = function.event("never there");
    let bodies = [&letter, "this is no event", &virus, &letter, elsewhere, test, &virus, &never_there];
    assert_eq!(function.failures(&batch("scans", &bodies)), named(&["m1", "m4"]));
    assert!(function.path("clean/letter.txt").exists() && function.path("infected/eicar.com").exists());
    assert!(!function.path("quarantine/letter.txt").exists() && !function.path("quarantine/eicar.com").exists());

    // What came back comes again, and so do others, for SQS delivers at least once.
    let again = [&letter, "this is no event", &virus];
    assert_eq!(function.failures(&batch("scans", &again)), named(&["m1"]));

    // In order, nothing behind the first failure is begun.
    let next = function.upload("next.txt", &harmless());
    let ordered = [&letter, "this is no event", &next];
    assert_eq!(function.failures(&batch("scans.fifo", &ordered)), named(&["m1", "m2"]));
    assert!(function.path("quarantine/next.txt").exists());
}

#[test]
fn what_is_no_batch_fails_the_call_and_not_the_function() {
    let function = Function::start();
    for event in [json!({}), json!({ "Records": [{ "eventSource": "aws:s3" }] }), json!("text")] {
        let answer = function.call(&event);
        assert!(answer.path.ends_with("/error"), "{event}: {answer:?}");
        let why = answer.body["errorMessage"].as_str().expect("a message");
        assert!(why.contains("SQS") || why.contains("messageId"), "{why}");
    }
    let letter = function.upload("letter.txt", &harmless());
    assert_eq!(function.failures(&batch("scans", &[&letter])), named(&[]));
    assert!(function.path("clean/letter.txt").exists());
}
