//! Zip archives that are cut, damaged, or that tell two readers two different stories.
//!
//! What a mail client or an office program would open, a scanner has to have seen: where the two could differ, the
//! answer is unscannable. Each builder takes the bytes of the member it is about.

use super::{Method, entry, raw};
use crate::marker::harmless;
use raw::Entry;

/// A single-member archive cut in the middle of the packed bytes: no central directory, half a member.
pub fn cut_in_member(data: &[u8]) -> Vec<u8> {
    let whole = entry("letter.txt", data, Method::Deflate);
    let keep = 30 + whole.name.len() + whole.packed.len() / 2;
    let mut bytes = raw::write(&[], &[whole], &[]);
    bytes.truncate(keep);
    bytes
}

/// Two members whole, cut inside the central directory: the end record is missing.
pub fn cut_in_directory(data: &[u8]) -> Vec<u8> {
    let entries = [entry("readme.txt", &harmless(), Method::Deflate), entry("letter.txt", data, Method::Deflate)];
    let mut bytes = raw::write(&[], &entries, &[]);
    // End record 22 bytes, entry of letter.txt 46 + 10: this leaves half of that entry.
    bytes.truncate(bytes.len() - 22 - 28);
    bytes
}

/// Sixteen bytes in the middle of the deflate stream inverted.
pub fn corrupt_stream(data: &[u8]) -> Vec<u8> {
    let mut entry = entry("letter.txt", data, Method::Deflate);
    let middle = entry.packed.len() / 2;
    for byte in &mut entry.packed[middle..middle + 16] {
        *byte ^= 0xff;
    }
    raw::write(&[], &[entry], &[])
}

/// Everything right but the CRC, in both headers.
pub fn wrong_crc(data: &[u8]) -> Vec<u8> {
    let mut entry = entry("letter.txt", data, Method::Deflate);
    entry.crc ^= 0x5555_5555;
    raw::write(&[], &[entry], &[])
}

/// Both headers promise more unpacked bytes (`claimed`) than the stream gives.
pub fn wrong_size(data: &[u8], claimed: u32) -> Vec<u8> {
    let mut entry = entry("letter.txt", data, Method::Deflate);
    entry.size = claimed;
    raw::write(&[], &[entry], &[])
}

/// The local header promises ten bytes, the central directory tells the truth.
pub fn local_size_lies(data: &[u8]) -> Vec<u8> {
    let mut entry = entry("letter.txt", data, Method::Deflate);
    entry.local_sizes = Some((10, 10));
    raw::write(&[], &[entry], &[])
}

/// The central directory promises ten bytes, the local header tells the truth.
pub fn listed_size_lies(data: &[u8]) -> Vec<u8> {
    let mut entry = entry("letter.txt", data, Method::Deflate);
    entry.listed_sizes = Some((10, 10));
    raw::write(&[], &[entry], &[])
}

/// Deflated by the central directory, stored by the local header: one reader unpacks, the other sees packed bytes.
pub fn local_method_lies(data: &[u8]) -> Vec<u8> {
    let mut entry = entry("letter.txt", data, Method::Deflate);
    entry.listed_method = Some(entry.method);
    entry.method = 0;
    raw::write(&[], &[entry], &[])
}

/// Stored by the central directory, deflated by the local header.
pub fn listed_method_lies(data: &[u8]) -> Vec<u8> {
    let mut entry = entry("letter.txt", data, Method::Deflate);
    entry.listed_method = Some(0);
    raw::write(&[], &[entry], &[])
}

/// Packed with a method number nobody knows (77).
pub fn unknown_method(data: &[u8]) -> Vec<u8> {
    let mut entry = entry("letter.txt", data, Method::Deflate);
    entry.method = 77;
    raw::write(&[], &[entry], &[])
}

/// `letter.txt` by the local header, `invoice.exe` by the central directory: the name a reader shows depends on which
/// of the two it believes.
pub fn names_differ(data: &[u8]) -> Vec<u8> {
    let mut entry = entry("letter.txt", data, Method::Deflate);
    entry.listed_name = Some("invoice.exe".to_owned());
    raw::write(&[], &[entry], &[])
}

/// Two central directory entries for the same local header: the overlap that zip bombs are made of.
pub fn overlapping(data: &[u8]) -> Vec<u8> {
    let first = entry("one.txt", data, Method::Deflate);
    let second = Entry { listed_offset: Some(0), ..entry("two.txt", data, Method::Deflate) };
    raw::write(&[], &[first, second], &[])
}

/// A harmless listed member, then `data` in a local header that the central directory does not list: readers that walk
/// the local headers see it, readers that trust the directory do not.
pub fn unlisted(data: &[u8]) -> Vec<u8> {
    let shown = entry("readme.txt", &harmless(), Method::Deflate);
    let hidden = Entry { unlisted: true, ..entry("letter.txt", data, Method::Deflate) };
    raw::write(&[], &[shown, hidden], &[])
}

/// The unlisted member first.
pub fn unlisted_first(data: &[u8]) -> Vec<u8> {
    let hidden = Entry { unlisted: true, ..entry("letter.txt", data, Method::Deflate) };
    let shown = entry("readme.txt", &harmless(), Method::Deflate);
    raw::write(&[], &[hidden, shown], &[])
}

/// Two whole archives one behind the other: readers that search the end record from the end see the second, readers
/// that walk from byte 0 see the first.
pub fn concatenated(first: &[u8], second: &[u8]) -> Vec<u8> {
    let mut bytes = super::plain(&[("first.txt", first)]);
    bytes.extend(super::plain(&[("second.txt", second)]));
    bytes
}

/// A sound archive with bytes put before it and no offset corrected, as `cat stub archive` makes it: the directory is
/// not where the end record says, and most readers find it all the same.
pub fn prefix_unadjusted(data: &[u8]) -> Vec<u8> {
    let mut bytes = crate::marker::filler(3000, 91);
    bytes.extend(super::plain(&[("letter.txt", data)]));
    bytes
}

/// Two members of one name, harmless and `data`: which one a reader extracts depends on the reader.
pub fn twice_the_same_name(data: &[u8]) -> Vec<u8> {
    super::plain(&[("letter.txt", &harmless()), ("letter.txt", data)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::marker::{payload, shows_marker};
    use crate::testing::{python_zip, seven_zip_refuses, tool};

    #[test]
    fn a_strict_reader_refuses_the_broken_ones() {
        let data = payload();
        for (name, bytes) in [
            ("cut_in_member", cut_in_member(&data)),
            ("cut_in_directory", cut_in_directory(&data)),
            ("corrupt_stream", corrupt_stream(&data)),
            ("wrong_crc", wrong_crc(&data)),
            ("unknown_method", unknown_method(&data)),
            ("names_differ", names_differ(&data)),
            ("overlapping", overlapping(&data)),
            ("listed_method_lies", listed_method_lies(&data)),
        ] {
            assert!(!shows_marker(&bytes), "{name}");
            assert!(python_zip(&bytes).is_err(), "{name}: python found nothing wrong");
        }
        seven_zip_refuses(&wrong_size(&data, 100_000), "zip");
    }

    #[test]
    fn the_lying_ones_still_give_the_payload_to_somebody() {
        let data = payload();
        for bytes in [unlisted(&data), unlisted_first(&data)] {
            assert!(!shows_marker(&bytes));
            python_zip(&bytes).expect("the directory is sound");
        }
        // Python finds the second archive, 7-Zip the first.
        python_zip(&concatenated(&data, b"a")).expect("both are sound");
        let other = tool("7z", &["e", "-so", "{}", "first.txt"], &concatenated(&data, b"a"), "zip");
        assert!(other.stdout == data, "{}", String::from_utf8_lossy(&other.stderr));
        python_zip(&prefix_unadjusted(&data)).expect("python corrects the offsets");
        python_zip(&local_size_lies(&data)).expect("python trusts the directory");
    }
}
