//! What happens to the objects of a history, and what is scanned in them.

use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use scan_pipeline::content::Content;
use scan_pipeline::engine::{Closure, Engine, ScanContext};
use scan_pipeline::event::TaskMessage;
use scan_pipeline::job::{JobOptions, Jobs};
use scan_pipeline::model::{EngineInfo, ObjectRef, Reason, ReasonKind, Report, Threat, Verdict};
use scan_pipeline::objects::{Buckets, LocalBucket, ObjectOps, PutOptions};
use scan_pipeline::queue::{NewMessage, Queue};
use scan_pipeline::store::{JobId, JobState, JobStore, Store, TaskFilter, TaskState};
use scan_pipeline::{Error, Result};

use crate::mortal::die;

/// What an object is in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Clean,
    Infected,
    Locked,
    /// It was deleted before anybody looked.
    Deleted,
    /// Its scan kills the process.
    Poison,
}

/// Objects that are overwritten while workers are at work.
pub(crate) const OVERWRITTEN: Range<usize> = 210..230;
/// Objects of a bulk job in a bucket of its own, all of them locked: they stay where they are.
pub(crate) const ARCHIVED: Range<usize> = 1000..1030;

/// The fate of the object with a number, and whether another state of it was there before.
pub(crate) fn fate(number: usize) -> (Fate, bool) {
    let fate = match number {
        7 => Fate::Poison,
        _ if ARCHIVED.contains(&number) => return (Fate::Locked, false),
        _ => match number % 10 {
            0 | 1 => Fate::Infected,
            2 => Fate::Locked,
            3 => Fate::Deleted,
            _ => Fate::Clean,
        },
    };
    (fate, number % 5 == 4 || OVERWRITTEN.contains(&number))
}

/// What follows from its scan takes so long that the lease of its message has to be extended.
pub(crate) fn is_slow(key: &str) -> bool {
    matches!(key, "6" | "156")
}

/// What an object was before: infected where it is clean now, and clean where it is infected now.
pub(crate) fn before(number: usize) -> String {
    let word = if fate(number).0 == Fate::Infected { "fine" } else { "infected" };
    format!("{word} before {number}")
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
pub(crate) async fn write(dir: &Path, queue: &dyn Queue, numbers: impl Iterator<Item = usize>) -> usize {
    for bucket in ["quarantine", "clean", "infected", "archive"] {
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
            std::fs::write(&path, before(number)).expect("written");
            states.push(stat(&bucket, &key).await);
        }
        if !OVERWRITTEN.contains(&number) {
            if replaced {
                std::fs::remove_file(&path).expect("removed");
            }
            std::fs::write(&path, text(number)).expect("written");
            states.push(stat(&bucket, &key).await);
        }
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

/// Overwrites objects one by one and rings for what they are now, each time that workers have got a little further.
pub(crate) async fn overwrite(dir: &Path, queue: &dyn Queue) {
    let bucket = LocalBucket::open(dir.join("quarantine")).await.expect("a bucket");
    let mut scans = 0;
    for number in overwritten() {
        // Where nothing is left to scan it has to go on all the same.
        for _ in 0..20 {
            let now = std::fs::read_to_string(dir.join("scans")).unwrap_or_default().lines().count();
            if now >= scans + 4 {
                scans = now;
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let content = Content::from_bytes(text(number));
        let object = bucket.put(&number.to_string(), &content, &PutOptions::default()).await.expect("put");
        let message = NewMessage::new(TaskMessage::new(&object).to_json());
        for answer in queue.enqueue(&vec![message; 1 + number % 2]).await.expect("enqueued") {
            answer.expect("enqueued");
        }
    }
}

/// Those of [`OVERWRITTEN`] that are there in the end.
pub(crate) fn overwritten() -> impl Iterator<Item = usize> {
    OVERWRITTEN.filter(|number| fate(*number).0 != Fate::Deleted)
}

/// Begins a job over a bucket of its own.
pub(crate) async fn begin_job(
    dir: &Path,
    queue: std::sync::Arc<dyn Queue>,
    jobs: std::sync::Arc<dyn JobStore>,
) -> JobId {
    for number in ARCHIVED {
        std::fs::write(dir.join("archive").join(number.to_string()), text(number)).expect("written");
    }
    let mut buckets = Buckets::new();
    let bucket = LocalBucket::open(dir.join("archive")).await.expect("a bucket");
    buckets.insert("archive", std::sync::Arc::new(bucket));
    let options = JobOptions { shards: 3, chunk: 6, ..JobOptions::default() };
    Jobs::new(buckets, queue, jobs).scan_prefix("archive", &options).await.expect("it begins")
}

/// No message is left, no task, and no job.
pub(crate) async fn is_over(queue: &dyn Queue, store: &dyn Store, jobs: &dyn JobStore) -> Result<bool> {
    let depth = queue.depth().await?;
    let states = TaskState::ALL.into_iter().filter(|state| !state.is_terminal()).collect();
    let left = store.tasks(&TaskFilter { states, ..TaskFilter::default() }).await?;
    let running = jobs.jobs(None, 10).await?.iter().any(|job| job.state == JobState::Running);
    Ok(depth.ready + depth.delayed + depth.leased == 0 && left.is_empty() && !running)
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
