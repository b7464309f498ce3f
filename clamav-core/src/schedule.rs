//! How threads share the processor with scans.

use crate::{Error, ErrorKind, Result};

/// Lets scans finish their turn: the calling thread, and every thread that is started by it from now on, no longer
/// interrupts another thread when it wakes up, but waits for a free core or the end of that thread's time slice
/// (`SCHED_BATCH`, sched(7); Linux only, elsewhere nothing happens).
///
/// A scan lives from what the processor's caches hold. Threads that wake up for every packet and every commit take it
/// from the core dozens of times a file, which costs more than their own work does. A program whose purpose is scanning
/// calls this first thing in `main`, before it builds its runtime; it pays with answers that come some milliseconds later
/// while all cores scan, so a web server should not. Niceness stays as it is, and no privilege is needed.
///
/// # Errors
///
/// [`ErrorKind::Resources`] where the system forbids it (a seccomp filter). Everything works as before then.
///
/// ```
/// clamav_core::prefer_throughput()?;
/// # Ok::<_, clamav_core::Error>(())
/// ```
pub fn prefer_throughput() -> Result<()> {
    #[cfg(target_os = "linux")]
    {
        let param = libc::sched_param { sched_priority: 0 };
        // SAFETY: `param` outlives the call, which only reads it; 0 is the calling thread.
        if unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const param) } != 0 {
            let why = std::io::Error::last_os_error();
            return Err(Error::new(ErrorKind::Resources, "the scheduling policy could not be set").with_source(why));
        }
    }
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    /// The 41st field of proc(5)'s `stat`; the first that is counted here is the third.
    fn policy() -> i32 {
        let text = std::fs::read_to_string("/proc/thread-self/stat").expect("a thread has a status");
        let fields = text.rsplit_once(')').expect("a name").1;
        fields.split_whitespace().nth(38).expect("a policy").parse().expect("a number")
    }

    #[test]
    fn threads_inherit_it_and_others_do_not() {
        let inherited = std::thread::spawn(|| {
            super::prefer_throughput().expect("it is allowed");
            assert_eq!(policy(), libc::SCHED_BATCH);
            std::thread::spawn(policy).join().expect("no panic")
        });
        assert_eq!(inherited.join().expect("no panic"), libc::SCHED_BATCH);
        assert_eq!(policy(), libc::SCHED_OTHER);
    }
}
