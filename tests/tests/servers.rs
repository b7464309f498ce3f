//! The servers of the tests: each one starts, answers, and is gone with the value that held it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use scan_pipeline_tests::brokers::{self, Broker};
use scan_pipeline_tests::servers::{S3Server, start};

/// Set for the process that [`dies_with_a_killed_test`] kills.
const HOLD: &str = "SCAN_PIPELINE_TESTS_HOLD";

fn answer(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(stream, "GET /no-such-bucket/key HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn refuses(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}

fn starts_and_dies(server: S3Server) {
    let Some(running) = start(server) else { return };
    let address = running.address();
    assert_eq!(running.endpoint(), format!("http://{address}"));
    let text = answer(address).expect("an answer");
    assert!(text.starts_with("HTTP/1.1 40") && text.contains("<Error><Code>"), "{}: {text}", running.name());
    let (pid, dir) = (running.pid(), running.dir().to_owned());
    assert!(dir.is_dir());
    drop(running);
    assert!(refuses(address), "{} outlives its value", server.name());
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert!(!dir.exists(), "the data of {} outlives its value", server.name());
}

#[test]
fn versitygw_starts_and_dies() {
    starts_and_dies(S3Server::Versitygw);
}

#[test]
fn minio_starts_and_dies() {
    starts_and_dies(S3Server::Minio);
}

#[test]
fn moto_starts_and_dies() {
    starts_and_dies(S3Server::Moto);
}

#[test]
fn two_of_a_kind_are_apart() {
    let (Some(one), Some(other)) = (start(S3Server::Versitygw), start(S3Server::Versitygw)) else { return };
    assert_ne!(one.address(), other.address());
    let address = other.address();
    drop(one);
    assert!(answer(address).is_ok(), "the other one goes on");
}

#[test]
fn outlives_the_thread_that_asked_for_it() {
    let Some(running) = std::thread::spawn(|| start(S3Server::Versitygw)).join().expect("thread") else { return };
    assert!(answer(running.address()).is_ok());
}

/// A runner that is killed runs no `Drop`.
#[cfg(target_os = "linux")]
#[test]
fn dies_with_a_killed_test() {
    if std::env::var_os(HOLD).is_some() || start(S3Server::Versitygw).is_none() {
        return;
    }
    let mut test = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "hold_a_server", "--nocapture"])
        .env(HOLD, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("this program started");
    let stderr = BufReader::new(test.stderr.take().expect("its stderr"));
    let held = stderr.lines().find_map(|line| Some(line.ok()?.strip_prefix("held at ")?.to_owned())).expect("a server");
    let (address, dir) = held.split_once(" in ").expect("its address and directory");
    let address: SocketAddr = address.parse().expect("an address");
    let answered = answer(address);
    test.kill().expect("killed");
    test.wait().expect("reaped");
    assert!(answered.is_ok(), "{answered:?}");
    // The signal is sent as the process ends, and the socket closes a moment later.
    let gone = (0..500).any(|_| {
        refuses(address) || {
            std::thread::sleep(Duration::from_millis(20));
            false
        }
    });
    // What the killed one could not do any longer.
    std::fs::remove_dir_all(dir).expect("its data removed");
    assert!(gone, "the server outlives the test that started it");
}

/// Not a test of its own: see [`dies_with_a_killed_test`].
#[test]
fn hold_a_server() {
    if std::env::var_os(HOLD).is_none() {
        return;
    }
    let running = start(S3Server::Versitygw).expect("installed");
    eprintln!("held at {} in {}", running.address(), running.dir().display());
    // Until we are killed; bounded, lest we stay if nobody does.
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn brokers_start_and_die() {
    for broker in Broker::ALL {
        let Some(running) = brokers::start(broker) else { continue };
        let (address, dir) = (running.address(), running.dir().to_owned());
        assert!(TcpStream::connect(address).is_ok() && dir.is_dir());
        drop(running);
        assert!(refuses(address), "{} outlives its value", broker.name());
        assert!(!dir.exists(), "the data of {} outlives its value", broker.name());
    }
}

/// What a server keeps on disk is there again after it was killed.
#[test]
fn a_broker_is_killed_and_started_again() {
    let Some(mut running) = brokers::start(Broker::Nats) else { return };
    let address = running.address();
    running.restart();
    assert_eq!(running.address(), address);
    assert!(TcpStream::connect(address).is_ok());
}
