//! Logs as programs write them hold no cards, social security numbers or phone numbers.

use std::fmt::Write;

use super::super::{Detector, Detectors};

/// Lines in the forms of many programs, with times in every form, ids, addresses and counters.
fn lines(generator: &mut fastrand::Rng, count: usize, text: &mut String) {
    const WORDS: &[&str] = &[
        "INFO",
        "WARN",
        "dfs.DataNode$PacketResponder",
        "connection",
        "closed",
        "session",
        "terminating",
        "job",
        "received",
        "GET",
        "/index.html",
        "user",
        "root",
        "size",
        "took",
        "ms",
        "call",
        "page",
        "message",
        "token",
    ];
    let g = generator;
    for _ in 0..count {
        let (year, month, day) = (g.u32(1999..2035), g.u32(1..13), g.u32(1..29));
        let (hour, minute, second, milli) = (g.u32(0..24), g.u32(0..60), g.u32(0..60), g.u32(0..1000));
        let epoch = g.u64(900_000_000..1_999_999_999);
        // A string takes what is written to it.
        let _ = match g.u8(0..24) {
            0 => write!(text, "{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z"),
            1 => write!(text, "{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02},{milli:03}"),
            2 => write!(text, "{day:02}/Nov/{year}:{hour:02}:{minute:02}:{second:02} +0000"),
            3 => write!(text, "{year}{month:02}{day:02}{hour:02}{minute:02}{second:02}"),
            4 => write!(text, "{year}{month:02}{day:02}{hour:02}{minute:02}{second:02}{milli:03}"),
            5 => write!(text, "{day:02}{month:02}{year}{hour:02}{minute:02}{second:02}"),
            6 => {
                write!(text, "{:02}{month:02}{day:02} {hour:02}{minute:02}{second:02} {}", year % 100, g.u32(1..99_999))
            }
            7 => write!(text, "{year}{month:02}{day:02} {hour:02}{minute:02}{second:02} {}", g.u32(1..99_999)),
            8 => write!(text, "{epoch}"),
            9 => write!(text, "{epoch}{milli:03}"),
            10 => write!(text, "{epoch}.{milli:03}{:03}", g.u32(0..1000)),
            11 => write!(text, "{epoch}{milli:03}{:03}", g.u32(0..1000)),
            12 => write!(text, "{epoch}{milli:03}{:06}", g.u32(0..1_000_000)),
            13 => write!(
                text,
                "{year}-{month:02}-{day:02}-{hour:02}.{minute:02}.{second:02}.{milli:03}{:03}",
                g.u32(0..1000)
            ),
            14 => write!(text, "{year}.{month:02}.{day:02} {hour:02}.{minute:02}.{second:02}"),
            15 => write!(
                text,
                "{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{milli:03}  {} {}",
                g.u32(100..9999),
                g.u32(100..9999)
            ),
            16 => write!(text, "[{:>5}.{:06}]", g.u32(0..99_999), g.u32(0..1_000_000)),
            17 => write!(text, "{month:02}/{day:02}/{year} {hour:02}:{minute:02}:{second:02} PM"),
            18 => write!(
                text,
                "Nov {day:>2} {hour:02}:{minute:02}:{second:02} host-{} sshd[{}]:",
                g.u32(1..999),
                g.u32(1..99_999)
            ),
            // Counters in columns, as vmstat and its kin have them.
            22 => (0..g.u8(5..18)).try_for_each(|_| write!(text, "{} ", g.u32(1000..10_000))),
            23 => (0..g.u8(5..18)).try_for_each(|_| write!(text, "{:>6}", g.u32(0..20_000))),
            19 => write!(text, "{year}-W{:02}-{}", g.u32(1..53), g.u32(1..8)),
            20 => write!(text, "{year}-{:03} {hour:02}{minute:02}-{second:02}{milli:03}", g.u32(1..366)),
            _ => write!(text, "{:02}-{month:02}-{year} {hour:02}-{minute:02}-{second:02}", day),
        };
        for _ in 0..g.u8(1..7) {
            text.push(' ');
            let _ = match g.u8(0..19) {
                0 => write!(text, "blk_{}{}", if g.bool() { "-" } else { "" }, g.u64(1_000_000_000..u64::MAX >> 1)),
                1 | 2 => {
                    let id = g.u128(..);
                    let hex = format!("{id:032x}");
                    write!(text, "{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
                }
                // Of digits only, as one in three hundred is in its first four parts.
                3 => write!(
                    text,
                    "{:08}-{:04}-4{:03}-8{:03}-{:012}",
                    g.u32(0..100_000_000),
                    g.u32(0..10_000),
                    g.u32(0..1000),
                    g.u32(0..1000),
                    g.u64(0..1_000_000_000_000)
                ),
                4 => write!(text, "/{}.{}.{}.{}:{}", g.u8(..), g.u8(..), g.u8(..), g.u8(..), g.u16(..)),
                5 => write!(text, "src={}.{}.{}.{}", g.u8(..), g.u8(..), g.u8(..), g.u8(..)),
                6 => write!(text, "fe80::{:x}:{:x}ff:fe{:x}:{:04x}", g.u16(..), g.u8(..), g.u8(..), g.u16(..)),
                7 => write!(text, "{:016x}", g.u64(..)),
                8 => write!(text, "0x{:x}", g.u64(..)),
                9 => write!(
                    text,
                    "attempt_{epoch}{milli:03}_{:04}_m_{:06}_{}",
                    g.u32(1..9999),
                    g.u32(0..1_000_000),
                    g.u8(0..4)
                ),
                10 => write!(text, "pid={} tid={}", g.u32(1..4_194_304), g.u32(1..4_194_304)),
                11 => write!(text, "bytes={} in {}.{:03}s", g.u64(0..99_999_999), g.u32(0..100), g.u32(0..1000)),
                12 => write!(text, "{}%", g.u8(0..101)),
                13 => write!(text, "v{}.{}.{}-{}", g.u8(0..30), g.u8(0..99), g.u16(0..9999), g.u32(1000..99_999)),
                14 => write!(
                    text,
                    "{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}",
                    g.u8(..),
                    g.u8(..),
                    g.u8(..),
                    g.u8(..),
                    g.u8(..),
                    g.u8(..)
                ),
                15 => write!(text, "seq {} ack {}", g.u32(..), g.u32(0..1_999_999_999)),
                16 => write!(
                    text,
                    "Mozilla/5.0 Chrome/{}.0.{}.{} Safari/537.36",
                    g.u8(80..140),
                    g.u16(1000..9999),
                    g.u8(10..200)
                ),
                17 => write!(text, "req-{:08x}-{:04x}", g.u32(..), g.u16(..)),
                _ => write!(text, "{}", g.choice(WORDS).unwrap_or(&"")),
            };
        }
        text.push('\n');
    }
}

#[test]
fn a_million_lines_of_logs_hold_no_numbers_of_people() {
    let lines_wanted: usize = std::env::var("LOG_LINES").ok().and_then(|count| count.parse().ok()).unwrap_or(1_000_000);
    let detectors = Detectors::builder()
        .detect_all([Detector::CreditCard, Detector::Ssn, Detector::Phone])
        .build()
        .expect("detectors");
    let (mut generator, mut text, mut bytes) = (fastrand::Rng::with_seed(5), String::new(), 0);
    for _ in 0..lines_wanted / 10_000 {
        text.clear();
        lines(&mut generator, 10_000, &mut text);
        bytes += text.len();
        let found = detectors.find("app.log", text.as_bytes());
        let told: Vec<_> = found
            .iter()
            .map(|one| {
                // With what may have been taken for a word about it.
                let place = one.byte_offset as usize;
                (&one.detector, &text[place.saturating_sub(64)..(place + 96).min(text.len())])
            })
            .collect();
        assert!(found.is_empty(), "{told:?}");
    }
    eprintln!("{lines_wanted} lines, {bytes} bytes, nothing found");
}
