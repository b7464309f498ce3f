//! Real S3 servers for tests, each started for the test that asks, on 127.0.0.1, and gone with it.
//!
//! `scripts/servers.sh` installs them. Where one is absent, [`start`] says so and gives `None`, so that a test can
//! return; with `REQUIRE_SERVICES=1`, which CI sets, that is a panic instead.
//!
//! ```
//! use scan_pipeline_tests::servers::{S3Server, start};
//!
//! let Some(server) = start(S3Server::Versitygw) else { return };
//! assert!(server.endpoint().starts_with("http://127.0.0.1:"));
//! ```
//!
//! No server is S3 in everything, so what matters is asserted on two of them. What each of them gets wrong:
//!
//! | | versitygw | MinIO | moto |
//! |---|---|---|---|
//! | Signatures | checked | checked | **any is accepted** |
//! | `/evil` | **is `evil`** | **is `evil`** | right |
//! | `a//b`, `./x`, `a/../b` | **are `a/b`, `x`, `b`** | **refused (400)** | right |
//! | `nest` beside `nest/child` | **refused (409)** | **child not listed** | right |
//! | `trailing/` | **empty only** | right | right |
//! | A newline in a key | right | right | **404** |
//! | A part of a key over 255 bytes | **refused (400)** | **refused (400)** | right |
//! | `encoding-type=url` | **ignored** | right | **not for versions** |
//! | Listing on with `start-after` | right | **loses keys** | right |
//! | `If-None-Match` on a copy | **ignored** | **ignored** | **ignored** |
//! | Tags that are not ASCII | right | **refused (400)** | right |
//! | The answer on versioning | right | right | **in another form** |
//! | `ListObjectVersions`, page by page | **one twice, out of order** | right | **markers last** |
//! | Stale `x-amz-copy-source-if-match` | 412 | 412 | **ignored** |
//! | Stale `If-Match` on DELETE | 412 | **ignored** | 412 |
//! | Copy of a key under a delete marker | **the content** | 404 | 404 |
//! | An empty set of tags | right | right | **500** |

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tempfile::TempDir;

const ACCESS_KEY: &str = "test-access-key";
const SECRET_KEY: &str = "test-secret-key";
const REGION: &str = "us-east-1";

/// A free port may be taken before the server gets to it: so many ports are tried.
pub(crate) const PORTS: u32 = 3;
/// How often, and how long apart, a server is asked whether it is up: 60 s, for a machine that is busy.
const POLLS: u32 = 3000;
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The servers that speak S3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum S3Server {
    /// On a directory: versions, tags and every condition, but keys are paths of files.
    Versitygw,
    /// With its own store: versions and tags, and it refuses the keys that are no paths.
    Minio,
    /// In memory: takes any key, checks no signature. Speaks SQS and DynamoDB as well.
    Moto,
}

impl S3Server {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Versitygw, Self::Minio, Self::Moto];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Versitygw => "versitygw",
            Self::Minio => "MinIO",
            Self::Moto => "moto",
        }
    }

    /// Does a request with a wrong secret key fail?
    pub fn checks_signatures(self) -> bool {
        self != Self::Moto
    }

    fn program(self) -> PathBuf {
        target_dir().join("servers").join(match self {
            Self::Versitygw => "bin/versitygw",
            Self::Minio => "bin/minio",
            Self::Moto => "moto/bin/python",
        })
    }

    /// Answers 200 once the server takes requests, and is no name of a bucket.
    fn health_path(self) -> &'static str {
        match self {
            Self::Versitygw => "/_health",
            // Not its `ready`, which is 200 while every other request is still a 503.
            Self::Minio => "/minio/health/cluster",
            Self::Moto => "/moto-api/",
        }
    }

    /// The command, with nothing from our environment that could change what the server does.
    fn command(self, dir: &Path, port: u16) -> Command {
        let mut command = dying_with_us(&self.program());
        command.env_clear().env("HOME", dir).env("LC_ALL", "C.UTF-8");
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        let address = format!("127.0.0.1:{port}");
        match self {
            Self::Versitygw => {
                command.env("ROOT_ACCESS_KEY", ACCESS_KEY).env("ROOT_SECRET_KEY", SECRET_KEY);
                command.args(["--port", &address, "--region", REGION, "--health", self.health_path(), "--quiet"]);
                // As Amazon's does.
                command.arg("--keep-alive");
                command.args(["posix", "--versioning-dir"]).arg(dir.join("versions")).arg(dir.join("data"));
            }
            Self::Minio => {
                command.env("MINIO_ROOT_USER", ACCESS_KEY).env("MINIO_ROOT_PASSWORD", SECRET_KEY);
                command.env("MINIO_REGION", REGION).env("MINIO_BROWSER", "off").env("MINIO_UPDATE", "off");
                command.args(["server", "--quiet", "--address", &address]).arg(dir.join("data"));
            }
            Self::Moto => {
                command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
            }
        }
        command.current_dir(dir);
        command
    }
}

/// A server that answers. Dropping it kills the server and removes its data; so does the end of our process, but for
/// the data, however that ends (on Linux).
#[derive(Debug)]
pub struct Running {
    server: S3Server,
    port: u16,
    pid: u32,
    // In this order: the data goes when nobody writes to it any longer.
    _keeper: Keeper,
    dir: TempDir,
}

impl Running {
    /// Which one it is.
    pub fn server(&self) -> S3Server {
        self.server
    }

    /// What it is called.
    pub fn name(&self) -> &'static str {
        self.server.name()
    }

    /// Where it answers, without a slash at the end. Buckets are in the path.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The address and port of the endpoint.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// The region to sign for.
    pub fn region(&self) -> &'static str {
        REGION
    }

    /// The access key, which may do everything.
    pub fn access_key(&self) -> &'static str {
        ACCESS_KEY
    }

    /// The secret key.
    pub fn secret_key(&self) -> &'static str {
        SECRET_KEY
    }

    /// Its data and its `log`, in a directory that lives as long as we do.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.pid
    }
}

/// Starts a server of its own for the caller, with nothing in it, and waits until it answers, for about a second.
/// `None` where it is not installed, after saying how to install it.
///
/// # Panics
///
/// Where it is not installed and `REQUIRE_SERVICES` is `1`, and where it is, but does not start.
pub fn start(server: S3Server) -> Option<Running> {
    if skips(server.name(), server.program().exists()) {
        return None;
    }
    Some(of_ports(server.name(), || try_start(server)))
}

/// The data of servers that run. Not below the system's temporary directory: that may lack the extended attributes that
/// versitygw writes.
pub(crate) fn runs() -> std::io::Result<PathBuf> {
    let runs = target_dir().join("servers/run");
    std::fs::create_dir_all(&runs)?;
    Ok(runs)
}

/// For a server that is in a static of our process, and so is never dropped: its data goes with the next one that is.
///
/// # Panics
///
/// Where the directory cannot be written.
pub fn keep_for_process(dir: &Path) {
    for entry in std::fs::read_dir(dir.parent().expect("the directory of all runs")).expect("is readable").flatten() {
        let owner = std::fs::read_to_string(entry.path().join("owner"));
        if owner.is_ok_and(|pid| Path::new("/proc/self").exists() && !Path::new("/proc").join(pid).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    std::fs::write(dir.join("owner"), std::process::id().to_string()).expect("is writable");
}

/// Whether a test does without the server, which is said.
///
/// # Panics
///
/// Where it must not.
pub(crate) fn skips(name: &str, is_installed: bool) -> bool {
    if !is_installed {
        let required = std::env::var_os("REQUIRE_SERVICES").is_some_and(|value| value == "1");
        assert!(!required, "{name} is not installed, and REQUIRE_SERVICES=1: run scripts/servers.sh");
        eprintln!("SKIP {name}: run scripts/servers.sh");
    }
    !is_installed
}

/// Starts a server that picks its port, as often as it takes.
///
/// # Panics
///
/// When it starts on none.
pub(crate) fn of_ports<T>(name: &str, start: impl Fn() -> Result<T, String>) -> T {
    let mut said = String::new();
    for _ in 0..PORTS {
        match start() {
            Ok(running) => return running,
            Err(reason) => said = reason,
        }
    }
    panic!("{name} did not start, on {PORTS} ports: {said}");
}

fn try_start(server: S3Server) -> Result<Running, String> {
    let runs = runs().map_err(|error| error.to_string())?;
    let prefix = format!("{}-", server.name());
    let dir = tempfile::Builder::new().prefix(&prefix).tempdir_in(&runs).map_err(|error| error.to_string())?;
    for name in ["data", "versions"] {
        std::fs::create_dir(dir.path().join(name)).map_err(|error| error.to_string())?;
    }
    let log = dir.path().join("log");
    let output = std::fs::File::create(&log).map_err(|error| error.to_string())?;
    let errors = output.try_clone().map_err(|error| error.to_string())?;
    let port = free_port().map_err(|error| error.to_string())?;
    let mut command = server.command(dir.path(), port);
    command.stdin(Stdio::null()).stdout(output).stderr(errors);
    let (keeper, pid) = Keeper::spawn(command, move || is_up(port, server.health_path()).unwrap_or(false))
        .map_err(|reason| format!("{reason}; its output: {}", std::fs::read_to_string(&log).unwrap_or_default()))?;
    Ok(Running { server, port, pid, _keeper: keeper, dir })
}

/// The thread that started the server. It lives as long as the server does, since the end of the thread that started
/// a process, not of its process, is what `pdeathsig` waits for: a test's own thread may end before the server should.
#[derive(Debug)]
pub(crate) struct Keeper {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts the program and waits until it is up, which is asked again and again.
    pub(crate) fn spawn(
        mut command: Command,
        is_up: impl Fn() -> bool + Send + 'static,
    ) -> Result<(Self, u32), String> {
        let (stop, stopped) = mpsc::channel();
        let (ready, is_ready) = mpsc::channel();
        let thread = thread::Builder::new().name("server".to_owned()).spawn(move || {
            keep(launch(&mut command, &is_up), &ready, &stopped);
        });
        let thread = thread.map_err(|error| error.to_string())?;
        let keeper = Self { stop: Some(stop), thread: Some(thread) };
        let pid = is_ready.recv().map_err(|error| error.to_string())??;
        Ok((keeper, pid))
    }
}

fn launch(command: &mut Command, is_up: &dyn Fn() -> bool) -> Result<Child, String> {
    let mut child = command.spawn().map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    match wait_until_up(&mut child, is_up) {
        Ok(()) => Ok(child),
        Err(reason) => {
            kill(child);
            Err(reason)
        }
    }
}

fn keep(child: Result<Child, String>, ready: &Sender<Result<u32, String>>, stopped: &Receiver<()>) {
    match child {
        Ok(child) => {
            if ready.send(Ok(child.id())).is_ok() {
                // Nothing is ever sent: this ends with an error, once the sender is dropped.
                let _ = stopped.recv();
            }
            kill(child);
        }
        Err(reason) => {
            let _ = ready.send(Err(reason));
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn kill(mut child: Child) {
    let _ = child.kill();
    let _ = child.wait();
}

fn wait_until_up(child: &mut Child, is_up: &dyn Fn() -> bool) -> Result<(), String> {
    for _ in 0..POLLS {
        let up = is_up();
        // Asked after the answer: what answers while our server gave up is somebody else's.
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            return Err(format!("it ended with {status}"));
        }
        if up {
            return Ok(());
        }
        thread::sleep(POLL_INTERVAL);
    }
    Err(format!("no answer after {POLLS} tries"))
}

pub(crate) fn is_up(port: u16, health_path: &str) -> std::io::Result<bool> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {health_path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut status = [0; 12];
    stream.read_exact(&mut status)?;
    Ok(status.starts_with(b"HTTP/1.") && status.ends_with(b" 200"))
}

/// Free now. The system does not soon give the same one again.
pub(crate) fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// A command that the system kills when the thread that spawned it ends. `setpriv` becomes the program, so its process
/// id is the program's.
pub(crate) fn dying_with_us(program: &Path) -> Command {
    if cfg!(target_os = "linux") {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    }
}

/// The same directory as in `scripts/servers.sh`.
pub(crate) fn target_dir() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = std::env::var_os("CARGO_TARGET_DIR").filter(|dir| !dir.is_empty());
    workspace.join(target.map_or_else(|| PathBuf::from("target"), PathBuf::from))
}
