//! The detectors of sensitive data on the four texts of `benches/README.md`, with the first tier and with both.
//!
//! `cargo bench -p scan-pipeline-benches --bench detectors`; the program `detectors` has the variants of the kernel beside
//! each other and beside reading the same memory.
#![allow(missing_docs)] // `criterion_group!` makes functions without any.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use scan_pipeline::engine::sensitive::Detectors;
use scan_pipeline_benches::rng::Rng;
use scan_pipeline_benches::texts::TEXTS;

/// Larger than what caches hold of it, so that memory counts.
const SIZE: usize = 16 << 20;

fn detectors(criterion: &mut Criterion) {
    let sides = [("first tier", Detectors::builder().first_tier()), ("both tiers", Detectors::builder().all())]
        .map(|(name, builder)| (name, builder.build().expect("detectors that there are")));
    for (name, make) in TEXTS {
        let text = make(&mut Rng::new(1), SIZE);
        let mut group = criterion.benchmark_group(format!("detectors, {name}"));
        group.throughput(Throughput::Bytes(text.len() as u64));
        for (side, detectors) in &sides {
            group.bench_function(*side, |bencher| bencher.iter(|| black_box(detectors.find("x", &text))));
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .sample_size(20);
    targets = detectors
}
criterion_main!(benches);
