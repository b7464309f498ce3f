//! Writes the catalogue and the test definitions to a directory, to try other scanners on them:
//!
//! ```sh
//! cargo run -p scan-pipeline-tests --example dump -- /tmp/fixtures
//! clamscan -d /tmp/fixtures/definitions /tmp/fixtures/files
//! ```

use std::io;
use std::path::PathBuf;

use scan_pipeline_tests::catalogue::{beyond_default_limits, catalogue};
use scan_pipeline_tests::marker::test_definitions;

fn main() -> io::Result<()> {
    let Some(dir) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return Err(io::Error::other("usage: dump DIRECTORY"));
    };
    test_definitions(&dir.join("definitions"))?;
    let files = dir.join("files");
    std::fs::create_dir_all(&files)?;
    for fixture in catalogue().into_iter().chain(beyond_default_limits()) {
        std::fs::write(files.join(fixture.name), fixture.bytes)?;
    }
    Ok(())
}
