//! What goes wrong on the way, and what happens in between: the right error, nothing half, and once more is once.

mod changes;
mod listed;
mod network;
mod parts;

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::TryStreamExt;
use scan_pipeline::content::Content;
use scan_pipeline::model::ObjectRef;
use scan_pipeline::objects::{KeyRange, ObjectOps, PutOptions, S3Bucket};
use scan_pipeline::testkit::FaultProxy;
use scan_pipeline::{Error, ErrorKind, Result};
use scan_pipeline_tests::servers::{Running, S3Server};

use crate::servers::{builder, client, fresh, open, server};

/// A bucket without versions that can be reached directly and through a proxy.
struct Place {
    running: &'static Running,
    name: String,
    direct: S3Bucket,
    proxy: FaultProxy,
    /// Through the proxy, with short timeouts and no repetitions.
    once: S3Bucket,
    /// The same with repetitions.
    thrice: S3Bucket,
}

async fn place(kind: S3Server) -> Option<Place> {
    let running = server(kind)?;
    let name = fresh(running, false).await;
    let direct = open(running, &name, false).await;
    let proxy = FaultProxy::start(running.address()).await.expect("a port");
    let builder = builder(running, &proxy.endpoint(), &name)
        .versions(false)
        .read_timeout(Duration::from_secs(2))
        .copy_threshold(5 << 20)
        .copy_part_size(5 << 20);
    let once = builder.clone().attempts(1).build().await.expect("is set up");
    let thrice = builder.attempts(3).build().await.expect("is set up");
    Some(Place { running, name, direct, proxy, once, thrice })
}

impl Place {
    /// An object put past the proxy, as those behind it know it.
    async fn object(&self, key: &str, bytes: impl Into<Vec<u8>>) -> ObjectRef {
        self.object_with(key, bytes, &PutOptions::default()).await
    }

    async fn object_with(&self, key: &str, bytes: impl Into<Vec<u8>>, options: &PutOptions) -> ObjectRef {
        let put = self.direct.put(key, &Content::from_bytes(bytes.into()), options).await.expect("is put");
        self.here(&put)
    }

    /// A reference with the address through the proxy.
    fn here(&self, object: &ObjectRef) -> ObjectRef {
        ObjectRef { bucket: self.once.url().clone(), ..object.clone() }
    }

    /// What there is, past the proxy.
    fn there(&self, key: &str) -> ObjectRef {
        ObjectRef::new(self.direct.url().clone(), key)
    }

    async fn bytes(&self, key: &str) -> Result<Vec<u8>> {
        bytes(&self.direct, &self.there(key)).await
    }

    async fn keys(&self) -> Vec<String> {
        let page = self.direct.list(&KeyRange::default()).await.expect("is listed");
        page.entries.into_iter().map(|entry| entry.expect("a good one").key).collect()
    }

    async fn tags(&self, key: &str) -> BTreeMap<String, String> {
        self.direct.tags(&self.there(key)).await.expect("has tags").0
    }

    /// Uploads in parts that were begun and not ended.
    async fn uploads(&self) -> usize {
        let client = client(self.running);
        client.list_multipart_uploads().bucket(&self.name).send().await.expect("are listed").uploads().len()
    }

    /// Overwrites an object past the proxy, from a callback of its.
    fn overwriting(
        &self,
        key: &'static str,
        bytes: Vec<u8>,
        options: PutOptions,
    ) -> impl Fn() -> futures_util::future::BoxFuture<'static, ()> + Send + Sync + 'static {
        let (direct, content) = (self.direct.clone(), Content::from_bytes(bytes));
        move || {
            let (direct, content, options) = (direct.clone(), content.clone(), options.clone());
            Box::pin(async move {
                direct.put(key, &content, &options).await.expect("is overwritten");
            })
        }
    }
}

async fn bytes(bucket: &S3Bucket, object: &ObjectRef) -> Result<Vec<u8>> {
    let parts: Vec<_> = bucket.read(object).await?.stream.try_collect().await?;
    Ok(parts.concat())
}

#[track_caller]
fn fails<T: std::fmt::Debug>(kind: ErrorKind, result: Result<T>) -> Error {
    let error = result.expect_err("this has to fail");
    assert_eq!(error.kind(), kind, "{error}");
    error
}

fn list(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| (String::from(*name), String::from(*value))).collect()
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    list(pairs).into_iter().collect()
}

fn noise(length: usize, seed: u32) -> Vec<u8> {
    (0..length as u32).map(|i| ((i ^ (i >> 9)).wrapping_mul(seed | 1) >> 3) as u8).collect()
}

/// A test for each server that is named.
macro_rules! on {
    ($($server:ident)*: $test:ident) => {
        mod $test {
            $(
                #[allow(non_snake_case)]
                #[tokio::test]
                async fn $server() {
                    let Some(place) = super::super::place(scan_pipeline_tests::servers::S3Server::$server).await else {
                        return;
                    };
                    super::$test(place).await;
                }
            )*
        }
    };
}
use on;
