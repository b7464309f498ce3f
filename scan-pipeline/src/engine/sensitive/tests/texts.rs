//! Texts to try: noise, prose, tables of numbers, and what is made to confuse.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Pieces of which the rules care about every one, whole and broken.
pub(super) const PIECES: &[&str] = &[
    "4012888888881881",
    "4012 8888 8888 1881",
    "4012-8888-8888-1881",
    "40128888 88881881",
    "3782 822463 10005",
    "378282246310005",
    "3056 930902 5904",
    "30569309025904",
    "6011000990139424",
    "3566 0020 2036 0505",
    "67597596498264",
    "4222222222222",
    "5019717010103742",
    "180051662803027",
    "3598899323053410",
    "62000000000000003",
    "501864667909",
    "4111",
    "1111",
    "8888",
    "12",
    "123",
    "999",
    "0",
    "00",
    "1",
    "078-05-1123",
    "078.05.1123",
    "223 45 6789",
    "223456789",
    "666-12-3456",
    "123-00-4567",
    "078-05-1120",
    "900-12-3456",
    "415-555-0132",
    "(415) 555-2671",
    "(415)5552671",
    "415-5552671",
    "415.555.2671",
    "415 555 2671",
    "415 555-2671",
    "415/555-2671",
    "(41) 5555-2671",
    "4155552671",
    "14155552671",
    "+14155552671",
    "+1 (415) 555-2671",
    "1-415-555-2671",
    "001-415-555-2671",
    "+1415-555-2671",
    "+1 415-555 2671",
    "415/555/2671",
    "415.555 2671",
    "415 5552671",
    "Tel.",
    "Ph.",
    "SSN-",
    "no-",
    "ext5",
    "Ext. ",
    "4222 2222 2222 2",
    "social \nsecurity",
    "ss\tnumber",
    "tax  id",
    "+44 ",
    "+1",
    "+",
    "x12",
    "211-555-2671",
    "ssn",
    "SSN: ",
    "social security ",
    "card",
    "Card ",
    "myCard",
    "creditCards",
    "cc",
    "phone",
    "Fax: ",
    "call me ",
    "tel",
    "@",
    "user",
    "a.b",
    "..",
    ".",
    "-",
    "_",
    "'",
    "=",
    "/",
    "//",
    "https://",
    ":",
    "example.com",
    "mail.example.co.uk",
    "x.invalid",
    "xn--80ak6aa92e.com",
    "bd",
    ".com",
    "git@",
    "!#$%",
    "ASIAQNZGKIQY56JQ7WML",
    "AKIAQNZGKIQY56JQ7WM0",
    "AKIA",
    "A",
    "AB2A",
    "secret",
    "SeCrEt = ",
    "secXet",
    "scct",
    "h8Kd/2mQ0vXz+PnY7sWcR4tLb9GfJ1uEaT6oSi3D",
    "0123456789abcdef0123456789abcdef01234567",
    " ",
    "  ",
    "\n",
    "\r\n",
    "\t",
    "\0",
    ",",
    ";",
    "|",
    "\"",
    "(",
    ")",
    "é",
    "名",
    "\u{a0}",
    "x",
    "Z",
    "name,ssn,card,phone\n",
    "a;b;credit card number;d\n",
    "2024-11-21 17:30:00,123",
    "1700000000000",
    "20241121173000",
    "30112024123456",
    "550e8400-e29b-41d4-a716-446655440000",
    "12345678-1234-1234-1234-123456789012",
    "10.250.19.102:54106",
    "blk_-1608999687919862906",
    "081109 203615 148 INFO ",
    "anna@example.org",
    "o'brien.x@mail.example.co.uk",
    "to=anna+b@example.net&",
    "https://u:pw@example.com/",
    "..a@b.de",
    "'q@iana.org'",
    "<x.y@sub.museum>",
    "SecretAccessKey: h8Kd/2mQ0vXz+PnY7sWcR4tLb9GfJ1uEaT6oSi3D",
    "card no 6759649826438453",
    "tel: 4155552671",
    "ssn 223456789",
    "ABIAQNZGKIQY56JQ7WML",
    "ACCA2345672345672345",
    // In two parts, so that none of them stands here as a whole.
    concat!("gh", "p_16C7e42F292c6912E7710c838347Ae178B4a"),
    concat!("gh", "s_16C7e42F292c6912E7710c838347Ae178B4a"),
    concat!("github", "_pat_11ABCDEFG0q1w2e3r4t5y6_7uJmNhYgTbRvFeDcWsXqAzPlOkMiJnUhBgYtFcDrXeSzWa1q2w3e4r5t6"),
    concat!("xo", "xb-2048-40961234-Ab3De5Gh7Jk9Mn1Pq3St5Uv7"),
    concat!("xa", "pp-1-A02B3C4D5-Ab3De5Gh7Jk9"),
    concat!("sk", "_live_4eC39HqLyjWDarjtT1zdp7dc"),
    concat!("rk", "_test_4eC39HqLyjWDarjtT1zdp7dc"),
    concat!("AI", "zaSyA1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q"),
    concat!("np", "m_Ab3De5Gh7Jk9Mn1Pq3St5Uv7Wx9Yz1Bc3De5"),
    concat!("py", "pi-AgEIcHlwaS5vcmcCJDk4YzY3NmQ0LTc2YjQtNGE1Ny1hZjA2LWE4ZDk2ODZhNzE3NQACKlsz"),
    concat!("-----BE", "GIN RSA PRIVATE KEY-----"),
    concat!("-----BE", "GIN ENCRYPTED PRIVATE KEY-----"),
    concat!("-----BE", "GIN PGP PRIVATE KEY BLOCK-----"),
    "-----BEGIN CERTIFICATE-----",
    concat!("ey", "JhbGciOiJIUzI1NiJ9.", "ey", "JzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P"),
    "eyJ",
    "password",
    "db_passwd",
    "clientSecret",
    "API_KEY",
    "x.token",
    "Pwd",
    "section",
    "password = \"hunter2!x\"",
    "PASSWD=s3cr3tish9",
    "'apikey': 'Abc-Def-Ghi-7'",
    "token := `q1w2e3r4t5`",
    "pwd => tr0ub4dor",
    "secret == 'abcdef123'",
    "${HOME1}",
    "changeme1",
    " = ",
    "=",
    ": \"",
    "=>",
];

/// Pieces in any order, some of them cut.
pub(super) fn confusing() -> impl Strategy<Value = Vec<u8>> {
    let piece = (select(PIECES), 0..40_usize, 0..40_usize).prop_map(|(piece, first, last)| {
        let bytes = piece.as_bytes();
        // Most of them whole.
        let first = if first > 5 { 0 } else { first.min(bytes.len()) };
        let last = if last > 5 { bytes.len() } else { bytes.len() - last.min(bytes.len() - first) };
        bytes[first..last].to_vec()
    });
    let between =
        prop_oneof![2 => Just(""), 2 => Just(" "), 1 => select(&["\n", ",", "; ", "-", ": ", "\"", "\0"][..])];
    vec((piece, between), 0..40)
        .prop_map(|all| all.into_iter().flat_map(|(piece, mark)| [&piece, mark.as_bytes()].concat()).collect())
}

/// Digits, and what may stand between them.
pub(super) fn digits() -> impl Strategy<Value = Vec<u8>> {
    vec(select(&b"0123456789012345678901234567894455- .()/,\n+x"[..]), 0..400)
}

/// A table as text, with names of columns.
pub(super) fn table() -> impl Strategy<Value = Vec<u8>> {
    let cell = select(
        &[
            "223456789",
            "4155552671",
            "4222222222222",
            "Anna",
            "h8Kd/2mQ0vXz+PnY7sWcR4tLb9GfJ1uEaT6oSi3D",
            "",
            "\"a, b\"",
            "62000000000000000",
        ][..],
    );
    let name = select(&["name", "SSN", "homePhone", "card", "id", "AWS_Key"][..]);
    let size = prop_oneof![6 => Just(3_usize), 1 => 1..5_usize];
    let row = (vec(cell, 5), size).prop_map(|(cells, size)| cells[..size].join(","));
    (vec(name, 3), vec(row, 0..12), select(&["\n", "\r\n", "\n\n"][..]), any::<bool>()).prop_map(
        |(names, rows, end, ended)| {
            let all = [names.join(",")].into_iter().chain(rows).collect::<Vec<_>>().join(end);
            (if ended { all + end } else { all }).into_bytes()
        },
    )
}

/// Bytes of any kind.
pub(super) fn noise() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..600)
}

/// Sentences with something in them now and then.
pub(super) fn prose() -> impl Strategy<Value = Vec<u8>> {
    const WORDS: &[&str] = &[
        "the", "letter", "arrived", "on", "Tuesday", "and", "Anna", "said", "nothing", "of", "her", "secret", "for",
        "years", "Sect", "AAA", "in", "2019", "at", "10:45", "about", "3.14", "percent", "call", "office", "discover",
    ];
    let word = prop_oneof![8 => select(WORDS), 1 => select(PIECES)];
    let mark = select(&[" ", " ", " ", ", ", ". ", "\n", ": "][..]);
    vec((word, mark), 0..80).prop_map(|words| {
        words.into_iter().flat_map(|(word, mark)| [word.as_bytes(), mark.as_bytes()].concat()).collect()
    })
}

/// All of them.
pub(super) fn any_text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![4 => confusing(), 2 => digits(), 1 => noise(), 1 => prose(), 1 => table()]
}
