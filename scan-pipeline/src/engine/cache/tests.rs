use std::time::Instant;

use super::*;
use crate::engine::{Closure, Engine, ScanContext};
use crate::model::{ContentDigest, Finding, Reason, ReasonKind, Threat};

fn content() -> Content {
    Content::from_bytes("text")
}

fn report(content: &Content, verdict: Verdict) -> Report {
    let mut report = Report::new(verdict, EngineInfo::new("test", "1", "g1"));
    report.coverage.proven = true;
    report.sha256 = Some(content.sha256());
    report.size = Some(content.size());
    report
}

fn infected(paths: &[&str]) -> Verdict {
    let threats = paths.iter().map(|&path| Threat { signature: String::from("T"), layer_path: path.to_owned() });
    Verdict::Infected { threats: threats.collect() }
}

fn found_again(report: &Report, content: &Content, stored_as: &str, asked_for: &str) -> Option<Report> {
    let cache = VerdictCache::new(10);
    let kept = cache.insert(content, stored_as, report);
    let key = VerdictCache::key(content, &report.engine, asked_for)?;
    let memory = cache.get(&key, content, asked_for);
    // What the store gives back is the same, in another process.
    let store = kept.filter(|(kept, _)| *kept == key);
    let stored = store.and_then(|(_, cached)| VerdictCache::new(10).admit(&key, content, asked_for, cached));
    assert_eq!(memory, stored);
    memory
}

#[test]
fn complete_verdicts_are_found_again() {
    let content = content();
    for verdict in [Verdict::Clean, infected(&["a.txt"])] {
        let report = report(&content, verdict);
        assert_eq!(found_again(&report, &content, "a.txt", "a.txt"), Some(report));
    }
}

#[test]
fn anything_less_is_not_kept() {
    let content = content();
    let complete = report(&content, Verdict::Clean);
    let unscannable = |kind| {
        let reasons = vec![Reason { kind, layer_path: String::from("a"), detail: None }];
        report(&content, Verdict::Unscannable { reasons })
    };
    let with = |change: fn(&mut Report)| {
        let mut report = complete.clone();
        change(&mut report);
        report
    };
    for bad in [
        unscannable(ReasonKind::TimedOut),
        unscannable(ReasonKind::Unproven),
        unscannable(ReasonKind::Encrypted),
        with(|report| report.coverage.proven = false),
        with(|report| report.coverage.gap_count = 1),
        with(|report| report.sha256 = None),
        with(|report| report.sha256 = Some(ContentDigest::of(b"other"))),
        with(|report| report.size = None),
        with(|report| report.size = Some(5)),
        with(|report| report.engine.generation.clear()),
    ] {
        let cache = VerdictCache::new(10);
        assert_eq!(cache.insert(&content, "a", &bad), None, "{bad:?}");
        assert!(cache.is_empty(), "{bad:?}");
        // Nor does it get in by way of the store.
        let Some(key) = VerdictCache::key(&content, &bad.engine, "a") else { continue };
        let stored = CachedReport { name: String::from("a"), report: bad.clone() };
        assert_eq!(cache.admit(&key, &content, "a", stored), None, "{bad:?}");
        assert!(cache.is_empty(), "{bad:?}");
    }
}

#[test]
fn a_verdict_counts_for_its_bytes_definitions_settings_and_ending() {
    let (content, cache) = (content(), VerdictCache::new(10));
    let report = report(&content, Verdict::Clean);
    let (key, cached) = cache.insert(&content, "a.TXT", &report).expect("kept");
    let of = |engine: &EngineInfo, name| VerdictCache::key(&content, engine, name).expect("a key");
    assert_eq!(of(&report.engine, "another.txt"), key);
    let changed = |change: fn(&mut EngineInfo)| {
        let mut engine = report.engine.clone();
        change(&mut engine);
        of(&engine, "a.txt")
    };
    let other = Content::from_bytes("other");
    for other_key in [
        of(&report.engine, "a.exe"),
        of(&report.engine, "a"),
        changed(|engine| engine.generation.push('2')),
        changed(|engine| engine.settings.push('2')),
        changed(|engine| engine.library.push('2')),
        changed(|engine| engine.name.push('2')),
        VerdictCache::key(&other, &report.engine, "a.txt").expect("a key"),
    ] {
        assert_eq!(cache.get(&other_key, &content, "a.txt"), None, "{other_key:?}");
        assert_eq!(cache.admit(&other_key, &content, "a.txt", cached.clone()), None, "{other_key:?}");
    }
    assert_eq!(cache.get(&key, &other, "a.txt"), None, "a key for other bytes than those at hand");
}

#[test]
fn layer_paths_get_the_new_name() {
    let content = content();
    let old = infected(&["a.zip", "a.zip/b", "a.zip/a.zip/c", "a.zipper/d", "z/a.zip"]);
    let new = infected(&["new.zip", "new.zip/b", "new.zip/a.zip/c", "a.zipper/d", "z/a.zip"]);
    let found = found_again(&report(&content, old), &content, "a.zip", "new.zip").expect("kept");
    assert_eq!(found.verdict, new);
    let unnamed = report(&content, infected(&["content/b"]));
    assert_eq!(found_again(&unnamed, &content, "", "x").expect("kept").verdict, infected(&["x/b"]));
    let named = report(&content, infected(&["x/b"]));
    assert_eq!(found_again(&named, &content, "x", "").expect("kept").verdict, infected(&["content/b"]));
}

#[test]
fn findings_are_kept_with_the_verdict_and_say_where_they_are() {
    let content = content();
    let with = |paths: &[&str]| {
        let mut report = report(&content, Verdict::Clean);
        let finding = |path: &&str| Finding { layer_path: (*path).to_owned(), ..Finding::default() };
        report.findings = paths.iter().map(finding).collect();
        report.findings_omitted = 7;
        report
    };
    let found = found_again(&with(&["a.zip", "a.zip/b", "a.zipper/c"]), &content, "a.zip", "new.zip");
    assert_eq!(found, Some(with(&["new.zip", "new.zip/b", "a.zipper/c"])));
    // As the store keeps it.
    let (_, cached) = VerdictCache::new(10).insert(&content, "a.zip", &with(&["a.zip/b"])).expect("kept");
    let text = serde_json::to_string(&cached).expect("a form");
    assert_eq!(serde_json::from_str::<CachedReport>(&text).expect("reads"), cached);
}

#[test]
fn the_memory_is_bounded() {
    let cache = VerdictCache::new(100);
    for number in 0..1000u32 {
        let content = Content::from_bytes(number.to_le_bytes().to_vec());
        assert!(cache.insert(&content, "a", &report(&content, Verdict::Clean)).is_some());
    }
    assert!((1..=200).contains(&cache.len()), "{cache:?}");
    let none = VerdictCache::new(0);
    assert!(none.insert(&content(), "a", &report(&content(), Verdict::Clean)).is_some(), "the store may keep it");
    assert!(none.is_empty());
    // Too heavy for the memory, but not for the store.
    let many = vec!["a"; 1_000_000];
    let (content, cache) = (content(), VerdictCache::new(100));
    assert!(cache.insert(&content, "a", &report(&content, infected(&many))).is_some());
    assert!(cache.is_empty());
}

#[tokio::test]
async fn a_hit_is_cheap() {
    let (cache, engine) = (VerdictCache::new(10), Closure::new("test", |_, _| Ok(Verdict::Clean)).with_generation("1"));
    let content = content();
    let report = engine.scan(&content, &ScanContext::named("a.txt")).await.expect("scanned");
    cache.insert(&content, "a.txt", &report).expect("kept");
    let (info, started) = (engine.info(), Instant::now());
    for _ in 0..10_000 {
        let key = VerdictCache::key(&content, &info, "b.txt").expect("a key");
        assert!(cache.get(&key, &content, "b.txt").is_some());
    }
    // Some microseconds each; this is the bound at which something is wrong.
    assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
}
