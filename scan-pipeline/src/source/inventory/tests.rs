//! Lists as S3 writes them, and as they get damaged.

use md5::{Digest, Md5};
use proptest::prelude::*;
use scan_pipeline_tests::stream::gz;

use super::*;
use crate::content::Content;
use crate::model::{ObjectRef, Timestamp};
use crate::objects::{MemoryBucket, ObjectOps, PutOptions};
use crate::{Error, ErrorKind};

const SCHEMA: &str = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, ETag, StorageClass";

const LIST: &str = r#""example","objectKey1","","true","false","16384","2016-11-20T18:24:35.000Z","37b51d194a7513e45b56f6524f2d51f2","STANDARD"
"example","a+b%2Bc/%C3%BC%2520","v2","true","false","0","2021-01-01T00:00:00.999Z","d41d8cd98f00b204e9800998ecf8427e","STANDARD"
"example","objectKey1","v1","false","false","7","2016-11-20T18:24:35.000Z","aaa","GLACIER"
"example","gone","v3","true","true","","2016-11-20T18:24:35.000Z","",""
"example","%2Fevil","null","true","false","","","",""
"#;

fn md5(bytes: &[u8]) -> String {
    Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn manifest_text(schema: &str, file: &[u8]) -> String {
    serde_json::json!({
        "sourceBucket": "example",
        "destinationBucket": "arn:aws:s3:::example-inventory-destination-bucket",
        "version": "2016-11-30",
        "creationTimestamp": "1514944800000",
        "fileFormat": "CSV",
        "fileSchema": schema,
        "files": [{
            "key": "Inventory/example/2016-11-06T21-32Z/files/939c6d46-85a9-4ba8-87bd-9db705a579ce.csv.gz",
            "size": file.len(),
            "MD5checksum": md5(file),
        }],
    })
    .to_string()
}

fn manifest(file: &[u8]) -> Manifest {
    Manifest::parse(manifest_text(SCHEMA, file).as_bytes()).expect("a manifest")
}

/// Everything that comes of a file: the rows, what was counted, and how it ended.
async fn read(manifest: &Manifest, file: &[u8], from: u64, options: RowOptions) -> (Vec<Row>, Counts, Option<Error>) {
    let mut rows = Rows::new(manifest, Cursor { file: 0, row: from }, options, file).expect("there is such a file");
    let mut all = Vec::new();
    loop {
        match rows.next().await {
            Ok(Some(row)) => all.push(row),
            Ok(None) => {
                assert!(rows.next().await.expect("still over").is_none());
                return (all, rows.counts(), None);
            }
            Err(why) => {
                let again = rows.next().await.expect_err("no end in peace after an error");
                assert_eq!(again.kind(), ErrorKind::Cancelled);
                return (all, rows.counts(), Some(why));
            }
        }
    }
}

async fn whole(list: &str, options: RowOptions) -> (Vec<Row>, Counts) {
    let file = gz(list.as_bytes());
    let (rows, counts, error) = read(&manifest(&file), &file, 0, options).await;
    assert!(error.is_none(), "{error:?}");
    (rows, counts)
}

/// How reading a file with this list ends.
async fn ending(list: &[u8]) -> ErrorKind {
    let file = gz(list);
    read(&manifest(&file), &file, 0, RowOptions::default()).await.2.expect("an error").kind()
}

#[tokio::test]
async fn rows_become_pinned_objects() {
    let (rows, counts) = whole(LIST, RowOptions::default()).await;
    let objects: Vec<_> =
        rows.iter().map(|row| (row.number, row.object.as_ref().expect("an object").clone())).collect();
    let object = |key: &str| ObjectRef::new("s3://example".parse().expect("an address"), key);
    let first = object("objectKey1").with_etag("37b51d194a7513e45b56f6524f2d51f2").with_size(16384);
    let first = ObjectRef { modified: Some(Timestamp(1_479_666_275_000)), ..first };
    let second = object("a b+c/ü%20").with_version("v2").with_etag("d41d8cd98f00b204e9800998ecf8427e").with_size(0);
    let second = ObjectRef { modified: Some(Timestamp(1_609_459_200_000)), ..second };
    assert_eq!(objects, [(0, first), (1, second), (4, object("/evil"))]);
    assert_eq!(counts, Counts { given: 3, delete_markers: 1, older_versions: 1 });

    let (rows, counts) = whole(LIST, RowOptions { all_versions: true }).await;
    assert_eq!(rows.iter().map(|row| row.number).collect::<Vec<_>>(), [0, 1, 2, 4]);
    assert_eq!(rows[2].object.as_ref().expect("an object").version.as_deref(), Some("v1"));
    assert_eq!(counts, Counts { given: 4, delete_markers: 1, older_versions: 0 });
}

#[tokio::test]
async fn columns_are_found_by_their_names() {
    let file = gz(b"7,k,ignored\n");
    let manifest = Manifest::parse(manifest_text("Size,Key,ChecksumAlgorithm", &file).as_bytes()).expect("a manifest");
    let (rows, _, error) = read(&manifest, &file, 0, RowOptions::default()).await;
    let object = rows[0].object.as_ref().expect("an object");
    assert!(error.is_none() && object.key == "k" && object.size == Some(7) && !object.is_pinned());
    for schema in ["Bucket, Size", "Key, Key", "Key, Size, Size", ""] {
        let why = Manifest::parse(manifest_text(schema, &file).as_bytes()).expect_err(schema);
        assert_eq!(why.kind(), ErrorKind::InvalidInput);
    }
}

#[tokio::test]
async fn objects_are_in_the_bucket_that_is_set_up() {
    let file = gz(LIST.as_bytes());
    let mut manifest = manifest(&file);
    manifest.source = "s3://example?endpoint=http://127.0.0.1:9000".parse().expect("an address");
    let (rows, _, error) = read(&manifest, &file, 0, RowOptions::default()).await;
    assert!(error.is_none() && rows.len() == 3);
    assert!(rows.iter().all(|row| row.object.as_ref().expect("an object").bucket == manifest.source));
    for text in ["", "1", ":", "1:", ":1", "-1:0", "1:2:3", "a:b"] {
        assert!(text.parse::<Cursor>().is_err(), "{text}");
    }
}

#[tokio::test]
async fn a_bad_row_hides_no_good_one() {
    let bad = [
        "example,100%,,true,false,1,,,",
        "example,,,true,false,1,,,",
        "other,k,,true,false,1,,,",
        "exam/ple,k,,true,false,1,,,",
        "example,k,,maybe,false,1,,,",
        "example,k,,true,no,1,,,",
        "example,k,,true,false,much,,,",
        "example,k,,true,false,-1,,,",
        "example,k,,true,false,1,yesterday,,",
        "example,k",
        "example,k,,true,false,1,,,,one too many",
        "example,%FF,,true,false,1,,,",
        "example,a%00b,,true,false,1,,,",
    ];
    for bad in bad {
        let (rows, counts) = whole(&format!("{LIST}{bad}\n{LIST}"), RowOptions::default()).await;
        assert_eq!(rows.iter().map(|row| row.number).collect::<Vec<_>>(), [0, 1, 4, 5, 6, 7, 10], "{bad}");
        let why = rows[3].object.as_ref().expect_err(bad);
        assert!(why.kind() == ErrorKind::InvalidInput && why.context().is_some_and(|about| about.ends_with("row 5")));
        assert_eq!(counts.given, 7);
    }
}

#[tokio::test]
async fn it_goes_on_at_any_row() {
    let file = gz(LIST.repeat(3).as_bytes());
    let manifest = manifest(&file);
    let all: Vec<_> = read(&manifest, &file, 0, RowOptions::default()).await.0.iter().map(|row| row.number).collect();
    for stop in 0..=all.len() {
        let mut rows = Rows::new(&manifest, Cursor::default(), RowOptions::default(), &file[..]).expect("a file");
        let mut seen = Vec::new();
        while seen.len() < stop {
            seen.push(rows.next().await.expect("readable").expect("a row").number);
        }
        let cursor: Cursor = rows.cursor().to_string().parse().expect("a cursor");
        let (rest, _, error) = read(&manifest, &file, cursor.row, RowOptions::default()).await;
        assert!(error.is_none());
        seen.extend(rest.iter().map(|row| row.number));
        assert_eq!(seen, all, "stopped after {stop}");
    }
    let from = Rows::new(&manifest, Cursor { file: 0, row: 9 }, RowOptions::default(), &file[..]).expect("a file");
    assert_eq!(from.cursor().row, 9, "nothing was read yet");
    assert!(read(&manifest, &file, 15, RowOptions::default()).await.2.is_none(), "just behind the last row");
    let beyond = read(&manifest, &file, 16, RowOptions::default()).await.2.expect("there are 15 rows");
    assert_eq!(beyond.kind(), ErrorKind::InvalidInput);
    assert!(Rows::new(&manifest, Cursor { file: 1, row: 0 }, RowOptions::default(), &file[..]).is_err());
}

#[tokio::test]
async fn a_file_that_is_not_the_manifests_has_no_good_end() {
    let file = gz(LIST.as_bytes());
    let good = manifest(&file);
    for cut in [0, 1, 10, file.len() / 2, file.len() - 8, file.len() - 1] {
        let why = read(&good, &file[..cut], 0, RowOptions::default()).await.2.expect("it is cut off");
        assert_eq!(why.kind(), ErrorKind::Truncated, "{cut}: {why}");
        // Also when it lies like that in the bucket.
        let why = read(&manifest(&file[..cut]), &file[..cut], 0, RowOptions::default()).await.2.expect("it is cut off");
        assert_eq!(why.kind(), ErrorKind::Truncated, "{cut}: {why}");
    }
    let longer = [&file[..], &gz(b"\n")[..]].concat();
    let other = gz(LIST.replace("objectKey1", "objectKey2").as_bytes());
    let plain = LIST.as_bytes().to_vec();
    for wrong in [longer, other, plain] as [Vec<u8>; 3] {
        let why = read(&good, &wrong, 0, RowOptions::default()).await.2.expect("another file");
        assert!(matches!(why.kind(), ErrorKind::InvalidInput | ErrorKind::Truncated), "{why}");
        assert!(why.to_string().starts_with("s3://example-inventory-destination-bucket/Inventory/"), "{why}");
    }
    // The sums of gzip itself, where the manifest agrees with the damage.
    for at in [file.len() - 1, file.len() - 8, file.len() / 2] {
        let mut damaged = file.clone();
        damaged[at] ^= 0x10;
        assert!(read(&manifest(&damaged), &damaged, 0, RowOptions::default()).await.2.is_some(), "{at}");
    }
    let trailing = [&file[..], b"trailing"].concat();
    assert!(read(&manifest(&trailing), &trailing, 0, RowOptions::default()).await.2.is_some());
}

/// A good file of the right size, and every row of it, but not the one that the manifest means.
#[tokio::test]
async fn the_sum_is_compared_at_the_end() {
    let file = gz(LIST.as_bytes());
    let text = manifest_text(SCHEMA, &file).replace(&md5(&file), &md5(b"another"));
    let other = Manifest::parse(text.as_bytes()).expect("a manifest");
    let (rows, _, why) = read(&other, &file, 0, RowOptions::default()).await;
    let why = why.expect("another file");
    assert!(rows.len() == 3 && why.kind() == ErrorKind::InvalidInput && why.to_string().contains("MD5"), "{why}");
}

/// S3 and others write files of several members.
#[tokio::test]
async fn members_follow_each_other() {
    let (first, second) = LIST.split_at(LIST.len() / 2);
    let file = [gz(first.as_bytes()), gz(second.as_bytes())].concat();
    let (rows, _, error) = read(&manifest(&file), &file, 0, RowOptions::default()).await;
    assert!(error.is_none() && rows.len() == 3, "{error:?}");
}

#[tokio::test]
async fn a_row_has_a_limit_whatever_it_unpacks_to() {
    assert_eq!(ending(&vec![b'a'; 50 << 20]).await, ErrorKind::InvalidInput);
    assert_eq!(ending(&vec![b'\n'; 50 << 20]).await, ErrorKind::InvalidInput);
    assert_eq!(ending(&vec![b','; 50 << 20]).await, ErrorKind::InvalidInput);
    assert_eq!(ending(format!("\"{}", "a\n".repeat(25 << 20)).as_bytes()).await, ErrorKind::InvalidInput);
}

#[tokio::test]
async fn what_the_reader_says_is_passed_on() {
    let file = gz(LIST.as_bytes());
    let denied = std::io::Error::other(Error::new(ErrorKind::Denied, "not for you"));
    let reader = tokio_util::io::StreamReader::new(futures_util::stream::iter([
        Ok(bytes::Bytes::copy_from_slice(&file[..20])),
        Err(denied),
    ]));
    let mut rows = Rows::new(&manifest(&file), Cursor::default(), RowOptions::default(), reader).expect("a file");
    assert_eq!(rows.next().await.expect_err("it fails").kind(), ErrorKind::Denied);
}

/// A caller who stops waiting in the middle of a row is not told that the file is over.
#[tokio::test]
async fn a_dropped_call_is_no_end() {
    let file = gz(LIST.as_bytes());
    let (mut writer, reader) = tokio::io::duplex(64);
    let mut rows = Rows::new(&manifest(&file), Cursor::default(), RowOptions::default(), reader).expect("a file");
    tokio::io::AsyncWriteExt::write_all(&mut writer, &file[..10]).await.expect("room");
    tokio::select! {
        biased;
        _ = rows.next() => panic!("there is no row as yet"),
        () = std::future::ready(()) => {}
    }
    assert_eq!(rows.next().await.expect_err("broken").kind(), ErrorKind::Cancelled);
}

#[tokio::test]
async fn files_are_read_from_their_bucket() {
    let bucket = MemoryBucket::new("inventories").expect("an address");
    let file = gz(LIST.as_bytes());
    let manifest = manifest(&file);
    let put = async |bytes: Vec<u8>| {
        bucket.put(&manifest.files[0].key, &Content::from_bytes(bytes), &PutOptions::default()).await
    };
    let object = put(file.clone()).await.expect("written");
    let read = bucket.read(&object).await.expect("readable");
    let mut rows = Rows::of_object(&manifest, Cursor::default(), RowOptions::default(), read).expect("the file");
    let mut count = 0;
    while let Some(row) = rows.next().await.expect("readable") {
        count += 1;
        row.object.expect("an object");
    }
    assert_eq!((count, rows.cursor()), (3, Cursor { file: 0, row: 5 }));
    let object = put([&file[..], b"x"].concat()).await.expect("written");
    let read = bucket.read(&object).await.expect("readable");
    let why = Rows::of_object(&manifest, Cursor::default(), RowOptions::default(), read).expect_err("too long");
    assert_eq!(why.kind(), ErrorKind::Superseded);
}

#[test]
fn manifests_are_checked() {
    let text = manifest_text(SCHEMA, b"file");
    let parsed = Manifest::parse(text.as_bytes()).expect("a manifest");
    assert_eq!(parsed.source.as_str(), "s3://example");
    assert_eq!(parsed.destination.as_str(), "s3://example-inventory-destination-bucket");
    assert_eq!(parsed.created, Some(Timestamp(1_514_944_800_000)));
    assert_eq!((parsed.files.len(), parsed.files[0].size), (1, 4));
    for format in ["ORC", "Parquet"] {
        let why = Manifest::parse(text.replace("\"CSV\"", &format!("\"{format}\"")).as_bytes()).expect_err(format);
        assert!(why.kind() == ErrorKind::Unsupported && why.to_string().contains("CSV"), "{why}");
    }
    for (from, to) in [
        ("2016-11-30", "2030-01-01"),
        ("\"example\"", "\"a/b\""),
        ("\"example\"", "7"),
        ("arn:aws:s3:::example", "example"),
        (&md5(b"file"), "abc"),
        ("\"size\":4", "\"size\":-4"),
        ("\"files\"", "\"other\""),
        ("\"sourceBucket\"", "\"sourceBucket\":\"x\",\"sourceBucket\""),
        ("}", ""),
    ] {
        let text = text.replace(from, to);
        assert_eq!(Manifest::parse(text.as_bytes()).expect_err(to).kind(), ErrorKind::InvalidInput, "{text}");
    }
}

proptest! {
    #[test]
    fn keys_come_back(keys in prop::collection::vec("[^\0]{1,200}", 1..20)) {
        let encoded = |key: &String| url::form_urlencoded::byte_serialize(key.as_bytes()).collect::<String>();
        let list: String = keys.iter().map(|key| format!("\"{}\"\n", encoded(key))).collect();
        let file = gz(list.as_bytes());
        let manifest = Manifest::parse(manifest_text("Key", &file).as_bytes()).expect("a manifest");
        let (rows, _, error) = run(read(&manifest, &file, 0, RowOptions::default()));
        prop_assert!(error.is_none());
        let found: Vec<_> = rows.into_iter().map(|row| row.object.expect("an object").key).collect();
        prop_assert_eq!(found, keys);
    }

    /// Any list, packed well, and any file: rows, or an error, and no more of them than there are lines.
    #[test]
    fn any_list_and_any_file_is_read(bytes: Vec<u8>, text in "[\",\nak%true]{0,300}", from in 0u64..4) {
        for list in [&bytes[..], text.as_bytes()] {
            let file = gz(list);
            let (rows, counts, _) = run(read(&manifest(&file), &file, from, RowOptions::default()));
            prop_assert_eq!(rows.len() as u64, counts.given);
            prop_assert!(rows.len() <= list.iter().filter(|byte| b"\r\n".contains(byte)).count() + 1);
        }
        let (_, _, error) = run(read(&manifest(&bytes), &bytes, from, RowOptions::default()));
        prop_assert!(error.is_some(), "that is no gzip");
    }

    #[test]
    fn any_manifest_is_read(bytes: Vec<u8>, text in "[{}\\[\\]\":,a-zA-Z0-9]{0,100}") {
        let _ = (Manifest::parse(&bytes), Manifest::parse(text.as_bytes()));
    }
}

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}
