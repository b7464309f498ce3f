//! Listing keys, each of them exactly.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_sdk_s3::types::{EncodingType, Object};

use super::error::Failure;
use super::read::timestamp;
use super::{Inner, S3Keys, unquoted};
use crate::model::ObjectRef;
use crate::model::key::form_decoded;
use crate::objects::{KeyRange, Page};
use crate::{Error, ErrorKind, Result};

/// Most keys that S3 gives at once.
const MOST: usize = 1000;

/// How long a mark of the server's is good for: it may stand for the state of the bucket when it was given.
const FRESH: Duration = Duration::from_secs(300);
/// How many are kept.
const KEPT: usize = 64;

/// Where pages ended, with the server's own mark.
///
/// A listing that MinIO resumes with `start-after` loses keys, and even says that it is complete (seen in half of a
/// bucket of 3,600 keys, with pages of 1,000), while its own marks work. They are no keys, so they are kept here; a
/// listing that is resumed later than that goes through what comes before once more.
#[derive(Debug, Default)]
pub(super) struct Marks(Mutex<VecDeque<Mark>>);

#[derive(Debug)]
struct Mark {
    prefix: String,
    after: String,
    token: String,
    at: Instant,
}

impl Marks {
    fn keep(&self, prefix: &str, after: &str, token: &str) {
        let mut marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        marks.retain(|mark| mark.at.elapsed() < FRESH && (mark.prefix != prefix || mark.after != after));
        while marks.len() >= KEPT {
            marks.pop_front();
        }
        let mark = Mark { prefix: prefix.into(), after: after.into(), token: token.into(), at: Instant::now() };
        marks.push_back(mark);
    }

    fn find(&self, prefix: &str, after: &str) -> Option<String> {
        let marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |mark: &&Mark| mark.prefix == prefix && mark.after == after && mark.at.elapsed() < FRESH;
        marks.iter().find(same).map(|mark| mark.token.clone())
    }
}

impl Inner {
    /// Pages go by keys rather than by the server's marks, so that a listing can be resumed tomorrow.
    pub(super) async fn list(&self, range: &KeyRange) -> Result<Page, Failure> {
        let mut page = Page::default();
        if !self.keys.may_begin_with(&range.prefix) {
            return Ok(page);
        }
        let most = if range.most == 0 { MOST } else { range.most.min(MOST) };
        let after = range.after.as_deref().unwrap_or_default();
        let by_marks = self.keys == S3Keys::Paths;
        let mut token = if by_marks { self.marks.find(&range.prefix, after) } else { None };
        // Going through what comes before is done in large steps.
        let walks = by_marks && !after.is_empty() && token.is_none();
        // How much of the answer in which the page begins is wanted, once that is known.
        let mut fitting = None;
        // The key of the entry before; `None` where it could not be decoded.
        let mut last = None;
        'answers: loop {
            let request = self.client.list_objects_v2().bucket(&self.bucket).encoding_type(EncodingType::Url);
            let request = request.set_prefix(Some(range.prefix.clone()).filter(|prefix| !prefix.is_empty()));
            let request = match token.clone() {
                Some(token) => request.continuation_token(token),
                None if by_marks || after.is_empty() => request,
                None => request.start_after(after),
            };
            let step = fitting.unwrap_or(if walks { MOST } else { most });
            let answer = request.max_keys(i32::try_from(step).unwrap_or(i32::MAX)).send().await?;
            // There are servers that know no such encoding, and say so by leaving it out.
            let is_encoded = answer.encoding_type() == Some(&EncodingType::Url);
            let before = page.entries.len();
            for (place, entry) in answer.contents().iter().enumerate() {
                let key = entry.key().unwrap_or_default();
                let key = if is_encoded { form_decoded(key) } else { Some(key.to_owned()) };
                // More than was asked for: the rest comes with the next page, which can begin behind a key only.
                if page.entries.len() >= most && last.is_some() {
                    if by_marks && fitting.is_none() {
                        // Once more, so that it ends with a mark: without one the next page would go through all of it again.
                        fitting = Some(place);
                        page.entries.truncate(before);
                        last = None;
                        continue 'answers;
                    }
                    page.next = last;
                    return Ok(page);
                }
                last.clone_from(&key);
                match key {
                    Some(key) if range.before.as_ref().is_some_and(|before| key >= *before) => return Ok(page),
                    Some(key) if range.contains(&key) => {
                        let about = |why: Error| why.about(format!("{}/{}", self.url, key.escape_debug()));
                        let usable = self.keys.check(&key).map_err(about);
                        page.entries.push(usable.map(|()| self.entry(key, entry)));
                    }
                    // A server that does not know `start-after`, or the prefix; or what comes before.
                    Some(_) => {}
                    None => {
                        let why = Error::new(ErrorKind::InvalidInput, "the listing has a key that cannot be decoded");
                        let name = format!("{}/{}", self.url, entry.key().unwrap_or_default());
                        page.entries.push(Err(why.about(name)));
                    }
                }
            }
            if answer.is_truncated() != Some(true) {
                return Ok(page);
            }
            let silent = || Error::new(ErrorKind::Unavailable, "the listing breaks off without a mark");
            let next = answer.next_continuation_token().ok_or_else(silent)?;
            match last.take() {
                // Behind where this page began, or whoever goes on there would be given it for ever.
                Some(last) if !page.entries.is_empty() && (after.is_empty() || last.as_str() > after) => {
                    if by_marks {
                        self.marks.keep(&range.prefix, &last, next);
                    }
                    page.next = Some(last);
                    return Ok(page);
                }
                _ if token.as_deref() == Some(next) => {
                    let why = "the listing goes round in circles: a page ends with the mark that it was asked for with";
                    return Err(Error::new(ErrorKind::Unavailable, why).into());
                }
                _ => token = Some(next.to_owned()),
            }
        }
    }

    /// A listing knows no versions: the etag pins.
    fn entry(&self, key: String, entry: &Object) -> ObjectRef {
        let object = ObjectRef::new(self.url.clone(), key);
        ObjectRef {
            etag: entry.e_tag().map(|etag| unquoted(etag).to_owned()),
            size: entry.size().and_then(|size| u64::try_from(size).ok()),
            modified: entry.last_modified().map(timestamp),
            ..object
        }
    }
}
