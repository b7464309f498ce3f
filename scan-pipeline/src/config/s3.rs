//! Buckets of S3 and what speaks its protocol.

use std::sync::Arc;

use super::buckets::S3Spec;
use crate::Result;
use crate::objects::{ObjectOps, S3Bucket};

pub(super) async fn build(spec: &S3Spec) -> Result<Arc<dyn ObjectOps>> {
    let mut builder = S3Bucket::builder(spec.bucket.as_str());
    if let Some(endpoint) = &spec.endpoint {
        builder = builder.endpoint(endpoint.as_str());
    }
    if let Some(region) = &spec.region {
        builder = builder.region(region.as_str());
    }
    if let Some(path_style) = spec.path_style {
        builder = builder.path_style(path_style);
    }
    if let Some(versions) = spec.versions {
        builder = builder.versions(versions);
    }
    if let Some(honoured) = spec.conditional_delete {
        builder = builder.conditional_delete(honoured);
    }
    if let (Some(access), Some(secret)) = (&spec.access_key, &spec.secret_key) {
        let token = spec.session_token.as_ref().map(|token| token.reveal().to_owned());
        builder = builder.credentials(access.reveal(), secret.reveal(), token);
    }
    Ok(Arc::new(builder.build().await?))
}
