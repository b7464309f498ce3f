//! `audit`: what happened, and whether somebody changed the record of it.

use crate::scene::Scene;

#[test]
fn entries_are_listed_in_their_order_and_by_task() {
    let scene = Scene::new();
    scene.run_once();
    let all = scene.said(&["audit", "list", "--store", "state.db", "--json"]).json();
    assert!(all.len() >= 9, "{all:?}");
    for (index, entry) in all.iter().enumerate() {
        assert_eq!(entry["seq"], index + 1);
        assert_eq!(entry["schema"], "scan-pipeline.audit/1");
    }
    let task = scene.task("sub/eicar.com");
    let ours = scene.said(&["audit", "list", "--config", "config.toml", "--task", &task[..16]]);
    assert_eq!(ours.code, 0, "{}", ours.err);
    for kind in ["scanned", "step.done", "task.done"] {
        assert!(ours.out.contains(kind), "{kind}: {}", ours.out);
    }
    assert!(ours.out.lines().all(|line| line.contains(&task[..12])), "{}", ours.out);
    let count = ours.out.lines().count();
    let behind = scene.said(&["audit", "list", "--store", "state.db", "--after", "2"]);
    assert_eq!(behind.out.lines().count(), all.len() - 2);
    assert!(count < all.len());
}

#[test]
fn a_whole_log_gives_its_head_and_keeps_to_one_that_was_noted() {
    let scene = Scene::new();
    scene.run_once();
    let said = scene.said(&["audit", "verify", "--store", "state.db"]);
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    assert!(said.out.starts_with("The audit log is whole: "), "{}", said.out);
    let head = said.out.lines().nth(1).expect("the head").to_owned();

    std::fs::write(scene.path("quarantine/more.txt"), "Dear Sir or Madam").expect("written");
    scene.run_once();
    let with = |head: &str| scene.said(&["audit", "verify", "--store", "state.db", "--head", head, "--json"]);
    let grown = with(&head);
    assert_eq!(grown.code, 0, "{}", grown.out);
    assert_eq!(grown.json()[0]["whole"], true);
    assert_ne!(grown.json()[0]["head"], head.as_str());

    let (seq, hash) = head.split_once(':').expect("a colon");
    for other in [format!("999:{hash}"), format!("1:{hash}"), format!("{seq}:{}", "0".repeat(64))] {
        let said = with(&other);
        assert_eq!(said.code, 1, "{other}: {}", said.out);
        assert_eq!(said.json()[0]["whole"], false);
    }
}

#[test]
fn a_log_that_was_changed_is_not_whole() {
    let scene = Scene::new();
    scene.run_once();
    let head = scene.said(&["audit", "verify", "--store", "state.db"]).out.lines().nth(1).expect("a head").to_owned();
    // Somebody puts back an older copy.
    let other = Scene::new();
    other.run_once();
    for ending in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(scene.path(&format!("state.db{ending}")));
    }
    std::fs::copy(other.path("state.db"), scene.path("state.db")).expect("copied");
    let said = scene.said(&["audit", "verify", "--store", "state.db", "--head", &head]);
    assert_eq!(said.code, 1, "{}", said.out);
    assert!(said.out.contains("The audit log is NOT whole"), "{}", said.out);
}

#[test]
fn wrong_arguments_say_what_to_do() {
    let scene = Scene::new();
    scene.run_once();
    for (arguments, words) in [
        (&["audit", "verify"][..], "--store"),
        (&["audit", "verify", "--store", "missing.db"], "there is no store"),
        (&["audit", "verify", "--store", "config.toml"], "config.toml"),
        (&["audit", "verify", "--store", "state.db", "--head", "7"], "its number, a colon"),
        (&["audit", "verify", "--store", "state.db", "--head", "x:00"], "its number, a colon"),
        (&["audit", "list", "--config", "missing.toml"], "cannot be read"),
        (&["audit", "list", "--store", "state.db", "--after", "-1"], "'-1'"),
        (&["audit", "list", "--store", "state.db", "--task", "zz"], "64 hexadecimal digits"),
    ] {
        let said = scene.said(arguments);
        assert_eq!(said.code, 2, "{arguments:?}: {}", said.out);
        assert!(said.err.contains(words), "{arguments:?}: {}", said.err);
    }
}
