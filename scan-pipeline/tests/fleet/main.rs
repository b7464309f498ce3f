//! From end to end, as a fleet has it: objects put into a bucket of S3, whose notifications go to SQS; a worker that tags,
//! moves, records in DynamoDB and calls a webhook. A thousand objects, and every one of them is accounted for.

mod receiver;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use aws_sdk_s3::types::{Event, NotificationConfiguration, QueueConfiguration};
use aws_sdk_sqs::types::QueueAttributeName;
use scan_pipeline::engine::Closure;
use scan_pipeline::handler::{StepContext, notify, record_to_table, relocate, tag};
use scan_pipeline::model::{Reason, ReasonKind, Threat, Verdict};
use scan_pipeline::objects::{ObjectOps, S3Bucket, S3Keys};
use scan_pipeline::queue::{Queue, SqsQueue};
use scan_pipeline::store::{SqliteStore, TaskFilter, TaskState, audit};
use scan_pipeline::worker::{Worker, WorkerOptions};
use scan_pipeline::workflow::Workflow;
use scan_pipeline::{Error, Pipeline, Policy};
use scan_pipeline_tests::servers::{Running, S3Server, start};
use tokio_util::sync::CancellationToken;

use receiver::Receiver;

const OBJECTS: usize = 1000;
/// Longer than it takes on any machine.
const PATIENCE: Duration = Duration::from_secs(600);
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The key, the content and the verdict of an object.
fn object(number: usize) -> (String, String, &'static str) {
    let (word, verdict) = match number % 10 {
        0 => ("infected", "infected"),
        1 => ("locked", "unscannable"),
        _ => ("fine", "clean"),
    };
    let key = match number % 6 {
        0 => format!("uploads/{number}"),
        1 => format!("two words/{number}"),
        2 => format!("a+b%2B/{number}"),
        3 => format!("\u{fc}nic\u{f6}de/{number}"),
        4 => format!("a//b/{number}"),
        _ => format!("{number}?x=1&y=2"),
    };
    (key, format!("{word} {number}"), verdict)
}

struct Clients {
    s3: aws_sdk_s3::Client,
    sqs: aws_sdk_sqs::Client,
    dynamodb: aws_sdk_dynamodb::Client,
}

macro_rules! client {
    ($sdk:ident, $server:expr, $config:ident => $more:expr) => {{
        let credentials =
            $sdk::config::Credentials::new($server.access_key(), $server.secret_key(), None, None, "test");
        let $config = $sdk::Config::builder()
            .behavior_version($sdk::config::BehaviorVersion::latest())
            .region($sdk::config::Region::new($server.region()))
            .endpoint_url($server.endpoint())
            .credentials_provider(credentials)
            .http_client(aws_smithy_http_client::Builder::new().build_http());
        $sdk::Client::from_conf($more.build())
    }};
}

impl Clients {
    fn new(server: &Running) -> Self {
        Self {
            s3: client!(aws_sdk_s3, server, config => config.force_path_style(true)),
            sqs: client!(aws_sdk_sqs, server, config => config),
            dynamodb: client!(aws_sdk_dynamodb, server, config => config),
        }
    }

    async fn arn(&self, url: &str) -> String {
        let request = self.sqs.get_queue_attributes().queue_url(url).attribute_names(QueueAttributeName::QueueArn);
        let attributes = request.send().await.expect("answers").attributes.expect("attributes");
        attributes[&QueueAttributeName::QueueArn].clone()
    }

    /// Buckets, a queue with dead letters that hears of new objects, and a table.
    async fn set_up(&self) -> String {
        for name in ["quarantine", "clean", "infected"] {
            self.s3.create_bucket().bucket(name).send().await.expect("a bucket");
        }
        let dead =
            self.sqs.create_queue().queue_name("dead").send().await.expect("a queue").queue_url.expect("its url");
        let policy = format!(r#"{{"deadLetterTargetArn":"{}","maxReceiveCount":50}}"#, self.arn(&dead).await);
        let request = self.sqs.create_queue().queue_name("scans").attributes(QueueAttributeName::RedrivePolicy, policy);
        let queue = request.send().await.expect("a queue").queue_url.expect("its url");
        let to = QueueConfiguration::builder().queue_arn(self.arn(&queue).await).events(Event::S3ObjectCreated);
        let notifications =
            NotificationConfiguration::builder().queue_configurations(to.build().expect("whole")).build();
        let request = self.s3.put_bucket_notification_configuration().bucket("quarantine");
        request.notification_configuration(notifications).send().await.expect("notifications");
        let key = AttributeDefinition::builder().attribute_name("pk").attribute_type(ScalarAttributeType::S);
        let schema = KeySchemaElement::builder().attribute_name("pk").key_type(KeyType::Hash);
        self.dynamodb
            .create_table()
            .table_name("audit")
            .attribute_definitions(key.build().expect("whole"))
            .key_schema(schema.build().expect("whole"))
            .billing_mode(BillingMode::PayPerRequest)
            .send()
            .await
            .expect("a table");
        queue
    }

    async fn upload(&self) {
        for number in 0..OBJECTS {
            let (key, text, _) = object(number);
            let body = text.into_bytes().into();
            self.s3.put_object().bucket("quarantine").key(key).body(body).send().await.expect("put");
        }
    }

    /// The keys of a bucket.
    async fn keys(&self, bucket: &str) -> BTreeSet<String> {
        let mut pages = self.s3.list_objects_v2().bucket(bucket).into_paginator().send();
        let mut keys = BTreeSet::new();
        while let Some(page) = pages.next().await {
            keys.extend(page.expect("a page").contents.unwrap_or_default().into_iter().filter_map(|object| object.key));
        }
        keys
    }

    /// Key and verdict of every item of the table.
    async fn items(&self) -> Vec<(String, String)> {
        let mut pages = self.dynamodb.scan().table_name("audit").into_paginator().items().send();
        let mut items = Vec::new();
        while let Some(item) = pages.next().await {
            let item = item.expect("an item");
            let text = |name: &str| item.get(name).and_then(|value: &AttributeValue| value.as_s().ok()).cloned();
            items.push((text("key").expect("a key"), text("verdict").expect("a verdict")));
        }
        items
    }
}

fn engine() -> impl scan_pipeline::engine::Engine {
    Closure::new("words", |bytes: &[u8], name: &str| {
        let layer_path = name.to_owned();
        Ok::<_, Error>(match bytes.split(|byte| *byte == b' ').next() {
            Some(b"infected") => {
                Verdict::Infected { threats: vec![Threat { signature: String::from("{HEX}Word"), layer_path }] }
            }
            Some(b"locked") => {
                Verdict::Unscannable { reasons: vec![Reason { kind: ReasonKind::Encrypted, layer_path, detail: None }] }
            }
            _ => Verdict::Clean,
        })
    })
    .with_generation("1")
}

async fn pipeline(server: &Running, receiver: &Receiver) -> Pipeline {
    let bucket = |name: &str| {
        let builder = S3Bucket::builder(name).endpoint(server.endpoint()).region(server.region()).keys(S3Keys::Exact);
        let builder = builder.credentials(server.access_key(), server.secret_key(), None);
        async { Arc::new(builder.build().await.expect("a bucket")) as Arc<dyn ObjectOps> }
    };
    let kept = || {
        let table = record_to_table("audit").endpoint(server.endpoint()).region(server.region());
        table.credentials(server.access_key(), server.secret_key(), None)
    };
    let told = || {
        let webhook = notify(receiver.url()).secret(SECRET).allow_http().allow_private_addresses();
        webhook.build().expect("a webhook")
    };
    let flow = |name: &str, to: Option<&str>| {
        let flow = Workflow::new(name).then(tag());
        let flow = match to {
            Some(to) => flow.then(relocate(to)),
            None => flow,
        };
        flow.then(kept()).then(told())
    };
    Pipeline::builder()
        .engine(engine())
        .bucket("quarantine", bucket("quarantine").await)
        .bucket("clean", bucket("clean").await)
        .bucket("infected", bucket("infected").await)
        .policy(
            Policy::new()
                .clean(flow("release", Some("clean")))
                .infected(flow("isolate", Some("infected")))
                .unscannable(flow("hold", None)),
        )
        .store(SqliteStore::in_memory().await.expect("a store"))
        .build()
        .expect("a pipeline")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_one_of_a_thousand_objects_is_accounted_for() {
    let Some(server) = start(S3Server::Moto) else { return };
    let clients = Clients::new(&server);
    let url = clients.set_up().await;
    let receiver = Receiver::start(SECRET).await;
    let pipeline = pipeline(&server, &receiver).await;
    let queue = SqsQueue::builder(&url).region(server.region());
    let queue = queue.credentials(server.access_key(), server.secret_key(), None).build().await.expect("a queue");
    let queue: Arc<dyn Queue> = Arc::new(queue);
    let worker = Worker::new(pipeline.clone(), Arc::clone(&queue), WorkerOptions::default()).expect("a worker");
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (worker, stop) = (worker.clone(), stop.clone());
        async move { worker.run(stop).await }
    });
    clients.upload().await;
    let over = tokio::time::timeout(PATIENCE, async {
        let done = TaskFilter { states: vec![TaskState::Done], most: 2 * OBJECTS, ..TaskFilter::default() };
        while pipeline.store().tasks(&done).await.expect("tasks").len() < OBJECTS {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    let in_time = over.await.is_ok();
    stop.cancel();
    assert_eq!(running.await.expect("no panic").abandoned, 0);
    let all = TaskFilter { most: 2 * OBJECTS, ..TaskFilter::default() };
    let tasks = pipeline.store().tasks(&all).await.expect("tasks");
    let odd: Vec<_> = tasks.iter().filter(|task| task.state != TaskState::Done).collect();
    assert!(in_time && odd.is_empty(), "{} of {OBJECTS}: {odd:?}", tasks.len());

    let mut expected: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut verdicts = BTreeMap::new();
    for number in 0..OBJECTS {
        let (key, _, verdict) = object(number);
        let place = if verdict == "unscannable" { "quarantine" } else { verdict };
        expected.entry(place).or_default().insert(key.clone());
        verdicts.insert(key, verdict.to_owned());
    }
    for bucket in ["quarantine", "clean", "infected"] {
        assert_eq!(clients.keys(bucket).await, expected[bucket], "{bucket}");
    }
    let items = clients.items().await;
    assert_eq!(items.len(), OBJECTS, "one item for each object");
    assert_eq!(items.into_iter().collect::<BTreeMap<_, _>>(), verdicts);
    for (place, keys) in &expected {
        for key in keys {
            let tags = clients.s3.get_object_tagging().bucket(*place).key(key).send().await.expect("tags").tag_set;
            let status = tags.iter().find(|tag| tag.key == "scan-status").map(|tag| tag.value.as_str());
            assert_eq!(status, Some(verdicts[key].as_str()), "{place}/{key}");
        }
    }
    assert_eq!(receiver.told(), verdicts, "each was told, signed");
    let mut calls = receiver.calls();
    for task in tasks {
        let task = pipeline.store().task(task.id).await.expect("the task").expect("it is there");
        let step = task.steps.iter().find(|step| step.step == "webhook").expect("the step");
        let told = calls.remove(&StepContext::key(task.id, &step.workflow, &step.step)).unwrap_or_default();
        // Once, and never more often than the journal says that it was tried.
        assert!((1..=step.attempt).contains(&told), "{}: {told} calls of {} tries", task.object, step.attempt);
    }
    assert!(calls.is_empty(), "nobody's: {calls:?}");
    assert!(receiver.refused().is_empty(), "{:?}", receiver.refused());
    assert_eq!(queue.depth().await.expect("a depth").dead, 0);
    assert_eq!(audit::verify(&**pipeline.store()).await.expect("the log").problems, Vec::<String>::new());
}
