//! JSON that is none, or that can be read in two ways.

use super::*;

#[test]
fn what_is_no_json_is_unreadable() {
    let good = notification("ObjectCreated:Put", "k");
    for (message, named) in [
        (format!("\u{feff}{good}"), "byte order mark"),
        (format!("{good}{good}"), "trailing"),
        (good[..good.len() - 1].to_owned(), "EOF"),
        (good.replace("uploads", "up\u{0}loads"), "control character"),
        (good.replace("\"k\"", r#""\ud800""#), "not the JSON"),
        (good.replace("\"k\"", r#""\udc00x""#), "not the JSON"),
        (good.replace("\"k\"", r#""a\u0000b""#), "NUL"),
        (good.replace("\"abc\"", r#""a\u0000b""#), "NUL"),
        (good.replace('"', "'"), "not the JSON"),
        (format!("// {good}"), "not the JSON"),
        (good.replace("\"size\":3", "\"size\":NaN"), "not the JSON"),
        (good.replace("\"size\":3", "\"size\":1e3"), "`size`"),
        (good.replace("\"size\":3", "\"size\":true"), "`size`"),
        (good.replace("\"size\":3", "\"size\":\"0x3\""), "`size`"),
        (good.replace("\"size\":3", "\"size\":\"\""), "`size`"),
        (good.replace("\"uploads\"", "[\"uploads\"]"), "`name`"),
    ] {
        let why = unreadable(&message).to_string();
        assert!(why.contains(named), "{why}");
    }
    assert!(matches!(decode(b"{\"Records\": \"\xff\xfe\"}")[..], [Event::Unreadable(_)]));
}

/// The reader that takes the first and the one that takes the last would scan different objects.
#[test]
fn a_name_that_is_there_twice_is_unreadable() {
    let good = notification("ObjectCreated:Put", "k");
    for (once, twice) in [
        (r#""key":"k""#, r#""key":"k","key":"other""#),
        (r#""key":"k""#, r#""key":"k","\u006bey":"other""#),
        (r#""name":"uploads""#, r#""name":"uploads","name":"uploads""#),
        (r#""Records":"#, r#""Records":[],"Records":"#),
        (r#""eventVersion":"2.1""#, r#""eventVersion":"2.1","unused":{"a":1,"a":2}"#),
    ] {
        let message = good.replace(once, twice);
        assert_ne!(message, good);
        assert!(unreadable(&message).to_string().contains("there twice"));
    }
    unreadable(&in_sns("{}").replace("\"Type\"", "\"Message\":\"{}\",\"Type\""));
}

#[test]
fn nesting_is_bounded() {
    for (open, close) in [("[", "]"), ("{\"Records\":", "}"), ("{\"a\":[", "]}")] {
        let depth = 400_000 / open.len();
        unreadable(&format!("{}{}", open.repeat(depth), close.repeat(depth)));
        unreadable(&open.repeat(depth));
    }
}

/// What a stranger sends is repeated in part, and escaped, so that no log is filled or forged with it.
#[test]
fn errors_name_what_was_seen_and_no_more() {
    let secret = "s3cr3t".repeat(1000);
    for message in [
        notification(&format!("Odd\n\u{1b}[31m{secret}"), "k"),
        notification("ObjectCreated:Put", &format!("%zz{secret}")),
        serde_json::json!({ "password": secret, secret.clone(): 1 }).to_string(),
        serde_json::json!({"detail-type": secret, "source": secret}).to_string(),
        serde_json::json!({"specversion": secret, "type": secret}).to_string(),
        serde_json::json!({"Type": secret, "Message": secret}).to_string(),
        serde_json::json!({"job_id": "7", "bucket": secret, "key": "k"}).to_string(),
        format!(r#"{{"{secret}": 1, "{secret}": 2}}"#),
    ] {
        let why = unreadable(&message).to_string();
        assert!(why.len() < 400 && !why.contains('\n') && !why.contains('\u{1b}'), "{why}");
    }
    let why = unreadable(r#"{"password": "hunter2", "user": "me"}"#).to_string();
    assert!(why.contains("`password`, `user`") && !why.contains("hunter2"), "{why}");
    let many: serde_json::Map<_, _> = (0..1000).map(|at| (format!("name{at}"), 1.into())).collect();
    assert!(unreadable(&serde_json::Value::from(many).to_string()).to_string().contains("988 more"));
}

#[test]
fn names_of_ignored_events_are_cut_short_and_escaped() {
    let long = ignored(&notification(&format!("ObjectRemoved:\n{}", "x".repeat(1000)), "k"));
    assert!(long.event.len() < 100 && !long.event.contains('\n'), "{}", long.event);
}
