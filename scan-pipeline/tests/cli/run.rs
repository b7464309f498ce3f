//! `run`: everything that has to follow happens, once, and the exit code says whether something is left.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use scan_pipeline_tests::marker::harmless;

use crate::scene::Scene;
use crate::{Said, folder, program, run};

#[test]
fn each_object_goes_where_its_verdict_sends_it_and_nothing_happens_twice() {
    let scene = Scene::new();
    let said = scene.run_once();
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    assert!(said.line("quarantine/letter.txt").starts_with("clean"));
    assert!(said.line("quarantine/letter.txt").ends_with("now clean/letter.txt"), "{}", said.out);
    assert!(
        said.line("quarantine/sub/eicar.com").contains("Eicar-Test-Signature.UNOFFICIAL; now infected/sub/eicar.com")
    );
    assert!(said.line("quarantine/secret.zip").contains("encrypted: a.txt (zip); left where it is"), "{}", said.out);
    assert!(said.out.contains("3 objects") && said.out.contains("1 clean, 1 infected, 1 unscannable"), "{}", said.out);
    let here = ["clean/letter.txt", "infected/sub/eicar.com", "quarantine/secret.zip"];
    assert!(here.iter().all(|name| scene.has(name)));
    assert!(!scene.has("quarantine/letter.txt") && !scene.has("quarantine/sub/eicar.com"));

    let again = scene.run_once();
    assert_eq!(again.code, 0, "{}", again.err);
    assert!(again.out.contains("0 objects") && again.out.contains("1 unchanged"), "{}", again.out);
    assert!(here.iter().all(|name| scene.has(name)));
}

#[test]
fn json_is_a_task_a_line_and_the_totals() {
    let scene = Scene::new();
    let said = scene.said(&["run", "--once", "--json", "-c", "config.toml"]);
    assert_eq!(said.code, 0, "{}", said.err);
    let mut objects = said.json();
    let totals = objects.pop().expect("totals");
    assert_eq!((&totals["schema"], &totals["totals"]["infected"]), (&"scan-pipeline.run/1".into(), &1.into()));
    assert_eq!(objects.len(), 3);
    for object in objects {
        assert_eq!(object["schema"], "scan-pipeline.task/1");
        assert_eq!(object["state"], "done");
        let infected = object["report"]["verdict"]["status"] == "infected";
        assert_eq!(object["object"]["key"] == "sub/eicar.com", infected, "{object}");
    }
}

#[test]
fn what_fails_for_good_is_said_and_changes_the_exit_code() {
    let scene = Scene::new();
    // What is there already is not ours to replace.
    std::fs::write(scene.path("clean/letter.txt"), "somebody else's").expect("written");
    scene.edit("to = \"clean\"", "to = \"clean\"\non_conflict = \"fail\"\nretry = { attempts = 1 }");
    let said = scene.run_once();
    assert_eq!(said.code, 1, "{}", said.out);
    assert!(said.line("quarantine/letter.txt").starts_with("ERROR"), "{}", said.out);
    assert!(said.out.contains("failed for good") && said.out.contains("1 failed"), "{}", said.out);
    assert!(scene.has("quarantine/letter.txt"));
    assert_eq!(std::fs::read(scene.path("clean/letter.txt")).expect("there"), b"somebody else's");
}

#[test]
fn what_waits_is_said_by_every_run_until_it_is_through() {
    let scene = Scene::new();
    // Nobody listens there, and the next attempt is far away.
    let notify = "[[workflow.isolate.steps]]\ndo = \"notify\"\nurl = \"http://127.0.0.1:1/\"\nallow_http = true\n\
                  allow_private_addresses = true\nretry = { initial = \"1h\", cap = \"1h\" }\n";
    scene.edit("[[workflow.hold.steps]]", &format!("{notify}[[workflow.hold.steps]]"));
    let said = scene.run_once();
    assert_eq!(said.code, 1, "{}", said.out);
    assert!(said.line("quarantine/sub/eicar.com").contains("will be tried again: http://127.0.0.1:1"), "{}", said.out);
    assert!(scene.has("infected/sub/eicar.com"), "what was done before stays done");
    let again = scene.run_once();
    assert_eq!(again.code, 1, "{}", again.out);
    assert!(again.out.contains("1 waiting"), "{}", again.out);
}

#[test]
fn without_once_new_files_are_found_until_a_signal_comes() {
    let scene = Scene::new();
    scene.edit("[store]", "[run]\ninterval = \"1s\"\n[store]");
    let mut command = scene.command(&["run", "--config", "config.toml"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines().map(|line| line.expect("text"));
    assert!(lines.next().expect("a line").starts_with("Watching quarantine"));
    for _ in 0..3 {
        lines.next().expect("a line for each object");
    }
    std::fs::write(scene.path("quarantine/late.txt"), harmless()).expect("written");
    assert!(lines.next().expect("a line").contains("now clean/late.txt"));
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::TERM).expect("sent");
    let last = lines.last().expect("a line");
    assert!(last.starts_with("4 objects"), "{last}");
    let said = Said::of(&child.wait_with_output().expect("ends"));
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.err.contains("stopping"), "{}", said.err);
}

#[test]
fn what_cannot_be_run_is_refused_before_anything_happens() {
    let refused = |scene: &Scene, words: &str| {
        let said = scene.run_once();
        assert_eq!(said.code, 2, "{}", said.out);
        assert!(said.out.is_empty() && said.err.contains(words), "{words}: {}", said.err);
        assert!(scene.has("quarantine/letter.txt"));
    };
    let scene = Scene::new();
    scene.edit("to = \"clean\"", "to = \"claen\"");
    scene.edit("threads = 2", "threads = 0");
    refused(&scene, "did you mean `clean`?");
    refused(&scene, "config.toml:4:11: mistake: engine.clamav.threads");

    let scene = Scene::new();
    scene.edit(", watch = true", "");
    refused(&scene, "no bucket is watched");

    let scene = Scene::new();
    scene.edit("${DEFINITIONS}", "./clean");
    refused(&scene, "clean");

    let scene = Scene::new();
    scene.edit("sqlite://state.db", "sqlite://config.toml");
    refused(&scene, "config.toml");

    let missing = run(program().args(["run", "--once", "--config", "missing.toml"]).current_dir(folder(&[]).path()));
    assert_eq!(missing.code, 2);
    assert!(missing.err.contains("missing.toml: the configuration file cannot be read"), "{}", missing.err);
    assert_eq!(run(program().args(["run", "--once"])).code, 2);
}

#[test]
fn keys_cannot_talk_to_the_terminal() {
    let scene = Scene::new();
    std::fs::write(scene.path("quarantine/evil\u{1b}]0;x\u{7}\n.txt"), harmless()).expect("written");
    let said = scene.run_once();
    let tasks = scene.said(&["tasks", "--store", "state.db"]);
    let audit = scene.said(&["audit", "list", "--store", "state.db"]);
    for text in [said.out, said.err, tasks.out, audit.out] {
        assert!(!text.chars().any(|c| c != '\n' && c.is_control()), "{text:?}");
    }
}
