//! Texts that are made to cost time: the work of the rules stays in proportion to the text.
//!
//! Work is counted in bytes that the rules look at, not timed, so that a busy machine changes nothing.

use super::super::look::WORK;
use super::super::{CustomPattern, Detectors, Form};

/// Most bytes that the rules may look at for each byte of a text. What a rule looks at is bounded by its reach, and how
/// many candidates there are by the text; together they come to no more than this.
const MOST: u64 = 400;

fn work(form: Form, text: &[u8]) -> u64 {
    let own = CustomPattern::new("own", "[a-z0-9]{3,64}-x").keyword("card");
    let detectors =
        Detectors::builder().all().custom(own).min_confidence(0.0).max_findings(100).build().expect("built");
    WORK.with(|work| work.set(0));
    detectors.find_as(form, "layer", text);
    WORK.with(std::cell::Cell::get)
}

fn hostile(size: usize) -> Vec<(&'static str, Vec<u8>)> {
    let repeated = |piece: &str| piece.as_bytes().iter().copied().cycle().take(size).collect::<Vec<u8>>();
    vec![
        ("digits", repeated("4")),
        ("different digits", repeated("4012888888881881")),
        ("signs", repeated("@")),
        ("addresses without end", repeated("a@")),
        ("local parts", repeated("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa@")),
        ("domains", repeated("@a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.s.t.u.v.w.x.y.z.com")),
        ("separators", repeated(" ().-/")),
        ("blanks", repeated(" ")),
        ("groups of four", repeated("4012 ")),
        ("groups of two and four", repeated("12-3456 ")),
        ("cards", repeated("4012888888881881 ")),
        ("numbers that need a word", repeated("223456789 4155552671 ")),
        ("rows of a table", repeated("223456789,4155552671,")),
        ("key ids", repeated("AKIAQNZGKIQY56JQ7WML ")),
        ("beginnings of key ids", repeated("A")),
        ("secrets", repeated("secret ")),
        ("values of secrets", repeated("secret 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 ")),
        ("tokens", repeated("eyJ")),
        ("tokens with dots", repeated("eyJaaaaaaaaa.")),
        ("names of passwords", repeated("password:")),
        ("long names of passwords", repeated("token_")),
        ("quotes", repeated("\"")),
        ("zeros", repeated("\0")),
        ("wide characters", repeated("4\0")),
        ("tags", repeated("<a>")),
        ("open tags", repeated("<")),
        ("entities", repeated("&amp")),
        ("keywords", repeated("card ")),
    ]
}

#[test]
fn work_is_in_proportion_to_the_text() {
    let size = 1 << 17;
    for ((name, short), (_, long)) in hostile(size).into_iter().zip(hostile(2 * size)) {
        for form in [Form::Plain, Form::Markup] {
            let (one, other) = (work(form, &short), work(form, &long));
            assert!(one <= MOST * size as u64, "{name}: {} for each byte", one / size as u64);
            assert!(other <= one * 2 + one / 4 + 100_000, "{name}: {one} became {other}");
        }
    }
}

/// 1 GiB on one line takes some seconds with optimisation and a minute without: 64 MiB are tried here, and all of it
/// with `HOSTILE_BYTES=1073741824`.
#[test]
fn a_line_without_an_end_takes_no_more_memory() {
    let wanted: usize = std::env::var("HOSTILE_BYTES").ok().and_then(|size| size.parse().ok()).unwrap_or(64 << 20);
    let detectors = Detectors::builder().first_tier().max_findings(10).build().expect("detectors");
    for piece in ["visa 4012888888881881 ", "@", "5", "anna@example.com,"] {
        let part = piece.repeat((1 << 20) / piece.len());
        let mut stream = detectors.stream("layer");
        let mut taken = 0;
        while taken < wanted / 4 {
            stream.push(part.as_bytes());
            taken += part.len();
            assert!(stream.held() < 2 << 20, "{} bytes are held", stream.held());
        }
        let found = stream.finish_counted();
        if piece.starts_with("visa") {
            // Where two parts meet there may be one more or less.
            let count = found.omitted + found.list.len() as u64;
            assert!(count.abs_diff((taken / piece.len()) as u64) <= (taken / part.len()) as u64 + 1, "{count}");
        }
    }
}
