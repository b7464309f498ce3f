//! Keys of AWS. The keys are made here, or put together, so that none lies in the repository as a whole.

use super::super::Detectors;
use super::{Detector, found};

/// A key id of an account, as AWS makes them: the first bit of the base32 is set, then come 40 bits of the account.
fn key_id(generator: &mut fastrand::Rng, prefix: &str, account: u64) -> String {
    let bits = 1 << 79 | u128::from(account) << 39 | (generator.u128(..) & ((1 << 39) - 1));
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let body: String = (0..16).map(|i| char::from(letters[(bits >> (75 - 5 * i) & 31) as usize])).collect();
    format!("{prefix}{body}")
}

fn tags(text: &str) -> Vec<String> {
    let detectors = Detectors::builder().detect(Detector::AwsAccessKey).build().expect("detectors");
    detectors.find("x", text.as_bytes()).into_iter().flat_map(|one| one.tags).collect()
}

#[test]
fn the_account_of_a_key_id_is_decoded() {
    let mut generator = fastrand::Rng::with_seed(1);
    let (mut seen, mut dull) = (0, 0);
    for i in 0..2000 {
        let account = match i {
            0 => 0,
            1 => 999_999_999_999,
            _ => generator.u64(0..1_000_000_000_000),
        };
        let prefix = ["AKIA", "ASIA", "ABIA", "ACCA"][i % 4];
        let id = key_id(&mut generator, prefix, account);
        if super::super::look::entropy(&id.as_bytes()[4..]) < 3.0 {
            dull += 1;
            continue;
        }
        seen += 1;
        assert_eq!(tags(&format!("key={id}\n")), [format!("account:{account:012}")], "account {account}");
    }
    assert!(seen > 1900 && dull < 100, "{seen} {dull}");
    // The example of Tal Be'ery's article of 2023.
    assert_eq!(tags(&["ASIA", "QNZGKIQY56JQ7WML"].concat()), ["account:029608264753"]);
}

#[test]
fn ids_that_hold_no_account_or_are_none() {
    let old = ["AKIA", "IZ2PQ3XW7RT5LKM4"].concat();
    assert_eq!(found(Detector::AwsAccessKey, &old), [old.as_str()]);
    assert!(tags(&old).is_empty(), "made before accounts were in them");
    let (id, body) = (["AKIA", "QNZGKIQY56JQ7WML"].concat(), "QNZGKIQY56JQ7WML");
    for text in [
        format!("AIDA{body}"),
        format!("AROA{body}"),
        format!("AGPA{body}"),
        format!("x{id}"),
        format!("{id}X"),
        format!("_{id}"),
        String::from("AKIAIOSFODNN7EXAMPLE"),
        format!("AKIA{}", "AAAABBBBCCCCAAAA"),
        format!("AKIA{}", &body[..15]),
        format!("AKIA{}", body.to_lowercase()),
    ] {
        assert!(found(Detector::AwsAccessKey, &text).is_empty(), "{text}");
    }
    // 0, 1, 8 and 9 are no base32: possible, and unlikely.
    let odd = ["AKIA", "QNZGKIQY56JQ7WM0"].concat();
    assert!(found(Detector::AwsAccessKey, &odd).is_empty());
    let low = Detectors::builder().detect(Detector::AwsAccessKey).min_confidence(0.2).build().expect("detectors");
    assert_eq!(low.find("x", odd.as_bytes())[0].confidence, 0.3);
    // In a credential scope.
    assert_eq!(found(Detector::AwsAccessKey, &format!("Credential={id}/20240101/us-east-1")), [id]);
}

#[test]
fn secrets_stand_by_their_name_or_their_id() {
    let mut generator = fastrand::Rng::with_seed(2);
    let letters: Vec<char> = ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(['/', '+']).collect();
    for _ in 0..500 {
        let secret: String = (0..40).map(|_| *generator.choice(&letters).expect("letters")).collect();
        if super::super::look::entropy(secret.as_bytes()) < 4.25 {
            continue;
        }
        let id = key_id(&mut generator, "AKIA", 123_456_789_012);
        for text in [
            format!("aws_secret_access_key = {secret}"),
            format!("\"SecretAccessKey\": \"{secret}\","),
            format!("AWS_SECRET_ACCESS_KEY={secret}\n"),
            format!("{id},{secret}"),
            format!("{secret} is for {id}"),
            format!("{secret} is the secret"),
            format!("{secret}{}secret", ".".repeat(50)),
        ] {
            assert_eq!(found(Detector::AwsSecretKey, &text), [secret.as_str()], "{text}");
        }
        for text in [
            format!("checksum {secret}"),
            format!("secret {}x", secret),
            format!("secret {}", &secret[1..]),
            format!("secret {secret}="),
            format!("secret {}{secret}", ". ".repeat(40)),
            format!("{secret}{}secret", ".".repeat(51)),
        ] {
            assert!(found(Detector::AwsSecretKey, &text).is_empty(), "{text}");
        }
    }
    let sha1 = "da39a3ee5e6b4b0d3255bfef95601890afd80709";
    assert!(found(Detector::AwsSecretKey, &format!("secret {sha1}")).is_empty());
    let example = ["wJalrXUtnFEMI/K7MDENG/", "bPxRfiCYEXAMPLEKEY"].concat();
    assert!(found(Detector::AwsSecretKey, &format!("secret {example}")).is_empty(), "of the documentation");
}

#[test]
fn secrets_stand_in_a_column_that_is_named_so() {
    let secret = ["h8Kd/2mQ0vXz+PnY7sWc", "R4tLb9GfJ1uEaT6oSi3D"].concat();
    let rows = "Anna,none,a remark that is long enough to be of some length\n".repeat(5);
    for name in ["aws_key", "AWS-Key", "Secret key"] {
        let table = format!("name,{name},remark\n{rows}Bob,{secret},of his\nEve,x,{secret}\n");
        assert_eq!(found(Detector::AwsSecretKey, &table).len(), 1, "{table}");
    }
    assert!(found(Detector::AwsSecretKey, &format!("name,digest,remark\n{rows}Bob,{secret},of his\n")).is_empty());
}
