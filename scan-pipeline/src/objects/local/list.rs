//! Listings in byte order of whole keys, from directories in no order.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Dir, FileType, statat};
use rustix::io::Errno;

use super::state::State;
use super::tree::{PRIVATE, open_dir};
use super::{Inner, failed};
use crate::model::ObjectRef;
use crate::objects::{KeyRange, Page};
use crate::{Error, ErrorKind, Result};

/// Entries of a page where the caller leaves it to us. Each page reads the directories on its way again.
const PAGE: usize = 10_000;

/// An entry of a directory by its whole key, which ends in a slash for a directory: so `a-` comes before `a/`.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry(Vec<u8>);

impl Entry {
    fn is_dir(&self) -> bool {
        self.0.last() == Some(&b'/')
    }

    fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

/// A listing that is being made.
struct Walk<'a> {
    inner: &'a Inner,
    range: &'a KeyRange,
    most: usize,
    good: usize,
    page: Page,
}

/// Whether there may be more behind what was listed.
#[derive(PartialEq, Eq)]
enum Done {
    /// The directory was listed to its end.
    All,
    /// The page is full, or its end was reached; nothing more is to be listed.
    Stop,
}

impl Inner {
    pub(super) fn list(&self, range: &KeyRange) -> Result<Page> {
        let most = if range.most == 0 { PAGE } else { range.most };
        let mut walk = Walk { inner: self, range, most, good: 0, page: Page::default() };
        let unreadable = |why| failed("the bucket cannot be listed", why).about(self.url.to_string());
        let root = open_dir(&self.root, ".").map_err(unreadable)?;
        let entries = walk.entries(&root, b"").map_err(unreadable)?;
        walk.go(&root, entries)?;
        Ok(walk.page)
    }
}

impl Walk<'_> {
    /// Lists a directory and those below it.
    fn go(&mut self, dir: &OwnedFd, (entries, cut): (Vec<Entry>, bool)) -> Result<Done> {
        let last = entries.iter().rev().find_map(|entry| entry.text()).map(String::from);
        for entry in entries {
            let done = match entry.text() {
                None => self.bad(&entry.0, Error::new(ErrorKind::InvalidInput, "the name is not UTF-8, and no key")),
                Some(key) if entry.is_dir() => self.below(dir, key)?,
                Some(key) => self.file(dir, key),
            };
            if done == Done::Stop {
                return Ok(Done::Stop);
            }
        }
        if cut && let Some(last) = last {
            // There are more names than we kept in mind. The next page begins behind the last of them.
            self.page.next = Some(if last.ends_with('/') { behind(&last) } else { last });
            return Ok(Done::Stop);
        }
        Ok(Done::All)
    }

    fn below(&mut self, dir: &OwnedFd, key: &str) -> Result<Done> {
        let name = name_of(key);
        let opened = open_dir(dir, name).and_then(|below| Ok((self.entries(&below, key.as_bytes())?, below)));
        match opened {
            Ok((entries, below)) => self.go(&below, entries),
            // It was removed, or is something else by now.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(Done::All),
            Err(why) => Ok(self.bad(key.as_bytes(), failed("the directory cannot be listed", why))),
        }
    }

    fn file(&mut self, dir: &OwnedFd, key: &str) -> Done {
        if !self.range.contains(key) {
            return Done::All;
        }
        let object = ObjectRef::new(self.inner.url.clone(), key);
        let entry = match statat(dir, name_of(key), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => match State::of(&stat) {
                Some(state) => Ok(state.pin(&object)),
                None => return Done::All,
            },
            Err(Errno::NOENT) => return Done::All,
            Err(why) => Err(failed("the file could not be looked at", why).about(object.to_string())),
        };
        if self.good == self.most {
            let last = self.page.entries.iter().rev().find_map(|entry| entry.as_ref().ok());
            self.page.next = last.map(|last| last.key.clone());
            // Errors behind the last good entry come again with the next page, which begins there.
            while self.page.entries.last().is_some_and(|entry| entry.is_err()) {
                self.page.entries.pop();
            }
            return Done::Stop;
        }
        if entry.is_ok() {
            self.good += 1;
        }
        self.page.entries.push(entry);
        Done::All
    }

    fn bad(&mut self, key: &[u8], why: Error) -> Done {
        let text = String::from_utf8_lossy(key).into_owned();
        self.page.entries.push(Err(why.about(format!("{}/{}", self.inner.url, text.escape_debug()))));
        Done::All
    }

    /// The entries of a directory that may be in the range or lead there, in order. No more are kept in mind than a
    /// page needs: when there are more, the smallest are, and the answer says so.
    fn entries(&self, dir: &OwnedFd, key: &[u8]) -> rustix::io::Result<(Vec<Entry>, bool)> {
        // One more than fits, so that a full page knows that there is another one.
        let keep = self.most.saturating_add(1);
        let (mut entries, mut cut) = (Vec::new(), false);
        for entry in Dir::read_from(dir)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." || (key.is_empty() && name == PRIVATE.as_bytes()) {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => match statat(dir, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                    Err(_) => continue,
                },
                kind => kind,
            };
            let mut whole = [key, name].concat();
            match kind {
                FileType::RegularFile => {}
                FileType::Directory => whole.push(b'/'),
                _ => continue,
            }
            if self.leads(&whole) {
                entries.push(Entry(whole));
            }
            if entries.len() >= keep.saturating_mul(2).max(4096) {
                cut |= shorten(&mut entries, keep);
            }
        }
        cut |= shorten(&mut entries, keep);
        Ok((entries, cut))
    }

    /// Whether an entry is in the range, or a directory may have some that are.
    fn leads(&self, key: &[u8]) -> bool {
        let (prefix, is_dir) = (self.range.prefix.as_bytes(), key.last() == Some(&b'/'));
        let right_prefix = key.starts_with(prefix) || (is_dir && prefix.starts_with(key));
        let after = self.range.after.as_deref().map(str::as_bytes);
        let not_before = after.is_none_or(|after| key > after || (is_dir && after.starts_with(key)));
        right_prefix && not_before && self.range.before.as_deref().is_none_or(|before| key < before.as_bytes())
    }
}

/// Keeps the smallest entries, up to the last that can be a page's end. Whether any were dropped.
fn shorten(entries: &mut Vec<Entry>, keep: usize) -> bool {
    entries.sort_unstable();
    let usable = entries.iter().enumerate().filter(|(_, entry)| entry.text().is_some());
    match usable.map(|(i, _)| i + 1).nth(keep - 1) {
        Some(length) if length < entries.len() => {
            entries.truncate(length);
            true
        }
        _ => false,
    }
}

/// The last part of a key, without the slash of a directory.
fn name_of(key: &str) -> &str {
    key.trim_end_matches('/').rsplit('/').next().unwrap_or(key)
}

/// What comes behind every key of a directory: no name has more than 255 bytes, which are 63 of these.
fn behind(dir: &str) -> String {
    format!("{dir}{}", "\u{10ffff}".repeat(64))
}
