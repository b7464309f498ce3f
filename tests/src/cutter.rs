//! A TCP proxy that cuts, or falls silent, in the midst of what it carries.
//!
//! ```
//! # use std::io::{Read, Write};
//! # use std::net::{TcpListener, TcpStream};
//! use scan_pipeline_tests::cutter::Cutter;
//! let server = TcpListener::bind("127.0.0.1:0").unwrap();
//! let cutter = Cutter::to(server.local_addr().unwrap());
//! let mut client = TcpStream::connect(cutter.address()).unwrap();
//! let (mut served, _) = server.accept().unwrap();
//! client.write_all(b"hello").unwrap();
//! served.read_exact(&mut [0; 5]).unwrap();
//! cutter.cut();
//! assert!(matches!(client.read(&mut [0; 1]), Ok(0) | Err(_)));
//! ```

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// A proxy in front of one server. Dropping it cuts everything.
#[derive(Debug)]
pub struct Cutter {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    open: Mutex<Vec<TcpStream>>,
    /// Bytes from clients that still pass.
    left: AtomicU64,
    silent: AtomicBool,
    ended: AtomicBool,
}

impl Cutter {
    /// Carries everything between its clients and the server at this address, until it is told not to.
    ///
    /// # Panics
    ///
    /// No port is free.
    pub fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared { left: AtomicU64::new(u64::MAX), ..Shared::default() });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if accepting.ended.load(Ordering::SeqCst) {
                    return;
                }
                if let Ok(server) = TcpStream::connect(server) {
                    accepting.carry(client, server);
                }
            }
        });
        Self { address, shared }
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts every connection; new ones are carried again.
    pub fn cut(&self) {
        self.shared.cut();
    }

    /// Cuts every connection once clients have sent so many more bytes; new ones are carried again.
    pub fn cut_after(&self, bytes: u64) {
        self.shared.left.store(bytes, Ordering::SeqCst);
    }

    /// Carries nothing any more, in either direction, without closing anything: a network that is gone.
    pub fn silence(&self) {
        self.shared.silent.store(true, Ordering::SeqCst);
    }

    /// Carries again what comes from now on. What was swallowed is lost, so old connections are of no use any more.
    pub fn speak(&self) {
        self.shared.silent.store(false, Ordering::SeqCst);
    }
}

impl Shared {
    fn cut(&self) {
        for stream in self.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn carry(self: &Arc<Self>, client: TcpStream, server: TcpStream) {
        let (Ok(from_client), Ok(from_server)) = (client.try_clone(), server.try_clone()) else { return };
        let copies = [client.try_clone(), server.try_clone()];
        self.open.lock().unwrap_or_else(PoisonError::into_inner).extend(copies.into_iter().flatten());
        for (from, to, counted) in [(from_client, server, true), (from_server, client, false)] {
            let shared = Arc::clone(self);
            thread::spawn(move || shared.copy(from, to, counted));
        }
    }

    fn copy(&self, mut from: TcpStream, mut to: TcpStream, counted: bool) {
        let mut buffer = [0; 16 << 10];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            if self.silent.load(Ordering::SeqCst) {
                continue;
            }
            let mut passes = read;
            if counted {
                let left = self.left.load(Ordering::SeqCst);
                if left != u64::MAX {
                    passes = read.min(usize::try_from(left).unwrap_or(usize::MAX));
                    self.left.store(left - passes as u64, Ordering::SeqCst);
                }
            }
            if to.write_all(&buffer[..passes]).is_err() {
                break;
            }
            if passes < read {
                self.left.store(u64::MAX, Ordering::SeqCst);
                self.cut();
                break;
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.cut();
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}
