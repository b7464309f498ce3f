//! Walks the whole catalogue of fixtures: no verdict may contradict what is true of the file.

mod common;

use clamav_core::{ScanRequest, Verdict};
use common::engine;
use scan_pipeline_tests::catalogue::{Fixture, Truth, beyond_default_limits, catalogue};

fn check(fixtures: Vec<Fixture>) {
    let count = fixtures.len();
    let mut wrong = Vec::new();
    for Fixture { name, bytes, truth } in fixtures {
        let said = match engine().scan(bytes, ScanRequest::named(name.as_str())) {
            Ok(report) => report.verdict,
            Err(error) => {
                wrong.push(format!("{name} ({truth:?}): {error}"));
                continue;
            }
        };
        let right = match truth {
            Truth::Clean => said == Verdict::Clean,
            Truth::Infected => matches!(said, Verdict::Infected { .. }),
            Truth::NeverClean => said != Verdict::Clean,
            Truth::Odd | Truth::Unreadable => !matches!(said, Verdict::Infected { .. }),
            Truth::Rewritten => !matches!(said, Verdict::Unscannable { .. }),
        };
        if !right {
            wrong.push(format!("{name} ({truth:?}): {said:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {count} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_fixture_gets_a_verdict_that_is_true_of_it() {
    check(catalogue());
}

#[test]
fn so_do_the_fixtures_beyond_the_default_limits() {
    check(beyond_default_limits());
}
