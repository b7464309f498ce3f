//! PostgreSQL's errors as ours.

use std::io;

use crate::sql::DAMAGED;
use crate::{Error, ErrorKind};

/// What an error means, and what to do about it.
pub(crate) fn failed(doing: &'static str) -> impl Fn(sqlx::Error) -> Error {
    move |error| {
        let (kind, retryable, why) = match &error {
            sqlx::Error::Database(database) => kind_of(&database.code().unwrap_or_default()),
            sqlx::Error::Io(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                (ErrorKind::Denied, false, "the server's socket may not be used by this process")
            }
            sqlx::Error::Io(_) => (ErrorKind::Unavailable, true, "the database cannot be reached, or hung up"),
            sqlx::Error::Protocol(_) => (ErrorKind::Unavailable, true, "the server's answer made no sense"),
            sqlx::Error::Tls(_) => {
                (ErrorKind::Denied, false, "no TLS with this server: check sslmode and its certificate")
            }
            sqlx::Error::Configuration(_) => (ErrorKind::Config, false, "the database's address cannot be used"),
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => (ErrorKind::Corrupt, false, DAMAGED),
            _ => (ErrorKind::Io, false, "PostgreSQL failed"),
        };
        Error::new(kind, format!("{doing}: {why}")).with_source(error).retryable(retryable)
    }
}

/// By SQLSTATE (postgresql.org/docs/current/errcodes-appendix.html), and by its class where the rest says no more.
fn kind_of(code: &str) -> (ErrorKind, bool, &'static str) {
    use ErrorKind as Kind;
    let class = code.get(..2).unwrap_or_default();
    match (code, class) {
        ("57014", _) => (Kind::Timeout, true, "the server did not finish it in time"),
        ("40001" | "40P01", _) => (Kind::Busy, true, "it met with what others wrote at the same time"),
        ("55P03", _) => (Kind::Busy, true, "another process has locked what is needed and did not let go in time"),
        ("53300", _) => (Kind::Busy, true, "the server has no connection left: allow more, or use fewer"),
        ("53100", _) => (Kind::Resources, true, "the server's disk is full: make room and try again"),
        ("25006", _) => {
            (Kind::Denied, false, "the database is read-only, such as a standby: use the address of the primary")
        }
        ("42501", _) => (Kind::Denied, false, "the user lacks a privilege for it"),
        ("3D000", _) => (Kind::Config, false, "there is no such database: make it first (createdb)"),
        ("3F000", _) => (Kind::Config, false, "there is no such schema"),
        ("54000" | "54001" | "54011" | "54023", _) => (Kind::InvalidInput, false, "it is too large for the database"),
        ("58030", _) => (Kind::Io, true, "the server's disk failed to read or write"),
        (_, "08" | "57") | ("25P03", _) => (Kind::Unavailable, true, "the server ended the connection"),
        (_, "53") => (Kind::Resources, true, "the server runs short of memory or the like"),
        (_, "28") => (Kind::Denied, false, "the server does not let the user in: check user and password"),
        (_, "22") => (Kind::InvalidInput, false, "the database cannot keep such a value"),
        (_, "XX" | "42") => (Kind::Corrupt, false, "the database is damaged, or its tables were changed"),
        _ => (Kind::Io, false, "PostgreSQL failed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_may_be_tried_again() {
        for (code, kind, retryable) in [
            ("57P01", ErrorKind::Unavailable, true),
            ("57P03", ErrorKind::Unavailable, true),
            ("08006", ErrorKind::Unavailable, true),
            ("25P03", ErrorKind::Unavailable, true),
            ("57014", ErrorKind::Timeout, true),
            ("40P01", ErrorKind::Busy, true),
            ("53300", ErrorKind::Busy, true),
            ("53100", ErrorKind::Resources, true),
            ("53200", ErrorKind::Resources, true),
            ("28P01", ErrorKind::Denied, false),
            ("25006", ErrorKind::Denied, false),
            ("42P01", ErrorKind::Corrupt, false),
            ("3D000", ErrorKind::Config, false),
            ("", ErrorKind::Io, false),
        ] {
            let (found, again, _) = kind_of(code);
            assert_eq!((found, again), (kind, retryable), "{code}");
        }
    }
}
