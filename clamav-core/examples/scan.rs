//! Scans files: `cargo run -p clamav-core --example scan -- DEFINITIONS FILE...`

use clamav_core::{EngineBuilder, ScanRequest};

fn main() -> Result<(), clamav_core::Error> {
    let mut args = std::env::args_os().skip(1).map(std::path::PathBuf::from);
    let mut builder = EngineBuilder::new();
    if let Some(definitions) = args.next() {
        builder = builder.definitions(definitions);
    }
    let engine = builder.build()?;
    for path in args {
        match engine.scan(path.as_path(), ScanRequest::new()) {
            Ok(report) => eprintln!("{}: {:?}, {} layers", path.display(), report.verdict, report.coverage.layers),
            Err(error) => eprintln!("{error}"),
        }
    }
    Ok(())
}
