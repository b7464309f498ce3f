//! One server of a kind for all tests of this program, and fresh buckets on it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use scan_pipeline::objects::{S3Bucket, S3BucketBuilder, S3Keys};
use scan_pipeline_tests::servers::{Running, S3Server, keep_for_process, start};

/// The server, started for the first test that asks; `None` where it is not installed.
pub(crate) fn server(kind: S3Server) -> Option<&'static Running> {
    static VERSITYGW: OnceLock<Option<Running>> = OnceLock::new();
    static MINIO: OnceLock<Option<Running>> = OnceLock::new();
    static MOTO: OnceLock<Option<Running>> = OnceLock::new();
    let slot = match kind {
        S3Server::Versitygw => &VERSITYGW,
        S3Server::Minio => &MINIO,
        S3Server::Moto => &MOTO,
    };
    slot.get_or_init(|| {
        let running = start(kind)?;
        keep_for_process(running.dir());
        Some(running)
    })
    .as_ref()
}

/// A client without our code, to set up and to look behind its back.
pub(crate) fn client(running: &Running) -> aws_sdk_s3::Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(running.region()))
        .endpoint_url(running.endpoint())
        .force_path_style(true)
        .credentials_provider(Credentials::new(running.access_key(), running.secret_key(), None, None, "test"))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    aws_sdk_s3::Client::from_conf(config)
}

/// A new bucket, by its name.
pub(crate) async fn fresh(running: &Running, versions: bool) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("test-{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let client = client(running);
    client.create_bucket().bucket(&name).send().await.expect("a bucket is made");
    if versions {
        let config = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
        let request = client.put_bucket_versioning().bucket(&name).versioning_configuration(config);
        request.send().await.expect("versions are kept");
    }
    name
}

/// Ours, at the server or at a proxy in front of it. Parts are as small as they may be.
pub(crate) fn builder(running: &Running, endpoint: &str, bucket: &str) -> S3BucketBuilder {
    let keys = if running.server() == S3Server::Moto { S3Keys::Exact } else { S3Keys::Paths };
    S3Bucket::builder(bucket)
        .endpoint(endpoint)
        .region(running.region())
        .credentials(running.access_key(), running.secret_key(), None)
        .part_size(5 << 20)
        .keys(keys)
}

pub(crate) async fn open(running: &Running, bucket: &str, versions: bool) -> S3Bucket {
    let builder = builder(running, &running.endpoint(), bucket);
    // moto's answer is not in the right form; the others are asked.
    let builder = if running.server() == S3Server::Moto { builder.versions(versions) } else { builder };
    builder.build().await.expect("a bucket that is there")
}
