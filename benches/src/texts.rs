//! Texts for the detectors of sensitive data: without hits, natural, a table of numbers, and random bytes.

use crate::rng::Rng;

/// A text of a kind, of about so many bytes.
pub type Make = fn(&mut Rng, usize) -> Vec<u8>;

/// The four texts of the design, with their names.
pub const TEXTS: [(&str, Make); 4] = [("no hits", no_hits), ("natural", natural), ("CSV", table), ("random", random)];

const WORDS: [&str; 24] = [
    "the", "of", "and", "a", "letter", "to", "in", "was", "with", "for", "river", "that", "his", "table", "as", "on",
    "evening", "which", "had", "nobody", "knew", "when", "it", "rained",
];

/// Prose, and lines of a log.
fn no_hits(rng: &mut Rng, size: usize) -> Vec<u8> {
    let mut text = String::with_capacity(size + 256);
    while text.len() < size {
        if rng.between(0, 3) == 0 {
            let n = |rng: &mut Rng, most: u64| rng.between(0, most - 1);
            let (h, m, s) = (n(rng, 24), n(rng, 60), n(rng, 60));
            let line = format!(
                "2024-11-{:02} {h:02}:{m:02}:{s:02},{:03} INFO dfs.DataNode: block blk_{} from /10.250.{}.{}:{}\n",
                n(rng, 28) + 1,
                n(rng, 1000),
                rng.bits(),
                n(rng, 256),
                n(rng, 256),
                n(rng, 65536)
            );
            text.push_str(&line);
        } else {
            sentence(rng, &mut text);
        }
    }
    text.into_bytes()
}

fn sentence(rng: &mut Rng, text: &mut String) {
    for _ in 0..8 + rng.between(0, 11) {
        text.push_str(rng.pick::<&str>(&WORDS));
        text.push(' ');
    }
    text.push_str(".\n");
}

/// The same with something in every eighth sentence or so.
fn natural(rng: &mut Rng, size: usize) -> Vec<u8> {
    let mut text = String::with_capacity(size + 256);
    while text.len() < size {
        sentence(rng, &mut text);
        match rng.between(0, 31) {
            0 => text.push_str("write to anna.b@example.com about it\n"),
            1 => text.push_str("call me at (415) 555-2671 or later\n"),
            2 => text.push_str("charge card 4012 8888 8888 1881 for it\n"),
            3 => text.push_str("it was 1,204.50 on 11/21/2024 at 17:30\n"),
            _ => {}
        }
    }
    text.into_bytes()
}

/// Numbers of every length, and a card in a thousand rows.
fn table(rng: &mut Rng, size: usize) -> Vec<u8> {
    let mut text = String::with_capacity(size + 256);
    text.push_str("id,amount,account,when,count,code\n");
    while text.len() < size {
        let (id, amount, account) =
            (rng.between(0, 999_999_999), rng.between(0, 99_999_999), rng.between(0, 999_999_999_999));
        let (when, count, code) =
            (1_700_000_000 + rng.between(0, 9_999_999), rng.between(0, 999), rng.between(0, 99_999));
        text.push_str(&format!("{id},{}.{:02},{account},{when},{count},{code}\n", amount / 100, amount % 100));
        if rng.between(0, 999) == 0 {
            text.push_str("1,1.00,4012888888881881,1,1,1\n");
        }
    }
    text.into_bytes()
}

fn random(rng: &mut Rng, size: usize) -> Vec<u8> {
    (0..size / 8).flat_map(|_| rng.bits().to_le_bytes()).collect()
}
