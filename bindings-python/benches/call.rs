//! What a scan costs from Rust, for `scan.py` to compare with: CPU and wall time of scans one after the other.
//!
//! `cargo bench -p scan-pipeline-python --bench call -- DEFINITIONS LIST ROUNDS`, where LIST names a file a line.

use std::time::Instant;

use bytes::Bytes;
use scan_pipeline::content::Content;
use scan_pipeline::engine::{ClamAv, Engine, ScanContext};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [definitions, list, rounds] = arguments.as_slice() else {
        return Err("usage: call DEFINITIONS LIST ROUNDS".into());
    };
    let rounds: usize = rounds.parse()?;
    let mut files = Vec::new();
    for path in std::fs::read_to_string(list)?.lines().map(std::path::Path::new) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        files.push((name, Bytes::from(std::fs::read(path)?)));
    }
    // As the binding has it.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let engine = runtime.block_on(ClamAv::builder().definitions(definitions).threads(1).build())?;
    // Nothing beside the call: the bytes are shared, and the report is looked at and dropped.
    let scan_all = || -> Result<usize, scan_pipeline::Error> {
        let mut clean = 0;
        for (name, content) in &files {
            let content = Content::from_bytes(content.clone());
            let engine = engine.clone();
            let context = ScanContext::named(name);
            let scan = runtime.spawn(async move { engine.scan(&content, &context).await });
            let report = runtime
                .block_on(scan)
                .map_err(|why| scan_pipeline::Error::new(scan_pipeline::ErrorKind::Panicked, why.to_string()))??;
            clean += usize::from(report.verdict.status() == "clean");
        }
        Ok(clean)
    };
    scan_all()?;
    let (wall, cpu) = (Instant::now(), cpu_seconds());
    let mut clean = 0;
    for _ in 0..rounds {
        clean += scan_all()?;
    }
    let count = (rounds * files.len()) as f64;
    let (cpu, wall) = (cpu_seconds() - cpu, wall.elapsed().as_secs_f64());
    let line = serde_json::json!({
        "cpu_us": cpu / count * 1e6, "wall_us": wall / count * 1e6, "scans": count, "clean": clean,
    });
    std::io::Write::write_all(&mut std::io::stdout(), format!("{line}\n").as_bytes())?;
    Ok(())
}

/// User and system time of this process with all of its threads, those that have ended too.
fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a value of this function's own, and the call writes nothing else.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
