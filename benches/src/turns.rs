//! Two pieces of work that take turns on the machine, each in a process of its own, so that what the machine's other
//! guests do hits both alike.
//!
//! Both processes are forked from this one, so they share in memory what it has loaded. One of them is stopped
//! (`SIGSTOP`) while the other goes on, and so are the processes that it names, which work for it. A stopped process costs
//! nothing, and its clock is what it was let run; only what comes from elsewhere goes on meanwhile.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use crate::Result;

/// Prepares, says that it is ready, works, and gives a line about it.
pub type Run<'a> = Box<dyn FnOnce(&mut Ready) -> Result<String> + 'a>;

/// One of the two.
pub struct Work<'a> {
    /// What it does.
    pub run: Run<'a>,
    /// Processes that are stopped with it.
    pub others: Vec<u32>,
}

impl std::fmt::Debug for Work<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Work with {} others", self.others.len())
    }
}

/// What the work calls when it is prepared.
#[derive(Debug)]
pub struct Ready(File);

impl Ready {
    /// Waits for the first turn.
    ///
    /// # Errors
    ///
    /// When nobody listens.
    pub fn go(&mut self) -> Result<()> {
        writeln!(self.0, "ready")?;
        // SAFETY: the call only stops this process, which its parent lets go on.
        unsafe { libc::raise(libc::SIGSTOP) };
        Ok(())
    }
}

/// Lets both work by turns of `slice`, the first of them first, until each has done its work. Gives for each how long it
/// was its turn, and its line.
///
/// # Errors
///
/// When one of them fails, or the system does not let it be forked, stopped or heard.
pub fn take_turns(slice: Duration, works: [Work<'_>; 2]) -> Result<[(Duration, String); 2]> {
    let [first, second] = works;
    let mut players = [Player::start(first)?, Player::start(second)?];
    for player in &mut players {
        player.wait_until_ready()?;
    }
    let mut turn = 0;
    while players.iter().any(|player| player.line.is_none()) {
        let player = &mut players[turn % 2];
        turn += 1;
        if player.line.is_none() {
            player.play(slice)?;
        }
    }
    let [first, second] = players;
    Ok([first.end()?, second.end()?])
}

struct Player {
    pid: i32,
    others: Vec<u32>,
    says: BufReader<File>,
    played: Duration,
    line: Option<String>,
}

impl Player {
    fn start(work: Work<'_>) -> Result<Self> {
        let (says, told) = std::io::pipe()?;
        let (says, told) = (File::from(std::os::fd::OwnedFd::from(says)), File::from(std::os::fd::OwnedFd::from(told)));
        // SAFETY: the child goes on with one thread, as this process has that matters: the caller has ended its runtimes, and
        // clamav-core starts its threads anew in a child.
        match unsafe { libc::fork() } {
            -1 => Err(std::io::Error::last_os_error().into()),
            0 => {
                drop(says);
                let mut ready = Ready(told);
                let code = match (work.run)(&mut ready).and_then(|line| Ok(writeln!(ready.0, "{line}")?)) {
                    Ok(()) => 0,
                    Err(why) => {
                        eprintln!("a side failed: {why}");
                        1
                    }
                };
                // SAFETY: ends the process without what the parent has set up to happen at its own end.
                unsafe { libc::_exit(code) }
            }
            pid => {
                Ok(Self { pid, others: work.others, says: BufReader::new(says), played: Duration::ZERO, line: None })
            }
        }
    }

    fn read(&mut self) -> Result<String> {
        let mut line = String::new();
        match self.says.read_line(&mut line)? {
            0 => Err("a side ended without a word".into()),
            _ => Ok(line.trim().to_owned()),
        }
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        match self.read()?.as_str() {
            "ready" => self.wait_until_stopped(),
            other => Err(format!("a side says {other} and not that it is ready").into()),
        }?;
        self.signal_others(libc::SIGSTOP)
    }

    /// Lets it go on for this long, or until it says its line.
    fn play(&mut self, slice: Duration) -> Result<()> {
        let begun = Instant::now();
        self.signal_others(libc::SIGCONT)?;
        signal(self.pid, libc::SIGCONT)?;
        let mut poll = libc::pollfd { fd: self.says.get_ref().as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: the pointer is to one pollfd of ours.
        match unsafe { libc::poll(&raw mut poll, 1, i32::try_from(slice.as_millis())?) } {
            -1 => Err(std::io::Error::last_os_error().into()),
            0 => {
                signal(self.pid, libc::SIGSTOP)?;
                self.wait_until_stopped()?;
                self.played += begun.elapsed();
                self.signal_others(libc::SIGSTOP)
            }
            _ => {
                self.played += begun.elapsed();
                self.line = Some(self.read()?);
                // The others go on, for the next who works with them.
                Ok(())
            }
        }
    }

    fn wait_until_stopped(&self) -> Result<()> {
        let mut status = 0;
        // SAFETY: the pointer is to an integer of ours.
        let pid = unsafe { libc::waitpid(self.pid, &raw mut status, libc::WUNTRACED) };
        match pid == self.pid && libc::WIFSTOPPED(status) {
            true => Ok(()),
            false => Err("a side ended in the middle of its work".into()),
        }
    }

    fn signal_others(&self, number: i32) -> Result<()> {
        self.others.iter().try_for_each(|pid| signal(i32::try_from(*pid)?, number))
    }

    fn end(mut self) -> Result<(Duration, String)> {
        let mut status = 0;
        // SAFETY: as above.
        unsafe { libc::waitpid(self.pid, &raw mut status, 0) };
        self.pid = 0;
        let line = self.line.take().ok_or("a side said nothing")?;
        Ok((self.played, line))
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.signal_others(libc::SIGCONT);
        if self.pid > 0 {
            let _ = signal(self.pid, libc::SIGKILL);
        }
    }
}

fn signal(pid: i32, number: i32) -> Result<()> {
    // SAFETY: the call only sends a signal to a process that we have started and not yet waited for.
    match unsafe { libc::kill(pid, number) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error().into()),
    }
}
