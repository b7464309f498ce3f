//! Replacing the engine under running scans.

use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard};

use crate::database;
use crate::tempdir::TempDir;
use crate::{Engine, EngineBuilder, EngineInfo, Error, ErrorKind, Result};

/// How a reload treats memory and scans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReloadMode {
    /// Load the new engine beside the old one, then switch: no scan waits, twice the memory meanwhile.
    Concurrent,
    /// Hold new scans back, wait for the running ones, drop the old engine and load the new one in its place: no
    /// second engine in memory, and scans wait for as long as loading takes. For the promise that bad definitions
    /// leave the old ones serving, a copy of the databases that were loaded last is kept on disk.
    DrainThenLoad,
}

/// An engine that can be replaced while it is in use.
///
/// ```no_run
/// use clamav_core::{EngineBuilder, EngineHandle, ReloadMode, ScanRequest};
///
/// # fn main() -> Result<(), clamav_core::Error> {
/// let handle = EngineHandle::new(EngineBuilder::new(), ReloadMode::Concurrent)?;
/// let report = handle.engine()?.scan(b"bytes".to_vec(), ScanRequest::new())?;
/// if handle.is_outdated()? {
///     handle.reload()?; // On an error the old engine goes on serving.
/// }
/// # let _ = report; Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct EngineHandle {
    builder: EngineBuilder,
    mode: ReloadMode,
    serving: Mutex<Serving>,
    changed: Condvar,
    /// Held for the length of a reload, so that there is one at a time.
    reloading: Mutex<Option<Snapshot>>,
}

#[derive(Debug)]
enum Serving {
    Engine(Engine),
    /// A draining reload is under way.
    Reloading,
    /// A draining reload failed, and so did going back.
    Nothing,
}

/// A copy of the databases that the serving engine was loaded from.
#[derive(Debug)]
struct Snapshot {
    dir: TempDir,
}

impl EngineHandle {
    /// Builds the first engine.
    ///
    /// # Errors
    ///
    /// As [`EngineBuilder::build`].
    pub fn new(builder: EngineBuilder, mode: ReloadMode) -> Result<Self> {
        let pool = builder.new_pool()?;
        let builder = builder.with_pool(pool);
        let engine = builder.build()?;
        let snapshot = match mode {
            ReloadMode::Concurrent => None,
            ReloadMode::DrainThenLoad => Some(Snapshot::take(&builder, engine.info())?),
        };
        Ok(Self {
            builder,
            mode,
            serving: Mutex::new(Serving::Engine(engine)),
            changed: Condvar::new(),
            reloading: Mutex::new(snapshot),
        })
    }

    /// The engine that serves now. It stays usable, with its definitions, for as long as it is kept; a draining
    /// reload waits until all such copies are gone. While one is under way this call waits.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Definitions`], retryable, when a draining reload failed and the old definitions could not be
    /// loaded again either.
    pub fn engine(&self) -> Result<Engine> {
        let mut serving = self.serving();
        loop {
            match &*serving {
                Serving::Engine(engine) => return Ok(engine.clone()),
                Serving::Nothing => {
                    return Err(Error::new(
                        ErrorKind::Definitions,
                        "no definitions are loaded since a reload failed; repair them and reload",
                    )
                    .retryable(true));
                }
                Serving::Reloading => {
                    serving = self.changed.wait(serving).unwrap_or_else(|poisoned| poisoned.into_inner());
                }
            }
        }
    }

    /// What the serving engine is made of.
    pub fn info(&self) -> Result<EngineInfo> {
        Ok(self.engine()?.info().clone())
    }

    /// Whether the databases on disk have another content than the serving engine. Reads all of them.
    pub fn is_outdated(&self) -> Result<bool> {
        Ok(database::list(&self.builder.sources())?.generation != self.engine()?.info().generation)
    }

    /// Loads the definitions anew and switches to them.
    ///
    /// # Errors
    ///
    /// When the new definitions cannot be loaded or do not pass the canary, the error says why and the old engine
    /// goes on serving.
    pub fn reload(&self) -> Result<EngineInfo> {
        let mut snapshot = self.reloading.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let result = match self.mode {
            ReloadMode::Concurrent => self.builder.build().map(|engine| self.serve(engine)),
            ReloadMode::DrainThenLoad => self.drain_then_load(&mut snapshot),
        };
        if let Err(why) = &result {
            tracing::warn!(error = %why, "the definitions were not reloaded");
        }
        result
    }

    fn serve(&self, engine: Engine) -> EngineInfo {
        let info = engine.info().clone();
        let old = std::mem::replace(&mut *self.serving(), Serving::Engine(engine));
        self.changed.notify_all();
        drop(old); // Outside of the lock: freeing an engine takes a while.
        info
    }

    fn drain_then_load(&self, snapshot: &mut Option<Snapshot>) -> Result<EngineInfo> {
        // What can be told without loading is told before anything is given up.
        database::list(&self.builder.sources())?;
        match std::mem::replace(&mut *self.serving(), Serving::Reloading) {
            Serving::Engine(engine) => wait_until_unused(engine),
            Serving::Reloading | Serving::Nothing => {}
        }
        // Until an engine serves again; whatever happens in between, nobody may wait for ever.
        let interrupted = Interrupted(self);
        let built = self.builder.build();
        let result = self.finish_drain(built, snapshot);
        std::mem::forget(interrupted);
        result
    }

    fn finish_drain(&self, built: Result<Engine>, snapshot: &mut Option<Snapshot>) -> Result<EngineInfo> {
        match built {
            Ok(engine) => {
                match Snapshot::take(&self.builder, engine.info()) {
                    Ok(taken) => *snapshot = Some(taken),
                    Err(why) => tracing::warn!(error = %why, "no copy of the definitions could be kept"),
                }
                Ok(self.serve(engine))
            }
            Err(why) => {
                match snapshot.as_ref().map(|snapshot| snapshot.build(&self.builder)) {
                    Some(Ok(engine)) => drop(self.serve(engine)),
                    _ => self.serve_nothing(),
                }
                Err(why)
            }
        }
    }

    fn serve_nothing(&self) {
        *self.serving() = Serving::Nothing;
        self.changed.notify_all();
    }

    fn serving(&self) -> MutexGuard<'_, Serving> {
        self.serving.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Ends the waiting when a reload panics.
struct Interrupted<'a>(&'a EngineHandle);

impl Drop for Interrupted<'_> {
    fn drop(&mut self) {
        self.0.serve_nothing();
    }
}

/// Drops this copy and waits until the others, which running scans hold too, are gone.
fn wait_until_unused(engine: Engine) {
    let gone = engine.inner.gone();
    drop(engine);
    gone.wait();
}

impl Snapshot {
    fn take(builder: &EngineBuilder, info: &EngineInfo) -> Result<Self> {
        let dir = TempDir::new(&builder.temp_parent())?;
        let listing = database::list(&builder.sources())?;
        if listing.generation != info.generation {
            return Err(
                Error::new(ErrorKind::Definitions, "the definitions changed while they were copied").retryable(true)
            );
        }
        for (number, file) in listing.files.iter().enumerate() {
            copy(file, dir.path(), number)?;
        }
        Ok(Self { dir })
    }

    fn build(&self, builder: &EngineBuilder) -> Result<Engine> {
        builder.clone().with_definitions(vec![self.dir.path().to_owned()]).build()
    }
}

/// Copies under the file's own name; two sources may hold files of one name.
fn copy(file: &Path, to: &Path, number: usize) -> Result<()> {
    let name = file.file_name().unwrap_or_default();
    let mut target: PathBuf = to.join(name);
    if target.exists() {
        target = to.join(format!("{number}-{}", name.to_string_lossy()));
    }
    std::fs::copy(file, &target).map(drop).map_err(|why| {
        Error::new(ErrorKind::TempDir, "the definitions could not be copied")
            .about(file.display().to_string())
            .with_source(why)
    })
}
