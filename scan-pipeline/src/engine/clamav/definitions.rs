//! Definitions that lie in a bucket: a copy of them on disk, kept up with the bucket.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::TryStreamExt;
use tokio::io::AsyncWriteExt;
use tokio::sync::Mutex;

use crate::content::blocking;
use crate::model::ObjectRef;
use crate::objects::{KeyRange, ObjectOps};
use crate::privatedir::PrivateDir;
use crate::{Error, ErrorKind, Result};

/// Most bytes of all databases together. The official ones have half of a gigabyte.
const MOST_BYTES: u64 = 8 << 30;

/// A folder with the databases that lie directly under a prefix of a bucket. Databases are put there whole, under another
/// name first, so that who lists the folder meanwhile sees each as it was or as it is.
#[derive(Debug)]
pub(super) struct Pulled {
    bucket: Arc<dyn ObjectOps>,
    prefix: String,
    dir: Arc<PrivateDir>,
    /// What lies in the folder, by file name.
    held: Mutex<BTreeMap<String, ObjectRef>>,
}

impl Pulled {
    /// Copies what is there now. The copy lies under `parent` and goes with this, or after a kill with the next one.
    pub(super) async fn new(bucket: Arc<dyn ObjectOps>, prefix: String, parent: PathBuf) -> Result<Self> {
        let make = move || {
            PrivateDir::new(&parent, "definitions").map_err(|why| {
                Error::io("the folder for definitions could not be made", why).about(parent.display().to_string())
            })
        };
        let dir = Arc::new(blocking(make).await?);
        let pulled = Self { bucket, prefix, dir, held: Mutex::default() };
        pulled.pull().await?;
        Ok(pulled)
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Makes the copy what the bucket has now. What cannot be had leaves the databases that are there.
    pub(super) async fn pull(&self) -> Result<()> {
        let mut held = self.held.lock().await;
        let wanted = self.wanted().await?;
        // Somebody may have cleaned up: what is not there as it was is copied again, lest some of it be loaded alone.
        self.ensure().await?;
        for (name, object) in &wanted {
            let there = tokio::fs::metadata(self.path().join(name)).await.ok().map(|data| data.len());
            if held.get(name) != Some(object) || there.is_none() || object.size.is_some() && there != object.size {
                let about = |why: Error| why.about(object.to_string());
                self.copy(name, object).await.map_err(about)?;
                held.insert(name.clone(), object.clone());
            }
        }
        let gone: Vec<String> = held.keys().filter(|name| !wanted.contains_key(*name)).cloned().collect();
        for name in gone {
            let path = self.path().join(&name);
            match tokio::fs::remove_file(path).await {
                Err(why) if why.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("a database could not be removed", why));
                }
                _ => {}
            }
            held.remove(&name);
        }
        Ok(())
    }

    /// Puts the folder back if somebody has removed it.
    async fn ensure(&self) -> Result<()> {
        let dir = Arc::clone(&self.dir);
        let failed = |why| Error::io("the folder for definitions could not be put back", why);
        blocking(move || dir.ensure().map_err(failed)).await
    }

    /// The databases that are there, pinned, by file name.
    async fn wanted(&self) -> Result<BTreeMap<String, ObjectRef>> {
        let about = |why: Error| why.about(format!("definitions in {}/{}", self.bucket.url(), self.prefix));
        let mut found = BTreeMap::new();
        let (mut range, mut bytes) = (KeyRange::prefix(self.prefix.as_str()), 0_u64);
        loop {
            let page = self.bucket.list(&range).await.map_err(about)?;
            for object in page.entries {
                let object = object.map_err(about)?;
                let name = &object.key[self.prefix.len()..];
                if !crate::clamav::is_database(Path::new(name)) || name.contains('/') {
                    continue;
                }
                bytes = bytes.saturating_add(object.size.unwrap_or_default());
                if bytes > MOST_BYTES {
                    let why = format!("the databases have more than {MOST_BYTES} bytes together");
                    return Err(about(Error::new(ErrorKind::TooLarge, why)));
                }
                found.insert(name.to_owned(), object);
            }
            match page.next {
                Some(next) => range.after = Some(next),
                None => break,
            }
        }
        if found.is_empty() {
            let why =
                "there is no database directly under this prefix; they end in .cvd, .cld, .ndb, .hsb, .ldb, .yar ...";
            return Err(about(Error::new(ErrorKind::Config, why)));
        }
        Ok(found)
    }

    async fn copy(&self, name: &str, object: &ObjectRef) -> Result<()> {
        let failed = |why| Error::io("the database could not be written to disk", why);
        // Hidden files are none of the databases.
        let (part, whole) = (self.path().join(format!(".{name}.part")), self.path().join(name));
        let mut read = self.bucket.read(object).await?;
        let mut file = tokio::fs::File::create(&part).await.map_err(failed)?;
        let (mut size, expected) = (0_u64, read.info.object.size);
        while let Some(bytes) = read.stream.try_next().await? {
            size += bytes.len() as u64;
            if expected.is_some_and(|expected| size > expected) || size > MOST_BYTES {
                return Err(Error::new(ErrorKind::TooLarge, "the database is larger than was announced"));
            }
            file.write_all(&bytes).await.map_err(failed)?;
        }
        file.flush().await.map_err(failed)?;
        drop(file);
        tokio::fs::rename(part, whole).await.map_err(failed)
    }
}
