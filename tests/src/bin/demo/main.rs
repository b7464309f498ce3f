//! `make demo`: the whole path on real files, which checks itself: `cargo run -p scan-pipeline-tests --bin demo -- demo`.
//!
//! It makes a quarantine, runs the program on it with a configuration file, receives and verifies the webhooks, and shows
//! where everything went. Then it runs the program again, to show that nothing happens twice. Anything that is not as
//! expected makes it fail.

mod files;
mod receiver;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};

use serde_json::Value;

use files::EXPECTED;
use receiver::Receiver;

/// The configuration. A reader of the demo's folder finds it there.
const CONFIG: &str = include_str!("scan-pipeline.toml");
/// What the demo makes, and may therefore remove.
const OURS: [&str; 7] =
    ["quarantine", "clean", "infected", "scan-pipeline.toml", "state.db", "state.db-wal", "state.db-shm"];
const TAGS: &str = "user.scan-pipeline.tags";

fn main() -> ExitCode {
    let Some(dir) = std::env::args_os().nth(1).map(PathBuf::from) else {
        let _ = writeln!(io::stderr(), "demo: name the folder to work in: demo FOLDER");
        return ExitCode::from(2);
    };
    let problems = match Demo::prepare(dir).and_then(Demo::play) {
        Ok(problems) => problems,
        Err(why) => vec![why.to_string()],
    };
    for problem in &problems {
        let _ = writeln!(io::stderr(), "demo: {problem}");
    }
    if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Demo {
    dir: PathBuf,
    program: PathBuf,
    receiver: Receiver,
    /// Everything that is not as expected.
    problems: Vec<String>,
}

impl Demo {
    fn prepare(dir: PathBuf) -> io::Result<Self> {
        let program = std::env::current_exe()?.with_file_name("scan-pipeline");
        if !program.exists() {
            let why = format!("{} is not there; build it with cargo build --bin scan-pipeline", program.display());
            return Err(io::Error::other(why));
        }
        for name in OURS {
            let path = dir.join(name);
            let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            match removed {
                Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(why),
                _ => {}
            }
        }
        for bucket in ["quarantine", "clean", "infected"] {
            std::fs::create_dir_all(dir.join(bucket))?;
        }
        files::make(&dir.join("quarantine"))?;
        std::fs::write(dir.join("scan-pipeline.toml"), CONFIG)?;
        Ok(Self { dir, program, receiver: Receiver::start()?, problems: Vec::new() })
    }

    fn play(mut self) -> io::Result<Vec<String>> {
        let config = self.dir.join("scan-pipeline.toml");
        let config = config.display();
        let mut out = io::stdout().lock();
        writeln!(out, "In {}/quarantine are eight files. (The \"virus\" is EICAR's test file.)", self.dir.display())?;
        writeln!(out, "\n$ scan-pipeline config check {config}\n")?;
        let said = self.run(&["config", "check"], 0)?;
        self.show(&mut out, said.lines().skip(2))?;
        writeln!(out, "\n$ scan-pipeline run --once --config {config}\n")?;
        let first = self.run(&["run", "--once", "--config"], 0)?;
        self.show(&mut out, first.lines())?;
        for file in &EXPECTED {
            let path = format!("quarantine/{}", file.name);
            let line = first.lines().find(|line| line.split_whitespace().nth(1) == Some(&path)).unwrap_or_default();
            let label = line.split_whitespace().next().unwrap_or_default().to_lowercase();
            if label != file.status || !line.contains(file.words) {
                self.problems.push(format!("{path} should be {}, {}: {line:?}", file.status, file.words));
            }
        }
        self.places(&mut out)?;
        self.calls(&mut out)?;

        let id = self.task("holiday.zip")?;
        writeln!(out, "\n$ scan-pipeline tasks show {} --config {config}\n", id.get(..12).unwrap_or_default())?;
        let shown = self.run(&["tasks", "show", &id, "--config"], 0)?;
        let brief = ["object", "state", "verdict", "place", "isolate", "└", "├", " "];
        self.show(&mut out, shown.lines().filter(|line| brief.iter().any(|start| line.starts_with(start))))?;
        self.audit(&mut out)?;
        self.again(&mut out)?;
        if self.problems.is_empty() {
            writeln!(
                out,
                "\nEverything was as it should be. Clean means: looked at from the first to the last byte, with"
            )?;
            writeln!(out, "proof. What could not be is in quarantine still; libclamav alone says clean to both.")?;
        }
        Ok(self.problems)
    }

    /// Lines of the program, without where this machine keeps the demo's folder.
    fn show<'a>(&self, out: &mut impl Write, lines: impl Iterator<Item = &'a str>) -> io::Result<()> {
        let whole = self.dir.canonicalize()?.to_string_lossy().into_owned();
        let definitions = definitions()?.to_string_lossy().into_owned();
        for line in lines {
            let line =
                line.replace(&whole, &self.dir.to_string_lossy()).replace(&definitions, "scan-pipeline/definitions");
            writeln!(out, "{}", format!("    {line}").trim_end())?;
        }
        Ok(())
    }

    /// Runs the program and gives what it said.
    fn run(&mut self, arguments: &[&str], expected: i32) -> io::Result<String> {
        let output: Output = Command::new(&self.program)
            .args(arguments)
            .arg(self.dir.join("scan-pipeline.toml"))
            .env("DEFINITIONS", definitions()?)
            .env("WEBHOOK_PORT", self.receiver.port.to_string())
            .env("WEBHOOK_SECRET", &self.receiver.secret)
            .output()?;
        io::stderr().write_all(&output.stderr)?;
        if output.status.code() != Some(expected) {
            self.problems.push(format!("scan-pipeline {} ended with {}", arguments.join(" "), output.status));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn task(&mut self, key: &str) -> io::Result<String> {
        let tasks = self.run(&["tasks", "--json", "--config"], 0)?;
        let parsed = tasks.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let found = parsed.into_iter().find(|task| task["object"]["key"] == key);
        Ok(found.and_then(|task| Some(task["id"].as_str()?.to_owned())).unwrap_or_default())
    }

    /// Which file is where, with its tags.
    fn found(&self) -> io::Result<BTreeMap<String, String>> {
        let mut found = BTreeMap::new();
        for bucket in ["quarantine", "clean", "infected"] {
            for entry in std::fs::read_dir(self.dir.join(bucket))? {
                let path = entry?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                // The bucket's own working folder.
                if !name.starts_with('.') {
                    found.insert(format!("{bucket}/{name}"), tags(&path));
                }
            }
        }
        Ok(found)
    }

    fn places(&mut self, out: &mut impl Write) -> io::Result<()> {
        let found = self.found()?;
        writeln!(out, "\nWhere everything is now, with its tags (extended attributes):\n")?;
        for (path, tags) in &found {
            writeln!(out, "    {path:<26}{tags}")?;
        }
        let wanted: Vec<String> = EXPECTED.iter().map(|file| format!("{}/{}", file.bucket, file.name)).collect();
        for (file, path) in EXPECTED.iter().zip(&wanted) {
            match found.get(path) {
                None => self.problems.push(format!("{path} is not there")),
                Some(tags) if !tags.contains(&format!("scan-status={}", file.status)) => {
                    self.problems.push(format!("{path} should be tagged {}, and is {tags:?}", file.status));
                }
                Some(_) => {}
            }
        }
        let stray = found.keys().filter(|path| !wanted.contains(path));
        self.problems.extend(stray.map(|path| format!("{path} should not be there")));
        Ok(())
    }

    fn calls(&mut self, out: &mut impl Write) -> io::Result<()> {
        let calls = self.receiver.calls();
        writeln!(out, "\nWebhooks that came to 127.0.0.1, verified by code that shares nothing with the sender:\n")?;
        let mut heard = BTreeMap::new();
        for call in &calls {
            let data = &call.body["data"];
            let (key, status) = (text(&data["object"]["key"]), text(&data["status"]));
            if call.problem.is_some() || call.repeated {
                self.problems.push(format!("the webhook about {key} was not good: {call:?}"));
            }
            heard.insert(key, (status, text(&call.body["type"])));
        }
        for (key, (status, kind)) in &heard {
            writeln!(out, "    {kind}  {status:<12}{key:<14}signature good")?;
        }
        for file in &EXPECTED {
            if heard.get(file.name).map(|(status, _)| status.as_str()) != Some(file.status) {
                self.problems
                    .push(format!("there should be a webhook that says that {} is {}", file.name, file.status));
            }
        }
        if calls.len() != EXPECTED.len() {
            self.problems.push(format!("{} webhooks came, where there should be {}", calls.len(), EXPECTED.len()));
        }
        Ok(())
    }

    fn audit(&mut self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "\n$ scan-pipeline audit verify --config {}\n", self.dir.join("scan-pipeline.toml").display())?;
        let said = self.run(&["audit", "verify", "--config"], 0)?;
        self.show(out, said.lines())?;
        if !said.contains("The audit log is whole") {
            self.problems.push(String::from("the audit log is not whole"));
        }
        Ok(())
    }

    /// A second run, in which nothing happens.
    fn again(&mut self, out: &mut impl Write) -> io::Result<()> {
        let (found, calls) = (self.found()?, self.receiver.calls().len());
        let entries = self.run(&["audit", "list", "--config"], 0)?.lines().count();
        writeln!(out, "\nThe same once more, as after a crash or a second notification:\n")?;
        let said = self.run(&["run", "--once", "--config"], 0)?;
        self.show(out, said.lines())?;
        let more = self.receiver.calls().len() - calls;
        let logged = self.run(&["audit", "list", "--config"], 0)?.lines().count() - entries;
        let moved = found != self.found()?;
        let verb = if moved { "something" } else { "nothing" };
        writeln!(out, "    {verb} moved or changed, {more} webhooks, {logged} entries in the audit log")?;
        if more != 0 || logged != 0 || moved || !said.starts_with("0 objects") {
            self.problems.push(String::from("something happened in the second run"));
        }
        Ok(())
    }
}

/// Those that find test files only.
fn definitions() -> io::Result<PathBuf> {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scan-pipeline/definitions").canonicalize()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("?").to_owned()
}

/// The tags of a file, or why there are none.
fn tags(path: &Path) -> String {
    let mut buffer = vec![0; 64 << 10];
    let length = match rustix::fs::getxattr(path, TAGS, &mut buffer[..]) {
        Ok(length) => length,
        Err(why) => return format!("({why})"),
    };
    let value: Value = serde_json::from_slice(&buffer[..length]).unwrap_or_default();
    let pairs = value["note"].as_object().map(|note| {
        // The verdict first, and digests in brief.
        let brief = |value: &Value| match text(value) {
            long if long.len() >= 32 && long.chars().all(|c| c.is_ascii_hexdigit()) => format!("{}...", &long[..8]),
            short => short,
        };
        let mut pairs: Vec<_> = note.iter().map(|(name, value)| format!("{name}={}", brief(value))).collect();
        pairs.sort_by_key(|pair| !pair.starts_with("scan-status"));
        pairs.join(" ")
    });
    pairs.unwrap_or_else(|| value.to_string())
}
