//! The rows of one file, as a stream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_compression::tokio::bufread::GzipDecoder;
use csv_core::ReadRecordResult;
use futures_util::TryStreamExt;
use md5::{Digest, Md5};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader, ReadBuf};
use tokio_util::io::StreamReader;

use super::manifest::Columns;
use super::{Cursor, Manifest};
use crate::error::excerpt;
use crate::model::key::form_decoded;
use crate::model::{BucketUrl, ObjectRef, Timestamp};
use crate::objects::ObjectRead;
use crate::{Error, ErrorKind, Result};

/// Most bytes of a row. A key has 3 KiB at most as it is written; a list of who may do what to an object has more.
const LONGEST: usize = 256 << 10;
/// Most columns. S3 knows some twenty.
pub(super) const MOST_COLUMNS: usize = 64;

/// Which rows to give.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RowOptions {
    /// Also versions that are not the current one.
    pub all_versions: bool,
}

/// A row that stands for an object.
#[derive(Debug)]
pub struct Row {
    /// Its number in the file, from 0.
    pub number: u64,
    /// The object, pinned as far as the list says; or why this row alone cannot be used.
    pub object: Result<ObjectRef>,
}

/// What was read of a file since its cursor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rows that were given, the unusable ones among them.
    pub given: u64,
    /// Delete markers, which have no bytes.
    pub delete_markers: u64,
    /// Versions that are not the current one, where they were not asked for.
    pub older_versions: u64,
}

/// The rows of one file. See the [module's page](super).
pub struct Rows<R> {
    input: BufReader<GzipDecoder<BufReader<Checked<R>>>>,
    csv: csv_core::Reader,
    /// The fields of the row that is being read, one behind the other, and where each ends.
    fields: Box<[u8]>,
    ends: [usize; MOST_COLUMNS + 1],
    source: BucketUrl,
    listed: String,
    columns: Columns,
    options: RowOptions,
    from: u64,
    next: Cursor,
    counts: Counts,
    about: String,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Reading,
    Ended,
    /// A call failed, or its caller stopped waiting for it in the middle of a row.
    Broken,
}

impl<R> std::fmt::Debug for Rows<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows").field("file", &self.about).field("next", &self.next).finish_non_exhaustive()
    }
}

impl Rows<Box<dyn AsyncRead + Send + Unpin>> {
    /// The rows of a file as a bucket gives it.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new); [`ErrorKind::Superseded`] when the object has not the size that the manifest says.
    pub fn of_object(manifest: &Manifest, from: Cursor, options: RowOptions, read: ObjectRead) -> Result<Self> {
        let size = manifest.files.get(from.file).map(|file| file.size);
        if let (Some(wanted), Some(found)) = (size, read.info.object.size)
            && wanted != found
        {
            let why = format!("has {found} bytes, and the manifest of the inventory says {wanted}");
            return Err(Error::new(ErrorKind::Superseded, why).about(read.info.object.to_string()));
        }
        let bytes = StreamReader::new(read.stream.map_err(io::Error::other));
        Self::new(manifest, from, options, Box::new(bytes))
    }
}

impl<R: AsyncRead + Unpin> Rows<R> {
    /// The rows of the file that the cursor is in, from its row on. `file` is that file as it lies in the bucket.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] when the manifest has no such file.
    pub fn new(manifest: &Manifest, from: Cursor, options: RowOptions, file: R) -> Result<Self> {
        let Some(entry) = manifest.files.get(from.file) else {
            let why =
                format!("the inventory has {} files, and none with the number {}", manifest.files.len(), from.file);
            return Err(Error::new(ErrorKind::InvalidInput, why));
        };
        let checked = Checked { inner: file, md5: Md5::new(), seen: 0, size: entry.size, wanted: entry.md5.clone() };
        let mut gzip = GzipDecoder::new(BufReader::new(checked));
        gzip.multiple_members(true);
        Ok(Self {
            input: BufReader::new(gzip),
            csv: csv_core::Reader::new(),
            fields: vec![0; LONGEST].into(),
            ends: [0; MOST_COLUMNS + 1],
            source: manifest.source.clone(),
            listed: manifest.listed.clone(),
            columns: manifest.columns.clone(),
            options,
            from: from.row,
            next: Cursor { file: from.file, row: 0 },
            counts: Counts::default(),
            about: format!("{}/{}", manifest.destination, entry.key.escape_debug()),
            state: State::Reading,
        })
    }

    /// The row that would be read next: where to go on after a crash, once all rows so far are dealt with.
    pub fn cursor(&self) -> Cursor {
        Cursor { row: self.next.row.max(self.from), ..self.next }
    }

    /// What was read so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The next row that stands for an object; `None` at the end of a file that is whole and the one that the manifest
    /// means. After an error, and after a call that was dropped in the middle, every further call fails: open the file
    /// again at the last cursor.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Truncated`] when the file ends too early, [`ErrorKind::InvalidInput`] when it is damaged, another
    /// one, or no gzip of CSV, or has fewer rows than the cursor says; what the reader says when it fails.
    pub async fn next(&mut self) -> Result<Option<Row>> {
        match self.state {
            State::Reading => {}
            State::Ended => return Ok(None),
            State::Broken => {
                let why = "an earlier call failed or was dropped; open the file again at the last cursor";
                return Err(Error::new(ErrorKind::Cancelled, why).about(self.about.clone()));
            }
        }
        self.state = State::Broken;
        let row = self.advance().await.map_err(|why| why.about(self.about.clone()))?;
        self.state = if row.is_some() { State::Reading } else { State::Ended };
        Ok(row)
    }

    async fn advance(&mut self) -> Result<Option<Row>> {
        loop {
            // What is left out may be millions of rows, all of them in memory at once.
            tokio::task::consume_budget().await;
            let Some(count) = self.record().await? else {
                return self.finish().map(|()| None);
            };
            let number = self.next.row;
            self.next.row += 1;
            if number < self.from {
                continue;
            }
            let object = match self.object(count) {
                Ok(None) => continue,
                Ok(Some(object)) => Ok(object),
                Err(why) => Err(why.about(format!("{} row {number}", self.about))),
            };
            self.counts.given += 1;
            return Ok(Some(Row { number, object }));
        }
    }

    /// Reads one row into `fields` and gives the number of its fields.
    async fn record(&mut self) -> Result<Option<usize>> {
        let (mut written, mut count, mut read) = (0, 0, 0);
        loop {
            let input = self.input.fill_buf().await.map_err(failed)?;
            let (result, taken, out, ended) =
                self.csv.read_record(input, &mut self.fields[written..], &mut self.ends[count..]);
            self.input.consume(taken);
            (written, count, read) = (written + out, count + ended, read + taken);
            match result {
                ReadRecordResult::Record => return Ok(Some(count)),
                ReadRecordResult::End => return Ok(None),
                ReadRecordResult::InputEmpty if read <= LONGEST => {}
                _ => {
                    let why = format!("row {} has more than {LONGEST} bytes or {MOST_COLUMNS} columns", self.next.row);
                    return Err(Error::new(ErrorKind::InvalidInput, why));
                }
            }
        }
    }

    fn finish(&self) -> Result<()> {
        self.input.get_ref().get_ref().get_ref().verify()?;
        if self.next.row < self.from {
            let why = format!("has {} rows, and the cursor says {}", self.next.row, self.from);
            return Err(Error::new(ErrorKind::InvalidInput, why));
        }
        Ok(())
    }

    fn object(&mut self, count: usize) -> Result<Option<ObjectRef>> {
        let wrong = |why: String| Error::new(ErrorKind::InvalidInput, why);
        if count != self.columns.count {
            return Err(wrong(format!("has {count} columns, and the manifest names {}", self.columns.count)));
        }
        let field = |at: usize| {
            let start = if at == 0 { 0 } else { self.ends[at - 1] };
            std::str::from_utf8(&self.fields[start..self.ends[at]])
                .map_err(|_| wrong(format!("column {} is no UTF-8", at + 1)))
        };
        let text =
            |column: Option<usize>| column.map(field).transpose().map(|text| text.filter(|text| !text.is_empty()));
        let flag = |column: Option<usize>| match text(column)? {
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            None => Ok(None),
            Some(other) => Err(wrong(format!("{} is neither true nor false", excerpt(other)))),
        };
        if flag(self.columns.is_delete_marker)? == Some(true) {
            self.counts.delete_markers += 1;
            return Ok(None);
        }
        if flag(self.columns.is_latest)? == Some(false) && !self.options.all_versions {
            self.counts.older_versions += 1;
            return Ok(None);
        }
        if let Some(name) = text(self.columns.bucket)?
            && name != self.listed
        {
            return Err(wrong(format!(
                "is of the bucket {}, and the list of {}",
                excerpt(name),
                excerpt(&self.listed)
            )));
        }
        let written = field(self.columns.key)?;
        let key = form_decoded(written)
            .filter(|key| (1..=1024).contains(&key.len()) && !key.contains('\0'))
            .ok_or_else(|| wrong(format!("the key {} cannot be decoded", excerpt(written))))?;
        let size = text(self.columns.size)?;
        let size =
            size.map(|size| size.parse().map_err(|_| wrong(format!("{} is no size", excerpt(size))))).transpose()?;
        let modified = text(self.columns.modified)?.map(str::parse::<Timestamp>).transpose()?;
        let version = text(self.columns.version)?.filter(|version| *version != "null");
        Ok(Some(ObjectRef {
            version: version.map(str::to_owned),
            etag: text(self.columns.etag)?.map(|etag| etag.trim_matches('"').to_owned()),
            size,
            // To the second, as the bucket says it.
            modified: modified.map(|Timestamp(millis)| Timestamp(millis / 1000 * 1000)),
            ..ObjectRef::new(self.source.clone(), key)
        }))
    }
}

/// A failure of the reader as it came from there, or of the data.
fn failed(why: io::Error) -> Error {
    if why.get_ref().is_some_and(|inner| inner.is::<Error>()) {
        return match why.into_inner().map(|inner| inner.downcast::<Error>()) {
            Some(Ok(ours)) => *ours,
            _ => Error::new(ErrorKind::Io, "the inventory could not be read"),
        };
    }
    match why.kind() {
        io::ErrorKind::UnexpectedEof => Error::new(ErrorKind::Truncated, "ends in the middle").with_source(why),
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::Other => {
            Error::new(ErrorKind::InvalidInput, "is no gzip, or damaged").with_source(why)
        }
        _ => Error::io("could not be read", why),
    }
}

/// Counts and digests what passes.
struct Checked<R> {
    inner: R,
    md5: Md5,
    seen: u64,
    size: u64,
    wanted: String,
}

impl<R> Checked<R> {
    fn verify(&self) -> Result<()> {
        if self.seen < self.size {
            let why = format!("ended after {} of {} bytes", self.seen, self.size);
            return Err(Error::new(ErrorKind::Truncated, why));
        }
        let found: String = self.md5.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        if self.seen > self.size || !found.eq_ignore_ascii_case(&self.wanted) {
            let why = format!("is not the file that the manifest means: its MD5 is {found}, not {}", self.wanted);
            return Err(Error::new(ErrorKind::InvalidInput, why));
        }
        Ok(())
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Checked<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let new = &buf.filled()[before..];
        self.seen += new.len() as u64;
        self.md5.update(new);
        if self.seen > self.size {
            let why = format!("is longer than the {} bytes that the manifest says", self.size);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, why)));
        }
        Poll::Ready(Ok(()))
    }
}
