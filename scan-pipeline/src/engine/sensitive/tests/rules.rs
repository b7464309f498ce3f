//! The rules by example, one line for each.

use super::super::Detectors;
use super::{Detector, found};

fn is_found(detector: Detector, text: &str) {
    assert_eq!(found(detector, text).len(), 1, "{text}");
}

fn is_not(detector: Detector, text: &str) {
    assert!(found(detector, text).is_empty(), "{text}");
}

#[test]
fn cards() {
    for text in [
        "4012888888881881",
        "4012 8888 8888 1881",
        "4012-8888-8888-1881",
        "378282246310005",
        "3782 822463 10005",
        "\"4012888888881881\"",
        "card=4012888888881881;",
        "visa 4222222222222",
        "\u{5361}4012888888881881",
        "4012888888881881=25121010000012300000?",
        "pan 8171999900000000021",
        "4012 8888 8888 1881 12/27",
        "Anna,4222222222222,1",
        "\"62000000000000000\";x",
        "card 17 4012 8888 8888 1881 23",
        "17,4012 8888 8888 1881,23",
    ] {
        is_found(Detector::CreditCard, text);
    }
    for text in [
        "4012888888881882",
        "4012 8888-8888 1881",
        "4012  8888 8888 1881",
        "40 1288 8888 8818 81",
        "x4012888888881881",
        "4012888888881881x",
        ".4012888888881881",
        "a-4012888888881881",
        "_4012888888881881",
        "+4012888888881881",
        "0.4012888888881881",
        "4012888888881881.5",
        "4012888888881881@example.com",
        "17 4012 8888 8888 1881 23",
        "0 4012 8888 8888 1881",
        "0 4012 8888 8888 1881 0x1cc4 a1b2-cc11 aa:cc:bb",
        "cc:cb:20:37:fc:4c 4012 8888 8888 1881 81%",
        "fc-cc 4012 8888 8888 1881 81%",
        "4012 8888 8888 1881\t 23",
        "\"id\":\"62000000000000000\",",
        "4444444444444444444",
        "1700000000000000",
        "id 4222222222222",
        "40128888-8888-1881-8abc-123456789012",
        "0000 1111 4012 8888 8888 1881",
        "4012 8888 8888 1881 0a0b 0c0d",
        "30112024123456",
        "501864667909",
    ] {
        is_not(Detector::CreditCard, text);
    }
    let detectors = Detectors::builder().detect(Detector::CreditCard).build().expect("detectors");
    let of = |text: &str| detectors.find("x", text.as_bytes())[0].tags.join(" ");
    assert_eq!(of("4012888888881881"), "visa test");
    assert_eq!(of("4532613702852251"), "visa");
    assert_eq!(of("5398228707871527"), "mastercard");
    assert_eq!(of("card 6205500000000000004"), "unionpay test", "of Stripe");
    assert_eq!(of("376680816376961"), "amex test", "of PayPal");
}

#[test]
fn social_security_numbers() {
    for text in [
        "078-05-1123",
        "078.05.1123",
        "223 45 6789",
        "ssn 223 45 6789 is",
        "SSN223456789".replace("SSN", "ssn: ").as_str(),
        "his social security number is 223456789",
        "899-45-6789",
        "(078-05-1123)",
        "ssn=078-05-1123;",
        "SSN-223-45-6789",
        "SSN.223-45-6789",
        "ssn-223456789",
        "SS number 223456789",
        "tax id: 223456789",
        "TIN 223456789",
        "social  security no 223456789",
        "soc.\nsocial\nsecurity 223456789",
        "ss\nno. 223456789",
    ] {
        is_found(Detector::Ssn, text);
    }
    for text in [
        "000-45-6789",
        "666-45-6789",
        "900-45-6789",
        "223-00-6789",
        "223-45-0000",
        "078-05-1120",
        "219-09-9999",
        "457-55-5462",
        "123-45-6789",
        "111-11-1111",
        "223-45.6789",
        "223--45-6789",
        "223456789",
        "in 223 45 6789 or",
        "1223-45-6789",
        "223-45-67890",
        "a-223-45-6789",
        "223-45-6789-1",
        "ssn 12 223 45 6789",
        "session 223456789",
        "no-223-45-6789",
        "ssn 1-223-45-6789",
        "ssn_-223-45-6789",
        "tincture 223456789",
        "social   security 223456789",
    ] {
        is_not(Detector::Ssn, text);
    }
}

#[test]
fn phone_numbers() {
    for text in [
        "415-555-2671",
        "(415) 555-2671",
        "(415)555-2671",
        "415.555.2671",
        "415 555-2671",
        "415/555-2671",
        "1-415-555-2671",
        "+1 415 555 2671",
        "+14155552671",
        "1 (415) 555-2671",
        "(415) 5552671",
        "415-5552671",
        "415-555-2671x123",
        "415-555-2671 ext. 5",
        "phone 4155552671",
        "tel: 415 555 2671",
        "call me on (41) 5555-2671",
        "415 555 2671",
        "fax +1 4155552671",
        "415-555-2671-Office",
        "Tel.415-555-2671",
        "Ph.(415) 555-2671",
        "Mobile-415-555-2671",
        "Tel.1-415-555-2671",
        "+1415-555-2671",
        "+1415 555 2671",
        "+1 415-555 2671",
        "+1 415 5552671",
        "+1.415/555.2671",
        "call me: 415.555-2671",
        "phone 415/555/2671",
        "tel 415 5552671",
        "415-555-2671ext5",
        "415-555-2671EXT. 5",
        "(415)555-2671ext 5",
    ] {
        is_found(Detector::Phone, text);
    }
    for text in [
        "4155552671",
        "id 415 555 2671 x",
        "115-555-2671",
        "411-555-2671",
        "291-155-2671",
        "495-555-2671",
        "415-155-2671",
        "415-911-2671",
        "415555-2671",
        "415-555-26711",
        "1415-555-2671",
        "+44 415-555-2671",
        "+4155552671",
        "+2(267)362-8910",
        "2014-04-12 04:04 PM",
        "10.415.555.2671",
        "415-555-2671-9",
        "21 415 555 2671",
        "222-222-2222",
        "415-555-2671@example.com",
        "(41) 5555-2671",
        "No.415-555-2671",
        "a-415-555-2671",
        "415.555-2671",
        "415/555/2671",
        "415 5552671",
        "5+1415-555-2671",
        "415-555-2671extra",
        "1415 555 2671",
    ] {
        is_not(Detector::Phone, text);
    }
}

#[test]
fn addresses() {
    let long = "a".repeat(64);
    let (label, most) = ("b".repeat(63), format!("{}{}.com", format!("{}.", "b".repeat(62)).repeat(3), "b".repeat(62)));
    for text in [
        "anna@example.com",
        "<anna.b+c@example.co.uk>",
        "!#$%&`*+/=?^`{|}~@iana.org",
        "anna@xn--80ak6aa92e.com",
        "email..anna@example.com",
        ".anna@example.com",
        "to=anna@example.com&x",
        "anna@example.com.",
        "ANNA@EXAMPLE.MUSEUM",
        "anna@example.com..",
        "/path?mail=anna@example.com",
        &format!("{long}@example.com"),
        &format!("a@{label}.com"),
        &format!("a@{most}"),
    ] {
        is_found(Detector::Email, text);
    }
    for text in [
        "anna@example",
        "@example.com",
        "anna.@example.com",
        "anna@-example.com",
        "anna@example-.com",
        "anna@example..com",
        "anna@127.0.0.1",
        "anna@[127.0.0.1]",
        "anna@example.codfm",
        "anna@example.com.dmf",
        "a@b@example.com",
        "a@@b.com",
        &format!("a{long}@example.com"),
        &format!("a@b{label}.com"),
        &format!("a@bb{most}"),
        "https://anna@example.com/",
        "ftp://anna:pw@example.com",
        "git@github.com:a/b",
    ] {
        is_not(Detector::Email, text);
    }
    assert_eq!(found(Detector::Email, "x..anna@example.com"), ["anna@example.com"]);
    assert_eq!(found(Detector::Email, "mail='anna@example.com'"), ["anna@example.com"]);
}

#[test]
fn of_numbers_that_overlap_the_card_stays_then_the_social_security_number() {
    let detectors = Detectors::builder().min_confidence(0.0).build().expect("detectors");
    let names = |text: &str| -> Vec<String> {
        detectors.find("x", text.as_bytes()).into_iter().map(|one| one.detector).collect()
    };
    assert_eq!(names("card 6011 0009 9013 9424"), ["credit_card"]);
    assert_eq!(names("4012-888888881881"), Vec::<String>::new());
    assert_eq!(names("phone ssn 223456789"), ["ssn"]);
}

#[test]
fn names_of_detectors() {
    for one in Detector::ALL {
        assert_eq!(one.as_str().parse::<Detector>().expect("its own name"), one);
    }
    let why = "card".parse::<Detector>().expect_err("no detector").to_string();
    assert!(why.contains("`card`") && Detector::ALL.iter().all(|one| why.contains(one.as_str())), "{why}");
    assert!(Detectors::builder().min_confidence(f64::NAN).build().is_err());
    assert!(Detectors::builder().min_confidence(1.5).build().is_err());
}

#[test]
fn settings_tell_everything_apart_and_nothing_of_the_key() {
    let of = |builder: super::super::DetectorsBuilder| builder.build().expect("detectors").settings();
    let plain = of(Detectors::builder());
    assert_eq!(plain, of(Detectors::builder().first_tier()), "a key of the process's own is not told");
    let keyed = |key| of(Detectors::builder().fingerprint_key([key; 32]));
    assert_eq!(keyed(0xab), keyed(0xab));
    assert!(keyed(0xab) != keyed(0xac) && keyed(0xab) != plain);
    assert!(!keyed(0xab).contains("abab"), "{}", keyed(0xab));
    assert!(plain.contains("ssn,credit_card,aws_access_key,aws_secret_key,email,phone"), "{plain}");
    for other in
        [Detectors::builder().all(), Detectors::builder().min_confidence(0.6), Detectors::builder().max_findings(2)]
    {
        assert_ne!(of(other), plain);
    }
}
