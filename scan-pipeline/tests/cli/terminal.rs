//! What is shown while something takes its time: on a terminal a bar, and nowhere else anything.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use scan_pipeline::queue::{NewMessage, Queue, Settle, SqliteQueue};

use crate::scene::Scene;
use crate::work::with_queue;

/// Runs its arguments on a terminal, and copies what is shown there.
const TERMINAL: &str = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";

fn on_a_terminal(scene: &Scene, arguments: &[&str]) -> Child {
    let plain = scene.command(arguments);
    let mut command = Command::new("python3");
    command.args(["-c", TERMINAL]).arg(plain.get_program()).args(plain.get_args());
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.env("TERM", "xterm").current_dir(plain.get_current_dir().expect("the scene's"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("python3 runs")
}

/// What is shown up to its end, or up to some words.
fn shown(child: &mut Child, until: Option<&str>) -> String {
    let (mut text, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let count = child.stdout.as_mut().expect("a pipe").read(&mut part).expect("reads");
        text.extend_from_slice(&part[..count]);
        let so_far = String::from_utf8_lossy(&text).into_owned();
        if count == 0 || until.is_some_and(|words| so_far.contains(words)) {
            return so_far;
        }
    }
}

#[test]
fn how_far_a_job_is_is_shown_on_a_terminal_only() {
    let scene = with_queue();
    let mut child = on_a_terminal(&scene, &["jobs", "start", "quarantine", "--follow", "-c", "config.toml"]);
    // Nobody works on it yet.
    let first = shown(&mut child, Some("and more to list"));
    assert!(first.contains("and more to list") && first.contains("0/0"), "{first:?}");
    let worked = scene.said(&["work", "--until-empty", "-c", "config.toml"]);
    assert_eq!((worked.code, worked.err.as_str()), (0, ""), "no bar without a terminal");
    let rest = shown(&mut child, None);
    assert!(rest.contains("\u{1b}[") && rest.contains("done"), "the bar is cleared, and the job is shown: {rest:?}");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    let id = scene.said(&["jobs", "list", "-c", "config.toml", "--json"]).json()[0]["id"].to_string();
    let followed = scene.said(&["jobs", "show", id.trim_matches('"'), "--follow", "-c", "config.toml"]);
    assert_eq!((followed.code, followed.err.as_str()), (0, ""));
    assert!(!followed.out.contains('\u{1b}'), "{:?}", followed.out);
}

/// As a worker that gives them up.
fn dead(scene: &Scene, count: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let queue = SqliteQueue::open(scene.path("queue.db")).await.expect("a queue");
        let messages: Vec<_> = (0..count).map(|number| NewMessage::new(format!("no event {number}"))).collect();
        queue.enqueue(&messages).await.expect("enqueued");
        let leased = queue.lease(count, Duration::from_secs(60), Duration::ZERO).await.expect("leased");
        let dead: Vec<_> =
            leased.into_iter().map(|one| (one.receipt, Settle::Dead { reason: String::from("a test") })).collect();
        assert_eq!(queue.settle(&dead).await.expect("settled").len(), count);
        queue.close().await.expect("closed");
    });
}

#[test]
fn how_many_dead_letters_are_put_back_is_shown_on_a_terminal_only() {
    let scene = with_queue();
    dead(&scene, 2);
    let redrive = ["dead-letters", "redrive", "--all", "--rate", "1", "-c", "config.toml"];
    let mut child = on_a_terminal(&scene, &redrive);
    let all = shown(&mut child, None);
    assert!(all.contains("1/2"), "{all:?}");
    assert!(all.ends_with("2 messages put back into the queue\r\n"), "{all:?}");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    dead(&scene, 4);
    let said = scene.said(&["dead-letters", "purge", "--all", "-c", "config.toml"]);
    assert_eq!((said.out.as_str(), said.err.as_str()), ("4 messages removed for good\n", ""));
}
