//! Setting up a bucket.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::config::{RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::types::BucketVersioningStatus;

use super::error::Failure;
use super::list::Marks;
use super::{Inner, S3Bucket, S3Keys, Versioning};
use crate::aws::{Connection, connection_methods};
use crate::model::BucketUrl;
use crate::{Error, ErrorKind, Result};

/// The least size of a part that is not the last.
const LEAST_PART: u64 = 5 << 20;
/// The most that one request copies, and the size of the largest part.
const MOST_COPY: u64 = 5 << 30;

/// Settings of an [`S3Bucket`].
#[derive(Clone)]
pub struct S3BucketBuilder {
    bucket: String,
    url: Option<BucketUrl>,
    connection: Connection,
    path_style: Option<bool>,
    keys: Option<S3Keys>,
    versions: Option<bool>,
    conditional_delete: Option<bool>,
    part_size: u64,
    copy_threshold: u64,
    copy_part_size: u64,
}

impl fmt::Debug for S3BucketBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("S3BucketBuilder");
        out.field("bucket", &self.bucket).field("connection", &self.connection).finish_non_exhaustive()
    }
}

impl S3BucketBuilder {
    pub(super) fn new(bucket: String) -> Self {
        Self {
            bucket,
            url: None,
            connection: Connection::new(Duration::from_secs(60), Duration::from_secs(15 * 60)),
            path_style: None,
            keys: None,
            versions: None,
            conditional_delete: None,
            part_size: 8 << 20,
            copy_threshold: MOST_COPY,
            copy_part_size: 256 << 20,
        }
    }

    pub(super) fn from_url(url: &BucketUrl) -> Result<Self> {
        let wrong = |why: String| Error::new(ErrorKind::InvalidInput, why).about(url.as_str());
        if url.scheme() != "s3" {
            return Err(wrong(String::from("an address of S3 begins with s3://")));
        }
        let (bucket, query) = url.rest().split_once('?').unwrap_or((url.rest(), ""));
        let mut builder = Self::new(bucket.to_owned());
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            builder = match name.as_ref() {
                "endpoint" => builder.endpoint(value),
                "region" => builder.region(value),
                "path_style" if value == "true" || value == "false" => builder.path_style(value == "true"),
                _ => return Err(wrong(format!("`{name}={value}` is not endpoint, region or path_style=true|false"))),
            };
        }
        builder.url = Some(url.clone());
        Ok(builder)
    }

    connection_methods!(
        read: "60 seconds.",
        operation: "15 minutes, since Amazon takes minutes for large copies."
    );

    /// Whether the bucket's name is in the path, not in the host name. Default: yes at an endpoint of your own.
    #[must_use]
    pub fn path_style(mut self, path_style: bool) -> Self {
        self.path_style = Some(path_style);
        self
    }

    /// Which keys the server carries as they are. Default: every key at Amazon's, and those that are paths at an
    /// endpoint of your own, since servers that keep objects as files make another key of the others.
    #[must_use]
    pub fn keys(mut self, keys: S3Keys) -> Self {
        self.keys = Some(keys);
        self
    }

    /// Whether the bucket keeps versions. Default: it is asked, which needs `s3:GetBucketVersioning`; where that is
    /// not granted, no.
    #[must_use]
    pub fn versions(mut self, versions: bool) -> Self {
        self.versions = Some(versions);
        self
    }

    /// Whether the server honours `If-Match` on a delete, as Amazon's does, which is what
    /// [`Caps::pinned_delete`](crate::objects::Caps) then says. Default: at an endpoint of your own it is found out, where the
    /// bucket keeps no versions ([`S3Bucket::probe_conditional_delete`]). The condition is always sent.
    #[must_use]
    pub fn conditional_delete(mut self, honoured: bool) -> Self {
        self.conditional_delete = Some(honoured);
        self
    }

    /// Contents over this size are put in parts of it, several of which are in memory at once. Default 8 MiB, at least
    /// 5 MiB; more where 10,000 parts would not do.
    #[must_use]
    pub fn part_size(mut self, bytes: u64) -> Self {
        self.part_size = bytes.clamp(LEAST_PART, MOST_COPY);
        self
    }

    /// Objects over this size are copied in parts. Default 5 GiB, the most that S3 copies with one request.
    #[must_use]
    pub fn copy_threshold(mut self, bytes: u64) -> Self {
        self.copy_threshold = bytes.min(MOST_COPY);
        self
    }

    /// Size of those parts. Default 256 MiB, at least 5 MiB; more where 10,000 parts would not do.
    #[must_use]
    pub fn copy_part_size(mut self, bytes: u64) -> Self {
        self.copy_part_size = bytes.clamp(LEAST_PART, MOST_COPY);
        self
    }

    /// Sets it up, and asks the bucket whether it keeps versions unless [`versions`](Self::versions) said so.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] for a name or endpoint that cannot be one, [`ErrorKind::Config`] without a region
    /// or a bucket of this name; [`ErrorKind::Unavailable`] and [`ErrorKind::Timeout`] when it cannot be reached.
    pub async fn build(self) -> Result<S3Bucket> {
        let url = self.address()?;
        let client = self.client().await.map_err(|error| error.about(url.as_str()))?;
        let amazons = self.connection.endpoint.is_none();
        let keys = self.keys.unwrap_or(if self.connection.endpoint.is_some() { S3Keys::Paths } else { S3Keys::Exact });
        let mut inner = Inner {
            client,
            keys,
            marks: Marks::default(),
            url,
            bucket: self.bucket,
            versioning: Versioning::Unknown,
            conditional_delete: self.conditional_delete.unwrap_or(amazons),
            read_timeout: self.connection.read_timeout,
            part_size: self.part_size,
            copy_threshold: self.copy_threshold,
            copy_part_size: self.copy_part_size,
        };
        inner.versioning = match self.versions {
            Some(true) => Versioning::Enabled,
            Some(false) => Versioning::Off,
            None => ask_versioning(&inner).await.map_err(|error| error.about(inner.url.as_str()))?,
        };
        if self.conditional_delete.is_none() && !amazons {
            inner.conditional_delete = match inner.versioning {
                // Each delete names a version then.
                Versioning::Enabled => false,
                // A server that ignores the condition would leave a marker of a key that never was.
                Versioning::Suspended => false,
                Versioning::Off | Versioning::Unknown => probed(inner.probe_conditional_delete().await)?,
            };
        }
        Ok(S3Bucket(Arc::new(inner)))
    }

    fn address(&self) -> Result<BucketUrl> {
        let wrong = |why: &str| Err(Error::new(ErrorKind::InvalidInput, why).about(self.bucket.clone()));
        if self.bucket.is_empty() || self.bucket.contains(|c: char| "/?#%".contains(c) || c.is_whitespace()) {
            return wrong("is no name of a bucket; a prefix is not part of it");
        }
        self.connection.check().map_err(|error| error.about(self.bucket.clone()))?;
        match (&self.url, &self.connection.endpoint) {
            (Some(url), _) => Ok(url.clone()),
            (None, None) => format!("s3://{}", self.bucket).parse(),
            (None, Some(endpoint)) => format!("s3://{}?endpoint={endpoint}", self.bucket).parse(),
        }
    }

    async fn client(&self) -> Result<aws_sdk_s3::Client> {
        let shared = self.connection.load().await?;
        let config = aws_sdk_s3::config::Builder::from(&shared)
            .force_path_style(self.path_style.unwrap_or(shared.endpoint_url().is_some()))
            // Servers other than Amazon's know neither trailers nor all the sums. Bodies are signed with their SHA-256.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .build();
        Ok(aws_sdk_s3::Client::from_conf(config))
    }
}

/// Who may not delete need not know how it would go.
fn probed(answer: Result<bool>) -> Result<bool> {
    match answer {
        Err(why) if why.kind() == ErrorKind::Denied => Ok(false),
        answer => answer,
    }
}

async fn ask_versioning(inner: &Inner) -> Result<Versioning> {
    match inner.client.get_bucket_versioning().bucket(&inner.bucket).send().await.map_err(Failure::from) {
        Ok(answer) => Ok(match answer.status() {
            Some(BucketVersioningStatus::Enabled) => Versioning::Enabled,
            Some(_) => Versioning::Suspended,
            None => Versioning::Off,
        }),
        // A server without versions, or with another answer (moto), or a policy that does not let us ask.
        Err(why) if matches!(why.status, Some(200 | 401 | 403 | 501)) && why.error.kind() != ErrorKind::Config => {
            tracing::debug!(bucket = %inner.url, why = %why.error, "cannot tell whether the bucket keeps versions");
            Ok(Versioning::Unknown)
        }
        Err(why) => Err(why.into()),
    }
}
