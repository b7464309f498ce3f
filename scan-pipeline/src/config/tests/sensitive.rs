//! Sensitive data: what is looked for, and what follows.

use super::*;

const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

fn environment(name: &str) -> Option<String> {
    if name == "KEY" { Some(String::from(KEY)) } else { super::environment(name) }
}

/// The good file with these lines in `[engine]`, and these in the policy.
fn file(engine: &str, policy: &str) -> String {
    let review = "[[workflow.review.steps]]\ndo = \"tag\"\n\n[[workflow.hold.steps]]";
    let text = GOOD.replacen("[engine.clamav]", &format!("[engine]\n{engine}\n[engine.clamav]"), 1);
    let text = text.replacen("[policy.unscannable_for]", &format!("{policy}\n[policy.unscannable_for]"), 1);
    if policy.contains("review") { text.replacen("[[workflow.hold.steps]]", review, 1) } else { text }
}

fn checked(engine: &str, policy: &str) -> Checked {
    let dir = folder();
    Config::check(&file(engine, policy), dir.path(), &environment)
}

const RULES: &str = "[[policy.findings]]\nworkflow = \"review\"\nmin_confidence = 0.8\ndetectors = [\"ssn\"]\n\
                     [[policy.findings]]\nworkflow = \"leave\"";

#[test]
fn what_is_looked_for_and_what_follows_is_said() {
    let engine = "detect = [\"ssn\", \"credit_card\", \"ssn\"]\nmin_confidence = 0.7\nmax_findings = 50\n\
                  fingerprint_key = \"${KEY}\"";
    let checked = checked(engine, RULES);
    assert_eq!(checked.problems, []);
    let config = checked.config.expect("no mistakes");
    let words = config.explain().join("\n");
    for part in [
        "look for sensitive data: ssn, credit_card\n",
        "when it is clean, with ssn from a confidence of 0.8: workflow review",
        "when it is clean, with findings: it is left where it is\n",
    ] {
        assert!(words.contains(part), "{part}:\n{words}");
    }
    assert!(!words.contains(KEY) && !format!("{config:?}").contains(KEY));
    let detect = config.detect.as_ref().expect("asked for");
    let settings = detect.build().expect("detectors").settings();
    assert!(settings.contains("ssn,credit_card") && settings.contains("0.7") && !settings.contains(KEY), "{settings}");
    let lines = config.policy().expect("a policy").explain();
    assert_eq!(
        lines[..2],
        ["clean, with ssn from a confidence of 0.8: workflow review", "clean, with findings: workflow leave"]
    );
}

#[test]
fn all_is_all_and_one_word_is_enough_for_a_workflow() {
    let config = checked("detect = \"all\"", "findings = \"review\"").config.expect("no mistakes");
    let names = config.detect.as_ref().expect("asked for").names().len();
    assert_eq!(names, crate::engine::Detector::ALL.len());
    assert_eq!(config.policy().expect("a policy").explain()[0], "clean, with findings: workflow review");
    let first = checked("detect = \"first_tier\"", "").config.expect("no mistakes");
    assert_eq!(first.detect.as_ref().expect("asked for").names().len(), crate::engine::Detector::FIRST_TIER.len());
    assert!(checked("", "").config.expect("no mistakes").detect.is_none(), "nothing is looked for by itself");
}

#[test]
fn mistakes_have_their_place_and_their_cure() {
    for (engine, policy, mark, key, words) in [
        ("detect = [\"ssn\", \"credt_card\"]", "", "\"credt_card", "engine.detect[1]", "did you mean `credit_card`?"),
        ("detect = \"everything\"", "", "\"everything", "engine.detect", "there are `all`, `first_tier`, `ssn`"),
        ("detect = []", "", "[]", "engine.detect", "names nothing to look for"),
        ("detect = 1", "", "1", "engine.detect", "should be a text"),
        ("detect = \"all\"\nmin_confidence = 2", "", "2", "engine.min_confidence", "it has to be 0 to 1"),
        ("detect = \"all\"\nmax_findings = 0", "", "0\n", "engine.max_findings", "it has to be 1 to 100000"),
        (
            "detect = \"all\"\nfingerprint_key = \"${HOST}\"",
            "",
            "\"${HOST}",
            "engine.fingerprint_key",
            "64 hexadecimal",
        ),
        ("min_confidence = 0.5", "", "", "engine.min_confidence", "says nothing without `detect`"),
        ("detect = \"all\"", "findings = \"reveiw\"", "\"reveiw", "policy.findings", "there is no workflow `reveiw`"),
        (
            "detect = \"all\"",
            "[[policy.findings]]\nworkflow = \"review\"\nmin_confidence = -1",
            "-1",
            "policy.findings[0].min_confidence",
            "it has to be 0 to 1",
        ),
        (
            "detect = \"all\"",
            "[[policy.findings]]\nworkflow = \"review\"\ndetectors = \"snn\"",
            "\"snn",
            "policy.findings[0].detectors",
            "did you mean `ssn`?",
        ),
        (
            "detect = \"all\"",
            "[[policy.findings]]\nmin_confidence = 1",
            "",
            "policy.findings[0].workflow",
            "is missing",
        ),
    ] {
        let text = file(engine, policy);
        let checked = checked(engine, policy);
        let mistakes: Vec<_> =
            checked.problems.iter().filter(|problem| problem.severity == Severity::Mistake).collect();
        let [problem] = mistakes.as_slice() else { panic!("{engine} {policy}: {:?}", checked.problems) };
        assert_eq!(problem.key, key, "{problem}");
        assert!(problem.message.contains(words), "{words}: {problem}");
        assert!(!problem.message.contains("hidden.example.com"), "{problem}");
        let line = text.lines().nth(problem.line - 1).expect("a line");
        if !mark.is_empty() {
            let at: String = line.chars().skip(problem.column - 1).collect::<String>() + "\n";
            assert!(at.starts_with(mark), "{problem} is at {at:?}");
        }
        assert!(checked.config.is_none());
    }
}

#[test]
fn what_may_not_be_meant_is_warned_about() {
    for (engine, policy, words) in [
        ("", "findings = \"review\"", "nothing is looked for, so there are no findings"),
        ("detect = \"email\"", RULES, "`ssn` is not looked for"),
        ("detect = \"all\"\nfingerprint_key = \"KEY\"", "", "is a secret that stands in the file"),
    ] {
        let engine = engine.replace("\"KEY\"", &format!("{KEY:?}"));
        let checked = checked(&engine, policy);
        let problems: Vec<_> = checked.problems.iter().map(ToString::to_string).collect();
        assert!(problems.iter().any(|problem| problem.contains("warning") && problem.contains(words)), "{problems:?}");
        assert!(checked.config.is_some() && !problems.concat().contains(KEY), "{problems:?}");
    }
}

#[test]
fn who_looks_for_sensitive_data_alone_is_told_what_is_missing() {
    let dir = folder();
    let without =
        GOOD.replacen("[engine.clamav]\ndefinitions = \".\"\nthreads = 2\n", "[engine]\ndetect = \"all\"\n", 1);
    let without =
        without.replacen("[engine.clamav.limits]\nmax_file_size = \"100MB\"\nmax_scan_time = \"2m\"\n", "", 1);
    let problems = Config::check(&without, dir.path(), &environment).problems;
    assert!(problems.iter().any(|problem| problem.message.contains("and not for malware")), "{problems:?}");
    let clamd = without.replacen("detect = \"all\"\n", "detect = \"all\"\n[engine.clamd]\naddress = \"unix:/x\"\n", 1);
    let checked = Config::check(&clamd, dir.path(), &environment);
    assert!(checked.config.is_some(), "{:?}", checked.problems);
    assert!(
        checked.problems.iter().any(|problem| problem.message.contains("clamd shows nobody")),
        "{:?}",
        checked.problems
    );
}

#[test]
fn patterns_of_ones_own_are_checked_where_they_stand() {
    let pattern = "[[engine.patterns]]\nname = \"employee_id\"\npattern = 'E[0-9]{6}'\nkeywords = [\"employee\"]\n";
    let rules = "[[policy.findings]]\nworkflow = \"review\"\ndetectors = \"employee_id\"";
    let config = checked(pattern, rules);
    assert_eq!(config.problems, []);
    assert_eq!(config.config.expect("no mistakes").detect.expect("asked for").names(), ["employee_id"]);
    for (from, to, words) in [
        ("name = \"employee_id\"\n", "", "is missing"),
        ("keywords", "keyword", "did you mean `keywords`?"),
        ("keywords = [\"employee\"]", "keywords = [\"a\"]\nvalidator = \"lune\"", "not one of the choices"),
    ] {
        let problems = checked(&pattern.replacen(from, to, 1), "").problems;
        assert!(problems.iter().any(|problem| problem.message.contains(words)), "{words}: {problems:?}");
    }
}
