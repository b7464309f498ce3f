//! Bulk jobs by S3 Inventory: every row is accounted for, and acted on is the state that it names and no other.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use md5::{Digest, Md5};
use scan_pipeline::content::Content;
use scan_pipeline::event::TaskMessage;
use scan_pipeline::job::{JobOptions, Jobs};
use scan_pipeline::model::ObjectRef;
use scan_pipeline::objects::{Buckets, MemoryBucket, ObjectOps, PutOptions};
use scan_pipeline::queue::{Queue, SqliteQueue};
use scan_pipeline::store::{
    Advance, Counters, Job, JobId, JobState, JobStore, NewJob, SqliteStore, TaskFilter, TaskRecord, TaskState,
};
use scan_pipeline::testkit::{Interleaved, Moment, Op};
use scan_pipeline::worker::{Outcome, Worker, WorkerOptions};
use scan_pipeline::{ErrorKind, Pipeline, Policy, Result};
use scan_pipeline_tests::stream::gz;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::common::{Rig, get, kind, put, quick, whole};
use crate::worker::until;

const SCHEMA: &str = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, ETag";
/// Long enough for a busy machine, and short enough to wait for.
const LEASE: Duration = Duration::from_millis(1000);

/// Buckets, one of them for the lists, and where store and queue are.
struct Scene {
    rig: Rig,
    lists: Arc<MemoryBucket>,
    dir: TempDir,
}

/// What one process has open.
struct Open {
    buckets: Buckets,
    store: SqliteStore,
    queue: Arc<SqliteQueue>,
    pipeline: Pipeline,
}

impl Scene {
    fn new(uploads: MemoryBucket) -> Self {
        let lists = Arc::new(MemoryBucket::at("s3://lists".parse().expect("an address")));
        Self { rig: Rig::with(uploads), lists, dir: tempfile::tempdir().expect("a directory") }
    }

    /// As most are: of S3, without versions.
    fn plain() -> Self {
        Self::new(MemoryBucket::at("s3://uploads".parse().expect("an address")))
    }

    async fn open(&self) -> Open {
        self.open_around(Arc::clone(&self.rig.quarantine) as Arc<dyn ObjectOps>, Policy::new()).await
    }

    async fn open_around(&self, uploads: Arc<dyn ObjectOps>, policy: Policy) -> Open {
        let file = |name: &str| self.dir.path().join(name);
        let store = SqliteStore::open(file("state.db")).await.expect("a store");
        let queue = Arc::new(SqliteQueue::open(file("queue.db")).await.expect("a queue"));
        let mut buckets = Buckets::new();
        buckets.insert("uploads", uploads);
        buckets.insert("clean", Arc::clone(&self.rig.clean) as Arc<dyn ObjectOps>);
        buckets.insert("infected", Arc::clone(&self.rig.infected) as Arc<dyn ObjectOps>);
        buckets.insert("lists", Arc::clone(&self.lists) as Arc<dyn ObjectOps>);
        let mut builder = Pipeline::builder().engine(crate::common::engine(&self.rig.scans)).policy(policy);
        for (name, bucket) in buckets.iter() {
            builder = builder.bucket(name, Arc::clone(bucket));
        }
        let pipeline = builder.scan_retry(quick()).lease(LEASE).store(store.clone()).build().expect("a pipeline");
        Open { buckets, store, queue, pipeline }
    }

    /// Puts a list there, of several files, and gives its manifest.
    async fn list(&self, schema: &str, files: &[&str]) -> ObjectRef {
        let mut named = Vec::new();
        for (number, rows) in files.iter().enumerate() {
            let (key, bytes) = (format!("2026/data/{number}.csv.gz"), gz(rows.as_bytes()));
            named.push(json!({ "key": key, "size": bytes.len(), "MD5checksum": md5(&bytes) }));
            self.put_list(&key, bytes).await;
        }
        self.manifest(&manifest(schema, &named)).await
    }

    async fn put_list(&self, key: &str, bytes: Vec<u8>) {
        self.lists.put(key, &Content::from_bytes(bytes), &PutOptions::default()).await.expect("put");
    }

    async fn manifest(&self, text: &Value) -> ObjectRef {
        put(&*self.lists, "2026/manifest.json", &text.to_string()).await.unpinned()
    }
}

impl Open {
    fn jobs(&self) -> Jobs {
        Jobs::new(self.buckets.clone(), Arc::clone(&self.queue) as Arc<dyn Queue>, Arc::new(self.store.clone()))
    }

    async fn start(&self, manifest: &ObjectRef, chunk: u32) -> Result<JobId> {
        let options = JobOptions { chunk, ..JobOptions::default() };
        let bucket = self.buckets.get("uploads").expect("it is set up").url().clone();
        self.jobs().scan_inventory(manifest, &bucket, &options).await
    }

    fn worker(&self, jobs: Arc<dyn JobStore>) -> Worker {
        let options = WorkerOptions { lease: LEASE, ..crate::worker::options() };
        let queue = Arc::clone(&self.queue) as Arc<dyn Queue>;
        Worker::with_jobs(self.pipeline.clone(), queue, jobs, options).expect("a worker")
    }

    /// Works until the job has ended and nothing is left in the queue.
    async fn finish(&self, id: &JobId) -> Job {
        let ended = || async {
            let job = self.jobs().get(id).await.expect("known");
            job.state != JobState::Running && crate::worker::is_empty(&*self.queue).await
        };
        until(&self.worker(Arc::new(self.store.clone())), ended).await;
        self.jobs().get(id).await.expect("known")
    }

    async fn tasks(&self) -> Vec<TaskRecord> {
        let all = TaskFilter { most: 5000, ..TaskFilter::default() };
        self.pipeline.store().tasks(&all).await.expect("tasks")
    }

    async fn dead(&self) -> usize {
        self.queue.dead_letters().list(None, 100).await.expect("the dead letters").len()
    }
}

fn md5(bytes: &[u8]) -> String {
    Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn manifest(schema: &str, files: &[Value]) -> Value {
    json!({
        "sourceBucket": "uploads",
        "destinationBucket": "arn:aws:s3:::lists",
        "version": "2016-11-30",
        "creationTimestamp": "1763500000000",
        "fileFormat": "CSV",
        "fileSchema": schema,
        "files": files,
    })
}

/// A row as S3 writes it.
fn row(object: &ObjectRef, latest: bool) -> String {
    let key: String = url::form_urlencoded::byte_serialize(object.key.as_bytes()).collect();
    let version = object.version.as_deref().unwrap_or_default();
    let (size, etag) = (object.size.expect("a size"), object.etag.as_deref().expect("an etag"));
    let modified = object.modified.expect("a time");
    format!("\"uploads\",\"{key}\",\"{version}\",\"{latest}\",\"false\",\"{size}\",\"{modified}\",\"{etag}\"\n")
}

/// The key and the content of an object.
fn object(number: usize) -> (String, String) {
    let key = match number % 5 {
        0 => format!("/{number}"),
        1 => format!("a//{number} b+c%2B"),
        2 => format!("\u{fc}/\u{10ffff}{number}"),
        3 => format!("line\nbreak, \"{number}\""),
        _ => format!("plain/{number}"),
    };
    let word = ["infected", "locked", "fine", "fine", "fine"][number / 5 % 5];
    (key, format!("{word} {number}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_is_accounted_for_by_the_version_that_it_names() {
    let scene = Scene::new(MemoryBucket::versioned("uploads").expect("an address"));
    let uploads = &*scene.rig.quarantine;
    let (mut first, mut second) = (String::new(), String::new());
    let mut expected = Counters::default();
    let mut listed = BTreeSet::new();
    for number in 0..120 {
        let (key, text) = object(number);
        if number % 7 == 0 {
            // An older version, which the list has as well.
            first += &row(&put(uploads, &key, "infected, before").await, false);
        }
        let state = put(uploads, &key, &text).await;
        *if number % 2 == 0 { &mut first } else { &mut second } += &row(&state, true);
        listed.insert((key.clone(), state.version.clone()));
        match text.split(' ').next() {
            _ if number % 11 == 0 => {
                // Removed since the list was made.
                uploads.delete(&state).await.expect("deleted");
                expected.gone += 1;
                continue;
            }
            Some("infected") => expected.infected += 1,
            Some("locked") => expected.unscannable += 1,
            _ => expected.clean += 1,
        }
        expected.bytes += text.len() as u64;
        if number % 6 == 1 {
            // Written since: an event of its own has told of it.
            put(uploads, &key, "something else, fine").await;
        }
    }
    first += "\"uploads\",\"deleted\",\"v999\",\"true\",\"true\",\"\",\"2026-01-01T00:00:00.000Z\",\"\"\n";
    second += "\"uploads\",\"cannot%ZZbe\",\"v998\",\"true\",\"false\",\"1\",\"2026-01-01T00:00:00.000Z\",\"e\"\n";
    let manifest = scene.list(SCHEMA, &[&first, &second]).await;

    let open = scene.open().await;
    let id = open.start(&manifest, 7).await.expect("it begins");
    let job = open.finish(&id).await;
    assert_eq!((job.state, &job.error, job.totals), (JobState::Done, &None, expected));
    assert_eq!((job.shards.len(), job.listed(), open.dead().await), (2, 120, 0));
    assert_eq!(job.shards.iter().map(|shard| shard.bad).sum::<u64>(), 1);
    let tasks: BTreeSet<_> =
        open.tasks().await.into_iter().map(|task| (task.object.key.clone(), task.object.version.clone())).collect();
    assert_eq!(tasks, listed, "each version that the list has as the latest, and no other");
    whole(&open.pipeline).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_of_a_list_is_the_same_task_as_that_of_an_event() {
    for schema in [SCHEMA, "Bucket, Key, Size", "Bucket, Key, ETag"] {
        let scene = Scene::plain();
        let mut rows = String::new();
        let mut states = Vec::new();
        for number in 0..10 {
            let (key, text) = object(number);
            let state = put(&*scene.rig.quarantine, &key, &text).await;
            rows += &columns(&row(&state, true), schema);
            states.push(state);
        }
        let manifest = scene.list(schema, &[&rows]).await;
        let open = scene.open().await;
        let id = open.start(&manifest, 3).await.expect("it begins");
        let job = open.finish(&id).await;
        assert_eq!((job.state, job.totals.objects(), job.totals.gone), (JobState::Done, 10, 0), "{schema}");
        let worker = open.worker(Arc::new(open.store.clone()));
        for state in &states {
            let outcome = worker.handle(TaskMessage::new(state).to_json().as_bytes()).await;
            assert_eq!(outcome, Outcome::Done, "{schema}");
        }
        assert_eq!((scene.rig.scans.get(), open.tasks().await.len()), (10, 10), "{schema}");
        assert!(open.tasks().await.iter().all(|task| task.object.is_pinned()), "{schema}");
    }
}

/// Some columns of a row of all.
fn columns(row: &str, wanted: &str) -> String {
    let fields: Vec<&str> = row.trim_end().split("\",\"").map(|field| field.trim_matches('"')).collect();
    let all: Vec<&str> = SCHEMA.split(", ").collect();
    let field = |name: &str| fields[all.iter().position(|other| *other == name).expect("a column")];
    let chosen: Vec<String> = wanted.split(", ").map(|name| format!("\"{}\"", field(name))).collect();
    format!("{}\n", chosen.join(","))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_row_does_not_pin_is_not_acted_on_unseen() {
    let scene = Scene::plain();
    put(&*scene.rig.quarantine, "a", "fine").await;
    let manifest = scene.list("Bucket, Key", &["\"uploads\",\"a\"\n"]).await;
    let (rival, overwritten) = (Arc::clone(&scene.rig.quarantine), Arc::new(AtomicBool::new(false)));
    // Somebody writes after it was read, and before it is released.
    let uploads = Interleaved::new(Arc::clone(&scene.rig.quarantine) as Arc<dyn ObjectOps>, move |moment, _, op| {
        let now = (moment, op) == (Moment::After, Op::Read) && !overwritten.swap(true, Ordering::SeqCst);
        let rival = Arc::clone(&rival);
        async move {
            if now {
                put(&*rival, "a", "infected").await;
            }
            Ok(())
        }
    });
    let open = scene.open_around(Arc::new(uploads), scene.rig.policy()).await;
    let id = open.start(&manifest, 10).await.expect("it begins");
    let job = open.finish(&id).await;
    assert_eq!(get(&*scene.rig.clean, "a").await, None, "what is there was never scanned to be clean");
    assert_eq!(get(&*scene.rig.infected, "a").await.as_deref(), Some("infected"));
    assert_eq!((job.state, job.totals.objects()), (JobState::Done, 1));
}

/// A store of jobs that does not answer any more after some steps, as to a process that dies in one.
#[derive(Debug)]
struct Mortal {
    store: SqliteStore,
    steps: AtomicU32,
    dead: CancellationToken,
}

#[async_trait]
impl JobStore for Mortal {
    async fn create_job(&self, job: &NewJob) -> Result<()> {
        self.store.create_job(job).await
    }
    async fn job(&self, id: &JobId) -> Result<Option<Job>> {
        self.store.job(id).await
    }
    async fn job_head(&self, id: &JobId) -> Result<Option<Job>> {
        self.store.job_head(id).await
    }
    async fn jobs(&self, before: Option<&JobId>, most: usize) -> Result<Vec<Job>> {
        self.store.jobs(before, most).await
    }
    async fn advance(&self, id: &JobId, shard: u32, step: &Advance) -> Result<Option<JobState>> {
        if self.steps.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.dead.cancel();
            return std::future::pending().await;
        }
        self.store.advance(id, shard, step).await
    }
    async fn count(&self, id: &JobId, shard: u32, chunk: u64, counters: &Counters) -> Result<JobState> {
        self.store.count(id, shard, chunk, counters).await
    }
    async fn end_job(&self, id: &JobId, state: JobState, why: Option<&str>) -> Result<JobState> {
        self.store.end_job(id, state, why).await
    }
}

#[test]
fn a_job_whose_worker_dies_in_the_middle_of_a_file_goes_on_at_its_cursor() {
    let scene = Scene::plain();
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let first = runtime().expect("a runtime");
    let id = first.block_on(async {
        let mut rows = String::new();
        for number in 0..95 {
            let (key, text) = object(number);
            rows += &row(&put(&*scene.rig.quarantine, &key, &text).await, true);
        }
        let manifest = scene.list(SCHEMA, &[&rows]).await;
        let open = scene.open().await;
        let id = open.start(&manifest, 10).await.expect("it begins");
        let dead = CancellationToken::new();
        let mortal = Mortal { store: open.store.clone(), steps: AtomicU32::new(5), dead: dead.clone() };
        let worker = open.worker(Arc::new(mortal));
        tokio::spawn(async move { worker.run(CancellationToken::new()).await });
        tokio::time::timeout(crate::worker::PATIENCE, dead.cancelled()).await.expect("it comes so far");
        id
    });
    // Nothing of it is at work any more, and nothing was settled or given back.
    first.shutdown_background();
    runtime().expect("a runtime").block_on(async {
        let open = scene.open().await;
        let job = open.jobs().get(&id).await.expect("known");
        let shard = &job.shards[0];
        assert_eq!((shard.chunks, shard.cursor.as_deref(), shard.ended), (4, Some("40"), false));
        let job = open.finish(&id).await;
        assert_eq!((job.state, job.totals.objects(), job.totals.failed), (JobState::Done, 95, 0));
        assert_eq!((job.totals.infected, job.totals.unscannable), (20, 20));
        // The fifth chunk was handed out twice, and it is one chunk.
        assert_eq!((job.shards[0].chunks, job.listed(), open.dead().await), (10, 95, 0));
        let tasks = open.tasks().await;
        assert!(tasks.len() == 95 && tasks.iter().all(|task| task.state == TaskState::Done), "{}", tasks.len());
        whole(&open.pipeline).await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_not_the_one_that_the_manifest_means_fails_the_job_and_says_so() {
    let bytes = gz(row_of_nothing().as_bytes());
    let file = |size: usize, md5: &str| json!({ "key": "2026/data/0.csv.gz", "size": size, "MD5checksum": md5 });
    let (size, other) = (bytes.len(), md5(b"another file"));
    for (entry, there, why) in [
        (file(size, &md5(&bytes)), None, "not there"),
        (file(size, &other), Some(bytes.clone()), "is not the file that the manifest means: its MD5 is"),
        (file(size + 1, &md5(&bytes)), Some(bytes.clone()), "the manifest of the inventory says"),
        (file(7, &md5(b"no gzip")), Some(b"no gzip".to_vec()), "is no gzip, or damaged"),
    ] {
        let scene = Scene::plain();
        if let Some(bytes) = there {
            scene.put_list("2026/data/0.csv.gz", bytes).await;
        }
        let manifest = scene.manifest(&manifest(SCHEMA, &[entry])).await;
        let open = scene.open().await;
        let id = open.start(&manifest, 10).await.expect("it begins: the files are read by workers");
        let job = open.finish(&id).await;
        let error = job.error.unwrap_or_default();
        assert_eq!(job.state, JobState::Failed, "{why}: {error}");
        assert!(error.contains(why) && error.contains("2026/data/0.csv.gz"), "{why}: {error}");
        assert_eq!(open.dead().await, 1, "the message says it as well");
    }
}

fn row_of_nothing() -> String {
    String::from("\"uploads\",\"k\",\"\",\"true\",\"false\",\"1\",\"2026-01-01T00:00:00.000Z\",\"e\"\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_was_replaced_since_fails_the_job() {
    let scene = Scene::plain();
    let rows = row(&put(&*scene.rig.quarantine, "a", "fine").await, true);
    let manifest = scene.list(SCHEMA, &[&rows]).await;
    let open = scene.open().await;
    let id = open.start(&manifest, 10).await.expect("it begins");
    // With other files in other places: what the shards mean is not known any more.
    scene.list(SCHEMA, &["", &row_of_nothing()]).await;
    let job = open.finish(&id).await;
    let error = job.error.unwrap_or_default();
    assert!(job.state == JobState::Failed && error.contains("manifest.json"), "{}: {error}", job.state);
    assert_eq!(scene.rig.scans.get(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_without_files_is_done_at_once() {
    let scene = Scene::plain();
    let manifest = scene.list(SCHEMA, &[]).await;
    let open = scene.open().await;
    let id = open.start(&manifest, 10).await.expect("it begins");
    assert_eq!(open.jobs().get(&id).await.expect("known").state, JobState::Done);
}

#[tokio::test]
async fn what_is_no_inventory_of_the_bucket_is_refused() {
    let scene = Scene::plain();
    let open = scene.open().await;
    let absent = ObjectRef::new(scene.lists.url().clone(), "2026/manifest.json");
    assert_eq!(kind(open.start(&absent, 10).await), ErrorKind::Gone);
    let good = manifest(SCHEMA, &[json!({ "key": "2026/data/0.csv.gz", "size": 0, "MD5checksum": md5(b"") })]);
    for (name, value, expected, why) in [
        ("fileFormat", "ORC", ErrorKind::Unsupported, "set its format to CSV"),
        ("version", "2030-01-01", ErrorKind::InvalidInput, "is of version `2030-01-01`"),
        ("fileSchema", "Bucket, Size", ErrorKind::InvalidInput, "no column Key"),
        ("sourceBucket", "downloads", ErrorKind::InvalidInput, "inventory of s3://downloads, and not of s3://uploads"),
        ("destinationBucket", "arn:aws:s3:::elsewhere", ErrorKind::Config, "no bucket of this name"),
    ] {
        let mut text = good.clone();
        text[name] = value.into();
        let manifest = scene.manifest(&text).await;
        let refused = open.start(&manifest, 10).await.expect_err(why);
        assert!(refused.kind() == expected && refused.to_string().contains(why), "{why}: {refused}");
    }
    let manifest = put(&*scene.lists, "2026/manifest.json", "no JSON").await;
    assert_eq!(kind(open.start(&manifest, 10).await), ErrorKind::InvalidInput);
    assert!(open.jobs().list(None, 10).await.expect("none").is_empty());
}
