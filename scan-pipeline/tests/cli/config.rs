//! `config check`: every mistake with its place in one run, and what a good file will do.

use crate::scene::Scene;

#[test]
fn a_good_file_is_explained() {
    let scene = Scene::new();
    let said = scene.said(&["config", "check", "config.toml"]);
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    for words in [
        "config.toml: no mistake, 0 warnings",
        "bucket quarantine: file://",
        "everything in it is scanned",
        "when it is clean: workflow release",
        "1. move the object to clean (file://",
        "when it is unscannable: workflow hold",
        "`run` looks at the watched buckets every 1m",
    ] {
        assert!(said.out.contains(words), "{words}: {}", said.out);
    }
    assert!(!scene.has("state.db"), "looking makes nothing");
}

#[test]
fn every_mistake_is_named_with_its_place() {
    let scene = Scene::new();
    scene.edit("threads = 2", "thraeds = 2");
    scene.edit("watch = true", "watch = \"yes\"");
    scene.edit("to = \"infected\"", "to = \"infectde\"");
    let said = scene.said(&["config", "check", "config.toml"]);
    assert_eq!(said.code, 2);
    for words in [
        "config.toml:4:1: mistake: engine.clamav.thraeds: there is no such key; did you mean `threads`?",
        "mistake: buckets.quarantine.watch: is a text, and should be true or false, without quotes",
        "mistake: workflow.isolate.steps[0].to: there is no bucket `infectde`; did you mean `infected`?",
        "config.toml: 3 mistakes",
    ] {
        assert!(said.out.contains(words), "{words}: {}", said.out);
    }
    let json = scene.said(&["config", "check", "--json", "config.toml"]);
    assert_eq!(json.code, 2);
    let problems = json.json();
    let mistakes: Vec<_> = problems.iter().filter(|problem| problem["severity"] == "mistake").collect();
    assert_eq!(mistakes.len(), 3, "{problems:?}");
    assert!(problems.iter().all(|problem| problem["schema"] == "scan-pipeline.problem/1"));
    assert_eq!((&mistakes[0]["line"], &mistakes[0]["column"]), (&4.into(), &1.into()));
}

#[test]
fn warnings_leave_the_exit_code_alone() {
    let scene = Scene::new();
    scene.edit("unscannable = \"hold\"\n", "");
    let said = scene.said(&["config", "check", "config.toml"]);
    assert_eq!(said.code, 0, "{}", said.out);
    let warning = "unscannable: no workflow; such objects are left where they are";
    assert!(said.out.contains(warning) && said.out.contains("2 warnings"), "{}", said.out);
}

#[test]
fn a_missing_variable_has_its_place_and_is_not_guessed() {
    let scene = Scene::new();
    let said = crate::run(scene.command(&["config", "check", "config.toml"]).env_remove("DEFINITIONS"));
    assert_eq!(said.code, 2);
    let words = "config.toml:3:16: mistake: engine.clamav.definitions: the environment variable DEFINITIONS is not set";
    assert!(said.out.contains(words), "{}", said.out);
}

#[test]
fn what_is_no_configuration_file_is_said() {
    let scene = Scene::new();
    std::fs::write(scene.path("bytes.toml"), [0xff, 0xfe]).expect("written");
    std::fs::write(scene.path("text.toml"), "this is not TOML\n").expect("written");
    for (name, words) in [
        ("missing.toml", "cannot be read"),
        ("clean", "is a folder"),
        ("bytes.toml", "is not UTF-8"),
        ("text.toml", "this is no TOML"),
    ] {
        let said = scene.said(&["config", "check", name]);
        assert_eq!(said.code, 2, "{name}");
        assert!(said.out.contains(words) || said.err.contains(words), "{name}: {}{}", said.out, said.err);
    }
    assert_eq!(scene.said(&["config", "check"]).code, 2);
    assert_eq!(scene.said(&["config"]).code, 2);
}
