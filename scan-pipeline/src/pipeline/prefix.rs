//! Everything under a prefix.

use futures_util::stream::{self, Stream, StreamExt};

use super::{Pipeline, Processed};
use crate::model::ObjectRef;
use crate::objects::KeyRange;
use crate::{Error, Result};

/// What happens while a prefix is processed, in the order in which it happens.
#[derive(Debug)]
#[non_exhaustive]
pub enum Progress {
    /// An object is through.
    Done(Box<Processed>),
    /// An object failed; the others go on. Calling again takes it up.
    Failed {
        /// Which; `None` for an entry of the listing that cannot be used, whose name the error has.
        object: Option<ObjectRef>,
        /// Why.
        error: Error,
    },
    /// The listing broke off: what is behind this key was not seen. Nothing follows.
    ListingFailed {
        /// The last key that was seen.
        after: Option<String>,
        /// Why.
        error: Error,
    },
}

impl Pipeline {
    /// Processes every object under an address such as `s3://uploads/2026/` or `file:///srv/quarantine`, or under a
    /// bucket's short name. The stream does the work while it is polled; objects end in any order.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when the address is in none of the buckets.
    pub fn process_prefix(&self, url: &str) -> Result<impl Stream<Item = Progress> + Send + 'static + use<>> {
        let (bucket, prefix) = self.shared.buckets.within(url)?;
        let bucket = std::sync::Arc::clone(bucket);
        let range = KeyRange::prefix(prefix);
        let listing = stream::unfold(Some((bucket, range)), |state| async move {
            let (bucket, mut range) = state?;
            match bucket.list(&range).await {
                Ok(page) => {
                    let next = page.next.map(|next| {
                        range.after = Some(next);
                        (bucket, range)
                    });
                    Some((page.entries.into_iter().map(Ok).collect::<Vec<_>>(), next))
                }
                Err(why) => Some((vec![Err((range.after, why))], None)),
            }
        });
        let pipeline = self.clone();
        let concurrency = self.shared.options.concurrency;
        Ok(listing
            .flat_map(stream::iter)
            .map(move |entry| {
                let pipeline = pipeline.clone();
                async move {
                    match entry {
                        Err((after, error)) => Progress::ListingFailed { after, error },
                        Ok(Err(error)) => Progress::Failed { object: None, error },
                        Ok(Ok(object)) => match pipeline.process_listed(object.clone()).await {
                            Ok(done) => Progress::Done(Box::new(done)),
                            Err(error) => Progress::Failed { object: Some(object), error },
                        },
                    }
                }
            })
            .buffer_unordered(concurrency))
    }
}
