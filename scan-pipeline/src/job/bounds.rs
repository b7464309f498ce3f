//! Where to cut a range of keys, found by asking the bucket.
//!
//! Keys can begin with anything, so the alphabet is no guide. Instead the bucket is asked for the first key behind a
//! place, which costs one small listing: with the last character of Unicode behind a beginning, the answer begins with
//! something else. So the beginnings that there are come out one by one, level by level, until there are enough of them
//! or enough was asked. Cuts only divide the work: wherever they are, every key is in exactly one part.

use std::collections::VecDeque;

use crate::Result;
use crate::objects::{KeyRange, ObjectOps};
use crate::store::ShardRange;

/// Questions for each shard that is wanted.
const QUESTIONS: usize = 8;
/// Behind every key that begins as what stands before it.
const LAST: char = '\u{10ffff}';

/// About this many parts of the keys with a prefix.
pub(super) async fn shards(bucket: &dyn ObjectOps, prefix: &str, wanted: usize) -> Result<Vec<ShardRange>> {
    let bounds = if wanted > 1 { bounds(bucket, prefix, wanted).await? } else { Vec::new() };
    let parts = KeyRange::prefix(prefix).shards(bounds);
    Ok(parts.into_iter().map(|part| ShardRange { after: part.after, before: part.before }).collect())
}

async fn bounds(bucket: &dyn ObjectOps, prefix: &str, wanted: usize) -> Result<Vec<String>> {
    let mut left = wanted * QUESTIONS;
    let mut found: Vec<String> = Vec::new();
    // Beginnings that are not divided yet, the shortest first.
    let mut open = VecDeque::from([prefix.to_owned()]);
    while let Some(beginning) = open.pop_front() {
        if found.len() + 1 >= wanted || left == 0 {
            break;
        }
        let divided = divide(bucket, &beginning, &mut left).await?;
        // The first part begins where the whole does, and the others each at a bound.
        found.extend(divided.iter().skip(1).cloned());
        open.extend(divided);
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

/// The beginnings of the keys that begin with this, each longer by at least one character.
async fn divide(bucket: &dyn ObjectOps, beginning: &str, left: &mut usize) -> Result<Vec<String>> {
    let mut parts: Vec<String> = Vec::new();
    let mut after: Option<String> = None;
    while *left > 0 {
        *left -= 1;
        let range = KeyRange { prefix: beginning.to_owned(), after: after.take(), before: None, most: 1 };
        let Some(key) = first_key(bucket, range, left).await? else { break };
        match key[beginning.len()..].chars().next() {
            Some(next) => {
                let part = format!("{beginning}{next}");
                after = Some(format!("{part}{LAST}"));
                parts.push(part);
            }
            // The beginning is a key of its own.
            None => after = Some(key),
        }
    }
    Ok(parts)
}

/// The first key of a range; pages without one are passed over.
async fn first_key(bucket: &dyn ObjectOps, mut range: KeyRange, left: &mut usize) -> Result<Option<String>> {
    loop {
        let page = bucket.list(&range).await?;
        if let Some(object) = page.entries.into_iter().flatten().next() {
            return Ok(Some(object.key));
        }
        match page.next {
            Some(next) if *left > 0 => {
                *left -= 1;
                range.after = Some(next);
            }
            _ => return Ok(None),
        }
    }
}
