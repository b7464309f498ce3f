//! Which definitions are used, and what is said when there are none to use.

use std::path::Path;

use scan_pipeline_tests::marker::{self, eicar, harmless};

use crate::{folder, program, run, shipped_definitions};

#[test]
fn the_shipped_ones_are_those_of_the_fixtures() {
    let dir = folder(&[]);
    let made = marker::test_definitions(dir.path()).expect("written");
    let read = |path: &Path| std::fs::read_to_string(path).expect("readable");
    assert_eq!(read(&shipped_definitions().join("test.ndb")), read(&made));
}

#[test]
fn the_shipped_ones_do_not_find_themselves() {
    let said = run(program().arg("scan").arg("-d").arg(shipped_definitions()).arg(shipped_definitions()));
    assert_eq!(said.code, 0, "{}", said.out);
}

#[test]
fn bad_ones_are_refused_with_what_to_do() {
    let good = folder(&[("good.txt", &harmless())]);
    let dir = folder(&[("empty-folder/readme.md", b"none here"), ("file.txt", b"no database")]);
    let path = |name: &str| dir.path().join(name);
    marker::write_empty_definitions(&path("empty-database")).expect("written");
    marker::write_ignored_definitions(&path("ignored")).expect("written");
    marker::write_malformed_definitions(&path("malformed")).expect("written");
    for (name, words) in [
        ("missing", "does not exist"),
        ("empty-folder", "holds no database"),
        ("empty-database", "mpty database"),
        ("ignored", "holds no database"),
        ("malformed", "alformed"),
        ("file.txt", "ending"),
    ] {
        let definitions = path(name);
        let said = run(program().arg("scan").arg("--definitions").arg(&definitions).arg(good.path()));
        assert_eq!(said.code, 2, "{name}");
        assert!(said.out.is_empty(), "{name}: {}", said.out);
        assert!(said.err.contains("nothing was scanned") && said.err.contains(words), "{name}: {}", said.err);
        assert!(said.err.contains(name) && said.err.contains("--definitions"), "{name}: {}", said.err);

        let said = run(program().args(["scan", "--json", "--definitions"]).arg(&definitions).arg(good.path()));
        let objects = said.json();
        assert_eq!((said.code, objects.len()), (2, 1), "{name}");
        assert_eq!(objects[0]["schema"], "scan-pipeline.error/1");
        assert_eq!(objects[0]["error"]["kind"], "definitions");
    }
}

#[test]
fn the_environment_names_them_where_no_option_does() {
    let bad = folder(&[("eicar.com", &eicar())]);
    let with = |definitions: &Path| {
        let mut command = program();
        command.env("SCAN_PIPELINE_DEFINITIONS", definitions).arg("scan");
        command
    };
    assert_eq!(run(with(&shipped_definitions()).arg(bad.path())).code, 1);
    let said = run(with(Path::new("/nonexistent")).arg(bad.path()));
    assert!(said.code == 2 && said.err.contains("/nonexistent"), "{}", said.err);
    assert_eq!(run(with(Path::new("/nonexistent")).arg("-d").arg(shipped_definitions()).arg(bad.path())).code, 1);
    // A single database will do.
    let database = shipped_definitions().join("test.ndb");
    assert_eq!(run(program().arg("scan").arg("-d").arg(database).arg(bad.path())).code, 1);
}

#[test]
fn without_a_temporary_directory_nothing_is_scanned() {
    let good = folder(&[("good.txt", &harmless())]);
    for place in ["/nonexistent", "/etc/hostname"] {
        let said = run(program().env("TMPDIR", place).args(["scan", "-d"]).arg(shipped_definitions()).arg(good.path()));
        assert_eq!(said.code, 2);
        assert!(said.err.contains(place) && said.err.contains("TMPDIR"), "{}", said.err);
    }
}
