//! Everything under a prefix.

use std::sync::Arc;

use futures_util::stream::{self, BoxStream, Stream, StreamExt};
use tokio::task::{JoinError, JoinSet};

use super::{Pipeline, Processed};
use crate::model::ObjectRef;
use crate::objects::{KeyRange, ObjectOps};
use crate::{Error, Result};

/// What happens while a prefix is processed, in the order in which it happens.
#[derive(Debug)]
#[non_exhaustive]
pub enum Progress {
    /// An object is through.
    Done(Box<Processed>),
    /// An object failed; the others go on. Calling again takes it up.
    Failed {
        /// Which; `None` for an entry of the listing that cannot be used, whose name the error has, and where the runtime
        /// goes down.
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
    /// bucket's short name. Objects end in any order.
    ///
    /// Each object that was begun is worked on whatever the caller does with the one before, and none is begun unless the
    /// caller asks for the next: so there are never more of them, at work or at their end, than the pipeline works on at
    /// once. Dropping the stream ends scans, as dropping the future of [`process`](Self::process) does.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when the address is in none of the buckets.
    pub fn process_prefix(&self, url: &str) -> Result<impl Stream<Item = Progress> + Send + 'static + use<>> {
        let (bucket, prefix) = self.shared.buckets.within(url)?;
        let listing = listing(Arc::clone(bucket), KeyRange::prefix(prefix)).boxed();
        let walk = Walk { pipeline: self.clone(), listing: Some(listing), failed: None, begun: JoinSet::new() };
        Ok(stream::unfold(walk, |mut walk| async move {
            let progress = walk.next().await?;
            Some((progress, walk))
        }))
    }
}

/// An entry of a listing, or where the listing broke off.
type Listed = Result<Result<ObjectRef>, (Option<String>, Error)>;

fn listing(bucket: Arc<dyn ObjectOps>, range: KeyRange) -> impl Stream<Item = Listed> + Send {
    let pages = stream::unfold(Some((bucket, range)), |state| async move {
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
    pages.flat_map(stream::iter)
}

/// A listing under way. What it begins has tasks of its own: a permit or a lease in a future that nobody polls would keep
/// others waiting, or be lost.
struct Walk {
    pipeline: Pipeline,
    /// `None` at its end.
    listing: Option<BoxStream<'static, Listed>>,
    /// How it broke off, which is said last.
    failed: Option<Progress>,
    /// Ends with this.
    begun: JoinSet<Progress>,
}

impl Walk {
    async fn next(&mut self) -> Option<Progress> {
        loop {
            let room = self.begun.len() < self.pipeline.shared.options.concurrency;
            let Some(listing) = self.listing.as_mut().filter(|_| room) else {
                return match self.begun.join_next().await {
                    Some(ended) => Some(progress(ended)),
                    None => self.failed.take(),
                };
            };
            let entry = tokio::select! {
                entry = listing.next() => entry,
                Some(ended) = self.begun.join_next() => return Some(progress(ended)),
            };
            match entry {
                Some(Ok(Ok(object))) => drop(self.begun.spawn(begin(self.pipeline.clone(), object))),
                Some(Ok(Err(error))) => return Some(Progress::Failed { object: None, error }),
                Some(Err((after, error))) => {
                    self.failed = Some(Progress::ListingFailed { after, error });
                    self.listing = None;
                }
                None => self.listing = None,
            }
        }
    }
}

async fn begin(pipeline: Pipeline, object: ObjectRef) -> Progress {
    match pipeline.process_listed(object.clone()).await {
        Ok(done) => Progress::Done(Box::new(done)),
        Err(error) => Progress::Failed { object: Some(object), error },
    }
}

fn progress(ended: std::result::Result<Progress, JoinError>) -> Progress {
    ended.unwrap_or_else(|why| {
        let error = Error::unfinished("the work on an object did not come to its end", why);
        Progress::Failed { object: None, error }
    })
}
