//! Memory errors, by valgrind: see `scripts/valgrind.sh`, which this runs.

use std::path::Path;
use std::process::Command;

#[test]
fn memcheck_finds_nothing() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/valgrind.sh");
    let output = Command::new(script).output().expect("the script starts");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("no error and nothing lost"), "{said}");
}
