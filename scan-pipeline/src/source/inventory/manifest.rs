//! `manifest.json`: what the list is of, and which files it has.

use serde::Deserialize;

use crate::error::excerpt;
use crate::model::{BucketUrl, Timestamp};
use crate::{Error, ErrorKind, Result};

/// Most bytes of a manifest: room for some 400,000 files.
const LARGEST: usize = 64 << 20;
/// The only form that there has been.
const VERSION: &str = "2016-11-30";

/// What a list is of, and which files it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The bucket that the list is of, which every object of it is then in: `s3://name`. Where it is set up under an
    /// address that says more, put that here; [`Buckets::locate`](crate::objects::Buckets::locate) finds it.
    pub source: BucketUrl,
    /// The bucket that the files are in.
    pub destination: BucketUrl,
    /// When S3 began to make the list. What was written later may be missing from it.
    pub created: Option<Timestamp>,
    /// The files, in the order of [`Cursor::file`](super::Cursor::file).
    pub files: Vec<InventoryFile>,
    /// The name that rows of the list have.
    pub(super) listed: String,
    pub(super) columns: Columns,
}

/// One file of a list.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct InventoryFile {
    /// Its key in the destination bucket.
    pub key: String,
    /// Its bytes, as they lie there.
    pub size: u64,
    /// Their MD5 as hexadecimal digits.
    #[serde(rename = "MD5checksum")]
    pub md5: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Form {
    source_bucket: String,
    destination_bucket: String,
    version: String,
    #[serde(default)]
    creation_timestamp: Option<String>,
    file_format: String,
    file_schema: String,
    files: Vec<InventoryFile>,
}

impl Manifest {
    /// Reads a `manifest.json`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] for a list that is not CSV, [`ErrorKind::InvalidInput`] for what is no manifest or
    /// names no keys.
    pub fn parse(text: &[u8]) -> Result<Self> {
        if text.len() > LARGEST {
            return Err(wrong(format!("has {} bytes, and {LARGEST} are the most", text.len())));
        }
        let form: Form = serde_json::from_slice(text).map_err(|why| wrong(format!("cannot be read: {why}")))?;
        if form.version != VERSION {
            return Err(wrong(format!("is of version {}; {VERSION} is understood", excerpt(&form.version))));
        }
        if form.file_format != "CSV" {
            let why = format!(
                "the inventory is written as {}; set its format to CSV, which is the one that can be read",
                excerpt(&form.file_format)
            );
            return Err(Error::new(ErrorKind::Unsupported, why));
        }
        let bucket =
            |name: &str| BucketUrl::named("s3", name).ok_or_else(|| wrong(format!("names a bucket {}", excerpt(name))));
        // `arn:aws:s3:::name`, or `arn:aws-cn:s3:::name`.
        let destination = form.destination_bucket.rsplit_once(":::").map_or("", |(_, name)| name);
        for file in &form.files {
            let is_md5 = file.md5.len() == 32 && file.md5.bytes().all(|digit| digit.is_ascii_hexdigit());
            if !is_md5 || file.key.is_empty() {
                return Err(wrong(format!("has a file {} without a key or an MD5", excerpt(&file.key))));
            }
        }
        let millis = form.creation_timestamp.as_deref().and_then(|millis| millis.parse().ok());
        Ok(Self {
            source: bucket(&form.source_bucket)?,
            listed: form.source_bucket,
            destination: bucket(destination)?,
            created: millis.map(Timestamp),
            columns: Columns::parse(&form.file_schema)?,
            files: form.files,
        })
    }
}

/// Where in a row what is to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Columns {
    pub(super) count: usize,
    pub(super) bucket: Option<usize>,
    pub(super) key: usize,
    pub(super) version: Option<usize>,
    pub(super) is_latest: Option<usize>,
    pub(super) is_delete_marker: Option<usize>,
    pub(super) size: Option<usize>,
    pub(super) modified: Option<usize>,
    pub(super) etag: Option<usize>,
}

impl Columns {
    fn parse(schema: &str) -> Result<Self> {
        let names: Vec<&str> = schema.split(',').map(str::trim).collect();
        if names.len() > super::rows::MOST_COLUMNS {
            return Err(wrong(format!("has {} columns", names.len())));
        }
        let find = |name: &str| {
            let mut places = names.iter().enumerate().filter(|(_, other)| **other == name).map(|(at, _)| at);
            match (places.next(), places.next()) {
                (_, Some(_)) => Err(wrong(format!("has the column {name} twice"))),
                (place, None) => Ok(place),
            }
        };
        let key = find("Key")?.ok_or_else(|| wrong(format!("has no column Key, but {}", excerpt(schema))))?;
        Ok(Self {
            count: names.len(),
            bucket: find("Bucket")?,
            key,
            version: find("VersionId")?,
            is_latest: find("IsLatest")?,
            is_delete_marker: find("IsDeleteMarker")?,
            size: find("Size")?,
            modified: find("LastModifiedDate")?,
            etag: find("ETag")?,
        })
    }
}

fn wrong(what: String) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("the manifest of the inventory {what}"))
}
