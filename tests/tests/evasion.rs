//! Ways around the proof, each found by somebody who tried: files that an extractor reads and libclamav does not, made so
//! that nothing seems to be missing. Each has to be found or be unscannable, and has a control that shows why it matters.

mod common;

use clamav_core::{ReasonKind, Verdict};
use common::{clean, found_in, scan, unscannable};
use scan_pipeline_tests::marker::{filler, harmless, payload};
use scan_pipeline_tests::zip::{Method, entry, raw};
use scan_pipeline_tests::{office, sevenz, stream, tape, zip};

#[track_caller]
fn not_clean(name: &str, bytes: Vec<u8>) {
    let report = scan(name, bytes);
    assert!(report.verdict != Verdict::Clean, "{name}: {report:#?}");
}

/// Four bytes that give `data` the CRC-32 `target` when they are appended: the checksum run backwards.
fn forge(data: &[u8], target: u32) -> [u8; 4] {
    let table: Vec<u32> = (0..256_u32)
        .map(|byte| (0..8).fold(byte, |crc, _| if crc & 1 != 0 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 }))
        .collect();
    let mut register = !target;
    let mut picks = [0_usize; 4];
    for pick in &mut picks {
        *pick = table.iter().position(|value| value >> 24 == register >> 24).expect("all top bytes are there");
        register = (register ^ table[*pick]) << 8;
    }
    let mut crc = !crc32fast::hash(data);
    let mut bytes = [0; 4];
    for (byte, pick) in bytes.iter_mut().zip(picks.iter().rev()) {
        *byte = (crc ^ *pick as u32) as u8;
        crc = crc >> 8 ^ table[*pick];
    }
    bytes
}

#[test]
fn a_forged_checksum_delivers_nothing() {
    let evil = payload();
    let mut good = filler(evil.len() - 4, 11);
    good.extend(forge(&good, crc32fast::hash(&evil)));
    assert_eq!((good.len(), crc32fast::hash(&good)), (evil.len(), crc32fast::hash(&evil)));
    for name in ["good.txt", "evil.txt"] {
        let twin = entry(name, &good, Method::Stored);
        let archive = raw::write(&[], &[twin, entry("evil.txt", &evil, Method::Lzma)], &[]);
        unscannable(ReasonKind::Unsupported, "a.zip/evil.txt", &scan("a.zip", archive));
    }
    // OLE2: the twin of the stream that libclamav leaves out is delivered.
    not_clean("a.ole", office::compound(&[("Good", &good), ("Evil", &evil)]));
}

#[test]
fn an_end_record_does_not_hide_what_comes_before_it() {
    let packed = sevenz::with_method(sevenz::Method::Bzip2, &[("b.txt", &payload())]);
    let program = [b"\x7fELF".to_vec(), filler(5_000, 5), packed].concat();
    let nothing = [b"PK\x05\x06".to_vec(), vec![0; 18]].concat();
    not_clean("a", program.clone());
    not_clean("a", [program, nothing].concat());
}

#[test]
fn archives_behind_other_formats() {
    let archive = |data: &[u8]| zip::plain(&[("b.txt", data)]);
    for (name, host) in [
        ("a.gz", stream::gz(&harmless())),
        ("a.bz2", stream::bz2(&harmless())),
        ("a.zst", stream::zst(&harmless())),
        ("a.tar", tape::tar(&[("c.txt", &harmless())])),
        ("a.7z", sevenz::plain(&[("c.txt", &harmless())])),
        ("a.doc", office::doc(&harmless(), false)),
        ("a.png", [b"\x89PNG\r\n\x1a\n".to_vec(), filler(500, 3)].concat()),
    ] {
        let report = scan(name, [host.clone(), archive(&payload())].concat());
        assert!(matches!(report.verdict, Verdict::Infected { .. }), "{name}: {report:#?}");
        let locked = zip::with_method(Method::Ppmd, &[("b.txt", &payload())]);
        not_clean(name, [host, locked].concat());
    }
}

#[test]
fn gzip_goes_on_after_zeros() {
    let two = |data: &[u8]| [stream::gz(&harmless()), vec![0; 8], stream::gz(data)].concat();
    clean(&scan("a.gz", two(&harmless())));
    assert!(matches!(scan("a.gz", two(&payload())).verdict, Verdict::Infected { .. }));
    // Even when the file ends with the first member's trailer.
    let first = stream::gz(&harmless());
    not_clean("a.gz", [two(&payload()), first[first.len() - 8..].to_vec()].concat());
}

/// Rewrites the type of the first header, and its checksum.
fn with_type(mut tar: Vec<u8>, kind: u8) -> Vec<u8> {
    tar[156] = kind;
    tar[148..156].fill(b' ');
    let sum: u32 = tar[..512].iter().map(|byte| u32::from(*byte)).sum();
    tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar
}

#[test]
fn tar_types_that_some_readers_extract() {
    for kind in *b"AEINX" {
        let build = |data: &[u8]| with_type(tape::tar(&[("b.gz", &stream::gz(data))]), kind);
        clean(&scan("a.tar", build(&harmless())));
        found_in("a.tar/b.gz/#1", &scan("a.tar", build(&payload())));
    }
    for kind in *b"SV123456" {
        not_clean("a.tar", with_type(tape::tar(&[("b.gz", &stream::gz(&payload()))]), kind));
    }
}

#[test]
fn tar_whose_first_name_is_the_magic_of_another_format() {
    for name in ["GIF89a", "%PDF-1.4", "{\\rtf1", "PK\u{3}\u{4}", "7z\u{bc}"] {
        let mut tar = tape::tar(&[("name", &stream::gz(&payload()))]);
        tar[..512][..name.len().max(4)].fill(0);
        tar[..name.len()].copy_from_slice(name.as_bytes());
        tar[257..265].fill(0); // Version 7 has no magic.
        not_clean("a.tar", with_type(tar, b'0'));
    }
}

#[test]
fn tar_sizes_in_pax_records() {
    let content = [vec![0; 512], zip::plain(&[("b.txt", &payload())])].concat();
    let mut tar = tape::tar(&[("pax", b""), ("b.zip", &content)]);
    // The first member becomes a pax header that gives the second one's size, which its own header denies.
    let record = |size: usize| {
        let body = format!(" size={size}\n");
        format!("{}{body}", body.len() + 2)
    };
    let record = record(content.len());
    let mut header = with_size(&tar[..512], record.len());
    header[156] = b'x';
    let mut data = record.into_bytes();
    data.resize(512, 0);
    let member = with_size(&tar[512..1024], 0);
    tar = [with_type(header, b'x'), data, with_type(member, b'0'), tar[1024..].to_vec()].concat();
    not_clean("a.tar", tar);
}

fn with_size(header: &[u8], size: usize) -> Vec<u8> {
    let mut header = header.to_vec();
    header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    header
}

#[test]
fn zips_with_a_second_end_record() {
    let first = zip::plain(&[("good.txt", &harmless())]);
    let end_of_first = first[first.len() - 22..].to_vec();
    let mut lying = end_of_first.clone();
    lying[20..22].fill(0xff); // A comment that is longer than the file.
    let archive = raw::write(&first[..first.len() - 22], &[entry("evil.txt", &payload(), Method::Deflate)], &lying);
    not_clean("a.zip", archive);
    let tail = raw::write(&[], &[entry("evil.txt", &payload(), Method::Deflate)], &[]);
    not_clean("a.zip", [first, tail[..tail.len() - 22].to_vec()].concat());
}

#[test]
fn zips_far_from_the_end() {
    let locked = zip::with_method(Method::Lzma, &[("b.txt", &payload())]);
    not_clean("a.bin", [filler(3_000, 1), locked, filler(70_000, 2)].concat());
}

#[test]
fn every_zip_in_a_file_counts() {
    let two = |first: &[u8], second: &[u8]| {
        let (first, second) = (zip::plain(&[("a.txt", first)]), zip::plain(&[("b.txt", second)]));
        [filler(3_000, 1), first, filler(3_000, 2), second].concat()
    };
    clean(&scan("a.bin", two(&harmless(), &harmless())));
    found_in("a.bin/a.txt", &scan("a.bin", two(&payload(), &harmless())));
    found_in("a.bin/b.txt", &scan("a.bin", two(&harmless(), &payload())));
    // A tar's members are layers of their own: zips in it are not unpacked twice.
    let inner = zip::plain(&[("b.txt", &harmless())]);
    let report = scan("a.tar", tape::tar(&[("a.zip", &inner), ("b.zip", &inner[..])]));
    clean(&report);
    assert_eq!(report.layers.iter().filter(|layer| layer.path.ends_with("b.txt")).count(), 2, "{report:#?}");
}

#[test]
fn the_last_part_of_a_split_zip_is_not_whole() {
    let whole = raw::write(&filler(3_000, 1), &[entry("a.txt", &harmless(), Method::Deflate)], &[]);
    let mut last = whole[3_200..].to_vec();
    let end = last.len() - 22;
    last[end + 4] = 1; // The number of this part.
    last[end + 6] = 1;
    // Offsets count from the start of the part that they are in.
    let size = u32::from_le_bytes(last[end + 12..end + 16].try_into().expect("four bytes"));
    let start = (end as u32 - size).to_le_bytes();
    last[end + 16..end + 20].copy_from_slice(&start);
    not_clean("a.zip", last);
}

#[test]
fn members_in_the_data_of_members_and_behind_their_sizes() {
    // The first member's data runs on over the second's header, which the directory does not list.
    let mut first = entry("a.txt", &harmless(), Method::Deflate);
    let mut second = entry("b.txt", &payload(), Method::Deflate);
    second.unlisted = true;
    let hidden = raw::write(&[], &[second], &[]);
    first.packed.extend(&hidden[..hidden.len() - 22]);
    not_clean("a.zip", raw::write(&[], &[first], &[]));
    // The directory says that there is next to nothing.
    for size in [0, 3] {
        let mut small = entry("a.txt", &payload(), Method::Deflate);
        small.listed_sizes = Some((small.packed.len() as u32, size));
        small.local_sizes = Some((0, 0));
        not_clean("a.zip", raw::write(&[], &[small], &[]));
    }
}

#[test]
fn a_second_manifest_does_not_hide_the_first() {
    let manifest: &[u8] = b"<manifest:file-entry><manifest:encryption-data/></manifest:file-entry>";
    for names in [["META-INF/manifest.xml", "x/META-INF/manifest.xml"], ["x/manifest.xml", "META-INF/manifest.xml"]] {
        let members =
            [("mimetype", &b"application/vnd.oasis.opendocument.text"[..]), (names[0], manifest), (names[1], manifest)];
        let report = scan("a.odt", zip::plain(&members));
        assert!(
            matches!(&report.verdict, Verdict::Unscannable { reasons } if reasons[0].kind == ReasonKind::Encrypted),
            "{report:#?}"
        );
    }
}
