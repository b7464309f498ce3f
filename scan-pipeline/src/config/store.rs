//! `[store]`: where tasks, steps and the audit log are kept.

use std::path::{Path, PathBuf};

use super::read::Section;
#[cfg(feature = "postgres")]
use crate::sql::postgres::PostgresUrl;

/// A store by its address.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreUrl {
    /// SQLite in this file.
    Sqlite(PathBuf),
    /// A PostgreSQL database, with the feature `postgres`.
    #[cfg(feature = "postgres")]
    Postgres(PostgresUrl),
}

const FORM: &str = "write sqlite:///var/lib/scan-pipeline/state.db, the path alone, or postgres://user@host/database";

impl StoreUrl {
    /// Reads `sqlite:///absolute/path`, `sqlite://relative/path`, a bare path, whose relative form begins at `base`, or
    /// the address of a PostgreSQL database.
    ///
    /// # Errors
    ///
    /// What to write instead. Nothing of an address is in it, which may have a password.
    pub fn parse(text: &str, base: &Path) -> Result<Self, String> {
        let path = match text.split_once("://") {
            Some(("sqlite", path)) => path,
            #[cfg(feature = "postgres")]
            Some(("postgres" | "postgresql", _)) => {
                return text.parse().map(Self::Postgres).map_err(|error: crate::Error| error.to_string());
            }
            #[cfg(not(feature = "postgres"))]
            Some(("postgres" | "postgresql", _)) => {
                return Err(String::from("this build has no PostgreSQL; rebuild with --features postgres"));
            }
            Some((scheme, _)) => return Err(format!("there is no store of the kind {scheme}: {FORM}")),
            None if text.starts_with("sqlite:") => return Err(format!("an address has two slashes: {FORM}")),
            None => text,
        };
        if path.is_empty() || path.ends_with('/') || path.contains('\0') {
            return Err(format!("the path of a file is missing: {FORM}"));
        }
        if path.contains("password=") {
            return Err(format!("this is no path: {FORM}"));
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
            #[cfg(feature = "postgres")]
            Self::Postgres(url) => url.fmt(f),
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
        let parsed = match StoreUrl::parse(&url.value, store.reader.base) {
            Ok(parsed) => parsed,
            Err(why) => {
                url.mistake(store.reader, format!("`{}` is no store: {}", url.address(), url.hide(&why)));
                return None;
            }
        };
        match &parsed {
            StoreUrl::Sqlite(_) if !cfg!(feature = "sqlite") => {
                url.mistake(store.reader, "this build has no SQLite; rebuild with --features sqlite");
                return None;
            }
            StoreUrl::Sqlite(path) if path.parent().is_some_and(|parent| !parent.is_dir()) => {
                url.warning(store.reader, "the folder of this file does not exist (yet)");
            }
            StoreUrl::Sqlite(_) => {}
            #[cfg(feature = "postgres")]
            StoreUrl::Postgres(postgres) => {
                if postgres.has_password() && !url.from_variable {
                    url.warning(
                        store.reader,
                        "the password stands in this file: put it into a variable, as ${PASSWORD}",
                    );
                }
            }
        }
        Some(parsed)
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
        for text in ["", "sqlite://", "sqlite:x", "mysql://x", "postgres://h:x/db", "a/", "sqlite://x?mode=ro"] {
            assert!(StoreUrl::parse(text, base).is_err(), "{text}");
        }
        let postgres = StoreUrl::parse("postgres://u:hunter2@h/db", base);
        if cfg!(feature = "postgres") {
            let url = postgres.expect("an address");
            assert_eq!(url.to_string(), "postgres://u@h:5432/db");
            assert!(!format!("{url:?}").contains("hunter2"), "{url:?}");
        } else {
            assert!(postgres.expect_err("not built in").contains("--features postgres"));
        }
    }
}
