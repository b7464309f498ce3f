//! The directory that contents are spooled into.
//!
//! One for each spool and process, made for the first content that goes to disk and made again when somebody removed it.
//! Its files have no names, so they are gone with the process.

use std::fs::File;
use std::io::{self, ErrorKind as IoErrorKind};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::privatedir::PrivateDir;

/// How often the directory is made for one file: whoever cleans up may come in between.
const TRIES: u32 = 3;

/// The directory of a spool, while there is one.
#[derive(Debug, Default)]
pub(super) struct Home(Mutex<Option<Arc<PrivateDir>>>);

impl Home {
    /// A file without a name, in a directory under `parent` that only we may enter.
    pub(super) fn file(&self, parent: &Path) -> io::Result<File> {
        let mut tried = 1;
        loop {
            let dir = self.dir(parent)?;
            match tempfile::tempfile_in(dir.path()) {
                Err(why) if why.kind() == IoErrorKind::NotFound && tried < TRIES => {
                    tracing::warn!(path = %dir.path().display(), "the directory for temporary files was removed; making another");
                    self.forget(&dir);
                    tried += 1;
                }
                file => return file,
            }
        }
    }

    fn dir(&self, parent: &Path) -> io::Result<Arc<PrivateDir>> {
        let mut home = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(dir) = &*home {
            return Ok(Arc::clone(dir));
        }
        let dir = Arc::new(PrivateDir::new(parent, "spool")?);
        *home = Some(Arc::clone(&dir));
        Ok(dir)
    }

    /// Unless somebody else has made another one already.
    fn forget(&self, dir: &Arc<PrivateDir>) {
        let mut home = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if home.as_ref().is_some_and(|home| Arc::ptr_eq(home, dir)) {
            *home = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use bytes::Bytes;
    use futures_util::stream;

    use super::*;
    use crate::content::{Budget, Content, Spool, SpoolOptions};

    fn names(parent: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(parent).expect("readable");
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name")).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn what_somebody_removes_is_made_again() {
        let parent = tempfile::tempdir().expect("a directory");
        let dir = Some(parent.path().to_owned());
        let spool = Spool::new(SpoolOptions { memory_threshold: 1, dir, ..SpoolOptions::default() }, Budget::default());
        let mut kept = Vec::new();
        for round in 0..3 {
            let parts = stream::iter([Ok::<_, io::Error>(Bytes::from(format!("round {round}")))]);
            let content = Content::from_stream(parts, &spool).await.expect("is taken in");
            assert!(content.file().is_some(), "it is on disk");
            kept.push(content);
            let there = names(parent.path());
            assert_eq!(there.len(), 2, "{there:?}");
            let mode = std::fs::metadata(parent.path().join(&there[0])).expect("there").mode();
            assert_eq!(mode & 0o777, 0o700);
            std::fs::remove_dir(parent.path().join(&there[0])).expect("removed");
            if round > 0 {
                std::fs::remove_file(parent.path().join(&there[1])).expect("removed");
            }
        }
        for (round, content) in kept.iter().enumerate() {
            assert_eq!(content.bytes().await.expect("still there"), format!("round {round}"));
        }
        drop(spool);
        assert_eq!(names(parent.path()), Vec::<String>::new());
    }

    #[test]
    fn a_parent_that_is_missing_is_an_error() {
        let parent = tempfile::tempdir().expect("a directory");
        let missing = Home::default().file(&parent.path().join("missing")).expect_err("refused");
        assert_eq!(missing.kind(), IoErrorKind::NotFound);
    }
}
