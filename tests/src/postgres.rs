//! A real PostgreSQL for tests, on a free port of 127.0.0.1, with `fsync` on and gone when we are.
//!
//! One server is shared by all tests of a program ([`shared`]), each with a database of its own; a test that stops or
//! freezes the server starts its own ([`start`]). PostgreSQL refuses to run as root, so for root it runs as another user.
//! Where no PostgreSQL is installed, this says so and gives `None`; with `REQUIRE_SERVICES=1` that is a panic.
//!
//! ```
//! let Some(server) = scan_pipeline_tests::postgres::shared() else { return };
//! let database = server.database();
//! assert_eq!(database.psql("SELECT 1 + 1"), "2");
//! ```

use std::fmt;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::servers::{PORTS, free_port, target_dir};

const USER: &str = "tester";
/// With a character that an address has to escape.
const PASSWORD: &str = "test/password";
/// How often, and how long apart, the server is asked whether it is up: 60 s, for a machine that is busy.
const POLLS: u32 = 3000;
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Starts the server that its arguments say, and stops it when its own input ends, which is when we do: a static value
/// is never dropped, and a test that is killed drops nothing. `keep` on the input leaves the data. Stopping is at once,
/// as after a crash, and what the server holds of the system is given back, which a kill would leave behind.
const KEEPER: &str = r#"
trap '' INT TERM HUP
dir=$1
shift
"$@" </dev/null &
server=$!
word=
read -r word
kill -CONT "$server" 2>/dev/null
kill -QUIT "$server" 2>/dev/null
wait "$server"
if [ "$word" != keep ]; then rm -rf "$dir"; fi
"#;

/// A server that answers. Dropping it stops it and removes its data; so does the end of our process.
pub struct Server {
    port: u16,
    programs: PathBuf,
    user: Option<User>,
    keeper: Mutex<Option<Keeper>>,
    dir: PathBuf,
}

/// The user that the server runs as where we are root.
#[derive(Debug, Clone, Copy)]
struct User {
    id: u32,
    group: u32,
}

struct Keeper {
    shell: Child,
    input: Option<ChildStdin>,
}

/// A database of its own, removed when it is dropped.
#[derive(Debug)]
pub struct Database<'a> {
    server: &'a Server,
    name: String,
}

/// The server does nothing until this is dropped; connections to it are neither answered nor refused.
#[derive(Debug)]
pub struct Frozen(Vec<Pid>);

/// The server that all tests of this program share, started for the first that asks. `None` where it is not installed,
/// after saying how to install it.
///
/// # Panics
///
/// As [`start`].
pub fn shared() -> Option<&'static Server> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    SERVER.get_or_init(start).as_ref()
}

/// Starts a server of its own for the caller and waits until it answers, for about two seconds.
///
/// # Panics
///
/// Where it is not installed and `REQUIRE_SERVICES` is `1`, and where it is, but does not start.
pub fn start() -> Option<Server> {
    let Some(programs) = programs() else {
        let required = std::env::var_os("REQUIRE_SERVICES").is_some_and(|value| value == "1");
        assert!(!required, "PostgreSQL is not installed, and REQUIRE_SERVICES=1: run scripts/setup.sh test");
        eprintln!("SKIP PostgreSQL: run scripts/setup.sh test");
        return None;
    };
    let mut said = String::new();
    for _ in 0..PORTS {
        match Server::new(&programs) {
            Ok(server) => return Some(server),
            Err(reason) => said = reason,
        }
    }
    panic!("PostgreSQL did not start, on {PORTS} ports: {said}");
}

/// The directory with `postgres`, `initdb` and `psql` of one version: the newest of Debian's, or that of the path.
fn programs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path)
        .filter_map(|dir| Some(std::fs::canonicalize(dir.join("postgres")).ok()?.parent()?.to_owned()));
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort();
    let debian = versions.into_iter().rev().map(|(_, dir)| dir);
    debian.chain(on_path).find(|dir| ["postgres", "initdb", "psql"].iter().all(|name| dir.join(name).is_file()))
}

impl Server {
    fn new(programs: &Path) -> Result<Self, String> {
        let user = rustix::process::geteuid().is_root().then(other_user).transpose()?;
        let dir = directory(user)?;
        let port = free_port().map_err(|error| error.to_string())?;
        let path = dir.path().to_owned();
        let server = Self { port, programs: programs.to_owned(), user, keeper: Mutex::new(None), dir: path };
        server.make_data()?;
        server.launch()?;
        // From here on the keeper removes it.
        let _ = dir.keep();
        Ok(server)
    }

    fn make_data(&self) -> Result<(), String> {
        let password = self.dir.join("password");
        std::fs::write(&password, PASSWORD).map_err(|error| error.to_string())?;
        let mut command = self.command("initdb");
        command.args([
            "--username",
            USER,
            "--auth",
            "scram-sha-256",
            "--encoding",
            "UTF8",
            "--locale",
            "C",
            "--no-sync",
        ]);
        command.arg("--pwfile").arg(&password).arg("-D").arg(self.data());
        let output = command.output().map_err(|error| format!("initdb: {error}"))?;
        if output.status.success() {
            Ok(())
        } else {
            Err(format!("initdb: {}", String::from_utf8_lossy(&output.stderr)))
        }
    }

    /// A program as the server's user, with nothing from our environment that could change what it does.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        // When even the shell is killed, the server ends, too.
        command.args(["--pdeathsig", "QUIT"]);
        if let Some(user) = self.user {
            command.args(["--reuid", &user.id.to_string(), "--regid", &user.group.to_string(), "--clear-groups"]);
        }
        command.arg("--").arg(self.programs.join(program)).current_dir(&self.dir);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").env("HOME", &self.dir);
        command
    }

    fn launch(&self) -> Result<(), String> {
        let log = self.dir.join("log");
        let output = std::fs::File::create(&log).map_err(|error| error.to_string())?;
        let errors = output.try_clone().map_err(|error| error.to_string())?;
        let mut server = self.command("postgres");
        server.arg("-D").arg(self.data()).args(["-p", &self.port.to_string()]);
        for setting in [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "fsync=on",
            "max_connections=200",
            "shared_buffers=32MB",
            "max_wal_size=256MB",
        ] {
            server.args(["-c", setting]);
        }
        let mut shell = Command::new("sh");
        shell.args(["-c", KEEPER, "sh"]).arg(&self.dir).arg(server.get_program()).args(server.get_args());
        shell.env_clear().envs(server.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell.current_dir(&self.dir).stdin(Stdio::piped()).stdout(output).stderr(errors);
        let mut shell = shell.spawn().map_err(|error| format!("sh: {error}"))?;
        let input = shell.stdin.take();
        *self.keeper() = Some(Keeper { shell, input });
        for _ in 0..POLLS {
            if self.process_file(7).is_some_and(|status| status == "ready") {
                return Ok(());
            }
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            // Clients that come while it starts are told so.
            if said.lines().any(|line| line.contains("FATAL:") && !line.contains("the database system is")) {
                self.end("keep");
                return Err(said);
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        self.end("keep");
        Err(format!("no answer after {POLLS} tries"))
    }

    /// A line of what the server writes about itself.
    fn process_file(&self, line: usize) -> Option<String> {
        let text = std::fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        text.lines().nth(line).map(|line| line.trim().to_owned())
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn keeper(&self) -> std::sync::MutexGuard<'_, Option<Keeper>> {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, word: &str) {
        if let Some(mut keeper) = self.keeper().take() {
            if let Some(mut input) = keeper.input.take() {
                let _ = writeln!(input, "{word}");
            }
            let _ = keeper.shell.wait();
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// The address of a database, as a client at another address of the server (a proxy) sees it, with user and password.
    pub fn url_at(&self, address: SocketAddr, database: &str) -> String {
        format!("postgres://{USER}:{}@{address}/{database}", PASSWORD.replace('/', "%2F"))
    }

    /// What must be in no message.
    pub fn password(&self) -> &'static str {
        PASSWORD
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Makes a database of its own for the caller.
    ///
    /// # Panics
    ///
    /// It cannot be made.
    pub fn database(&self) -> Database<'_> {
        self.database_with("")
    }

    /// The same with more of what `CREATE DATABASE` takes.
    ///
    /// # Panics
    ///
    /// It cannot be made.
    pub fn database_with(&self, how: &str) -> Database<'_> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("CREATE DATABASE {name} TEMPLATE template0 {how}"));
        Database { server: self, name }
    }

    /// Runs SQL without our code, and gives what it printed: rows as lines, columns with `|` between them.
    ///
    /// # Panics
    ///
    /// It fails.
    pub fn psql(&self, database: &str, sql: &str) -> String {
        self.try_psql(database, sql).unwrap_or_else(|why| panic!("{sql}: {why}"))
    }

    fn try_psql(&self, database: &str, sql: &str) -> Result<String, String> {
        let mut command = Command::new(self.programs.join("psql"));
        command.env_clear().env("LC_ALL", "C.UTF-8").env("PATH", "/usr/bin:/bin").env("PGPASSWORD", PASSWORD);
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", USER]);
        command.args(["-p", &self.port.to_string(), "-d", database, "-c", sql]);
        let output = command.output().map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// Stops it in the midst of everything; nothing that is not on the disk survives. Its data stays.
    pub fn stop(&self) {
        self.end("keep");
    }

    /// Starts it again, at the same address.
    ///
    /// # Panics
    ///
    /// It does not start.
    pub fn start_again(&self) {
        self.launch().unwrap_or_else(|why| panic!("PostgreSQL did not start again: {why}"));
    }

    /// Kills one of its processes, or the one of a connection, as lack of memory would. PostgreSQL then restarts itself
    /// and ends every connection.
    ///
    /// # Panics
    ///
    /// There is no such process.
    pub fn kill(&self, process: i32) {
        let process = Pid::from_raw(process).expect("a process");
        kill_process(process, Signal::KILL).expect("killed");
    }

    /// Freezes the server and every connection of it.
    ///
    /// # Panics
    ///
    /// It does not run.
    pub fn freeze(&self) -> Frozen {
        let main = self.process_file(0).and_then(|line| line.parse().ok()).expect("it runs");
        // First the one that makes others.
        let mut frozen = Frozen(Vec::new());
        let mut processes = vec![main];
        while let Some(process) = processes.pop() {
            let pid = Pid::from_raw(process).expect("a process");
            if kill_process(pid, Signal::STOP).is_ok() {
                frozen.0.push(pid);
            }
            processes.extend(children(process));
        }
        frozen
    }
}

fn children(of: i32) -> Vec<i32> {
    std::fs::read_to_string(format!("/proc/{of}/task/{of}/children"))
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for process in &self.0 {
            let _ = kill_process(*process, Signal::CONT);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Stopped before, its data has no keeper.
        if self.keeper().is_none() {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
        self.end("");
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("port", &self.port).field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Database<'_> {
    /// Its address, with user and password.
    pub fn url(&self) -> String {
        self.server.url_at(self.server.address(), &self.name)
    }

    /// Its address behind a proxy.
    pub fn url_at(&self, address: SocketAddr) -> String {
        self.server.url_at(address, &self.name)
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs SQL in it, as [`Server::psql`].
    pub fn psql(&self, sql: &str) -> String {
        self.server.psql(&self.name, sql)
    }
}

impl Drop for Database<'_> {
    fn drop(&mut self) {
        // It goes with the server at the latest.
        let _ = self.server.try_psql("postgres", &format!("DROP DATABASE {} WITH (FORCE)", self.name));
    }
}

/// Debian's own user for it, or nobody.
fn other_user() -> Result<User, String> {
    let users = std::fs::read_to_string("/etc/passwd").map_err(|error| format!("/etc/passwd: {error}"))?;
    let find = |name: &str| {
        users.lines().find_map(|line| {
            let mut fields = line.strip_prefix(name)?.strip_prefix(':')?.split(':').skip(1);
            Some(User { id: fields.next()?.parse().ok()?, group: fields.next()?.parse().ok()? })
        })
    };
    find("postgres").or_else(|| find("nobody")).ok_or_else(|| String::from("there is no user nobody"))
}

/// A new directory that the user owns and can get to.
fn directory(user: Option<User>) -> Result<TempDir, String> {
    let said = |error: std::io::Error| error.to_string();
    let runs = target_dir().join("servers/run");
    std::fs::create_dir_all(&runs).map_err(|error| format!("{}: {error}", runs.display()))?;
    let mut place = std::fs::canonicalize(runs).map_err(said)?;
    let open = |path: &Path| path.metadata().is_ok_and(|data| data.mode() & 0o001 != 0);
    if user.is_some() && !place.ancestors().all(open) {
        // The repository lies in somebody's own directory.
        place = std::env::temp_dir();
    }
    let dir = tempfile::Builder::new().prefix("postgres-").tempdir_in(place).map_err(said)?;
    if let Some(user) = user {
        std::os::unix::fs::chown(dir.path(), Some(user.id), Some(user.group)).map_err(said)?;
    }
    Ok(dir)
}
