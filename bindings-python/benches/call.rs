//! What a scan costs from Rust, for `scan.py` to compare with: CPU and wall time of scans one after the other.
//!
//! `cargo bench -p scan-pipeline-python --bench call -- DEFINITIONS FOLDER ROUNDS`

use std::time::Instant;

use scan_pipeline::content::Content;
use scan_pipeline::engine::{ClamAv, Engine, ScanContext};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [definitions, folder, rounds] = arguments.as_slice() else {
        return Err("usage: call DEFINITIONS FOLDER ROUNDS".into());
    };
    let rounds: usize = rounds.parse()?;
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        files.push((path.file_name().unwrap_or_default().to_string_lossy().into_owned(), std::fs::read(path)?));
    }
    files.sort();
    // As the binding has it.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let engine = runtime.block_on(ClamAv::builder().definitions(definitions).threads(1).build())?;
    let scan_all = || -> Result<usize, scan_pipeline::Error> {
        let mut bytes = 0;
        for (name, content) in &files {
            let content = Content::from_bytes(content.clone());
            let engine = engine.clone();
            let context = ScanContext::named(name);
            let scan = runtime.spawn(async move { engine.scan(&content, &context).await });
            let report = runtime
                .block_on(scan)
                .map_err(|why| scan_pipeline::Error::new(scan_pipeline::ErrorKind::Panicked, why.to_string()))??;
            bytes += serde_json::to_string(&report).map_or(0, |text| text.len());
        }
        Ok(bytes)
    };
    scan_all()?;
    let (wall, cpu) = (Instant::now(), cpu_seconds()?);
    for _ in 0..rounds {
        scan_all()?;
    }
    let count = (rounds * files.len()) as f64;
    let (cpu, wall) = (cpu_seconds()? - cpu, wall.elapsed().as_secs_f64());
    let line = serde_json::json!({ "cpu_us": cpu / count * 1e6, "wall_us": wall / count * 1e6, "scans": count });
    std::io::Write::write_all(&mut std::io::stdout(), format!("{line}\n").as_bytes())?;
    Ok(())
}

/// User and system time of this process with all of its threads.
fn cpu_seconds() -> Result<f64, Box<dyn std::error::Error>> {
    let mut nanoseconds = 0_u64;
    for task in std::fs::read_dir("/proc/self/task")? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        nanoseconds += text.split_whitespace().next().and_then(|word| word.parse::<u64>().ok()).unwrap_or_default();
    }
    Ok(nanoseconds as f64 / 1e9)
}
