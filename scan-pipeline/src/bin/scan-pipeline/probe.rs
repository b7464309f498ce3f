//! A small engine with one signature of our own, to ask libclamav what it can do, whether or not
//! definitions are installed.

use scan_pipeline::clamav::{Engine, EngineBuilder, ScanRequest, Verdict};

/// What the probe's signature finds, at the start of a layer only.
const NEEDLE: &[u8] = b"scan-pipeline looks whether this is unpacked";

/// The engine.
#[derive(Debug)]
pub(crate) struct Probe {
    engine: Engine,
}

impl Probe {
    /// Builds it.
    ///
    /// # Errors
    ///
    /// Says why not even this engine can be built: mostly it is the temporary directory.
    pub(crate) fn new() -> Result<Self, String> {
        let dir = tempfile::tempdir().map_err(|why| {
            format!("no temporary directory can be made in {}: {why}", std::env::temp_dir().display())
        })?;
        let needle: String = NEEDLE.iter().map(|byte| format!("{byte:02x}")).collect();
        let database = dir.path().join("probe.ndb");
        std::fs::write(&database, format!("ScanPipeline.Probe:0:0:{needle}\n"))
            .map_err(|why| format!("{} cannot be written: {why}", database.display()))?;
        let engine = EngineBuilder::new().definitions(&database).threads(1).build().map_err(|why| why.to_string())?;
        Ok(Self { engine })
    }

    /// Whether libclamav unpacks RAR, by a stored RAR 4 archive whose member only an unpacker delivers as a layer.
    ///
    /// # Errors
    ///
    /// The scan failed.
    pub(crate) fn unpacks_rar(&self) -> Result<bool, String> {
        let request = ScanRequest::named("probe.rar");
        let report = self.engine.scan(stored_rar(b"probe.txt", NEEDLE), request).map_err(|why| why.to_string())?;
        Ok(matches!(report.verdict, Verdict::Infected { .. }))
    }
}

/// A RAR 4 archive of one stored member.
fn stored_rar(name: &[u8], data: &[u8]) -> Vec<u8> {
    let mut rar = b"Rar!\x1a\x07\x00".to_vec();
    rar.extend(block(0x73, 0, &[0; 6])); // The archive's own header, all reserved.
    let mut file = Vec::new();
    file.extend((data.len() as u32).to_le_bytes()); // Packed and unpacked size.
    file.extend((data.len() as u32).to_le_bytes());
    file.push(3); // Made on Unix.
    file.extend(crc32(data).to_le_bytes());
    file.extend(0x5a21_0000_u32.to_le_bytes()); // A time.
    file.extend([20, 0x30]); // Version needed 2.0, method "stored".
    file.extend((name.len() as u16).to_le_bytes());
    file.extend(0o100_644_u32.to_le_bytes());
    file.extend(name);
    rar.extend(block(0x74, 0x8000, &file)); // 0x8000: data follows the header.
    rar.extend(data);
    rar.extend(block(0x7b, 0x4000, &[]));
    rar
}

fn block(kind: u8, flags: u16, body: &[u8]) -> Vec<u8> {
    let mut header = vec![kind];
    header.extend(flags.to_le_bytes());
    header.extend((body.len() as u16 + 7).to_le_bytes());
    header.extend(body);
    let mut block = (crc32(&header) as u16).to_le_bytes().to_vec();
    block.extend(header);
    block
}

/// CRC-32 (ISO 3309), a bit at a time: it runs over a hundred bytes.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc: u32, _| (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_is_that_of_the_fixtures() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(stored_rar(b"probe.txt", NEEDLE), scan_pipeline_tests::rar::rar4(&[("probe.txt", NEEDLE)]));
    }
}
