//! Formats that carry other files and that neither libclamav nor this crate unpacks: never clean.

use super::{Account, stream};
use crate::Limits;
use crate::ReasonKind::{Encrypted, Unsupported};

/// Magic numbers at the start of a layer, from each format's description and `file(1)`'s database.
const FORMATS: &[(&[u8], &str)] = &[
    (b"\x04\x22\x4d\x18", "LZ4 frame"),
    (b"\x02\x21\x4c\x18", "LZ4 legacy frame"),
    (b"LZIP\x01", "lzip"),
    (b"\x89LZO\x00\x0d\x0a\x1a\x0a", "lzop"),
    (b"LRZI\x00", "lrzip"),
    (b"\x1f\x9d", "compress (.Z)"),
    (b"\x1f\xa0", "compress (LZH)"),
    (b"\x1f\x1e", "pack (.z)"),
    (b"\xed\xab\xee\xdb", "RPM package"),
    (b"hsqs", "squashfs image"),
    (b"MSWIM\x00\x00\x00", "Windows image (WIM)"),
    (b"ZPAQ", "ZPAQ"),
    (b"zPQ\x01", "ZPAQ"),
    (b"\xff\x06\x00\x00sNaPpY", "Snappy frame"),
    (b"SIT!\x00", "StuffIt"),
    (b"StuffIt (c)", "StuffIt"),
    (b"KDMV", "VMDK disk image"),
    (b"QFI\xfb", "QCOW disk image"),
    (b"vhdxfile", "VHDX disk image"),
    (b"\xca\xfe\xd0\x0d", "Pack200"),
    (b"ArC\x01", "FreeArc"),
    (b"DMS!", "DMS disk image"),
    (b"ajkg", "Shorten"),
];

const ENCRYPTED: &[(&[u8], &str)] = &[
    (b"-----BEGIN PGP MESSAGE-----", "PGP message"),
    (b"age-encryption.org/v1\n", "age"),
    (b"-----BEGIN AGE ENCRYPTED FILE-----", "age"),
    (b"Salted__", "OpenSSL enc"),
    (b"LUKS\xba\xbe", "LUKS volume"),
];

pub(super) fn examine(bytes: &[u8], limits: &Limits, spare: &mut u64, account: &mut Account) {
    let begins = |(magic, _): &&(&[u8], &str)| bytes.starts_with(magic);
    if let Some((_, name)) = ENCRYPTED.iter().find(begins) {
        account.gap(Encrypted, *name);
    } else if is_enveloped(bytes) {
        account.gap(Encrypted, "CMS enveloped data (S/MIME)");
    } else if let Some((_, name)) = FORMATS.iter().find(begins) {
        account.gap(Unsupported, *name);
    } else if bytes.get(7..14) == Some(b"**ACE**") {
        account.gap(Unsupported, "ACE");
    } else if bytes.get(20..24) == Some(&[0xdc, 0xa7, 0xc4, 0xfd]) {
        account.gap(Unsupported, "ZOO");
    } else {
        stream::examine_lzma(bytes, limits, spare, account);
    }
}

/// CMS `ContentInfo` of the type `envelopedData` or `authEnvelopedData` (RFC 5652, RFC 5083) in DER or BER.
fn is_enveloped(bytes: &[u8]) -> bool {
    const ENVELOPED: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x03];
    const AUTH_ENVELOPED: &[u8] = &[0x06, 0x0b, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x01, 0x17];
    let [0x30, length, ..] = bytes else { return false };
    let long_form = if length & 0x80 != 0 { usize::from(length & 0x7f) } else { 0 };
    bytes.get(2 + long_form..).is_some_and(|body| body.starts_with(ENVELOPED) || body.starts_with(AUTH_ENVELOPED))
}
