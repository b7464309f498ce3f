//! Files of S3 Inventory: as they are, and as the list inside of a good gzip.
#![no_main]

use std::io::Write;

use libfuzzer_sys::fuzz_target;
use md5::{Digest, Md5};
use scan_pipeline::source::inventory::{Cursor, Manifest, RowOptions, Rows};

const SCHEMA: &str = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, ETag";

fn manifest(file: &[u8]) -> Manifest {
    let md5: String = Md5::digest(file).iter().map(|byte| format!("{byte:02x}")).collect();
    let text = serde_json::json!({
        "sourceBucket": "b", "destinationBucket": "arn:aws:s3:::d", "version": "2016-11-30", "fileFormat": "CSV",
        "fileSchema": SCHEMA, "files": [{"key": "k", "size": file.len(), "MD5checksum": md5}],
    });
    Manifest::parse(text.to_string().as_bytes()).expect("a manifest")
}

async fn read(file: &[u8], row: u64) {
    let options = RowOptions { all_versions: row % 2 == 1 };
    let mut rows = Rows::new(&manifest(file), Cursor { file: 0, row }, options, file).expect("a file");
    let mut next = row;
    while let Ok(Some(row)) = rows.next().await {
        assert!(row.number >= next);
        next = row.number + 1;
        assert_eq!(rows.cursor().row, next);
        if let Ok(object) = row.object {
            assert!(!object.key.is_empty() && object.key.len() <= 1024 && object.bucket.as_str() == "s3://b");
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((first, list)) = bytes.split_first() else { return };
    let _ = Manifest::parse(list);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(list).expect("memory");
    let packed = gzip.finish().expect("memory");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        read(list, 0).await;
        read(&packed, u64::from(first % 4)).await;
    });
});
