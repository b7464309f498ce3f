//! How many scans run at once, counted for each process: a child of a fork has none of its parent's.

use std::sync::{Arc, OnceLock};

use tokio::sync::Semaphore;

/// Permits of an engine that forked children share. Those that a parent had given out at the fork are never given back in
/// the child, so it has permits of its own.
#[derive(Debug)]
pub(crate) struct Permits {
    pid: u32,
    count: usize,
    permits: Arc<Semaphore>,
    /// Those of a child, made in it. Only a child asks for them, so no other thread can have been at it during the fork.
    next: OnceLock<Box<Self>>,
}

impl Permits {
    pub(crate) fn new(count: usize) -> Self {
        Self::of(count, std::process::id())
    }

    fn of(count: usize, pid: u32) -> Self {
        Self { pid, count, permits: Arc::new(Semaphore::new(count)), next: OnceLock::new() }
    }

    /// Those of the calling process.
    pub(crate) fn here(&self) -> Arc<Semaphore> {
        self.in_process(std::process::id())
    }

    fn in_process(&self, pid: u32) -> Arc<Semaphore> {
        let mut of = self;
        while of.pid != pid {
            of = of.next.get_or_init(|| Box::new(Self::of(self.count, pid)));
        }
        Arc::clone(&of.permits)
    }
}

#[cfg(test)]
mod tests {
    use super::Permits;

    #[test]
    fn a_child_has_permits_of_its_own() {
        let parents = Permits::of(2, 1);
        let taken = parents.in_process(1).try_acquire_many_owned(2).expect("permits of the parent's");
        assert_eq!(parents.in_process(1).available_permits(), 0);
        assert_eq!(parents.in_process(2).available_permits(), 2, "those of a child");
        let of_child = parents.in_process(2).try_acquire_owned().expect("a permit of the child's");
        assert_eq!(parents.in_process(2).available_permits(), 1, "the same ones at the second call");
        assert_eq!(parents.in_process(3).available_permits(), 2, "those of a child of the child");
        drop((taken, of_child));
        assert_eq!(parents.in_process(1).available_permits(), 2);
    }
}
