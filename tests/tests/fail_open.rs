//! libclamav's ways to say "clean" without having looked, a named test for each, with controls that must be clean and
//! found: a scanner that calls everything unscannable fails here, too.
//!
//! Limits are in `limits.rs`, the temporary directory in `environment.rs`, forks in `clamav-core/tests/fork.rs`.

mod common;

use clamav_core::{EngineBuilder, ErrorKind, Input, ReasonKind, ScanRequest, Verdict};
use common::{clean, engine, found_in, scan, unscannable};
use scan_pipeline_tests::marker::{self, eicar, harmless, payload};
use scan_pipeline_tests::zip::encrypted::Aes;
use scan_pipeline_tests::{mail, misc, office, pdf, rar, sevenz, stream, tape, zip};

/// The control of a format: clean with the harmless text, found with the marker in it.
fn control(name: &str, layer: &str, build: impl Fn(&[u8]) -> Vec<u8>) {
    clean(&scan(name, build(&harmless())));
    found_in(layer, &scan(name, build(&payload())));
}

fn text(data: &[u8]) -> String {
    String::from_utf8(data.to_vec()).expect("the payload is text")
}

// ---- The formats that work: clean and infected.

#[test]
fn plain_text() {
    control("a.txt", "a.txt", <[u8]>::to_vec);
    let report = scan("eicar.com", eicar());
    assert!(matches!(&report.verdict, Verdict::Infected { threats } if threats[0].signature.starts_with("Eicar")));
}

#[test]
fn zip() {
    for method in [zip::Method::Stored, zip::Method::Deflate, zip::Method::Deflate64, zip::Method::Bzip2] {
        control("a.zip", "a.zip/dir/b.txt", |data| zip::with_method(method, &[("dir/b.txt", data)]));
    }
    clean(&scan("empty.zip", zip::empty()));
    control("streamed.zip", "streamed.zip/b.txt", |data| zip::streamed(&[("b.txt", data)]));
    control("64.zip", "64.zip/b.txt", |data| zip::zip64("b.txt", data));
}

#[test]
fn zip_in_zip() {
    control("outer.zip", "outer.zip/in/inner.zip/c.txt", |data| {
        zip::plain(&[("in/inner.zip", &zip::plain(&[("c.txt", data)]))])
    });
}

#[test]
fn docx_in_zip_names_the_part() {
    control("outer.zip", "outer.zip/inner.docx/word/document.xml", |data| {
        zip::plain(&[("inner.docx", &office::docx(&text(data)))])
    });
}

#[test]
fn tar_gz() {
    control("a.tar.gz", "a.tar.gz/#1/dir/b.txt", |data| tape::tar_gz(&[("dir/b.txt", data)]));
}

#[test]
fn seven_zip_with_lzma2() {
    control("a.7z", "a.7z/dir/b.txt", |data| sevenz::plain(&[("dir/b.txt", data)]));
}

#[test]
fn eml() {
    control("a.eml", "a.eml/b.txt", |data| mail::attachment("b.txt", data));
    control("z.eml", "z.eml/b.zip/c.txt", |data| mail::attachment("b.zip", &zip::plain(&[("c.txt", data)])));
}

#[test]
fn docx() {
    control("a.docx", "a.docx/word/document.xml", |data| office::docx(&text(data)));
}

#[test]
fn html() {
    control("a.html", "a.html", |data| misc::html(&text(data)));
}

#[test]
fn pdf() {
    control("a.pdf", "a.pdf/#1", |data| pdf::page(&text(data)));
    clean(&scan("att.pdf", pdf::attachment("b.txt", &harmless())));
    let report = scan("att.pdf", pdf::attachment("b.txt", &payload()));
    assert!(matches!(report.verdict, Verdict::Infected { .. }), "{report:#?}");
}

#[test]
fn legacy_office() {
    for (name, build) in
        [("a.doc", office::doc as fn(&[u8], bool) -> Vec<u8>), ("a.xls", office::xls), ("a.ppt", office::ppt)]
    {
        clean(&scan(name, build(&harmless(), false)));
        let report = scan(name, build(&payload(), false));
        assert!(matches!(report.verdict, Verdict::Infected { .. }), "{report:#?}");
    }
}

// ---- What libclamav does not unpack and we do.

#[test]
fn debian_packages_and_static_libraries() {
    clean(&scan("a.deb", tape::deb(&harmless())));
    let report = scan("a.deb", tape::deb(&payload()));
    assert!(matches!(report.verdict, Verdict::Infected { .. }), "{report:#?}");
    control("a.a", "a.a/b.gz/#1", |data| tape::ar(&[("b.gz", &stream::gz(data))]));
}

#[test]
fn zstandard() {
    control("a.zst", "a.zst", stream::zst);
}

#[test]
fn second_streams_of_gzip_bzip2_and_xz() {
    control("a.gz", "a.gz/#1", |data| stream::gz_two(&harmless(), data));
    control("a.bz2", "a.bz2", |data| stream::bz2_two(&harmless(), data));
    control("a.xz", "a.xz/#1", |data| stream::xz_two(&harmless(), data));
}

// ---- Encrypted.

#[test]
fn encrypted_zip_with_zipcrypto() {
    let report = scan("a.zip", zip::encrypted::zipcrypto(&[("dir/b.txt", &payload())]));
    unscannable(ReasonKind::Encrypted, "a.zip/dir/b.txt", &report);
}

#[test]
fn encrypted_zip_with_aes() {
    for strength in [Aes::Bits128, Aes::Bits256] {
        let report = scan("a.zip", zip::encrypted::aes(strength, &[("b.txt", &payload())]));
        unscannable(ReasonKind::Encrypted, "a.zip/b.txt", &report);
    }
}

#[test]
fn encrypted_members_among_plain_ones() {
    let report = scan("a.zip", zip::encrypted::mixed(&[("readme.txt", &harmless())], &[("b.txt", &payload())]));
    unscannable(ReasonKind::Encrypted, "a.zip/b.txt", &report);
    // The plain one is scanned all the same, and infected wins.
    let report = scan("a.zip", zip::encrypted::mixed(&[("readme.txt", &payload())], &[("b.txt", &harmless())]));
    found_in("a.zip/readme.txt", &report);
    assert!(report.coverage.gaps.iter().any(|gap| gap.kind == ReasonKind::Encrypted), "{report:#?}");
}

#[test]
fn encrypted_zip_in_zip_and_in_mail() {
    let locked = zip::encrypted::zipcrypto(&[("b.txt", &payload())]);
    let report = scan("a.zip", zip::plain(&[("in.zip", &locked)]));
    unscannable(ReasonKind::Encrypted, "a.zip/in.zip/b.txt", &report);
    let report = scan("a.eml", mail::attachment("in.zip", &locked));
    unscannable(ReasonKind::Encrypted, "a.eml/in.zip/b.txt", &report);
}

#[test]
fn encrypted_7z_contents() {
    let report = scan("a.7z", sevenz::encrypted(&[("b.txt", &payload())]));
    unscannable(ReasonKind::Encrypted, "a.7z/b.txt", &report);
}

#[test]
fn encrypted_7z_headers() {
    let report = scan("a.7z", sevenz::encrypted_headers(&[("b.txt", &payload())]));
    unscannable(ReasonKind::Encrypted, "a.7z", &report);
}

#[test]
fn encrypted_pdf_with_a_user_password() {
    for cipher in pdf::encryption::Cipher::ALL {
        let report = scan("a.pdf", pdf::encrypted(cipher, "b.txt", &payload()));
        unscannable(ReasonKind::Encrypted, "a.pdf", &report);
        // With an empty user password everybody can read it, libclamav too.
        clean(&scan("a.pdf", pdf::encrypted_empty_password(cipher, "b.txt", &harmless())));
        let report = scan("a.pdf", pdf::encrypted_empty_password(cipher, "b.txt", &payload()));
        assert!(matches!(report.verdict, Verdict::Infected { .. }), "{cipher:?}: {report:#?}");
    }
}

#[test]
fn encrypted_ooxml() {
    for bytes in [office::encrypted_ooxml(), office::encrypted_ooxml_standard()] {
        unscannable(ReasonKind::Encrypted, "a.docx/EncryptedPackage", &scan("a.docx", bytes));
    }
}

#[test]
fn encrypted_legacy_office() {
    unscannable(ReasonKind::Encrypted, "a.doc", &scan("a.doc", office::doc(&payload(), true)));
    unscannable(ReasonKind::Encrypted, "a.xls", &scan("a.xls", office::xls(&payload(), true)));
    unscannable(ReasonKind::Encrypted, "a.ppt", &scan("a.ppt", office::ppt(&payload(), true)));
}

#[test]
fn encrypted_opendocument() {
    let manifest = |inside: &str| {
        format!("<manifest:manifest><manifest:file-entry>{inside}</manifest:file-entry></manifest:manifest>")
    };
    let build = |inside: &str| {
        zip::plain(&[
            ("mimetype", b"application/vnd.oasis.opendocument.text"),
            ("META-INF/manifest.xml", manifest(inside).as_bytes()),
        ])
    };
    clean(&scan("a.odt", build("plain")));
    let report = scan("a.odt", build("<manifest:encryption-data/>"));
    unscannable(ReasonKind::Encrypted, "a.odt", &report);
}

#[test]
fn encrypted_rar_by_its_headers() {
    let members = [rar::rar4_encrypted("b.txt"), rar::rar5_encrypted("b.txt")];
    for bytes in members {
        unscannable(ReasonKind::Encrypted, "a.rar/b.txt", &scan("a.rar", bytes));
    }
    for bytes in [rar::rar4_encrypted_headers(), rar::rar5_encrypted_headers()] {
        unscannable(ReasonKind::Encrypted, "a.rar", &scan("a.rar", bytes));
    }
}

#[test]
fn encrypted_mail() {
    unscannable(ReasonKind::Encrypted, "a.eml/smime.p7m", &scan("a.eml", mail::smime()));
    // libclamav delivers parts without a name in the order of its temporary directory.
    for bytes in [mail::pgp_armoured(), mail::pgp_mime()] {
        let report = scan("a.eml", bytes);
        let Verdict::Unscannable { reasons } = &report.verdict else { panic!("{report:#?}") };
        assert!(
            reasons.iter().all(|r| r.kind == ReasonKind::Encrypted && r.layer_path.starts_with("a.eml/#")),
            "{reasons:?}"
        );
    }
}

// ---- Methods and formats that cannot be unpacked.

#[test]
fn zip_methods_lzma_ppmd_and_zstandard() {
    for method in [zip::Method::Lzma, zip::Method::Ppmd, zip::Method::Zstd] {
        let report = scan("a.zip", zip::with_method(method, &[("b.txt", &payload())]));
        unscannable(ReasonKind::Unsupported, "a.zip/b.txt", &report);
    }
}

#[test]
fn seven_zip_methods_deflate_and_bzip2() {
    for method in [sevenz::Method::Deflate, sevenz::Method::Bzip2] {
        let report = scan("a.7z", sevenz::with_method(method, &[("b.txt", &payload())]));
        unscannable(ReasonKind::Unsupported, "a.7z/b.txt", &report);
    }
}

#[test]
fn rar_without_libclamunrar() {
    for bytes in [rar::rar4_hiding(&payload()), rar::rar5_hiding(&payload())] {
        let report = scan("a.rar", bytes);
        // With libclamunrar it is found.
        assert!(report.verdict != Verdict::Clean, "{report:#?}");
        if let Verdict::Unscannable { reasons } = &report.verdict {
            assert_eq!(reasons[0].kind, ReasonKind::Unsupported, "{reasons:?}");
        }
    }
    let report = scan("a.exe", rar::rar5_with_prefix(&marker::filler(3000, 7), &[("b.gz", &stream::gz(&payload()))]));
    assert!(report.verdict != Verdict::Clean, "{report:#?}");
}

#[test]
fn formats_that_nobody_here_unpacks() {
    unscannable(ReasonKind::Unsupported, "a.lz4", &scan("a.lz4", stream::lz4(&payload())));
    unscannable(
        ReasonKind::Unsupported,
        "a.zip/b.lz4",
        &scan("a.zip", zip::plain(&[("b.lz4", &stream::lz4(&payload()))])),
    );
}

// ---- Truncated and corrupt.

#[test]
fn truncated_archives() {
    let data = payload();
    for (name, bytes) in [
        ("a.zip", zip::malformed::cut_in_member(&data)),
        ("b.zip", zip::malformed::cut_in_directory(&data)),
        ("a.7z", sevenz::truncated(&[("b.txt", &data)])),
        ("a.gz", stream::gz_truncated(&data)),
        ("a.bz2", stream::bz2_truncated(&data)),
        ("a.xz", stream::xz_truncated(&data)),
        ("a.tar", tape::tar_truncated(&[("a.txt", b"a"), ("letter.gz", &stream::gz(&data))])),
    ] {
        unscannable(ReasonKind::TruncatedOrCorrupt, name, &scan(name, bytes));
    }
}

#[test]
fn corrupt_archives() {
    let data = payload();
    for (name, layer, bytes) in [
        ("a.zip", "a.zip/letter.txt", zip::malformed::corrupt_stream(&data)),
        ("a.7z", "a.7z/letter.txt", sevenz::corrupt(&data)),
        ("b.7z", "b.7z", sevenz::bad_header_crc(&data)),
        ("a.gz", "a.gz", stream::gz_corrupt(&data)),
        ("a.bz2", "a.bz2", stream::bz2_corrupt(&data)),
        ("a.xz", "a.xz", stream::xz_corrupt(&data)),
    ] {
        unscannable(ReasonKind::TruncatedOrCorrupt, layer, &scan(name, bytes));
    }
}

#[test]
fn zips_whose_headers_disagree() {
    let data = payload();
    for (name, bytes) in [
        ("local-size", zip::malformed::local_size_lies(&data)),
        ("unlisted", zip::malformed::unlisted(&data)),
        ("unlisted-first", zip::malformed::unlisted_first(&data)),
        ("concatenated", zip::malformed::concatenated(&data, &harmless())),
        ("concatenated-second", zip::malformed::concatenated(&harmless(), &data)),
        ("unflagged", zip::encrypted::zipcrypto_unflagged(&[("b.txt", &data)])),
    ] {
        let report = scan(name, bytes);
        assert!(matches!(report.verdict, Verdict::Unscannable { .. }), "{name}: {report:#?}");
    }
}

// ---- The engine itself.

#[test]
fn an_engine_without_signatures_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let build = || EngineBuilder::new().definitions(dir.path()).build().map(drop).expect_err("refused");
    let error = build();
    assert_eq!(error.kind(), ErrorKind::Definitions, "{error}");
    marker::write_ignored_definitions(dir.path()).expect("written");
    let error = build();
    assert_eq!(error.kind(), ErrorKind::Definitions, "{error}");
    marker::write_empty_definitions(dir.path()).expect("written");
    let error = build();
    assert_eq!(error.kind(), ErrorKind::Definitions, "{error}");
    // The control: with a signature and no empty file it builds.
    let dir = tempfile::tempdir().expect("a directory");
    marker::test_definitions(dir.path()).expect("written");
    EngineBuilder::new().definitions(dir.path()).build().expect("builds");
}

#[test]
fn malformed_definitions_are_refused_with_the_line() {
    let dir = tempfile::tempdir().expect("a directory");
    marker::test_definitions(dir.path()).expect("written");
    marker::write_malformed_definitions(dir.path()).expect("written");
    let error = EngineBuilder::new().definitions(dir.path()).build().map(drop).expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Definitions, "{error}");
    assert!(error.to_string().contains("line"), "{error}");
    let missing = EngineBuilder::new().definitions(dir.path().join("missing")).build().map(drop).expect_err("refused");
    assert_eq!(missing.kind(), ErrorKind::Definitions);
    assert!(missing.to_string().contains("does not exist"), "{missing}");
}

#[test]
fn definitions_that_allow_everything_fail_the_canary_or_are_harmless() {
    // An allow-list by hash must not reach the canary, whose marker is new with each load.
    let dir = tempfile::tempdir().expect("a directory");
    marker::test_definitions(dir.path()).expect("written");
    std::fs::write(dir.path().join("a.ign2"), "ScanPipeline.Canary\n").expect("written");
    let error = EngineBuilder::new().definitions(dir.path()).build().map(drop).expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Engine, "{error}");
}

#[test]
fn a_degraded_scan_leaves_nothing_behind_for_the_next() {
    // libclamav's own cache would call the second one clean: same content, and the first was cut short by a limit.
    let giant = zip::giant(2 << 20, Some((2 << 20) - 100));
    let tight = common::engine_with(clamav_core::Limits { max_file_size: 1 << 20, ..Default::default() });
    for _ in 0..3 {
        let report = common::scan_on(&tight, "a.zip", giant.clone());
        unscannable(ReasonKind::TooLarge, "a.zip/giant.txt", &report);
        found_in("a.zip/giant.txt", &scan("a.zip", giant.clone()));
    }
    // And a clean inner file is shown to detectors each time.
    for _ in 0..2 {
        let report = scan("a.zip", zip::letter(&harmless()));
        assert_eq!(report.coverage.layers, scan("a.zip", zip::letter(&harmless())).coverage.layers);
        assert!(report.layers.iter().any(|layer| layer.path == "a.zip/letter.txt"), "{report:#?}");
    }
}

// ---- Inputs that libclamav does not look at.

#[test]
fn five_bytes_or_fewer_are_decided_here() {
    for size in 0..=5 {
        let report = scan("tiny", vec![b'a'; size]);
        clean(&report);
        assert!(report.coverage.trivial, "{report:#?}");
        assert_eq!(report.size, size as u64);
    }
    assert!(!scan("six", b"abcdef".to_vec()).coverage.trivial);
    clean(&scan("tiny.zip", zip::plain(&[("five", b"abcde"), ("none", b"")])));
}

#[test]
fn the_file_descriptor_and_the_path_are_scanned_as_the_bytes_are() {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, bytes, expected) in
        [("clean.zip", zip::letter(&harmless()), "clean"), ("bad.zip", zip::letter(&payload()), "infected")]
    {
        let path = dir.path().join(name);
        std::fs::write(&path, &bytes).expect("written");
        let file = std::fs::File::open(&path).expect("opened");
        for input in [Input::from(path.as_path()), Input::from(file), Input::from(bytes.as_slice())] {
            let report = engine().scan(input, ScanRequest::new()).expect("scanned");
            assert_eq!(report.verdict.status(), expected);
            assert_eq!(report.size, bytes.len() as u64);
            assert_eq!(report.file_type.as_deref(), Some("CL_TYPE_ZIP"));
        }
    }
}

#[test]
fn what_is_no_regular_file_is_an_error() {
    let dir = tempfile::tempdir().expect("a directory");
    for path in [dir.path(), std::path::Path::new("/dev/null"), std::path::Path::new("/dev/zero")] {
        let error = engine().scan(path, ScanRequest::new()).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::NotAFile, "{error}");
    }
    let error = engine().scan(dir.path().join("missing"), ScanRequest::new()).expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("missing"), "{error}");
}

#[test]
fn a_member_that_claims_to_be_another_does_not_count_as_delivered() {
    use scan_pipeline_tests::zip::{Method, entry, raw};
    // The second has the first one's size and checksum in its headers, and content that libclamav cannot unpack.
    let plain = entry("a.txt", &harmless(), Method::Deflate);
    let mut hidden = entry("a.txt", &payload(), Method::Lzma);
    hidden.crc = plain.crc;
    hidden.size = plain.size;
    let report = scan("a.zip", raw::write(&[], &[plain.clone(), hidden], &[]));
    assert!(matches!(report.verdict, Verdict::Unscannable { .. }), "{report:#?}");
    // The control: two members that are the same are both delivered.
    let mut second = plain.clone();
    second.name = "b.txt".into();
    clean(&scan("a.zip", raw::write(&[], &[plain, second], &[])));
}

#[test]
fn a_zip_behind_other_data_is_unpacked() {
    for prefix in [b"#!/usr/bin/env python3\n".to_vec(), marker::filler(100_000, 9)] {
        control("a.pyz", "a.pyz/b.txt", |data| zip::with_prefix(&prefix, &[("b.txt", data)]));
    }
}

#[test]
fn the_shortest_time_limit_still_builds_an_engine() {
    let limits = clamav_core::Limits { max_scan_time: std::time::Duration::from_millis(1), ..Default::default() };
    for _ in 0..20 {
        common::engine_with(limits.clone());
    }
}
