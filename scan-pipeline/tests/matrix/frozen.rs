//! Two workers on one database, of which one is frozen for longer than its leases hold (SIGSTOP), as by a machine that
//! swaps or a container that is paused. The other does everything; then the frozen one goes on where it was, believing
//! that it still has what it had. Times do not matter: only what is left in the end.

use std::ops::Range;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, waitpid};
use scan_pipeline::store::{TaskFilter, TaskState};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use crate::{Backend, check, child_of, history, run_child};

/// What there is to do for both, and what comes when only the thawed one is left. None of them is poison.
const FIRST: Range<usize> = 100..150;
const LATER: Range<usize> = 150..170;
/// How often the point is passed before: something is done, and most is not.
const NTH: u32 = 5;

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
    fn at(dir: &Path, backend: &Backend, point: &str, before: bool) -> Self {
        let mut command = child_of(dir, backend, Some((point, before, NTH)));
        let command = command.env("MATRIX_FREEZES", "1").stdin(Stdio::null()).stdout(Stdio::null());
        let mut frozen = Self { child: command.spawn().expect("the child starts"), ended: false };
        frozen.await_stop();
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

    fn await_stop(&mut self) {
        let status = self.status(WaitOptions::UNTRACED);
        assert!(status.is_some_and(|status| status.stopped()), "it never came to that point: {status:?}");
    }

    fn send(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it is our child");
    }

    /// Lets it go on for a moment.
    fn nudge(&mut self) {
        self.send(Signal::CONT);
        std::thread::sleep(Duration::from_micros(500));
        self.send(Signal::STOP);
        self.await_stop();
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
        let options = SqliteConnectOptions::new().filename(dir.join(file)).busy_timeout(Duration::from_millis(100));
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

/// Runs a history with two workers, of which one is frozen at a point while the other does all that there is.
fn run(backend: &Backend, point: &str, before: bool) {
    let at = format!("frozen {} {point}", if before { "before" } else { "after" });
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let queue = runtime.block_on(backend.queue(dir));
    let mut messages = runtime.block_on(history::write(dir, &*queue, FIRST));
    let mut frozen = Frozen::at(dir, backend, point, before);
    while !holds_no_file(frozen.pid()) || matches!(backend, Backend::Sqlite) && !runtime.block_on(is_free(dir)) {
        frozen.nudge();
    }
    let store = runtime.block_on(backend.store(dir));
    runtime.block_on(async {
        assert!(
            !history::is_over(&*queue, &*store).await.expect("it is asked"),
            "{at}: something is left to take over"
        );
        let states = vec![TaskState::Scanning, TaskState::Handling];
        let begun = store.tasks(&TaskFilter { states, ..TaskFilter::default() }).await.expect("tasks");
        assert!(!begun.is_empty() || matches!(point, "lease" | "settle"), "{at}: nothing was begun");
    });
    assert!(run_child(dir, backend, None).success());
    messages += runtime.block_on(history::write(dir, &*queue, LATER));
    frozen.thaw();
    runtime.block_on(check::all(dir, (&*store, &*queue), FIRST.start..LATER.end, 2, &at));
    // Each message was settled once: what the frozen one said of those that it had lost was not taken.
    let settled = std::fs::read_to_string(dir.join("settled")).expect("some were settled").lines().count();
    assert_eq!(settled, messages, "{at}");
}

#[test]
#[ignore = "on a busy machine the frozen worker may be done before it is frozen where it can be: run it alone"]
fn sqlite_takes_nothing_from_a_worker_that_slept_through_its_leases() {
    for (point, before) in MOMENTS {
        run(&Backend::Sqlite, point, before);
    }
}

#[cfg(feature = "postgres")]
#[test]
#[ignore = "on a busy machine the frozen worker may be done before it is frozen where it can be: run it alone"]
fn postgres_takes_nothing_from_a_worker_that_slept_through_its_leases() {
    let Some(server) = scan_pipeline_tests::postgres::shared() else { return };
    for (point, before) in MOMENTS {
        let database = server.database();
        run(&Backend::Postgres(database.url()), point, before);
    }
}
