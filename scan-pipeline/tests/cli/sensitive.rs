//! Sensitive data: what is found, what is shown of it, what follows, and that nothing of it leaks.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use scan_pipeline_tests::marker::{eicar, harmless};
use scan_pipeline_tests::personal::{Letter, card, ssn};
use scan_pipeline_tests::zip::encrypted::zipcrypto;
use scan_pipeline_tests::{office, zip};
use serde_json::Value;

use crate::scene::Scene;
use crate::{Said, folder, program, run, scan};

/// Detectors and layers of one report.
fn places(report: &Value) -> Vec<(&str, &str)> {
    let findings = report["findings"].as_array().expect("a list");
    findings
        .iter()
        .map(|one| (one["detector"].as_str().expect("a name"), one["layer_path"].as_str().expect("a path")))
        .collect()
}

fn detect_only(args: &[&str], files: &[(&str, &[u8])]) -> Said {
    let dir = folder(files);
    // Not even definitions are there.
    run(program()
        .args(["scan", "--detect-only"])
        .args(args)
        .arg(".")
        .current_dir(dir.path())
        .env("SCAN_PIPELINE_DEFINITIONS", "/missing"))
}

#[test]
fn nothing_is_called_clean_where_nobody_looked_for_malware() {
    let dir = folder(&[]);
    let said = run(program().args(["scan", "--detect-only", "missing.txt"]).current_dir(dir.path()));
    assert_eq!(said.code, 2, "{}", said.err);
    assert!(said.out.contains("1 error") && !said.out.contains("clean"), "{}", said.out);
}

#[test]
fn findings_in_a_zip_and_in_a_document_are_shown_masked() {
    let letter = Letter::new(11);
    let split = office::docx_split_runs(&format!("SSN: {} credit card {}", ssn(12), card(12)));
    let dir = folder(&[
        ("letters.zip", &zip::plain(&[("a/letter.txt", letter.text.as_bytes())])),
        ("split.docx", &split),
        ("plain.txt", &harmless()),
    ]);
    let said =
        run(scan().args(["--detect", "ssn,credit_card,aws_access_key,email", "--json", "."]).current_dir(dir.path()));
    assert_eq!(said.code, 3, "{}", said.err);
    let reports = said.json();
    let of = |path: &str| reports.iter().find(|report| report["path"] == path).expect("a report");
    for report in &reports {
        assert_eq!(
            (&report["verdict"]["status"], &report["findings_omitted"]),
            (&"clean".into(), &0.into()),
            "{report}"
        );
    }
    let zipped = places(of("./letters.zip"));
    for detector in ["ssn", "credit_card", "aws_access_key", "email"] {
        assert!(zipped.contains(&(detector, "letters.zip/a/letter.txt")), "{detector}: {zipped:?}");
    }
    let in_runs = places(of("./split.docx"));
    for detector in ["ssn", "credit_card"] {
        assert!(in_runs.contains(&(detector, "split.docx/word/document.xml")), "{detector}: {in_runs:?}");
    }
    assert!(places(of("./plain.txt")).is_empty());
    let finding = &of("./letters.zip")["findings"][0];
    for field in
        ["detector", "masked_match", "context", "layer_path", "byte_offset", "confidence", "tags", "fingerprint"]
    {
        assert!(!finding[field].is_null(), "{field}: {finding}");
    }
    let table = run(scan().args(["--detect", "first_tier", "--verbose", "."]).current_dir(dir.path()));
    assert_eq!(table.code, 3);
    assert!(table.line("./letters.zip").starts_with("SENSITIVE"), "{}", table.out);
    assert!(table.out.contains("ssn ") && table.out.contains(" in a/letter.txt ("), "{}", table.out);
    assert!(table.line("./plain.txt").starts_with("clean"), "{}", table.out);
    assert!(table.out.contains("3 clean, 2 with sensitive data"), "{}", table.out);
    for text in [said.out, said.err, table.out, table.err] {
        assert!(letter.leaks(text.as_bytes()).is_empty(), "{:?}", letter.leaks(text.as_bytes()));
        assert!(!text.contains(&ssn(12)) && !text.contains(&card(12)));
    }
}

#[test]
fn without_detect_nothing_is_looked_for() {
    let dir = folder(&[("letter.txt", Letter::new(1).text.as_bytes())]);
    let said = run(scan().args(["--json", "."]).current_dir(dir.path()));
    assert_eq!((said.code, said.json()[0]["findings"].as_array().map(Vec::len)), (0, Some(0)));
}

#[test]
fn the_exit_code_says_the_worst() {
    let letter = Letter::new(2);
    let locked = zipcrypto(&[("a.txt", &harmless())]);
    let dir =
        folder(&[("a.txt", letter.text.as_bytes()), ("b.com", &eicar()), ("c.zip", &locked), ("d.txt", &harmless())]);
    let code = |args: &[&str]| run(scan().args(["--detect", "all"]).args(args).current_dir(dir.path())).code;
    assert_eq!(code(&["d.txt"]), 0);
    assert_eq!(code(&["a.txt", "d.txt"]), 3);
    assert_eq!(code(&["a.txt", "c.zip"]), 2);
    assert_eq!(code(&["a.txt", "missing"]), 2);
    assert_eq!(code(&["--allow-unscannable", "a.txt", "c.zip"]), 3);
    assert_eq!(code(&["a.txt", "b.com", "c.zip"]), 1);
    assert_eq!(code(&["--min-confidence", "1", "d.txt"]), 0);
}

#[test]
fn detect_only_needs_no_definitions_and_calls_nothing_clean() {
    let letter = Letter::new(3);
    let zipped = zip::plain(&[("a.txt", letter.text.as_bytes())]);
    let files: [(&str, &[u8]); 4] =
        [("a.txt", letter.text.as_bytes()), ("b.txt", &harmless()), ("c.com", &eicar()), ("d.zip", &zipped)];
    let table = detect_only(&["--verbose"], &files);
    assert_eq!(table.code, 2, "the zip was not unpacked: {}", table.err);
    assert!(table.line("./a.txt").starts_with("SENSITIVE"), "{}", table.out);
    assert!(table.out.contains("no findings  ./b.txt") && table.out.contains("no findings  ./c.com"), "{}", table.out);
    assert!(table.out.contains("NOT UNPACKED ./d.zip"), "{}", table.out);
    assert!(table.out.contains("4 files") && table.out.contains("Nobody looked for malware"), "{}", table.out);
    let json = detect_only(&["--json", "--detect", "ssn"], &files);
    for (report, path) in json.json().iter().zip(["./a.txt", "./b.txt", "./c.com", "./d.zip"]) {
        assert_eq!((&report["path"], &report["verdict"]["status"]), (&path.into(), &"unscannable".into()));
        assert_eq!(report["verdict"]["reasons"][0]["kind"], "no_malware_scan");
        let expected: &[(&str, &str)] = if path == "./a.txt" { &[("ssn", "a.txt")] } else { &[] };
        assert_eq!(places(report), expected);
        assert!(report["sha256"].is_string());
    }
    for text in [&table.out, &table.err, &json.out, &json.err] {
        assert!(!text.to_lowercase().contains("clean"), "{text}");
        assert!(letter.leaks(text.as_bytes()).is_empty());
    }
    assert_eq!(detect_only(&[], &files[1..3]).code, 0);
    assert_eq!(detect_only(&[], &files[..2]).code, 3);
    assert_eq!(detect_only(&["--allow-unscannable"], &files[3..]).code, 0);
}

/// What is looked at takes the same memory, however long it is.
#[test]
fn detect_only_streams() {
    let mut command = program();
    command.args(["scan", "--detect-only", "--detect", "all", "--json", "-"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    let mut stdin = child.stdin.take().expect("piped");
    let piece = "Nothing of interest is said in this line, 12 times over, and again.\n".repeat(16 << 10);
    let pieces = 200;
    for _ in 0..pieces {
        stdin.write_all(piece.as_bytes()).expect("read");
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).expect("it is there");
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its most memory");
    let most: usize = most.trim().trim_end_matches(" kB").parse().expect("a number");
    let last = format!("SSN: {}\n", ssn(77));
    stdin.write_all(last.as_bytes()).expect("read");
    drop(stdin);
    let said = Said::of(&child.wait_with_output().expect("ends"));
    let report = &said.json()[0];
    assert_eq!((said.code, places(report)), (3, vec![("ssn", "stdin")]), "{}", said.err);
    assert_eq!(report["findings"][0]["byte_offset"], piece.len() * pieces + 5);
    assert_eq!(report["size"], piece.len() * pieces + last.len());
    assert!(most < 100 << 10, "{most} KiB for {} bytes", piece.len() * pieces);
}

#[test]
fn wrong_options_are_explained() {
    let dir = folder(&[("a.txt", b"a")]);
    for (args, words) in [
        (&["--detect", "snn"][..], "there are all, first_tier, ssn"),
        (&["--detect", "ssn", "--min-confidence", "2"], "a number from 0 to 1"),
        (&["--min-confidence", "0.5"], "says nothing without --detect"),
        (&["--detect-only", "--max-file", "1M"], "cannot be used with"),
    ] {
        let said = run(scan_without_definitions().args(args).arg("a.txt").current_dir(dir.path()));
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{args:?}");
        assert!(said.err.contains(words), "{words}: {}", said.err);
    }
    let key = "hunter2hunter2";
    let mut command = scan_without_definitions();
    command.args(["--detect-only", "a.txt"]).current_dir(dir.path()).env("SCAN_PIPELINE_FINGERPRINT_KEY", key);
    let said = run(&mut command);
    assert!(said.code == 2 && said.err.contains("64 hexadecimal digits") && !said.err.contains(key), "{}", said.err);
}

fn scan_without_definitions() -> std::process::Command {
    let mut command = program();
    command.arg("scan");
    command
}

#[test]
fn fingerprints_are_the_same_with_the_same_key_only() {
    let dir = folder(&[
        ("a.txt", format!("SSN: {}", ssn(5)).as_bytes()),
        ("b.txt", format!("see SSN: {}", ssn(5)).as_bytes()),
    ]);
    let prints = |key: Option<&str>| {
        let mut command = program();
        command.args(["scan", "--detect-only", "--detect", "ssn", "--json", "."]).current_dir(dir.path());
        if let Some(key) = key {
            command.env("SCAN_PIPELINE_FINGERPRINT_KEY", key);
        }
        let reports = run(&mut command).json();
        reports.iter().map(|report| report["findings"][0]["fingerprint"].clone()).collect::<Vec<_>>()
    };
    let (one, other) = ("07".repeat(32), "08".repeat(32));
    let first = prints(Some(&one));
    assert!(first[0] == first[1] && first[0].is_string(), "{first:?}");
    assert_eq!(prints(Some(&one)), first);
    assert_ne!(prints(Some(&other)), first);
    assert_ne!(prints(None), prints(None), "each process has a key of its own");
}

/// Takes whatever is posted, and keeps it.
struct Receiver {
    port: u16,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Receiver {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&seen);
        std::thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                if let Some(request) = take(connection) {
                    kept.lock().expect("no panic").push(request);
                }
            }
        });
        Self { port, seen }
    }
}

/// One request with its body.
fn take(mut connection: TcpStream) -> Option<Vec<u8>> {
    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let length = connection.read(&mut buffer).ok()?;
        request.extend_from_slice(&buffer[..length]);
        let text = String::from_utf8_lossy(&request).to_lowercase();
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            let announced =
                head.lines().find_map(|line| line.strip_prefix("content-length: "))?.parse::<usize>().ok()?;
            if request.len() >= head.len() + 4 + announced {
                break;
            }
        }
        if length == 0 {
            return None;
        }
    }
    connection.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").ok()?;
    Some(request)
}

/// A scene in which findings are looked for and have a workflow of their own, with a webhook and a mail's worth of words.
fn scene(receiver: &Receiver, letter: &Letter) -> Scene {
    let scene = Scene::new();
    scene.edit(
        "[engine.clamav]",
        "[engine]\ndetect = \"all\"\nfingerprint_key = \"${FINGERPRINT_KEY}\"\n[engine.clamav]",
    );
    scene.edit("[[workflow.release.steps]]", "[[policy.findings]]\nworkflow = \"review\"\n[[workflow.release.steps]]");
    let review = format!(
        "[[workflow.review.steps]]\ndo = \"tag\"\n[[workflow.review.steps]]\ndo = \"record\"\n\
         [[workflow.review.steps]]\ndo = \"record\"\nname = \"kept\"\nto = \"infected\"\nprefix = \"records/\"\n\
         [[workflow.review.steps]]\ndo = \"notify\"\nurl = \"http://127.0.0.1:{}/\"\nallow_http = true\n\
         allow_private_addresses = true\n[[workflow.hold.steps]]",
        receiver.port
    );
    scene.edit("[[workflow.hold.steps]]", &review);
    std::fs::write(scene.path("quarantine/letter.zip"), zip::plain(&[("a.txt", letter.text.as_bytes())]))
        .expect("written");
    std::fs::write(scene.path("quarantine/evil.zip"), {
        zip::plain(&[("a.com", &eicar()), ("b.txt", letter.text.as_bytes())])
    })
    .expect("written");
    scene
}

#[test]
fn findings_have_their_workflow_and_nothing_leaks_anywhere() {
    let (receiver, letter) = (Receiver::start(), Letter::new(21));
    let scene = scene(&receiver, &letter);
    let key = "5a".repeat(32);
    let said = |args: &[&str]| {
        let mut command = scene.command(args);
        run(command.env("FINGERPRINT_KEY", &key).env("SCAN_PIPELINE_LOG", "trace"))
    };
    let first = said(&["run", "--once", "--config", "config.toml"]);
    assert_eq!(first.code, 0, "{}{}", first.out, first.err);
    assert!(first.line("quarantine/letter.zip").starts_with("SENSITIVE"), "{}", first.out);
    assert!(first.line("quarantine/evil.zip").starts_with("INFECTED"), "{}", first.out);
    assert!(first.out.contains("2 clean, 2 infected, 1 unscannable, 2 with sensitive data"), "{}", first.out);
    assert!(scene.has("clean/letter.txt") && scene.has("infected/evil.zip"), "the other workflows are as before");
    assert!(scene.has("quarantine/letter.zip"), "its workflow leaves it there");

    let list = said(&["tasks", "--store", "state.db"]);
    let line = list.out.lines().find(|line| line.contains("/letter.zip")).expect("a line");
    assert!(line.contains(" findings]"), "{line}");
    let id = scene.task("letter.zip");
    let show = said(&["tasks", "show", &id, "--config", "config.toml"]);
    assert!(show.out.contains("findings  ") && show.out.contains("review"), "{}", show.out);
    let json = said(&["tasks", "show", &id, "--store", "state.db", "--json"]);
    let report = &json.json()[0]["report"];
    assert!(places(report).contains(&("ssn", "letter.zip/a.txt")), "{report}");
    let audit = said(&["audit", "list", "--store", "state.db"]);
    let verified = said(&["audit", "verify", "--store", "state.db"]);
    assert_eq!(verified.code, 0, "{}", verified.out);

    let bodies = receiver.seen.lock().expect("no panic").clone();
    assert_eq!(bodies.len(), 1);
    let body = String::from_utf8_lossy(&bodies[0]).into_owned();
    let body: Value = serde_json::from_str(body.split_once("\r\n\r\n").expect("a body").1).expect("JSON");
    assert!(places(&body["data"]["report"]).contains(&("ssn", "letter.zip/a.txt")), "{body}");
    assert_eq!(body["data"]["workflow"], "review");

    let mut everything = vec![("webhook", bodies.concat())];
    for (name, said) in
        [("run", &first), ("tasks", &list), ("show", &show), ("json", &json), ("audit", &audit), ("verify", &verified)]
    {
        everything.push((name, [said.out.as_bytes(), said.err.as_bytes()].concat()));
    }
    for entry in std::fs::read_dir(scene.path(".")).expect("a folder").map_while(Result::ok) {
        if entry.file_name().to_string_lossy().starts_with("state.db") {
            everything.push(("store", std::fs::read(entry.path()).expect("reads")));
        }
    }
    for entry in std::fs::read_dir(scene.path("infected/records")).expect("a folder").map_while(Result::ok) {
        everything.push(("record", std::fs::read(entry.path()).expect("reads")));
    }
    assert!(
        everything.iter().any(|(name, _)| *name == "store") && everything.iter().any(|(name, _)| *name == "record")
    );
    for (name, bytes) in &everything {
        assert!(letter.leaks(bytes).is_empty(), "{name} leaks {:?}", letter.leaks(bytes));
        assert!(!String::from_utf8_lossy(bytes).contains(&key), "{name} has the key");
    }
}

#[test]
fn what_is_known_already_keeps_its_findings() {
    let (receiver, letter) = (Receiver::start(), Letter::new(22));
    let scene = scene(&receiver, &letter);
    let key = "5a".repeat(32);
    let round = || {
        let mut command = scene.command(&["run", "--once", "--json", "--config", "config.toml"]);
        run(command.env("FINGERPRINT_KEY", &key)).json()
    };
    round();
    // The same bytes under another name: the verdict is known, and its findings are under that name.
    std::fs::copy(scene.path("quarantine/letter.zip"), scene.path("quarantine/copy.zip")).expect("copied");
    let objects = round();
    let copy = objects.iter().find(|object| object["object"]["key"] == "copy.zip").expect("a task");
    assert!(places(&copy["report"]).contains(&("ssn", "copy.zip/a.txt")), "{copy}");
    assert_eq!(copy["workflow"], "review");
    // Other detectors: what is known of before does not count.
    scene.edit("detect = \"all\"", "detect = \"phone\"");
    std::fs::copy(scene.path("quarantine/letter.zip"), scene.path("quarantine/third.zip")).expect("copied");
    let objects = round();
    let third = objects.iter().find(|object| object["object"]["key"] == "third.zip").expect("a task");
    assert!(!places(&third["report"]).iter().any(|(detector, _)| *detector == "ssn"), "{third}");
}

#[test]
fn mistakes_in_a_configuration_are_explained() {
    let scene = Scene::new();
    scene.edit("[engine.clamav]", "[engine]\ndetect = [\"ssn\", \"credit-card\"]\n[engine.clamav]");
    let said = scene.said(&["config", "check", "config.toml"]);
    assert_eq!(said.code, 2);
    assert!(
        said.out.contains("did you mean `credit_card`?") || said.err.contains("did you mean `credit_card`?"),
        "{}",
        said.out
    );
}
