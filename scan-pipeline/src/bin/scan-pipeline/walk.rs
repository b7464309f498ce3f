//! Finds what to scan: the arguments in their order, directory trees sorted by name, so that two runs print alike.
//!
//! Nothing is opened here but directories, and nothing is passed over in silence. Links are followed when they are
//! arguments, and not inside of trees, as clamscan does by default: so a tree is scanned once, without what lies
//! outside of it, and without loops.

use std::ffi::OsString;
use std::fs::{self, FileType};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// Something that was found.
#[derive(Debug)]
pub(crate) enum Found {
    /// A regular file, when it was looked at.
    File(PathBuf),
    /// The argument `-`.
    StandardInput,
    /// In a tree, and nothing that holds content of its own.
    Skipped { path: PathBuf, kind: &'static str, message: &'static str },
    /// An argument or a directory that cannot be scanned.
    Failed { path: PathBuf, kind: &'static str, message: String },
}

/// The walk, as an iterator. It holds the names of the directories that are open, and no more.
#[derive(Debug)]
pub(crate) struct Walk {
    arguments: std::vec::IntoIter<PathBuf>,
    open: Vec<Directory>,
}

#[derive(Debug)]
struct Directory {
    path: PathBuf,
    entries: std::vec::IntoIter<(OsString, io::Result<FileType>)>,
}

impl Walk {
    pub(crate) fn new(arguments: Vec<PathBuf>) -> Self {
        Self { arguments: arguments.into_iter(), open: Vec::new() }
    }

    /// An argument: followed if it is a link, and an error if it is nothing to scan.
    fn argument(&mut self, path: PathBuf) -> Option<Found> {
        if path.as_os_str() == "-" {
            return Some(Found::StandardInput);
        }
        match fs::metadata(&path) {
            Err(why) => Some(failed(path, &why)),
            Ok(data) if data.is_dir() => self.enter(path),
            Ok(data) if data.is_file() => Some(Found::File(path)),
            Ok(data) => {
                let what = special(data.file_type()).1;
                Some(Found::Failed {
                    path,
                    kind: "not_a_file",
                    message: format!("{what} and was not scanned; only regular files can be"),
                })
            }
        }
    }

    fn entry(&mut self, path: PathBuf, file_type: io::Result<FileType>) -> Option<Found> {
        match file_type {
            Err(why) => Some(failed(path, &why)),
            Ok(file_type) if file_type.is_dir() => self.enter(path),
            Ok(file_type) if file_type.is_file() => Some(Found::File(path)),
            Ok(file_type) => {
                let (kind, message) = special(file_type);
                Some(Found::Skipped { path, kind, message })
            }
        }
    }

    /// Opens a directory. Its entries come next; `None` means that there is nothing to say of itself.
    fn enter(&mut self, path: PathBuf) -> Option<Found> {
        match sorted(&path) {
            Ok(entries) => {
                self.open.push(Directory { path, entries: entries.into_iter() });
                None
            }
            Err(why) => Some(failed(path, &why)),
        }
    }
}

impl Iterator for Walk {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        loop {
            let found = match self.open.last_mut() {
                None => {
                    let argument = self.arguments.next()?;
                    self.argument(argument)
                }
                Some(directory) => match directory.entries.next() {
                    None => {
                        self.open.pop();
                        None
                    }
                    Some((name, file_type)) => {
                        let path = directory.path.join(name);
                        self.entry(path, file_type)
                    }
                },
            };
            if found.is_some() {
                return found;
            }
        }
    }
}

fn sorted(directory: &Path) -> io::Result<Vec<(OsString, io::Result<FileType>)>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        entries.push((entry.file_name(), entry.file_type()));
    }
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(entries)
}

/// What something is that is neither a file nor a directory.
fn special(file_type: FileType) -> (&'static str, &'static str) {
    if file_type.is_symlink() {
        ("link", "is a link, which is not followed inside of a tree")
    } else if file_type.is_fifo() {
        ("fifo", "is a fifo")
    } else if file_type.is_socket() {
        ("socket", "is a socket")
    } else if file_type.is_char_device() || file_type.is_block_device() {
        ("device", "is a device")
    } else {
        ("special", "is no regular file")
    }
}

fn failed(path: PathBuf, why: &io::Error) -> Found {
    let link = || fs::symlink_metadata(&path).is_ok_and(|data| data.is_symlink());
    let (kind, message) = if Errno::from_io_error(why) == Some(Errno::LOOP) {
        ("link_loop", String::from("is a link that leads back to itself"))
    } else if why.kind() == io::ErrorKind::NotFound && link() {
        let target = fs::read_link(&path).unwrap_or_default();
        ("not_found", format!("is a link to {}, which does not exist", target.display()))
    } else {
        match why.kind() {
            io::ErrorKind::NotFound => ("not_found", String::from("does not exist")),
            io::ErrorKind::PermissionDenied => {
                ("permission_denied", String::from("may not be read by this user; run as one who may, or leave it out"))
            }
            _ => ("io", format!("cannot be read: {why}")),
        }
    };
    Found::Failed { path, kind, message }
}
