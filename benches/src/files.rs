//! The files to scan: real ones from this system's packages, and documents and archives made from them.
//!
//! They are copied into one folder for each kind, so that both sides read the same files, whatever happens to the
//! system meanwhile. Which files are taken depends only on their paths, so two systems with the same packages give
//! the same set.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::rng::stable_hash;
use crate::{Result, make};

/// Files up to this size count as small.
pub const SMALL: usize = 16 << 10;

/// Kinds whose files are containers that libclamav unpacks.
pub const ARCHIVES: &[&str] = &["zip", "zip-in-zip", "zip-real", "docx", "tar-gz", "tar-bz2", "gz"];

/// A kind that is reported but not counted: libclamav does not unpack it, so the bare call does less than we do.
pub const UNEQUAL: &str = "ar";

/// One file to scan.
#[derive(Debug, Clone)]
pub struct BenchFile {
    /// What it is: the name of its folder.
    pub kind: String,
    /// Where it is.
    pub path: PathBuf,
    /// Its content.
    pub bytes: Arc<[u8]>,
}

impl BenchFile {
    /// Whether it is at most [`SMALL`].
    pub fn is_small(&self) -> bool {
        self.bytes.len() <= SMALL
    }

    /// Its name without the folder.
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// The folder that cargo builds into.
pub fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
    }
}

/// Gathers the files into `folder` unless they are there, and reads them all.
///
/// # Errors
///
/// When the system holds too few files of a kind, or a folder cannot be read or written.
pub fn prepare(folder: &Path) -> Result<Vec<BenchFile>> {
    let stamp = folder.join("complete.txt");
    if !fs::read_to_string(&stamp).is_ok_and(|text| text == FORMAT) {
        let _ = fs::remove_dir_all(folder);
        gather(folder)?;
        fs::write(&stamp, FORMAT)?;
    }
    let mut files = Vec::new();
    for kind in sorted(folder)?.iter().filter(|path| path.is_dir()) {
        for path in sorted(kind)? {
            let kind = kind.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.push(BenchFile { kind, bytes: fs::read(&path)?.into(), path });
        }
    }
    Ok(files)
}

/// Changes when the way to gather does.
const FORMAT: &str = "bench files, format 4\n";

const ROOTS: &[&str] = &["/usr/share", "/usr/bin", "/usr/lib/python3"];

/// What real files are taken: folder, endings, sizes, how many at most, and how many at least.
struct Wanted(&'static str, &'static [&'static str], std::ops::Range<u64>, usize, usize);

const REAL: &[Wanted] = &[
    Wanted("text", &["txt", "md", "py", "pl", "pm", "js", "css", "json", "copyright", "xml"], 100..200_000, 90, 30),
    Wanted("html", &["html", "htm"], 500..500_000, 40, 5),
    Wanted("image", &["png", "jpg", "gif", "svg"], 200..2_000_000, 40, 5),
    Wanted("elf", &["/elf"], 10_000..900_000, 30, 10),
    Wanted("elf-large", &["/elf"], 1_000_000..12_000_000, 4, 1),
    Wanted("gz", &["gz"], 100..400_000, 40, 10),
    Wanted("zip-real", &["jar", "whl", "zip", "epub", "odt"], 100..8_000_000, 10, 0),
    Wanted("pdf", &["pdf"], 1_000..8_000_000, 5, 0),
];

fn gather(folder: &Path) -> Result<()> {
    let mut candidates = Vec::new();
    for root in ROOTS {
        walk(Path::new(root), &mut candidates);
    }
    // By hash, so that a choice of the first few is spread over all packages and hardly changes with one of them.
    candidates.sort_by_key(|(path, _)| (stable_hash(path.as_os_str().as_encoded_bytes()), path.clone()));
    for Wanted(kind, endings, sizes, most, least) in REAL {
        let mut taken = 0;
        for (path, size) in &candidates {
            if taken == *most {
                break;
            }
            if !sizes.contains(size) || !endings.contains(&ending(path)) {
                continue;
            }
            let Ok(bytes) = fs::read(path) else { continue };
            if endings.contains(&"/elf") && !bytes.starts_with(b"\x7fELF") {
                continue;
            }
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            save(folder, kind, taken, &name, &bytes)?;
            taken += 1;
        }
        if taken < *least {
            return Err(format!("only {taken} files of the kind {kind} found in {ROOTS:?}").into());
        }
    }
    made(folder)
}

/// Documents and archives made of the real files.
fn made(folder: &Path) -> Result<()> {
    let content = |kind: &str| -> Result<Vec<(String, Vec<u8>)>> {
        let named =
            |path: PathBuf| Ok((path.file_name().unwrap_or_default().to_string_lossy().into(), fs::read(path)?));
        sorted(&folder.join(kind))?.into_iter().map(named).collect()
    };
    let (texts, pages, pictures) = (content("text")?, content("html")?, content("image")?);
    let (programs, large) = (content("elf")?, content("elf-large")?);
    let mixed: Vec<_> = [&texts, &pages, &pictures].into_iter().flatten().collect();
    // A slice of a list that starts anew with every number.
    let some = |from: usize, count: usize| -> Vec<make::Member<'_>> {
        let chosen = mixed.iter().cycle().skip(from * 7 % mixed.len()).take(count);
        chosen.map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect()
    };
    let one = |list: &[(String, Vec<u8>)], n: usize| -> (String, Vec<u8>) { list[n % list.len()].clone() };
    let words = |n: usize| String::from_utf8_lossy(&one(&texts, n).1).into_owned();
    let jpeg = pictures.iter().find(|(name, _)| name.ends_with(".jpg")).map(|(_, bytes)| bytes.as_slice());

    for n in 0..25 {
        let (name, picture) = one(&pictures, n);
        let picture: &[make::Member<'_>] = &[(&name, &picture)];
        let text = (0..=n % 4).map(|part| words(n + part)).collect::<String>();
        save(folder, "docx", n, "made.docx", &make::docx(&text, if n % 2 == 0 { picture } else { &[] })?)?;
        save(folder, "pdf", n + 10, "made.pdf", &make::pdf(&text, if n % 3 == 0 { jpeg } else { None })?)?;
        let zipped = make::zip(&some(n, 3))?;
        let document = make::docx(&text, picture)?;
        let attachment: make::Member<'_> = if n % 2 == 0 { ("files.zip", &zipped) } else { ("letter.docx", &document) };
        let attachments: &[make::Member<'_>] = if n % 5 == 4 { &[] } else { &[attachment] };
        save(folder, "eml", n, "made.eml", &make::mail(&words(n + 3), attachments))?;
        let (program_name, program) = one(&programs, n);
        let mut members = some(n, 2 + n / 3);
        if n % 5 == 0 {
            members.push((&program_name, &program));
        }
        save(folder, "zip", n, "made.zip", &make::zip(&members)?)?;
        if n < 20 {
            save(folder, "tar-gz", n, "made.tar.gz", &make::gzip(&make::tar(&members)?)?)?;
        }
        if n < 12 {
            let inner = make::zip(&some(n + 1, 4))?;
            let nested = make::zip(&[("first.zip", &zipped), ("second.zip", &inner), ("letter.docx", &document)])?;
            save(folder, "zip-in-zip", n, "made.zip", &nested)?;
        }
        if n < 8 {
            save(folder, "tar-bz2", n, "made.tar.bz2", &make::bzip2(&make::tar(&members)?)?)?;
            let data = make::gzip(&make::tar(&members)?)?;
            let package = make::ar(&[("debian-binary", b"2.0\n"), ("data.tar.gz", &data)]);
            save(folder, UNEQUAL, n, "made.deb", &package)?;
        }
    }
    // A few that are large, for what grows with size.
    let (name, program) = one(&large, 0);
    save(folder, "zip", 90, "large.zip", &make::zip(&[(&name, &program)])?)?;
    let (name, program) = one(&large, 1);
    save(folder, "tar-gz", 90, "large.tar.gz", &make::gzip(&make::tar(&[(&name, &program)])?)?)?;
    Ok(())
}

fn save(folder: &Path, kind: &str, number: usize, name: &str, bytes: &[u8]) -> Result<()> {
    let folder = folder.join(kind);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(format!("{number:03}-{name}")), bytes)?;
    Ok(())
}

/// Regular files below `folder`; links are left out, and the files of ClamAV's own tests, which are to be found.
fn walk(folder: &Path, into: &mut Vec<(PathBuf, u64)>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let (Ok(kind), path) = (entry.file_type(), entry.path()) else { continue };
        if kind.is_dir() && !path.ends_with("clamav-testfiles") {
            walk(&path, into);
        } else if kind.is_file()
            && let Ok(data) = entry.metadata()
        {
            into.push((path, data.len()));
        }
    }
}

/// What a file is taken for by its name; `/elf` stands for the programs, which have no ending.
fn ending(path: &Path) -> &str {
    match path.extension().and_then(std::ffi::OsStr::to_str) {
        Some(ending) if !path.starts_with("/usr/bin") => ending,
        _ if path.starts_with("/usr/bin") => "/elf",
        _ => path.file_name().and_then(std::ffi::OsStr::to_str).unwrap_or_default(),
    }
}

fn sorted(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}
