//! S3's notifications, the servers that speak as it does, SNS and EventBridge.

use super::super::{Sequencer, TaskMessage};
use super::*;
use crate::model::ObjectRef;

const AMAZON: &str = r#"{
  "Records": [{
    "eventVersion": "2.1",
    "eventSource": "aws:s3",
    "awsRegion": "us-west-2",
    "eventTime": "1970-01-01T00:00:00.000Z",
    "eventName": "ObjectCreated:Put",
    "userIdentity": {"principalId": "AIDAJDPLRKLG7UEXAMPLE"},
    "requestParameters": {"sourceIPAddress": "127.0.0.1"},
    "responseElements": {
      "x-amz-request-id": "C3D13FE58DE4C810",
      "x-amz-id-2": "FMyUVURIY8/IgAtTv8xRjskZQpcIZ9KG4V5Wp6S7S/JRWeUWerMUE5JgHvANOjpD"
    },
    "s3": {
      "s3SchemaVersion": "1.0",
      "configurationId": "testConfigRule",
      "bucket": {
        "name": "amzn-s3-demo-bucket",
        "ownerIdentity": {"principalId": "A3NL1KOZZKExample"},
        "arn": "arn:aws:s3:::amzn-s3-demo-bucket"
      },
      "object": {
        "key": "HappyFace.jpg",
        "size": 1024,
        "eTag": "d41d8cd98f00b204e9800998ecf8427e",
        "versionId": "096fKKXTRTtl3on89fVO.nfljtsv6qko",
        "sequencer": "0055AED6DCD90281E5"
      }
    }
  }]
}"#;

const MINIO: &str = r#"{
  "EventName": "s3:ObjectCreated:Put",
  "Key": "images/a b/myphoto.jpg",
  "Records": [{
    "eventVersion": "2.0",
    "eventSource": "minio:s3",
    "awsRegion": "",
    "eventTime": "2019-09-11T03:50:38.157Z",
    "eventName": "s3:ObjectCreated:Put",
    "userIdentity": {"principalId": "minio"},
    "requestParameters": {"accessKey": "minio", "region": "", "sourceIPAddress": "192.168.56.192"},
    "responseElements": {"x-amz-request-id": "15C3249451E12784", "x-minio-origin-endpoint": "http://192.168.56.192:9000"},
    "s3": {
      "s3SchemaVersion": "1.0",
      "configurationId": "Config",
      "bucket": {"name": "images", "ownerIdentity": {"principalId": "minio"}, "arn": "arn:aws:s3:::images"},
      "object": {
        "key": "a+b%2Fmyphoto.jpg",
        "size": 6474,
        "eTag": "430f89010c77aa34fc8760696da62d08-1",
        "contentType": "image/jpeg",
        "userMetadata": {"content-type": "image/jpeg"},
        "versionId": "1",
        "sequencer": "15C32494527B46C5"
      }
    },
    "source": {"host": "192.168.56.192", "port": "34402", "userAgent": "MinIO (linux; amd64) minio-go/v6.0.8 mc/DEVELOPMENT"}
  }]
}"#;

const CEPH: &str = r#"{"Records":[{
  "eventVersion":"2.1",
  "eventSource":"ceph:s3",
  "awsRegion":"zonegroup1",
  "eventTime":"2019-11-22T13:47:35.124724Z",
  "eventName":"ObjectCreated:Put",
  "userIdentity":{"principalId":"tester"},
  "requestParameters":{"sourceIPAddress":""},
  "responseElements":{"x-amz-request-id":"503a4c37-85eb-47cd-8681-2817e80b4281.5330.903595","x-amz-id-2":"14d2-zone1-zonegroup1"},
  "s3":{
    "s3SchemaVersion":"1.0",
    "configurationId":"mynotif1",
    "bucket":{"name":"mybucket1","ownerIdentity":{"principalId":"tester"},"arn":"arn:aws:s3:zonegroup1::mybucket1","id":"503a4c37-85eb-47cd-8681-2817e80b4281.5332.38"},
    "object":{"key":"myimage1.jpg","size":"1024","eTag":"37b51d194a7513e45b56f6524f2d51f2","versionId":"","sequencer":"F7E6D75DC742D108","metadata":[],"tags":[]}
  },
  "eventId":"",
  "opaqueData":"me@example.com"
}]}"#;

const EVENTBRIDGE: &str = r#"{
  "version": "0",
  "id": "17793124-05d4-b198-2fde-7ededc63b103",
  "detail-type": "Object Created",
  "source": "aws.s3",
  "account": "111122223333",
  "time": "2021-11-12T00:00:00Z",
  "region": "ca-central-1",
  "resources": ["arn:aws:s3:::amzn-s3-demo-bucket1"],
  "detail": {
    "version": "0",
    "bucket": {"name": "amzn-s3-demo-bucket1"},
    "object": {
      "key": "example-key",
      "size": 5,
      "etag": "b1946ac92492d2347c6235b4d2611184",
      "version-id": "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e",
      "sequencer": "617f08299329d189"
    },
    "request-id": "N4N7GDK58NMKJ12R",
    "requester": "123456789012",
    "source-ip-address": "1.2.3.4",
    "reason": "PutObject"
  }
}"#;

fn object(bucket: &str, key: &str) -> ObjectRef {
    ObjectRef::new(bucket.parse().expect("an address"), key)
}

#[test]
fn amazon() {
    let expected = object("s3://amzn-s3-demo-bucket", "HappyFace.jpg")
        .with_version("096fKKXTRTtl3on89fVO.nfljtsv6qko")
        .with_etag("d41d8cd98f00b204e9800998ecf8427e")
        .with_size(1024);
    for message in [String::from(AMAZON), in_sns(AMAZON), in_sns(&in_sns(AMAZON))] {
        let created = created(&message);
        assert_eq!(created.object, expected);
        assert_eq!(created.sequencer, Sequencer::new("0055AED6DCD90281E5"));
        assert_eq!((created.job_id, created.account, created.exact), (None, None, false));
    }
}

#[test]
fn minio() {
    let expected = object("s3://images", "a b/myphoto.jpg")
        .with_version("1")
        .with_etag("430f89010c77aa34fc8760696da62d08-1")
        .with_size(6474);
    assert_eq!(created(MINIO).object, expected);
}

/// An empty version is none, and the size is text.
#[test]
fn ceph() {
    let expected =
        object("s3://mybucket1", "myimage1.jpg").with_etag("37b51d194a7513e45b56f6524f2d51f2").with_size(1024);
    assert_eq!(created(CEPH).object, expected);
}

#[test]
fn eventbridge() {
    let expected = object("s3://amzn-s3-demo-bucket1", "example-key")
        .with_version("IYV3p45BT0ac8hjHg1houSdS1a.Mro8e")
        .with_etag("b1946ac92492d2347c6235b4d2611184")
        .with_size(5);
    for message in [String::from(EVENTBRIDGE), in_sns(EVENTBRIDGE)] {
        let created = created(&message);
        assert_eq!(created.object, expected);
        assert_eq!(created.sequencer, Sequencer::new("617f08299329d189"));
    }
    let newer = EVENTBRIDGE.replace(
        r#""version": "0",
    "bucket""#,
        r#""version": "0", "event-version": "1.2",
    "bucket""#,
    );
    assert_ne!(newer, EVENTBRIDGE);
    assert_eq!(created(&newer).object, expected);
}

/// The two write a key in two ways. What one writes means another object in the other.
#[test]
fn a_plus_is_a_plus_in_eventbridge_only() {
    let literal = EVENTBRIDGE.replace("example-key", "a+b%2Bc%20d 100%");
    assert_eq!(created(&literal).object.key, "a+b%2Bc%20d 100%");
    assert_eq!(created(&notification("ObjectCreated:Put", "a+b%2Bc%20d")).object.key, "a b+c d");
}

#[test]
fn keys_are_form_decoded_and_not_normalised() {
    for (written, key) in [
        ("red+flower.jpg", "red flower.jpg"),
        ("red%20flower.jpg", "red flower.jpg"),
        ("a%2Bb", "a+b"),
        ("a%2Fb/c", "a/b/c"),
        ("a%252Fb", "a%2Fb"),
        ("%2Fevil", "/evil"),
        ("a%2F%2Fb%2F..%2Fc", "a//b/../c"),
        ("/a//b/../c", "/a//b/../c"),
        ("%C3%BC%F0%9F%92%8E%0A", "ü💎\n"),
        ("ü", "ü"),
    ] {
        assert_eq!(created(&notification("ObjectCreated:Put", written)).object.key, key);
    }
    for written in ["100%", "%zz", "a%2", "%FF%FE", "a%00b", ""] {
        unreadable(&notification("ObjectCreated:Put", written));
    }
}

#[test]
fn keys_have_1_to_1024_bytes() {
    assert_eq!(created(&notification("ObjectCreated:Put", &"k".repeat(1024))).object.key.len(), 1024);
    assert_eq!(created(&notification("ObjectCreated:Put", &"%C3%BC".repeat(512))).object.key.len(), 1024);
    for key in ["k".repeat(1025), "%C3%BC".repeat(513)] {
        assert!(unreadable(&notification("ObjectCreated:Put", &key)).to_string().contains("1024"));
    }
}

#[test]
fn what_is_no_version_and_no_etag_is_none() {
    let with = |version: &str, etag: &str| {
        let message = notification("ObjectCreated:Put", "k")
            .replace(r#""eTag":"abc""#, &format!(r#""eTag":{etag},"versionId":{version}"#));
        created(&message).object
    };
    for version in ["null", r#""null""#, r#""""#] {
        assert_eq!(with(version, r#""abc""#).version, None);
    }
    assert_eq!(
        with(r#""v1""#, r#""\"abc\"""#),
        object("s3://uploads", "k").with_version("v1").with_etag("abc").with_size(3)
    );
    // About whatever is there now.
    assert!(!with("null", r#""""#).is_pinned());
}

#[test]
fn any_creation_counts() {
    for name in ["Put", "Post", "Copy", "CompleteMultipartUpload", "Whatever"] {
        for prefix in ["", "s3:"] {
            created(&notification(&format!("{prefix}ObjectCreated:{name}"), "k"));
        }
    }
    created(&notification("s3:ObjectSynced:Create", "k"));
}

#[test]
fn what_leaves_the_bytes_alone_is_ignored_with_a_reason() {
    for name in [
        "ObjectRemoved:Delete",
        "ObjectRemoved:DeleteMarkerCreated",
        "s3:ObjectRemoved:Delete",
        "ObjectTagging:Put",
        "ObjectTagging:Delete",
        // MinIO's own tagging, which must not start a scan whose tagging starts a scan.
        "s3:ObjectCreated:PutTagging",
        "s3:ObjectCreated:DeleteTagging",
        "s3:ObjectCreated:PutRetention",
        "s3:ObjectCreated:PutLegalHold",
        "ObjectAcl:Put",
        "ObjectRestore:Completed",
        "LifecycleExpiration:Delete",
        "LifecycleTransition",
        "IntelligentTiering",
        "Replication:OperationFailedReplication",
        "ReducedRedundancyLostObject",
        "s3:ObjectAccessed:Get",
        "s3:ObjectLifecycle:Expiration:Current",
    ] {
        let ignored = ignored(&notification(name, "k"));
        assert_eq!(ignored.event, name.strip_prefix("s3:").unwrap_or(name));
        assert!(!ignored.why.is_empty());
    }
    for kind in
        ["Object Deleted", "Object Tags Added", "Object Tags Deleted", "Object ACL Updated", "Object Restore Completed"]
    {
        assert_eq!(ignored(&EVENTBRIDGE.replace("Object Created", kind)).event, kind);
    }
}

#[test]
fn a_test_event_is_ignored() {
    let test = r#"{"Service":"Amazon S3","Event":"s3:TestEvent","Time":"2014-10-13T15:57:02.089Z",
        "Bucket":"amzn-s3-demo-bucket","RequestId":"5582815E1AEA5ADF","HostId":"8cLeGAmw098X5cv4Zkwcmo8vvZa3eH3eKxsPzbB9wrR+YstdA6Knx4Ip8EXAMPLE"}"#;
    for message in [String::from(test), in_sns(test)] {
        assert_eq!(ignored(&message).event, "s3:TestEvent");
    }
    unreadable(&test.replace("s3:TestEvent", "s3:Other"));
}

#[test]
fn other_versions_and_names_are_named() {
    for version in ["2.0", "2.1", "2.2", "2.3", "2.6", "2.17"] {
        created(&AMAZON.replace(r#""2.1""#, &format!("\"{version}\"")));
    }
    for version in ["3.0", "1.0", "2", "2.", "2.x", "22.1", ""] {
        let why = unreadable(&AMAZON.replace(r#""eventVersion": "2.1""#, &format!(r#""eventVersion": "{version}""#)));
        assert!(why.to_string().contains(&format!("`{version}`")), "{why}");
        assert_eq!(why.context(), Some("record 1 of 1"));
    }
    for (message, named) in [
        (notification("ObjectEaten:Whole", "k"), "`ObjectEaten:Whole`"),
        (AMAZON.replace("aws:s3", "aws:dynamodb"), "`aws:dynamodb`"),
        (AMAZON.replace("aws:s3", "aws:sqs"), "event::lambda"),
        (EVENTBRIDGE.replace("Object Created", "Object Eaten"), "`Object Eaten`"),
        (EVENTBRIDGE.replace("aws.s3", "aws.ec2"), "`aws.ec2`"),
        (
            EVENTBRIDGE.replace(
                r#""version": "0",
    "bucket""#,
                r#""version": "1",
    "bucket""#,
            ),
            "`1`",
        ),
        (EVENTBRIDGE.replace(r#""size": 5"#, r#""size": -5"#), "`size`"),
        (CEPH.replace(r#""1024""#, r#""1 KiB""#), "`1 KiB`"),
        (CEPH.replace("\"1024\"", "99999999999999999999"), "`size`"),
        (
            AMAZON
                .replace("amzn-s3-demo-bucket\",\n        \"owner", "uploads?endpoint=http://evil\",\n        \"owner"),
            "no name of a bucket",
        ),
    ] {
        let why = unreadable(&message);
        assert!(why.to_string().contains(named), "{why}");
    }
}

/// Somebody has to confirm it, and the token is nobody else's.
#[test]
fn a_subscription_to_be_confirmed_is_unreadable() {
    let message = r#"{"Type":"SubscriptionConfirmation","MessageId":"165545c9-2a5c-472c-8df2-7ff2be2b3b1b",
        "Token":"2336412f37","TopicArn":"arn:aws:sns:us-west-2:123456789012:MyTopic",
        "Message":"You have chosen to subscribe to the topic.","SubscribeURL":"https://sns.us-west-2.amazonaws.com/?Token=2336412f37"}"#;
    let why = unreadable(message).to_string();
    assert!(why.contains("arn:aws:sns:us-west-2:123456789012:MyTopic") && !why.contains("2336412f37"), "{why}");
}

#[test]
fn our_own_tasks_keep_the_address() {
    let plain = created(r#"{"job_id": "7", "bucket": "s3://uploads", "key": "a+b%20c", "etag": "\"abc\""}"#);
    assert_eq!(plain.object, object("s3://uploads", "a+b%20c").with_etag("abc"));
    assert_eq!(plain.job_id.as_deref(), Some("7"));
    let whole =
        object("s3://b?endpoint=http://127.0.0.1:9000", "\u{1}\"\\ü").with_version("v").with_etag("e").with_size(7);
    let read = created(&TaskMessage::new(&whole).job("7").to_json());
    assert_eq!((read.object, read.job_id.as_deref(), read.exact), (whole.clone(), Some("7"), true));
    let read = created(&TaskMessage::new(&whole).to_json());
    assert_eq!((read.object, read.job_id, read.exact), (whole, None, true));
    for wrong in [
        r#"{"job_id": "7", "bucket": "uploads", "key": "k"}"#,
        r#"{"job_id": "7", "bucket": "s3://uploads"}"#,
        r#"{"job_id": "", "bucket": "s3://uploads", "key": "k"}"#,
        r#"{"job_id": 7, "bucket": "s3://uploads", "key": "k"}"#,
        r#"{"bucket": null, "key": "k"}"#,
        r#"{"job_id": "7", "bucket": "s3://uploads", "key": ["k"]}"#,
    ] {
        unreadable(wrong);
    }
}
