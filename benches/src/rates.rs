//! How many a second: verdicts out of the cache, tasks whose verdicts are cached, and commits to the disk.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt, TryStreamExt};
use scan_pipeline::content::Content;
use scan_pipeline::engine::{Closure, VerdictCache};
use scan_pipeline::model::{DatabaseInfo, EngineInfo, ObjectRef, Report, TaskId, Timestamp, Verdict};
use scan_pipeline::objects::{MemoryBucket, ObjectOps, PutOptions};
use scan_pipeline::pipeline::Progress;
use scan_pipeline::store::{Changes, Claim, ClaimRequest, Lease, SqliteStore, StepRecord, StepState, Store};
use scan_pipeline::{Pipeline, Policy};

use crate::Result;
use crate::measure::Spread;

/// A content that was scanned, and what a scan found.
pub(crate) fn scanned(number: usize) -> (Content, Report) {
    let content = Content::from_bytes(format!("the content of file {number}").into_bytes());
    let mut engine =
        EngineInfo::new("clamav", "1.4", "a generation of 64 characters, as long as a hash of definitions");
    engine.databases =
        ["main.cvd", "daily.cvd", "bytecode.cvd"].map(|name| DatabaseInfo::new(name, Some(1), None)).into();
    let mut report = Report::new(Verdict::Clean, engine);
    report.coverage.proven = true;
    report.coverage.started = true;
    report.coverage.layers = 1;
    report.coverage.bytes = content.size();
    report.sha256 = Some(content.sha256());
    report.size = Some(content.size());
    (content, report)
}

/// The rates of some runs of something that does `count` things.
fn rates(runs: usize, count: usize, mut run: impl FnMut() -> Result<()>) -> Result<Spread> {
    let mut rates = Vec::new();
    for _ in 0..runs {
        let started = Instant::now();
        run()?;
        rates.push(count as f64 / started.elapsed().as_secs_f64());
    }
    Ok(Spread::of(rates))
}

/// Hits a second in memory, with the making of the key and of the engine's description, as in the pipeline.
///
/// # Errors
///
/// When a verdict is missing.
pub fn memory_hits(threads: usize, runs: usize) -> Result<Spread> {
    const CONTENTS: usize = 10_000;
    const PASSES: usize = 20;
    let all: Vec<_> = (0..CONTENTS).map(scanned).collect();
    let cache = VerdictCache::new(2 * CONTENTS);
    for (content, report) in &all {
        cache.insert(content, "name.txt", report).ok_or("a verdict was not kept")?;
    }
    let pass = || {
        let hit = |(content, report): &(Content, Report)| {
            let key = VerdictCache::key(content, &report.engine.clone(), "name.txt");
            key.and_then(|key| cache.get(&key, content, "name.txt")).is_some()
        };
        (0..PASSES).map(|_| all.iter().filter(|one| hit(one)).count()).sum::<usize>()
    };
    rates(runs, threads * PASSES * CONTENTS, || {
        let hits: usize = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(pass)).collect();
            workers.into_iter().map(|worker| worker.join().unwrap_or_default()).sum()
        });
        if hits == threads * PASSES * CONTENTS { Ok(()) } else { Err(format!("{hits} hits").into()) }
    })
}

/// The lease of a task of its own.
async fn claim(store: &SqliteStore, number: usize) -> Result<Lease> {
    let object = ObjectRef::new("memory://bench".parse()?, format!("key {number}")).with_version("1");
    let ttl = Duration::from_secs(3600);
    let request = ClaimRequest { id: TaskId::of(&object, 0), object, owner: String::from("bench"), ttl };
    match store.claim(&request).await? {
        Claim::Mine(lease, _) => Ok(lease),
        other => Err(format!("no lease, but {other:?}").into()),
    }
}

/// Hits a second in the store's file, each checked as what a stranger may have written, so many asked for at once.
///
/// # Errors
///
/// When a verdict is missing.
pub async fn stored_hits(dir: &Path, at_once: usize, runs: usize) -> Result<Spread> {
    const CONTENTS: usize = 2_000;
    let store = SqliteStore::open(dir.join(format!("hits-{at_once}.db"))).await?;
    let (filling, none) = (VerdictCache::new(CONTENTS), VerdictCache::new(0));
    let all: Vec<_> = (0..CONTENTS).map(scanned).collect();
    let lease = claim(&store, 0).await?;
    for (content, report) in &all {
        let cache = filling.insert(content, "name.txt", report);
        store.commit(&lease, Changes { cache, ..Changes::default() }).await?;
    }
    let mut found = Vec::new();
    for _ in 0..runs {
        let started = Instant::now();
        let (store, none) = (&store, &none);
        let lookups: Vec<_> = all
            .iter()
            .map(|(content, report)| async move {
                let key = VerdictCache::key(content, &report.engine.clone(), "name.txt").ok_or("no key")?;
                let stored = store.cached(&key).await?.ok_or("the store lost a verdict")?;
                none.admit(&key, content, "name.txt", stored).ok_or("a verdict is not as it was")?;
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
            })
            .collect();
        stream::iter(lookups).buffer_unordered(at_once).try_for_each(|()| async { Ok(()) }).await?;
        found.push(CONTENTS as f64 / started.elapsed().as_secs_f64());
    }
    store.close().await?;
    Ok(Spread::of(found))
}

/// Objects a second through the whole pipeline when every verdict is cached: small objects in memory, the store in
/// `dir`, or in memory, too.
///
/// # Errors
///
/// When anything is scanned, or fails.
pub async fn cached_pipeline(dir: Option<&Path>, runs: usize) -> Result<Spread> {
    const OBJECTS: usize = 1_000;
    let bucket = Arc::new(MemoryBucket::new("bench")?);
    for pass in 0..=runs {
        for number in 0..OBJECTS {
            let (content, _) = scanned(number);
            bucket.put(&format!("{pass}/{number}.txt"), &content, &PutOptions::default()).await?;
        }
    }
    let store = match dir {
        Some(dir) => SqliteStore::open(dir.join("cached.db")).await?,
        None => SqliteStore::in_memory().await?,
    };
    let scans = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&scans);
    let engine = Closure::new("counting", move |_, _| {
        counted.fetch_add(1, Ordering::Relaxed);
        Ok(Verdict::Clean)
    })
    // Otherwise nothing of it is remembered.
    .with_generation("1");
    let builder = Pipeline::builder().engine(engine).bucket("bench", bucket).policy(Policy::new());
    let pipeline = builder.store(store.clone()).build()?;
    let mut found = Vec::new();
    for pass in 0..=runs {
        let started = Instant::now();
        let done = pipeline
            .process_prefix(&format!("memory://bench/{pass}/"))?
            .fold(0, |done, progress| async move { done + usize::from(matches!(progress, Progress::Done(_))) })
            .await;
        if done != OBJECTS || scans.load(Ordering::Relaxed) != OBJECTS {
            return Err(format!("{done} objects done, with {scans:?} scans").into());
        }
        // The first pass fills the cache.
        if pass > 0 {
            found.push(OBJECTS as f64 / started.elapsed().as_secs_f64());
        }
    }
    store.close().await?;
    Ok(Spread::of(found))
}

/// Commits of one step each a second, by so many committers with a task each.
///
/// # Errors
///
/// The store's own.
pub async fn commits(dir: &Path, committers: usize, each: usize, runs: usize) -> Result<Spread> {
    let store = SqliteStore::open(dir.join(format!("commits-{committers}.db"))).await?;
    let mut leases = Vec::new();
    for number in 0..committers {
        leases.push(claim(&store, number).await?);
    }
    let mut found = Vec::new();
    for _ in 0..runs {
        let started = Instant::now();
        let mut tasks = Vec::new();
        for lease in &leases {
            let (store, lease) = (store.clone(), Lease::clone(lease));
            tasks.push(tokio::spawn(async move {
                for attempt in 0..each {
                    let step = StepRecord {
                        workflow: String::from("release"),
                        step: String::from("relocate"),
                        state: StepState::Running,
                        attempt: u32::try_from(attempt).unwrap_or(u32::MAX),
                        output: None,
                        error: None,
                        next_at: None,
                        updated: Timestamp::now(),
                    };
                    store.commit(&lease, Changes { steps: vec![step], ..Changes::default() }).await?;
                }
                Ok::<_, scan_pipeline::Error>(())
            }));
        }
        for task in tasks {
            task.await??;
        }
        found.push((committers * each) as f64 / started.elapsed().as_secs_f64());
    }
    store.close().await?;
    Ok(Spread::of(found))
}

/// Writes of 4 KiB to the end of a file a second, each brought to the disk: what this disk can do.
///
/// # Errors
///
/// When the disk is full.
pub fn syncs(dir: &Path, runs: usize) -> Result<Spread> {
    const WRITES: usize = 300;
    let mut file = File::create(dir.join("syncs"))?;
    rates(runs, WRITES, || {
        for _ in 0..WRITES {
            file.write_all(&[7; 4096])?;
            file.sync_data()?;
        }
        Ok(())
    })
}
