//! The form of `--json`, field by field.

use std::fs::OpenOptions;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use scan_pipeline::model::ContentDigest;
use scan_pipeline_tests::marker::{EICAR_NAME, eicar, harmless, text};
use scan_pipeline_tests::zip::encrypted::mixed;
use scan_pipeline_tests::zip::plain;
use serde_json::{Value, json};

use crate::{folder, run, scan};

fn report(name: &str, bytes: &[u8], args: &[&str]) -> (i32, Value) {
    let dir = folder(&[(name, bytes)]);
    let said = run(scan().arg("--json").args(args).arg(name).current_dir(dir.path()));
    let objects = said.json();
    assert_eq!(objects.len(), 1, "{}", said.out);
    (said.code, objects.into_iter().next().expect("one"))
}

#[test]
fn a_clean_file_has_every_field() {
    let (code, object) = report("letter.txt", &harmless(), &[]);
    assert_eq!(code, 0);
    let mut keys: Vec<&str> = object.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    let expected = [
        "coverage",
        "elapsed_ms",
        "engine",
        "file_type",
        "findings",
        "findings_omitted",
        "path",
        "schema",
        "sha256",
        "size",
        "verdict",
    ];
    assert_eq!(keys, expected);
    assert_eq!(object["schema"], "scan-pipeline.report/1");
    assert_eq!(object["path"], "letter.txt");
    assert_eq!(object["verdict"], json!({"status": "clean", "threats": [], "reasons": []}));
    assert_eq!(object["findings"], json!([]));
    assert_eq!(object["sha256"], ContentDigest::of(&harmless()).to_string());
    assert_eq!(object["size"], harmless().len());
    assert_eq!(object["file_type"], "CL_TYPE_TEXT_ASCII");
    assert!(object["elapsed_ms"].as_f64().is_some_and(|millis| millis > 0.0));
    let coverage = &object["coverage"];
    assert_eq!(coverage["started"], true);
    assert_eq!(coverage["trivial"], false);
    assert_eq!(coverage["layers"], 1);
    assert_eq!(coverage["bytes"], harmless().len());
    assert_eq!(coverage["depth"], 0);
    assert_eq!(coverage["members"], 0);
    assert_eq!(coverage["gap_count"], 0);
    assert_eq!(
        coverage["limits"],
        json!({"max_file_size": 100 << 20, "max_scan_size": 400 << 20, "max_recursion": 17, "max_files": 10_000,
               "max_scan_time_ms": 120_000})
    );
    let engine = &object["engine"];
    assert_eq!(engine["name"], "clamav");
    assert_eq!(engine["signatures"], 2);
    assert!(engine["library"].as_str().is_some_and(|version| version.starts_with('1')));
    assert_eq!(engine["generation"].as_str().map(str::len), Some(32));
    assert_eq!(engine["databases"][0]["name"], "test.ndb");
    assert!(engine["definitions_built"].as_str().is_some_and(|time| time.ends_with('Z') && time.len() == 20));
}

#[test]
fn threats_and_reasons_have_layer_paths() {
    let (code, object) = report("outer.zip", &plain(&[("inner.zip", &plain(&[("eicar.com", &eicar())]))]), &[]);
    assert_eq!(code, 1);
    let threat = json!({"signature": EICAR_NAME, "layer_path": "outer.zip/inner.zip/eicar.com"});
    assert_eq!(object["verdict"], json!({"status": "infected", "threats": [threat], "reasons": []}));

    let locked: [(&str, &[u8]); 1] = [("secret.txt", &harmless())];
    let (code, object) = report("mixed.zip", &mixed(&[("readme.txt", b"a plain text")], &locked), &[]);
    assert_eq!(code, 2);
    assert_eq!(object["verdict"]["status"], "unscannable");
    assert_eq!(object["verdict"]["threats"], json!([]));
    assert_eq!(object["verdict"]["reasons"][0]["kind"], "encrypted");
    assert_eq!(object["verdict"]["reasons"][0]["layer_path"], "mixed.zip/secret.txt");
    assert_eq!(object["coverage"]["gap_count"], 1);

    // Infected wins, and what was not looked at is still said.
    let (code, object) = report("both.zip", &mixed(&[("eicar.com", &eicar())], &locked), &[]);
    assert_eq!(code, 1);
    assert_eq!(object["verdict"]["status"], "infected");
    assert_eq!(object["verdict"]["reasons"][0]["kind"], "encrypted");
}

#[test]
fn the_digest_is_of_what_was_scanned() {
    // Of 5 bytes or fewer libclamav sees nothing, so these go another way.
    for length in [0, 1, 4, 5, 6, 7, 1000, 300_000] {
        let bytes = text(length, 3);
        let (code, object) = report("file", &bytes, &[]);
        assert_eq!(code, 0, "{length}");
        assert_eq!(object["sha256"], ContentDigest::of(&bytes).to_string(), "{length}");
        assert_eq!(object["size"], length);
        assert_eq!(object["coverage"]["trivial"], length <= 5);
    }
    let (code, object) = report("file", &text(3000, 3), &["--max-file", "2K"]);
    assert_eq!(code, 2);
    assert!(object["sha256"].is_null(), "nobody has read it");
    assert_eq!(object["size"], 3000);
}

#[test]
fn a_file_that_grows_meanwhile_has_one_state_or_none() {
    let content = text(1 << 20, 5);
    let dir = folder(&[("log", &content[..1])]);
    let path = dir.path().join("log");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // From small to large and again: what is there is at every moment a beginning of the content.
            while !done.load(Ordering::Relaxed) {
                let mut file = OpenOptions::new().write(true).truncate(true).open(&path).expect("opens");
                for piece in content.chunks(4096) {
                    file.write_all(piece).expect("writes");
                }
            }
        });
        for _ in 0..15 {
            let said = run(scan().arg("--json").arg(&path));
            let object = &said.json()[0];
            match object["size"].as_u64() {
                Some(size) => {
                    let expected = ContentDigest::of(&content[..size as usize]).to_string();
                    assert_eq!(object["sha256"], expected, "{object}");
                    assert_eq!(said.code, 0);
                }
                None => {
                    assert_eq!(object["schema"], "scan-pipeline.error/1");
                    assert_eq!(object["error"]["kind"], "changed");
                    assert_eq!(said.code, 2);
                }
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}
