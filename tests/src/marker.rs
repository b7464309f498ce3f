//! What the fixtures carry, and the definitions that find it.
//!
//! Nothing here is stored whole in the source: a scanner that walks this repository must not find it.

use std::io;
use std::path::{Path, PathBuf};

/// Name that libclamav reports for [`marker`]; it appends `.UNOFFICIAL` to the name of any signature that is not
/// from an official, signed database.
pub const MARKER_NAME: &str = "ScanPipeline.Test.Marker.UNOFFICIAL";

/// Name that libclamav reports for [`eicar`] with [`test_definitions`].
pub const EICAR_NAME: &str = "Eicar-Test-Signature.UNOFFICIAL";

/// The detectable string: ASCII, 42 bytes, found at any offset of any layer by [`test_definitions`].
///
/// All lower case: libclamav does not match signatures against an HTML file as it is, but against copies of it that are
/// normalised and lower-cased, so an upper-case marker in a web page is never found.
///
/// A detector that finds it in a fixture has proven that it looked at the layer the fixture put it in.
pub fn marker() -> Vec<u8> {
    ["scan-pipeline-", "test-marker-", "7f3a9c51", "d2e84b60"].concat().into_bytes()
}

/// The EICAR test file, 68 bytes, assembled now: what every real database finds.
pub fn eicar() -> Vec<u8> {
    let shield = r"X5O!P%@AP[4\PZX54(P^)7CC)7}$";
    [shield, "EICAR-STANDARD-", "ANTIVIRUS-TEST-", "FILE!", "$H+H*"].concat().into_bytes()
}

/// English-like text with the marker once, near its end.
///
/// Two overlapping parts of the marker come before it. A compressor of the LZ77 family therefore writes the whole
/// one as two back references, so the marker cannot be seen in the packed bytes even where literals are kept as they
/// are (LZ4, stored Huffman-free blocks): only unpacking finds it.
pub fn payload() -> Vec<u8> {
    let marker = marker();
    let mut out = text(600, 1);
    for (part, seed) in [(&marker[..28], 2), (&marker[14..], 3), (&marker[..], 4)] {
        out.push(b'\n');
        out.extend_from_slice(part);
        out.push(b'\n');
        out.extend(text(300, seed));
    }
    out
}

/// The harmless twin of [`payload`]: the same text, no marker.
pub fn harmless() -> Vec<u8> {
    text(1600, 1)
}

/// Tells whether `bytes` show the whole marker without any unpacking.
pub fn shows_marker(bytes: &[u8]) -> bool {
    let marker = marker();
    bytes.windows(marker.len()).any(|window| window == marker)
}

/// Writes `dir/test.ndb`, which finds [`marker`] anywhere and [`eicar`] at the start of a layer; returns its path.
///
/// # Errors
/// The directory cannot be made or the file cannot be written.
pub fn test_definitions(dir: &Path) -> io::Result<PathBuf> {
    let lines =
        format!("ScanPipeline.Test.Marker:0:*:{}\nEicar-Test-Signature:0:0:{}\n", hex(&marker()), hex(&eicar()));
    write(dir, "test.ndb", lines.as_bytes())
}

/// Writes `dir/empty.ndb` with no signature in it: libclamav loads that with rc 0 and then calls everything clean,
/// so a scanner must refuse to serve from it.
///
/// # Errors
/// The directory cannot be made or the file cannot be written.
pub fn write_empty_definitions(dir: &Path) -> io::Result<PathBuf> {
    write(dir, "empty.ndb", b"")
}

/// Writes `dir/ignored.txt`, holding good signatures under an ending that libclamav passes over in silence.
///
/// # Errors
/// The directory cannot be made or the file cannot be written.
pub fn write_ignored_definitions(dir: &Path) -> io::Result<PathBuf> {
    let line = format!("ScanPipeline.Test.Marker:0:*:{}\n", hex(&marker()));
    write(dir, "ignored.txt", line.as_bytes())
}

/// Writes `dir/malformed.ndb`, whose second line is not a signature: loading must fail (`CL_EMALFDB`) and a running
/// engine must keep serving what it had.
///
/// # Errors
/// The directory cannot be made or the file cannot be written.
pub fn write_malformed_definitions(dir: &Path) -> io::Result<PathBuf> {
    let lines =
        format!("ScanPipeline.Test.Marker:0:*:{}\nScanPipeline.Test.Broken:0:*:not-hexadecimal\n", hex(&marker()));
    write(dir, "malformed.ndb", lines.as_bytes())
}

/// `len` incompressible bytes that depend on `seed` only, and that do not begin like any known file format.
pub fn filler(len: usize, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut out = Vec::with_capacity(len + 8);
    // No magic number begins so, and it is neither UTF-8 nor Latin text.
    out.extend_from_slice(&[0xe5, 0xb6, 0xd3, 0xf7, 0xc2, 0xe1, 0xf9, 0xa8]);
    while out.len() < len {
        out.extend_from_slice(&random.next().to_le_bytes());
    }
    out.truncate(len);
    out
}

/// `len` bytes of English-like text that depend on `seed` only: ASCII words and line ends, compressible.
pub fn text(len: usize, seed: u64) -> Vec<u8> {
    const WORDS: [&str; 24] = [
        "the", "harbour", "keeps", "its", "ledgers", "in", "order", "while", "small", "boats", "carry", "letters",
        "between", "distant", "towns", "and", "every", "evening", "someone", "counts", "what", "arrived", "with",
        "care",
    ];
    let mut random = Random::new(seed);
    let mut out = Vec::with_capacity(len + 16);
    let mut column = 0;
    while out.len() < len {
        let word = WORDS[(random.next() >> 33) as usize % WORDS.len()];
        out.extend_from_slice(word.as_bytes());
        column += word.len() + 1;
        out.push(if column > 70 { b'\n' } else { b' ' });
        column = if column > 70 { 0 } else { column };
    }
    out.truncate(len);
    out
}

/// Lower-case hexadecimal, as signature databases write it.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// xorshift64*: the fixtures need repeatable bytes, not secret ones.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

fn write(dir: &Path, name: &str, contents: &[u8]) -> io::Result<PathBuf> {
    std::fs::create_dir_all(dir)?;
    let path = dir.join(name);
    std::fs::write(&path, contents)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payload_holds_the_marker_and_its_twin_does_not() {
        assert_eq!(marker().len(), 42);
        assert_eq!(eicar().len(), 68);
        assert!(shows_marker(&payload()));
        assert!(!shows_marker(&harmless()));
    }

    #[test]
    fn sources_do_not_hold_the_whole_strings() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut stack = vec![root];
        while let Some(dir) = stack.pop() {
            for entry in std::fs::read_dir(dir).expect("readable sources") {
                let path = entry.expect("readable sources").path();
                if path.is_dir() {
                    stack.push(path);
                    continue;
                }
                let source = std::fs::read(&path).expect("readable source");
                assert!(!shows_marker(&source), "{}", path.display());
                let eicar = eicar();
                assert!(!source.windows(68).any(|w| w == eicar), "{}", path.display());
            }
        }
    }

    #[test]
    fn filler_and_text_have_the_asked_length_and_repeat() {
        for len in [0, 1, 7, 8, 9, 4096, 100_003] {
            assert_eq!(filler(len, 5).len(), len);
            assert_eq!(text(len, 5).len(), len);
        }
        assert_eq!(filler(1000, 5), filler(1000, 5));
        assert_ne!(filler(1000, 5), filler(1000, 6));
    }

    #[test]
    fn definitions_are_one_signature_a_line() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = test_definitions(dir.path()).expect("written");
        let lines = std::fs::read_to_string(path).expect("readable");
        assert_eq!(lines.lines().count(), 2);
        assert!(lines.lines().all(|line| line.split(':').count() == 4));
    }
}
