//! Keys as senders write them where they cannot write them plainly.

use percent_encoding::percent_decode_str;

/// The key that a form-encoded text stands for, which is how S3 writes keys in notifications, listings and
/// inventories: `+` is a space, `%2B` a plus. Some senders write `%20` and `%2F`, which mean the same here.
///
/// `None` for what no encoder writes: a `%` without two hexadecimal digits behind it, or bytes that are no UTF-8. To
/// take such text as it is would be a guess, and might name another object.
pub(crate) fn form_decoded(text: &str) -> Option<String> {
    percent_decoded(&text.replace('+', " "))
}

/// The same for a path in an address, where a plus is a plus.
pub(crate) fn percent_decoded(text: &str) -> Option<String> {
    let digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_hexdigit);
    let bytes = text.as_bytes();
    let is_well_formed = bytes
        .iter()
        .enumerate()
        .all(|(at, byte)| *byte != b'%' || digit(bytes.get(at + 1)) && digit(bytes.get(at + 2)));
    is_well_formed.then(|| percent_decode_str(text).decode_utf8().ok().map(String::from)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_are_decoded_once() {
        for (encoded, key) in [
            ("a+b%2Bc%252B", "a b+c%2B"),
            ("a%20b%2F%2e%2E/%C3%BC%0A", "a b/../ü\n"),
            ("/a//b/../c", "/a//b/../c"),
            ("ü", "ü"),
            ("", ""),
        ] {
            assert_eq!(form_decoded(encoded).as_deref(), Some(key));
        }
        for broken in ["%", "a%2", "%zz", "%FF", "%C3", "%+2", "100%"] {
            assert_eq!(form_decoded(broken), None);
        }
        assert_eq!(percent_decoded("a+b%20c").as_deref(), Some("a+b c"));
    }

    proptest! {
        #[test]
        fn what_was_encoded_comes_back(key: String) {
            let encoded: String = url::form_urlencoded::byte_serialize(key.as_bytes()).collect();
            prop_assert_eq!(form_decoded(&encoded), Some(key.clone()));
            // As moto, MinIO and the SDKs write it.
            prop_assert_eq!(form_decoded(&encoded.replace('+', "%20")), Some(key.clone()));
            prop_assert_eq!(form_decoded(&encoded.replace("%2F", "/")), Some(key.clone()));
            let percent = percent_encoding::utf8_percent_encode(&key, percent_encoding::NON_ALPHANUMERIC).to_string();
            prop_assert_eq!(percent_decoded(&percent), Some(key));
        }
    }
}
