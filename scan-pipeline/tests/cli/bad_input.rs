//! What is no file, what cannot be read, what changes: a clear message each, and the others are still scanned.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use rustix::fs::{FileType, Mode};
use scan_pipeline_tests::marker::{eicar, harmless};

use crate::{Said, folder, run, scan, scan_with, shipped_definitions};

fn fifo(path: &Path) {
    rustix::fs::mknodat(rustix::fs::CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("a fifo");
}

/// The error about one argument, as kind and message; a clean file beside it must have been scanned.
fn error_about(path: &Path) -> (String, String) {
    let good = folder(&[("good.txt", &harmless())]);
    let said = run(scan().arg("--json").arg(path).arg(good.path().join("good.txt")));
    assert_eq!(said.code, 2, "{}", said.out);
    let objects = said.json();
    assert_eq!(objects.len(), 2, "{}", said.out);
    assert_eq!(objects[0]["schema"], "scan-pipeline.error/1");
    assert_eq!(objects[0]["path"], path.to_str().expect("UTF-8"));
    assert_eq!(objects[1]["verdict"]["status"], "clean");
    let text = |field: &str| objects[0]["error"][field].as_str().expect("text").to_owned();
    // The table says the same.
    let table = scan_with(&[&path]);
    assert_eq!(table.code, 2);
    assert!(table.out.starts_with("ERROR") && table.out.contains(&text("message")), "{}", table.out);
    (text("kind"), text("message"))
}

#[test]
fn arguments_that_are_nothing_to_scan_are_errors() {
    let dir = folder(&[]);
    let path = |name: &str| dir.path().join(name);
    fifo(&path("fifo"));
    let _listener = UnixListener::bind(path("socket")).expect("a socket");
    symlink("nowhere", path("dangling")).expect("a link");
    symlink("loop", path("loop")).expect("a link");
    symlink("fifo", path("to-fifo")).expect("a link");
    for (name, kind, words) in [
        ("missing", "not_found", "does not exist"),
        ("missing/below", "not_found", "does not exist"),
        ("dangling", "not_found", "is a link to nowhere, which does not exist"),
        ("loop", "link_loop", "leads back to itself"),
        ("fifo", "not_a_file", "is a fifo and was not scanned"),
        ("to-fifo", "not_a_file", "is a fifo and was not scanned"),
        ("socket", "not_a_file", "is a socket and was not scanned"),
    ] {
        let (said, message) = error_about(&path(name));
        assert_eq!(said, kind, "{name}");
        assert!(message.contains(words), "{name}: {message}");
    }
    assert_eq!(error_about(Path::new("/dev/null")).0, "not_a_file");
    assert_eq!(error_about(Path::new("/dev/zero")).0, "not_a_file");
}

#[test]
fn a_tree_is_scanned_around_what_is_no_file() {
    let dir = folder(&[("a.txt", &harmless()), ("sub/z.txt", &harmless())]);
    let path = |name: &str| dir.path().join(name);
    fifo(&path("fifo"));
    let _listener = UnixListener::bind(path("socket")).expect("a socket");
    symlink("nowhere", path("sub/dangling")).expect("a link");
    symlink("..", path("sub/up")).expect("a link");
    let said = run(scan().arg(".").current_dir(dir.path()));
    // Not one of them could hold anything, so the run did not fail; and all are said.
    assert_eq!(said.code, 0, "{}", said.out);
    assert!(said.line("./fifo").starts_with("skipped") && said.line("./fifo").contains("is a fifo"));
    assert!(said.line("./socket").starts_with("skipped"));
    assert!(said.out.contains("2 clean, 2 links skipped, 2 special files skipped"), "{}", said.out);
    assert!(run(scan().args(["-v", "."]).current_dir(dir.path())).line("./sub/up").contains("is a link"));

    let objects = run(scan().args(["--json", "."]).current_dir(dir.path())).json();
    let kinds: Vec<(&str, &str)> = objects
        .iter()
        .filter(|object| object["skipped"] == true)
        .map(|object| (object["path"].as_str().expect("a path"), object["error"]["kind"].as_str().expect("a kind")))
        .collect();
    let expected = [("./fifo", "fifo"), ("./socket", "socket"), ("./sub/dangling", "link"), ("./sub/up", "link")];
    assert_eq!(kinds, expected);
    assert_eq!(objects.len(), 6);
}

#[test]
fn links_are_followed_as_arguments_only() {
    let outside = folder(&[("eicar.com", &eicar())]);
    let dir = folder(&[("a.txt", &harmless())]);
    symlink(outside.path(), dir.path().join("to-folder")).expect("a link");
    symlink(outside.path().join("eicar.com"), dir.path().join("to-file")).expect("a link");
    assert_eq!(scan_with(&[&dir.path()]).code, 0);
    assert_eq!(scan_with(&[&dir.path().join("to-folder")]).code, 1);
    assert_eq!(scan_with(&[&dir.path().join("to-file")]).code, 1);
}

#[test]
fn names_that_are_not_text_are_scanned_and_shown() {
    let dir = folder(&[]);
    let path = dir.path().join(OsStr::from_bytes(b"caf\xe9.com"));
    std::fs::write(&path, eicar()).expect("written");
    for argument in [path.as_path(), dir.path()] {
        let said = run(scan().arg("--json").arg(argument));
        assert_eq!(said.code, 1);
        let object = &said.json()[0];
        assert!(object["path"].as_str().is_some_and(|path| path.ends_with("caf\u{fffd}.com")), "{object}");
        let expected: String = path.as_os_str().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(object["path_bytes"], expected);
    }
    assert!(scan_with(&[&path]).out.contains("caf\u{fffd}.com"));
}

#[test]
fn names_cannot_talk_to_the_terminal() {
    let dir = folder(&[("evil\u{1b}]0;title\u{7}\n.com", &eicar()), ("\u{202e}txt.exe", &harmless())]);
    let said = scan_with(&[&dir.path(), &dir.path().join("missing\u{1b}[2J")]);
    assert!(!said.out.chars().any(|c| c != '\n' && (c.is_control() || c == '\u{202e}')), "{:?}", said.out);
    assert!(said.out.contains("evil\\x1b]0;title\\x07\\n.com"), "{}", said.out);
}

#[test]
fn files_that_are_not_as_long_as_they_say_have_changed() {
    // Longer than announced, as a file that grows; and shorter, as one that shrinks.
    for path in ["/proc/self/status", "/sys/devices/system/cpu/online"] {
        assert_eq!(error_about(Path::new(path)).0, "changed", "{path}");
    }
}

#[test]
fn empty_and_tiny_files_are_clean() {
    let dir = folder(&[("empty", b""), ("five", b"12345")]);
    assert_eq!(scan_with(&[&dir.path()]).code, 0);
    assert_eq!(scan_with(&[&folder(&[]).path()]).code, 0, "a folder of nothing");
}

/// Runs the program as somebody who is not root: root may read everything.
fn run_as_nobody(dir: &Path, arguments: &[&str]) -> Said {
    let open = |path: &Path| std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("chmod");
    // The build folder may be closed to others.
    let home = folder(&[]);
    open(home.path());
    open(dir);
    let program = home.path().join("scan-pipeline");
    std::fs::copy(env!("CARGO_BIN_EXE_scan-pipeline"), &program).expect("copied");
    open(&program);
    let definitions = home.path().join("test.ndb");
    std::fs::copy(shipped_definitions().join("test.ndb"), &definitions).expect("copied");
    let mut command = if rustix::process::geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--clear-groups"]).arg(&program);
        command
    } else {
        Command::new(&program)
    };
    command.arg("scan").arg("--definitions").arg(&definitions).args(arguments).current_dir(dir);
    run(command.env("TMPDIR", "/tmp"))
}

#[test]
fn what_may_not_be_read_is_an_error_and_the_others_are_scanned() {
    let dir = folder(&[("closed.txt", &harmless()), ("closed/inner.txt", &harmless()), ("open.txt", &harmless())]);
    let close = |name: &str, mode| {
        std::fs::set_permissions(dir.path().join(name), PermissionsExt::from_mode(mode)).expect("chmod");
    };
    close("closed.txt", 0o000);
    close("closed", 0o000);
    let said = run_as_nobody(dir.path(), &["."]);
    let json = run_as_nobody(dir.path(), &["--json", "."]);
    close("closed", 0o755); // For the folder to be removed.
    assert_eq!(said.code, 2, "{}", said.out);
    assert!(said.line("./closed").starts_with("ERROR") && said.line("./closed").contains("may not be read"));
    assert!(said.line("./closed.txt").starts_with("ERROR"));
    assert!(said.line("./open.txt").starts_with("clean"));
    assert!(said.out.contains("1 clean, 2 errors"), "{}", said.out);
    let kinds: Vec<_> = json.json().iter().map(|object| object["error"]["kind"].clone()).collect();
    assert_eq!(kinds[..2], ["permission_denied", "permission_denied"]);
}
