//! The same with a store that several machines share, and without it.

use crate::scene::Scene;

#[cfg(not(feature = "postgres"))]
#[test]
fn a_build_without_postgresql_says_so() {
    let scene = Scene::new();
    scene.edit("sqlite://state.db", "postgres://scan@db.example/scans");
    let said = scene.said(&["config", "check", "config.toml"]);
    assert_eq!(said.code, 1, "{}", said.err);
    let both = format!("{}{}", said.out, said.err);
    assert!(both.contains("rebuild with --features postgres"), "{both}");
}

#[cfg(feature = "postgres")]
#[test]
fn a_pipeline_runs_on_postgresql_and_never_shows_the_password() {
    let Some(server) = scan_pipeline_tests::postgres::shared() else { return };
    let database = server.database();
    let url = database.url();
    let scene = Scene::new();
    let (before, behind) = url.split_once("test%2Fpassword").expect("has a password");
    scene.edit("sqlite://state.db", &format!("{before}${{PASSWORD}}{behind}"));
    let said = |arguments: &[&str]| {
        let said = crate::run(scene.command(arguments).env("PASSWORD", "test%2Fpassword"));
        let both = format!("{}{}", said.out, said.err);
        assert!(!both.contains("test%2Fpassword") && !both.contains(server.password()), "{both}");
        said
    };
    let checked = said(&["config", "check", "config.toml"]);
    assert_eq!(checked.code, 0, "{}", checked.err);
    assert!(checked.out.contains("the audit log in postgres://tester@127.0.0.1"), "{}", checked.out);
    let missing = said(&["tasks", "--config", "config.toml"]);
    assert_eq!(missing.code, 2, "{}", missing.out);
    assert!(missing.err.contains("there is no store"), "{}", missing.err);
    assert_eq!(
        database.psql("SELECT count(*) FROM pg_namespace WHERE nspname = 'scan_pipeline'"),
        "0",
        "looking makes nothing"
    );

    let ran = said(&["run", "--once", "--config", "config.toml"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(scene.has("infected/sub/eicar.com") && scene.has("clean/letter.txt"));
    assert_eq!(said(&["tasks", "--store", &url, "--json"]).json().len(), 3);
    let verified = said(&["audit", "verify", "--config", "config.toml"]);
    assert_eq!(verified.code, 0, "{}{}", verified.out, verified.err);
    database.psql("UPDATE scan_pipeline.tasks SET state = 'superseded' WHERE state = 'done'");
    assert_eq!(said(&["audit", "verify", "--store", &url]).code, 1);

    // An address that cannot be used, and a server that is not there.
    let wrong = said(&["tasks", "--store", "postgres://u:test%2Fpassword@h/db?pool=9"]);
    assert!(wrong.code == 2 && wrong.err.contains("something else than sslmode"), "{}", wrong.err);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
    let refused = said(&["tasks", "--store", &database.url_at(closed)]);
    assert!(refused.code == 2 && refused.err.contains("cannot be reached"), "{}", refused.err);
}
