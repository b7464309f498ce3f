//! Records in a table: `do = "record"`, `to = "dynamodb://table"`.

use std::time::Duration;

use super::read::Section;
use super::text::Text;
#[cfg(not(feature = "dynamodb"))]
use crate::Error;
use crate::Result;
use crate::workflow::Step;

/// How the address of a table begins.
pub(super) const TABLES: &str = "dynamodb://";

/// A table, and how its items look.
#[derive(Debug, Clone)]
#[cfg_attr(not(feature = "dynamodb"), allow(dead_code, reason = "it is checked all the same, and refused"))]
pub(super) struct TableSpec {
    pub(super) to: Text,
    partition_key: Option<String>,
    sort_key: Option<String>,
    expires: Option<(Duration, String)>,
    /// Columns and their names; an empty one leaves the column out.
    columns: Vec<(String, Text)>,
}

/// A step that records in a table.
pub(super) fn table(step: &Section<'_>, to: Text) -> TableSpec {
    let reader = step.reader;
    let name = |key: &'static str| {
        let text = step.text(key)?;
        if text.value.is_empty() {
            text.mistake(reader, "an attribute of a table has a name");
        }
        Some(text.value)
    };
    let (partition_key, sort_key) = (name("partition_key"), name("sort_key"));
    let keep = step.time("keep", Duration::from_secs(60)..=Duration::from_secs(100 * 365 * 86_400));
    let attribute = step.text("keep_attribute");
    if let (None, Some(attribute)) = (&keep, &attribute) {
        attribute.mistake(reader, "says nothing without `keep`, how long an item is kept");
    }
    let attribute = attribute.map_or_else(|| String::from("expires_at"), |attribute| attribute.value);
    let columns = step.section("columns").map(|columns| {
        let entries = columns.entries().into_iter();
        entries.filter_map(|(name, _, item)| Some((name, item.text()?))).collect::<Vec<_>>()
    });
    let spec = TableSpec {
        partition_key,
        sort_key,
        expires: keep.map(|keep| (keep, attribute)),
        columns: columns.unwrap_or_default(),
        to,
    };
    spec.check(reader);
    spec
}

#[cfg(feature = "dynamodb")]
impl TableSpec {
    fn check(&self, reader: &super::read::Reader<'_>) {
        if let Err(why) = self.handler() {
            self.to.mistake(reader, self.to.hide(&why.to_string()));
        }
        for (name, text) in &self.columns {
            if column(name).is_none() {
                let hint = super::problem::hint(name, crate::handler::Column::ALL.map(crate::handler::Column::as_str));
                text.mistake(reader, format!("there is no column `{name}`{hint}"));
            }
        }
    }

    pub(super) fn build(&self) -> Result<Step> {
        Ok(Step::new(self.handler()?))
    }

    fn handler(&self) -> Result<crate::handler::RecordToTable> {
        let mut handler = crate::handler::RecordToTable::from_address(&self.to.value)?;
        if let Some(name) = &self.partition_key {
            handler = handler.partition_key(name.as_str());
        }
        if let Some(name) = &self.sort_key {
            handler = handler.sort_key(name.as_str());
        }
        if let Some((time, attribute)) = &self.expires {
            handler = handler.expire_after(*time, attribute.as_str());
        }
        for (name, text) in &self.columns {
            handler = match (column(name), text.value.as_str()) {
                (None, _) => handler,
                (Some(column), "") => handler.without(column),
                (Some(column), name) => handler.column(column, name),
            };
        }
        Ok(handler)
    }
}

#[cfg(feature = "dynamodb")]
fn column(name: &str) -> Option<crate::handler::Column> {
    crate::handler::Column::ALL.into_iter().find(|column| column.as_str() == name)
}

#[cfg(not(feature = "dynamodb"))]
impl TableSpec {
    const ABSENT: &'static str = "this build has no DynamoDB; rebuild with --features dynamodb";

    fn check(&self, reader: &super::read::Reader<'_>) {
        self.to.mistake(reader, Self::ABSENT);
    }

    pub(super) fn build(&self) -> Result<Step> {
        Err(Error::new(crate::ErrorKind::Unsupported, Self::ABSENT).about(self.to.written.as_str()))
    }
}
