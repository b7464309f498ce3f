//! A zip writer whose every header field can be made to lie.
//!
//! Well-made archives and broken ones come from the same writer, so that a fixture differs from its sound control in
//! exactly the one field it is about.

/// One member: what its local header says, what the central directory says, and the packed bytes between.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// Name in the local header.
    pub name: String,
    /// Compression method number in the local header.
    pub method: u16,
    /// General purpose flags, in both headers.
    pub flags: u16,
    /// CRC-32 of the unpacked bytes, in both headers.
    pub crc: u32,
    /// Unpacked size, in both headers.
    pub size: u32,
    /// Packed bytes as they lie in the archive.
    pub packed: Vec<u8>,
    /// Extra field, in both headers.
    pub extra: Vec<u8>,
    /// Name in the central directory, if it differs.
    pub listed_name: Option<String>,
    /// Method in the central directory, if it differs.
    pub listed_method: Option<u16>,
    /// Packed and unpacked size in the local header, if they differ from the truth.
    pub local_sizes: Option<(u32, u32)>,
    /// Packed and unpacked size in the central directory, if they differ from the truth.
    pub listed_sizes: Option<(u32, u32)>,
    /// Local header offset in the central directory, if it differs from the truth.
    pub listed_offset: Option<u32>,
    /// CRC and sizes come after the packed bytes and the local header holds zeros, as a streaming writer does.
    pub descriptor: bool,
    /// Leave the member out of the central directory.
    pub unlisted: bool,
}

/// Writes an archive: `prefix`, the members in order, the central directory, the end record with `comment`.
///
/// # Panics
/// More than 65,535 members, or an archive of 4 GiB or more.
pub fn write(prefix: &[u8], entries: &[Entry], comment: &[u8]) -> Vec<u8> {
    let mut out = prefix.to_vec();
    let mut directory = Vec::new();
    let mut listed = 0_u16;
    for entry in entries {
        let offset = u32::try_from(out.len()).expect("archive below 4 GiB");
        local(&mut out, entry);
        if !entry.unlisted {
            central(&mut directory, entry, entry.listed_offset.unwrap_or(offset));
            listed += 1;
        }
    }
    let start = u32::try_from(out.len()).expect("archive below 4 GiB");
    out.extend_from_slice(&directory);
    out.extend_from_slice(b"PK\x05\x06\0\0\0\0");
    put16(&mut out, listed);
    put16(&mut out, listed);
    put32(&mut out, directory.len() as u32);
    put32(&mut out, start);
    put16(&mut out, u16::try_from(comment.len()).expect("comment below 64 KiB"));
    out.extend_from_slice(comment);
    out
}

fn local(out: &mut Vec<u8>, entry: &Entry) {
    let sizes = entry.local_sizes.unwrap_or((entry.packed.len() as u32, entry.size));
    let (crc, sizes) = if entry.descriptor { (0, (0, 0)) } else { (entry.crc, sizes) };
    out.extend_from_slice(b"PK\x03\x04");
    common(out, entry, entry.method, crc, sizes, &entry.name);
    out.extend_from_slice(entry.name.as_bytes());
    out.extend_from_slice(&entry.extra);
    out.extend_from_slice(&entry.packed);
    if entry.descriptor {
        out.extend_from_slice(b"PK\x07\x08");
        put32(out, entry.crc);
        put32(out, entry.packed.len() as u32);
        put32(out, entry.size);
    }
}

fn central(out: &mut Vec<u8>, entry: &Entry, offset: u32) {
    let name = entry.listed_name.as_ref().unwrap_or(&entry.name);
    let sizes = entry.listed_sizes.unwrap_or((entry.packed.len() as u32, entry.size));
    out.extend_from_slice(b"PK\x01\x02");
    put16(out, 0x031e); // made by Unix, version 3.0
    common(out, entry, entry.listed_method.unwrap_or(entry.method), entry.crc, sizes, name);
    put16(out, 0); // comment length
    put16(out, 0); // disk
    put16(out, 0); // internal attributes
    put32(out, 0o100_644 << 16);
    put32(out, offset);
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(&entry.extra);
}

/// The fields from "version needed" to "extra length", which both headers share.
fn common(out: &mut Vec<u8>, entry: &Entry, method: u16, crc: u32, sizes: (u32, u32), name: &str) {
    let needed = match method {
        0 => 10,
        8 => 20,
        9 => 21,
        12 => 46,
        _ => 63,
    };
    put16(out, needed);
    put16(out, entry.flags | if entry.descriptor { 0x0008 } else { 0 });
    put16(out, method);
    put32(out, 0x5a21_0000); // 2025-01-01 00:00
    put32(out, crc);
    put32(out, sizes.0);
    put32(out, sizes.1);
    put16(out, name.len() as u16);
    put16(out, entry.extra.len() as u16);
}

fn put16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}
