//! The other ways to scan with ClamAV, with the same definitions and files: `clamd` over its socket, and `clamscan`.
//!
//! ```text
//! peers [--quick]
//! ```
//!
//! Needs the programs (`apt install clamav clamav-daemon`) and fails without them. It starts a `clamd` of its own, with
//! the limits of `clamav-core` and without the clean cache, which would answer for files instead of scanning them.
#![allow(clippy::print_stdout)] // It is what a program is for.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clamav_core::Limits;
use scan_pipeline_benches::definitions::{self, MARKER, MARKER_NAME, Plan};
use scan_pipeline_benches::files::{self, BenchFile, UNEQUAL};
use scan_pipeline_benches::measure::{Spread, cpu, cpu_of_children};
use scan_pipeline_benches::{Result, flag};

fn main() -> Result<()> {
    let clamd = program("clamd")?;
    let clamscan = program("clamscan")?;
    let definitions = files::target_dir().join("bench-definitions");
    definitions::generate(&Plan::FULL, &definitions)?;
    let mut all = files::prepare(&files::target_dir().join("bench-files"))?;
    all.retain(|file| file.kind != UNEQUAL);
    if flag("--quick") {
        all = all.into_iter().step_by(4).collect();
    }
    println!("{} files", all.len());
    measure_clamd(&clamd, &definitions, &all)?;
    measure_clamscan(&clamscan, &definitions, &all)
}

/// Finds a program, in the folders for administrators too.
fn program(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    folders
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| format!("{name} is not installed: apt install clamav clamav-daemon").into())
}

/// A running clamd; ended when dropped.
struct Clamd {
    process: Child,
    socket: PathBuf,
    _folder: tempfile::TempDir,
}

impl Drop for Clamd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Clamd {
    fn start(program: &Path, definitions: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let socket = folder.path().join("clamd.sock");
        let limits = Limits::default();
        let config = format!(
            "LocalSocket {}\nDatabaseDirectory {}\nTemporaryDirectory {}\nForeground yes\nConcurrentDatabaseReload no\n\
             DisableCache yes\nMaxThreads 2\nLogFile {}\nStreamMaxLength {most}\nMaxFileSize {most}\nMaxScanSize {}\n\
             MaxRecursion {}\nMaxFiles {}\nMaxScanTime {}\nMaxEmbeddedPE {most}\nMaxHTMLNormalize {most}\n\
             MaxHTMLNoTags {most}\nMaxScriptNormalize {most}\nPCREMaxFileSize {most}\nAlertExceedsMax yes\n\
             AlertEncrypted yes\n",
            socket.display(),
            fs::canonicalize(definitions)?.display(),
            folder.path().display(),
            folder.path().join("clamd.log").display(),
            limits.max_scan_size,
            limits.max_recursion,
            limits.max_files,
            limits.max_scan_time.as_millis(),
            most = limits.max_file_size,
        );
        let config_path = folder.path().join("clamd.conf");
        fs::write(&config_path, config)?;
        let mut command = Command::new(program);
        command.arg("--config-file").arg(&config_path).stdout(Stdio::null());
        let mut clamd = Self { process: command.spawn()?, socket, _folder: folder };
        let started = Instant::now();
        while clamd.ask(b"zPING\0").is_err() {
            if let Some(status) = clamd.process.try_wait()? {
                return Err(format!("clamd ended: {status}").into());
            }
            if started.elapsed() > Duration::from_secs(300) {
                return Err("clamd does not answer".into());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(clamd)
    }

    fn ask(&self, words: &[u8]) -> Result<String> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.write_all(words)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Sends one file, over a connection of its own as most clients do, and waits for the answer.
    fn scan(&self, bytes: &[u8]) -> Result<String> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.write_all(b"zINSTREAM\0")?;
        for chunk in bytes.chunks(1 << 20) {
            stream.write_all(&(chunk.len() as u32).to_be_bytes())?;
            stream.write_all(chunk)?;
        }
        stream.write_all(&[0; 4])?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Processor time of the server so far, in the kernel's steps of 10 ms.
    fn cpu(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |place: usize| -> Result<u64> { Ok(fields.get(place).ok_or("/proc changed")?.parse()?) };
        Ok(Duration::from_millis((ticks(11)? + ticks(12)?) * 10))
    }
}

fn measure_clamd(program: &Path, definitions: &Path, all: &[BenchFile]) -> Result<()> {
    let started = Instant::now();
    let clamd = Clamd::start(program, definitions)?;
    println!("clamd: ready after {:.1} s", started.elapsed().as_secs_f64());
    let answer = clamd.scan(MARKER)?;
    if !answer.contains(MARKER_NAME) {
        return Err(format!("clamd does not find the marker: {answer}").into());
    }
    let rounds = if flag("--quick") { 1 } else { 3 };
    for clients in [1, 2] {
        let (mut cost, mut rate) = (Vec::new(), Vec::new());
        for round in 0..=rounds {
            let next = AtomicUsize::new(0);
            let (wall, own, server) = (Instant::now(), cpu(), clamd.cpu()?);
            let answers = std::thread::scope(|scope| -> Result<[usize; 2]> {
                let work = || -> Result<[usize; 2]> {
                    let mut answers = [0; 2];
                    while let Some(file) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let answer = clamd.scan(&file.bytes)?;
                        if answer.contains("ERROR") {
                            return Err(format!("clamd said of {}: {answer}", file.path.display()).into());
                        }
                        answers[usize::from(answer.contains("FOUND"))] += 1;
                    }
                    Ok(answers)
                };
                let workers: Vec<_> = (0..clients).map(|_| scope.spawn(work)).collect();
                let mut sum = [0; 2];
                for worker in workers {
                    let answers = worker.join().map_err(|_| "a client panicked")??;
                    (0..2).for_each(|kind| sum[kind] += answers[kind]);
                }
                Ok(sum)
            })?;
            if round == 0 {
                println!("clamd, {clients} client(s): {} ok, {} alerts", answers[0], answers[1]);
                continue; // Warms up.
            }
            let (client, server) = (cpu() - own, clamd.cpu()? - server);
            cost.push((client + server).as_secs_f64() / all.len() as f64 * 1e3);
            rate.push(all.len() as f64 / wall.elapsed().as_secs_f64());
        }
        let (cost, rate) = (Spread::of(cost), Spread::of(rate));
        println!(
            "clamd, {clients} client(s): {:.0} files/s ({:.0}..{:.0}), {:.2} ms of processor a file ({:.2}..{:.2})",
            rate.median, rate.lowest, rate.highest, cost.median, cost.lowest, cost.highest
        );
    }
    Ok(())
}

fn measure_clamscan(program: &Path, definitions: &Path, all: &[BenchFile]) -> Result<()> {
    let few = all.iter().step_by((all.len() / 4).max(1)).take(if flag("--quick") { 1 } else { 4 });
    let (mut cost, mut time) = (Vec::new(), Vec::new());
    for file in few {
        let (wall, before) = (Instant::now(), cpu_of_children());
        let mut command = Command::new(program);
        command.arg("--no-summary").arg("--database").arg(definitions).arg(&file.path);
        let output = command.output()?;
        if !output.status.success() {
            return Err(format!("clamscan said: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        time.push(wall.elapsed().as_secs_f64());
        cost.push((cpu_of_children() - before).as_secs_f64());
    }
    let (cost, time) = (Spread::of(cost), Spread::of(time));
    println!(
        "clamscan a file: {:.1} s ({:.1}..{:.1}), {:.1} s of processor",
        time.median, time.lowest, time.highest, cost.median
    );
    Ok(())
}
