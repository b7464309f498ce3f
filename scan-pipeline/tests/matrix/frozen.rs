//! Two workers on one database, of which one is frozen for longer than its leases hold (SIGSTOP), as by a machine that
//! swaps or a container that is paused. The other does everything; then the frozen one goes on where it was, believing
//! that it still has what it had. Times do not matter: only what is left in the end.

use std::ops::Range;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, waitpid};
use scan_pipeline::queue::Queue;
use scan_pipeline::store::{Store, TaskFilter, TaskState};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use crate::receiver::Receiver;
use crate::{Backend, LEASE, Site, check, child_of, history, run_child};

/// What there is to do for both, and what comes when only the thawed one is left. None of them is poison.
const FIRST: Range<usize> = 100..150;
const LATER: Range<usize> = 150..170;
/// How often the point is passed before: something is done, and most is not.
const NTH: u32 = 5;
/// How often the set-up may begin anew: on a busy machine a worker may be done before it is frozen where it can be.
const TRIES: u32 = 20;

/// Where a worker holds something of which it will not know that it has lost it.
const MOMENTS: [(&str, bool); 9] = [
    ("lease", false),
    ("claim", false),
    ("commit report", true),
    ("commit report", false),
    ("copy", true),
    ("copy", false),
    ("delete", true),
    ("effect", true),
    ("settle", true),
];

/// A worker that freezes itself at a point. It does not outlive its test.
struct Frozen {
    child: Child,
    /// Its number may be somebody else's by now.
    ended: bool,
}

impl Frozen {
    fn at(site: Site<'_>, point: &str, before: bool) -> Self {
        let mut command = child_of(site, "child", Some((point, before, NTH)));
        let command = command.env("MATRIX_FREEZES", "1").stdin(Stdio::null()).stdout(Stdio::null());
        let mut frozen = Self { child: command.spawn().expect("the child starts"), ended: false };
        assert!(frozen.await_stop(), "it never came to that point");
        frozen
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn status(&mut self, options: WaitOptions) -> Option<WaitStatus> {
        let status = waitpid(Some(self.pid()), options).expect("it is our child").map(|(_, status)| status);
        self.ended |= status.is_some_and(|status| !status.stopped());
        status
    }

    /// Waits until it is frozen, or over: which of them.
    fn await_stop(&mut self) -> bool {
        self.status(WaitOptions::UNTRACED).is_some_and(|status| status.stopped())
    }

    fn send(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it is our child");
    }

    /// Lets it go on for a moment; whether it is frozen again, and not over.
    fn nudge(&mut self) -> bool {
        self.send(Signal::CONT);
        std::thread::sleep(Duration::from_micros(500));
        self.send(Signal::STOP);
        self.await_stop()
    }

    /// Lets it go on, to its end.
    fn thaw(&mut self) {
        assert!(self.status(WaitOptions::NOHANG).is_none(), "it was frozen all the time");
        self.send(Signal::CONT);
        let status = self.status(WaitOptions::empty());
        assert_eq!(status.and_then(|status| status.exit_status()), Some(0), "the thawed worker: {status:?}");
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Whether nobody is frozen in the middle of writing to one of the files. Nobody else could write then, for as long as
/// it lasts: that is how SQLite is, and no server is there to end it.
async fn is_free(dir: &Path) -> bool {
    for file in ["state.db", "queue.db"] {
        let options = SqliteConnectOptions::new().filename(dir.join(file)).busy_timeout(Duration::from_millis(20));
        let mut connection = options.connect().await.expect("the file opens");
        let free = sqlx::query("BEGIN IMMEDIATE").execute(&mut connection).await.is_ok();
        connection.close().await.expect("it closes");
        if !free {
            return false;
        }
    }
    true
}

/// Whether it holds no lock on a file of its buckets (`/proc/locks`, proc(5)). Like SQLite's, such a lock holds for as long
/// as its owner lives, and nobody else could write the tags of that bucket.
fn holds_no_file(pid: Pid) -> bool {
    let locks = std::fs::read_to_string("/proc/locks").expect("the system's locks");
    let owner = pid.as_raw_nonzero().to_string();
    !locks.lines().any(|line| {
        // Those who wait have an arrow in the second place.
        let fields: Vec<_> = line.split_whitespace().collect();
        matches!(fields[..], [_, "FLOCK", _, _, pid, ..] if pid == owner)
    })
}

/// A history of which one worker has done a part, and is frozen where it keeps nobody else from going on.
struct Begun {
    dir: tempfile::TempDir,
    receiver: Receiver,
    queue: Arc<dyn Queue>,
    store: Arc<dyn Store>,
    frozen: Frozen,
    messages: usize,
}

/// Begins a history; `None` when the worker was done before it could be frozen in the middle.
async fn begin(backend: &Backend, point: &str, before: bool) -> Option<Begun> {
    let dir = tempfile::tempdir().expect("a directory");
    let queue = backend.queue(dir.path()).await;
    let messages = history::write(dir.path(), &*queue, FIRST).await;
    let receiver = Receiver::start(dir.path());
    let mut frozen = Frozen::at(Site { dir: dir.path(), backend, receiver: &receiver }, point, before);
    let asleep = Instant::now();
    while !holds_no_file(frozen.pid()) || matches!(backend, Backend::Sqlite) && !is_free(dir.path()).await {
        // Each lease that it loses on the way there is an attempt less for its object.
        if asleep.elapsed() > LEASE / 2 || !frozen.nudge() {
            return None;
        }
    }
    let (store, jobs) = backend.stores(dir.path()).await;
    if history::is_over(&*queue, &*store, &*jobs).await.expect("it is asked") {
        return None;
    }
    let states = vec![TaskState::Scanning, TaskState::Handling];
    let begun = store.tasks(&TaskFilter { states, ..TaskFilter::default() }).await.expect("tasks");
    let is_between = matches!(point, "lease" | "settle");
    (is_between || !begun.is_empty()).then_some(Begun { dir, receiver, queue, store, frozen, messages })
}

/// Runs a history with two workers, of which one is frozen at a point while the other does all that there is. Each try has
/// a backend of its own, with what has to live as long as it.
fn run<G>(new: impl Fn() -> (Backend, G), point: &str, before: bool) {
    let at = format!("frozen {} {point}", if before { "before" } else { "after" });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut tries = (0..TRIES).map(|_| new());
    let begun =
        tries.find_map(|(backend, guard)| Some((runtime.block_on(begin(&backend, point, before))?, backend, guard)));
    let Some((Begun { dir, receiver, queue, store, mut frozen, messages }, backend, _guard)) = begun else {
        panic!("{at}: in {TRIES} tries the worker was never frozen with something left to take over");
    };
    let dir = dir.path();
    assert!(run_child(Site { dir, backend: &backend, receiver: &receiver }, None).success());
    let messages = messages + runtime.block_on(history::write(dir, &*queue, LATER));
    frozen.thaw();
    let numbers: Vec<_> = (FIRST.start..LATER.end).collect();
    // What it was doing when it froze may have been done by the other one as well, which is no more than a death would do.
    runtime.block_on(check::all(dir, (&*store, &*queue), &numbers, (2, 1), &at));
    // Each message was settled once: what the frozen one said of those that it had lost was not taken.
    let settled = std::fs::read_to_string(dir.join("settled")).expect("some were settled").lines().count();
    assert_eq!(settled, messages, "{at}");
}

#[test]
fn sqlite_takes_nothing_from_a_worker_that_slept_through_its_leases() {
    for (point, before) in MOMENTS {
        run(|| (Backend::Sqlite, ()), point, before);
    }
}

#[cfg(feature = "postgres")]
#[test]
fn postgres_takes_nothing_from_a_worker_that_slept_through_its_leases() {
    let Some(server) = scan_pipeline_tests::postgres::shared() else { return };
    for (point, before) in MOMENTS {
        let new = || {
            let database = server.database();
            (Backend::Postgres(database.url()), database)
        };
        run(new, point, before);
    }
}
