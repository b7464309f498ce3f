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
    let short = CustomPattern::new("short", "[eJ]{1,2}").keyword("e");
    let prefixed = CustomPattern::new("prefixed", "a[a-z]{0,63}").prefix("a");
    let builder = Detectors::builder().all().custom(own).custom(short).custom(prefixed);
    let detectors = builder.min_confidence(0.0).max_findings(100).build().expect("built");
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
        ("long tokens over short matches", {
            let token = format!("eyJ{}.eyJ{}.{} ", "e".repeat(1900), "e".repeat(1900), "e".repeat(1900));
            repeated(&token)
        }),
        ("matches of patterns", repeated("card aaaaaaaaaaaaaaaaaaaaaaaa-x")),
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

/// What takes the most memory, each for a while on one line: candidates of every kind, and as many matches as there can
/// be.
fn line() -> Vec<&'static str> {
    vec!["visa 4012888888881881 ", "@", "5", "anna@example.com,", "a@b.co,", "A", "sscsct", "4012-8888 ", "x\0"]
}

/// 1 GiB on one line takes some seconds with optimisation and a minute without: 64 MiB are tried here, and all of it
/// with `HOSTILE_BYTES=1073741824`.
#[test]
fn a_line_without_an_end_takes_no_more_memory() {
    let wanted: usize = std::env::var("HOSTILE_BYTES").ok().and_then(|size| size.parse().ok()).unwrap_or(64 << 20);
    let detectors = Detectors::builder().first_tier().max_findings(10).build().expect("detectors");
    let mut stream = detectors.stream("layer");
    let (pieces, mut taken, mut least) = (line(), 0, 0);
    for piece in &pieces {
        let part = piece.repeat((1 << 18) / piece.len());
        let mut given = 0;
        while given < wanted / pieces.len() {
            stream.push(part.as_bytes());
            given += part.len();
            assert!(stream.held() < 2 << 20, "{} bytes are held", stream.held());
            // Where two parts meet there may be one less.
            least += if piece.ends_with(',') || piece.starts_with("visa") { part.len() / piece.len() - 1 } else { 0 };
        }
        taken += given;
    }
    let found = stream.finish_counted();
    assert!(taken >= wanted / pieces.len() * pieces.len());
    assert!(found.omitted + found.list.len() as u64 >= least as u64, "{} of {least}", found.omitted);
}

/// No form takes more, with patterns of one's own and both tiers neither.
#[test]
fn no_form_takes_more_memory() {
    let every = CustomPattern::new("every", "[a-z@0-9]").keyword("a");
    let long = CustomPattern::new("long", "[a-z0-9]{1,900}").prefix("a");
    for own in [None, Some(every), Some(long)] {
        let builder = Detectors::builder().all().min_confidence(0.0).max_findings(10);
        let detectors = own.into_iter().fold(builder, |all, one| all.custom(one)).build().expect("detectors");
        for (form, mark) in [(Form::Plain, false), (Form::Plain, true), (Form::Markup, false), (Form::Markup, true)] {
            let mut stream = detectors.stream_as(form, "layer");
            stream.push(if mark { b"\xff\xfe" } else { b"" });
            let mut pieces = line();
            pieces.extend(["x<p>", "x<b>", "<a b>", "a", "password:", "eyJ", "&amp;<i>"]);
            for piece in pieces {
                let narrow = piece.repeat((1 << 17) / piece.len()).into_bytes();
                let wide: Vec<u8> = narrow.iter().flat_map(|byte| [*byte, 0]).collect();
                for part in [narrow, wide] {
                    stream.push(&part);
                    let held = stream.held();
                    assert!(held < 2 << 20, "{held} bytes are held of {piece} as {form:?}, marked: {mark}");
                }
            }
        }
    }
}
