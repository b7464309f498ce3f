//! The address of a database.

use std::fmt;
use std::str::FromStr;

use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::Url;

use crate::{Error, ErrorKind, Result};

const FORM: &str = "write postgres://user:password@host:5432/database";
/// What may be behind the question mark. Anything else would be ignored without a word.
const PARAMETERS: &[&str] = &[
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "hostaddr",
    "port",
    "user",
    "password",
    "dbname",
    "application_name",
];

/// The address of a PostgreSQL database: `postgres://user:password@host:5432/database?sslmode=verify-full`, as libpq and
/// psql take it. What is absent comes from libpq's variables (`PGUSER` and the like) and its password file. Wherever it is
/// shown, its password is not.
///
/// `sslmode` is `disable`, `prefer` (the default: TLS where this build and the server have it, without a look at the
/// certificate), `require` (the same, but never without), `verify-ca` or `verify-full`, which alone is safe against
/// somebody in between.
///
/// ```
/// use scan_pipeline::sql::postgres::PostgresUrl;
/// let url: PostgresUrl = "postgres://scan:secret@db.example/scans".parse()?;
/// assert_eq!(url.to_string(), "postgres://scan@db.example:5432/scans");
/// # Ok::<(), scan_pipeline::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl {
    url: Url,
    shown: String,
}

impl FromStr for PostgresUrl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refused = |what: &str| Error::new(ErrorKind::Config, format!("{what}: {FORM}"));
        // The words of these errors hold no part of the address.
        let url = Url::parse(text).map_err(|error| refused("this is no address").with_source(error))?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(refused("this is no address of PostgreSQL"));
        }
        if url.fragment().is_some() {
            return Err(refused("a # in a password is written as %23"));
        }
        // So a password with a slash or a question mark in it would be the database or a parameter, which are shown.
        if url.path().contains('@') || url.query().is_some_and(|query| query.contains('@')) {
            return Err(refused(
                "a password, and what stands behind the host, are written with %2F for /, %3F for ? and %40 for @",
            ));
        }
        // What is no parameter is not repeated: it may be the rest of a password.
        if url.query_pairs().any(|(name, _)| !PARAMETERS.contains(&&*name)) {
            let known = PARAMETERS.join(", ");
            return Err(Error::new(ErrorKind::Config, format!("behind the ? stands something else than {known}")));
        }
        let mut address = Self { url, shown: String::new() };
        let options = address.parsed()?;
        let tls = matches!(options.get_ssl_mode(), PgSslMode::Require | PgSslMode::VerifyCa | PgSslMode::VerifyFull);
        if tls && !cfg!(feature = "postgres-tls") {
            let why =
                "this build has no TLS for PostgreSQL, which sslmode asks for; rebuild with --features postgres-tls";
            return Err(Error::new(ErrorKind::Unsupported, why));
        }
        let place = match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        let database = options.get_database().unwrap_or_else(|| options.get_username());
        address.shown = format!("postgres://{}@{place}/{database}", options.get_username());
        Ok(address)
    }
}

impl PostgresUrl {
    fn parsed(&self) -> Result<PgConnectOptions> {
        let options = PgConnectOptions::from_url(&self.url)
            .map_err(|error| Error::new(ErrorKind::Config, "the address cannot be used").with_source(error))?;
        Ok(if self.url.query_pairs().any(|(name, _)| name == "application_name") {
            options
        } else {
            options.application_name("scan-pipeline")
        })
    }

    /// Whether the password is in it, and does not come from somewhere else.
    pub fn has_password(&self) -> bool {
        self.url.password().is_some() || self.url.query_pairs().any(|(name, _)| name == "password")
    }

    /// For a connection. Reads the password file where the address has no password.
    pub(super) fn options(&self) -> Result<PgConnectOptions> {
        Ok(self.parsed()?.disable_statement_logging())
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PostgresUrl").field(&self.shown).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        for text in ["postgres://u:hunter2@h/d", "postgres://u@h/d?password=hunter2", "postgresql://:hunter2@h:7/d"] {
            let url: PostgresUrl = text.parse().expect("an address");
            assert!(!format!("{url} {url:?}").contains("hunter2"), "{url:?}");
            assert!(url.to_string().starts_with("postgres://"), "{url}");
        }
        for text in [
            "postgres://u:hunter2@h:port/d",
            "postgres://u:hunter2@h/d?sslmode=hunter2x",
            "postgres://u:hunter2@h/d?pasword=hunter2",
            "postgres://u:hunter2#@h/d",
            "postgres://u:?hunter2@h/d",
            "postgres://u:?hunter2",
            "postgres://u:/hunter2@h/d",
            "mysql://u:hunter2@h/d",
            "hunter2",
        ] {
            let error = text.parse::<PostgresUrl>().expect_err(text);
            assert!(error.kind() == ErrorKind::Config && !error.is_retryable(), "{error}");
            if !text.contains("sslmode") {
                assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
            }
        }
    }

    #[cfg(not(feature = "postgres-tls"))]
    #[test]
    fn tls_that_is_not_built_in_is_refused() {
        for mode in ["require", "verify-ca", "verify-full"] {
            let error = format!("postgres://u@h/d?sslmode={mode}").parse::<PostgresUrl>().expect_err(mode);
            assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains("postgres-tls"), "{error}");
        }
        assert!("postgres://u@h/d?sslmode=disable".parse::<PostgresUrl>().is_ok());
    }
}
