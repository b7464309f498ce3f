//! Files in which a reader sees more than libclamav, and the filters against their inverses.

use std::io::Write;

use proptest::prelude::*;

use super::*;

const TEXT: &[u8] = b"what a reader of the file is shown, over and over and over again";

fn deflate(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(data).and_then(|()| encoder.finish()).expect("nothing fails in memory")
}

fn pdf(entries: &str, data: &[u8], others: &str) -> Vec<u8> {
    let head = format!("%PDF-1.7\n1 0 obj\n<<{entries}/Length {}>>\nstream\n", data.len());
    [head.as_bytes(), data, b"\nendstream\nendobj\n", others.as_bytes(), b"trailer\n<</Size 5>>\n%%EOF\n"].concat()
}

fn account(bytes: &[u8]) -> Account {
    let mut account = Account::default();
    examine(bytes, 1 << 20, &mut account);
    account
}

fn is_decoded(bytes: &[u8]) -> bool {
    let account = account(bytes);
    assert_eq!(account.gaps, []);
    account.unpacked.iter().any(|(_, content)| content.as_slice() == TEXT)
}

fn is_left_alone(bytes: &[u8]) -> bool {
    let account = account(bytes);
    account.gaps.is_empty() && account.unpacked.is_empty()
}

#[test]
fn what_libclamav_decodes_is_left_alone() {
    let data = deflate(TEXT);
    for entries in ["/Filter/FlateDecode", "/Filter [ /Fl ]", "/F#69lter /FlateDecode", "/Filter/Made#20up", ""] {
        assert!(is_left_alone(&pdf(entries, &data, "")), "{entries}");
    }
    let image = "/Subtype/Image/Width 3/Height 3/Filter/FlateDecode/DecodeParms<</Predictor 15/Columns 3>>";
    assert!(is_left_alone(&pdf(image, &data, "")));
}

#[test]
fn filters_behind_references_are_found() {
    let data = deflate(TEXT);
    assert!(is_decoded(&pdf("/Filter 4 0 R", &data, "4 0 obj\n/FlateDecode\nendobj\n")));
    assert!(is_decoded(&pdf("/Filter 4 0 R", &data, "4 0 obj [5 0 R] endobj 5 0 obj/F#6cateDecode endobj\n")));
    assert!(is_decoded(&pdf("/Filter[/Crypt/FlateDecode]/DecodeParms[<</Name/Identity>>null]", &data, "")));
    assert!(is_decoded(&pdf("/Filter/FlateDecode%\n/X/RL", &data, "")));
    assert!(is_decoded(&pdf("/F/FlateDecode", &data, "")));
    assert!(is_decoded(&pdf("/A(>>)/Filter/FlateDecode", &data, "")));
    assert!(is_decoded(&pdf("/A(stream\n)/Filter/FlateDecode", &data, "")));
    assert!(is_decoded(&pdf("/Type/EmbeddedFile/A/Image/Filter/FlateDecode", &data, "")));
}

#[test]
fn filters_that_cannot_be_found_are_gaps() {
    let data = deflate(TEXT);
    let twice = "4 0 obj/FlateDecode endobj 4 0 obj/LZWDecode endobj\n";
    for (entries, others) in [
        ("/Filter 4 0 R", twice),
        ("/Filter 4 0 R", "5 0 obj<</Type/ObjStm>>endobj\n"),
        ("/Filter/FlateDecode/Filter/LZWDecode", ""),
        ("/Filter/FlateDecode/DecodeParms<</Predictor 9>>", ""),
    ] {
        let account = account(&pdf(entries, &data, others));
        assert_eq!((account.gaps.len(), account.unpacked.len()), (1, 0), "{entries}");
    }
}

#[test]
fn streams_are_read_to_their_announced_end() {
    let text = b"before endstream endobj and behind".as_slice();
    let account = account(&pdf("", text, ""));
    assert_eq!(account.unpacked.first().map(|(_, content)| content.as_slice()), Some(text));
}

#[test]
fn predictors_are_undone() {
    // One row of each PNG filter, by hand: sixteen columns.
    let rows: Vec<&[u8]> = TEXT.chunks(16).collect();
    let mut png = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        let filter = [1_u8, 2, 3, 4][number];
        png.push(filter);
        for (at, byte) in row.iter().enumerate() {
            let left = if at > 0 { row[at - 1] } else { 0 };
            let up = if number > 0 { rows[number - 1][at] } else { 0 };
            let corner = if at > 0 && number > 0 { rows[number - 1][at - 1] } else { 0 };
            let predicted = match filter {
                1 => left,
                2 => up,
                3 => ((u16::from(left) + u16::from(up)) / 2) as u8,
                _ => paeth(left, up, corner),
            };
            png.push(byte.wrapping_sub(predicted));
        }
    }
    let entries = "/Filter/FlateDecode/DecodeParms<</Predictor 12/Columns 16>>";
    assert!(is_decoded(&pdf(entries, &deflate(&png), "")));
    let differences: Vec<u8> =
        TEXT.iter().scan(0_u8, |last, byte| Some(byte.wrapping_sub(std::mem::replace(last, *byte)))).collect();
    let entries = "/Filter/FlateDecode/DecodeParms 7 0 R";
    let others = "7 0 obj<</Predictor 2/Columns 8 0 R>>endobj 8 0 obj 64 endobj\n";
    assert_eq!(TEXT.len(), 64);
    assert!(is_decoded(&pdf(entries, &deflate(&differences), others)));
}

#[test]
fn every_filter_is_undone() {
    let hex: Vec<u8> = TEXT.iter().flat_map(|byte| format!("{byte:02X}\n").into_bytes()).collect();
    assert!(is_decoded(&pdf("/Filter/AHx", &hex, "")));
    let runs: Vec<u8> = TEXT.chunks(10).flat_map(|part| [&[part.len() as u8 - 1], part].concat()).collect();
    assert!(is_decoded(&pdf("/Filter/RunLengthDecode", &[&runs[..], &[128]].concat(), "")));
    assert_eq!(run_length(&[254, b'a', 0, b'b', 128, 9], 100), Ok(b"aaab".to_vec()));
    // The example of ISO 32000-1, 7.4.4.2.
    let example = [0x80, 0x0b, 0x60, 0x50, 0x22, 0x0c, 0x0c, 0x85, 0x01];
    assert_eq!(lzw(&example, true, 100), Ok(vec![45, 45, 45, 45, 45, 65, 45, 45, 45, 66]));
    assert_eq!(ascii85(b"<~9jqo^BlbD-BleB1DJ+*+F(f,q~>", 100), Ok(b"Man is distinguished".to_vec()));
}

#[test]
fn what_comes_before_damage_is_shown() {
    let text: Vec<u8> = (0..200_000_u32).flat_map(|n| (n.wrapping_mul(2_654_435_761) >> 24).to_le_bytes()).collect();
    let data = deflate(&text);
    for (cut, end) in [(data.len() / 2, &[][..]), (data.len() / 2, &[0xff; 50][..])] {
        let damaged = [&data[..cut], end].concat();
        let shown = inflate(&damaged, 1 << 20).expect("small");
        let same = shown.iter().zip(&text).take_while(|(one, other)| one == other).count();
        assert!(same > text.len() / 3, "{same}");
    }
}

#[test]
fn objects_that_libclamav_does_not_count_are_decoded() {
    let many = "2 0 obj 1 endobj\n".repeat(66_000);
    let last = format!("{many}1 0 obj<</Filter/FlateDecode>>stream\n");
    let bytes = [b"%PDF-1.7\n", last.as_bytes(), &deflate(TEXT), b"\nendstream endobj\n"].concat();
    assert!(is_decoded(&bytes));
}

#[test]
fn lzw_comes_back() {
    // Codes as an encoder writes them that knows every piece but uses single bytes only.
    let (mut bits, mut codes) = (Vec::new(), 258);
    let mut write = |code: u32, width: u32| bits.extend((0..width).rev().map(|bit| code >> bit & 1 == 1));
    write(256, 9);
    for at in 0..3000_u32 {
        // Before each code but the first the decoder has learnt one more.
        codes += u32::from(at > 1);
        let width = match codes + 1 {
            ..=511 => 9,
            512..=1023 => 10,
            1024..=2047 => 11,
            _ => 12,
        };
        write(at % 251, width);
    }
    bits.resize(bits.len().next_multiple_of(8), false);
    let bytes: Vec<u8> =
        bits.chunks(8).map(|bits| bits.iter().fold(0, |byte, bit| byte << 1 | u8::from(*bit))).collect();
    let expected: Vec<u8> = (0..3000_u32).map(|at| (at % 251) as u8).collect();
    assert_eq!(lzw(&bytes, true, 1 << 20).map(|out| out.get(..3000) == Some(&expected[..])), Ok(true));
}

#[test]
fn nothing_is_larger_than_it_may_be() {
    let mut account = Account::default();
    examine(&pdf("/F/FlateDecode", &deflate(&[7; 100_000]), ""), 99_999, &mut account);
    assert_eq!((account.unpacked.len(), account.gaps.first().map(|gap| gap.0)), (0, Some(TooLarge)));
}

#[test]
fn tangles_end() {
    let mut bytes = b"%PDF-1.7\n".to_vec();
    for _ in 0..50_000 {
        bytes.extend(b"1 0 obj<<(");
    }
    for _ in 0..50_000 {
        bytes.extend(b"2 0 obj<</Filter/RL/Length 1 0 R>>stream\n");
    }
    let start = std::time::Instant::now();
    assert!(!account(&bytes).gaps.is_empty());
    assert!(start.elapsed().as_secs() < 20);
}

const WORDS: &[&str] = &[
    "1 0 obj",
    "2 0 obj",
    "<<",
    ">>",
    "[",
    "]",
    "(",
    ")",
    "<",
    ">",
    "/Filter",
    "/FlateDecode",
    "/LZW",
    "/A85",
    "/AHx",
    "/RL",
    "/Crypt",
    "/DecodeParms",
    "/Predictor",
    "/Columns",
    "/Colors",
    "/Length",
    "1 0 R",
    "2 0 R",
    " 12 ",
    " 2 ",
    "stream\n",
    "endstream",
    "endobj",
    "trailer",
    "/Encrypt",
    "/Type/ObjStm",
    "x\u{9c}",
    "\\",
    "%",
    "\n",
    "abc~>",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_answered_in_bounds(
        words in prop::collection::vec(prop::sample::select(WORDS), 0..60),
        junk in prop::collection::vec(any::<u8>(), 0..60),
        spare in prop::sample::select(&[0_u64, 20, 1 << 16][..]),
    ) {
        let bytes = [b"%PDF-1.4\n", words.concat().as_bytes(), &junk].concat();
        let mut account = Account::default();
        examine(&bytes, spare, &mut account);
        let unpacked: usize = account.unpacked.iter().map(|(_, bytes)| bytes.len()).sum();
        prop_assert!(unpacked as u64 <= spare);
    }

    #[test]
    fn any_data_is_decoded_in_bounds(data in prop::collection::vec(any::<u8>(), 0..400), most in 0..300_u64) {
        let runs = [run_length(&data, most), ascii85(&data, most)];
        for decoded in [inflate(&data, most), lzw(&data, true, most)].into_iter().chain(runs) {
            prop_assert!(decoded.map_or(true, |out| out.len() as u64 <= most));
        }
        let _ = (png(&data, 7, 3), tiff(data.clone(), 7, 3), as_seen(&data));
    }

    #[test]
    fn deflated_streams_come_back(text in prop::collection::vec(any::<u8>(), 6..3000)) {
        let account = account(&pdf("/Filter 4 0 R", &deflate(&text), "4 0 obj /FlateDecode endobj\n"));
        prop_assert_eq!(account.unpacked.first().map(|(_, content)| content), Some(&text));
    }
}
