//! Tokens and passwords. Tokens are put together here, so that none lies in the repository as a whole.

use super::super::tokens::NEEDLES;
use super::{Detector, found};

/// Letters and digits without an order.
fn body(size: usize) -> String {
    let mut generator = fastrand::Rng::with_seed(size as u64);
    (0..size).map(|_| generator.alphanumeric()).collect()
}

#[test]
fn needles_do_not_overlap() {
    // Otherwise what is found would depend on where the search begins.
    for (one, _) in NEEDLES {
        for (other, _) in NEEDLES {
            assert!(one == other || !one.contains(other), "{other} is in {one}");
            for size in 1..one.len().min(other.len()) {
                assert!(one[one.len() - size..] != other[..size], "{one} runs into {other}");
            }
        }
    }
}

#[test]
fn tokens_with_known_beginnings() {
    use Detector::{GithubToken, GoogleApiKey, Jwt, NpmToken, PrivateKey, PypiToken, SlackToken, StripeKey};
    let jwt = format!("{}{}.{}{}.{}", "eyJ", body(17), "eyJ", body(40), body(43));
    let all = [
        (GithubToken, format!("{}{}", "ghp_", body(36))),
        (GithubToken, format!("{}{}_{}", "github_pat_", body(22), body(59))),
        (SlackToken, format!("{}2048-{}-{}", "xoxb-", 40_961_234, body(24))),
        (StripeKey, format!("{}{}", "sk_live_", body(24))),
        (StripeKey, format!("{}{}", "rk_test_", body(30))),
        (GoogleApiKey, format!("{}{}", "AIza", body(35))),
        (NpmToken, format!("{}{}", "npm_", body(36))),
        (PypiToken, format!("{}{}", "pypi-AgEIcHlwaS5vcmc", body(80))),
        (PrivateKey, format!("{}BEGIN RSA PRIVATE KEY-----", "-----")),
        (PrivateKey, format!("{}BEGIN PGP PRIVATE KEY BLOCK-----", "-----")),
        (PrivateKey, format!("{}BEGIN PRIVATE KEY-----", "-----")),
        (Jwt, jwt),
    ];
    for (detector, token) in all {
        for text in [token.clone(), format!("x = \"{token}\";"), format!("a {token}\nb")] {
            assert_eq!(found(detector, &text), [token.as_str()], "{detector}");
        }
        for text in [format!("x{token}"), token[1..].to_owned(), token[..token.len() * 2 / 5].to_owned()] {
            if detector != PrivateKey {
                assert!(found(detector, &text).is_empty(), "{detector}: {text}");
            }
        }
    }
    assert!(found(PrivateKey, "-----BEGIN PUBLIC KEY-----").is_empty());
    assert!(found(GithubToken, &format!("ghp_{}", "a".repeat(36))).is_empty(), "nothing random in it");
    assert!(found(NpmToken, &format!("npm_{}", body(37))).is_empty());
}

#[test]
fn passwords_that_are_assigned() {
    for (text, value) in [
        ("password = \"hunter2!x\"", "hunter2!x"),
        ("password: tr0ub4dor", "tr0ub4dor"),
        ("\"db_password\": \"kZ9#mQ2w\",", "kZ9#mQ2w"),
        ("DB_PASSWD=s3cr3tish9\n", "s3cr3tish9"),
        ("export API_KEY='9f8e7d6c5b4a'", "9f8e7d6c5b4a"),
        ("client-secret => 'Abc-Def-Ghi-7'", "Abc-Def-Ghi-7"),
        ("auth_token := `q1w2e3r4t5`", "q1w2e3r4t5"),
        ("Pwd=Winter2024;", "Winter2024"),
        ("password = 'correct-horse-battery'", "correct-horse-battery"),
    ] {
        assert_eq!(found(Detector::Password, text), [value], "{text}");
    }
    for text in [
        "password = os.environ['X1']",
        "password: ${DB_PASSWORD1}",
        "password = \"changeme1\"",
        "password = \"\"",
        "password = null",
        "password: <your-password1>",
        "password = getPassword1()",
        "password == \"hunter2!x\"",
        "password = other_variable",
        "the password is hunter2",
        "password = \"********\"",
        "token: self.token1.value",
        "password_hash_rounds = 12345678",
        "passwords are 12345678",
        "password = \"aaaaaaaa\"",
        "secretary: anna1234x y",
        "password = https://example.com/1",
    ] {
        assert!(found(Detector::Password, text).is_empty(), "{text}: {:?}", found(Detector::Password, text));
    }
}

#[test]
fn a_key_that_is_a_password_is_a_key() {
    let token = format!("{}{}", "ghp_", body(36));
    let detectors = super::super::Detectors::builder().all().build().expect("detectors");
    let found = detectors.find("x", format!("token = \"{token}\"").as_bytes());
    let names: Vec<_> = found.iter().map(|one| one.detector.as_str()).collect();
    assert_eq!(names, ["github_token"]);
}

#[test]
fn the_second_tier_is_off_by_default() {
    let detectors = super::super::Detectors::builder().build().expect("detectors");
    assert!(detectors.find("x", b"password = \"hunter2!x\"").is_empty());
}
