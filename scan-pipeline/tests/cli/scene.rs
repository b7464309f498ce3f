//! A quarantine with files, a configuration, and what `run` makes of them.

use std::path::PathBuf;
use std::process::Command;

use scan_pipeline_tests::marker::{eicar, harmless};
use scan_pipeline_tests::zip::encrypted::zipcrypto;
use tempfile::TempDir;

use crate::{Said, folder, program, run, shipped_definitions};

/// The configuration: what is clean and infected is moved, and the rest is tagged where it is.
const CONFIG: &str = r#"
[engine.clamav]
definitions = "${DEFINITIONS}"
threads = 2
[store]
url = "sqlite://state.db"
[buckets]
quarantine = { url = "./quarantine", watch = true }
clean = "./clean"
infected = "./infected"
[policy]
clean = "release"
infected = "isolate"
unscannable = "hold"
[[workflow.release.steps]]
do = "relocate"
to = "clean"
[[workflow.isolate.steps]]
do = "relocate"
to = "infected"
[[workflow.hold.steps]]
do = "tag"
optional = true
"#;

pub(crate) struct Scene {
    dir: TempDir,
}

impl Scene {
    /// A clean, an infected and an encrypted file.
    pub(crate) fn new() -> Self {
        let secret = zipcrypto(&[("a.txt", b"Dear Sir or Madam")]);
        let scene = Self {
            dir: folder(&[
                ("quarantine/letter.txt", &harmless()),
                ("quarantine/sub/eicar.com", &eicar()),
                ("quarantine/secret.zip", &secret),
                ("config.toml", CONFIG.as_bytes()),
            ]),
        };
        for name in ["clean", "infected"] {
            std::fs::create_dir(scene.path(name)).expect("made");
        }
        scene
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// Replaces text in the configuration.
    pub(crate) fn edit(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.path("config.toml")).expect("read");
        assert!(text.contains(from), "{from}");
        std::fs::write(self.path("config.toml"), text.replacen(from, to, 1)).expect("written");
    }

    /// The program with these arguments, in the folder and with what the configuration needs.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program();
        command.args(arguments).current_dir(self.dir.path()).env("DEFINITIONS", shipped_definitions());
        command
    }

    pub(crate) fn said(&self, arguments: &[&str]) -> Said {
        run(&mut self.command(arguments))
    }

    pub(crate) fn run_once(&self) -> Said {
        self.said(&["run", "--once", "--config", "config.toml"])
    }

    /// The id of the task about an object.
    pub(crate) fn task(&self, key: &str) -> String {
        let tasks = self.said(&["tasks", "--store", "state.db", "--json"]).json();
        let task = tasks.iter().find(|task| task["object"]["key"] == key).expect("a task");
        task["id"].as_str().expect("an id").to_owned()
    }
}
