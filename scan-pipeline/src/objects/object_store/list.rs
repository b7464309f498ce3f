//! Listings that survive keys which the crate's path type cannot carry.

use std::fmt;
use std::sync::Arc;

use ::object_store as os;
use futures_util::StreamExt;
use os::list::{PaginatedListOptions, PaginatedListStore};
use os::path::{Error as PathError, Path};
use os::{ObjectMeta, ObjectStore};

use super::{from_theirs, pinned};
use crate::model::{BucketUrl, ObjectRef};
use crate::objects::pin::bad_key;
use crate::objects::{KeyRange, Page};
use crate::{Error, ErrorKind, Result};

/// Entries of a page where the caller leaves it to us; also what the services give at once.
const PAGE: usize = 1000;

/// Where entries come from.
#[derive(Clone)]
pub(super) enum Lister {
    /// A stream, which may end with the page of the service that has a bad key. Then the listing fails.
    Plain(Arc<dyn ObjectStore>),
    /// Page by page, from any key on.
    Paginated(Arc<dyn PaginatedListStore>),
}

/// Some entries in the order of their keys.
#[derive(Default)]
struct Batch {
    entries: Vec<ObjectMeta>,
    more: bool,
    /// Behind the entries comes a key that cannot be carried.
    bad: Option<PathError>,
}

impl fmt::Debug for Lister {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain",
            Self::Paginated(_) => "Paginated",
        })
    }
}

impl Lister {
    pub(super) async fn page(&self, url: &BucketUrl, range: &KeyRange) -> Result<Page> {
        let most = if range.most == 0 { PAGE } else { range.most };
        let (mut page, mut good) = (Page::default(), 0);
        let mut after = range.after.clone();
        loop {
            // One more than wanted shows whether the last is in order.
            let mut batch = self.batch(url, range, after.as_deref(), (most - good).saturating_add(1)).await?;
            batch.more |= batch.bad.is_some();
            for (i, meta) in batch.entries.iter().enumerate() {
                let key = meta.location.as_ref();
                if range.before.as_deref().is_some_and(|before| key >= before) && in_order(&batch.entries, i) {
                    return Ok(page);
                }
                if !in_order(&batch.entries, i) {
                    let why = "the service gave it out of order, so that its real key begins with a slash";
                    page.entries.push(Err(bad_key(url, key, why)));
                } else if good == most {
                    page.next = after;
                    return Ok(page);
                } else {
                    if range.contains(key) {
                        page.entries.push(Ok(pinned(url, meta)));
                        good += 1;
                    }
                    after = Some(key.to_owned());
                }
            }
            match &batch.bad {
                Some(_) if good == most => {
                    page.next = after;
                    return Ok(page);
                }
                Some(why) => {
                    let key = key_of(why).ok_or_else(|| from_nowhere(url, why))?;
                    if range.before.as_deref().is_some_and(|before| key >= before) {
                        return Ok(page);
                    }
                    page.entries.push(Err(bad_key(url, key, &why.to_string())));
                    after = Some(key.to_owned());
                }
                None if !batch.more => return Ok(page),
                None => {}
            }
        }
    }

    /// Entries with the prefix behind a key.
    async fn batch(&self, url: &BucketUrl, range: &KeyRange, after: Option<&str>, most: usize) -> Result<Batch> {
        let about = |why| from_theirs(why, &ObjectRef::new(url.clone(), range.prefix.as_str()));
        let behind = |meta: &ObjectMeta| {
            let key = meta.location.as_ref();
            key.starts_with(&range.prefix) && after.is_none_or(|after| key > after)
        };
        match self {
            Self::Paginated(store) => {
                let mut most = most.min(PAGE);
                let (mut token, mut offset) = (None, after.map(String::from));
                loop {
                    let options = PaginatedListOptions {
                        offset: offset.clone(),
                        max_keys: Some(most),
                        page_token: token.take(),
                        ..PaginatedListOptions::default()
                    };
                    let prefix = (!range.prefix.is_empty()).then_some(range.prefix.as_str());
                    match store.list_paginated(prefix, options).await {
                        Ok(listed) => {
                            let mut entries = listed.result.objects;
                            entries.retain(behind);
                            let more = listed.page_token.is_some();
                            // A page of what was there already: some services begin with the offset itself.
                            if entries.is_empty() && more {
                                token = listed.page_token;
                                continue;
                            }
                            return Ok(Batch { entries, more, bad: None });
                        }
                        // The whole page is lost for one key. Smaller pages save the keys before it, and one of a
                        // single key says which it is.
                        Err(os::Error::InvalidPath { .. }) if most > 1 => {
                            most = most.div_ceil(8).min(most - 1);
                        }
                        Err(os::Error::InvalidPath { source }) if key_of(&source) == offset.as_deref() => {
                            // Azure begins with the offset itself. Between it and this are control characters only.
                            offset = offset.map(|offset| format!("{offset} "));
                        }
                        Err(os::Error::InvalidPath { source }) => {
                            return Ok(Batch { bad: Some(source), ..Batch::default() });
                        }
                        Err(why) => return Err(about(why)),
                    }
                }
            }
            Self::Plain(store) => {
                let dir = range.prefix.rsplit_once('/').and_then(|(dir, _)| exact(dir));
                let start = after.unwrap_or_default().max(below(&range.prefix));
                let mut stream = match floor(start) {
                    Some(offset) => store.list_with_offset(dir.as_ref(), &offset),
                    None => store.list(dir.as_ref()),
                };
                let (mut batch, mut stuck) = (Batch::default(), None);
                while let Some(next) = stream.next().await {
                    match next {
                        Ok(meta) if batch.entries.len() == most => {
                            batch.more |= behind(&meta);
                            break;
                        }
                        Ok(meta) if behind(&meta) => batch.entries.push(meta),
                        Ok(meta) if meta.location.as_ref() > start.max(&range.prefix) && !range.prefix.is_empty() => {
                            break;
                        }
                        Ok(_) => {}
                        Err(os::Error::InvalidPath { source }) => {
                            let is_news = key_of(&source).is_none_or(|key| after.is_none_or(|after| key > after));
                            if is_news {
                                batch.bad = Some(source);
                                break;
                            }
                            stuck = Some(source);
                        }
                        Err(why) => return Err(about(why)),
                    }
                }
                match stuck {
                    // Most streams end with their first error, so this end may not be that of the bucket.
                    Some(why) if batch.entries.is_empty() && batch.bad.is_none() => {
                        let message =
                            "cannot be listed beyond a key that the client cannot carry; list it page by page";
                        Err(Error::new(ErrorKind::InvalidInput, message).with_source(why).about(url.to_string()))
                    }
                    _ => Ok(batch),
                }
            }
        }
    }
}

/// Whether an entry is not behind the one that follows it.
fn in_order(entries: &[ObjectMeta], i: usize) -> bool {
    entries.get(i + 1).is_none_or(|next| entries[i].location.as_ref() < next.location.as_ref())
}

/// The path of a key if it carries it exactly.
fn exact(key: &str) -> Option<Path> {
    Path::parse(key).ok().filter(|path| path.as_ref() == key && !key.is_empty())
}

/// The longest path that is not behind a text, which need not be a key.
fn floor(text: &str) -> Option<Path> {
    let ends = text.char_indices().map(|(i, c)| i + c.len_utf8()).rev();
    ends.filter_map(|end| exact(&text[..end])).next()
}

/// A text that is before every key with the prefix.
fn below(prefix: &str) -> &str {
    let end = prefix.char_indices().next_back().map_or(0, |(i, _)| i);
    &prefix[..end]
}

fn key_of(why: &PathError) -> Option<&str> {
    match why {
        PathError::EmptySegment { path } | PathError::BadSegment { path, .. } => Some(path),
        _ => None,
    }
}

fn from_nowhere(url: &BucketUrl, why: &PathError) -> Error {
    let message = format!("the listing has a key that cannot be carried, and does not say which: {why}");
    Error::new(ErrorKind::InvalidInput, message).about(url.to_string())
}
