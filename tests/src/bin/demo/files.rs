//! The files in quarantine, and what has to become of each.
//!
//! They are made here and not kept in the repository, because every virus scanner would find them there. The only
//! "virus" in them is EICAR's test file, which does nothing.

use std::io;
use std::path::Path;

use scan_pipeline_tests::marker::{eicar, text};
use scan_pipeline_tests::zip::encrypted::zipcrypto;
use scan_pipeline_tests::zip::{giant, plain};
use scan_pipeline_tests::{mail, office, pdf};

const MIB: u64 = 1 << 20;

/// What has to become of a file.
pub(crate) struct Expected {
    pub(crate) name: &'static str,
    pub(crate) status: &'static str,
    /// The bucket that it ends in.
    pub(crate) bucket: &'static str,
    /// Words that its line in the table has to have.
    pub(crate) words: &'static str,
}

const fn expected(name: &'static str, status: &'static str, bucket: &'static str, words: &'static str) -> Expected {
    Expected { name, status, bucket, words }
}

/// Everything that is in quarantine at the start.
pub(crate) const EXPECTED: [Expected; 8] = [
    expected("backup.zip", "unscannable", "quarantine", "too large: giant.txt"),
    expected("eicar.com", "infected", "infected", "Eicar-Test-Signature"),
    expected("holiday.zip", "infected", "infected", "in photos.zip/eicar.com"),
    expected("letter.docx", "clean", "clean", "now clean/letter.docx"),
    expected("letter.pdf", "clean", "clean", "now clean/letter.pdf"),
    expected("letter.txt", "clean", "clean", "now clean/letter.txt"),
    expected("message.eml", "infected", "infected", "in invoice.com"),
    expected("salaries.zip", "unscannable", "quarantine", "encrypted: salaries.csv (zip)"),
];

/// Makes the files.
pub(crate) fn make(dir: &Path) -> io::Result<()> {
    let letter = String::from_utf8_lossy(&text(900, 7)).into_owned();
    let virus = plain(&[("eicar.com", &eicar())]);
    let files: [(&str, Vec<u8>); 8] = [
        ("letter.txt", letter.clone().into_bytes()),
        ("letter.pdf", pdf::page(&letter.replace('\n', " "))),
        ("letter.docx", office::docx(&letter)),
        ("eicar.com", eicar()),
        ("holiday.zip", plain(&[("readme.txt", letter.as_bytes()), ("photos.zip", &virus)])),
        ("message.eml", mail::attachment("invoice.com", &eicar())),
        ("salaries.zip", zipcrypto(&[("salaries.csv", letter.as_bytes())])),
        // A test marker behind the first 100 MiB, where libclamav's own limit ends.
        ("backup.zip", giant(120 * MIB, Some(110 * MIB))),
    ];
    files.into_iter().try_for_each(|(name, bytes)| std::fs::write(dir.join(name), bytes))
}
