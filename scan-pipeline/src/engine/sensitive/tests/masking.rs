//! Nothing of what is found, or could have been, is in what is said of it.

use super::super::{CustomPattern, Detectors, Form};

/// Words that are neither sensitive nor masked.
const FILLING: &[&str] = &["the", "letter", "came", "late", "again", "and", "nobody", "knew", "why", "it", "did"];
/// Words that stand before what is sensitive.
const LABELS: &[&str] = &["card:", "ssn", "phone:", "mail", "fax", "\"social security\"", "visa", "call me at"];

/// What no field may hold.
struct Sensitive {
    generator: fastrand::Rng,
}

impl Sensitive {
    fn digits(&mut self, form: &str) -> String {
        form.chars().map(|c| if c == 'd' { self.generator.digit(10) } else { c }).collect()
    }

    /// Letters of the second half of the alphabet, of which no filling is made.
    fn letters(&mut self, count: usize) -> String {
        (0..count).map(|_| *self.generator.choice(&b"nopqrstuvwxyz".map(char::from)).expect("letters")).collect()
    }

    /// Of letters and digits, in both cases.
    fn mixed(&mut self, count: usize) -> String {
        (0..count).map(|_| self.generator.alphanumeric()).collect()
    }

    fn card(&mut self) -> String {
        let first = self.digits("453ddddddddddddd");
        let digit = (0..10).find(|digit| super::super::card::luhn(format!("{}{digit}", &first[..15]).as_bytes()));
        let number = format!("{}{}", &first[..15], digit.expect("one of ten fits"));
        match self.generator.u8(0..3) {
            0 => number,
            1 => format!("{} {} {} {}", &number[..4], &number[4..8], &number[8..12], &number[12..]),
            _ => format!("{}-{}-{}-{}", &number[..4], &number[4..8], &number[8..12], &number[12..]),
        }
    }

    /// Something that is or resembles what is looked for.
    fn next(&mut self) -> String {
        match self.generator.u8(0..16) {
            0..=2 => self.card(),
            3 | 4 => self.digits("2dd-4d-5ddd"),
            5 => self.digits("2dd 4d 5ddd"),
            6 => self.digits("ddddddddd"),
            7 => self.digits("(415) 5dd-dddd"),
            8 => self.digits("+1 212-4dd-dddd"),
            9 => format!("{}.{}@{}.com", self.letters(5), self.letters(9), self.letters(12)),
            10 => format!("AKIA{}", self.mixed(16).to_uppercase()),
            11 => format!("secret {}", self.mixed(40)),
            12 => format!("password = {}", self.letters(9)),
            13 => format!("{}{}", "gh".to_owned() + "p_", self.mixed(36)),
            14 => format!("project {}", self.letters(7)),
            // Too short, too long, cut: no match and no word either.
            _ => self.digits("4532dddddddd"),
        }
    }
}

/// Whether a word of a context may stand there.
fn is_harmless(word: &str) -> bool {
    let known =
        |word: &str| FILLING.contains(&word) || LABELS.iter().any(|label| label.split(' ').any(|part| part == word));
    let names = ["secret", "password", "=", "project", ","];
    word.split("***").all(|part| part.is_empty() || known(part) || known(&format!("{part}:")) || names.contains(&part))
}

/// Text of so many things, with what stands between them.
fn dense(seed: u64, count: usize) -> String {
    let mut all = Sensitive { generator: fastrand::Rng::with_seed(seed) };
    let mut text = String::new();
    for _ in 0..count {
        for _ in 0..all.generator.usize(0..3) {
            let words = if all.generator.bool() { FILLING } else { LABELS };
            text.push_str(all.generator.choice(words).expect("words"));
            text.push(' ');
        }
        text.push_str(&all.next());
        text.push(*all.generator.choice(&[' ', ' ', '\n', '\t', ',']).expect("marks"));
    }
    text
}

/// Ten million were tried with `MASKING_FINDINGS=10000000`.
#[test]
fn nothing_sensitive_is_in_any_field() {
    let wanted: u64 = std::env::var("MASKING_FINDINGS").ok().and_then(|count| count.parse().ok()).unwrap_or(40_000);
    let own = CustomPattern::new("project", "project [a-z]{7}").keyword("project");
    let detectors = Detectors::builder()
        .all()
        .custom(own.clone())
        .min_confidence(0.0)
        .max_findings(usize::MAX)
        .build()
        .expect("detectors");
    let usual = Detectors::builder().all().custom(own).max_findings(usize::MAX).build().expect("detectors");
    let (mut seen, mut seed) = (0, 1);
    while seen < wanted {
        let text = dense(seed, 2000);
        let found = match seed % 4 {
            0 => usual.find_as(Form::Plain, "layer", text.as_bytes()),
            1 => {
                let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
                detectors.find_as(Form::Plain, "layer", &wide)
            }
            2 => detectors.find_as(Form::Markup, "layer", text.as_bytes()),
            _ => detectors.find_as(Form::Plain, "layer", text.as_bytes()),
        };
        assert_eq!(found.omitted, 0);
        for one in &found.list {
            let shown = &one.masked_match;
            let digits = shown.bytes().filter(u8::is_ascii_digit).count();
            let most = if ["credit_card", "ssn"].contains(&one.detector.as_str()) { 4 } else { 0 };
            assert!(digits <= most, "{}", one.detector);
            assert!(!shown.bytes().any(|byte| byte.is_ascii_alphabetic()), "{}", one.detector);
            // The context is the match as shown, and harmless words around it.
            let Some((before, behind)) = one.context.split_once(shown.as_str()) else {
                panic!("{} is not in its context", one.detector);
            };
            // In UTF-16 without a mark every line is by itself, as here, and in markup.
            for part in [before, behind] {
                for word in part.split([' ', ',']) {
                    assert!(is_harmless(word), "{word:?} in {:?} of {}, seed {seed}", one.context, one.detector);
                }
            }
            assert!(one.fingerprint.len() == 64 && one.fingerprint.bytes().all(|byte| byte.is_ascii_hexdigit()));
            assert!(
                one.tags.iter().all(|tag| tag.starts_with("account:") || tag.bytes().all(|b| b.is_ascii_lowercase()))
            );
        }
        seen += found.list.len() as u64;
        seed += 1;
    }
    eprintln!("{seen} findings, nothing sensitive in any");
}

#[test]
fn what_is_cut_by_the_edge_of_the_context_is_masked() {
    let secret = "nopqrstuvwxyz".repeat(20);
    for gap in 0..60 {
        let filling = "a ".repeat(gap);
        for other in ["4012888888881881", "415-555-2671", "nop.qrs@tuv.com", &secret, "pwd: nopqrst", "nop1q"] {
            for text in [format!("078-05-1123 {filling}{other}"), format!("{other} {filling}078-05-1123")] {
                let detectors = Detectors::builder().build().expect("detectors");
                let found = detectors.find("layer", text.as_bytes());
                let ssn = found.iter().find(|one| one.detector == "ssn").expect("the number");
                let rest = ssn.context.replace("***-**-1123", "").replace("pwd:", "");
                assert!(!rest.bytes().any(|b| b.is_ascii_digit() || matches!(b, b'n'..=b'z')), "{}", ssn.context);
            }
        }
    }
}

#[test]
fn nothing_that_holds_bytes_prints_them() {
    let text = "card 4012888888881881 pwd: nopqrst";
    let key = [0x5a; 32];
    let builder = Detectors::builder().all().fingerprint_key(key);
    let mut printed = format!("{builder:?}");
    let detectors = builder.build().expect("detectors");
    let mut stream = detectors.stream("layer");
    stream.push(text.as_bytes());
    printed += &format!("{detectors:?} {stream:?} {}", detectors.settings());
    printed += &format!("{:?}", stream.finish());
    assert!(!printed.contains("4012") && !printed.contains("nopq") && !printed.contains("90, 90"), "{printed}");
    assert!(!printed.to_lowercase().contains("5a5a"), "{printed}");
}

#[test]
fn fingerprints_are_of_the_number_and_the_key() {
    let with = |key: u8| Detectors::builder().first_tier().fingerprint_key([key; 32]).build().expect("detectors");
    let print = |detectors: &Detectors, text: &str| detectors.find("x", text.as_bytes())[0].fingerprint.clone();
    let one = with(1);
    let card = print(&one, "card 4012888888881881");
    assert_eq!(card, print(&one, "my card: 4012-8888-8888-1881"), "however it is written");
    assert_eq!(print(&one, "415-555-2671"), print(&one, "+1 (415) 555-2671"));
    assert_eq!(print(&one, "Anna@Example.com"), print(&one, "anna@example.com"));
    assert_ne!(card, print(&with(2), "card 4012888888881881"));
    let unkeyed = || Detectors::builder().build().expect("detectors");
    assert_eq!(print(&unkeyed(), "078-05-1123"), print(&unkeyed(), "078-05-1123"), "one key a process");
    // The same, by somebody else's HMAC-SHA256: Python's hmac.new(bytes([1] * 32), b"ssn\0" + b"078051123", "sha256").
    assert_eq!(print(&one, "078-05-1123"), "23987ad0373576bff5e2f3b0a7db5e855641915b38ca687b81f716cabee67231");
}

/// What one pattern has covered says nothing of what another one covers.
#[test]
fn what_either_of_two_patterns_matches_is_masked() {
    let falcon = || CustomPattern::new("project", "project [a-z]{6}").prefix("project");
    let late = || CustomPattern::new("late", "near [a-z]{4}").keyword("nothing");
    let text = b"near noon ssn 078-05-1123 then project falcon";
    for patterns in [[falcon(), late()], [late(), falcon()]] {
        let builder = patterns.into_iter().fold(Detectors::builder().first_tier(), |all, one| all.custom(one));
        for one in builder.build().expect("detectors").find("x", text) {
            assert!(!one.context.contains("falcon") && !one.context.contains("noon"), "{}", one.context);
        }
    }
}

/// A rule that takes a part of a word leaves the rest of it, which is as sensitive.
#[test]
fn the_rest_of_a_word_that_a_rule_has_cut_is_masked() {
    let own = CustomPattern::new("own", "E-[0-9]{4}").prefix("E-");
    let detectors = Detectors::builder().all().custom(own).build().expect("detectors");
    for (text, hidden) in [
        ("from m\u{fc}ller@example.com to", "m\u{fc}"),
        ("from john..smith@iana.org to", "john"),
        ("from john|smith@iana.org to", "john"),
        ("see nopE-1234 or", "nop"),
        ("see E-1234nop or", "nop"),
        ("card 4012888888881881-nop or", "nop"),
    ] {
        let found = detectors.find("x", text.as_bytes());
        assert_eq!(found.len(), 1, "{text}");
        let context = &found[0].context;
        assert!(!context.contains(hidden), "{context}");
        let (first, last) = (text.split(' ').next().expect("a word"), text.rsplit(' ').next().expect("a word"));
        assert!(context.starts_with(first) && context.ends_with(last), "{context}");
    }
    // Marks that end words do not make more of it.
    for text in ["to=anna@iana.org.", "(ssn:078-05-1123)", "mail <anna@iana.org>, please", "\"anna@iana.org\";x"] {
        assert!(!detectors.find("x", text.as_bytes())[0].context.contains("**** ***"), "{text}");
        let context = &detectors.find("x", text.as_bytes())[0].context;
        let shown = &detectors.find("x", text.as_bytes())[0].masked_match;
        let (before, behind) = context.split_once(shown.as_str()).expect("the match");
        assert!(text.starts_with(before) && text.ends_with(behind), "{context}");
    }
}
