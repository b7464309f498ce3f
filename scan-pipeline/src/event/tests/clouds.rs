//! Google and Azure.

use super::*;
use crate::model::ObjectRef;

const GOOGLE: &str = r#"{
  "specversion": "1.0",
  "id": "8213469231746123",
  "source": "//storage.googleapis.com/projects/_/buckets/sample-bucket",
  "type": "google.cloud.storage.object.v1.finalized",
  "subject": "objects/folder/Test.cs",
  "time": "2020-04-23T07:38:57.772Z",
  "datacontenttype": "application/json",
  "data": {
    "kind": "storage#object",
    "id": "sample-bucket/folder/Test.cs/1587627537231057",
    "bucket": "sample-bucket",
    "name": "folder/Test.cs",
    "generation": "1587627537231057",
    "metageneration": "1",
    "contentType": "application/octet-stream",
    "timeCreated": "2020-04-23T07:38:57.230Z",
    "updated": "2020-04-23T07:38:57.230Z",
    "storageClass": "STANDARD",
    "size": "352",
    "md5Hash": "ZDdhNmM3YmFkMzk0N2FjMWYyZTE3NjI2ZjA0ODM2ZWQ=",
    "crc32c": "rTVTeQ==",
    "etag": "CNHZkbuF/ugCEAE="
  }
}"#;

/// The generation pins. The etag would be that of the metadata, which no read gives.
#[test]
fn google() {
    let expected = ObjectRef::new("gs://sample-bucket".parse().expect("an address"), "folder/Test.cs");
    let expected = expected.with_version("1587627537231057").with_size(352);
    for message in [
        String::from(GOOGLE),
        GOOGLE.replace(r#""1587627537231057""#, "1587627537231057"),
        GOOGLE.replace(r#""352""#, "352"),
        format!("[{GOOGLE}]"),
    ] {
        assert_eq!(created(&message).object, expected);
    }
    let literal = GOOGLE.replace(r#""name": "folder/Test.cs""#, r#""name": "a+b%20c//../ü""#);
    assert_eq!(created(&literal).object.key, "a+b%20c//../ü");
}

#[test]
fn other_events_of_google() {
    for kind in ["deleted", "archived", "metadataUpdated"] {
        assert!(ignored(&GOOGLE.replace("finalized", kind)).event.ends_with(kind));
    }
    for (message, named) in [
        (GOOGLE.replace("finalized", "eaten"), "v1.eaten`"),
        (GOOGLE.replace("v1.finalized", "v2.finalized"), "v2.finalized`"),
        (GOOGLE.replace("google.cloud.storage", "com.example.storage"), "`com.example.storage.object.v1.finalized`"),
        (GOOGLE.replace(r#""1587627537231057""#, r#""latest""#), "`generation`"),
        (GOOGLE.replace(r#""generation""#, r#""g""#), "`generation`"),
        (GOOGLE.replace(r#""specversion": "1.0""#, r#""specversion": "2.0""#), "`2.0`"),
        (GOOGLE.replace(r#""data":"#, r#""data_base64":"#), "`data`"),
    ] {
        let why = unreadable(&message);
        assert!(why.to_string().contains(named), "{why}");
    }
}

const CLOUD_EVENT: &str = r#"{
  "source": "/subscriptions/0000/resourceGroups/Storage/providers/Microsoft.Storage/storageAccounts/my-storage-account",
  "subject": "/blobServices/default/containers/testcontainer/blobs/new-file.txt",
  "type": "Microsoft.Storage.BlobCreated",
  "time": "2017-06-26T18:41:00.9584103Z",
  "id": "831e1650-001e-001b-66ab-eeb76e069631",
  "data": {
    "api": "PutBlockList",
    "clientRequestId": "6d79dbfb-0e37-4fc4-981f-442c9ca65760",
    "requestId": "831e1650-001e-001b-66ab-eeb76e000000",
    "eTag": "\"0x8D4BCC2E4835CD0\"",
    "contentType": "text/plain",
    "contentLength": 524288,
    "blobType": "BlockBlob",
    "url": "https://my-storage-account.blob.core.windows.net/testcontainer/new-file.txt",
    "sequencer": "00000000000004420000000000028963",
    "storageDiagnostics": {"batchId": "b68529f3-68cd-4744-baa4-3c0498ec19f0"}
  },
  "specversion": "1.0"
}"#;

/// The same in the schema of Event Grid.
fn event_grid() -> String {
    CLOUD_EVENT
        .replace(r#""source":"#, r#""topic":"#)
        .replace(r#""type":"#, r#""eventType":"#)
        .replace(r#""time":"#, r#""eventTime":"#)
        .replace(r#""specversion": "1.0""#, r#""dataVersion": "", "metadataVersion": "1""#)
}

/// A file that is written by the interface for files, which says so in three places.
fn hierarchical(api: &str) -> String {
    CLOUD_EVENT
        .replace("PutBlockList", api)
        .replace(".blob.core", ".dfs.core")
        .replace(r#""contentLength": 524288"#, r#""contentLength": 0, "contentOffset": 0"#)
}

fn blob(key: &str) -> ObjectRef {
    ObjectRef::new("az://testcontainer".parse().expect("an address"), key).with_etag("0x8D4BCC2E4835CD0")
}

#[test]
fn azure_in_both_schemas() {
    for message in [
        String::from(CLOUD_EVENT),
        format!("[{CLOUD_EVENT}]"),
        event_grid(),
        format!("[{}]", event_grid()),
        in_sns(&format!("[{}]", event_grid())),
    ] {
        let created = created(&message);
        assert_eq!(created.object, blob("new-file.txt").with_size(524_288));
        assert_eq!(created.account.as_deref(), Some("my-storage-account"));
        assert!(created.sequencer.is_some());
    }
}

#[test]
fn a_file_counts_when_it_is_written() {
    for api in ["CreateFile", "SftpCreate"] {
        assert!(ignored(&hierarchical(api)).event.ends_with(api));
    }
    for api in ["FlushWithClose", "SftpCommit"] {
        // The length may be that of the last piece.
        assert_eq!(created(&hierarchical(api)).object, blob("new-file.txt"));
    }
}

#[test]
fn a_renamed_file_has_a_new_key() {
    let renamed = r#"{"type": "Microsoft.Storage.BlobRenamed", "specversion": "1.0",
        "subject": "/blobServices/default/containers/my-file-system/blobs/my-renamed-file.txt",
        "data": {"api": "RenameFile",
        "destinationUrl": "https://my-storage-account.dfs.core.windows.net/my-file-system/my-renamed-file.txt",
        "sourceUrl": "https://my-storage-account.dfs.core.windows.net/my-file-system/my-original-file.txt",
        "sequencer": "00000000000004420000000000028963"}}"#;
    let created = created(renamed);
    assert_eq!(
        created.object,
        ObjectRef::new("az://my-file-system".parse().expect("an address"), "my-renamed-file.txt")
    );
    let why = unreadable(&renamed.replace("BlobRenamed", "DirectoryRenamed"));
    assert!(why.to_string().contains("start a job"), "{why}");
}

#[test]
fn other_events_of_azure() {
    for kind in ["BlobDeleted", "BlobTierChanged", "AsyncOperationInitiated", "DirectoryCreated", "DirectoryDeleted"] {
        assert!(ignored(&CLOUD_EVENT.replace("BlobCreated", kind)).event.ends_with(kind));
    }
    let validation = r#"[{"id": "2d1781af", "topic": "/subscriptions/0000", "subject": "",
        "data": {"validationCode": "512d38b6-c7b8-40c8-89fe-f46f9e9622b6"},
        "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent", "eventTime": "2018-01-25T22:12:19Z", "dataVersion": "1"}]"#;
    let why = unreadable(validation).to_string();
    assert!(why.contains("SubscriptionValidationEvent") && !why.contains("512d38b6"), "{why}");
    assert!(unreadable(&CLOUD_EVENT.replace("BlobCreated", "BlobEaten")).to_string().contains("BlobEaten"));
}

/// Two accounts may each have a container of that name.
#[cfg(feature = "azure")]
#[test]
fn a_blob_of_another_account_is_none_of_ours() {
    use object_store::azure::MicrosoftAzureBuilder;

    use crate::objects::{Buckets, ObjectStoreBucket};

    let located = |account: &str| {
        let builder = MicrosoftAzureBuilder::new().with_account(account).with_skip_signature(true);
        let bucket = ObjectStoreBucket::azure("testcontainer", builder).expect("a bucket");
        let mut buckets = Buckets::new();
        buckets.insert("uploads", std::sync::Arc::new(bucket));
        created(CLOUD_EVENT).locate(&buckets)
    };
    assert_eq!(located("my-storage-account").expect("it is there").key, "new-file.txt");
    let other = located("theirs").expect_err("it is another's");
    assert!(!other.is_retryable() && other.to_string().contains("my-storage-account"), "{other}");
}

/// Whether the address is encoded, only the subject tells.
#[test]
fn names_of_blobs_are_read_without_a_guess() {
    let named = |in_address: &str, in_subject: &str| {
        let message = CLOUD_EVENT
            .replace("testcontainer/new-file.txt", &format!("testcontainer/{in_address}"))
            .replace("blobs/new-file.txt", &format!("blobs/{in_subject}"));
        event(&message)
    };
    for (in_address, in_subject, name) in [
        ("a b.txt", "a b.txt", "a b.txt"),
        ("a%20b.txt", "a b.txt", "a b.txt"),
        ("a+b.txt", "a+b.txt", "a+b.txt"),
        ("a#b?c.txt", "a#b?c.txt", "a#b?c.txt"),
        ("a%23b.txt", "a#b.txt", "a#b.txt"),
        ("a%2520b.txt", "a%20b.txt", "a%20b.txt"),
        ("100%", "100%", "100%"),
        ("100%25", "100%", "100%"),
        ("%C3%BC", "ü", "ü"),
        ("a//b/../c", "a//b/../c", "a//b/../c"),
        ("x/blobs/y", "x/blobs/y", "x/blobs/y"),
    ] {
        match named(in_address, in_subject) {
            Event::Created(created) => assert_eq!(created.object, blob(name).with_size(524_288)),
            other => panic!("{in_address}: {other:?}"),
        }
    }
    // `a%20b` may be called that, or `a b`; a lost character may have been any.
    for (in_address, in_subject) in
        [("a%20b", "a%20b"), ("a%20b", "c"), ("%zz", "a"), ("%FF", "x"), ("a\u{fffd}", "a\u{fffd}"), ("", "")]
    {
        assert!(matches!(named(in_address, in_subject), Event::Unreadable(_)), "{in_address}");
    }
    let without =
        CLOUD_EVENT.replace("new-file.txt\",\n  \"type\"", "x\",\n  \"type\"").replace("\"subject\"", "\"s\"");
    assert_eq!(created(&without.replace("new-file.txt", "a%20b")).object.key, "a b");
    let long = |count: usize| named(&"ü".repeat(count), &"ü".repeat(count));
    assert!(matches!(long(1024), Event::Created(_)) && matches!(long(1025), Event::Unreadable(_)));
}

#[test]
fn addresses_of_blobs_are_checked() {
    let at = |address: &str| {
        CLOUD_EVENT.replace("https://my-storage-account.blob.core.windows.net/testcontainer/new-file.txt", address)
    };
    let root = created(&at("https://my-storage-account.blob.core.windows.net/new-file.txt"));
    assert_eq!(root.object.bucket.as_str(), "az://$root");
    let zone = created(&at("https://acc.z01.blob.storage.azure.net/c/new-file.txt"));
    assert_eq!((zone.object.bucket.as_str(), zone.account.as_deref()), ("az://c", Some("acc")));
    for address in [
        "ftp://a.blob.core.windows.net/c/new-file.txt",
        "https://example.com/c/new-file.txt",
        "https://127.0.0.1:10000/devstoreaccount1/c/new-file.txt",
        "https://a.blob.core.windows.net",
        "https://a.blob.core.windows.net/c?x=1/new-file.txt",
        "",
    ] {
        unreadable(&at(address));
    }
}
