//! What a whole file gives: every mistake with its place, and what a good one means.

use std::path::Path;

use super::*;

/// A folder with the folders that `GOOD` names.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    for name in ["quarantine", "clean", "infected"] {
        std::fs::create_dir(dir.path().join(name)).expect("made");
    }
    dir
}

const GOOD: &str = r#"
[engine.clamav]
definitions = "."
threads = 2
[engine.clamav.limits]
max_file_size = "100MB"
max_scan_time = "2m"

[store]
url = "sqlite://state.db"

[buckets]
quarantine = { url = "./quarantine", watch = true, prefix = "new/" }
clean = "./clean"
infected = "./infected"

[policy]
clean = "release"
infected = "isolate"
unscannable = "hold"
[policy.unscannable_for]
encrypted = "leave"

[[workflow.release.steps]]
do = "relocate"
to = "clean"
tags = true
[[workflow.release.steps]]
parallel = [
    [{ do = "notify", name = "crm", url = "https://${HOST}/scanned", secrets = ["${SECRET}"] }, { do = "tag" }],
    { do = "notify", name = "audit", url = "http://127.0.0.1:9/", allow_http = true, allow_private_addresses = true, secrets = ["${SECRET}"] },
]
[[workflow.release.on_fatal]]
do = "email"
server = "smtp.example.com"
from = "Scanner <scanner@example.com>"
to = "security@example.com"

[[workflow.isolate.steps]]
do = "relocate"
to = "infected"
key = "{sha256}/{name}"
on_conflict = "overwrite"
retry = { attempts = 3, initial = "1s", factor = 3, cap = "1m" }
timeout = "5m"

[[workflow.hold.steps]]
do = "record"
to = "clean"
prefix = "records/"
[[workflow.hold.steps]]
do = "tag"
vocabulary = { status = "virus-check", threat = "virus-name", words = { clean = "ok", infected = "no" } }

[limits]
max_size = "50MB"
memory = "64MB"
concurrency = 4

[run]
interval = "10s"
"#;

fn environment(name: &str) -> Option<String> {
    match name {
        "HOST" => Some(String::from("hidden.example.com")),
        "SECRET" => Some(String::from("whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3")),
        _ => None,
    }
}

fn check(text: &str) -> Checked {
    let dir = folder();
    Config::check(text, dir.path(), &environment)
}

/// The problems of the good file with one text replaced by another.
fn with(from: &str, to: &str) -> Vec<Problem> {
    assert!(GOOD.contains(from), "{from}");
    check(&GOOD.replacen(from, to, 1)).problems
}

/// Line and column of the first place of a text in the good file, after a replacement.
fn place(from: &str, to: &str, mark: &str) -> (usize, usize) {
    let text = GOOD.replacen(from, to, 1);
    problem::position(&text, text.find(mark).expect("is there"))
}

#[test]
fn a_good_file_has_no_problems_and_says_what_it_does() {
    let checked = check(GOOD);
    assert_eq!(checked.problems, []);
    let config = checked.config.expect("no mistakes");
    assert_eq!(config.watched().collect::<Vec<_>>(), [("quarantine", "new/")]);
    assert_eq!(config.interval(), Duration::from_secs(10));
    let words = config.explain().join("\n");
    for part in [
        "what is under \"new/\" is scanned",
        "when it is clean: workflow release",
        "1. move the object to clean (file://",
        "tagged with scan-status, scan-threat",
        "2. side by side:",
        "- crm: send a webhook to https://${HOST}/scanned, then tag the object",
        "send an e-mail to security@example.com",
        "its key made of \"{sha256}/{name}\"",
        "unscannable because of encrypted alone: it is left where it is",
        "tag the object with virus-check, virus-name",
    ] {
        assert!(words.contains(part), "{part}:\n{words}");
    }
    for secret in ["hidden.example.com", "whsec_"] {
        assert!(!words.contains(secret) && !format!("{config:?}").contains(secret), "{secret}");
    }
}

/// What is replaced, by what, where the mistake is, its key, and words of its message.
#[test]
fn each_mistake_has_its_place_its_key_and_its_cure() {
    for (from, to, mark, key, words) in [
        // Keys.
        ("threads = 2", "thraeds = 2", "thraeds", "engine.clamav.thraeds", "did you mean `threads`?"),
        ("[store]", "[stoer]", "stoer", "stoer", "did you mean `store`?"),
        ("watch = true", "watched = true", "watched", "buckets.quarantine.watched", "did you mean `watch`?"),
        ("tags = true", "tag = true", "tag = true", "workflow.release.steps[0].tag", "did you mean `tags`?"),
        (
            "attempts = 3",
            "attempt = 3",
            "attempt =",
            "workflow.isolate.steps[0].retry.attempt",
            "did you mean `attempts`?",
        ),
        // Types.
        ("threads = 2", "threads = \"2\"", "\"2\"", "engine.clamav.threads", "is a text, and should be a whole number"),
        ("watch = true", "watch = \"yes\"", "\"yes\"", "buckets.quarantine.watch", "should be true or false"),
        ("definitions = \".\"", "definitions = 7", "7", "engine.clamav.definitions", "should be a text"),
        ("clean = \"./clean\"", "clean = [1]", "[1]", "buckets.clean", "should be an address in quotes"),
        ("interval = \"10s\"", "interval = 10", "10\n", "run.interval", "should be a time with its unit"),
        // Sizes and times.
        ("\"100MB\"", "\"100XB\"", "\"100XB\"", "engine.clamav.limits.max_file_size", "write a size as 100, 10K, 25MB"),
        ("\"2m\"", "\"2 minutes\"", "\"2 minutes\"", "engine.clamav.limits.max_scan_time", "write a time as 500ms"),
        ("\"10s\"", "\"10\"", "\"10\"\n", "run.interval", "the unit is missing"),
        // Ranges.
        ("threads = 2", "threads = 0", "0", "engine.clamav.threads", "1 to 1024"),
        ("threads = 2", "threads = -2", "-2", "engine.clamav.threads", "1 to 1024"),
        ("\"100MB\"", "\"3GB\"", "\"3GB\"", "engine.clamav.limits.max_file_size", "out of range"),
        ("memory = \"64MB\"", "memory = 1", "1\n", "limits.memory", "1MB to 4TB"),
        ("factor = 3", "factor = 0.5", "0.5", "workflow.isolate.steps[0].retry.factor", "1 to 100"),
        ("interval = \"10s\"", "interval = \"1ms\"", "\"1ms\"", "run.interval", "1s to 30d"),
        // References.
        (
            "definitions = \".\"",
            "definitions = \"s3://elsewhere/av\"",
            "\"s3://elsewhere/av\"",
            "engine.clamav.definitions",
            "is in none of the buckets",
        ),
        (
            "definitions = \".\"",
            "definitions = \"file://host/av\"",
            "\"file://host/av\"",
            "engine.clamav.definitions",
            "write file:///absolute/path",
        ),
        ("to = \"clean\"", "to = \"claen\"", "\"claen\"", "workflow.release.steps[0].to", "did you mean `clean`?"),
        ("clean = \"release\"", "clean = \"relase\"", "\"relase\"", "policy.clean", "did you mean `release`?"),
        ("encrypted = ", "encrypt = ", "encrypt", "policy.unscannable_for.encrypt", "did you mean `encrypted`?"),
        (
            "name = \"audit\"",
            "name = \"crm\"",
            "\"crm\", url = \"http:",
            "workflow.release.steps[1].parallel[1].name",
            "another step",
        ),
        (
            "do = \"tag\" }]",
            "do = \"tagg\" }]",
            "\"tagg\"",
            "workflow.release.steps[1].parallel[0][1].do",
            "did you mean `tag`?",
        ),
        (
            "\"overwrite\"",
            "\"replace\"",
            "\"replace\"",
            "workflow.isolate.steps[0].on_conflict",
            "`update`, `overwrite`, `rename` and `fail`",
        ),
        ("{sha256}", "{sha255}", "\"{sha255}", "workflow.isolate.steps[0].key", "sha255"),
        (
            "to = \"clean\"\nprefix",
            "to = \"claen\"\nprefix",
            "\"claen\"",
            "workflow.hold.steps[0].to",
            "did you mean `clean`?",
        ),
        (
            "do = \"email\"",
            "do = \"email\"\nsubject = \"{nmae}\"",
            "\"{nmae}\"",
            "workflow.release.on_fatal[0].subject",
            "nmae",
        ),
        (
            "do = \"email\"",
            "do = \"email\"\ntls = \"ssl\"",
            "\"ssl\"",
            "workflow.release.on_fatal[0].tls",
            "`tls`, `starttls` and `none`",
        ),
        // Addresses.
        ("\"./clean\"", "\"clean\"", "\"clean\"\ninf", "buckets.clean", "write file:///absolute/path"),
        ("\"./clean\"", "\"file://clean\"", "\"file://", "buckets.clean", "three slashes"),
        ("\"./clean\"", "\"ftp://clean\"", "\"ftp", "buckets.clean", "there is no scheme `ftp`"),
        ("\"./clean\"", "\"./nowhere\"", "\"./nowhere", "buckets.clean", "cannot be used"),
        ("\"./clean\"", "\"./infected\"", "\"./infected\"\n\n", "buckets.infected", "is the same bucket as `clean`"),
        ("\"./clean\"", "\".\"", "\".\"\ninf", "buckets.clean", "their objects would mix"),
        (
            "https://${HOST}",
            "http://${HOST}",
            "\"http://${HOST}",
            "workflow.release.steps[1].parallel[0][0].url",
            "is not encrypted",
        ),
        ("https://${HOST}", "${HOST}", "\"${HOST}/sc", "workflow.release.steps[1].parallel[0][0].url", "is no address"),
        ("sqlite://state.db", "mysql://state.db", "\"mysql", "store.url", "no store of the kind mysql"),
        (
            "to = \"security@example.com\"",
            "to = \"security\"",
            "\"security\"",
            "workflow.release.on_fatal[0].to",
            "is no address",
        ),
        (
            "[\"${SECRET}\"] }, {",
            "[\"whsec_hidden\"] }, {",
            "\"whsec_hidden",
            "workflow.release.steps[1].parallel[0][0].secrets[0]",
            "base64",
        ),
        (
            "allow_private_addresses = true",
            "event_type = \"x\"",
            "\"http://127",
            "workflow.release.steps[1].parallel[1].url",
            "leads inside",
        ),
        // Variables.
        ("${HOST}", "${HOTS}", "${HOTS}", "workflow.release.steps[1].parallel[0][0].url", "HOTS is not set"),
        (
            "[\"${SECRET}\"] }, {",
            "[\"$SECRET\"] }, {",
            "$SECRET",
            "workflow.release.steps[1].parallel[0][0].secrets[0]",
            "a lone `$`",
        ),
    ] {
        let problems = with(from, to);
        let (line, column) = place(from, to, mark);
        let found = problems.iter().find(|problem| problem.key == key && problem.message.contains(words));
        let found = found.unwrap_or_else(|| panic!("{to}: {problems:#?}"));
        assert_eq!(found.severity, Severity::Mistake, "{to}");
        // The start of a name is inside of its quotes or brackets, where there are some.
        let near = found.line == line && found.column.abs_diff(column) <= 1;
        assert!(near, "{to}: {}:{} is not {line}:{column}", found.line, found.column);
        for secret in ["hidden.example.com", "MDEyMzQ1", "whsec_hidden"] {
            assert!(!format!("{problems:?}").contains(secret), "{to}");
        }
    }
}

#[test]
fn what_is_missing_is_named() {
    for (from, key) in [
        ("[store]\nurl = \"sqlite://state.db\"\n", "store"),
        ("url = \"sqlite://state.db\"\n", "store.url"),
        ("to = \"clean\"\n", "workflow.release.steps[0].to"),
        ("do = \"relocate\"\nto = \"infected\"\n", "workflow.isolate.steps[0].do"),
        ("from = \"Scanner <scanner@example.com>\"\n", "workflow.release.on_fatal[0].from"),
    ] {
        let problems = with(from, "");
        assert!(problems.iter().any(|p| p.key == key && p.severity == Severity::Mistake), "{key}: {problems:#?}");
    }
    let keys: Vec<_> = check("").problems.into_iter().map(|problem| problem.key).collect();
    assert_eq!(keys, ["engine", "store", "buckets", "policy"]);
}

#[test]
fn every_mistake_comes_in_one_run() {
    let text = GOOD
        .replacen("threads = 2", "threads = 0", 1)
        .replacen("watch = true", "wacth = true", 1)
        .replacen("to = \"infected\"", "to = \"infectd\"", 1)
        .replacen("\"50MB\"", "\"50 potatoes\"", 1)
        .replacen("${HOST}", "${HOTS}", 1);
    let mistakes: Vec<_> = check(&text).problems.into_iter().filter(|p| p.severity == Severity::Mistake).collect();
    assert_eq!(mistakes.len(), 5, "{mistakes:#?}");
    assert!(mistakes.is_sorted_by_key(|mistake| (mistake.line, mistake.column)));
}

#[test]
fn syntax_mistakes_are_all_told_and_hide_no_others() {
    let text =
        GOOD.replacen("threads = 2", "threads = 0\nbroken", 1).replacen("interval = \"10s\"", "interval = = 1", 1);
    let problems = check(&text).problems;
    assert!(problems.iter().filter(|p| p.message.contains("no TOML")).count() >= 2, "{problems:#?}");
    assert!(problems.iter().any(|p| p.key == "engine.clamav.threads"), "{problems:#?}");
}

#[test]
fn warnings_are_said_and_stop_nothing() {
    for (from, to, words) in [
        ("unscannable = \"hold\"\n", "", "unscannable: no workflow; such objects are left where they are"),
        ("unscannable = \"hold\"\n", "unscannable = \"release\"\n", "the policy does not use it"),
        (
            "[\"${SECRET}\"] }, {",
            "[\"whsec_SU5MSU5FSU5MSU5FSU5MSU5FSU5MSU5F\"] }, {",
            "is a secret that stands in the file",
        ),
        (", secrets = [\"${SECRET}\"] }, {", " }, {", "is not signed"),
        ("watch = true, prefix = \"new/\" ", "", "no bucket is watched"),
        ("infected = \"./infected\"", "infected = { url = \"./infected\", watch = true }", "follows the policy again"),
        ("clean = \"./clean\"", "clean = \"memory://x\"", "in memory only"),
        ("definitions = \".\"", "definitions = \"nowhere\"", "does not exist (yet)"),
    ] {
        let checked = check(&GOOD.replacen(from, to, 1));
        let found = checked.problems.iter().find(|problem| problem.message.contains(words));
        let found = found.unwrap_or_else(|| panic!("{words}: {:#?}", checked.problems));
        assert_eq!(found.severity, Severity::Warning);
        assert!(!format!("{:?}", checked.problems).contains("SU5MSU5F"));
        assert!(checked.config.is_some_and(|config| !config.warnings().is_empty()), "{words}");
    }
}

#[test]
fn the_readmes_example_has_no_mistake_and_its_table_every_key() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = std::fs::read_to_string(readme).expect("the README");
    let example = readme.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let example = example
        .replace("file:///data/", "./")
        .replace("{ url = \"s3://clean\", region = \"eu-central-1\" }", "\"./clean\"");
    let dir = folder();
    let checked = Config::check(&example, dir.path(), &|_| environment("SECRET"));
    let mistakes: Vec<_> = checked.problems.iter().filter(|p| p.severity == Severity::Mistake).collect();
    assert!(mistakes.is_empty(), "{mistakes:#?}");
    // An unknown key makes the reader name those that there are.
    let table = readme.split("| Table | Keys").nth(1).expect("a table");
    for section in ["limits", "run", "engine.clamd", "engine.clamav.limits"] {
        let checked = check(&format!("[{section}]\nqqqqqqqqqqqqqqqqqqqqqqqq = 1\n"));
        let message = &checked.problems.iter().find(|p| p.key.ends_with("qqqq")).expect("a mistake").message;
        for key in message.split('`').skip(1).step_by(2) {
            assert!(table.contains(&format!("`{key}`")), "{section}.{key} is not in the README");
        }
    }
}

#[test]
fn what_this_build_cannot_do_says_which_feature_is_missing() {
    for (url, there, words) in [
        ("s3://clean", cfg!(feature = "s3"), "--features s3"),
        ("gs://clean", cfg!(feature = "gcs"), "--features gcs"),
        ("az://clean", cfg!(feature = "azure"), "--features azure"),
    ] {
        let problems = with("\"./clean\"", &format!("{url:?}"));
        assert_eq!(problems.iter().any(|problem| problem.message.contains(words)), !there, "{problems:?}");
    }
}

#[tokio::test]
async fn files_that_are_none_are_refused_with_the_reason() {
    let dir = folder();
    let path = dir.path().join("config.toml");
    let said = async |path: &Path| Config::load(path).await.expect_err("refused").to_string();
    assert!(said(&path).await.contains("cannot be read"));
    assert!(said(dir.path()).await.contains("is a folder"));
    std::fs::write(&path, b"a = 1\nb = \"\xff\"\n").expect("written");
    assert!(said(&path).await.contains("line 2 is not UTF-8"));
    std::fs::write(&path, vec![b'#'; 2 << 20]).expect("written");
    assert!(said(&path).await.contains("more than a megabyte"));
    std::fs::write(&path, "[stor]\nx = 1\n").expect("written");
    let error = Config::load(&path).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().lines().count() >= 3 && error.to_string().contains("config.toml:1:"), "{error}");
}

#[cfg(feature = "dynamodb")]
#[test]
fn a_result_can_be_recorded_in_a_table() {
    const TABLE: &str = "to = \"dynamodb://scans?region=eu-central-1\"\npartition_key = \"id\"\nkeep = \"90d\"\n\
                         columns = { verdict = \"scan_result\", etag = \"\" }";
    const BUCKET: &str = "to = \"clean\"\nprefix = \"records/\"";
    assert_eq!(with(BUCKET, TABLE), []);
    let config = check(&GOOD.replacen(BUCKET, TABLE, 1)).config.expect("no mistakes");
    config.policy().expect("it can be set up without a connection");
    assert!(config.explain().join("\n").contains("write the result to dynamodb://scans?region=eu-central-1"));
    for (from, to, words) in [
        ("dynamodb://scans", "dynamodb://a b", "a table's name has"),
        ("region", "regoin", "neither region nor endpoint"),
        ("verdict =", "verdikt =", "did you mean `verdict`?"),
        ("keep = \"90d\"", "keep_attribute = \"ttl\"", "says nothing without `keep`"),
        ("partition_key = \"id\"", "prefix = \"id\"", "there is no such key"),
    ] {
        let problems = with(BUCKET, &TABLE.replacen(from, to, 1));
        assert!(problems.iter().any(|problem| problem.message.contains(words)), "{to}: {problems:?}");
    }
}

#[cfg(not(feature = "dynamodb"))]
#[test]
fn a_table_needs_a_build_that_has_them() {
    let problems = with("to = \"clean\"\nprefix = \"records/\"", "to = \"dynamodb://scans\"");
    assert!(problems[0].message.contains("rebuild with --features dynamodb"), "{problems:?}");
}

#[cfg(feature = "clamav")]
mod definitions;
mod deletes;
mod provided;
mod sensitive;
