//! Walking a TOML document such that every mistake is noted with its place, and none ends the walk.

use std::cell::{Cell, RefCell};
use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Problem, Severity, hint, position};
use super::provided::Provided;
use super::text::Text;
use super::units::{parse_duration, parse_size, show_duration, show_size};
use super::variables::{Environment, Substituted, substitute};

/// A document on its way to a configuration.
pub(super) struct Reader<'a> {
    pub(super) text: &'a str,
    /// Relative paths begin here.
    pub(super) base: &'a Path,
    /// None where texts are taken as they are.
    pub(super) environment: Option<&'a Environment<'a>>,
    /// What the program brings beside the document.
    pub(super) provided: Provided,
    notes: RefCell<Vec<Note>>,
}

/// A problem by its place in the text.
pub(super) struct Note {
    at: usize,
    severity: Severity,
    key: String,
    message: String,
    /// It follows from something that is not there, which a syntax mistake elsewhere may have swallowed.
    absence: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        text: &'a str,
        base: &'a Path,
        environment: Option<&'a Environment<'a>>,
        provided: Provided,
    ) -> Self {
        Self { text, base, environment, provided, notes: RefCell::default() }
    }

    /// Reads the document from its root, and notes what keeps it from being one.
    pub(super) fn read_root<T>(&self, read: impl FnOnce(&Section<'_>) -> T) -> T {
        let (table, syntax) = DeTable::parse_recoverable(self.text);
        let out = Section::root(self, table.get_ref()).read(read);
        if !syntax.is_empty() {
            // What seems to be missing may stand in a line that could not be read.
            self.notes.borrow_mut().retain(|note| !note.absence);
            for error in &syntax {
                let at = error.span().map_or(0, |span| span.start);
                self.note(Severity::Mistake, at, "", format!("this is no TOML: {}", error.message()), false);
            }
        }
        out
    }

    pub(super) fn note(&self, severity: Severity, at: usize, key: &str, message: impl Into<String>, absence: bool) {
        let (key, message) = (key.to_owned(), message.into());
        self.notes.borrow_mut().push(Note { at, severity, key, message, absence });
    }

    /// The problems in the order of the file.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut notes = self.notes.take();
        notes.sort_by_key(|note| note.at);
        notes
            .into_iter()
            .map(|Note { at, severity, key, message, .. }| {
                let (line, column) = position(self.text, at);
                Problem { severity, line, column, key, message }
            })
            .collect()
    }
}

/// A table that is being read. Each key that is asked for is known; the others are mistakes in the end.
pub(super) struct Section<'a> {
    pub(super) reader: &'a Reader<'a>,
    key: String,
    at: usize,
    table: &'a DeTable<'a>,
    known: RefCell<Vec<&'static str>>,
    /// Nobody can tell which keys belong here.
    any_key: Cell<bool>,
}

/// A value with its place.
#[derive(Clone)]
pub(super) struct Item<'a> {
    pub(super) reader: &'a Reader<'a>,
    pub(super) key: String,
    pub(super) span: Range<usize>,
    value: &'a DeValue<'a>,
}

impl<'a> Section<'a> {
    fn root(reader: &'a Reader<'a>, table: &'a DeTable<'a>) -> Self {
        Self { reader, key: String::new(), at: 0, table, known: RefCell::default(), any_key: Cell::new(false) }
    }

    /// Reads the table, and notes the keys that `read` did not ask for.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Self) -> T) -> T {
        let out = read(self);
        let known = self.known.borrow();
        for (key, _) in self.table.iter().filter(|_| !self.any_key.get()) {
            let name: &str = key.get_ref();
            if !known.contains(&name) {
                let message = format!("there is no such key{}", hint(name, known.iter().copied()));
                self.reader.note(Severity::Mistake, key.span().start, &self.path(name), message, false);
            }
        }
        out
    }

    fn path(&self, name: &str) -> String {
        let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
        let name = if plain { name.to_owned() } else { format!("{name:?}") };
        if self.key.is_empty() { name } else { format!("{}.{name}", self.key) }
    }

    /// A value, if it is there.
    pub(super) fn get(&self, name: &'static str) -> Option<Item<'a>> {
        self.known.borrow_mut().push(name);
        let (_, value) = self.table.iter().find(|(key, _)| key.get_ref() == name)?;
        Some(self.item(name, value))
    }

    fn item(&self, name: &str, value: &'a Spanned<DeValue<'a>>) -> Item<'a> {
        Item { reader: self.reader, key: self.path(name), span: value.span(), value: value.get_ref() }
    }

    /// Says that nobody can tell which keys belong to the table, after a mistake.
    pub(super) fn any_key(&self) {
        self.any_key.set(true);
    }

    /// Every key with its place and its value, in the order of the file, for tables whose keys are names.
    pub(super) fn entries(&self) -> Vec<(String, usize, Item<'a>)> {
        let mut all: Vec<_> = self
            .table
            .iter()
            .map(|(key, value)| {
                let name: &str = key.get_ref();
                (name.to_owned(), key.span().start, self.item(name, value))
            })
            .collect();
        all.sort_by_key(|(_, at, _)| *at);
        all
    }

    pub(super) fn is_there(&self, name: &str) -> bool {
        self.table.iter().any(|(key, _)| key.get_ref() == name)
    }

    /// Notes that something is missing from the table.
    pub(super) fn missing(&self, name: &str, message: impl Into<String>) {
        self.reader.note(Severity::Mistake, self.at, &self.path(name), message, true);
    }

    pub(super) fn mistake(&self, message: impl Into<String>) {
        self.reader.note(Severity::Mistake, self.at, &self.key, message, false);
    }

    pub(super) fn warning(&self, message: impl Into<String>) {
        self.reader.note(Severity::Warning, self.at, &self.key, message, true);
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn section(&self, name: &'static str) -> Option<Section<'a>> {
        self.get(name)?.section()
    }

    pub(super) fn text(&self, name: &'static str) -> Option<Text> {
        self.get(name)?.text()
    }

    pub(super) fn required(&self, name: &'static str, what: &str) -> Option<Text> {
        match self.get(name) {
            Some(item) => item.text(),
            None => {
                self.missing(name, format!("is missing: {what}"));
                None
            }
        }
    }

    pub(super) fn flag(&self, name: &'static str) -> Option<bool> {
        self.get(name)?.flag()
    }

    pub(super) fn size(&self, name: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        self.get(name)?.size(range)
    }

    pub(super) fn time(&self, name: &'static str, range: RangeInclusive<Duration>) -> Option<Duration> {
        self.get(name)?.time(range)
    }

    pub(super) fn count(&self, name: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        self.get(name)?.count(range)
    }

    /// One text or a list of them.
    pub(super) fn texts(&self, name: &'static str) -> Vec<Text> {
        let Some(item) = self.get(name) else { return Vec::new() };
        match item.value {
            DeValue::Array(_) => item.list().unwrap_or_default().iter().filter_map(Item::text).collect(),
            _ => item.text().into_iter().collect(),
        }
    }
}

impl<'a> Item<'a> {
    pub(super) fn mistake(&self, message: impl Into<String>) {
        self.reader.note(Severity::Mistake, self.span.start, &self.key, message, false);
    }

    fn wrong_type(&self, wanted: &str) {
        let is = match self.value {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.mistake(format!("is {is}, and should be {wanted}"));
    }

    pub(super) fn is_table(&self) -> bool {
        self.value.is_table()
    }

    pub(super) fn is_list(&self) -> bool {
        self.value.is_array()
    }

    pub(super) fn is_flag(&self) -> bool {
        self.value.is_bool()
    }

    pub(super) fn section(&self) -> Option<Section<'a>> {
        let DeValue::Table(table) = self.value else {
            self.wrong_type("a table");
            return None;
        };
        let (reader, key, at) = (self.reader, self.key.clone(), self.span.start);
        Some(Section { reader, key, at, table, known: RefCell::default(), any_key: Cell::new(false) })
    }

    pub(super) fn list(&self) -> Option<Vec<Self>> {
        let DeValue::Array(array) = self.value else {
            self.wrong_type("a list in brackets");
            return None;
        };
        let item = |(index, value): (usize, &'a Spanned<DeValue<'a>>)| Item {
            reader: self.reader,
            key: format!("{}[{index}]", self.key),
            span: value.span(),
            value: value.get_ref(),
        };
        Some(array.iter().enumerate().map(item).collect())
    }

    pub(super) fn text(&self) -> Option<Text> {
        let DeValue::String(raw) = self.value else {
            self.wrong_type("a text in quotes");
            return None;
        };
        let out = match self.reader.environment {
            Some(environment) => substitute(raw, environment),
            // What a program says stands in no file, where it could be read by others.
            None => Substituted { text: raw.to_string(), from_variable: true, mistakes: Vec::new() },
        };
        let in_file = self.reader.text.get(self.span.clone()).unwrap_or_default();
        for (look_for, message) in &out.mistakes {
            let at = self.span.start + in_file.find(look_for.as_str()).unwrap_or(0);
            self.reader.note(Severity::Mistake, at, &self.key, message.as_str(), false);
        }
        if !out.mistakes.is_empty() {
            return None;
        }
        Some(Text {
            value: out.text,
            written: raw.to_string(),
            from_variable: out.from_variable,
            key: self.key.clone(),
            at: self.span.start,
        })
    }

    pub(super) fn flag(&self) -> Option<bool> {
        let DeValue::Boolean(flag) = self.value else {
            self.wrong_type("true or false, without quotes");
            return None;
        };
        Some(*flag)
    }

    fn whole(&self) -> Option<u64> {
        let DeValue::Integer(number) = self.value else { return None };
        u64::from_str_radix(number.as_str(), number.radix()).ok()
    }

    pub(super) fn count(&self, range: RangeInclusive<u64>) -> Option<u64> {
        if !self.value.is_integer() {
            self.wrong_type("a whole number, without quotes");
            return None;
        }
        let (least, most) = (*range.start(), *range.end());
        match self.whole().filter(|number| range.contains(number)) {
            Some(number) => Some(number),
            None => {
                let bounds = if most == u64::MAX { format!("at least {least}") } else { format!("{least} to {most}") };
                self.mistake(format!("is out of range: it has to be {bounds}"));
                None
            }
        }
    }

    pub(super) fn float(&self, range: RangeInclusive<f64>) -> Option<f64> {
        let number = match self.value {
            DeValue::Float(number) => number.as_str().parse().ok(),
            DeValue::Integer(_) => self.whole().map(|number| number as f64),
            _ => {
                self.wrong_type("a number, without quotes");
                return None;
            }
        };
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            self.mistake(format!("is out of range: it has to be {} to {}", range.start(), range.end()));
        }
        number
    }

    pub(super) fn size(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let size = match self.whole() {
            Some(bytes) => bytes,
            None if self.value.is_str() => {
                let text = self.text()?;
                match parse_size(&text.value) {
                    Ok(bytes) => bytes,
                    Err(why) => {
                        text.mistake(self.reader, format!("`{}` is no size: {why}", text.written));
                        return None;
                    }
                }
            }
            None => {
                self.wrong_type("a size such as \"25MB\"");
                return None;
            }
        };
        if !range.contains(&size) {
            let (least, most) = (show_size(*range.start()), show_size(*range.end()));
            let bounds =
                if *range.end() == u64::MAX { format!("at least {least}") } else { format!("{least} to {most}") };
            self.mistake(format!("is out of range: it has to be {bounds}"));
            return None;
        }
        Some(size)
    }

    pub(super) fn time(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        if !self.value.is_str() {
            self.wrong_type("a time with its unit, such as \"30s\" or \"5m\"");
            return None;
        }
        let text = self.text()?;
        match parse_duration(&text.value) {
            Ok(time) if range.contains(&time) => Some(time),
            Ok(_) => {
                let (least, most) = (show_duration(*range.start()), show_duration(*range.end()));
                self.mistake(format!("is out of range: it has to be {least} to {most}"));
                None
            }
            Err(why) => {
                text.mistake(self.reader, format!("`{}` is no time: {why}", text.written));
                None
            }
        }
    }

    /// One of a few words.
    pub(super) fn choice<T: Clone>(&self, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        match choices.iter().find(|(word, _)| *word == text.value) {
            Some((_, value)) => Some(value.clone()),
            None => {
                let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
                let hint = hint(&text.value, words.iter().copied());
                text.mistake(self.reader, format!("`{}` is not one of the choices{hint}", text.written));
                None
            }
        }
    }
}
