//! Shards of an inventory: each is one of its files.

use bytes::BytesMut;
use futures_util::TryStreamExt;

use super::list::{Listed, damaged};
use super::{Around, Outcome};
use crate::model::{BucketUrl, ObjectRef};
use crate::objects::Buckets;
use crate::source::inventory::{Cursor, Manifest, RowOptions, Rows};
use crate::store::{Job, JobSource, Shard};
use crate::{Error, ErrorKind, Result};

/// Most bytes of a manifest.
const LARGEST: usize = 64 << 20;

/// The manifest as it is now, pinned, and how many files it has.
pub(super) async fn files(buckets: &Buckets, manifest: &ObjectRef, bucket: &BucketUrl) -> Result<(ObjectRef, usize)> {
    let (pinned, manifest) = read(buckets, manifest).await?;
    let name = |url: &BucketUrl| url.rest().split('?').next().unwrap_or_default().to_owned();
    // A bucket of another kind may hold a copy of the one that the list is of; one of S3 has its own name.
    if bucket.scheme() == manifest.source.scheme() && name(bucket) != name(&manifest.source) {
        let why = format!("is the inventory of {}, and not of {bucket}", manifest.source);
        return Err(Error::new(ErrorKind::InvalidInput, why).about(pinned.to_string()));
    }
    for file in &manifest.files {
        // All of them are in one bucket, which has to be set up.
        buckets.locate(ObjectRef::new(manifest.destination.clone(), file.key.as_str()))?;
    }
    Ok((pinned, manifest.files.len()))
}

async fn read(buckets: &Buckets, object: &ObjectRef) -> Result<(ObjectRef, Manifest)> {
    let about = |error: Error| error.about(object.to_string());
    let mut read = buckets.of(object)?.read(object).await.map_err(about)?;
    let mut text = BytesMut::new();
    while let Some(bytes) = read.stream.try_next().await.map_err(about)? {
        text.extend_from_slice(&bytes);
        if text.len() > LARGEST {
            return Err(about(Error::new(
                ErrorKind::TooLarge,
                format!("has more than {LARGEST} bytes, and is no manifest"),
            )));
        }
    }
    let manifest = Manifest::parse(&text).map_err(about)?;
    Ok((read.info.object, manifest))
}

impl Around<'_> {
    /// Reads a file from the cursor to its end.
    pub(super) async fn read_inventory(&self, job: &Job, mut shard: Shard) -> Result<Outcome> {
        let JobSource::Inventory { manifest, bucket } = &job.source else { return Err(damaged(job)) };
        let buckets = self.pipeline.buckets();
        let (_, manifest) = read(buckets, manifest).await?;
        let file = shard.number as usize;
        let from = match &shard.cursor {
            Some(row) => Cursor { file, row: row.parse().map_err(|_| damaged(job))? },
            None => Cursor { file, row: 0 },
        };
        let Some(entry) = manifest.files.get(file) else {
            return Err(Error::new(ErrorKind::Superseded, "the inventory has fewer files than when its job was begun"));
        };
        let object = buckets.locate(ObjectRef::new(manifest.destination.clone(), entry.key.as_str()))?;
        let read = buckets.of(&object)?.read(&object).await?;
        let mut rows = Rows::of_object(&manifest, from, RowOptions::default(), read)?;
        loop {
            let mut listed = Listed { objects: Vec::new(), bad: 0, next: None };
            while listed.objects.len() < job.chunk as usize {
                match rows.next().await? {
                    None => break,
                    Some(row) => {
                        listed.next = Some(rows.cursor().row.to_string());
                        match row.object {
                            Ok(object) => listed.objects.push(ObjectRef { bucket: bucket.clone(), ..object }),
                            Err(why) => {
                                listed.bad += 1;
                                tracing::warn!(error = %why, "a row of an inventory cannot be used");
                            }
                        }
                    }
                }
            }
            if listed.objects.len() < job.chunk as usize {
                listed.next = None;
            }
            if !self.hand_out_rows(job, &mut shard, listed).await? {
                return Ok(Outcome::Done);
            }
            // The file is read in one go, since the next turn would have to begin at its start; others are let in
            // between by the runtime.
            tokio::task::yield_now().await;
        }
    }
}
