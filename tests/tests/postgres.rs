//! The PostgreSQL of the tests: it starts, answers, comes back after a crash, and is gone with its value.

use std::net::TcpStream;

use scan_pipeline_tests::postgres::{shared, start};

#[test]
fn databases_are_apart() {
    let Some(server) = shared() else { return };
    let (one, other) = (server.database(), server.database());
    one.psql("CREATE TABLE t AS SELECT 1 AS n");
    assert_eq!(one.psql("SELECT n FROM t"), "1");
    assert_eq!(other.psql("SELECT to_regclass('t') IS NULL"), "t");
    assert_eq!(one.psql("SHOW fsync"), "on");
}

#[test]
fn what_was_committed_survives_a_stop_and_a_thaw() {
    let Some(server) = start() else { return };
    let address = server.address();
    let database = server.database();
    database.psql("CREATE TABLE t AS SELECT 1 AS n");
    server.stop();
    assert!(TcpStream::connect(address).is_err());
    server.start_again();
    assert_eq!(database.psql("SELECT n FROM t"), "1");
    drop(server.freeze());
    assert_eq!(database.psql("SELECT n FROM t"), "1");
    drop(database);
    drop(server);
    assert!(TcpStream::connect(address).is_err(), "it outlives its value");
}
