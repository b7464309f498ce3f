//! Text formats: HTML, scripts, RTF.

use crate::marker::hex;

/// A web page with `body` in a paragraph, as it is.
pub fn html(body: &str) -> Vec<u8> {
    format!("<!DOCTYPE html>\n<html><head><title>ledgers</title></head>\n<body><p>{body}</p></body></html>\n")
        .into_bytes()
}

/// A web page whose script holds `source`.
pub fn html_script(source: &str) -> Vec<u8> {
    format!("<!DOCTYPE html>\n<html><head><script>\n{source}\n</script></head><body></body></html>\n").into_bytes()
}

/// A web page with `data` as a base64 data URI, as HTML smuggling has it: the marker cannot be seen.
pub fn html_data_uri(data: &[u8]) -> Vec<u8> {
    let encoded = String::from_utf8(crate::mail::base64(data)).expect("base64 is ASCII");
    html(&format!("<a download=\"letter.bin\" href=\"data:application/octet-stream;base64,{encoded}\">here</a>"))
}

/// A shell script that prints `line`.
pub fn shell_script(line: &str) -> Vec<u8> {
    format!("#!/bin/sh\nset -eu\necho '{line}'\n").into_bytes()
}

/// Rich text with `body` as its only paragraph.
pub fn rtf(body: &str) -> Vec<u8> {
    format!("{{\\rtf1\\ansi\\deff0{{\\fonttbl{{\\f0 Arial;}}}}\\f0\\fs24 {body}\\par}}\n").into_bytes()
}

/// Rich text with an embedded "Package" object holding a file: proves that such objects are decoded from their
/// hexadecimal. The marker cannot be seen.
pub fn rtf_object(name: &str, data: &[u8]) -> Vec<u8> {
    // The Package native stream: marker 2, label, path, kinds, path again, contents.
    let mut native = vec![2, 0];
    for field in [name, name] {
        native.extend_from_slice(field.as_bytes());
        native.push(0);
    }
    native.extend_from_slice(&[0, 0, 3, 0]);
    native.extend_from_slice(&(name.len() as u32 + 1).to_le_bytes());
    native.extend_from_slice(name.as_bytes());
    native.push(0);
    native.extend_from_slice(&(data.len() as u32).to_le_bytes());
    native.extend_from_slice(data);

    let mut object = Vec::new();
    object.extend_from_slice(&0x0501_u32.to_le_bytes()); // OLE version
    object.extend_from_slice(&2_u32.to_le_bytes()); // embedded
    object.extend_from_slice(&8_u32.to_le_bytes());
    object.extend_from_slice(b"Package\0");
    object.extend_from_slice(&[0; 8]); // no topic, no item
    object.extend_from_slice(&(native.len() as u32).to_le_bytes());
    object.extend_from_slice(&native);
    let lines: Vec<String> = object.chunks(64).map(hex).collect();
    rtf(&format!("{{\\object\\objemb{{\\*\\objclass Package}}{{\\*\\objdata {}}}}}", lines.join("\n")))
}

/// UTF-16 text (little endian, with a byte order mark): the marker as two bytes a character, which libclamav normalises to
/// ASCII.
pub fn utf16(text: &str) -> Vec<u8> {
    [0xfeff_u16].into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::marker::{payload, shows_marker};

    #[test]
    fn only_the_plain_ones_show_the_marker() {
        let text = String::from_utf8(payload()).expect("ASCII");
        for bytes in [html(&text), html_script(&text), shell_script(&text), rtf(&text)] {
            assert!(shows_marker(&bytes));
        }
        for bytes in [html_data_uri(&payload()), rtf_object("letter.txt", &payload()), utf16(&text)] {
            assert!(!shows_marker(&bytes));
        }
    }
}
