//! Makes the folder of files that `make demo` scans: `cargo run -p scan-pipeline-tests --bin make-demo -- demo`.
//!
//! The files are made here and not kept in the repository, because every virus scanner would find them there. The
//! only "virus" in them is EICAR's test file, which does nothing.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use scan_pipeline_tests::marker::{eicar, text};
use scan_pipeline_tests::zip::encrypted::{PASSWORD, zipcrypto};
use scan_pipeline_tests::zip::{giant, plain};
use scan_pipeline_tests::{mail, office, pdf};

const MIB: u64 = 1 << 20;

fn main() -> ExitCode {
    let Some(dir) = std::env::args_os().nth(1).map(PathBuf::from) else {
        let _ = writeln!(io::stderr(), "make-demo: name the folder to make: make-demo demo");
        return ExitCode::from(2);
    };
    match make(&dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            let _ = writeln!(io::stderr(), "make-demo: {}: {why}", dir.display());
            ExitCode::from(2)
        }
    }
}

fn make(dir: &Path) -> io::Result<()> {
    let letter = String::from_utf8_lossy(&text(900, 7)).into_owned();
    let virus = plain(&[("eicar.com", &eicar())]);
    let files: Vec<(&str, &str, Vec<u8>)> = vec![
        ("letter.txt", "a letter", letter.clone().into_bytes()),
        ("letter.pdf", "the same as a PDF", pdf::page(&letter.replace('\n', " "))),
        ("letter.docx", "and as a Word document", office::docx(&letter)),
        ("eicar.com", "EICAR's test file, which scanners agree to call a virus", eicar()),
        (
            "holiday.zip",
            "the same in a zip in a zip",
            plain(&[("readme.txt", letter.as_bytes()), ("photos.zip", &virus)]),
        ),
        ("message.eml", "the same attached to an e-mail", mail::attachment("invoice.com", &eicar())),
        ("salaries.zip", "a zip with a password", zipcrypto(&[("salaries.csv", letter.as_bytes())])),
        (
            "backup.zip",
            "a zip with a file of 120 MiB in it, and a test marker behind its first 100",
            giant(120 * MIB, Some(110 * MIB)),
        ),
    ];
    std::fs::create_dir_all(dir)?;
    let mut out = io::stdout().lock();
    writeln!(out, "Made in {}:", dir.display())?;
    for (name, what, bytes) in files {
        std::fs::write(dir.join(name), bytes)?;
        writeln!(out, "  {name:<14}{what}")?;
    }
    writeln!(out, "(The password is {PASSWORD}. EICAR's test file and the marker are harmless.)\n")
}
