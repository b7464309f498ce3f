//! Results a second into a store, on SQLite and PostgreSQL, each beside the same rows by bare SQL in the same run.
//!
//! ```text
//! stores [--quick] [--results N] [--rounds N]
//! ```
//!
//! PostgreSQL is started for it, with `fsync` on; both have their files on the same disk.
#![allow(clippy::print_stdout)] // It is what a program is for.

use std::sync::Arc;

use scan_pipeline::store::{PostgresStore, SqliteStore};
use scan_pipeline_benches::measure::Spread;
use scan_pipeline_benches::{Result, files, flag, number, stores};
use scan_pipeline_tests::postgres;

/// Claims a second, results a second, and those of bare SQL.
type Rates = [f64; 3];

fn main() -> Result<()> {
    let quick = flag("--quick");
    let results = number("--results", if quick { 5_000 } else { 50_000 })?;
    let rounds = number("--rounds", if quick { 3 } else { 7 })?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(results, rounds))
}

async fn measure(results: usize, rounds: usize) -> Result<()> {
    let work = stores::work(results)?;
    let rows = stores::rows(&work)?;
    // Not in the system's temporary directory, which may be in memory.
    let dir = tempfile::tempdir_in(files::target_dir())?;
    let server = postgres::start();
    let (mut sqlite, mut postgres) = (Vec::<Rates>::new(), Vec::<Rates>::new());
    for round in 0..rounds {
        let bare = dir.path().join(format!("bare-{round}.db"));
        let store = SqliteStore::open(dir.path().join(format!("{round}.db"))).await?;
        // Each goes first by turns.
        let mut floor = 0.0;
        if round % 2 == 0 {
            floor = stores::bare_sqlite(&bare, &rows).await?;
        }
        let (claims, commits) = stores::ours(Arc::new(store.clone()), &work).await?;
        if round % 2 == 1 {
            floor = stores::bare_sqlite(&bare, &rows).await?;
        }
        stores::whole(&store, &work).await?;
        store.close().await?;
        sqlite.push([claims, commits, floor]);

        let Some(server) = &server else { continue };
        let (bare, ours) = (server.database(), server.database());
        let store = PostgresStore::open(&ours.url()).await?;
        if round % 2 == 0 {
            floor = stores::bare_postgres(&bare.url(), &rows).await?;
        }
        let (claims, commits) = stores::ours(Arc::new(store.clone()), &work).await?;
        if round % 2 == 1 {
            floor = stores::bare_postgres(&bare.url(), &rows).await?;
        }
        stores::whole(&store, &work).await?;
        store.close().await?;
        postgres.push([claims, commits, floor]);
    }
    println!("{results} results, {} in a transaction, {rounds} rounds\n", stores::BATCH);
    println!("| store | claims/s | results/s | lowest..highest | bare SQL/s | beside bare | lowest..highest |");
    println!("|---|---:|---:|---|---:|---:|---|");
    print("SQLite", &sqlite);
    print("PostgreSQL", &postgres);
    if server.is_none() {
        println!("\nNOT MEASURED: PostgreSQL, which is not installed (scripts/setup.sh test).");
    }
    Ok(())
}

fn print(name: &str, rates: &[Rates]) {
    if rates.is_empty() {
        return;
    }
    let of = |value: fn(&Rates) -> f64| Spread::of(rates.iter().map(value));
    let (claims, results, bare, beside) = (of(|r| r[0]), of(|r| r[1]), of(|r| r[2]), of(|r| r[1] / r[2]));
    println!(
        "| {name} | {:.0} | {:.0} | {:.0}..{:.0} | {:.0} | {:.3} | {:.3}..{:.3} |",
        claims.median,
        results.median,
        results.lowest,
        results.highest,
        bare.median,
        beside.median,
        beside.lowest,
        beside.highest,
    );
}
