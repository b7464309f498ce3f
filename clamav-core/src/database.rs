//! Signature databases: what is in a folder, loading it, and the canary that proves that the loaded engine detects.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

use crate::native::{self, NativeEngine, default_definitions, read_cvd_header};
use crate::{Error, ErrorKind, Result};

/// The endings that libclamav loads (its manual, "ClamAV Signatures"); it ignores others without a word.
const ENDINGS: &[&str] = &[
    "cat", "cbc", "cdb", "cfg", "cld", "crb", "cud", "cvd", "db", "fp", "ftm", "gdb", "hdb", "hdu", "hsb", "hsu",
    "idb", "ign", "ign2", "imp", "info", "ldb", "ldu", "mdb", "mdu", "msb", "msu", "ndb", "ndu", "pdb", "pwdb", "rmd",
    "sdb", "sfp", "wdb", "yar", "yara", "zmd",
];

/// What an engine is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineInfo {
    /// The version of libclamav, such as `1.4.6`.
    pub library: String,
    /// libclamav's functionality level, which databases name as their minimum.
    pub functionality_level: u32,
    /// The databases that were loaded, by name.
    pub databases: Vec<DatabaseInfo>,
    /// Signatures in all databases together.
    pub signatures: u32,
    /// Changes exactly when the content of the databases changes: 32 hexadecimal digits.
    pub generation: String,
    /// When the engine was loaded.
    pub loaded_at: SystemTime,
}

impl EngineInfo {
    /// The newest build time among the databases, from which their age is counted.
    pub fn definitions_built(&self) -> Option<SystemTime> {
        self.databases.iter().filter_map(|database| database.built).max()
    }
}

/// One database file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseInfo {
    /// Its file name, such as `daily.cvd`.
    pub name: String,
    /// The version in its header; text databases have none.
    pub version: Option<u32>,
    /// Build time: from the header, or the file's time of change for text databases.
    pub built: Option<SystemTime>,
    /// Signatures that its header announces; text databases do not.
    pub signatures: Option<u32>,
}

/// The folder that the installed libclamav takes official definitions from, `/var/lib/clamav` on most systems.
pub fn default_definitions_dir() -> PathBuf {
    default_definitions()
}

/// The version of the libclamav in use, such as `1.4.6`.
pub fn library_version() -> String {
    native::library_version().0
}

/// The state of database files at one moment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(crate) databases: Vec<DatabaseInfo>,
    pub(crate) generation: String,
    pub(crate) files: Vec<PathBuf>,
}

/// Lists the databases in the given folders and files, and digests their content.
pub(crate) fn list(sources: &[PathBuf]) -> Result<Listing> {
    let mut files = Vec::new();
    for source in sources {
        files.extend(files_of(source)?);
    }
    files.sort();
    files.dedup();
    let mut digest = Sha256::new();
    let mut databases = Vec::new();
    for file in &files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let content = digest_file(file)?;
        digest.update((name.len() as u64).to_le_bytes());
        digest.update(name.as_bytes());
        digest.update(content);
        databases.push(describe(file, name));
    }
    Ok(Listing { databases, generation: hex(&digest.finalize()[..16]), files })
}

fn files_of(source: &Path) -> Result<Vec<PathBuf>> {
    let about = |error: Error| error.about(source.display().to_string());
    let unreadable = |why| about(Error::new(ErrorKind::Definitions, "the definitions cannot be read").with_source(why));
    let data = match std::fs::metadata(source) {
        Ok(data) => data,
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => {
            return Err(about(Error::new(
                ErrorKind::Definitions,
                "there are no definitions: the folder does not exist; run freshclam for the official ones, \
                 or name another folder",
            )));
        }
        Err(why) => return Err(unreadable(why)),
    };
    if data.is_file() {
        return match is_database(source) {
            true => Ok(vec![source.to_owned()]),
            false => Err(about(Error::new(
                ErrorKind::Definitions,
                "the file's ending is none that libclamav loads; databases end in .cvd, .cld, .ndb, .hsb, .ldb, .yar ...",
            ))),
        };
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(source).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if is_database(&path) && path.is_file() {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(about(Error::new(
            ErrorKind::Definitions,
            "the definitions folder holds no database that libclamav loads; run freshclam for the official ones, \
             or name another folder",
        )));
    }
    Ok(files)
}

/// Whether libclamav would load a file of this name; it ignores others without a word.
pub fn is_database(path: &Path) -> bool {
    let hidden = path.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with('.'));
    !hidden && path.extension().and_then(OsStr::to_str).is_some_and(|ending| ENDINGS.contains(&ending))
}

fn digest_file(path: &Path) -> Result<[u8; 32]> {
    let failed = |why| {
        Error::new(ErrorKind::Definitions, "the database cannot be read")
            .about(path.display().to_string())
            .with_source(why)
    };
    let mut file = File::open(path).map_err(failed)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => return Ok(digest.finalize().into()),
            count => digest.update(&buffer[..count]),
        }
    }
}

fn describe(path: &Path, name: String) -> DatabaseInfo {
    let official = matches!(path.extension().and_then(OsStr::to_str), Some("cvd" | "cld" | "cud"));
    match official.then(|| read_cvd_header(path)).flatten() {
        Some(header) => DatabaseInfo {
            name,
            version: Some(header.version),
            built: Some(UNIX_EPOCH + Duration::from_secs(header.built)),
            signatures: Some(header.signatures),
        },
        None => DatabaseInfo {
            name,
            version: None,
            built: std::fs::metadata(path).and_then(|data| data.modified()).ok(),
            signatures: None,
        },
    }
}

/// Loads all databases into `engine` and checks that they did not change meanwhile.
pub(crate) fn load(engine: &mut NativeEngine, sources: &[PathBuf], least: u32) -> Result<EngineInfo> {
    let before = list(sources)?;
    let mut signatures: u32 = 0;
    for source in sources {
        signatures = signatures.saturating_add(engine.load(source)?);
    }
    let place = || sources.iter().map(|s| s.display().to_string()).collect::<Vec<_>>().join(", ");
    if signatures < least.max(1) {
        return Err(Error::new(
            ErrorKind::Definitions,
            format!("the definitions hold {signatures} signatures; at least {} are required", least.max(1)),
        )
        .about(place()));
    }
    if list(sources)? != before {
        return Err(Error::new(ErrorKind::Definitions, "the definitions changed while they were loaded")
            .about(place())
            .retryable(true));
    }
    let (library, functionality_level) = native::library_version();
    Ok(EngineInfo {
        library,
        functionality_level,
        databases: before.databases,
        signatures,
        generation: before.generation,
        loaded_at: SystemTime::now(),
    })
}

/// A signature of our own with a marker that no file can hold by chance.
pub(crate) struct Canary {
    marker: String,
}

impl Canary {
    pub(crate) const SIGNATURE: &'static str = "ScanPipeline.Canary";

    /// Adds the signature to an engine that is not compiled yet.
    pub(crate) fn add(engine: &mut NativeEngine, temp_dir: &Path) -> Result<Self> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let mut seed = Sha256::new();
        seed.update(std::process::id().to_le_bytes());
        seed.update(COUNTER.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        seed.update(now.as_nanos().to_le_bytes());
        let marker = format!("canary {} canary", hex(&seed.finalize()));

        let path = temp_dir.join("canary.ndb");
        let line = format!("{}:0:*:{}\n", Self::SIGNATURE, hex(marker.as_bytes()));
        std::fs::write(&path, line).map_err(|why| {
            Error::new(ErrorKind::TempDir, "the canary's signature could not be written")
                .about(path.display().to_string())
                .with_source(why)
        })?;
        let loaded = engine.load(&path);
        let _ = std::fs::remove_file(&path);
        match loaded? {
            1 => Ok(Self { marker }),
            count => Err(Error::new(
                ErrorKind::Engine,
                format!("libclamav loaded {count} signatures from a database of one"),
            )),
        }
    }

    /// The marker as a plain file.
    pub(crate) fn plain(&self) -> Vec<u8> {
        self.marker.clone().into_bytes()
    }

    /// The marker compressed in a zip, so that it is found only when libclamav unpacks.
    pub(crate) fn zipped(&self) -> Result<Vec<u8>> {
        let failed = |why| Error::new(ErrorKind::Engine, "the canary could not be packed").with_source(why);
        let mut packer = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        packer.write_all(self.marker.as_bytes()).map_err(failed)?;
        let packed = packer.finish().map_err(failed)?;
        Ok(zip_of_one(b"canary.txt", self.marker.as_bytes(), &packed))
    }
}

/// A zip with one deflated member (APPNOTE 4.3).
fn zip_of_one(name: &[u8], plain: &[u8], packed: &[u8]) -> Vec<u8> {
    let mut common = Vec::new();
    for field in [20_u16, 0, 8, 0, 0x21] {
        common.extend(field.to_le_bytes()); // Version, flags, deflate, time, date.
    }
    for field in [crc32fast::hash(plain), packed.len() as u32, plain.len() as u32] {
        common.extend(field.to_le_bytes());
    }
    common.extend((name.len() as u16).to_le_bytes());
    common.extend(0_u16.to_le_bytes()); // No extra field.

    let mut zip = b"PK\x03\x04".to_vec();
    zip.extend(&common);
    zip.extend(name);
    zip.extend(packed);
    let directory = zip.len() as u32;
    zip.extend(b"PK\x01\x02");
    zip.extend(20_u16.to_le_bytes());
    zip.extend(&common);
    zip.extend([0; 14]); // No comment, first disk, no attributes, offset 0.
    zip.extend(name);
    let size = zip.len() as u32 - directory;
    zip.extend(b"PK\x05\x06");
    zip.extend([0, 0, 0, 0, 1, 0, 1, 0]);
    zip.extend(size.to_le_bytes());
    zip.extend(directory.to_le_bytes());
    zip.extend([0, 0]);
    zip
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
