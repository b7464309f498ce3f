//! `work`, `jobs` and `dead-letters`: what a worker is told to do, and what becomes of what it cannot do.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use scan_pipeline::queue::{NewMessage, Queue, SqliteQueue};

use crate::scene::Scene;

pub(crate) fn with_queue() -> Scene {
    let scene = Scene::new();
    scene.edit("[buckets]", "[queue]\nurl = \"sqlite://queue.db\"\n[worker]\nresume = \"1s\"\n[buckets]");
    scene
}

/// As somebody who sends events does.
fn ring(scene: &Scene, bodies: &[&str]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let queue = SqliteQueue::open(scene.path("queue.db")).await.expect("a queue");
        let messages: Vec<_> = bodies.iter().map(|body| NewMessage::new((*body).to_owned())).collect();
        for answer in queue.enqueue(&messages).await.expect("enqueued") {
            answer.expect("enqueued");
        }
        queue.close().await.expect("closed");
    });
}

fn event(scene: &Scene, key: &str) -> String {
    format!(r#"{{"bucket": "file://{}", "key": "{key}"}}"#, scene.path("quarantine").display())
}

#[test]
fn a_job_takes_each_object_where_its_verdict_sends_it() {
    let scene = with_queue();
    let said = scene.said(&["jobs", "start", "quarantine", "-c", "config.toml", "--json"]);
    assert_eq!(said.code, 0, "{}", said.err);
    let job = said.json().remove(0);
    assert_eq!((&job["schema"], &job["state"]), (&"scan-pipeline.job/1".into(), &"running".into()));
    let id = job["id"].as_str().expect("an id").to_owned();

    let said = scene.said(&["work", "--until-empty", "--json", "-c", "config.toml"]);
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    let here = ["clean/letter.txt", "infected/sub/eicar.com", "quarantine/secret.zip"];
    assert!(here.iter().all(|name| scene.has(name)), "{}", said.err);
    assert!(!scene.has("quarantine/letter.txt"));

    let said = scene.said(&["jobs", "show", &id, "-c", "config.toml"]);
    assert_eq!(said.code, 0, "{}", said.err);
    for line in ["state       done", "dealt with  3 objects", "  clean     1", "  infected  1", "  unscannable1"] {
        let squeezed = said.out.replace(' ', "");
        assert!(squeezed.contains(&line.replace(' ', "")), "{line}: {}", said.out);
    }
    let said = scene.said(&["jobs", "list", "-c", "config.toml"]);
    assert!(said.out.starts_with(&id) && said.out.contains("done"), "{}", said.out);
    let said = scene.said(&["jobs", "cancel", &id, "-c", "config.toml"]);
    assert_eq!(said.code, 2);
    assert!(said.err.contains("is done, so there is nothing to cancel"), "{}", said.err);
    assert_eq!(scene.said(&["audit", "verify", "-c", "config.toml"]).code, 0);
}

#[test]
fn what_fails_for_good_is_kept_shown_and_put_back() {
    let scene = with_queue();
    ring(&scene, &["this is no event", &event(&scene, "letter.txt")]);
    let said = scene.said(&["work", "--until-empty", "-c", "config.toml"]);
    assert_eq!(said.code, 1, "{}", said.out);
    assert!(said.out.contains("1 dead") && said.out.contains("dead-letters list"), "{}", said.out);
    assert!(scene.has("clean/letter.txt"));

    let said = scene.said(&["dead-letters", "list", "-c", "config.toml", "--json"]);
    let letter = said.json().remove(0);
    assert_eq!(
        (&letter["schema"], &letter["body"]),
        (&"scan-pipeline.dead-letter/1".into(), &"this is no event".into())
    );
    let id = letter["id"].as_str().expect("an id");
    let shown = scene.said(&["dead-letters", "show", id, "-c", "config.toml"]);
    assert!(shown.out.contains("this is no event"), "{}", shown.out);
    let which = scene.said(&["dead-letters", "purge", "-c", "config.toml"]);
    assert_eq!(which.code, 2, "that all are meant has to be said");
    assert!(which.err.contains("--all"), "{}", which.err);

    let said = scene.said(&["dead-letters", "redrive", "--all", "-c", "config.toml"]);
    assert!(said.code == 0 && said.out.contains("1 message put back"), "{}", said.out);
    assert_eq!(scene.said(&["dead-letters", "list", "-c", "config.toml"]).out, "");
    assert_eq!(scene.said(&["work", "--until-empty", "-c", "config.toml"]).code, 1, "it is no event still");
    let said = scene.said(&["dead-letters", "purge", "--reason", "JSON", "-c", "config.toml"]);
    let said = if said.code == 0 { said } else { scene.said(&["dead-letters", "purge", "--all", "-c", "config.toml"]) };
    assert!(said.out.contains("1 message removed for good"), "{}", said.out);
    assert_eq!(scene.said(&["dead-letters", "purge", "--all", "-c", "config.toml"]).code, 1, "none is left");
}

#[test]
fn a_worker_says_whether_it_is_ready_and_stops_in_order() {
    let scene = with_queue();
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
    let address = format!("127.0.0.1:{port}");
    let mut command = scene.command(&["work", "-c", "config.toml", "--health", &address]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines().map(|line| line.expect("text"));
    assert_eq!(lines.next().expect("a line"), "Working. Ctrl-C ends it.");
    let get = |path: &str| {
        let mut stream = TcpStream::connect(&address).expect("connects");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    };
    assert!(get("/livez").starts_with("HTTP/1.1 200"));
    let ready = get("/readyz");
    assert!(ready.starts_with("HTTP/1.1 200") && ready.contains("\"dependencies\""), "{ready}");
    assert!(get("/else").starts_with("HTTP/1.1 404"));
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::TERM).expect("sent");
    assert!(lines.next().expect("a line").contains("0 messages done"));
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn what_is_missing_is_said() {
    let scene = Scene::new();
    for arguments in [&["work"][..], &["jobs", "list"], &["dead-letters", "list"], &["jobs", "start", "quarantine"]] {
        let said = scene.said(&[arguments, &["-c", "config.toml"]].concat());
        assert_eq!(said.code, 2, "{arguments:?}");
        assert!(said.err.contains("config.toml: no queue is set up: write [queue]"), "{}", said.err);
    }
    let scene = with_queue();
    for (arguments, why) in [
        (&["jobs", "start", "elsewhere"][..], "is in none of the buckets"),
        (&["jobs", "start", "quarantine", "--shards", "0"], "1 to 1,000 shards"),
        (&["jobs", "show", "0123456789abcdef0123456789ab"], "there is no such job"),
        (&["jobs", "show", "nonsense"], "28 hexadecimal digits"),
        (&["jobs", "start", "quarantine", "--rescan", "maybe"], "never, outdated, always"),
        (&["dead-letters", "show", "4711"], "no such dead letter"),
    ] {
        let said = scene.said(&[arguments, &["-c", "config.toml"]].concat());
        assert_eq!(said.code, 2, "{arguments:?}");
        assert!(said.err.contains(why), "{arguments:?}: {}", said.err);
    }
    scene.edit("sqlite://queue.db", "redis://queue");
    let said = scene.said(&["config", "check", "config.toml"]);
    assert!(said.code == 2 && said.out.contains("there is no queue of the kind redis"), "{}{}", said.out, said.err);
    // One file cannot be both.
    scene.edit("redis://queue", "sqlite://state.db");
    scene.run_once();
    let said = scene.said(&["work", "--until-empty", "-c", "config.toml"]);
    assert_eq!(said.code, 2);
    assert!(said.err.contains("state.db"), "{}", said.err);
}
