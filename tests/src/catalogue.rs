//! Every fixture by name, with what a scanner may say of it: the list that conformance tests walk.

use crate::marker::{eicar, filler, harmless, marker, payload, text};
use crate::zip::Method as Zip;
use crate::zip::encrypted::{self as zipped, Aes};
use crate::zip::malformed as broken;
use crate::{mail, misc, office, pdf, rar, sevenz, stream, tape, zip};

/// What a scanner that looks into everything it can may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Truth {
    /// No payload, and everything can be read: clean is right, infected is wrong.
    Clean,
    /// The payload lies where libclamav gets to: infected, and nothing else.
    Infected,
    /// There is a payload that libclamav does not get to, or bytes that nobody can read: infected or unscannable, but
    /// never clean.
    NeverClean,
    /// No payload, but the file is odd, and readers may differ on it: clean or unscannable, not infected. The same
    /// oddity with the payload is found by libclamav and listed as [`Truth::Infected`].
    Odd,
    /// All bytes are looked at, but the payload is written in another way (a word cut by tags): a signature for the
    /// bytes misses it, a detector that reads the text finds it. Infected or clean.
    Rewritten,
    /// The payload was in a part that is cut off, damaged, or packed by a filter that no reader of the format knows:
    /// nobody who opens the file gets more of it than a scanner. Clean or unscannable, not infected.
    Unreadable,
}

/// One file of the catalogue.
#[derive(Clone, Debug)]
pub struct Fixture {
    /// Unique; a file name whose ending is that of the format.
    pub name: String,
    /// The file.
    pub bytes: Vec<u8>,
    /// What may be said of it.
    pub truth: Truth,
}

/// All fixtures that need no special limits: a few hundred small files, a megabyte or two together.
pub fn catalogue() -> Vec<Fixture> {
    let mut list = List::default();
    list.texts();
    list.zips();
    list.broken_zips();
    list.sevenz();
    list.streams();
    list.tapes();
    list.mails();
    list.office();
    list.pdfs();
    list.rars();
    list.0
}

/// Fixtures that are beyond libclamav's default limits: recursion 17, 10,000 files, 100 MiB a file, 400 MiB a scan.
/// All are small as they lie on disk; with larger limits they may be found. Building them takes some seconds.
pub fn beyond_default_limits() -> Vec<Fixture> {
    const MIB: u64 = 1 << 20;
    let mut list = List::default();
    list.never("nested-20.zip", |data| zip::nested(20, data));
    list.never("many-10050.zip", |data| zip::many(10_050, (data == payload()).then_some(10_049)));
    list.never("giant-120m.zip", |data| zip::giant(120 * MIB, (data == payload()).then_some(110 * MIB)));
    // Trimmed though the marker is near the start: the rest has not been seen.
    list.add("infected-giant-early.zip", Truth::Infected, zip::giant(120 * MIB, Some(MIB)));
    // Four members below the limit for one file and together above the limit for a scan; the last has the marker.
    list.never("five-times-90m.zip", |data| {
        let parts: Vec<_> = (0..5)
            .map(|part| zip::giant(90 * MIB, (part == 4 && data == payload()).then_some(80 * MIB + part)))
            .collect();
        let names: Vec<_> = (0..parts.len()).map(|part| format!("part{part}.zip")).collect();
        let members: Vec<_> = names.iter().map(String::as_str).zip(parts.iter().map(Vec::as_slice)).collect();
        zip::with_method(Zip::Stored, &members)
    });
    list.0
}

#[derive(Default)]
struct List(Vec<Fixture>);

impl List {
    fn add(&mut self, name: &str, truth: Truth, bytes: Vec<u8>) {
        self.0.push(Fixture { name: name.to_owned(), bytes, truth });
    }

    /// The same builder with the payload (must be found) and with its harmless twin (must be clean).
    fn pair(&mut self, name: &str, build: impl Fn(&[u8]) -> Vec<u8>) {
        self.add(&format!("infected-{name}"), Truth::Infected, build(&payload()));
        self.add(&format!("clean-{name}"), Truth::Clean, build(&harmless()));
    }

    /// The same builder with the payload, which is found although something is wrong, and with its harmless twin.
    fn odd(&mut self, name: &str, build: impl Fn(&[u8]) -> Vec<u8>) {
        self.add(&format!("infected-{name}"), Truth::Infected, build(&payload()));
        self.add(&format!("odd-{name}"), Truth::Odd, build(&harmless()));
    }

    /// The same builder with the payload and with its harmless twin, neither of which can be seen.
    fn never(&mut self, name: &str, build: impl Fn(&[u8]) -> Vec<u8>) {
        self.add(&format!("hidden-{name}"), Truth::NeverClean, build(&payload()));
        self.add(&format!("opaque-{name}"), Truth::NeverClean, build(&harmless()));
    }

    /// The same builder with the payload and with its harmless twin, both of them lost to every reader.
    fn unreadable(&mut self, name: &str, build: impl Fn(&[u8]) -> Vec<u8>) {
        self.add(&format!("unreadable-{name}"), Truth::Unreadable, build(&payload()));
        self.add(&format!("unreadable-harmless-{name}"), Truth::Unreadable, build(&harmless()));
    }

    fn texts(&mut self) {
        let string = |data: &[u8]| String::from_utf8_lossy(data).into_owned();
        self.pair("text.txt", <[u8]>::to_vec);
        self.add("infected-marker-alone.txt", Truth::Infected, marker());
        self.add("infected-eicar.com", Truth::Infected, eicar());
        self.add("infected-filler.bin", Truth::Infected, [filler(50_000, 1), marker(), filler(50_000, 2)].concat());
        self.add("clean-filler.bin", Truth::Clean, filler(100_000, 1));
        self.add("clean-empty", Truth::Clean, Vec::new());
        self.add("clean-five-bytes", Truth::Clean, b"abcde".to_vec());
        self.pair("page.html", |data| misc::html(&string(data)));
        self.pair("script.html", |data| misc::html_script(&string(data)));
        self.pair("script.sh", |data| misc::shell_script(&string(data)));
        self.pair("text.rtf", |data| misc::rtf(&string(data)));
        self.pair("object.rtf", |data| misc::rtf_object("letter.txt", data));
        self.pair("data-uri.html", misc::html_data_uri);
        self.pair("utf16.txt", |data| misc::utf16(&string(data)));
    }

    fn zips(&mut self) {
        for method in Zip::ALL {
            let name = format!("{method:?}.zip").to_lowercase();
            let build = |data: &[u8]| zip::with_method(method, &[("a/letter.txt", data)]);
            match method {
                Zip::Stored | Zip::Deflate | Zip::Deflate64 | Zip::Bzip2 => self.pair(&name, build),
                Zip::Lzma | Zip::Zstd | Zip::Ppmd => self.never(&name, build),
            }
        }
        self.pair("two-members.zip", zip::letter);
        self.pair("nested-5.zip", |data| zip::nested(5, data));
        self.pair("zip64.zip", |data| zip::zip64("letter.txt", data));
        self.pair("streamed.zip", |data| zip::streamed(&[("letter.txt", data), ("b.txt", b"b")]));
        self.pair("comment.zip", |data| zip::with_comment(&[("letter.txt", data)], b"a comment"));
        self.pair("prefix.zip", |data| zip::with_prefix(&filler(3000, 4), &[("letter.txt", data)]));
        self.pair("many-500.zip", |data| zip::many(500, (data == payload()).then_some(499)));
        self.add("clean-no-member.zip", Truth::Clean, zip::empty());
        self.never("zipcrypto.zip", |data| zipped::zipcrypto(&[("letter.txt", data)]));
        self.never("zipcrypto-unflagged.zip", |data| zipped::zipcrypto_unflagged(&[("letter.txt", data)]));
        self.never("mixed.zip", |data| zipped::mixed(&[("readme.txt", b"hello")], &[("letter.txt", data)]));
        self.never("aes128.zip", |data| zipped::aes(Aes::Bits128, &[("letter.txt", data)]));
        self.never("aes256.zip", |data| zipped::aes(Aes::Bits256, &[("letter.txt", data)]));
        self.never("encrypted-in-zip.zip", |data| {
            zip::plain(&[("inner.zip", &zipped::zipcrypto(&[("letter.txt", data)]))])
        });
    }

    fn broken_zips(&mut self) {
        self.never("cut-in-member.zip", broken::cut_in_member);
        self.never("cut-in-directory.zip", broken::cut_in_directory);
        self.never("corrupt-stream.zip", broken::corrupt_stream);
        self.never("local-size-lies.zip", broken::local_size_lies);
        self.never("unknown-method.zip", broken::unknown_method);
        self.never("unlisted.zip", broken::unlisted);
        self.never("unlisted-first.zip", broken::unlisted_first);
        self.never("concatenated-first.zip", |data| broken::concatenated(data, &harmless()));
        self.never("concatenated-second.zip", |data| broken::concatenated(&harmless(), data));
        self.odd("wrong-crc.zip", broken::wrong_crc);
        self.odd("wrong-size.zip", |data| broken::wrong_size(data, 100_000));
        self.odd("announces-4g.zip", |data| broken::wrong_size(data, 0xffff_fff0));
        self.odd("prefix-unadjusted.zip", broken::prefix_unadjusted);
        self.odd("listed-size-lies.zip", broken::listed_size_lies);
        self.odd("local-method-lies.zip", broken::local_method_lies);
        self.odd("listed-method-lies.zip", broken::listed_method_lies);
        self.odd("names-differ.zip", broken::names_differ);
        self.odd("overlapping.zip", broken::overlapping);
        self.odd("twice-the-same-name.zip", broken::twice_the_same_name);
    }

    fn sevenz(&mut self) {
        use sevenz::Method;
        for method in Method::ALL {
            let name = format!("{method:?}.7z").to_lowercase();
            let build = |data: &[u8]| sevenz::with_method(method, &[("readme.txt", b"hello"), ("letter.txt", data)]);
            match method {
                Method::Deflate | Method::Bzip2 => self.never(&name, build),
                _ => self.pair(&name, build),
            }
        }
        self.never("encrypted.7z", |data| sevenz::encrypted(&[("letter.txt", data)]));
        self.never("encrypted-headers.7z", |data| sevenz::encrypted_headers(&[("letter.txt", data)]));
        self.never("truncated.7z", |data| sevenz::truncated(&[("letter.txt", data)]));
        self.never("corrupt.7z", sevenz::corrupt);
        self.never("bad-header-crc.7z", sevenz::bad_header_crc);
    }

    fn streams(&mut self) {
        self.pair("one.gz", stream::gz);
        self.pair("one.bz2", stream::bz2);
        self.pair("one.xz", stream::xz);
        self.pair("one.zst", stream::zst);
        self.never("one.lz4", stream::lz4);
        self.pair("second.gz", |data| stream::gz_two(&harmless(), data));
        self.pair("second.bz2", |data| stream::bz2_two(&harmless(), data));
        self.pair("second.xz", |data| stream::xz_two(&harmless(), data));
        self.never("truncated.gz", stream::gz_truncated);
        self.odd("bad-crc.gz", stream::gz_bad_crc);
        self.never("corrupt.gz", stream::gz_corrupt);
        self.odd("trailing-garbage.gz", stream::gz_trailing_garbage);
        self.never("truncated.bz2", stream::bz2_truncated);
        self.never("corrupt.bz2", stream::bz2_corrupt);
        self.never("truncated.xz", stream::xz_truncated);
        self.never("corrupt.xz", stream::xz_corrupt);
    }

    fn tapes(&mut self) {
        use tape::Style;
        // Tar does not pack: gzip inside, so that the member has to be handed over to be read.
        let long = format!("folder/{}.gz", "long-name-".repeat(14));
        let styles = [
            ("ustar.tar", Style::Ustar, "folder/letter.gz"),
            ("gnu-long-name.tar", Style::GnuLongName, &long),
            ("pax.tar", Style::Pax, &long),
            ("base256.tar", Style::Base256, "letter.gz"),
        ];
        for (name, style, member) in styles {
            let build = |data: &[u8]| tape::tar_as(style, &[("folder/", b""), (member, &stream::gz(data))]);
            self.pair(name, build);
        }
        self.never("truncated.tar", |data| tape::tar_truncated(&[("a.txt", b"a"), ("letter.gz", &stream::gz(data))]));
        self.odd("bad-checksum.tar", |data| tape::tar_bad_checksum(&stream::gz(data)));
        self.never("size-lies.tar", |data| tape::tar_size_lies(&stream::gz(data)));
        self.pair("letter.tar.gz", |data| tape::tar_gz(&[("letter.txt", data)]));
        self.pair("letter.tar.bz2", |data| tape::tar_bz2(&[("letter.txt", data)]));
        self.pair("letter.tar.xz", |data| tape::tar_xz(&[("letter.txt", data)]));
        self.pair("letter.cpio", |data| tape::cpio(&[("a.txt", b"abc"), ("letter.gz", &stream::gz(data))]));
        self.pair("letter.a", |data| tape::ar(&[("a.txt", b"abc"), ("letter.gz", &stream::gz(data))]));
        self.pair("package.deb", tape::deb);
    }

    fn mails(&mut self) {
        self.pair("body.eml", mail::text);
        self.pair("attachment.eml", |data| mail::attachment("letter.txt", data));
        self.pair("attachment-zip.eml", |data| mail::attachment("letter.zip", &zip::letter(data)));
        self.pair("quoted-printable.eml", mail::quoted_printable);
        self.pair("forwarded.eml", |data| mail::forwarded(&mail::attachment("letter.txt", data)));
        self.pair("forwarded-3.eml", |data| mail::forwarded_deep(3, "letter.txt", data));
        self.never("encrypted-zip.eml", |data| {
            mail::attachment("letter.zip", &zipped::zipcrypto(&[("letter.txt", data)]))
        });
        self.add("opaque-pgp-armoured.eml", Truth::NeverClean, mail::pgp_armoured());
        self.add("opaque-pgp-mime.eml", Truth::NeverClean, mail::pgp_mime());
        self.add("opaque-smime.eml", Truth::NeverClean, mail::smime());
        self.unreadable("truncated.eml", |data| mail::truncated("letter.txt", data));
        self.odd("unclosed.eml", |data| mail::unclosed("letter.txt", data));
    }

    fn office(&mut self) {
        let string = |data: &[u8]| String::from_utf8_lossy(data).into_owned();
        self.pair("letter.docx", |data| office::docx(&string(data)));
        self.pair("media.docx", |data| office::docx_with("hello", &[("word/media/x.bin", data)]));
        self.add("rewritten-split-runs.docx", Truth::Rewritten, office::docx_split_runs(&string(&payload())));

        self.pair("book.xlsx", |data| office::xlsx(&string(data)));
        self.add("opaque-agile.docx", Truth::NeverClean, office::encrypted_ooxml());
        self.add("opaque-standard.docx", Truth::NeverClean, office::encrypted_ooxml_standard());
        self.pair("letter.doc", |data| office::doc(data, false));
        self.pair("book.xls", |data| office::xls(data, false));
        self.pair("slides.ppt", |data| office::ppt(data, false));
        self.add("opaque-encrypted.doc", Truth::NeverClean, office::doc(&payload(), true));
        self.add("opaque-encrypted.xls", Truth::NeverClean, office::xls(&payload(), true));
        self.add("opaque-encrypted.ppt", Truth::NeverClean, office::ppt(&payload(), true));
        self.pair("stream-gz.ole", |data| office::compound(&[("Folder/Letter", &stream::gz(data))]));
        self.never("truncated.ole", |data| {
            let packed = [filler(9000, 5), stream::gz(data)].concat();
            office::compound_truncated(&[("One", &text(6000, 6)), ("Letter", &packed)])
        });
        self.never("encrypted.doc.zip", |data| zip::plain(&[("letter.doc", &office::doc(data, true))]));
    }

    fn pdfs(&mut self) {
        let string = |data: &[u8]| String::from_utf8_lossy(data).into_owned();
        self.pair("page.pdf", |data| pdf::page(&string(data)));
        self.pair("page-uncompressed.pdf", |data| pdf::page_uncompressed(&string(data)));
        self.pair("attachment.pdf", |data| pdf::attachment("letter.txt", data));
        self.pair("script.pdf", |data| pdf::script(&string(data)));
        for cipher in pdf::encryption::Cipher::ALL {
            let name = format!("{cipher:?}").to_lowercase();
            self.never(&format!("{name}.pdf"), |data| pdf::encrypted(cipher, "letter.txt", data));
            self.pair(&format!("{name}-empty-password.pdf"), |data| {
                pdf::encrypted_empty_password(cipher, "letter.txt", data)
            });
        }
        self.unreadable("unknown-filter.pdf", pdf::unknown_filter);
        self.unreadable("truncated.pdf", |data| pdf::truncated("letter.txt", data));
        self.unreadable("corrupt.pdf", |data| pdf::corrupt("letter.txt", data));
    }

    fn rars(&mut self) {
        self.add("infected-rar4-shown.rar", Truth::Infected, rar::rar4(&[("letter.txt", &payload())]));
        self.add("infected-rar5-shown.rar", Truth::Infected, rar::rar5(&[("letter.txt", &payload())]));
        self.never("rar4.rar", rar::rar4_hiding);
        self.never("rar5.rar", rar::rar5_hiding);
        self.add("opaque-rar4-encrypted.rar", Truth::NeverClean, rar::rar4_encrypted("letter.txt"));
        self.add("opaque-rar4-encrypted-headers.rar", Truth::NeverClean, rar::rar4_encrypted_headers());
        self.add("opaque-rar5-encrypted.rar", Truth::NeverClean, rar::rar5_encrypted("letter.txt"));
        self.add("opaque-rar5-encrypted-headers.rar", Truth::NeverClean, rar::rar5_encrypted_headers());
        self.add("odd-rar4-no-member.rar", Truth::Odd, rar::rar4_empty());
        self.add("odd-rar5-no-member.rar", Truth::Odd, rar::rar5_empty());
        self.never("rar5-prefix.rar", |data| {
            rar::rar5_with_prefix(&filler(3000, 7), &[("letter.gz", &stream::gz(data))])
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::marker::shows_marker;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_say_the_truth() {
        let mut seen = HashSet::new();
        for fixture in catalogue() {
            let name = &fixture.name;
            assert!(seen.insert(name.clone()), "{name} twice");
            let prefixes = match fixture.truth {
                Truth::Clean => &["clean-"][..],
                Truth::Infected => &["infected-"],
                Truth::NeverClean => &["hidden-", "opaque-"],
                Truth::Odd => &["odd-"],
                Truth::Rewritten => &["rewritten-"],
                Truth::Unreadable => &["unreadable-"],
            };
            assert!(prefixes.iter().any(|prefix| name.starts_with(prefix)), "{name}");
            // What is not infected for all to see must not be found by looking at the file as it is.
            if fixture.truth != Truth::Infected {
                assert!(!shows_marker(&fixture.bytes), "{name}");
            }
        }
        assert!(seen.len() > 150, "{}", seen.len());
    }
}
