//! Verdicts, exit codes, options, the table.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use scan_pipeline_tests::marker::{eicar, harmless, payload};
use scan_pipeline_tests::zip;
use scan_pipeline_tests::zip::encrypted::zipcrypto;

use crate::{Said, folder, program, run, scan, scan_with};

fn locked() -> Vec<u8> {
    zipcrypto(&[("secret.txt", &harmless())])
}

#[test]
fn exit_codes_follow_the_worst_file() {
    let dir = folder(&[("clean.txt", &harmless()), ("eicar.com", &eicar()), ("locked.zip", &locked())]);
    let path = |name: &str| dir.path().join(name);
    let (clean, bad, opaque, missing) = (path("clean.txt"), path("eicar.com"), path("locked.zip"), path("missing"));
    assert_eq!(scan_with(&[&clean]).code, 0);
    assert_eq!(scan_with(&[&clean, &bad]).code, 1);
    assert_eq!(scan_with(&[&clean, &opaque]).code, 2);
    assert_eq!(scan_with(&[&clean, &missing]).code, 2);
    assert_eq!(scan_with(&[&clean, &bad, &opaque, &missing]).code, 1);
    assert_eq!(scan_with(&[&"--allow-unscannable", &clean, &opaque]).code, 0);
    assert_eq!(scan_with(&[&"--allow-unscannable", &opaque, &missing]).code, 2);
    assert_eq!(scan_with(&[&"--allow-unscannable", &opaque, &bad]).code, 1);
}

#[test]
fn the_table_says_what_and_where() {
    let nested = zip::plain(&[("inner.zip", &zip::plain(&[("eicar.com", &eicar())]))]);
    let dir = folder(&[("clean.txt", &harmless()), ("locked.zip", &locked()), ("sub/nested.zip", &nested)]);
    let said = run(scan().arg("--allow-unscannable").arg(".").current_dir(dir.path()));
    assert!(said.line("./clean.txt").starts_with("clean "));
    assert!(said.line("./locked.zip").starts_with("UNSCANNABLE"));
    assert!(said.line("./locked.zip").contains("encrypted: secret.txt"));
    assert!(said.line("./sub/nested.zip").starts_with("INFECTED"));
    assert!(said.line("./sub/nested.zip").contains("Eicar-Test-Signature.UNOFFICIAL in inner.zip/eicar.com"));
    assert!(said.out.contains("3 files,") && said.out.contains(": 1 clean, 1 infected, 1 unscannable"), "{}", said.out);
    assert!(!said.out.contains('\u{1b}'), "no colours into a pipe");
    assert_eq!(said.err, "", "no progress bar into a pipe");
}

#[test]
fn many_clean_files_are_only_counted() {
    let names: Vec<String> = (0..30).map(|number| format!("{number}.txt")).collect();
    let clean = harmless();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), clean.as_slice())).collect();
    let dir = folder(&files);
    let said = scan_with(&[&dir.path()]);
    assert_eq!(said.code, 0);
    assert!(!said.out.contains("7.txt") && said.out.contains(": 30 clean"), "{}", said.out);
    assert!(scan_with(&[&"--verbose", &dir.path()]).out.contains("7.txt"));
}

#[test]
fn the_order_is_that_of_the_walk_whatever_takes_long() {
    let mut files = vec![("a/slow.zip".to_owned(), zip::giant(30 << 20, None))];
    for number in 0..400 {
        files.push((format!("b/{number:03}"), format!("file {number}").into_bytes()));
    }
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let dir = folder(&files);
    let said = run(scan().args(["--json", "--threads", "4", "."]).current_dir(dir.path()));
    assert_eq!(said.code, 0);
    let paths: Vec<String> =
        said.json().iter().map(|object| object["path"].as_str().expect("a path").to_owned()).collect();
    let expected: Vec<String> = files.iter().map(|(name, _)| format!("./{name}")).collect();
    assert_eq!(paths, expected);
}

#[test]
fn limits_are_those_asked_for() {
    let dir = folder(&[
        ("plain.txt", &harmless().repeat(4)),
        ("deep.zip", &zip::nested(6, &payload())),
        ("many.zip", &zip::many(50, None)),
        ("large.zip", &zip::giant(60 << 20, None)),
    ]);
    let path = |name: &str| dir.path().join(name);
    let reason = |args: &[&str], name: &str| {
        let said = run(scan().arg("--json").args(args).arg(path(name)));
        let object = &said.json()[0];
        match object["verdict"]["reasons"][0]["kind"].as_str() {
            Some(kind) => (said.code, kind.to_owned()),
            None => (said.code, object["verdict"]["status"].as_str().expect("a status").to_owned()),
        }
    };
    assert_eq!(reason(&[], "plain.txt"), (0, "clean".into()));
    assert_eq!(reason(&["--max-file", "2K"], "plain.txt"), (2, "too_large".into()));
    assert_eq!(reason(&["--max-file", "2KiB"], "plain.txt"), (2, "too_large".into()));
    assert_eq!(reason(&["--max-file", "7K"], "plain.txt"), (0, "clean".into()));
    assert_eq!(reason(&[], "deep.zip"), (1, "infected".into()));
    assert_eq!(reason(&["--max-recursion", "3"], "deep.zip"), (2, "too_deep".into()));
    assert_eq!(reason(&[], "many.zip"), (0, "clean".into()));
    assert_eq!(reason(&["--max-files", "20"], "many.zip"), (2, "too_many_files".into()));
    assert_eq!(reason(&["--max-scan", "10M"], "large.zip"), (2, "scan_size".into()));
    assert_eq!(reason(&["--timeout", "0.05"], "large.zip"), (2, "timed_out".into()));
    assert_eq!(reason(&[], "large.zip"), (0, "clean".into()));
}

#[test]
fn impossible_options_are_refused_by_name() {
    for (args, expected) in [
        (["--max-file", "10X"], "--max-file"),
        (["--max-file", "0"], "--max-file is 0"),
        (["--max-file", "3G"], "--max-file is 3221225472"),
        (["--max-recursion", "101"], "--max-recursion is 101"),
        (["--timeout", "0"], "--timeout is 0"),
        (["--timeout", "soon"], "--timeout"),
        (["--threads", "0"], "--threads"),
        (["--nonsense", "1"], "--nonsense"),
    ] {
        let said = run(scan().args(args).arg("/etc/hostname"));
        assert_eq!(said.code, 2, "{args:?}");
        assert!(said.err.contains(expected) && said.out.is_empty(), "{args:?}: {}", said.err);
    }
    assert_eq!(scan_with(&[]).code, 2, "no path");
}

fn scan_stdin(args: &[&str], bytes: &[u8]) -> Said {
    let mut child = scan()
        .args(args)
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut stdin = child.stdin.take().expect("piped");
    // It may stop reading at its limit, which closes the pipe.
    let _ = stdin.write_all(bytes);
    drop(stdin);
    Said::of(&child.wait_with_output().expect("ends"))
}

#[test]
fn standard_input_is_scanned_whole_or_not_at_all() {
    assert_eq!(scan_stdin(&[], &harmless()).code, 0);
    assert_eq!(scan_stdin(&[], b"").code, 0);
    let said = scan_stdin(&[], &zip::letter(&payload()));
    assert_eq!(said.code, 1);
    assert!(said.line("-").contains("in letter.txt"), "{}", said.out);
    // Exactly the limit is scanned; one more is not, though what was read of it would be clean.
    let limit = vec![b'a'; 4096];
    assert_eq!(scan_stdin(&["--max-file", "4K"], &limit).code, 0);
    let said = scan_stdin(&["--max-file", "4K", "--json"], &[&limit[..], &eicar()].concat());
    assert_eq!(said.code, 2);
    let object = &said.json()[0];
    assert_eq!(object["verdict"]["reasons"][0]["kind"], "too_large");
    assert!(object["sha256"].is_null() && object["size"].is_null());
    let said = scan_with(&[&"-", &"-"]);
    assert_eq!(said.code, 2);
    assert!(said.err.contains("more than once"), "{}", said.err);
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let names: Vec<String> = (0..1500).map(|number| format!("{number}.txt")).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), b"some text".as_slice())).collect();
    let dir = folder(&files);
    let mut child =
        scan().arg("--json").arg(dir.path()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    assert!(line.starts_with('{'));
    let said = Said::of(&child.wait_with_output().expect("ends"));
    // Not everything was scanned, so it is not 0.
    assert_eq!((said.code, said.err.as_str()), (2, ""));
}

#[test]
fn a_full_disk_is_said() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let dir = folder(&[("clean.txt", &harmless())]);
    let child = scan().arg(dir.path()).stdout(full).stderr(Stdio::piped()).spawn().expect("starts");
    let said = Said::of(&child.wait_with_output().expect("ends"));
    assert_eq!(said.code, 2);
    assert!(said.err.contains("could not be written"), "{}", said.err);
}

#[test]
fn version_and_completions() {
    let said = run(program().arg("--version"));
    assert_eq!(said.code, 0);
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(lines[0], concat!("scan-pipeline ", env!("CARGO_PKG_VERSION")));
    assert!(lines[1].strip_prefix("libclamav ").is_some_and(|version| version.starts_with('1')), "{}", said.out);
    for shell in ["bash", "zsh", "fish"] {
        let said = run(program().args(["completions", shell]));
        assert!(said.code == 0 && said.out.contains("allow-unscannable"), "{shell}");
    }
    assert_eq!(run(program().arg("--help")).code, 0);
    assert_eq!(run(&mut program()).code, 2);
}
