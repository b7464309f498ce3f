//! The two sides of a comparison: passes over files, by `clamav-core` or by the bare loop.

use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clamav_core::{Engine, EngineBuilder, Input, ScanRequest, Verdict};

use crate::Result;
use crate::bare::{Answer, Bare, c_path};
use crate::definitions::MARKER;
use crate::files::BenchFile;
use crate::make;
use crate::measure::cpu;

/// How the files are handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// As bytes in memory, which neither side copies.
    Bytes,
    /// By path, which each side opens and reads.
    Files,
}

impl How {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Bytes, Self::Files];

    /// For tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Files => "files",
        }
    }
}

/// A file with everything that a call needs prepared, so that preparing is not measured.
#[derive(Debug)]
pub struct Prepared {
    file: BenchFile,
    name: String,
    c_name: CString,
    c_path: CString,
}

impl Prepared {
    /// Prepares one file.
    ///
    /// # Errors
    ///
    /// When its path holds a NUL byte.
    pub fn new(file: BenchFile) -> Result<Self> {
        let name = file.name();
        Ok(Self { c_name: CString::new(name.clone())?, c_path: c_path(&file.path)?, name, file })
    }
}

/// What was said of the files of a pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Clean; of the bare loop: no match.
    pub clean: usize,
    /// A signature matched, or for the bare loop any alert.
    pub matched: usize,
    /// Not proven clean.
    pub unscannable: usize,
    /// Errors.
    pub failed: usize,
}

/// What a pass cost.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// Processor time of the whole process.
    pub cpu: Duration,
    /// Time on the wall.
    pub wall: Duration,
}

/// A side of the comparison.
#[derive(Debug)]
pub enum Side {
    /// `clamav-core`.
    Ours(Engine),
    /// libclamav alone.
    Bare(Bare, tempfile::TempDir),
}

impl Side {
    /// `clamav-core` with this many scan threads, and the defaults otherwise.
    ///
    /// # Errors
    ///
    /// When the definitions cannot be loaded.
    pub fn ours(definitions: &Path, threads: usize) -> Result<Self> {
        Self::of(EngineBuilder::new().definitions(definitions).threads(threads).build()?)
    }

    /// `clamav-core` by an engine that is there already.
    ///
    /// # Errors
    ///
    /// When it does not find what it has to.
    pub fn of(engine: Engine) -> Result<Self> {
        let side = Self::Ours(engine);
        side.prove()?;
        Ok(side)
    }

    /// The bare loop.
    ///
    /// # Errors
    ///
    /// When the definitions cannot be loaded.
    pub fn bare(definitions: &Path) -> Result<Self> {
        let temp_dir = tempfile::tempdir()?;
        let side = Self::Bare(Bare::load(definitions, temp_dir.path())?, temp_dir);
        side.prove()?;
        Ok(side)
    }

    /// An engine that finds nothing is fast; this one must find the marker in a zip in a zip.
    fn prove(&self) -> Result<()> {
        let inner = make::zip(&[("marker.txt", MARKER)])?;
        let bytes = make::zip(&[("inner.zip", &inner)])?;
        let file = BenchFile { kind: String::new(), path: PathBuf::from("marker.zip"), bytes: bytes.into() };
        match self.scan(&Prepared::new(file)?, How::Bytes) {
            Tally { matched: 1, .. } => Ok(()),
            other => Err(format!("the engine does not find the marker: {other:?}").into()),
        }
    }

    /// Scans one file and waits for the answer.
    pub fn scan(&self, prepared: &Prepared, how: How) -> Tally {
        let Prepared { file, name, c_name, c_path } = prepared;
        let mut tally = Tally::default();
        match self {
            Self::Ours(engine) => {
                let result = match how {
                    How::Bytes => engine.scan(Input::from(file.bytes.clone()), ScanRequest::named(name.as_str())),
                    How::Files => engine.scan(file.path.as_path(), ScanRequest::new()),
                };
                match result.map(|report| report.verdict) {
                    Ok(Verdict::Clean) => tally.clean += 1,
                    Ok(Verdict::Infected { .. }) => tally.matched += 1,
                    Ok(_) => tally.unscannable += 1,
                    Err(_) => tally.failed += 1,
                }
            }
            Self::Bare(bare, _) => {
                let answer = match how {
                    How::Bytes => Ok(bare.scan_bytes(&file.bytes, c_name)),
                    How::Files => bare.scan_file(&file.path, c_path),
                };
                match answer {
                    Ok(Answer::NoMatch) => tally.clean += 1,
                    Ok(Answer::Match) => tally.matched += 1,
                    Ok(Answer::Failed(_)) | Err(_) => tally.failed += 1,
                }
            }
        }
        tally
    }

    /// Scans all files, as many at once as there are threads, and says what that cost.
    ///
    /// Both sides get the same threads with stacks of 8 MiB. The bare loop scans on them; ours hands over to the
    /// threads of its own and waits, as a caller does.
    ///
    /// # Errors
    ///
    /// When no thread can be started.
    pub fn pass(&self, files: &[Prepared], how: How, threads: usize) -> Result<(Cost, Tally)> {
        let next = AtomicUsize::new(0);
        let (wall, before) = (Instant::now(), cpu());
        let work = || {
            let mut tally = Tally::default();
            while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                tally.add(self.scan(file, how));
            }
            tally
        };
        let tally = std::thread::scope(|scope| -> Result<Tally> {
            let spawn = |_| std::thread::Builder::new().stack_size(8 << 20).spawn_scoped(scope, work);
            let workers = (0..threads).map(spawn).collect::<std::io::Result<Vec<_>>>()?;
            let mut tally = Tally::default();
            for worker in workers {
                tally.add(worker.join().map_err(|_| "a scanning thread panicked")?);
            }
            Ok(tally)
        })?;
        Ok((Cost { cpu: cpu() - before, wall: wall.elapsed() }, tally))
    }
}

impl Tally {
    /// Adds another's counts.
    pub fn add(&mut self, other: Self) {
        self.clean += other.clean;
        self.matched += other.matched;
        self.unscannable += other.unscannable;
        self.failed += other.failed;
    }
}
