//! Whether this machine can scan: what the engine has loaded, and what its scans need.

use std::path::Path;

use scan_pipeline::content::Content;
use scan_pipeline::engine::ScanContext;
use scan_pipeline::model::{EngineInfo, ReasonKind, Verdict};
use serde::Serialize;

use crate::scanner::Shared;

/// A RAR 4 archive of one stored text, which libclamav unpacks only with libclamunrar beside it.
const RAR: &[u8] =
    b"Rar!\x1a\x07\x00\xcf\x90s\x00\x00\x0d\x00\x00\x00\x00\x00\x00\x00{\xe9t\x00\x80)\x00,\x00\x00\x00,\
    \x00\x00\x00\x03\x06\x82\x0c\xaf\x00\x00!Z\x140\x09\x00\xa4\x81\x00\x00probe.txtscan-pipeline looks \
    whether this is unpacked\xc4={\x00@\x07\x00";

#[derive(Debug, Serialize)]
pub(crate) struct HealthJson {
    ok: bool,
    engine: EngineInfo,
    temp_dir: TempDir,
    memory: Memory,
    /// Whether members of RAR archives are scanned; `None` where that could not be found out.
    rar: Option<bool>,
    /// What keeps scans from working, or will.
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
struct TempDir {
    path: String,
    writable: bool,
    free_bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Memory {
    /// What this process has.
    resident_bytes: Option<u64>,
    /// Contents and scans together may take.
    budget_bytes: u64,
    /// Of that, nobody holds this much.
    budget_free_bytes: u64,
}

pub(crate) async fn health(shared: &Shared) -> HealthJson {
    let dir = shared.settings().temp_dir();
    let path = dir.display().to_string();
    let probe = tokio::task::spawn_blocking(move || (try_writing(&dir), free_space(&dir), resident_memory())).await;
    let (written, free_bytes, resident_bytes) = probe.unwrap_or((Ok(()), None, None));
    let mut problems = Vec::new();
    if let Err(why) = &written {
        problems.push(format!("the temporary directory {path} cannot be written to: {why}"));
    }
    let rar = unpacks_rar(shared).await.unwrap_or_else(|why| {
        problems.push(format!("a small archive could not be scanned: {why}"));
        None
    });
    let budget = shared.budget();
    HealthJson {
        ok: problems.is_empty(),
        engine: shared.engine().info(),
        temp_dir: TempDir { path, writable: written.is_ok(), free_bytes },
        memory: Memory { resident_bytes, budget_bytes: budget.total(), budget_free_bytes: budget.available() },
        rar,
        problems,
    }
}

async fn unpacks_rar(shared: &Shared) -> scan_pipeline::Result<Option<bool>> {
    let report = shared.engine().scan(&Content::from_bytes(RAR), &ScanContext::named("probe.rar")).await?;
    Ok(match report.verdict {
        Verdict::Clean => report.coverage.members.checked_sub(1).map(|_| true),
        Verdict::Unscannable { reasons } if reasons.iter().all(|why| why.kind == ReasonKind::Unsupported) => {
            Some(false)
        }
        _ => None,
    })
}

/// Permissions do not tell of a full or read-only file system.
fn try_writing(dir: &Path) -> std::io::Result<()> {
    use std::io::Write;
    let mut file = tempfile::tempfile_in(dir)?;
    file.write_all(&[0; 64 << 10])?;
    file.flush()
}

fn free_space(dir: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(dir).ok()?;
    stat.f_bavail.checked_mul(stat.f_frsize)
}

fn resident_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}
