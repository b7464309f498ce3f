//! Other people's readers, to check that a fixture is what it claims. A tool that is absent is a failure.

use std::path::Path;
use std::process::{Command, Output};

/// Runs `program` on a file that holds `bytes`; `{}` in `args` is replaced by its path.
pub(crate) fn tool(program: &str, args: &[&str], bytes: &[u8], extension: &str) -> Output {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join(format!("fixture.{extension}"));
    std::fs::write(&path, bytes).expect("fixture written");
    run(program, args, &path)
}

fn run(program: &str, args: &[&str], path: &Path) -> Output {
    let path = path.to_str().expect("UTF-8 temporary path");
    Command::new(program)
        .args(args.iter().map(|arg| arg.replace("{}", path)))
        .output()
        .unwrap_or_else(|error| panic!("these tests need {program}: {error}"))
}

/// What `program` writes to its standard output; it must succeed.
pub(crate) fn output_of(program: &str, args: &[&str], bytes: &[u8], extension: &str) -> Vec<u8> {
    let output = tool(program, args, bytes, extension);
    assert!(output.status.success(), "{program} {args:?}: {}", said(&output));
    output.stdout
}

/// One member of an archive, unpacked by 7-Zip, which must also find the whole archive sound.
pub(crate) fn seven_zip(bytes: &[u8], extension: &str, password: &str, member: &str) -> Vec<u8> {
    let password = format!("-p{password}");
    let test = tool("7z", &["t", "-y", &password, "{}"], bytes, extension);
    assert!(test.status.success(), "7z t: {}", said(&test));
    output_of("7z", &["e", "-y", "-so", &password, "{}", member], bytes, extension)
}

/// 7-Zip, given a wrong password, must not find the archive sound.
pub(crate) fn seven_zip_refuses(bytes: &[u8], extension: &str) {
    let output = tool("7z", &["t", "-y", "-pwrong", "{}"], bytes, extension);
    assert!(!output.status.success(), "7z found nothing wrong: {}", said(&output));
}

/// Python's zip reader, on every member. It checks the CRCs, and the local names against the listed ones.
pub(crate) fn python_zip(bytes: &[u8]) -> Result<(), String> {
    let script = "import sys, zipfile; bad = zipfile.ZipFile(sys.argv[1]).testzip(); sys.exit(bad and 'bad ' + bad)";
    let output = tool("python3", &["-c", script, "{}"], bytes, "zip");
    if output.status.success() { Ok(()) } else { Err(said(&output)) }
}

/// Both streams of a tool, for the message of a failed check.
pub(crate) fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
