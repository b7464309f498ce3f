//! JSON as strangers send it: read whole, with nothing overlooked that could be read in two ways.
//!
//! A name that is there twice means one thing to the reader that takes the first and another to the one that takes the
//! last, so it is an error wherever it stands. Reading takes time and memory in proportion to the bytes; nesting is
//! limited to 128 levels by `serde_json`.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

pub(super) use crate::error::excerpt;
use crate::{Error, ErrorKind, Result};

/// Most names that an error lists.
const NAMES: usize = 12;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Null,
    Flag(bool),
    Whole(u64),
    /// A number that is negative or has a fraction: nothing here is one.
    OtherNumber,
    Text(String),
    List(Vec<Node>),
    Object(Object),
}

impl Node {
    /// One value, and nothing behind it.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.starts_with(b"\xef\xbb\xbf") {
            return Err(unreadable("begins with a byte order mark, which JSON must not"));
        }
        // What serde_json says of JSON names a place and never the content; what is said below repeats a name at most.
        serde_json::from_slice(bytes).map_err(|why| unreadable(format!("is not the JSON of an event: {why}")))
    }

    /// What kind of value it is, with its article.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Flag(_) => "true or false",
            Self::Whole(_) | Self::OtherNumber => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }
}

/// Names and values.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Object(BTreeMap<String, Node>);

impl Object {
    /// The value under a name; `null` counts as not there.
    pub(super) fn get(&self, name: &str) -> Option<&Node> {
        self.0.get(name).filter(|node| **node != Node::Null)
    }

    /// Whether the name is there, with whatever value.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Text, where it is there.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>> {
        match self.get(name) {
            None => Ok(None),
            Some(Node::Text(text)) => Ok(Some(text)),
            Some(other) => Err(unreadable(format!("`{name}` should be text, and is {}", other.kind()))),
        }
    }

    /// Text that has to be there.
    pub(super) fn required(&self, name: &str) -> Result<&str> {
        self.text(name)?.ok_or_else(|| self.missing(name))
    }

    /// A whole number, also one that is written as text.
    pub(super) fn whole(&self, name: &str) -> Result<Option<u64>> {
        match self.get(name) {
            None => Ok(None),
            Some(Node::Whole(number)) => Ok(Some(*number)),
            Some(Node::Text(text)) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
                text.parse().map(Some).map_err(|_| unreadable(format!("`{name}` is too large a number")))
            }
            Some(Node::Text(text)) => Err(unreadable(format!("`{name}` is {}, and no whole number", excerpt(text)))),
            Some(other) => Err(unreadable(format!("`{name}` should be a whole number, and is {}", other.kind()))),
        }
    }

    /// An object that has to be there.
    pub(super) fn object(&self, name: &str) -> Result<&Self> {
        match self.get(name) {
            None => Err(self.missing(name)),
            Some(Node::Object(object)) => Ok(object),
            Some(other) => Err(unreadable(format!("`{name}` should be an object, and is {}", other.kind()))),
        }
    }

    fn missing(&self, name: &str) -> Error {
        unreadable(format!("`{name}` is missing; there are {}", self.names()))
    }

    /// The first few names, to say what was seen without repeating any value.
    pub(super) fn names(&self) -> String {
        if self.0.is_empty() {
            return String::from("no names at all");
        }
        let mut names: Vec<_> = self.0.keys().take(NAMES).map(|name| excerpt(name)).collect();
        if self.0.len() > NAMES {
            names.push(format!("{} more", self.0.len() - NAMES));
        }
        names.join(", ")
    }
}

/// A message, or a part of one, that is not understood. Trying again does not help.
pub(super) fn unreadable(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, what)
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Flag(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Whole(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(u64::try_from(value).map_or(Node::OtherNumber, Node::Whole))
    }

    fn visit_f64<E>(self, _value: f64) -> Result<Node, E> {
        Ok(Node::OtherNumber)
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Node, E> {
        Ok(Node::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut object = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            if object.contains_key(&name) {
                return Err(de::Error::custom(format!("the name {} is there twice", excerpt(&name))));
            }
            let value = map.next_value()?;
            object.insert(name, value);
        }
        Ok(Node::Object(Object(object)))
    }
}
