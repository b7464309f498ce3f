//! Where to cut a range of keys, found by asking the bucket.
//!
//! Keys can begin with anything, so the alphabet is no guide. Instead the bucket is asked for the first key behind a
//! place, which costs one small listing: with the last character of Unicode behind a beginning, the answer begins with
//! something else. So the beginnings that there are come out one by one, level by level, until there are enough of them
//! or enough was asked. What all keys have in common is found by halves, however long it is. Cuts only divide the work:
//! wherever they are, every key is in exactly one part.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::try_join_all;

use crate::Result;
use crate::objects::{KeyRange, ObjectOps};
use crate::store::ShardRange;

/// Pages of one chunk each that need no second shard.
const FEW: usize = 10;
/// Questions for each shard that is wanted.
const QUESTIONS: usize = 8;
/// Beginnings that are divided at the same time.
const AT_A_TIME: usize = 16;
/// Behind every key that begins as what stands before it.
const LAST: char = '\u{10ffff}';

/// About this many parts of the keys with a prefix; one where all of them are a few chunks, whose listing takes no longer
/// than the questions would, and where each part would have to go through those before it.
pub(super) async fn shards(bucket: &dyn ObjectOps, prefix: &str, wanted: usize, chunk: u32) -> Result<Vec<ShardRange>> {
    let whole = KeyRange::prefix(prefix);
    let is_one = wanted == 1
        || !bucket.caps().seekable_listing
        || is_small(bucket, KeyRange { most: chunk as usize, ..whole.clone() }).await?;
    let bounds = if is_one { Vec::new() } else { bounds(bucket, prefix, wanted).await? };
    let parts = whole.shards(bounds);
    Ok(parts.into_iter().map(|part| ShardRange { after: part.after, before: part.before }).collect())
}

/// Whether a few pages hold all of it.
async fn is_small(bucket: &dyn ObjectOps, mut range: KeyRange) -> Result<bool> {
    for _ in 0..FEW {
        match bucket.list(&range).await?.next {
            Some(next) => range.after = Some(next),
            None => return Ok(true),
        }
    }
    Ok(false)
}

async fn bounds(bucket: &dyn ObjectOps, prefix: &str, wanted: usize) -> Result<Vec<String>> {
    let ask = Ask { bucket, left: AtomicUsize::new(wanted * QUESTIONS) };
    let mut found: Vec<String> = Vec::new();
    // Beginnings that are not divided yet, the shortest first.
    let mut open = VecDeque::from([prefix.to_owned()]);
    while !open.is_empty() && found.len() + 1 < wanted && ask.left.load(Ordering::Relaxed) > 0 {
        let some: Vec<String> = open.drain(..open.len().min(AT_A_TIME)).collect();
        for divided in try_join_all(some.iter().map(|beginning| ask.divide(beginning))).await? {
            // The first part begins where the whole does, and the others each at a bound.
            found.extend(divided.iter().skip(1).cloned());
            open.extend(divided);
        }
    }
    found.sort();
    // Of those that are too many, some at even distances.
    let most = wanted - 1;
    if found.len() > most {
        let last = found.len();
        found = (1..=most).map(|part| found[part * last / (most + 1)].clone()).collect();
    }
    Ok(found)
}

/// Questions about the keys of a bucket, as long as there are some left.
struct Ask<'a> {
    bucket: &'a dyn ObjectOps,
    left: AtomicUsize,
}

impl Ask<'_> {
    /// The beginnings of the keys that begin with this, each longer by at least one character.
    async fn divide(&self, beginning: &str) -> Result<Vec<String>> {
        let mut parts: Vec<String> = Vec::new();
        let (mut after, mut first) = (None, None);
        while let Some(key) = self.first_key(beginning, after.take()).await? {
            match key[beginning.len()..].chars().next() {
                Some(next) => {
                    let part = format!("{beginning}{next}");
                    after = Some(format!("{part}{LAST}"));
                    parts.push(part);
                }
                // The beginning is a key of its own.
                None => after = Some(key.clone()),
            }
            first.get_or_insert(key);
        }
        match (parts.as_slice(), first) {
            ([only], Some(first)) if first != beginning => Ok(vec![self.common(beginning, only, &first).await?]),
            _ => Ok(parts),
        }
    }

    /// What all keys with a beginning have in common, which is at least `least`; `first` is the first of them.
    async fn common(&self, beginning: &str, least: &str, first: &str) -> Result<String> {
        let ends = first.char_indices().map(|(at, c)| at + c.len_utf8());
        let ends: Vec<usize> = ends.filter(|end| *end >= least.len()).collect();
        // All keys begin with the first part up to `shared`, and not all up to `other`.
        let (mut shared, mut other) = (0, ends.len());
        while other - shared > 1 {
            let middle = usize::midpoint(shared, other);
            let behind = format!("{}{LAST}", &first[..ends[middle]]);
            if self.left.load(Ordering::Relaxed) == 0 {
                break;
            }
            match self.first_key(beginning, Some(behind)).await? {
                None => shared = middle,
                Some(_) => other = middle,
            }
        }
        Ok(ends.get(shared).map_or(least, |end| &first[..*end]).to_owned())
    }

    /// The first key with a prefix behind a place; pages without one are passed over. None as well when enough was asked.
    async fn first_key(&self, prefix: &str, after: Option<String>) -> Result<Option<String>> {
        let mut range = KeyRange { prefix: prefix.to_owned(), after, before: None, most: 1 };
        loop {
            let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            if left.is_err() {
                return Ok(None);
            }
            let page = self.bucket.list(&range).await?;
            if let Some(object) = page.entries.into_iter().flatten().next() {
                return Ok(Some(object.key));
            }
            match page.next {
                Some(next) => range.after = Some(next),
                None => return Ok(None),
            }
        }
    }
}

#[cfg(all(test, feature = "testkit"))]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::content::Content;
    use crate::objects::{MemoryBucket, PutOptions};
    use crate::testkit::{Interleaved, Op};

    /// How many parts, and how many questions it took.
    async fn cut(keys: &[String], wanted: usize) -> (usize, usize) {
        let bucket = MemoryBucket::new("cut").expect("a bucket");
        for key in keys {
            bucket.put(key, &Content::from_bytes("x"), &PutOptions::default()).await.expect("put");
        }
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let bucket = Interleaved::new(Arc::new(bucket), move |moment, _, op| {
            let is_question = op == Op::List && moment == crate::testkit::Moment::Before;
            count.fetch_add(usize::from(is_question), Ordering::Relaxed);
            async { Ok(()) }
        });
        let parts = shards(&bucket, "", wanted, 10).await.expect("cut");
        for key in keys {
            let holds = |part: &&ShardRange| {
                part.after.as_ref().is_none_or(|after| key > after)
                    && part.before.as_ref().is_none_or(|before| key < before)
            };
            assert_eq!(parts.iter().filter(holds).count(), 1, "{key}");
        }
        (parts.len(), asked.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn what_all_keys_have_in_common_is_found_by_halves() {
        let common = "a/long/prefix/as/they/are/in/buckets/".repeat(20);
        let keys: Vec<_> = (0..200).map(|number| format!("{common}{number:03}")).collect();
        let (parts, asked) = cut(&keys, 8).await;
        assert!((4..=8).contains(&parts) && asked < 60, "{parts} parts, {asked} questions");
    }

    #[tokio::test]
    async fn a_few_chunks_cost_their_listing() {
        let keys: Vec<_> = (0..10).map(|number| format!("{number}")).collect();
        assert_eq!(cut(&keys, 32).await, (1, 1));
        assert_eq!(cut(&[], 32).await, (1, 1));
        let keys: Vec<_> = (0..95).map(|number| format!("{number}")).collect();
        assert_eq!(cut(&keys, 32).await, (1, 10));
    }

    #[tokio::test]
    async fn questions_are_bounded() {
        let keys: Vec<_> =
            (0..2000_u32).map(|number| format!("{}/{number}", number.wrapping_mul(2_654_435_761))).collect();
        let (parts, asked) = cut(&keys, 32).await;
        assert!(parts > 8 && asked <= 32 * QUESTIONS + FEW, "{parts} parts, {asked} questions");
    }
}
