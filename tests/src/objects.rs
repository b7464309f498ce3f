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

/// The whole table. `content` and `then` name fixtures of the catalogue; `then` is what the content is overwritten with,
/// when `meanwhile` says: before the scan of the state that an event named, or after it and before the first action.
/// `tags` are the user's own, `state` is the task's when all is over, and `place` is the bucket where the object is then,
/// in its last state and nowhere else; `null` is nowhere.
pub fn table() -> Value {
    let (clean, infected, locked) = ("clean-text.txt", "infected-letter.tar.gz", "hidden-zipcrypto.zip");
    let one = |name: &str, content: &str, tags: usize, (meanwhile, then): (&str, Option<&str>), place: Option<&str>| {
        let state = match (place, tags) {
            (None, _) => "gone",
            (_, 10..) => "dead",
            _ => "done",
        };
        json!({
            "name": name, "content": content, "tags": tags, "meanwhile": meanwhile, "then": then, "state": state,
            "place": place,
        })
    };
    let nothing = ("nothing", None);
    json!({
        "keys": KEYS.map(|(key, twin, refused)| json!({ "key": key, "twin": twin, "refused_by_paths": refused })),
        "behaviours": [
            one("clean_is_moved", clean, 0, nothing, Some("clean")),
            one("infected_is_isolated", infected, 0, nothing, Some("infected")),
            one("unscannable_stays", locked, 0, nothing, Some("incoming")),
            // The eleventh would be ours. A status that cannot be written is a failure, and nothing moves without it.
            one("ten_tags_leave_no_room", clean, 10, nothing, Some("incoming")),
            one("nine_tags_leave_room_for_the_status", infected, 9, nothing, Some("infected")),
            // Another state is there than was meant: that one counts, and nothing follows from what was seen of the first.
            one("infected_before_the_scan", clean, 0, ("before_the_scan", Some(infected)), Some("infected")),
            one("clean_before_the_scan", infected, 0, ("before_the_scan", Some(clean)), Some("clean")),
            one("infected_before_the_move", clean, 0, ("before_the_move", Some(infected)), Some("infected")),
            one("locked_before_the_move", clean, 0, ("before_the_move", Some(locked)), Some("incoming")),
            one("clean_before_the_move", infected, 0, ("before_the_move", Some(clean)), Some("clean")),
            one("gone_before_the_move", clean, 0, ("before_the_move", None), None),
        ],
    })
}
