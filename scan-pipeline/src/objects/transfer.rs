//! Copies from any bucket to any other.

use super::pin::{check_expected, merged_metadata};
use super::{ObjectOps, PutOptions};
use crate::content::Spool;
use crate::model::ObjectRef;
use crate::{Error, ErrorKind, Result};

/// Copies `from` to `key` in `dest`, with metadata, content type and tags kept and those of `options` put over them:
/// by the source itself where it can, else through this process and its spool.
///
/// ```
/// use scan_pipeline::content::{Content, Spool};
/// use scan_pipeline::objects::{MemoryBucket, ObjectOps, PutOptions, transfer};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), scan_pipeline::Error> {
/// let (uploads, clean) = (MemoryBucket::new("uploads")?, MemoryBucket::new("clean")?);
/// let object = uploads.put("a.txt", &Content::from_bytes("one"), &PutOptions::default()).await?;
/// let copy = transfer(&uploads, &object, &clean, "a.txt", &PutOptions::default(), &Spool::default()).await?;
/// assert_eq!(copy.to_string(), "memory://clean/a.txt");
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// Those of the two buckets and of the spool; [`ErrorKind::Superseded`] also when the bytes that came are not those
/// that `options` expects. Then nothing was written.
pub async fn transfer(
    source: &dyn ObjectOps,
    from: &ObjectRef,
    dest: &dyn ObjectOps,
    key: &str,
    options: &PutOptions,
    spool: &Spool,
) -> Result<ObjectRef> {
    match source.copy(from, dest.url(), key, options).await {
        Err(error) if error.kind() == ErrorKind::Unsupported => {}
        done => return done,
    }
    let read = source.read(from).await?;
    // The state whose bytes these are, also when the caller named none.
    let info = read.info;
    let content = spool.stream(read.stream, info.object.size).await.map_err(|why| why.about(from.to_string()))?;
    check_expected(from, &content, options)?;
    let theirs = match source.tags(&info.object).await {
        Ok(tags) => tags.merge(&options.tags),
        Err(error) if error.kind() == ErrorKind::Unsupported => crate::model::Tags::new().merge(&options.tags),
        Err(error) => return Err(error),
    };
    let mut put = options.clone();
    put.metadata = merged_metadata(&info.metadata, &options.metadata);
    put.content_type = options.content_type.clone().or(info.content_type);
    put.tags = theirs.tags.0.into_iter().collect();
    // Where the destination has no tags, those that the caller asked for are an error, and the source's are not.
    if !dest.caps().tags {
        if let Some((name, _)) = options.tags.first() {
            let why = format!("the bucket cannot keep tags, and {name} was to be set");
            return Err(Error::new(ErrorKind::Unsupported, why).about(format!("{}/{key}", dest.url())));
        }
        put.tags.clear();
    }
    dest.put(key, &content, &put).await
}
