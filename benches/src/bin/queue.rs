//! Messages claimed and acknowledged a second, by the queues on SQL and by bare SQL on the same tables.
//!
//! ```text
//! queue [--quick] [--rounds N]
//! ```
//!
//! PostgreSQL is started on a free port, with `fsync`; where it is not installed its rows are left out.
#![allow(clippy::print_stdout)] // It is what a program is for.

use scan_pipeline_benches::measure::Spread;
use scan_pipeline_benches::{Result, files, flag, number, queue};
use scan_pipeline_tests::postgres;

/// How many messages a pass works off, and how many at a time.
const WAYS: [(usize, usize); 2] = [(300, 1), (5_000, 50)];

#[derive(Default)]
struct Rounds {
    bare: Vec<f64>,
    ours: Vec<f64>,
}

impl Rounds {
    fn print(&self, name: &str, batch: usize) {
        let (bare, ours) = (Spread::of(self.bare.iter().copied()), Spread::of(self.ours.iter().copied()));
        let ratio = Spread::of(self.ours.iter().zip(&self.bare).map(|(ours, bare)| ours / bare));
        println!(
            "| {name} | {batch} | {:.0} | {:.0} | {:.2} | {:.2}..{:.2} |",
            bare.median, ours.median, ratio.median, ratio.lowest, ratio.highest
        );
    }
}

/// One round: there and back, so that what drifts slowly hits both alike.
macro_rules! round {
    ($rounds:expr, $bare:expr, $ours:expr) => {{
        let (first, second) = ($bare, $ours);
        let (third, fourth) = ($ours, $bare);
        $rounds.bare.push(f64::midpoint(first, fourth));
        $rounds.ours.push(f64::midpoint(second, third));
    }};
}

fn main() -> Result<()> {
    let rounds = number("--rounds", if flag("--quick") { 3 } else { 9 })?;
    // Not in the system's temporary directory, which may be in memory.
    let dir = tempfile::tempdir_in(files::target_dir())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    println!("| queue | at a time | bare a second | ours a second | ratio | lowest..highest |");
    println!("|---|---:|---:|---:|---:|---|");
    for (count, batch) in WAYS {
        let mut measured = Rounds::default();
        runtime.block_on(async {
            let (ours, mut bare) = queue::sqlite(&dir.path().join(format!("{batch}.db"))).await?;
            for _ in 0..rounds {
                round!(
                    measured,
                    queue::bare_sqlite(&ours, &mut bare, count, batch).await?,
                    queue::ours(&ours, count, batch).await?
                );
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
        })?;
        measured.print("SQLite", batch);
    }
    let Some(server) = postgres::start() else { return Ok(()) };
    for (count, batch) in WAYS {
        let database = server.database();
        let mut measured = Rounds::default();
        runtime.block_on(async {
            let (ours, mut bare) = queue::postgres(&database.url()).await?;
            for _ in 0..rounds {
                round!(
                    measured,
                    queue::bare_postgres(&ours, &mut bare, count, batch).await?,
                    queue::ours(&ours, count, batch).await?
                );
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
        })?;
        measured.print("PostgreSQL", batch);
    }
    Ok(())
}
