//! How threads share the processor with scans.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::Result;

/// Whether the program asked for it.
static PREFERRED: AtomicBool = AtomicBool::new(false);

/// Lets scans finish their turn: the calling thread, and every thread that is started by it from now on, no longer
/// interrupts another thread when it wakes up, but waits for a free core, for the end of that thread's time slice, which
/// is the longest that the system allows, or for the end of a scan (Linux only, elsewhere nothing happens).
///
/// A scan lives from what the processor's caches hold. Threads that wake up for every packet and every commit take it
/// from the core dozens of times a file, which costs more than their own work does. A program whose purpose is scanning
/// calls this first thing in `main`, before it builds its runtime; it pays with answers that come some ten milliseconds
/// later while all cores scan, so a web server should not. Beside other programs that want the same cores scans get less
/// of them than they did, as each gives up the rest of its turn. Niceness stays as it is, and no privilege is needed.
///
/// The policy is `SCHED_BATCH` (sched(7)) with a slice of 100 ms, which kernels from 6.12 on take into account (sched_attr's
/// `sched_runtime`); older ones have one slice for all.
///
/// # Errors
///
/// [`ErrorKind::Resources`](crate::ErrorKind::Resources) where the system forbids it (a seccomp filter). Everything works
/// as before then.
///
/// ```
/// clamav_core::prefer_throughput()?;
/// # Ok::<_, clamav_core::Error>(())
/// ```
pub fn prefer_throughput() -> Result<()> {
    #[cfg(target_os = "linux")]
    linux::batch()?;
    PREFERRED.store(true, Ordering::Relaxed);
    Ok(())
}

/// Between two scans of a thread: what waits for the core goes first, as it has been kept waiting.
pub(crate) fn between_scans() {
    if PREFERRED.load(Ordering::Relaxed) {
        std::thread::yield_now();
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::mem::size_of;
    use std::time::Duration;

    use crate::{Error, ErrorKind, Result};

    pub(super) const BATCH: u32 = libc::SCHED_BATCH.cast_unsigned();
    /// The longest that the kernel takes.
    pub(super) const SLICE: Duration = Duration::from_millis(100);

    /// What `sched_setattr(2)` takes: the first version of the structure, which every kernel knows.
    #[repr(C)]
    #[derive(Debug, Default, Clone, Copy)]
    pub(super) struct Attributes {
        size: u32,
        pub(super) policy: u32,
        flags: u64,
        pub(super) nice: i32,
        priority: u32,
        /// In nanoseconds.
        pub(super) runtime: u64,
        deadline: u64,
        period: u64,
    }

    const SIZE: u32 = size_of::<Attributes>() as u32;

    /// Those of the calling thread.
    pub(super) fn attributes() -> std::io::Result<Attributes> {
        let mut attributes = Attributes { size: SIZE, ..Attributes::default() };
        // SAFETY: 0 is the calling thread, and the kernel writes at most the size that it is told into what is ours.
        match unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, SIZE, 0) } {
            0 => Ok(attributes),
            _ => Err(std::io::Error::last_os_error()),
        }
    }

    fn set(attributes: Attributes) -> std::io::Result<()> {
        // SAFETY: 0 is the calling thread, and the kernel only reads what is ours, as much of it as its first field says.
        match unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    }

    pub(super) fn batch() -> Result<()> {
        let runtime = u64::try_from(SLICE.as_nanos()).unwrap_or(u64::MAX);
        // With the niceness that it has.
        let set = attributes().and_then(|now| set(Attributes { size: SIZE, policy: BATCH, runtime, ..now }));
        set.map_err(|why| Error::new(ErrorKind::Resources, "the scheduling policy could not be set").with_source(why))
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::linux::{Attributes, BATCH, SLICE, attributes};

    fn own() -> Attributes {
        attributes().expect("a thread has a policy")
    }

    #[test]
    fn threads_inherit_it_and_others_do_not() {
        let before = own();
        let inherited = std::thread::spawn(|| {
            super::prefer_throughput().expect("it is allowed");
            assert_eq!(own().policy, BATCH);
            std::thread::spawn(own).join().expect("no panic")
        });
        let inherited = inherited.join().expect("no panic");
        assert_eq!(inherited.policy, BATCH);
        // A kernel without slices of their own says that everybody's is 0.
        let slice = if before.runtime == 0 { 0 } else { SLICE.as_nanos() };
        assert_eq!(u128::from(inherited.runtime), slice);
        let after = own();
        assert_eq!((after.policy, after.runtime), (before.policy, before.runtime));
        assert_ne!(after.policy, BATCH);
    }

    #[test]
    fn niceness_stays_as_it_is() {
        let nicer = std::thread::spawn(|| {
            // SAFETY: the call only changes the niceness of this thread, which Linux keeps for each.
            unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 7) };
            super::prefer_throughput().expect("it is allowed");
            own()
        });
        let nicer = nicer.join().expect("no panic");
        assert_eq!((nicer.policy, nicer.nice), (BATCH, 7));
    }
}
