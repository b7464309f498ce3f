//! `[store]`: where tasks, steps and the audit log are kept.

use std::path::{Path, PathBuf};

use super::read::Section;

/// A store by its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// SQLite in this file.
    Sqlite(PathBuf),
}

impl StoreUrl {
    /// Reads `sqlite:///absolute/path`, `sqlite://relative/path` or a bare path. Relative paths begin at `base`.
    ///
    /// # Errors
    ///
    /// What to write instead.
    pub fn parse(text: &str, base: &Path) -> Result<Self, String> {
        const FORM: &str = "write sqlite:///var/lib/scan-pipeline/state.db, or the path alone";
        let path = match text.split_once("://") {
            Some(("sqlite", path)) => path,
            Some(("postgres" | "postgresql", _)) => {
                return Err(format!("PostgreSQL is not supported yet: {FORM}"));
            }
            Some((scheme, _)) => return Err(format!("there is no store of the kind {scheme}: {FORM}")),
            None if text.starts_with("sqlite:") => return Err(format!("an address has two slashes: {FORM}")),
            None => text,
        };
        if path.is_empty() || path.ends_with('/') || path.contains('\0') {
            return Err(format!("the path of a file is missing: {FORM}"));
        }
        if path.contains('?') {
            return Err(format!("options behind a question mark are not supported: {FORM}"));
        }
        Ok(Self::Sqlite(base.join(path)))
    }
}

impl std::fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
        }
    }
}

pub(super) fn read(root: &Section<'_>) -> Option<StoreUrl> {
    let Some(item) = root.get("store") else {
        root.missing("store", "no store is set up: write [store] with url = \"sqlite:///path/to/state.db\"");
        return None;
    };
    item.section()?.read(|store| {
        let url = store.required("url", "write sqlite:///var/lib/scan-pipeline/state.db")?;
        match StoreUrl::parse(&url.value, store.reader.base) {
            Ok(_) if !cfg!(feature = "sqlite") => {
                url.mistake(store.reader, "this build has no SQLite; rebuild with --features sqlite");
                None
            }
            Ok(parsed) => {
                let StoreUrl::Sqlite(path) = &parsed;
                if path.parent().is_some_and(|parent| !parent.is_dir()) {
                    url.warning(store.reader, "the folder of this file does not exist (yet)");
                }
                Some(parsed)
            }
            Err(why) => {
                url.mistake(store.reader, format!("`{}` is no store: {}", url.written, url.hide(&why)));
                None
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_are_named_by_address_or_path() {
        let base = Path::new("/base");
        for (text, path) in [
            ("sqlite:///var/state.db", "/var/state.db"),
            ("sqlite://state.db", "/base/state.db"),
            ("state.db", "/base/state.db"),
            ("/var/a b.db", "/var/a b.db"),
        ] {
            assert_eq!(StoreUrl::parse(text, base), Ok(StoreUrl::Sqlite(path.into())), "{text}");
        }
        for text in ["", "sqlite://", "sqlite:x", "mysql://x", "postgres://h/db", "a/", "sqlite://x?mode=ro"] {
            assert!(StoreUrl::parse(text, base).is_err(), "{text}");
        }
    }
}
