//! Synthetic signatures in the numbers and shapes of the official databases.
//!
//! Most are hashes of files, keyed by size; then body signatures (`.ndb`) and logical ones (`.ldb`). All content is
//! random, with fixed parts long enough that no file matches by chance. The formats are those of ClamAV's manual,
//! "ClamAV Signatures".

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use crate::Result;
use crate::rng::Rng;

/// The name of the one signature that is meant to match.
pub const MARKER_NAME: &str = "ScanPipeline.Bench.Marker";

/// What it matches.
pub const MARKER: &[u8] = b"scan-pipeline bench marker 5f1c0f1e: harmless, and to be found";

/// Which and how many signatures to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Everything follows from it.
    pub seed: u64,
    /// SHA-256 hashes with sizes (`.hsb`).
    pub sha256: u64,
    /// MD5 hashes with sizes (`.hdb`).
    pub md5: u64,
    /// Body signatures (`.ndb`).
    pub bodies: u64,
    /// Logical signatures (`.ldb`).
    pub logical: u64,
}

impl Plan {
    /// About as many as the official databases hold: three million.
    pub const FULL: Self = Self { seed: 1, sha256: 1_450_000, md5: 1_450_000, bodies: 80_000, logical: 20_000 };
    /// A hundredth, for the micro benches, which have no time to load the others.
    pub const SMALL: Self = Self { seed: 1, sha256: 14_500, md5: 14_500, bodies: 800, logical: 200 };

    /// All signatures, the marker's included.
    pub fn total(&self) -> u64 {
        self.sha256 + self.md5 + self.bodies + self.logical + 1
    }

    /// Says of a folder what is in it; libclamav does not load files with this ending.
    fn stamp(&self) -> String {
        format!("format 3\n{self:?}\n{} signatures\n", self.total())
    }
}

/// Writes the signatures into `folder`, unless the same ones are there already, and says whether it wrote.
///
/// # Errors
///
/// When the folder cannot be written.
pub fn generate(plan: &Plan, folder: &Path) -> Result<bool> {
    let stamp = folder.join("plan.txt");
    if fs::read_to_string(&stamp).is_ok_and(|text| text == plan.stamp()) {
        return Ok(false);
    }
    fs::create_dir_all(folder)?;
    let _ = fs::remove_file(&stamp);
    write(folder, "bench.hsb", plan.sha256, plan.seed ^ 1, |rng, line, n| hash(rng, line, n, 4))?;
    write(folder, "bench.hdb", plan.md5, plan.seed ^ 2, |rng, line, n| hash(rng, line, n, 2))?;
    write(folder, "bench.ndb", plan.bodies, plan.seed ^ 3, body)?;
    write(folder, "bench.ldb", plan.logical, plan.seed ^ 4, logical)?;
    let mut marker = format!("{MARKER_NAME}:0:*:");
    MARKER.iter().for_each(|byte| hex(&mut marker, *byte));
    fs::write(folder.join("marker.ndb"), marker + "\n")?;
    // Last, so that a folder that was left half written is written again.
    fs::write(stamp, plan.stamp())?;
    Ok(true)
}

fn write(
    folder: &Path,
    name: &str,
    count: u64,
    seed: u64,
    signature: impl Fn(&mut Rng, &mut String, u64),
) -> Result<()> {
    let mut rng = Rng::new(Rng::new(seed).bits());
    let mut out = BufWriter::with_capacity(1 << 20, File::create(folder.join(name))?);
    let mut line = String::new();
    for number in 0..count {
        line.clear();
        signature(&mut rng, &mut line, number);
        line.push('\n');
        out.write_all(line.as_bytes())?;
    }
    out.flush()?;
    Ok(())
}

/// `hash:size:name`. Sizes are spread over their magnitudes, as those of real malware are, so that most files up to
/// some 100 KB have a size that occurs and need their hashes computed.
fn hash(rng: &mut Rng, line: &mut String, number: u64, words: u32) {
    for _ in 0..words {
        let _ = write!(line, "{:016x}", rng.bits());
    }
    let magnitude = rng.between(8, 21);
    let size = rng.between(1 << magnitude, (2 << magnitude) - 1);
    let _ = write!(line, ":{size}:Bench.Hash{words}-{number}");
}

/// Target types of libclamav and how often each gets a signature, out of 20: any file, PE, HTML, mail, text.
const TARGETS: [u8; 20] = [0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 3, 3, 3, 4, 7, 7, 7, 7];

/// `name:target:offset:hex`.
fn body(rng: &mut Rng, line: &mut String, number: u64) {
    let target = *rng.pick(&TARGETS);
    let offset = match target {
        1 if rng.one_in(4) => "EP+0",
        0 if rng.one_in(10) => "0",
        _ => "*",
    };
    let _ = write!(line, "Bench.Body-{number}:{target}:{offset}:");
    pattern(rng, line, target);
}

/// `name;conditions;expression;hex;hex...`, with two or three parts.
fn logical(rng: &mut Rng, line: &mut String, number: u64) {
    let target = *rng.pick(&TARGETS);
    let parts = rng.between(2, 3);
    let expression = match (parts, rng.one_in(4)) {
        (2, false) => "0&1",
        (2, true) => "(0&1)|(0>3)",
        (_, false) => "0&1&2",
        (_, true) => "0&(1|2)",
    };
    let _ = write!(line, "Bench.Logical-{number};Engine:51-255,Target:{target};{expression}");
    for _ in 0..parts {
        line.push(';');
        pattern(rng, line, target);
    }
}

/// A few runs of fixed bytes with a wildcard between them; text targets get lower-case words, since libclamav matches
/// them against normalised text.
fn pattern(rng: &mut Rng, line: &mut String, target: u8) {
    let text = matches!(target, 3 | 4 | 7);
    for run in 0..rng.between(1, 3) {
        if run > 0 {
            match rng.between(0, 9) {
                0 => line.push('*'),
                1 | 2 => _ = write!(line, "{{{}-{}}}", rng.between(1, 9), rng.between(10, 90)),
                3 => line.push_str("(3a|3b|2c)"),
                _ => line.push_str(if rng.one_in(2) { "??" } else { "????" }),
            }
        }
        for _ in 0..rng.between(12, 32) {
            let byte = match (text, rng.bits()) {
                // No word of any language is this long, and few pairs of letters are rare.
                (true, bits) if bits.is_multiple_of(9) => b' ',
                (true, bits) => b'a' + (bits >> 32) as u8 % 26,
                (false, bits) => (bits >> 32) as u8,
            };
            hex(line, byte);
        }
    }
}

fn hex(line: &mut String, byte: u8) {
    let _ = write!(line, "{byte:02x}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_signatures_and_libclamav_loads_them_all() {
        let plan = Plan { sha256: 500, md5: 500, bodies: 2000, logical: 500, ..Plan::SMALL };
        let (one, two) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        assert!(generate(&plan, one.path()).expect("written"));
        assert!(!generate(&plan, one.path()).expect("there"), "written twice");
        assert!(generate(&plan, two.path()).expect("written"));
        for name in ["bench.hsb", "bench.hdb", "bench.ndb", "bench.ldb", "marker.ndb"] {
            let read = |folder: &Path| fs::read(folder.join(name)).expect("readable");
            assert_eq!(read(one.path()), read(two.path()), "{name}");
        }
        let engine = clamav_core::EngineBuilder::new().definitions(one.path()).build().expect("loads");
        assert_eq!(u64::from(engine.info().signatures), plan.total());
    }
}
