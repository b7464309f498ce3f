//! A real clamd for tests, started for the test that asks, at a Unix socket and on 127.0.0.1, and gone with it.
//!
//! It has the definitions of [`marker::test_definitions`] and small limits, with every alert about them on. More lines
//! of configuration replace those of the same name:
//!
//! ```no_run
//! let clamd = scan_pipeline_tests::clamd::start(&["AlertExceedsMax no"]);
//! assert!(clamd.socket().exists());
//! ```
//!
//! `scripts/servers.sh` provides the program. Where it is absent, tests fail.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;

use crate::marker;
use crate::servers::{Keeper, dying_with_us, free_port, of_ports, target_dir};

/// The `StreamMaxLength` of a clamd that was told nothing else.
pub const STREAM_MAX_LENGTH: usize = 1 << 20;
/// Its `MaxFileSize`.
pub const MAX_FILE_SIZE: usize = 512 << 10;

/// A clamd that answers. Dropping it kills the server and removes its files; so does the end of our process, but for the
/// files, however that ends (on Linux).
#[derive(Debug)]
pub struct Running {
    port: u16,
    // In this order: the files go when nobody writes to them any longer.
    _keeper: Keeper,
    dir: TempDir,
}

impl Running {
    /// Its Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    /// Where it listens by TCP.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Where it puts what it is sent, and unpacks.
    pub fn temporary_dir(&self) -> PathBuf {
        self.dir.path().join("temporary")
    }
}

/// Starts one and waits until it answers, for about a second.
///
/// # Panics
///
/// Where it is not installed or does not start.
pub fn start(configuration: &[&str]) -> Running {
    let program = program().expect("these tests need clamd: run scripts/servers.sh, or install clamav-daemon");
    of_ports("clamd", || try_start(&program, configuration))
}

/// The same places as in `scripts/servers.sh`.
fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .chain([target_dir().join("servers/clamd/usr/sbin")])
        .map(|dir| dir.join("clamd"))
        .find(|program| program.is_file())
}

fn try_start(program: &Path, configuration: &[&str]) -> Result<Running, String> {
    // The path of a socket has room for some hundred bytes only.
    let dir = tempfile::Builder::new().prefix("clamd-").tempdir().map_err(|error| error.to_string())?;
    let (definitions, temporary) = (dir.path().join("definitions"), dir.path().join("temporary"));
    for made in [&definitions, &temporary] {
        std::fs::create_dir(made).map_err(|error| error.to_string())?;
    }
    marker::test_definitions(&definitions).map_err(|error| error.to_string())?;
    let port = free_port().map_err(|error| error.to_string())?;
    let (socket, log) = (dir.path().join("socket"), dir.path().join("log"));
    let mut lines = vec![
        format!("LocalSocket {}", socket.display()),
        format!("TCPSocket {port}"),
        String::from("TCPAddr 127.0.0.1"),
        format!("DatabaseDirectory {}", definitions.display()),
        format!("TemporaryDirectory {}", temporary.display()),
        String::from("Foreground yes"),
        String::from("SelfCheck 0"),
        String::from("DisableCache yes"),
        String::from("AlertExceedsMax yes"),
        String::from("AlertEncrypted yes"),
        format!("StreamMaxLength {STREAM_MAX_LENGTH}"),
        format!("MaxFileSize {MAX_FILE_SIZE}"),
        format!("MaxScanSize {}", 4 * MAX_FILE_SIZE),
        String::from("MaxThreads 4"),
    ];
    fn word(line: &str) -> Option<&str> {
        line.split_whitespace().next()
    }
    lines.retain(|line| !configuration.iter().any(|other| word(other) == word(line)));
    lines.extend(configuration.iter().map(|&line| line.to_owned()));
    let configured = dir.path().join("clamd.conf");
    std::fs::write(&configured, lines.join("\n") + "\n").map_err(|error| error.to_string())?;
    let output = std::fs::File::create(&log).map_err(|error| error.to_string())?;
    let errors = output.try_clone().map_err(|error| error.to_string())?;
    let mut command = dying_with_us(program);
    command.arg("--config-file").arg(configured).stdin(Stdio::null()).stdout(output).stderr(errors);
    let (keeper, _) = Keeper::spawn(command, move || answers(&socket).unwrap_or(false))
        .map_err(|reason| format!("{reason}; its output: {}", std::fs::read_to_string(&log).unwrap_or_default()))?;
    Ok(Running { port, _keeper: keeper, dir })
}

fn answers(socket: &Path) -> std::io::Result<bool> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"zPING\0")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer == b"PONG\0")
}
