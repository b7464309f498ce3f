//! S3 Inventory: a list of a bucket's objects that S3 writes into another bucket once a day or a week.
//!
//! For a bucket of many millions of objects it is cheaper than listing, and hours old. A list is a `manifest.json`,
//! which names the files, and the files themselves: CSV in gzip, which [`Rows`] reads. ORC and Parquet are refused.
//!
//! # What it promises
//!
//! - **Pinned.** Each row becomes an [`ObjectRef`](crate::model::ObjectRef) with version and etag as far as the list
//!   has these columns. What has changed since is noticed by the pinned read.
//! - **Bounded.** A file is read as a stream. No more than one row of it is in memory, 256 KiB at most, whatever it
//!   unpacks to.
//! - **Whole.** Size and MD5 of each file are those of the manifest, or the last call is an error. Rows that came before
//!   are then in doubt: they may be of another list, but each of them is still looked at by a pinned read.
//! - **To be taken up again.** A [`Cursor`] is a file and a row. Going on from one reads what comes before it in that
//!   file once more, since gzip has no middle to begin at.
//!
//! ```no_run
//! use scan_pipeline::model::ObjectRef;
//! use scan_pipeline::objects::ObjectOps;
//! use scan_pipeline::source::inventory::{Cursor, Manifest, RowOptions, Rows};
//!
//! # async fn work(bucket: &dyn ObjectOps, manifest: &[u8], mut cursor: Cursor) -> Result<(), scan_pipeline::Error> {
//! let manifest = Manifest::parse(manifest)?;
//! while let Some(file) = manifest.files.get(cursor.file) {
//!     let read = bucket.read(&ObjectRef::new(bucket.url().clone(), file.key.as_str())).await?;
//!     let mut rows = Rows::of_object(&manifest, cursor, RowOptions::default(), read)?;
//!     while let Some(row) = rows.next().await? {
//!         println!("{}", row.object?);
//!         // To be stored: after a crash the work goes on from here.
//!         cursor = rows.cursor();
//!     }
//!     cursor = Cursor { file: cursor.file + 1, row: 0 };
//! }
//! # Ok(()) }
//! ```

mod manifest;
mod rows;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use manifest::{InventoryFile, Manifest};
pub use rows::{Counts, Row, RowOptions, Rows};

use crate::error::excerpt;
use crate::{Error, ErrorKind, Result};

/// The next row to read. As text it is both numbers with a colon between them.
///
/// ```
/// use scan_pipeline::source::inventory::Cursor;
/// let cursor: Cursor = "3:1047".parse()?;
/// assert_eq!(cursor, Cursor { file: 3, row: 1047 });
/// assert_eq!(cursor.to_string(), "3:1047");
/// # Ok::<(), scan_pipeline::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cursor {
    /// Which of the manifest's files, from 0.
    pub file: usize,
    /// Which row of it, from 0. Rows that are left out count as well.
    pub row: u64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.row)
    }
}

impl FromStr for Cursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let cursor = text
            .split_once(':')
            .and_then(|(file, row)| Some(Self { file: file.parse().ok()?, row: row.parse().ok()? }));
        cursor.ok_or_else(|| {
            let why = format!("{} is no place in an inventory, such as 3:1047", excerpt(text));
            Error::new(ErrorKind::InvalidInput, why)
        })
    }
}
