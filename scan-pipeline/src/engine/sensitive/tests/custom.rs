//! Patterns of the user's own, good and bad.

use super::super::{CustomPattern, Detectors, Validator};

fn refused(pattern: CustomPattern) -> String {
    Detectors::builder().custom(pattern).build().expect_err("refused").to_string()
}

fn find(pattern: CustomPattern, text: &str) -> Vec<u64> {
    let detectors = Detectors::builder().custom(pattern).build().expect("detectors");
    detectors.find("x", text.as_bytes()).iter().map(|one| one.byte_offset).collect()
}

#[test]
fn what_cannot_be_used_is_refused_with_its_place() {
    let with = |pattern: &str| refused(CustomPattern::new("badge", pattern).prefix("E"));
    for (pattern, why, place) in [
        ("E[0-9", "does not compile", 1),
        ("E(a", "does not compile", 1),
        ("E\\p{Nope}", "does not compile", 1),
        ("a*", "empty string", 0),
        ("(E1)?", "empty string", 0),
        ("", "empty string", 0),
        ("E[0-9]+", "unbounded look-back", 6),
        ("E1.*x", "unbounded look-back", 3),
        ("E[0-9]{3,}", "unbounded look-back", 6),
        ("^E1", "unbounded look-back", 0),
        ("E1$", "unbounded look-back", 2),
        ("E[0-9]{2000}", "more than 1024", 0),
    ] {
        let message = with(pattern);
        assert!(message.contains("`badge`") && message.contains(why), "{pattern}: {message}");
        assert!(message.ends_with(&format!("at byte {place}")), "{pattern}: {message}");
    }
    // What a pattern of Perl would look back with is not known to this syntax.
    assert!(with("(?<=a{1,9})E").contains("does not compile"));
}

#[test]
fn names_and_triggers_are_checked() {
    let good = || CustomPattern::new("badge", "E[0-9]{6}");
    assert!(refused(good()).contains("prefix or a keyword"));
    assert!(refused(good().keyword("")).contains("1 to 64"));
    assert!(refused(good().prefix("E".repeat(65))).contains("1 to 64"));
    assert!(refused(good().prefix("E").confidence(2.0)).contains("between 0 and 1"));
    for name in ["", "Badge", "a b", "é", "ssn"] {
        assert!(refused(CustomPattern::new(name, "E1").prefix("E")).contains("name"), "{name}");
    }
    let twice = Detectors::builder().custom(good().prefix("E")).custom(good().prefix("E")).build();
    assert!(twice.expect_err("refused").to_string().contains("two patterns"));
}

#[test]
fn prefixes_keywords_and_validators() {
    let badge = || CustomPattern::new("badge", r"\bE[0-9]{4}\b");
    assert_eq!(find(badge().prefix("E"), "E1234 xE1234 E12345 E4321"), [0, 20]);
    let labelled = || badge().keyword("Badge").keyword("é");
    assert_eq!(find(labelled(), "E1234"), Vec::<u64>::new());
    assert_eq!(find(labelled(), "BADGE E1234"), [6]);
    assert_eq!(find(labelled(), "E1234 is a badge, as E4321 is"), [0, 21]);
    let far = format!("badge{}E1234", " ".repeat(46));
    assert_eq!(find(labelled(), &far), Vec::<u64>::new());
    assert_eq!(find(labelled(), &far[1..]), Vec::<u64>::new());
    assert_eq!(find(labelled(), &far.replacen(' ', "", 1)), [50]);
    let checked = || CustomPattern::new("account", "AC[0-9]{6}").prefix("AC").validator(Validator::Luhn);
    assert_eq!(find(checked(), "AC123455 AC123456"), [0].repeat(usize::from(super::super::card::luhn(b"123455"))));
    let random = CustomPattern::new("api", "k_[a-z0-9]{16}").prefix("k_").validator(Validator::Entropy(3.0));
    assert_eq!(find(random, "k_aaaaaaaaaaaaaaaa k_q8w7e6r5t4y3u2i1"), [19]);
}

#[test]
fn bytes_and_not_only_text() {
    let pattern = CustomPattern::new("raw", r"(?-u:\xff)[a-z]{2}\b").keyword("k");
    let detectors = Detectors::builder().custom(pattern).build().expect("detectors");
    assert_eq!(detectors.find("x", b"k \xffab \xff").len(), 1);
}

#[test]
fn of_overlapping_matches_the_first_counts() {
    let pattern = CustomPattern::new("run", "[0-9]{3}").keyword("k");
    assert_eq!(find(pattern, "k 1234567 12"), [2]);
}

#[test]
fn nothing_of_a_match_is_shown() {
    let pattern = CustomPattern::new("project", "project [a-z]{1,9}").prefix("project");
    let detectors = Detectors::builder().first_tier().custom(pattern).build().expect("detectors");
    let found = detectors.find("x", b"project falcon pays by 078-05-1123 and project eagle by cash");
    assert_eq!(found.len(), 3);
    for one in found {
        assert!(!one.context.contains("falcon") && !one.context.contains("eagle"), "{}", one.context);
        assert!(one.detector != "project" || one.masked_match == "********");
    }
}
