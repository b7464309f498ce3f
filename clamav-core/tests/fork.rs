//! Forks of a process that holds an engine: what they share must never make a file clean that is not.
//!
//! libclamav draws the names of its temporary files from `rand()`, whose state the children of one process share. With
//! one directory for all of them, a few scans in a thousand read another's file and called it clean.
//!
//! A child here reports by its exit status and ends with `_exit`. An alarm ends it if it hangs, which fails the test.

use std::any::Any;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::io::Write;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};

use clamav_core::{Engine, EngineBuilder, ErrorKind, Input, Layer, PendingScan, ScanRequest, Verdict};
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder};

/// Seconds after which a child hangs: all of them take a fraction of it.
const PATIENCE: u32 = 300;

// ---- Processes

/// A fork copies the locks that other threads hold, so one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

type Outcome = Result<(), String>;

/// A child that runs `body`; killed if the test ends without having waited for it.
struct Child {
    pid: libc::pid_t,
    waited: bool,
}

impl Child {
    fn fork(body: impl FnOnce() -> Outcome) -> Self {
        // SAFETY: the child runs code of this program that takes no lock of another thread (`alone`; the C library's
        // own locks it puts in order itself), and leaves by `_exit`.
        match unsafe { libc::fork() } {
            -1 => panic!("no child: {}", std::io::Error::last_os_error()),
            0 => {
                // SAFETY: alarm has no precondition; its signal ends the process.
                unsafe { libc::alarm(PATIENCE) };
                let outcome = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| Err(words(&*panic)));
                if let Err(why) = &outcome {
                    let line = format!("child {}: {why}\n", std::process::id());
                    let _ = std::io::stderr().write_all(line.as_bytes());
                }
                // SAFETY: ends this process; nothing of it runs after.
                unsafe { libc::_exit(outcome.is_err().into()) }
            }
            pid => Self { pid, waited: false },
        }
    }

    /// Waits for the end and tells whether it was a good one.
    fn wait(mut self) -> Outcome {
        let mut status = 0;
        // SAFETY: the status outlives the call.
        let pid = unsafe { libc::waitpid(self.pid, &mut status, 0) };
        self.waited = true;
        if pid != self.pid {
            return Err(format!("waitpid: {}", std::io::Error::last_os_error()));
        }
        match (libc::WIFEXITED(status), libc::WEXITSTATUS(status)) {
            (true, 0) => Ok(()),
            (true, code) => Err(format!("child {pid} ended with {code}; it said why above")),
            _ => match libc::WTERMSIG(status) {
                libc::SIGALRM => Err(format!("child {pid} hung")),
                signal => Err(format!("child {pid} was ended by signal {signal}")),
            },
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.waited {
            // SAFETY: the child is ours and was not waited for, so the number is still its own.
            unsafe { libc::kill(self.pid, libc::SIGKILL) };
            // SAFETY: as above; a null status is allowed.
            unsafe { libc::waitpid(self.pid, std::ptr::null_mut(), 0) };
        }
    }
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panicked: {}", text.unwrap_or("without words"))
}

/// A barrier between processes.
struct Barrier(*mut libc::pthread_barrier_t);

impl Barrier {
    fn new(count: u32) -> Self {
        let size = size_of::<libc::pthread_barrier_t>();
        let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping that disturbs no other.
        let memory = unsafe { libc::mmap(std::ptr::null_mut(), size, prot, flags, -1, 0) };
        assert_ne!(memory, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
        let barrier = memory.cast::<libc::pthread_barrier_t>();
        let mut attributes = std::mem::MaybeUninit::<libc::pthread_barrierattr_t>::uninit();
        // SAFETY: the calls initialise what they are given, in this order; the mapping is large enough and aligned to
        // a page, and it stays for the life of the process.
        let failed = unsafe {
            libc::pthread_barrierattr_init(attributes.as_mut_ptr())
                | libc::pthread_barrierattr_setpshared(attributes.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED)
                | libc::pthread_barrier_init(barrier, attributes.as_ptr(), count)
        };
        assert_eq!(failed, 0, "a barrier between processes");
        Self(barrier)
    }

    fn wait(&self) {
        // SAFETY: the barrier was initialised and is never destroyed.
        unsafe { libc::pthread_barrier_wait(self.0) };
    }
}

// ---- Files

fn marker() -> Vec<u8> {
    ["fork-test-", "marker-", "51d0c7e9", "a3b2"].concat().into_bytes()
}

/// Prose, with the marker or without, that packs well.
fn letter(infected: bool) -> Vec<u8> {
    let prose = b"the harbour keeps its ledgers in order while small boats carry letters between towns\n".repeat(30);
    match infected {
        true => [&prose[..], &marker(), &prose[..200]].concat(),
        false => [&prose[..], &prose[..200]].concat(),
    }
}

/// A zip with one deflated member (APPNOTE 4.3).
fn zip(name: &str, plain: &[u8]) -> Vec<u8> {
    let mut packer = DeflateEncoder::new(Vec::new(), Compression::best());
    packer.write_all(plain).expect("memory");
    let packed = packer.finish().expect("memory");
    let mut sum = flate2::Crc::new();
    sum.update(plain);
    let mut common = [20_u16, 0, 8, 0, 0x21].map(u16::to_le_bytes).concat();
    for field in [sum.sum(), packed.len() as u32, plain.len() as u32] {
        common.extend(field.to_le_bytes());
    }
    common.extend([name.len() as u16, 0].map(u16::to_le_bytes).concat());

    let mut zip = [b"PK\x03\x04", &common[..], name.as_bytes(), &packed].concat();
    let directory = [b"PK\x01\x02\x14\0", &common[..], &[0; 14], name.as_bytes()].concat();
    let (size, at) = (directory.len() as u32, zip.len() as u32);
    zip.extend(directory);
    zip.extend(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
    zip.extend([size.to_le_bytes(), at.to_le_bytes()].concat());
    zip.extend([0, 0]);
    zip
}

/// A tar (ustar) with one member, gzipped.
fn tar_gz(name: &str, plain: &[u8]) -> Vec<u8> {
    let mut header = [0_u8; 512];
    let fields =
        [(0, name), (100, "0000644"), (108, "0000000"), (116, "0000000"), (136, "00000000000"), (257, "ustar\x0000")];
    for (at, text) in fields {
        header[at..at + text.len()].copy_from_slice(text.as_bytes());
    }
    header[124..135].copy_from_slice(format!("{:011o}", plain.len()).as_bytes());
    header[148..156].fill(b' ');
    header[156] = b'0';
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let mut tar = header.to_vec();
    tar.extend(plain);
    tar.resize(tar.len().next_multiple_of(512) + 1024, 0);
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    packer.write_all(&tar).expect("memory");
    packer.finish().expect("memory")
}

struct Sample {
    name: &'static str,
    bytes: Vec<u8>,
    infected: bool,
}

/// Infected and clean in turn, all but the last two unpacked by way of temporary files.
fn samples() -> Vec<Sample> {
    let mut samples = Vec::new();
    for infected in [true, false] {
        let letter = letter(infected);
        samples.extend([
            ("letter.zip", zip("letter.txt", &letter)),
            ("outer.zip", zip("middle.zip", &zip("inner.zip", &zip("letter.txt", &letter)))),
            ("letter.tar.gz", tar_gz("letter.txt", &letter)),
            ("tar.zip", zip("letter.tar.gz", &tar_gz("inner.zip", &zip("letter.txt", &letter)))),
            ("letter.txt", letter),
        ]);
    }
    let half = samples.len() / 2;
    let clean = samples.split_off(half);
    let pairs = samples.into_iter().map(|file| (file, true)).zip(clean.into_iter().map(|file| (file, false)));
    pairs
        .flat_map(|(infected, clean)| [infected, clean])
        .map(|((name, bytes), infected)| Sample { name, bytes, infected })
        .collect()
}

// ---- The engine

/// An engine over one signature, and the directory in which it makes its own.
struct Setup {
    engine: Engine,
    definitions: tempfile::TempDir,
    temp: tempfile::TempDir,
}

impl Setup {
    fn new(threads: usize) -> Self {
        let definitions = tempfile::tempdir().expect("a temporary directory");
        let digits: String = marker().iter().map(|byte| format!("{byte:02x}")).collect();
        std::fs::write(definitions.path().join("fork.ndb"), format!("Fork.Test.Marker:0:*:{digits}\n"))
            .expect("definitions can be written");
        let temp = tempfile::tempdir().expect("a temporary directory");
        let engine = build(definitions.path(), temp.path(), threads).expect("the definitions load");
        Self { engine, definitions, temp }
    }

    fn build(&self) -> clamav_core::Result<Engine> {
        build(self.definitions.path(), self.temp.path(), 1)
    }

    /// The directories that engines have made, by the process that made them.
    fn owners(&self) -> BTreeSet<u32> {
        let entries = std::fs::read_dir(self.temp.path()).expect("listed");
        let names = entries.map(|entry| entry.expect("listed").file_name().to_string_lossy().into_owned());
        names
            .filter(|name| !name.ends_with(".lock"))
            .map(|name| {
                let pid = name.strip_prefix("scan-pipeline-").and_then(|rest| rest.split('-').next());
                pid.and_then(|pid| pid.parse().ok()).unwrap_or_else(|| panic!("a file of nobody: {name}"))
            })
            .collect()
    }

    /// What libclamav left in the directories of engines.
    fn leftovers(&self) -> Vec<PathBuf> {
        let dirs = std::fs::read_dir(self.temp.path()).expect("listed").map(|entry| entry.expect("listed").path());
        dirs.filter(|path| path.is_dir())
            .flat_map(|dir| std::fs::read_dir(dir).expect("listed"))
            .map(|entry| entry.expect("listed").path())
            .collect()
    }
}

fn build(definitions: &Path, temp: &Path, threads: usize) -> clamav_core::Result<Engine> {
    EngineBuilder::new().definitions(definitions).temp_dir(temp).threads(threads).build()
}

fn right(engine: &Engine, sample: &Sample) -> Outcome {
    judge(sample, engine.scan(sample.bytes.as_slice(), ScanRequest::named(sample.name)))
}

fn judge(sample: &Sample, result: clamav_core::Result<clamav_core::Report>) -> Outcome {
    let report = result.map_err(|error| format!("{}: {} ({error})", sample.name, error.kind()))?;
    match (&report.verdict, sample.infected) {
        (Verdict::Infected { .. }, true) | (Verdict::Clean, false) => Ok(()),
        (Verdict::Clean, true) => Err(format!("{}: FALSE CLEAN", sample.name)),
        _ => Err(format!("{}: wrong: {:?}", sample.name, report.verdict)),
    }
}

fn all_right(engine: &Engine) -> Outcome {
    samples().iter().try_for_each(|sample| right(engine, sample))
}

fn is_forked<T>(what: &str, result: clamav_core::Result<T>) -> Outcome {
    match result {
        Ok(_) => Err(format!("{what} was not refused")),
        Err(error) if error.kind() == ErrorKind::Forked => Ok(()),
        Err(error) => Err(format!("{what} was refused as {}: {error}", error.kind())),
    }
}

fn me() -> u32 {
    std::process::id()
}

// ---- Tests

#[test]
fn children_in_lockstep_give_no_wrong_verdict() {
    const CHILDREN: u32 = 4;
    const SCANS: usize = 3_000;
    let _alone = alone();
    let setup = Setup::new(1);
    let samples = samples();
    all_right(&setup.engine).expect("right before the forks");

    let barrier = Barrier::new(CHILDREN);
    let children: Vec<_> = (0..CHILDREN as usize)
        .map(|number| {
            Child::fork(|| {
                let mut wrong = Vec::new();
                for scan in 0..SCANS {
                    // All at once, one an infected file while the next has a clean one of the same kind.
                    barrier.wait();
                    if let Err(why) = right(&setup.engine, &samples[(scan + number) % samples.len()]) {
                        wrong.push(format!("scan {scan}: {why}"));
                    }
                }
                if !setup.owners().contains(&me()) {
                    wrong.push(String::from("no temporary directory of its own"));
                }
                match wrong.len() {
                    0 => Ok(()),
                    count => Err(format!("{count} of {SCANS} wrong: {:?}", &wrong[..count.min(5)])),
                }
            })
        })
        .collect();
    // One that dies leaves the others at the barrier, until their alarms end them.
    let outcomes: Vec<_> = children.into_iter().map(Child::wait).collect();
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:#?}");

    all_right(&setup.engine).expect("right after the forks");
    assert_eq!(setup.leftovers(), Vec::<PathBuf>::new());
    assert_eq!(setup.owners().len(), 1 + CHILDREN as usize, "children that end by _exit leave theirs behind");
    let next = setup.build().expect("another engine");
    assert_eq!(setup.owners(), BTreeSet::from([me()]), "and the next engine removes them");
    all_right(&next).expect("right on the next engine");
    all_right(&setup.engine).expect("right after the sweep");
}

#[test]
fn a_child_that_drops_the_engine_removes_its_own_directory_only() {
    let _alone = alone();
    let mut setup = Setup::new(2);
    all_right(&setup.engine).expect("right before the fork");
    let spare = setup.build().expect("another engine");
    let parent = me();
    Child::fork(|| {
        all_right(&setup.engine)?;
        let owners = setup.owners();
        if owners != BTreeSet::from([parent, me()]) {
            return Err(format!("directories of {owners:?}"));
        }
        drop(std::mem::replace(&mut setup.engine, spare.clone()));
        match setup.owners() {
            owners if owners == BTreeSet::from([parent]) => Ok(()),
            owners => Err(format!("directories of {owners:?} after the engine was dropped")),
        }
    })
    .wait()
    .expect("the child is right");
    all_right(&setup.engine).expect("the parent's directory is still there");
}

#[test]
fn a_grandchild_scans_in_a_directory_of_its_own() {
    let _alone = alone();
    let setup = Setup::new(1);
    let parent = me();
    Child::fork(|| {
        all_right(&setup.engine)?;
        let child = me();
        Child::fork(|| {
            all_right(&setup.engine)?;
            match setup.owners() {
                owners if owners == BTreeSet::from([parent, child, me()]) => Ok(()),
                owners => Err(format!("directories of {owners:?}")),
            }
        })
        .wait()?;
        all_right(&setup.engine)?;
        // And one whose parent has not scanned since its own birth.
        Child::fork(|| Child::fork(|| all_right(&setup.engine)).wait()).wait()
    })
    .wait()
    .expect("all of them are right");
    all_right(&setup.engine).expect("the parent goes on");
}

#[test]
fn a_child_loads_an_engine_of_its_own() {
    let _alone = alone();
    let setup = Setup::new(1);
    Child::fork(|| {
        let own = setup.build().map_err(|error| error.to_string())?;
        all_right(&own)?;
        all_right(&setup.engine)
    })
    .wait()
    .expect("the child is right");
    all_right(&setup.engine).expect("the parent goes on");
}

/// Starts a scan that stays inside libclamav until the sender sends.
fn hold(engine: &Engine, sample: &Sample) -> (PendingScan, Sender<()>) {
    let (inside, is_inside) = channel();
    let (go_on, may_go_on) = channel::<()>();
    let request = ScanRequest::named("held.zip").detector(move |_: &Layer<'_>| {
        inside.send(()).expect("the test listens");
        may_go_on.recv().expect("the test lets go");
        ControlFlow::Break(())
    });
    let pending = engine.submit(sample.bytes.as_slice(), request).expect("taken");
    is_inside.recv().expect("the scan is inside libclamav");
    (pending, go_on)
}

#[test]
fn a_child_made_during_a_scan_is_refused_and_does_not_hang() {
    let _alone = alone();
    let setup = Setup::new(2);
    let samples = samples();
    let (pending, go_on) = hold(&setup.engine, &samples[0]);
    let child = Child::fork(|| {
        for sample in &samples {
            let result = setup.engine.scan(sample.bytes.as_slice(), ScanRequest::named(sample.name));
            is_forked(sample.name, result)?;
        }
        is_forked("loading", setup.build())
    });
    let outcome = child.wait();
    let unasked = Child::fork(|| {
        Child::fork(|| {
            is_forked("a grandchild's first scan", setup.engine.scan(samples[0].bytes.as_slice(), ScanRequest::new()))
        })
        .wait()
    });
    let unasked = unasked.wait();

    go_on.send(()).expect("the detector waits");
    judge(&samples[0], pending.wait()).expect("the parent's scan is not disturbed");
    all_right(&setup.engine).expect("the parent goes on");
    outcome.expect("the child is refused");
    unasked.expect("a child of a child that did not try is refused");
    Child::fork(|| all_right(&setup.engine)).wait().expect("a child made when nothing runs is right");
}

#[test]
fn so_are_the_children_of_a_refused_child() {
    let _alone = alone();
    let setup = Setup::new(2);
    let sample = &samples()[0];
    let (pending, go_on) = hold(&setup.engine, sample);
    let scan = || setup.engine.scan(sample.bytes.as_slice(), ScanRequest::named(sample.name));
    let outcome = Child::fork(|| {
        is_forked("the child's scan", scan())?;
        Child::fork(|| is_forked("the grandchild's scan", scan())).wait()
    })
    .wait();
    go_on.send(()).expect("the detector waits");
    judge(sample, pending.wait()).expect("the parent's scan is not disturbed");
    outcome.expect("the grandchild has the same locks, and is refused");
}

#[test]
fn the_first_scans_of_a_child_may_come_at_once() {
    const THREADS: usize = 4;
    let _alone = alone();
    let setup = Setup::new(THREADS);
    let samples = samples();
    let one_child = || {
        let gate = Arc::new(AtomicUsize::new(THREADS));
        let scans = samples.iter().take(THREADS).map(|sample| {
            let input = Input::Bytes(Arc::new(Gated { gate: Arc::clone(&gate), bytes: sample.bytes.clone() }));
            (sample, setup.engine.submit(input, ScanRequest::named(sample.name)))
        });
        let scans: Vec<_> = scans.collect();
        scans.into_iter().try_for_each(|(sample, scan)| judge(sample, scan.and_then(PendingScan::wait)))?;
        Child::fork(|| all_right(&setup.engine)).wait()
    };
    let outcomes: Vec<_> = (0..200).map(|_| Child::fork(one_child).wait()).collect();
    let wrong = outcomes.iter().filter(|outcome| outcome.is_err()).count();
    assert_eq!(wrong, 0, "of {} children", outcomes.len());
}

/// Bytes that all threads get at the same moment: the last thing that the engine does before it enters libclamav.
struct Gated {
    gate: Arc<AtomicUsize>,
    bytes: Vec<u8>,
}

impl AsRef<[u8]> for Gated {
    fn as_ref(&self) -> &[u8] {
        thread_local! {
            static ASKED: Cell<usize> = const { Cell::new(0) };
        }
        // The first time, it wants their length.
        ASKED.set(ASKED.get() + 1);
        if ASKED.get() == 2 {
            self.gate.fetch_sub(1, Ordering::AcqRel);
            while self.gate.load(Ordering::Acquire) > 0 {
                std::thread::yield_now();
            }
        }
        &self.bytes
    }
}
