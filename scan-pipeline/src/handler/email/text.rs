//! What strangers have named, in a mail.

/// One line of at most so many characters. What a reader would not see as it is (line ends and other controls, marks
/// that turn the direction of text or take no room) is written as its number: `a\u{202e}fdp.exe`. A key can hold all of
/// these, and must neither become a header of its own nor look like another key.
pub(super) fn one_line(text: &str, most: usize) -> String {
    let mut line = String::new();
    for (at, c) in text.chars().enumerate() {
        if at == most {
            line.push('…');
            break;
        }
        if is_hidden(c) { line.extend(c.escape_unicode()) } else { line.push(c) }
    }
    line
}

/// The same for a text that may have lines.
pub(super) fn lines(text: &str, most: usize) -> String {
    text.split('\n').map(|line| one_line(line.trim_end_matches('\r'), most)).collect::<Vec<_>>().join("\n")
}

fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_hidden() {
        for (text, line) in [
            ("a b ü 日 😀", "a b ü 日 😀"),
            ("a\r\nBcc: me@example.com", r"a\u{d}\u{a}Bcc: me@example.com"),
            ("a\u{202e}fdp.exe", r"a\u{202e}fdp.exe"),
            ("a\u{2028}b\u{85}c\u{0}d\u{7f}", r"a\u{2028}b\u{85}c\u{0}d\u{7f}"),
            ("\u{200b}\u{feff}\u{2066}\u{e0041}", r"\u{200b}\u{feff}\u{2066}\u{e0041}"),
        ] {
            assert_eq!(one_line(text, 100), line);
        }
        assert_eq!(one_line(&"ä".repeat(1000), 3), "äää…");
        assert_eq!(one_line("äää", 3), "äää");
        assert_eq!(lines("a\r\nb\u{202e}\n\nc", 10), "a\nb\\u{202e}\n\nc");
    }
}
