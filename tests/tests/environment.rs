//! What surrounds a scan and breaks: the temporary directory, the disk, the file descriptors. libclamav calls a file
//! clean when it cannot unpack it; here all fixtures with the marker are scanned in each broken environment, and none may
//! be clean. Each test first or last repairs the environment, and then every verdict has to be the true one.
//!
//! No test needs to be root, or not to be. Where root would be above a permission, the thread gives its capabilities up;
//! where the whole process has to change, the test runs itself once more as a child. The errors of real file systems
//! (read-only, full) need a mount namespace: where none can be had, that test says so on standard error, and the
//! tests of permissions and of the limit for file sizes stand for it.

use std::fs::{File, Permissions};
use std::io::Write;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use clamav_core::{Engine, EngineBuilder, Error, ErrorKind, Layer, ScanRequest, Verdict};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use scan_pipeline_tests::catalogue::{Fixture, Truth, catalogue};
use scan_pipeline_tests::{mail, marker, misc, pdf, tape, zip};

// ---- The engine and its directory

struct Setup {
    definitions: tempfile::TempDir,
    temp: tempfile::TempDir,
}

impl Setup {
    fn new() -> Self {
        let definitions = tempfile::tempdir().expect("a temporary directory");
        marker::test_definitions(definitions.path()).expect("definitions can be written");
        Self { definitions, temp: tempfile::tempdir().expect("a temporary directory") }
    }

    fn build_in(&self, temp_dir: impl AsRef<Path>) -> clamav_core::Result<Engine> {
        EngineBuilder::new().definitions(self.definitions.path()).temp_dir(temp_dir.as_ref()).threads(1).build()
    }

    fn engine(&self) -> Engine {
        self.build_in(self.temp.path()).expect("the test definitions load")
    }

    /// The engine's own directory.
    fn engine_dir(&self) -> PathBuf {
        engine_dir(self.temp.path())
    }
}

fn engine_dir(parent: &Path) -> PathBuf {
    let entries = std::fs::read_dir(parent).expect("listed").map(|entry| entry.expect("listed").path());
    let mut dirs = entries.filter(|path| path.is_dir());
    let dir = dirs.next().expect("an engine's directory");
    assert_eq!(dirs.next(), None, "there is one engine");
    dir
}

#[track_caller]
fn refused<T>(result: clamav_core::Result<T>) -> Error {
    let error = result.map(drop).expect_err("no use without a directory for temporary files");
    assert_eq!(error.kind(), ErrorKind::TempDir, "{error}");
    error
}

// ---- All fixtures

/// What became of the fixtures that hold the marker. None of them was clean.
#[derive(Debug, Default)]
struct Tally {
    found: usize,
    /// Fixtures that are found in a good environment, and were not.
    lost: usize,
    errors: usize,
}

/// Scans every fixture with the marker in it.
fn none_clean(engine: &Engine, fixtures: &[Fixture]) -> Tally {
    none_clean_when(engine, fixtures, |name| ScanRequest::named(name), || {})
}

/// The same with something that happens during each scan, and is repaired after it.
fn none_clean_when(
    engine: &Engine,
    fixtures: &[Fixture],
    request: impl Fn(&str) -> ScanRequest,
    repair: impl Fn(),
) -> Tally {
    let mut tally = Tally::default();
    let mut clean = Vec::new();
    for Fixture { name, bytes, truth } in fixtures {
        let result = engine.scan(bytes.as_slice(), request(name));
        repair();
        match result.map(|report| report.verdict) {
            Ok(Verdict::Infected { .. }) => tally.found += 1,
            Ok(Verdict::Unscannable { .. }) if *truth == Truth::NeverClean => {}
            Ok(Verdict::Unscannable { .. }) => tally.lost += 1,
            Ok(Verdict::Clean) => clean.push(name),
            Err(_) => tally.errors += 1,
        }
    }
    assert!(clean.is_empty(), "{} FALSE CLEAN: {clean:?}; the others: {tally:?}", clean.len());
    tally
}

impl Tally {
    /// An environment that disturbs no scan proves nothing.
    #[track_caller]
    fn disturbed(&self, least: usize) {
        assert!(self.lost + self.errors >= least, "the scans were not disturbed: {self:?}");
    }
}

/// What is infected, seen or not, of the catalogue.
fn with_marker() -> Vec<Fixture> {
    let mut fixtures = catalogue();
    fixtures.retain(|fixture| fixture.name.starts_with("infected-") || fixture.name.starts_with("hidden-"));
    assert!(fixtures.len() > 100, "{}", fixtures.len());
    fixtures
}

/// The control: all verdicts are true again.
#[track_caller]
fn all_true(engine: &Engine) {
    let mut wrong = Vec::new();
    for Fixture { name, bytes, truth } in catalogue() {
        let verdict = engine.scan(bytes, ScanRequest::named(name.as_str())).map(|report| report.verdict);
        let right = match (&verdict, truth) {
            (Ok(verdict), Truth::Clean) => *verdict == Verdict::Clean,
            (Ok(verdict), Truth::Infected) => matches!(verdict, Verdict::Infected { .. }),
            (Ok(verdict), Truth::NeverClean) => *verdict != Verdict::Clean,
            (Ok(_), _) => true,
            (Err(_), _) => false,
        };
        if !right {
            wrong.push(format!("{name} ({truth:?}): {verdict:?}"));
        }
    }
    assert!(wrong.is_empty(), "wrong in a good environment: {wrong:#?}");
}

/// Runs `act` on the scan thread when the file has been opened and nothing unpacked.
fn meanwhile(name: &str, act: impl Fn() + Send + 'static) -> ScanRequest {
    ScanRequest::named(name).detector(move |_: &Layer<'_>| {
        act();
        ControlFlow::Break(())
    })
}

// ---- Permissions, which root is above until it gives that up

/// From now on this thread, and those it starts, are held to permissions.
fn obey_permissions() {
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
        .expect("capabilities can always be given up");
}

/// Runs `body` on a thread that is held to permissions.
fn obeying_permissions(body: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            obey_permissions();
            body();
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

fn set_mode(dir: &Path, mode: u32) {
    std::fs::set_permissions(dir, Permissions::from_mode(mode)).expect("its owner may change its mode");
}

/// Sets the mode of a directory and of those below it.
fn set_mode_of_all(dir: &Path, mode: u32) {
    for entry in std::fs::read_dir(dir).expect("listed").map(|entry| entry.expect("listed")) {
        if entry.file_type().expect("known").is_dir() {
            set_mode_of_all(&entry.path(), mode);
        }
    }
    set_mode(dir, mode);
}

// ---- Child processes

const CHILD: &str = "SCAN_PIPELINE_ENVIRONMENT_CHILD";

fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Runs one test of this file in a process of its own, where [`is_child`] is true, started by `prefix`.
fn in_child(test: &str, prefix: &[&str], variables: &[(&str, &Path)]) {
    let own = std::env::current_exe().expect("this program");
    let own = own.to_str().expect("a path in UTF-8");
    let command: Vec<&str> = [prefix, &[own, "--exact", test, "--nocapture", "--test-threads=1"]].concat();
    let output = Command::new(command[0])
        .args(&command[1..])
        .env(CHILD, "1")
        .envs(variables.iter().copied())
        .output()
        .unwrap_or_else(|why| panic!("{} does not start: {why}", command[0]));
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{test}: {}\n{said}", output.status);
    assert!(said.contains("1 passed"), "{test} was not run:\n{said}");
}

fn set_soft(resource: Resource, value: u64) {
    let maximum = getrlimit(resource).maximum;
    setrlimit(resource, Rlimit { current: Some(value), maximum }).expect("a soft limit can be set");
}

fn restore(resource: Resource, before: &Rlimit) {
    setrlimit(resource, *before).expect("a soft limit can be raised again");
}

// ---- No directory to begin with

#[test]
fn a_temp_dir_that_is_missing_or_a_file_is_refused() {
    let setup = Setup::new();
    let file = setup.temp.path().join("file");
    std::fs::write(&file, b"").expect("written");
    let dangling = setup.temp.path().join("dangling");
    std::os::unix::fs::symlink("nowhere", &dangling).expect("linked");
    for path in [setup.temp.path().join("missing"), file.clone(), file.join("below"), dangling, PathBuf::new()] {
        refused(setup.build_in(path));
    }
    let link = setup.temp.path().join("link");
    let target = tempfile::tempdir().expect("a temporary directory");
    std::os::unix::fs::symlink(target.path(), &link).expect("linked");
    all_true(&setup.build_in(&link).expect("a link to a directory is one"));
}

#[test]
fn a_temp_dir_that_cannot_be_written_is_refused() {
    let setup = Setup::new();
    // Nobody makes files in /proc, not even root.
    refused(setup.build_in("/proc"));
    let unwritable = setup.temp.path();
    obeying_permissions(|| {
        for mode in [0o555, 0o444, 0o333 & !0o222, 0] {
            set_mode(unwritable, mode);
            let result = setup.build_in(unwritable);
            set_mode(unwritable, 0o755);
            refused(result);
        }
        all_true(&setup.build_in(unwritable).expect("writable again"));
    });
    assert_eq!(std::fs::read_dir(unwritable).expect("listed").count(), 0, "refusals leave nothing behind");
}

// libclamav builds some names in buffers of 1,024 bytes: from about 920 bytes on it cuts them off and scans nothing of a
// page's `data:` URIs.
#[test]
fn a_temp_dir_with_a_long_path_works_or_is_refused() {
    let setup = Setup::new();
    let mut refusals = 0;
    for length in [100, 250, 700, 900, 920, 940, 980, 1_020, 1_030, 1_100, 2_000, 3_900, 3_990, 4_060] {
        let mut path = setup.temp.path().to_owned();
        while path.as_os_str().len() + 2 < length {
            path.push("d".repeat((length - path.as_os_str().len() - 1).min(200)));
        }
        std::fs::create_dir_all(&path).expect("made");
        match setup.build_in(&path) {
            Ok(engine) => all_true(&engine),
            Err(_) => refusals += 1,
        }
        assert!(length > 250 || refusals == 0, "{length} is not long");
    }
    assert!(refusals > 0, "the longest leaves no room for a name");
}

#[test]
fn tmpdir_is_where_files_go_and_a_bad_one_is_refused() {
    const DEFINITIONS: &str = "SCAN_PIPELINE_DEFINITIONS";
    const WHERE: &str = "SCAN_PIPELINE_GOOD";
    let test = "tmpdir_is_where_files_go_and_a_bad_one_is_refused";
    if is_child() {
        let definitions = std::env::var_os(DEFINITIONS).expect("set");
        let built = EngineBuilder::new().definitions(definitions).threads(1).build();
        match std::env::var_os(WHERE) {
            None => drop(refused(built)),
            Some(good) => {
                let engine = built.expect("a good directory");
                engine_dir(Path::new(&good));
                all_true(&engine);
            }
        }
        return;
    }
    let setup = Setup::new();
    let (definitions, good) = (setup.definitions.path(), setup.temp.path());
    let file = definitions.join("test.ndb");
    for bad in [&good.join("missing"), &file, Path::new("/proc"), Path::new("")] {
        in_child(test, &[], &[(DEFINITIONS, definitions), ("TMPDIR", bad)]);
    }
    in_child(test, &[], &[(DEFINITIONS, definitions), ("TMPDIR", good), (WHERE, good)]);
    assert_eq!(std::fs::read_dir(good).expect("listed").count(), 0, "nothing is left behind");
}

// ---- It goes away or shuts between two scans

#[test]
fn a_directory_removed_between_scans_is_put_back() {
    let setup = Setup::new();
    let engine = setup.engine();
    for _ in 0..3 {
        std::fs::remove_dir_all(setup.engine_dir()).expect("removed");
        all_true(&engine);
    }
    // By something else under its name.
    let dir = setup.engine_dir();
    std::fs::remove_dir_all(&dir).expect("removed");
    std::fs::write(&dir, b"a file").expect("written");
    let tally = none_clean(&engine, &with_marker());
    tally.disturbed(50);
    std::fs::remove_file(&dir).expect("removed");
    all_true(&engine);
}

#[test]
fn without_the_directory_above_nothing_is_clean() {
    let setup = Setup::new();
    let above = setup.temp.path().join("above");
    std::fs::create_dir(&above).expect("made");
    let engine = setup.build_in(&above).expect("a good directory");
    std::fs::remove_dir_all(&above).expect("removed");
    let fixtures = with_marker();
    let tally = none_clean(&engine, &fixtures);
    assert_eq!(tally.errors, fixtures.len(), "{tally:?}");
    refused(engine.scan(marker::harmless(), ScanRequest::new()));
    std::fs::create_dir(&above).expect("made");
    all_true(&engine);
}

#[test]
fn a_directory_shut_between_scans_is_an_error() {
    let setup = Setup::new();
    obeying_permissions(|| {
        let engine = setup.engine();
        let dir = setup.engine_dir();
        let fixtures = with_marker();
        for mode in [0o555, 0o666, 0] {
            set_mode(&dir, mode);
            let tally = none_clean(&engine, &fixtures);
            let clean = engine.scan(marker::harmless(), ScanRequest::new());
            set_mode(&dir, 0o700);
            assert_eq!(tally.errors, fixtures.len(), "{tally:?}");
            refused(clean);
        }
        all_true(&engine);
    });
}

// ---- During a scan

#[test]
fn a_directory_removed_during_a_scan_never_makes_it_clean() {
    let setup = Setup::new();
    let engine = setup.engine();
    let dir = setup.engine_dir();
    let remove = |name: &str| {
        let dir = dir.clone();
        meanwhile(name, move || std::fs::remove_dir_all(&dir).expect("removed"))
    };
    none_clean_when(&engine, &with_marker(), remove, || {}).disturbed(50);
    all_true(&engine);
    // And with everything above it.
    let above = setup.temp.path().join("above");
    std::fs::create_dir(&above).expect("made");
    let engine = setup.build_in(&above).expect("a good directory");
    let remove = |name: &str| {
        let above = above.clone();
        meanwhile(name, move || std::fs::remove_dir_all(&above).expect("removed"))
    };
    let put_back = || std::fs::create_dir(&above).expect("made");
    none_clean_when(&engine, &with_marker(), remove, put_back).disturbed(50);
    all_true(&engine);
}

#[test]
fn a_directory_shut_during_a_scan_never_makes_it_clean() {
    let setup = Setup::new();
    let dir;
    {
        let engine = setup.engine();
        dir = setup.engine_dir();
        for mode in [0o555, 0] {
            let shut = |name: &str| {
                let dir = dir.clone();
                meanwhile(name, move || {
                    set_mode_of_all(&dir, mode);
                    obey_permissions();
                })
            };
            none_clean_when(&engine, &with_marker(), shut, || reopen(&dir)).disturbed(50);
        }
        all_true(&engine);
    }
    assert!(!dir.exists(), "the engine has removed it");
}

/// Opens the directories again, from the outside in.
fn reopen(dir: &Path) {
    set_mode(dir, 0o700);
    for entry in std::fs::read_dir(dir).expect("listed").map(|entry| entry.expect("listed")) {
        if entry.file_type().expect("known").is_dir() {
            reopen(&entry.path());
        }
    }
}

// ---- Limits of the process

// libclamav writes the parts of mails through a buffer and does not look whether they arrived: on a full disk a part comes
// out empty or cut off, without a word.
#[test]
fn files_that_cannot_grow_never_make_a_scan_clean() {
    let test = "files_that_cannot_grow_never_make_a_scan_clean";
    if !is_child() {
        // Without the trap the first write that is too long ends the process.
        return in_child(test, &["sh", "-c", "trap '' XFSZ; exec \"$0\" \"$@\""], &[]);
    }
    let setup = Setup::new();
    let engine = setup.engine();
    let fixtures = with_marker();
    let before = getrlimit(Resource::Fsize);
    // Nothing can be written, or a first part of it: as on a file system that is full or runs full.
    for most in [0, 1, 512, 1_500] {
        set_soft(Resource::Fsize, most);
        let built = setup.build_in(setup.definitions.path());
        let between = std::panic::catch_unwind(|| none_clean(&engine, &fixtures));
        restore(Resource::Fsize, &before);
        between.unwrap_or_else(|panic| std::panic::resume_unwind(panic)).disturbed(20);
        refused(built);
        let fill = |name: &str| meanwhile(name, move || set_soft(Resource::Fsize, most));
        let meanwhile = none_clean_when(&engine, &fixtures, fill, || restore(Resource::Fsize, &before));
        meanwhile.disturbed(20);
    }
    all_true(&engine);
}

// A normalised web page, an object of an RTF file or a forwarded mail that libclamav cannot open a file for is left out
// without a word.
#[test]
fn too_many_open_files_never_make_a_scan_clean() {
    let test = "too_many_open_files_never_make_a_scan_clean";
    if !is_child() {
        return in_child(test, &[], &[]);
    }
    let setup = Setup::new();
    let engine = setup.engine();
    let fixtures = with_marker();
    set_soft(Resource::Nofile, 256);
    for spare in 0..4 {
        let open = use_up_descriptors(spare);
        if spare == 0 {
            setup.build_in(setup.definitions.path()).map(drop).expect_err("no file can be opened");
        }
        let between = none_clean(&engine, &fixtures);
        drop(open);
        let held = Arc::new(Mutex::new(Vec::new()));
        let use_up = |name: &str| {
            let held = Arc::clone(&held);
            meanwhile(name, move || *held.lock().expect("not poisoned") = use_up_descriptors(spare))
        };
        let meanwhile = none_clean_when(&engine, &fixtures, use_up, || held.lock().expect("not poisoned").clear());
        if spare == 0 {
            between.disturbed(50);
            meanwhile.disturbed(20);
        }
    }
    all_true(&engine);
}

/// Opens files until no more can be, then closes a few.
fn use_up_descriptors(spare: usize) -> Vec<File> {
    let mut open: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    assert!((spare + 1..1_000).contains(&open.len()), "{} could be opened", open.len());
    open.truncate(open.len() - spare);
    open
}

// ---- Real file systems

/// Runs `test` where it may mount; says so when it may not.
fn with_mounts(test: &str) {
    let ways: [&[&str]; 3] = [
        &["unshare", "--mount"],
        &["unshare", "--map-root-user", "--mount"],
        &["sudo", "--non-interactive", "--preserve-env", "unshare", "--mount"],
    ];
    let works = |way: &&&[&str]| {
        let mut command = Command::new(way[0]);
        let probe = command.args(&way[1..]).args(["mount", "-t", "tmpfs", "tmpfs", "/mnt"]).output();
        probe.is_ok_and(|output| output.status.success())
    };
    match ways.iter().find(works) {
        Some(way) => in_child(test, way, &[]),
        None => {
            // Past the test harness, which shows what passing tests print to nobody.
            let note = format!(
                "\nNOT RUN: {test}: this system gives no mount namespace (neither unshare nor sudo). The errors that it \
                 would have made are made by permissions and limits in the other tests of this file.\n"
            );
            std::io::stderr().write_all(note.as_bytes()).expect("standard error is open");
        }
    }
}

fn mount(options: &str, dir: &Path) {
    let output = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(dir).output();
    let output = output.expect("mount starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn unmount(dir: &Path) {
    let output = Command::new("umount").arg("--lazy").arg(dir).output().expect("umount starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_read_only_file_system_never_makes_a_scan_clean() {
    let test = "a_read_only_file_system_never_makes_a_scan_clean";
    if !is_child() {
        return with_mounts(test);
    }
    let setup = Setup::new();
    let shut = setup.definitions.path().join("read-only");
    std::fs::create_dir(&shut).expect("made");
    mount("ro", &shut);
    let error = refused(setup.build_in(&shut));
    assert!(error.to_string().contains("Read-only"), "{error}");

    let engine = setup.engine();
    let dir = setup.engine_dir();
    let fixtures = with_marker();
    mount("ro", &dir);
    let tally = none_clean(&engine, &fixtures);
    assert_eq!(tally.errors, fixtures.len(), "{tally:?}");
    unmount(&dir);
    all_true(&engine);

    let shut = |name: &str| {
        let dir = dir.clone();
        meanwhile(name, move || mount("ro", &dir))
    };
    none_clean_when(&engine, &fixtures, shut, || unmount(&dir)).disturbed(50);
    all_true(&engine);
}

// As for files that cannot grow, and for web pages where the names (inodes) run out.
#[test]
fn a_full_file_system_never_makes_a_scan_clean() {
    let test = "a_full_file_system_never_makes_a_scan_clean";
    if !is_child() {
        return with_mounts(test);
    }
    let setup = Setup::new();
    let fixtures = with_marker();
    // Out of pages, or of names.
    for options in ["size=32m", "size=32m,nr_inodes=2000"] {
        let small = tempfile::tempdir().expect("a temporary directory");
        mount(options, small.path());
        let engine = setup.build_in(small.path()).expect("there is room");
        for spare in 0..3 {
            let filler = fill(small.path(), spare);
            let tally = none_clean(&engine, &fixtures);
            if spare == 0 {
                tally.disturbed(50);
                refused(setup.build_in(small.path()));
            }
            std::fs::remove_dir_all(filler).expect("removed");
            let filling = |name: &str| {
                let small = small.path().to_owned();
                meanwhile(name, move || drop(fill(&small, spare)))
            };
            let empty = || std::fs::remove_dir_all(small.path().join("filler")).expect("removed");
            let tally = none_clean_when(&engine, &fixtures, filling, empty);
            if spare == 0 {
                tally.disturbed(50);
            }
        }
        drop(engine);
        unmount(small.path());
    }
    all_true(&setup.engine());
}

// There is room before the scan and after it, but not for all that it unpacks: the last page of it is missing, or more.
#[test]
fn content_larger_than_the_room_never_makes_a_scan_clean() {
    let test = "content_larger_than_the_room_never_makes_a_scan_clean";
    if !is_child() {
        return with_mounts(test);
    }
    let setup = Setup::new();
    let small = tempfile::tempdir().expect("a temporary directory");
    mount("size=24m", small.path());
    let engine = setup.build_in(small.path()).expect("there is room");
    // The marker is at the end. All of it is in a zip, which says little of what will be written.
    let data = [marker::text(1_500_000, 9), marker::payload()].concat();
    let text = String::from_utf8(data.clone()).expect("text");
    let contents = [
        ("letter.eml", mail::attachment("letter.txt", &data)),
        ("letter-zip.eml", mail::attachment("letter.zip", &zip::letter(&data))),
        ("quoted-printable.eml", mail::quoted_printable(&data)),
        ("forwarded.eml", mail::forwarded(&mail::attachment("letter.txt", &data))),
        ("page.html", misc::html(&text)),
        ("data-uri.html", misc::html_data_uri(&data)),
        ("letter.pdf", pdf::attachment("letter.txt", &data)),
        ("letter.tar.gz", tape::tar_gz(&[("letter.txt", &data)])),
        ("letter.txt", data),
    ];
    for (name, bytes) in contents {
        let fixture =
            Fixture { name: format!("{name}.zip"), bytes: zip::plain(&[(name, &bytes)]), truth: Truth::Infected };
        let scan_with = |pages: usize| {
            let filler = leave(small.path(), pages);
            let tally = none_clean(&engine, std::slice::from_ref(&fixture));
            std::fs::remove_file(filler).expect("removed");
            tally.found == 1
        };
        let (mut too_few, mut enough) = (0, 20 * 256);
        assert!(!scan_with(too_few) && scan_with(enough), "{name}");
        while enough - too_few > 1 {
            let middle = too_few.midpoint(enough);
            if scan_with(middle) { enough = middle } else { too_few = middle }
        }
        for pages in enough.saturating_sub(12)..enough + 12 {
            scan_with(pages);
        }
    }
    all_true(&engine);
    drop(engine);
    unmount(small.path());
}

/// Leaves only so many pages of a file system free, by one large file.
fn leave(dir: &Path, pages: usize) -> PathBuf {
    let filler = dir.join("filler");
    let free = free_pages(dir);
    std::fs::write(&filler, vec![0; free.saturating_sub(pages) * PAGE]).expect("there is room for it");
    assert_eq!(free_pages(dir), pages);
    filler
}

fn free_pages(dir: &Path) -> usize {
    let free = rustix::fs::statvfs(dir).expect("a file system");
    usize::try_from(free.f_bavail * free.f_frsize).expect("small") / PAGE
}

const PAGE: usize = 4096;

/// Fills a file system with small files until it takes no more, then removes a few of them.
fn fill(dir: &Path, spare: usize) -> PathBuf {
    let filler = dir.join("filler");
    std::fs::create_dir(&filler).expect("there is room for a directory");
    // Most of it by one.
    let large = free_pages(dir).saturating_sub(256);
    std::fs::write(filler.join("large"), vec![0; large * PAGE]).expect("there is room for it");
    let mut files = Vec::new();
    loop {
        let path = filler.join(files.len().to_string());
        files.push(path.clone());
        if let Err(why) = std::fs::write(&path, [0; PAGE]) {
            assert_eq!(why.kind(), std::io::ErrorKind::StorageFull, "{why}");
            break;
        }
        assert!(files.len() < 10_000, "the file system has no end");
    }
    for path in files.iter().rev().filter(|path| path.metadata().is_ok_and(|data| data.len() > 0)).take(spare) {
        std::fs::remove_file(path).expect("removed");
    }
    filler
}
