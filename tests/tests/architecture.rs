//! The house rules, as far as they can be read from the sources: who may import whom, and who may hold `unsafe`.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every Rust file below a directory of the repository, with its path from there and its text.
fn sources(dir: &str) -> Vec<(String, String)> {
    let (base, mut found, mut dirs) = (root().join(dir), Vec::new(), vec![root().join(dir)]);
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let name = path.strip_prefix(&base).expect("below").to_string_lossy().into_owned();
                found.push((name, std::fs::read_to_string(&path).expect("text")));
            }
        }
    }
    assert!(!found.is_empty(), "no sources in {dir}");
    found
}

/// Paths of this crate that a file names in its code, comments left out.
fn imports(text: &str) -> Vec<String> {
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    // Unit tests may take any part to set the scene.
    let code = code.split("#[cfg(test)]\nmod ").next().unwrap_or_default().to_owned();
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest: String = code[at + 7..].chars().take_while(|c| c.is_alphanumeric() || "_:".contains(*c)).collect();
        found.push(rest);
    }
    found
}

const ROOMS: [&str; 7] = ["engine", "event", "handler", "objects", "queue", "source", "store"];

/// The detectors' kernel, in its variants for special instructions.
const KERNEL: [&str; 2] = ["engine/sensitive/kernel/avx2.rs", "engine/sensitive/kernel/avx512.rs"];

#[test]
fn only_the_core_and_the_kernel_hold_unsafe() {
    for dir in ["scan-pipeline/src", "tests/src"] {
        for (name, text) in sources(dir) {
            let holds = text.lines().any(|line| line.contains("unsafe {") || line.contains("unsafe fn"));
            let may = dir == "scan-pipeline/src" && KERNEL.contains(&name.as_str());
            assert!(!holds || may, "{dir}/{name} holds unsafe code");
        }
    }
    for (file, text) in sources("scan-pipeline/src") {
        if file.ends_with("main.rs") {
            assert!(text.contains("#![forbid(unsafe_code)]"), "{file} does not forbid it");
        }
        if file == "lib.rs" {
            assert!(text.contains("#![deny(unsafe_code)]"), "{file} does not deny it");
        }
        assert!(!text.contains("allow(unsafe_code)") || KERNEL.contains(&file.as_str()), "{file} allows unsafe code");
    }
}

#[test]
fn a_leaf_imports_no_leaf() {
    for room in ROOMS {
        let files = sources(&format!("scan-pipeline/src/{room}"));
        // The name of a leaf: the file, or the folder that it is split into.
        let leaf = |name: &str| name.split(['/', '.']).next().unwrap_or_default().to_owned();
        for (name, text) in &files {
            // Tests and what they share may take any part to set the scene.
            if ["tests.rs", "fixture.rs", "faults.rs"].iter().any(|ending| name.ends_with(ending)) {
                continue;
            }
            let text =
                if name.contains('/') { text.clone() } else { text.replace("super::", &format!("crate::{room}::")) };
            for import in imports(&text) {
                let mut parts = import.split("::");
                let (first, second) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
                let is_leaf = second.chars().next().is_some_and(char::is_lowercase)
                    && sources(&format!("scan-pipeline/src/{}", if ROOMS.contains(&first) { first } else { room }))
                        .iter()
                        .any(|(other, _)| leaf(other) == second);
                let allowed = leaf(name) == "mod" || second == leaf(name) && first == room || SHARED.contains(&second);
                assert!(!ROOMS.contains(&first) || !is_leaf || allowed, "{room}/{name} imports {import}");
            }
        }
    }
}

/// Parts of a room that are no leaves: what its leaves share.
const SHARED: [&str; 7] = ["audit", "held", "json", "pin", "sql", "template", "vocabulary"];

#[test]
fn imports_point_down() {
    // Each may import those behind it only. What is not listed is free.
    let order = [
        "config", "worker", "job", "pipeline", "policy", "workflow", "health", "handler", "engine", "queue", "store",
        "source", "event", "objects", "content", "sql", "aws", "model", "error",
    ];
    // A handler's record is what the store keeps, and the store's what a workflow and a pipeline show.
    let known = [("store", "handler"), ("handler", "pipeline")];
    for (name, text) in sources("scan-pipeline/src") {
        if name.starts_with("bin/") || name.starts_with("testkit") {
            continue;
        }
        let room = name.split(['/', '.']).next().unwrap_or_default();
        let Some(level) = order.iter().position(|other| *other == room) else { continue };
        for import in imports(&text) {
            let target = import.split("::").next().unwrap_or_default();
            let up = order[..level].contains(&target) && !known.contains(&(room, target));
            assert!(!up, "{name} imports {import}, which is above it");
        }
    }
}

#[test]
fn the_pipeline_names_no_vendor() {
    for (name, text) in sources("scan-pipeline/src") {
        if !(name.starts_with("pipeline") || name.starts_with("workflow") || name.starts_with("policy")) {
            continue;
        }
        for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
            for vendor in
                ["sqlite", "S3Bucket", "aws_sdk", "object_store::", "reqwest", "lettre", "LocalBucket", "ClamAv"]
            {
                assert!(!line.to_lowercase().contains(&vendor.to_lowercase()), "{name} names {vendor}: {line}");
            }
        }
    }
}
