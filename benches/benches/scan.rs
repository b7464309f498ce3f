//! Micro benches of single scans with few definitions, where our part shows most, beside the bare call.
//!
//! The figures are processor time of the whole process, as everywhere in these benches.
//! `cargo bench -p scan-pipeline-benches`; the side-by-side program says what matters with real definitions.
#![allow(missing_docs)] // `criterion_group!` makes functions without any.

use std::path::PathBuf;
use std::time::Duration;

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use scan_pipeline_benches::definitions::{self, Plan};
use scan_pipeline_benches::files::{self, BenchFile};
use scan_pipeline_benches::measure::cpu;
use scan_pipeline_benches::sides::{How, Prepared, Side};
use scan_pipeline_benches::{Result, make};

const TEXT: &str = "It was a bright cold day in April, and the clocks were striking thirteen.\n";

/// Processor time instead of time on the wall.
struct CpuTime;

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        cpu()
    }

    fn end(&self, start: Duration) -> Duration {
        cpu() - start
    }

    fn add(&self, one: &Duration, other: &Duration) -> Duration {
        *one + *other
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

/// One of each shape that costs something different: names end in what they are.
fn inputs() -> Result<Vec<(&'static str, Vec<u8>)>> {
    let (short, long) = (TEXT.repeat(14), TEXT.repeat(1400));
    let zip = make::zip(&[("a.txt", short.as_bytes()), ("b.txt", long.as_bytes())])?;
    let noise: Vec<u8> = {
        let mut rng = scan_pipeline_benches::rng::Rng::new(11);
        (0..128 << 10).flat_map(|_| rng.bits().to_le_bytes()).collect()
    };
    Ok(vec![
        ("1k.txt", short.clone().into_bytes()),
        ("100k.txt", long.clone().into_bytes()),
        ("1m.bin", noise),
        ("nested.zip", make::zip(&[("inner.zip", &zip), ("c.txt", short.as_bytes())])?),
        ("hundred.zip", {
            let names: Vec<String> = (0..100).map(|n| format!("folder/{n}.txt")).collect();
            let bodies: Vec<String> = (0..100).map(|n| format!("{n}: {short}")).collect();
            let members: Vec<_> = names.iter().zip(&bodies).map(|(n, b)| (n.as_str(), b.as_bytes())).collect();
            make::zip(&members)?
        }),
        ("letter.docx", make::docx(&long, &[])?),
        ("letter.pdf", make::pdf(&long, None)?),
        ("source.tar.gz", make::gzip(&make::tar(&[("a.txt", long.as_bytes()), ("b.txt", short.as_bytes())])?)?),
        ("source.tar.bz2", make::bzip2(&make::tar(&[("a.txt", long.as_bytes())])?)?),
        ("letter.eml", make::mail(&short, &[("inner.zip", &zip)])),
    ])
}

fn scans(criterion: &mut Criterion<CpuTime>) {
    let folder = files::target_dir().join("bench-definitions-small");
    let mut run = || -> Result<()> {
        definitions::generate(&Plan::SMALL, &folder)?;
        let sides = [("bare", Side::bare(&folder)?), ("ours", Side::ours(&folder, 1)?)];
        for (name, bytes) in inputs()? {
            let mut group: BenchmarkGroup<'_, CpuTime> = criterion.benchmark_group(name);
            group.throughput(Throughput::Bytes(bytes.len() as u64));
            let file = BenchFile { kind: String::new(), path: PathBuf::from(name), bytes: bytes.into() };
            let prepared = Prepared::new(file)?;
            for (side_name, side) in &sides {
                let tally = side.scan(&prepared, How::Bytes);
                if tally.clean != 1 {
                    return Err(format!("{side_name} does not call {name} clean: {tally:?}").into());
                }
                group.bench_function(*side_name, |bencher| {
                    // On a thread with the stack that libclamav needs, and with the heap of a thread: ours scans on
                    // such a thread too, and the main thread's heap is cheaper.
                    std::thread::scope(|scope| {
                        let work = || bencher.iter(|| side.scan(&prepared, How::Bytes));
                        let thread = std::thread::Builder::new().stack_size(8 << 20).spawn_scoped(scope, work);
                        thread.map(|thread| thread.join()).expect("a thread starts").expect("no scan panics");
                    });
                });
            }
            group.finish();
        }
        Ok(())
    };
    if let Err(why) = run() {
        panic!("{why}");
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .with_measurement(CpuTime)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .sample_size(30);
    targets = scans
}
criterion_main!(benches);
