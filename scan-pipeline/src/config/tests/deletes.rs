//! Buckets from which nothing may be deleted; and where definitions may be.

use super::*;

const QUARANTINE: &str = "quarantine = { url = \"./quarantine\", watch = true, prefix = \"new/\" }";

#[cfg(all(feature = "gcs", feature = "azure", feature = "s3"))]
#[test]
fn objects_that_cannot_be_deleted_safely_are_not_deleted() {
    let weak = "quarantine = { url = \"s3://q\", watch = true, versions = false, conditional_delete = false }";
    for (bucket, words) in [
        ("quarantine = { url = \"gs://q\", watch = true }", "Google Cloud Storage"),
        ("quarantine = { url = \"az://q\", watch = true }", "Azure Blob Storage"),
        ("quarantine = \"az://q\"", "Azure Blob Storage"),
        (weak, "conditional_delete = false"),
    ] {
        let problems = with(QUARANTINE, bucket);
        let mistakes: Vec<_> = problems.iter().filter(|problem| problem.severity == Severity::Mistake).collect();
        let [mistake] = mistakes[..] else { panic!("{bucket}: {problems:?}") };
        assert_eq!(mistake.key, "buckets.quarantine");
        assert_eq!((mistake.line, mistake.column), place(QUARANTINE, bucket, "quarantine ="));
        assert!(mistake.message.contains(words) && mistake.message.contains("keep_source"), "{}", mistake.message);
    }
    for bucket in [
        "quarantine = { url = \"gs://q\", watch = true, accept_unpinned_delete = true }",
        "quarantine = { url = \"s3://q\", watch = true }",
        "quarantine = { url = \"s3://q\", watch = true, versions = true, conditional_delete = false }",
    ] {
        assert_eq!(with(QUARANTINE, bucket), [], "{bucket}");
    }
    // Nothing comes from where everything is moved to.
    assert_eq!(with("infected = \"./infected\"", "infected = \"gs://infected\""), []);
    // A copy deletes nothing.
    let copies = GOOD.replace("do = \"relocate\"", "do = \"relocate\"\nkeep_source = true");
    let copies = copies.replace(QUARANTINE, "quarantine = { url = \"gs://q\", watch = true }");
    assert_eq!(check(&copies).problems, []);
}

#[test]
fn definitions_may_be_named_by_an_address_of_this_machine() {
    let dir = folder();
    let here = dir.path().join("clean");
    let text = GOOD.replacen("definitions = \".\"", &format!("definitions = \"file://{}\"", here.display()), 1);
    let checked = Config::check(&text, dir.path(), &environment);
    assert_eq!(checked.problems, []);
    let said = checked.config.expect("no mistakes").explain().join("\n");
    assert!(said.contains(&format!("the definitions in {}", here.display())), "{said}");
    for (url, words) in [
        ("https://database.clamav.net", "have freshclam fetch the definitions"),
        ("s3://definitions", "have freshclam fetch the definitions"),
        ("file://host/definitions", "write file:///absolute/path"),
        ("file:///definitions?x", "with %3F for ?"),
    ] {
        let problems = with("definitions = \".\"", &format!("definitions = \"{url}\""));
        let [problem] = &problems[..] else { panic!("{url}: {problems:?}") };
        assert_eq!((problem.severity, problem.key.as_str()), (Severity::Mistake, "engine.clamav.definitions"));
        assert!(problem.message.contains(words), "{}", problem.message);
    }
    let problems = with("definitions = \".\"", "definitions = \"file:///there/is/none\"");
    assert!(problems[0].message.contains("does not exist (yet)"), "{problems:?}");
}
