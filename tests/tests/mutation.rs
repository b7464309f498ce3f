//! Damages fixtures at random and scans them: whatever strangers send, there is a verdict, the process
//! stays up, and a file that was never clean does not become so by damage that its content survives.

mod common;

use clamav_core::{ScanRequest, Verdict};
use common::engine;
use scan_pipeline_tests::catalogue::{Truth, catalogue};
use scan_pipeline_tests::marker::shows_marker;

/// xorshift64*: the same damage in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides.max(1)
    }
}

fn damage(bytes: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..=dice.roll(4) {
        let (at, other) = (dice.roll(bytes.len()), dice.roll(bytes.len()));
        let length = dice.roll(40).min(bytes.len() - at.max(other));
        match dice.roll(6) {
            0 => bytes.truncate(at + 1),
            1 => bytes[at] ^= 1 << dice.roll(8),
            2 => bytes[at..at + length].fill([0, 0xff][dice.roll(2)]),
            3 => bytes.copy_within(at..at + length, other),
            4 => drop(bytes.drain(at..at + length)),
            _ => {
                let copy = bytes[at..at + length].to_vec();
                bytes.splice(other..other, copy);
            }
        }
        if bytes.is_empty() {
            bytes.push(0);
        }
    }
}

#[test]
fn damaged_fixtures_get_a_verdict() {
    let fixtures: Vec<_> =
        catalogue().into_iter().filter(|fixture| !fixture.bytes.is_empty() && fixture.bytes.len() < 100_000).collect();
    let mut dice = Dice(0x5eed_0001);
    let mut verdicts = [0; 3];
    for round in 0..20_000 {
        let fixture = &fixtures[dice.roll(fixtures.len())];
        let mut bytes = fixture.bytes.clone();
        damage(&mut bytes, &mut dice);
        let name = format!("{round}-{}", fixture.name);
        match engine().scan(bytes.clone(), ScanRequest::named(name.as_str())) {
            Ok(report) => {
                verdicts[match report.verdict {
                    Verdict::Clean => 0,
                    Verdict::Infected { .. } => 1,
                    Verdict::Unscannable { .. } => 2,
                }] += 1;
                // The marker for all to see is found in the raw bytes, or the file is not proven. (Web pages are matched
                // in their normalised form only, which damage may keep the marker out of.)
                if shows_marker(&bytes) && fixture.truth != Truth::Infected {
                    assert!(report.verdict != Verdict::Clean, "{name}: {report:#?}");
                }
            }
            Err(error) => panic!("{name}: {error}"),
        }
    }
    assert!(verdicts.iter().all(|count| *count > 100), "damage of one kind only: {verdicts:?}");
}
