//! What happens to the objects of a history, and what is scanned in them.

use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use scan_pipeline::content::Content;
use scan_pipeline::engine::{Closure, Engine, ScanContext};
use scan_pipeline::event::TaskMessage;
use scan_pipeline::model::{EngineInfo, ObjectRef, Reason, ReasonKind, Report, Threat, Verdict};
use scan_pipeline::objects::{LocalBucket, ObjectOps};
use scan_pipeline::queue::{NewMessage, Queue};
use scan_pipeline::store::{Store, TaskFilter, TaskState};
use scan_pipeline::{Error, Result};

use crate::mortal::die;

/// Objects whose scan kills the process.
pub(crate) const POISON: u32 = 2;

/// What an object is in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Clean,
    Infected,
    Locked,
    /// It was deleted before anybody looked.
    Deleted,
    Poison,
}

/// The fate of the object with a number, and whether another state of it was there before.
pub(crate) fn fate(number: usize) -> (Fate, bool) {
    let fate = match number {
        7 | 77 => Fate::Poison,
        _ => match number % 10 {
            0 | 1 => Fate::Infected,
            2 => Fate::Locked,
            3 => Fate::Deleted,
            _ => Fate::Clean,
        },
    };
    (fate, number % 5 == 4)
}

pub(crate) fn text(number: usize) -> String {
    let word = match fate(number).0 {
        Fate::Clean | Fate::Deleted => "fine",
        Fate::Infected => "infected",
        Fate::Locked => "locked",
        Fate::Poison => "poison",
    };
    format!("{word} {number}")
}

/// Puts the objects there and rings for each of their states, some twice, in no order. How many messages that were.
pub(crate) async fn write(dir: &Path, queue: &dyn Queue, numbers: Range<usize>) -> usize {
    for bucket in ["quarantine", "clean", "infected"] {
        std::fs::create_dir_all(dir.join(bucket)).expect("a directory");
    }
    let bucket = LocalBucket::open(dir.join("quarantine")).await.expect("a bucket");
    let mut messages = vec![NewMessage::new("this is no event")];
    for number in numbers {
        let key = format!("{number}");
        let path = dir.join("quarantine").join(&key);
        let (fate, replaced) = fate(number);
        let mut states = Vec::new();
        if replaced {
            // What it was before is infected where it is clean now, and clean where it is infected now.
            let before = if fate == Fate::Infected { "fine" } else { "infected" };
            std::fs::write(&path, format!("{before} before {number}")).expect("written");
            states.push(stat(&bucket, &key).await);
            std::fs::remove_file(&path).expect("removed");
        }
        std::fs::write(&path, text(number)).expect("written");
        states.push(stat(&bucket, &key).await);
        if fate == Fate::Deleted {
            std::fs::remove_file(&path).expect("removed");
        }
        for object in states {
            let copies = 1 + number % 3;
            let message = NewMessage::new(TaskMessage::new(&object).to_json());
            messages.extend((0..copies).map(|_| message.clone()));
        }
    }
    fastrand::Rng::with_seed(4711).shuffle(&mut messages);
    for answer in queue.enqueue(&messages).await.expect("enqueued") {
        answer.expect("enqueued");
    }
    messages.len()
}

async fn stat(bucket: &LocalBucket, key: &str) -> ObjectRef {
    bucket.stat(&ObjectRef::new(bucket.url().clone(), key)).await.expect("there").object
}

/// No message is left, and no task.
pub(crate) async fn is_over(queue: &dyn Queue, store: &dyn Store) -> Result<bool> {
    let depth = queue.depth().await?;
    let states = TaskState::ALL.into_iter().filter(|state| !state.is_terminal()).collect();
    let left = store.tasks(&TaskFilter { states, ..TaskFilter::default() }).await?;
    Ok(depth.ready + depth.delayed + depth.leased == 0 && left.is_empty())
}

/// Adds a line to a file, in one write.
pub(crate) fn note(dir: &Path, file: &str, line: &str) {
    let mut file = std::fs::File::options().append(true).create(true).open(dir.join(file)).expect("it opens");
    file.write_all(format!("{line}\n").as_bytes()).expect("written");
}

/// Knows three words, dies of a fourth, and notes what it has scanned.
pub(crate) struct Scanner {
    dir: PathBuf,
    words: Box<dyn Engine>,
}

impl Scanner {
    pub(crate) fn new(dir: &Path) -> Self {
        let words = Closure::new("words", |bytes: &[u8], name: &str| {
            let layer_path = name.to_owned();
            Ok::<_, Error>(match bytes.split(|byte| *byte == b' ').next() {
                Some(b"fine") => Verdict::Clean,
                Some(b"poison") => die(),
                Some(b"locked") => Verdict::Unscannable {
                    reasons: vec![Reason { kind: ReasonKind::Encrypted, layer_path, detail: None }],
                },
                _ => Verdict::Infected { threats: vec![Threat { signature: String::from("Word"), layer_path }] },
            })
        });
        Self { dir: dir.to_owned(), words: Box::new(words.with_generation("1")) }
    }
}

#[async_trait]
impl Engine for Scanner {
    fn info(&self) -> EngineInfo {
        self.words.info()
    }

    async fn scan(&self, content: &Content, cx: &ScanContext) -> Result<Report> {
        let report = self.words.scan(content, cx).await?;
        note(&self.dir, "scans", &format!("{} {}", content.sha256(), report.verdict.status()));
        Ok(report)
    }
}
