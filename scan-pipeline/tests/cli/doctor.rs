//! `scan-pipeline doctor`.

use serde_json::Value;

use crate::{program, run, shipped_definitions};

fn status<'a>(object: &'a Value, name: &str) -> &'a str {
    let checks = object["checks"].as_array().expect("checks");
    let check = checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no check {name}"));
    assert!(check["message"].as_str().is_some_and(|message| !message.is_empty()));
    check["status"].as_str().expect("a status")
}

#[test]
fn a_machine_that_can_scan() {
    let said = run(program().arg("doctor").arg("--definitions").arg(shipped_definitions()));
    assert_eq!(said.code, 0, "{}", said.out);
    for words in
        ["libclamav 1", "2 signatures", "canary", "can be written to", "stack of 8 MiB", "This machine can scan"]
    {
        assert!(said.out.contains(words), "{words} in {}", said.out);
    }
    let said = run(program().args(["doctor", "--json", "--definitions"]).arg(shipped_definitions()));
    let object = &said.json()[0];
    assert_eq!(object["schema"], "scan-pipeline.doctor/1");
    assert_eq!(object["ok"], true);
    assert_eq!(object["engine"]["signatures"], 2);
    for name in ["library", "temp dir", "definitions", "canary", "memory", "threads", "open files"] {
        assert_eq!(status(object, name), "ok", "{name}");
    }
    // Test definitions have no age, and RAR depends on the machine.
    assert_eq!(status(object, "age"), "warn");
    assert_ne!(status(object, "rar"), "fail");
}

#[test]
fn missing_definitions_fail_it() {
    let said = run(program().args(["doctor", "--definitions", "/nonexistent"]));
    assert_eq!(said.code, 2);
    assert!(said.out.contains("FAIL  definitions") && said.out.contains("-> "), "{}", said.out);
    let said = run(program().args(["doctor", "--json", "--definitions", "/nonexistent"]));
    assert_eq!(said.code, 2);
    let object = &said.json()[0];
    assert_eq!(object["ok"], false);
    assert!(object["engine"].is_null());
    assert_eq!(status(object, "definitions"), "fail");
    assert_eq!(status(object, "library"), "ok", "the rest is still looked at");
}

#[test]
fn a_missing_temporary_directory_fails_it() {
    let said = run(program().env("TMPDIR", "/nonexistent").args(["doctor", "-d"]).arg(shipped_definitions()));
    assert_eq!(said.code, 2);
    assert!(said.out.contains("FAIL  temp dir") && said.out.contains("TMPDIR"), "{}", said.out);
}

#[test]
fn few_open_files_are_a_warning() {
    let script = "ulimit -n 100; exec \"$@\"";
    let mut command = std::process::Command::new("sh");
    command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_scan-pipeline"), "doctor", "-d"]);
    let said = run(command.arg(shipped_definitions()));
    assert_eq!(said.code, 0);
    assert!(said.out.contains("WARN  open files") && said.out.contains("ulimit -n"), "{}", said.out);
}
