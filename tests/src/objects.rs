//! What has to become of objects, as one table for the tests of the Python and Node packages: the example `fixtures`
//! writes it beside the catalogue, as `objects.json`. A binding is thin, and what it may not do is to lose an exact key, a
//! pin, or the place that a verdict sends an object to.
//!
//! The policy that goes with it moves what is clean to the bucket `clean`, tagged, and what is infected to `infected`;
//! what is unscannable stays in `incoming`.

use serde_json::{Value, json};

/// Keys that are easily mistaken for others, each with the other, and whether a bucket whose keys are paths (the local
/// disk, MinIO) refuses it. The twin of a key is left alone.
const KEYS: [(&str, &str, bool); 17] = [
    ("/evil", "evil", true),
    ("a//b", "a/b", true),
    ("a/../b", "b", true),
    ("../up", "up", true),
    ("./x", "x", true),
    ("trailing/", "trailing", true),
    ("plus+", "plus ", false),
    ("pct%2B", "pct+", false),
    ("pct%252F", "pct%2F", false),
    ("sp ace", "sp+ace", false),
    (" edge ", "edge", false),
    ("\u{fc}n\u{ef}/\u{65e5}\u{672c}", "uni/x", false),
    ("e\u{301}", "\u{e9}", false),
    ("Case", "case", false),
    ("back\\slash", "back/slash", false),
    ("q?v=1#f", "q", false),
    (".hidden", "hidden", false),
];

/// What happens between the event and the scan.
const UNDISTURBED: &str = "nothing";

/// The whole table. `content` and `then` name fixtures of the catalogue; `tags` are the user's own; `state` is the task's
/// when all is over, `place` the bucket where the content is found then, and `null` says that it is nowhere.
pub fn table() -> Value {
    let (clean, infected, locked) = ("clean-text.txt", "infected-letter.tar.gz", "hidden-zipcrypto.zip");
    let one = |name: &str, content: &str, meanwhile: &str, tags: usize, state: &str, place: Option<&str>| {
        let then = (meanwhile == "overwritten").then_some(if content == clean { infected } else { clean });
        json!({
            "name": name, "content": content, "meanwhile": meanwhile, "then": then, "tags": tags, "state": state,
            "place": place,
        })
    };
    json!({
        "keys": KEYS.map(|(key, twin, refused)| json!({ "key": key, "twin": twin, "refused_by_paths": refused })),
        "behaviours": [
            one("clean_is_moved", clean, UNDISTURBED, 0, "done", Some("clean")),
            one("infected_is_isolated", infected, UNDISTURBED, 0, "done", Some("infected")),
            one("unscannable_stays", locked, UNDISTURBED, 0, "done", Some("incoming")),
            one("ten_tags_stay", clean, UNDISTURBED, 10, "done", Some("clean")),
            one("nine_tags_leave_room_for_the_status", infected, UNDISTURBED, 9, "done", Some("infected")),
            // What was scanned is not there any more, and nothing is done to what is.
            one("overwritten_by_infected", clean, "overwritten", 0, "superseded", Some("incoming")),
            one("overwritten_by_clean", infected, "overwritten", 0, "superseded", Some("incoming")),
            one("gone", clean, "deleted", 0, "gone", None),
        ],
    })
}
