//! UTF-16, markup, columns: where things are found that do not lie there as plain text.

use super::super::{Detector, Detectors, Form};
use crate::model::Finding;

fn find(form: Form, bytes: &[u8]) -> Vec<Finding> {
    Detectors::builder().build().expect("detectors").find_as(form, "layer", bytes).list
}

fn brief(found: &[Finding]) -> Vec<(&str, u64, Option<u64>)> {
    found.iter().map(|one| (one.detector.as_str(), one.byte_offset, one.raw_offset)).collect()
}

fn utf16(text: &str, big: bool) -> Vec<u8> {
    text.encode_utf16().flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
}

#[test]
fn utf16_with_a_mark() {
    for big in [false, true] {
        let bytes = utf16("\u{feff}naïve 名: write to anna@example.com 😀 415-555-2671", big);
        let found = find(Form::Plain, &bytes);
        assert_eq!(brief(&found), [("email", 38, Some(38)), ("phone", 78, Some(78))], "{found:?}");
        assert!(found[0].context.contains("write to ****@*******.***"), "{}", found[0].context);
    }
}

#[test]
fn utf16_with_lone_surrogates_and_an_odd_end() {
    let mut bytes = vec![0xff, 0xfe, 0x00, 0xd8, b'a', 0, 0x01, 0xdc, b' ', 0];
    bytes.extend(utf16("078-05-1123", false));
    bytes.push(b'7');
    assert_eq!(brief(&find(Form::Plain, &bytes)), [("ssn", 10, Some(10))]);
}

#[test]
fn utf16_without_a_mark_in_either_order_and_at_any_place() {
    for big in [false, true] {
        for lead in 0..5 {
            let mut bytes = vec![0x80; lead];
            bytes.extend(utf16("ssn 078-05-1123 and anna@example.com", big));
            bytes.extend([0x80, 0x80, 0x80, 0]);
            let found = find(Form::Plain, &bytes);
            let first = lead as u64 + u64::from(big);
            assert_eq!(brief(&found), [("ssn", first + 8, Some(first + 8)), ("email", first + 40, Some(first + 40))]);
        }
    }
}

#[test]
fn utf16_across_the_stretches_that_are_looked_at_together() {
    let text = utf16("ssn 078-05-1123 and anna@example.com", false);
    for lead in (65_536 - text.len() - 8)..65_544 {
        let mut bytes = vec![b'.'; lead];
        bytes.extend(&text);
        bytes.extend(vec![b'.'; 1000]);
        let found = find(Form::Plain, &bytes);
        assert_eq!(found.len(), 2, "behind {lead}: {:?}", brief(&found));
        assert_eq!(found[0].byte_offset, lead as u64 + 8);
    }
}

#[test]
fn runs_of_a_word_processor_are_one_text() {
    let xml = br#"<?xml version="1.0"?><w:p><w:r><w:t>SSN 078-</w:t></w:r><w:proofErr w:type="x"/><w:r><w:rPr><w:b/></w:rPr><w:t>05-1123</w:t></w:r></w:p><w:p><w:r><w:t>415-555</w:t></w:r></w:p><w:p><w:r><w:t>-2671</w:t></w:r></w:p>"#;
    let found = find(Form::Markup, xml);
    let place = xml.windows(4).position(|part| part == b"078-").expect("there") as u64;
    assert_eq!(brief(&found), [("ssn", place, None)], "a paragraph ends a line");
    assert_eq!(found[0].masked_match, "***-**-1123");
    assert!(find(Form::Plain, xml).is_empty());
}

#[test]
fn rich_text_of_a_sheet_is_one_text_and_cells_are_not() {
    let xml = b"<sst><si><r><t>4012 8888</t></r><r><rPr><b/><sz val=\"11\"/></rPr><t> 8888 1881</t></r></si><si><t>212-</t></si><si><t>555-2671</t></si></sst>";
    assert_eq!(brief(&find(Form::Markup, xml)), [("credit_card", 15, None)]);
}

#[test]
fn attributes_comments_entities_and_data_are_looked_at() {
    let html = b"<html><a href=\"mailto:anna@example.com\">write</a><!-- call 415-555-2671 --><td>078&#45;05&#x2d;1123</td><![CDATA[ bob@example.com ]]> a < b &amp; c &bogus; &";
    let found = find(Form::Markup, html);
    let place = |text: &[u8]| html.windows(text.len()).position(|part| part == text).expect("there") as u64;
    let expected = [
        ("email", place(b"anna@"), Some(place(b"anna@"))),
        ("phone", place(b"415"), Some(place(b"415"))),
        ("ssn", place(b"078"), None),
        ("email", place(b"bob@"), Some(place(b"bob@"))),
    ];
    assert_eq!(brief(&found), expected);
}

#[test]
fn the_name_of_a_column_is_as_good_as_a_word_nearby() {
    let table =
        "name,SSN,home_phone,order\nAnna,223456789,4155552671,223456789\n\"B, C\",323456789,4155552672,4155552672\n";
    let found = find(Form::Plain, table.as_bytes());
    let names: Vec<_> = found.iter().map(|one| (one.detector.as_str(), one.byte_offset)).collect();
    // Also the last column of the first row is within 50 bytes of the names.
    let at = |text: &str| table.find(text).expect("there") as u64;
    assert!(names.contains(&("ssn", at("323456789"))) && names.contains(&("phone", at("4155552672"))), "{names:?}");
    let far = format!("name,SSN,order\n{}\nAnna,223456789,323456789\n", "x,,\n".repeat(100));
    let found = find(Form::Plain, far.as_bytes());
    assert_eq!(brief(&found), [("ssn", far.find("2234").expect("there") as u64, Some(421))]);
}

#[test]
fn layers_of_markup_are_known_by_name_and_beginning() {
    assert_eq!(Detectors::form_of("a.docx/word/document.xml", b"<w:document"), Form::Markup);
    assert_eq!(Detectors::form_of("page", b"\xef\xbb\xbf \n<!DOCTYPE HTML>"), Form::Markup);
    assert_eq!(Detectors::form_of("a.txt", b"text"), Form::Plain);
    assert_eq!(Detectors::form_of("a.xml", b"PK\x03\x04"), Form::Plain);
}

#[cfg(feature = "clamav")]
#[test]
fn layers_of_libclamav() {
    let layer = |normalized, depth| crate::clamav::Layer {
        path: "a.zip/b.txt",
        file_type: "CL_TYPE_TEXT_ASCII",
        bytes: b"ssn 078-05-1123",
        depth,
        normalized,
    };
    let detectors = Detectors::builder().detect(Detector::Ssn).build().expect("detectors");
    assert_eq!(brief(&detectors.find_layer(&layer(false, 0)).list), [("ssn", 4, Some(4))]);
    assert_eq!(brief(&detectors.find_layer(&layer(false, 1)).list), [("ssn", 4, None)]);
    assert!(detectors.find_layer(&layer(true, 1)).list.is_empty(), "counted once");
}

#[test]
fn the_last_bytes_of_a_short_layer_are_looked_at() {
    for length in 0..3 {
        let bytes = &b"\xff\xfea"[..length];
        assert!(find(Form::Plain, bytes).is_empty() && find(Form::Markup, bytes).is_empty());
    }
    let detectors = Detectors::builder().detect(Detector::Email).build().expect("detectors");
    let mut stream = detectors.stream("layer");
    for byte in b"a@iana.org" {
        stream.push(&[*byte]);
        stream.push(&[]);
    }
    assert_eq!(stream.finish().len(), 1);
}

/// A letter is no table, however many commas its first line has.
#[test]
fn a_line_with_a_comma_is_no_row_of_names() {
    let far = |lines: &str| {
        let text = format!("Hello, call my phone\n{lines}{}\nand 4155552671, or so\n", "word ".repeat(30));
        find(Form::Plain, text.as_bytes()).len()
    };
    assert_eq!(far("I am at home on most days\nand so is she\n"), 0);
    assert_eq!(far("I am, on most days, at home\nand so, I hope, is she\n"), 0);
    // In such a table it is.
    let row = "Anna,1\n".repeat(9);
    assert_eq!(find(Form::Plain, format!("name,phone\n{row}Bob,4155552671\n").as_bytes()).len(), 1);
    assert_eq!(
        find(Form::Plain, b"name,remark,phone\nAnna,nothing that would be said of her beside it,4155552671").len(),
        1
    );
}

/// A mark of two bytes does not hide what is no UTF-16 behind it.
#[test]
fn a_byte_order_mark_hides_nothing() {
    for mark in [&b"\xff\xfe"[..], b"\xfe\xff"] {
        let plain = [mark, b"ssn 078-05-1123 and anna@example.com"].concat();
        assert_eq!(brief(&find(Form::Plain, &plain)), [("ssn", 6, Some(6)), ("email", 22, Some(22))]);
        let html = [mark, b"<html><p>ssn 078-05-<b>1123</b></p>"].concat();
        assert_eq!(brief(&find(Form::Markup, &html)), [("ssn", 15, None)]);
        for big in [false, true] {
            let other = [mark, &utf16("ssn 078-05-1123 and anna@example.com", big)].concat();
            let first = 2 + 8 + u64::from(big && mark[0] == 0xff);
            assert_eq!(find(Form::Plain, &other).len(), 2, "{big}: each once");
            assert_eq!(find(Form::Plain, &other)[0].byte_offset, first);
        }
    }
}

#[test]
fn markup_in_utf16_without_a_mark() {
    for big in [false, true] {
        let html = "<?xml version='1.0'?><w:p><w:t>SSN 078-</w:t></w:r><w:r><w:t>05-1123</w:t></w:r></w:p>";
        let bytes = utf16(html, big);
        assert_eq!(Detectors::form_of("a", &bytes), Form::Markup);
        assert_eq!(Detectors::form_of("a", &[&utf16("\u{feff}", big)[..], &bytes].concat()), Form::Markup);
        let place = 2 * html.find("078").expect("there") as u64 + u64::from(big);
        assert_eq!(brief(&find(Form::Markup, &bytes)), [("ssn", place, None)]);
    }
}
