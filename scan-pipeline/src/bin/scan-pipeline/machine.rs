//! What the machine has: memory, room for temporary files, open files. Each is `None` where it cannot be known.

use std::io::Write;
use std::path::Path;

use rustix::process::{Resource, getrlimit};

/// Bytes that this process may still take, after the system's and its cgroup's limits.
pub(crate) fn available_memory() -> Option<u64> {
    let system = kib_of("/proc/meminfo", "MemAvailable:");
    [system, cgroup_memory()].into_iter().flatten().min()
}

/// Bytes of memory that this process holds.
pub(crate) fn resident_memory() -> Option<u64> {
    kib_of("/proc/self/status", "VmRSS:")
}

fn kib_of(file: &str, field: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// What a container's limit leaves; its page cache is counted as taken only where it cannot be given back.
fn cgroup_memory() -> Option<u64> {
    let read = |name: String| std::fs::read_to_string(name).ok();
    let number = |text: String| text.trim().parse::<u64>().ok();
    let group = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let version2 = group.lines().find_map(|line| line.strip_prefix("0::"))?.trim().to_owned();
    // Inside a container its own group is the root of what it sees.
    let dir = [format!("/sys/fs/cgroup{version2}"), String::from("/sys/fs/cgroup")]
        .into_iter()
        .find(|dir| Path::new(dir).join("memory.max").exists())?;
    let limit = number(read(format!("{dir}/memory.max"))?)?;
    let used = number(read(format!("{dir}/memory.current"))?)?;
    let cache = read(format!("{dir}/memory.stat"))
        .and_then(|stat| number(stat.lines().find_map(|line| line.strip_prefix("inactive_file "))?.to_owned()))
        .unwrap_or(0);
    Some(limit.saturating_sub(used.saturating_sub(cache)))
}

/// How many files this process may have open; `None` for any number.
pub(crate) fn open_files() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Bytes free for this user in the file system of `dir`.
pub(crate) fn free_space(dir: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(dir).ok()?;
    stat.f_bavail.checked_mul(stat.f_frsize)
}

/// Writes a megabyte to `dir` and removes it: permissions do not tell of a full or read-only file system.
pub(crate) fn try_writing(dir: &Path) -> std::io::Result<()> {
    let mut file = tempfile::Builder::new().prefix("scan-pipeline-doctor-").tempfile_in(dir)?;
    file.write_all(&vec![0; 1 << 20])?;
    file.flush()
}
