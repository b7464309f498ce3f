//! `tasks`: the list, one with its tree, and another try.

use crate::scene::Scene;

#[test]
fn tasks_are_listed_by_state() {
    let scene = Scene::new();
    scene.run_once();
    let said = scene.said(&["tasks", "--store", "state.db"]);
    assert_eq!((said.code, said.out.lines().count()), (0, 3), "{}", said.out);
    let line = said.out.lines().find(|line| line.contains("eicar.com")).expect("a line");
    assert!(line.contains("done") && line.contains("infected"), "{line}");
    assert_eq!(scene.said(&["tasks", "--config", "config.toml", "--state", "dead,pending"]).out, "");
    assert_eq!(scene.said(&["tasks", "--store", "state.db", "--state", "done", "--json"]).json().len(), 3);
}

#[test]
fn one_task_is_shown_with_the_tree_of_its_steps() {
    let scene = Scene::new();
    scene.run_once();
    let id = scene.task("sub/eicar.com");
    for from in [["--store", "state.db"], ["--config", "config.toml"]] {
        let said = scene.said(&["tasks", "show", &id[..12], from[0], from[1]]);
        assert_eq!(said.code, 0, "{}", said.err);
        for words in [
            &*format!("task      {id}"),
            "verdict   infected: Eicar-Test-Signature.UNOFFICIAL",
            "infected/sub/eicar.com",
            "isolate\n└─ relocate: done",
        ] {
            assert!(said.out.contains(words), "{words}: {}", said.out);
        }
    }
    let json = scene.said(&["tasks", "show", &id, "--store", "state.db", "--json"]).json();
    assert_eq!(json[0]["steps"][0]["step"], "relocate");
}

#[test]
fn what_failed_for_good_is_tried_again_after_its_cause_is_gone() {
    let scene = Scene::new();
    std::fs::write(scene.path("clean/letter.txt"), "somebody else's").expect("written");
    scene.edit("to = \"clean\"", "to = \"clean\"\non_conflict = \"fail\"\nretry = { attempts = 1 }");
    assert_eq!(scene.run_once().code, 1);
    let id = scene.task("letter.txt");
    let retry = || scene.said(&["tasks", "retry", &id, "--config", "config.toml"]);
    let dead = scene.said(&["tasks", "--store", "state.db", "--state", "dead"]);
    assert!(dead.out.starts_with(&id[..12]) && dead.out.lines().count() == 1, "{}", dead.out);
    assert_eq!(retry().code, 1, "the cause is still there");
    std::fs::remove_file(scene.path("clean/letter.txt")).expect("removed");
    let said = retry();
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    assert!(said.out.contains("now clean/letter.txt") && scene.has("clean/letter.txt"), "{}", said.out);
}

#[test]
fn wrong_arguments_say_what_to_do() {
    let scene = Scene::new();
    scene.run_once();
    let done = scene.task("letter.txt");
    for (arguments, words) in [
        (&["tasks"][..], "--store"),
        (&["tasks", "--store", "missing.db"], "there is no store"),
        (&["tasks", "--store", "clean"], "is no file"),
        (&["tasks", "--store", "config.toml"], "config.toml"),
        (&["tasks", "--store", "mysql://x"], "no store of the kind mysql"),
        (&["tasks", "--store", "state.db", "--config", "config.toml"], "cannot be used with"),
        (&["tasks", "--store", "state.db", "--state", "finished"], "the states are pending"),
        (&["tasks", "show", "0123456789ab", "--store", "state.db"], "no task whose id begins so"),
        (&["tasks", "show", "xyz", "--store", "state.db"], "64 hexadecimal digits"),
        (&["tasks", "show", "--store", "state.db"], "<ID>"),
        (&["tasks", "retry", &done, "--store", "state.db"], "--config instead of --store"),
        (&["tasks", "retry", &done, "--config", "config.toml"], "is done and not dead"),
        (&["tasks", "retry", &"0".repeat(64), "--config", "config.toml"], "there is no such task"),
    ] {
        let said = scene.said(arguments);
        assert_eq!(said.code, 2, "{arguments:?}: {}", said.out);
        assert!(said.err.contains(words), "{arguments:?}: {}", said.err);
    }
    assert!(!scene.has("missing.db"), "looking makes nothing");
}

#[test]
fn a_retry_goes_on_behind_what_is_done() {
    let scene = Scene::new();
    std::fs::write(scene.path("infected/letter.txt"), "somebody else's").expect("written");
    let further = "to = \"clean\"\n[[workflow.release.steps]]\ndo = \"relocate\"\nname = \"further\"\nto = \"infected\"\n\
                   on_conflict = \"fail\"\nretry = { attempts = 1 }";
    scene.edit("to = \"clean\"", further);
    assert_eq!(scene.run_once().code, 1);
    let id = scene.task("letter.txt");
    assert!(scene.has("clean/letter.txt") && !scene.has("quarantine/letter.txt"));
    let retry = || scene.said(&["tasks", "retry", &id, "--config", "config.toml"]);
    assert_eq!(retry().code, 1, "the cause is still there");
    assert!(scene.has("clean/letter.txt"));
    std::fs::remove_file(scene.path("infected/letter.txt")).expect("removed");
    let said = retry();
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    assert!(scene.has("infected/letter.txt") && !scene.has("clean/letter.txt"), "{}", said.out);
    assert_eq!(scene.task("letter.txt"), id, "it is the same task");
    let verified = scene.said(&["audit", "verify", "--store", "state.db"]);
    assert_eq!(verified.code, 0, "{}{}", verified.out, verified.err);
}
