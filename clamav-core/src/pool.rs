//! The threads that scan: their own stacks of 8 MiB, a bounded queue, new ones after a fork.
//!
//! libclamav recurses; with the usual stack of a spawned thread a deeply nested file crashes the process.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::{Sender, TrySendError, bounded};

use crate::{Error, ErrorKind, Result, schedule};

const STACK: usize = 8 << 20;

thread_local! {
    static ON_SCAN_THREAD: Cell<bool> = const { Cell::new(false) };
}

/// Whether the caller is one of the threads that scan: it must not wait for another scan, which may wait for it.
pub(crate) fn on_scan_thread() -> bool {
    ON_SCAN_THREAD.get()
}

pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// How the queue treats a job that finds no room.
#[derive(Debug, Clone, Copy)]
pub(crate) enum WhenFull {
    Refuse,
    WaitUntil(Option<Instant>),
}

#[derive(Debug)]
pub(crate) struct Pool {
    threads: usize,
    queue: usize,
    running: AtomicPtr<Running>,
}

/// The threads of one process.
#[derive(Debug)]
struct Running {
    pid: u32,
    sender: Sender<Job>,
    workers: Mutex<Vec<JoinHandle<()>>>,
}

impl Pool {
    pub(crate) fn new(threads: usize, queue: usize) -> Result<Arc<Self>> {
        let running = Box::into_raw(Box::new(Running::start(threads, queue)?));
        Ok(Arc::new(Self { threads, queue, running: AtomicPtr::new(running) }))
    }

    pub(crate) fn submit(&self, job: Job, when_full: WhenFull) -> Result<()> {
        let sender = &self.running()?.sender;
        let busy = || Error::new(ErrorKind::Busy, "the queue of the scan threads is full");
        let gone = || Error::new(ErrorKind::Engine, "the scan threads have ended");
        match when_full {
            WhenFull::Refuse => sender.try_send(job).map_err(|why| match why {
                TrySendError::Full(_) => busy(),
                TrySendError::Disconnected(_) => gone(),
            }),
            WhenFull::WaitUntil(None) => sender.send(job).map_err(|_| gone()),
            WhenFull::WaitUntil(Some(deadline)) => sender.send_deadline(job, deadline).map_err(|why| match why {
                crossbeam_channel::SendTimeoutError::Timeout(_) => {
                    Error::new(ErrorKind::Deadline, "the deadline passed while the scan waited for a thread")
                }
                crossbeam_channel::SendTimeoutError::Disconnected(_) => gone(),
            }),
        }
    }

    /// The threads of this process. Threads do not survive a fork, and a lock of the parent's may have been held, so
    /// a child starts its own and forgets the others.
    fn running(&self) -> Result<&Running> {
        let current = self.running.load(Ordering::Acquire);
        // SAFETY: the pointer came from Box::into_raw and is freed only in Drop, which has `&mut self`.
        let running = unsafe { &*current };
        if running.pid == std::process::id() {
            return Ok(running);
        }
        let fresh = Box::into_raw(Box::new(Running::start(self.threads, self.queue)?));
        match self.running.compare_exchange(current, fresh, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: as above, for the pointer that was just stored. The parent's is leaked on purpose.
            Ok(_) => Ok(unsafe { &*fresh }),
            Err(other) => {
                // SAFETY: `fresh` was not shared with anyone.
                drop(unsafe { Box::from_raw(fresh) });
                // SAFETY: as above, for the pointer that another thread of this process stored.
                Ok(unsafe { &*other })
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: nobody else has the pool, so nobody has the pointer.
        let running = unsafe { Box::from_raw(*self.running.get_mut()) };
        if running.pid == std::process::id() {
            running.stop();
        } else {
            // The parent's threads and locks mean nothing here.
            std::mem::forget(running);
        }
    }
}

impl Running {
    fn start(threads: usize, queue: usize) -> Result<Self> {
        let (sender, receiver) = bounded::<Job>(queue);
        let mut workers = Vec::with_capacity(threads);
        for number in 0..threads {
            let receiver = receiver.clone();
            let worker = std::thread::Builder::new()
                .name(format!("clamav-scan-{number}"))
                .stack_size(STACK)
                .spawn(move || {
                    ON_SCAN_THREAD.set(true);
                    for job in receiver {
                        // A job answers for its own panics; what is left is the caller's code in a waker or a drop.
                        let _ = catch_unwind(AssertUnwindSafe(job));
                        schedule::between_scans();
                    }
                })
                .map_err(|why| Error::new(ErrorKind::Memory, "a scan thread could not be started").with_source(why))?;
            workers.push(worker);
        }
        Ok(Self { pid: std::process::id(), sender, workers: Mutex::new(workers) })
    }

    /// Lets the threads finish what is queued, and waits for them unless this is one of them.
    fn stop(self) {
        let Self { sender, workers, .. } = self;
        drop(sender);
        let workers = workers.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        let own = std::thread::current().id();
        for worker in workers {
            if worker.thread().id() != own {
                let _ = worker.join();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_refuses_or_waits_until_the_deadline() {
        let pool = Pool::new(1, 1).expect("started");
        let (release, blocked) = bounded::<()>(0);
        let (started, starts) = bounded::<()>(0);
        pool.submit(
            Box::new(move || {
                started.send(()).expect("the test listens");
                let _ = blocked.recv();
            }),
            WhenFull::Refuse,
        )
        .expect("a free thread");
        starts.recv().expect("the job runs");
        pool.submit(Box::new(|| {}), WhenFull::Refuse).expect("room in the queue");
        let refused = pool.submit(Box::new(|| {}), WhenFull::Refuse).expect_err("full");
        assert_eq!(refused.kind(), ErrorKind::Busy);
        let late = pool.submit(Box::new(|| {}), WhenFull::WaitUntil(Some(Instant::now()))).expect_err("full");
        assert_eq!(late.kind(), ErrorKind::Deadline);
        drop(release);
    }

    #[test]
    fn dropping_the_pool_finishes_what_is_queued() {
        let pool = Pool::new(2, 8).expect("started");
        let (done, dones) = crossbeam_channel::unbounded();
        for number in 0..8 {
            let done = done.clone();
            pool.submit(Box::new(move || done.send(number).expect("the test listens")), WhenFull::WaitUntil(None))
                .expect("taken");
        }
        drop(pool);
        assert_eq!(dones.try_iter().count(), 8);
    }
}
