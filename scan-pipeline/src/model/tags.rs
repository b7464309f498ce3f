//! Tags of an object, and the rules that they have to keep.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Names and values on an object, ordered by name.
///
/// ```
/// use scan_pipeline::model::Tags;
/// let tags = Tags::from([("scan-status", "infected"), ("scan-threat", "{HEX}php.base64")]);
/// assert_eq!(tags.get("scan-threat"), Some("{HEX}php.base64"));
/// assert_eq!(tags.sanitized().get("scan-threat"), Some("_HEX_php.base64"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tags(pub BTreeMap<String, String>);

/// What became of tags that were merged into the tags of an object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Merged {
    /// The whole set.
    pub tags: Tags,
    /// Names of ours for which there was no room.
    pub dropped: Vec<String>,
}

impl Tags {
    /// Most tags on one object (S3, "Object tagging").
    pub const MOST: usize = 10;
    /// Most characters of a name.
    pub const LONGEST_NAME: usize = 128;
    /// Most characters of a value.
    pub const LONGEST_VALUE: usize = 256;

    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// The value under a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Sets a value.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(name.into(), value.into());
    }

    /// Names and values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same with every character replaced that S3 does not take (letters, digits, space and `+ - = . _ : / @`
    /// it takes), cut to the longest name and value. Signature names such as `{HEX}x` need it.
    #[must_use]
    pub fn sanitized(&self) -> Self {
        Self(
            self.0
                .iter()
                .map(|(name, value)| (sanitize(name, Self::LONGEST_NAME), sanitize(value, Self::LONGEST_VALUE)))
                .collect(),
        )
    }

    /// Puts `ours` over these, up to [`Tags::MOST`]. The user's stay; of ours, given from most to least important,
    /// the last are dropped when there is no room.
    pub fn merge(&self, ours: &[(String, String)]) -> Merged {
        let mut merged = Merged { tags: self.clone(), dropped: Vec::new() };
        for (name, value) in ours {
            let (name, value) = (sanitize(name, Self::LONGEST_NAME), sanitize(value, Self::LONGEST_VALUE));
            if merged.tags.len() < Self::MOST || merged.tags.0.contains_key(&name) {
                merged.tags.insert(name, value);
            } else {
                merged.dropped.push(name);
            }
        }
        merged
    }
}

impl<K: Into<String>, V: Into<String>, const N: usize> From<[(K, V); N]> for Tags {
    fn from(tags: [(K, V); N]) -> Self {
        tags.into_iter().collect()
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Tags {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(tags: I) -> Self {
        Self(tags.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

fn sanitize(text: &str, longest: usize) -> String {
    let allowed = |c: char| c.is_alphanumeric() || " +-=._:/@".contains(c);
    // The prefix is Amazon's own.
    let text = if text.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("aws:")) { &text[4..] } else { text };
    text.chars().take(longest).map(|c| if allowed(c) { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(names: &[&str]) -> Vec<(String, String)> {
        names.iter().map(|name| (String::from(*name), String::from("ours"))).collect()
    }

    #[test]
    fn the_users_tags_stay() {
        let users: Tags = (0..9).map(|i| (format!("user-{i}"), "theirs")).collect();
        let merged = users.merge(&ours(&["most", "less", "least"]));
        assert_eq!(merged.tags.len(), 10);
        assert_eq!(merged.tags.get("most"), Some("ours"));
        assert_eq!(merged.dropped, ["less", "least"]);
        for i in 0..9 {
            assert_eq!(merged.tags.get(&format!("user-{i}")), Some("theirs"));
        }
    }

    #[test]
    fn a_name_that_is_there_is_overwritten_even_when_there_is_no_room() {
        let users: Tags = (0..10).map(|i| (format!("user-{i}"), "theirs")).collect();
        let merged = users.merge(&ours(&["user-3"]));
        assert_eq!((merged.tags.len(), merged.tags.get("user-3")), (10, Some("ours")));
        assert!(merged.dropped.is_empty());
    }

    #[test]
    fn what_s3_refuses_is_replaced() {
        let tags = Tags::from([("aws:mine", "a\nb\u{0}c;ü日")]).sanitized();
        assert_eq!(tags.get("mine"), Some("a_b_c_ü日"));
        let long = Tags::from([("n".repeat(200), "ä".repeat(300))]).sanitized();
        let (name, value) = long.iter().next().expect("one");
        assert_eq!((name.len(), value.chars().count()), (128, 256));
    }
}
