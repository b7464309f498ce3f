//! Kill -9 at every point of workflows that record in a table of DynamoDB.

use std::path::Path;
use std::time::Duration;

use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use aws_sdk_dynamodb::{Client, Config};
use scan_pipeline::handler::{delete, record_to_table, relocate};
use scan_pipeline::objects::LocalBucket;
use scan_pipeline::store::{SqliteStore, Store, TaskFilter, TaskState, audit};
use scan_pipeline::workflow::{RetryPolicy, Step, Workflow};
use scan_pipeline::{Pipeline, Policy};
use scan_pipeline_tests::brokers::{Broker, shared};

use crate::common::{Count, engine, quick};
use crate::crash::{LEASE, Mortal, Points, at_every_point, finish, mortal, run_child};

const ENDPOINT: &str = "SCAN_PIPELINE_CRASH_ENDPOINT";
const TABLE: &str = "SCAN_PIPELINE_CRASH_TABLE";
const OBJECTS: [(&str, &str); 2] = [("a.txt", "fine"), ("b.txt", "infected")];

async fn pipeline(dir: &Path, endpoint: &str, table: &str, points: &Points) -> Pipeline {
    let record = || {
        let table = record_to_table(table).endpoint(endpoint).region("us-east-1").credentials("test", "test", None);
        Step::new(table).retry(RetryPolicy { max_attempts: 9, ..quick() })
    };
    let policy = Policy::new()
        .clean(Workflow::new("release").then(record()).then(relocate("clean")))
        .infected(Workflow::new("remove").then(delete()).then(record()));
    let mut builder = Pipeline::builder();
    for name in ["quarantine", "clean"] {
        let bucket = LocalBucket::open(dir.join(name)).await.expect("a bucket");
        builder = builder.bucket(name, mortal(bucket, points));
    }
    let store = SqliteStore::open(dir.join("state.db")).await.expect("a store");
    let builder = builder.engine(engine(&Count::default())).policy(policy).lease(LEASE).settle(Duration::ZERO);
    let builder = builder.scan_retry(quick()).concurrency(1).store(Mortal(points.clone(), store));
    builder.build().expect("a pipeline")
}

/// What the child does: everything that is left to do.
#[test]
fn child() {
    let Some((dir, points)) = Points::of_child() else { return };
    let (Ok(endpoint), Ok(table)) = (std::env::var(ENDPOINT), std::env::var(TABLE)) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { finish(&pipeline(&dir, &endpoint, &table, &points).await).await });
}

#[test]
fn each_object_has_one_record_in_the_table_wherever_the_process_dies() {
    let Some(server) = shared(Broker::DynamoDbLocal) else { return };
    let endpoint = server.url();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let points = at_every_point(|at| killed_at(at, &endpoint, &runtime));
    assert!(points > 25, "only {points} points");
}

/// Whether it survived: there are no so many points.
fn killed_at(at: u32, endpoint: &str, runtime: &tokio::runtime::Runtime) -> bool {
    let dir = tempfile::tempdir().expect("a directory");
    for bucket in ["quarantine", "clean"] {
        std::fs::create_dir_all(dir.path().join(bucket)).expect("a directory");
    }
    for (key, text) in OBJECTS {
        std::fs::write(dir.path().join("quarantine").join(key), text).expect("written");
    }
    let (client, table) = (client(endpoint), format!("crash-{at}"));
    runtime.block_on(create(&client, &table));
    let variables = [(ENDPOINT, endpoint), (TABLE, table.as_str())];
    let child = |at| run_child("crash_table::child", dir.path(), at, &variables).success();
    let survived = child(at);
    if !survived {
        assert!(child(0));
    }
    runtime.block_on(check(dir.path(), &client, &table, at));
    survived
}

fn client(endpoint: &str) -> Client {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .http_client(aws_smithy_http_client::Builder::new().build_http());
    Client::from_conf(config.build())
}

async fn create(client: &Client, table: &str) {
    let key = AttributeDefinition::builder().attribute_name("pk").attribute_type(ScalarAttributeType::S);
    let schema = KeySchemaElement::builder().attribute_name("pk").key_type(KeyType::Hash);
    let request = client.create_table().table_name(table).billing_mode(BillingMode::PayPerRequest);
    let request = request.attribute_definitions(key.build().expect("whole"));
    request.key_schema(schema.build().expect("whole")).send().await.expect("a table");
}

async fn check(dir: &Path, client: &Client, table: &str, at: u32) {
    let store = SqliteStore::open(dir.join("state.db")).await.expect("a store");
    assert_eq!(audit::verify(&store).await.expect("readable").problems, Vec::<String>::new(), "at {at}");
    let tasks = store.tasks(&TaskFilter { most: 100, ..TaskFilter::default() }).await.expect("tasks");
    let states: Vec<_> = tasks.iter().map(|task| task.state).collect();
    assert_eq!(states, [TaskState::Done; OBJECTS.len()], "at {at}: {tasks:?}");
    let items = client.scan().table_name(table).consistent_read(true).send().await.expect("scanned").items;
    let mut records: Vec<_> = items
        .unwrap_or_default()
        .into_iter()
        .map(|item| {
            let text = |name: &str| item.get(name).and_then(|value: &AttributeValue| value.as_s().ok()).cloned();
            (text("key").expect("a key"), text("verdict").expect("a verdict"))
        })
        .collect();
    records.sort();
    let expected = [("a.txt", "clean"), ("b.txt", "infected")];
    assert_eq!(records, expected.map(|(key, verdict)| (key.to_owned(), verdict.to_owned())), "at {at}");
    assert!(dir.join("clean/a.txt").exists() && !dir.join("quarantine/b.txt").exists(), "at {at}");
}
