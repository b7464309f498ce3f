//! The detectors on a corpus that somebody else has labelled: `../shared/corpus/pii`, beside the repository.

use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "../examples/predictions.rs"]
mod predictions;

/// The corpus, where it is there. `PII_CORPUS` names it where it lies elsewhere.
fn corpus() -> Option<PathBuf> {
    let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus/pii");
    let folder = std::env::var_os("PII_CORPUS").map_or(usual, PathBuf::from);
    if folder.join("score.py").is_file() {
        return Some(folder);
    }
    eprintln!("SKIP: no labelled corpus at {}; PII_CORPUS can name another folder", folder.display());
    None
}

#[test]
fn every_detector_finds_what_is_labelled_and_little_else() {
    let Some(corpus) = corpus() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("predictions.jsonl");
    let mut to = std::fs::File::create(&file).expect("a file");
    predictions::write(&corpus, &mut to).expect("predictions");
    let score = Command::new("python3").arg(corpus.join("score.py")).arg(&file).output().expect("python3 runs");
    let text = String::from_utf8(score.stdout).expect("text");
    assert!(score.status.success(), "{}", String::from_utf8_lossy(&score.stderr));
    eprint!("{text}");
    let mut seen = 0;
    for line in text.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        let (part, detector) = (words[0], words[1]);
        let reached: f64 = words[words.len() - 1].parse().expect("a score");
        let wanted = if part == "unit" { 0.99 } else { 0.995 };
        assert!(reached >= wanted, "{part}, {detector}: F1 is {reached}, less than {wanted}");
        seen += 1;
    }
    assert_eq!(seen, 8, "four detectors in both parts");
}
