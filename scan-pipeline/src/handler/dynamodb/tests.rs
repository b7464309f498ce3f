//! Records in tables, on two implementations of DynamoDB.

use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_dynamodb::types::{AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType};
use scan_pipeline_tests::brokers::{Broker, shared};

use super::item::size_of;
use super::*;
use crate::handler::HandlerErrorKind;
use crate::handler::fixture::{clean, infected, report, scanned, step, unscannable};
use crate::model::{Reason, ReasonKind, Report, Threat, Verdict};
use crate::objects::Buckets;

const SERVERS: [Broker; 2] = [Broker::Moto, Broker::DynamoDbLocal];

/// A table on a server, and a client to look behind our back.
struct Scene {
    endpoint: String,
    client: Client,
    table: String,
}

impl Scene {
    async fn new(server: Broker, sort: bool) -> Option<Self> {
        let endpoint = shared(server)?.url();
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .endpoint_url(&endpoint)
            .credentials_provider(Credentials::new("test", "test", None, None, "test"))
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build();
        let client = Client::from_conf(config);
        let table = format!("table-{:x}", fastrand::u64(..));
        let mut request = client.create_table().table_name(&table).billing_mode(BillingMode::PayPerRequest);
        let keys = [("pk", KeyType::Hash), ("sk", KeyType::Range)];
        for (name, kind) in keys.into_iter().take(1 + usize::from(sort)) {
            let key = KeySchemaElement::builder().attribute_name(name).key_type(kind).build().expect("complete");
            let attribute = AttributeDefinition::builder().attribute_name(name);
            let attribute = attribute.attribute_type(ScalarAttributeType::S).build().expect("complete");
            request = request.key_schema(key).attribute_definitions(attribute);
        }
        request.send().await.expect("a table");
        Some(Self { endpoint, client, table })
    }

    fn handler(&self) -> RecordToTable {
        record_to_table(&self.table).endpoint(&self.endpoint).credentials("test", "test", None)
    }

    async fn items(&self) -> Vec<Attributes> {
        self.client
            .scan()
            .table_name(&self.table)
            .consistent_read(true)
            .send()
            .await
            .expect("scanned")
            .items
            .expect("items")
    }
}

fn text<'a>(item: &'a Attributes, name: &str) -> &'a str {
    item[name].as_s().expect("a text")
}

async fn call(handler: &RecordToTable, report: Report, attempt: u32) -> Result<StepOutput, HandlerError> {
    let scanned = scanned(report);
    handler.handle(&scanned, &step(&scanned, &Buckets::new(), attempt)).await
}

#[tokio::test]
async fn an_item_is_written_once_and_tells_the_result() {
    for server in SERVERS {
        let Some(scene) = Scene::new(server, false).await else { continue };
        let handler = scene.handler().expire_after(Duration::from_secs(3600), "expires");
        let handler = handler.column(Column::Verdict, "scan_result").without(Column::Etag);
        let first = call(&handler, infected(), 1).await.expect("written");
        let before = scene.items().await;
        let again = call(&handler, infected(), 2).await.expect("done already");
        assert_eq!((first, scene.items().await), (again, before.clone()), "{}", server.name());
        assert_eq!(before.len(), 1);
        let item = &before[0];
        assert_eq!((text(item, "pk"), text(item, "bucket")), (text(item, "task"), "memory://nowhere"));
        assert_eq!((text(item, "key"), text(item, "scan_result")), ("dir/a.zip", "infected"));
        let threats = item["threats"].as_l().expect("a list");
        let threat = threats[0].as_m().expect("a map");
        assert_eq!((text(threat, "signature"), text(threat, "layer")), ("{HEX}Test", "a.zip/b"));
        assert_eq!((item["reasons"].as_l().map(Vec::len), item["size"].as_n().map(String::as_str)), (Ok(0), Ok("3")));
        let recorded = text(item, "recorded_at").to_owned();
        let expires: i64 = item["expires"].as_n().expect("a number").parse().expect("a number");
        assert!((expires - Timestamp::now().0 / 1000 - 3600).abs() < 300, "{recorded} expires {expires}");
        assert!(!item.contains_key("etag") && !item.contains_key("verdict") && !item.contains_key("omitted"));
    }
}

#[tokio::test]
async fn an_item_of_somebody_else_is_neither_lost_nor_believed() {
    for server in SERVERS {
        let Some(scene) = Scene::new(server, false).await else { continue };
        let task = scanned(clean()).task.to_string();
        let request = scene.client.put_item().table_name(&scene.table).item("pk", AttributeValue::S(task));
        request.item("verdict", AttributeValue::S(String::from("forged"))).send().await.expect("put");
        let error = call(&scene.handler(), clean(), 1).await.expect_err("refused");
        assert_eq!(error.kind(), HandlerErrorKind::Fatal);
        assert!(error.to_string().contains("somebody else"), "{error}");
        assert_eq!(text(&scene.items().await[0], "verdict"), "forged");
    }
}

#[tokio::test]
async fn two_steps_write_two_items_where_there_is_a_sort_key() {
    for server in SERVERS {
        let Some(scene) = Scene::new(server, true).await else { continue };
        let handler = scene.handler().sort_key("sk");
        let scanned = scanned(unscannable());
        let first = step(&scanned, &Buckets::new(), 1);
        let other = StepContext {
            idempotency_key: StepContext::key(scanned.task, "w", "other"),
            step: String::from("other"),
            ..first.clone()
        };
        for step in [&first, &other, &first] {
            handler.handle(&scanned, step).await.expect("written");
        }
        let items = scene.items().await;
        let mut steps: Vec<_> = items.iter().map(|item| text(item, "sk")).collect();
        steps.sort_unstable();
        assert_eq!(steps, ["w/other", "w/step"], "{}", server.name());
        let reason = items[0]["reasons"].as_l().expect("a list")[0].as_m().expect("a map").clone();
        assert_eq!(text(&reason, "kind"), "encrypted");
    }
}

/// A table without one takes the first of them, and says so to the other.
#[tokio::test]
async fn two_steps_do_not_share_an_item() {
    for server in SERVERS {
        let Some(scene) = Scene::new(server, false).await else { continue };
        let scanned = scanned(clean());
        let first = step(&scanned, &Buckets::new(), 1);
        let other = StepContext { idempotency_key: StepContext::key(scanned.task, "w", "other"), ..first.clone() };
        scene.handler().handle(&scanned, &first).await.expect("written");
        let error = scene.handler().handle(&scanned, &other).await.expect_err("refused");
        assert!(error.to_string().contains("sort key"), "{error}");
    }
}

fn many() -> Report {
    let threat = |at: usize| Threat { signature: format!("Test-{at}"), layer_path: "ü".repeat(500) };
    let mut many = report(Verdict::Infected { threats: (0..2000).map(threat).collect() });
    let reason = Reason { kind: ReasonKind::TooDeep, layer_path: "x".repeat(1000), detail: Some(String::from("d")) };
    many.coverage.gaps = vec![reason; 10];
    many.coverage.gap_count = 1000;
    many
}

#[tokio::test]
async fn more_than_an_item_holds_is_left_out_and_counted() {
    let scanned = scanned(many());
    let item = Item::new(&scanned, &step(&scanned, &Buckets::new(), 1), &Form::default(), Timestamp(0));
    let size = size_of(&item.attributes);
    assert!((300 << 10..400 << 10).contains(&size), "{size}");
    let count = |name: &str| item.attributes[name].as_l().expect("a list").len();
    assert!(count("threats") > 100 && item.omitted > 0);
    assert_eq!(count("threats") + count("reasons") + item.omitted, 2000 + 1000);
    for server in SERVERS {
        let Some(scene) = Scene::new(server, false).await else { continue };
        let output = call(&scene.handler(), many(), 1).await.expect("it fits");
        assert_eq!(output.value["omitted"], item.omitted, "{}", server.name());
        assert_eq!(scene.items().await[0]["omitted"].as_n().map(String::as_str), Ok(item.omitted.to_string().as_str()));
    }
}

#[test]
fn findings_are_listed_masked_and_what_has_no_room_is_counted() {
    use crate::model::Finding;
    let finding = |byte_offset| Finding {
        detector: String::from("ssn"),
        masked_match: String::from("***-**-1234"),
        context: String::from("what stands around it"),
        layer_path: "x".repeat(300),
        byte_offset,
        confidence: 0.95,
        ..Finding::default()
    };
    for (count, omitted) in [(0_u64, 0_u64), (3, 0), (3, 7), (5000, 7)] {
        let mut report = clean();
        report.findings = (0..count).map(finding).collect();
        report.findings_omitted = omitted;
        let scanned = scanned(report);
        let item = Item::new(&scanned, &step(&scanned, &Buckets::new(), 1), &Form::default(), Timestamp(0));
        let listed = item.attributes.get("findings").map_or(0, |list| list.as_l().expect("a list").len());
        assert_eq!(listed as u64 + item.omitted as u64, count + omitted);
        assert!(size_of(&item.attributes) < 400 << 10 && (count == 5000 || listed as u64 == count));
        if let Some(list) = item.attributes.get("findings") {
            let first = list.as_l().expect("a list")[0].as_m().expect("a map");
            assert_eq!((text(first, "detector"), text(first, "masked_match")), ("ssn", "***-**-1234"));
            assert_eq!(first["confidence"].as_n().map(String::as_str), Ok("0.9500"));
            assert!(!first.contains_key("context"));
        }
    }
}

#[tokio::test]
async fn a_table_that_is_not_as_it_should_be_is_named() {
    for server in SERVERS {
        let Some(scene) = Scene::new(server, false).await else { continue };
        let absent = record_to_table("absent").endpoint(&scene.endpoint).credentials("test", "test", None);
        let error = call(&absent, clean(), 1).await.expect_err("refused");
        assert_eq!(error.kind(), HandlerErrorKind::Fatal);
        assert!(error.to_string().contains("there is no table of this name"), "{error}");
        assert!(error.to_string().starts_with("dynamodb://absent/"), "{error}");
        let other = scene.handler().partition_key("id");
        let error = call(&other, clean(), 1).await.expect_err("refused");
        assert!(error.to_string().contains("are its keys the ones that are set up"), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_is_away_is_asked_again() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
    let handler = record_to_table("scans").endpoint(format!("http://{closed}")).credentials("test", "test", None);
    let error = call(&handler.attempts(1), clean(), 1).await.expect_err("away");
    assert_eq!(error.kind(), HandlerErrorKind::Retryable { after: None }, "{error}");
}

#[test]
fn while_its_table_does_not_answer_it_is_left_alone() {
    assert_eq!(record_to_table("scans").depends_on(), Some("dynamodb://scans"));
}

#[test]
fn addresses_name_a_table() {
    let handler = RecordToTable::from_address("dynamodb://scans?region=r&endpoint=http://127.0.0.1:1").expect("read");
    assert_eq!((handler.table.as_str(), handler.connection.region.as_deref()), ("scans", Some("r")));
    for wrong in
        ["s3://scans", "dynamodb://", "dynamodb://a b c", "dynamodb://scans?x=1", "dynamodb://scans?endpoint=x"]
    {
        let error = RecordToTable::from_address(wrong).expect_err(wrong);
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{wrong}");
    }
}

#[test]
fn columns_have_names_of_their_own() {
    let names: std::collections::BTreeSet<_> = Column::ALL.iter().map(|column| column.as_str()).collect();
    assert_eq!(names.len(), Column::ALL.len());
    let handler = record_to_table("scans").without(Column::IdempotencyKey);
    assert_eq!(handler.form.name(Column::IdempotencyKey), Some("idempotency_key"));
}
