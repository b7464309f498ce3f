//! Keeps the result as an item of a table in DynamoDB.

mod item;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::error::Error as StdError;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use serde_json::json;
use tokio::sync::OnceCell;

use self::item::{Form, Item};
use super::{HandlerError, ResultHandler, Scanned, StepContext, StepOutput};
use crate::aws::{Connection, connection_methods, error};
use crate::model::Timestamp;
use crate::{Error, ErrorKind, Result};

pub use self::item::Column;

/// A handler made by [`record_to_table`].
#[derive(Debug)]
pub struct RecordToTable {
    table: String,
    /// What its breaker is called.
    host: String,
    connection: Connection,
    form: Form,
    // Made at the first call: a workflow is set up without a connection.
    client: OnceCell<Client>,
}

/// Makes a handler that writes the result as one item of a table in DynamoDB: the audit table of a typical set-up for
/// scanning S3, with what was scanned, by what, and what was found. See [`Column`] for what is in it.
///
/// The table's partition key is a text named `pk`, which is the task's id, unless
/// [`partition_key`](RecordToTable::partition_key) and [`sort_key`](RecordToTable::sort_key) say otherwise. An item is
/// written if there is none, so the first call counts: a later one that finds the item of its own step has nothing to do,
/// and one that finds another's fails. It needs `dynamodb:PutItem`.
///
/// ```
/// use scan_pipeline::handler::{Column, record_to_table};
/// use scan_pipeline::workflow::Workflow;
///
/// let audit = record_to_table("scans").region("eu-central-1").column(Column::Verdict, "scan_result");
/// assert!(Workflow::new("keep").then(audit).check().is_ok());
/// ```
pub fn record_to_table(table: impl Into<String>) -> RecordToTable {
    let table = table.into();
    RecordToTable {
        host: format!("dynamodb://{table}"),
        table,
        connection: Connection::new(Duration::from_secs(10), Duration::from_secs(60)),
        form: Form::default(),
        client: OnceCell::new(),
    }
}

impl RecordToTable {
    connection_methods!(read: "10 seconds.", operation: "60 seconds.");

    /// The handler for an address such as `dynamodb://scans?region=eu-central-1&endpoint=http://127.0.0.1:8000`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] for an address that is none.
    pub fn from_address(address: &str) -> Result<Self> {
        let wrong = |why: String| Error::new(ErrorKind::InvalidInput, why).about(address);
        let rest = address
            .strip_prefix("dynamodb://")
            .ok_or_else(|| wrong(String::from("the address of a table begins with dynamodb://")))?;
        let (table, query) = rest.split_once('?').unwrap_or((rest, ""));
        let good = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if !(3..=255).contains(&table.len()) || !table.chars().all(good) {
            return Err(wrong(String::from("a table's name has 3 to 255 letters, digits, and _ . -")));
        }
        let mut handler = record_to_table(table);
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            handler = match name.as_ref() {
                "region" => handler.region(value),
                "endpoint" => handler.endpoint(value),
                _ => return Err(wrong(format!("`{name}` is neither region nor endpoint"))),
            };
        }
        handler.connection.check().map_err(|error| error.about(address))?;
        Ok(handler)
    }

    /// The name of the table's partition key, a text. Default `pk`. Its value is the task's id.
    #[must_use]
    pub fn partition_key(mut self, name: impl Into<String>) -> Self {
        self.form.partition = name.into();
        self
    }

    /// The name of the table's sort key, a text, for a table that has one. Its value is `workflow/step`, so that several
    /// steps of a task can write to it.
    #[must_use]
    pub fn sort_key(mut self, name: impl Into<String>) -> Self {
        self.form.sort = Some(name.into());
        self
    }

    /// Names a column, which has the name of [`Column::as_str`] otherwise.
    #[must_use]
    pub fn column(mut self, column: Column, name: impl Into<String>) -> Self {
        self.form.columns.insert(column, Some(name.into()));
        self
    }

    /// Leaves a column out. The idempotency key stays: an item is known to be ours by it.
    #[must_use]
    pub fn without(mut self, column: Column) -> Self {
        if column != Column::IdempotencyKey {
            self.form.columns.insert(column, None);
        }
        self
    }

    /// Lets items expire after so much time: its end, in seconds since 1970, goes into an attribute of this name, which
    /// has to be set up as the table's time to live. Default: they stay.
    #[must_use]
    pub fn expire_after(mut self, time: Duration, attribute: impl Into<String>) -> Self {
        self.form.expires = Some((time, attribute.into()));
        self
    }

    async fn client(&self) -> Result<&Client> {
        let made = self.client.get_or_try_init(|| async {
            self.connection.check()?;
            Ok::<_, Error>(Client::new(&self.connection.load().await?))
        });
        made.await
    }

    async fn put(&self, item: Item, key: &str) -> Result<()> {
        let client = self.client().await?;
        let wanted = item.key();
        let request = client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item.attributes))
            .condition_expression("attribute_not_exists(#partition)")
            .expression_attribute_names("#partition", &self.form.partition)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let Err(why) = request.send().await else { return Ok(()) };
        let found = match why.as_service_error() {
            Some(PutItemError::ConditionalCheckFailedException(found)) => found.item().cloned(),
            _ => return Err(failure(&why)),
        };
        let found = match found {
            Some(found) => found,
            // A server that does not give it along.
            None => {
                let request = client.get_item().table_name(&self.table).set_key(Some(wanted)).consistent_read(true);
                request.send().await.map_err(|why| failure(&why))?.item.unwrap_or_default()
            }
        };
        let ours = self.form.name(Column::IdempotencyKey).and_then(|name| found.get(name));
        if ours.and_then(|ours| ours.as_s().ok()).is_some_and(|ours| ours == key) {
            return Ok(());
        }
        let why = "an item of somebody else, or of another step, is where the record belongs; a table with a sort key \
                   has room for several";
        Err(Error::new(ErrorKind::Exists, why))
    }
}

#[async_trait]
impl ResultHandler for RecordToTable {
    fn name(&self) -> &str {
        "record-to-table"
    }

    fn depends_on(&self) -> Option<&str> {
        Some(&self.host)
    }

    async fn handle(&self, scanned: &Scanned, step: &StepContext) -> Result<StepOutput, HandlerError> {
        let item = Item::new(scanned, step, &self.form, Timestamp::now());
        let omitted = item.omitted;
        let about = |error: Error| error.about(format!("dynamodb://{}/{}", self.table, scanned.task));
        self.put(item, &step.idempotency_key).await.map_err(about)?;
        let mut output = json!({ "table": self.table, "item": scanned.task });
        if omitted > 0 {
            output["omitted"] = json!(omitted);
        }
        Ok(StepOutput::new(output))
    }
}

type Attributes = HashMap<String, AttributeValue>;

fn failure<E>(why: &SdkError<E, HttpResponse>) -> Error
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    error::failure(why, "the table", from_code)
}

fn from_code(status: u16, code: &str) -> Error {
    use ErrorKind as Kind;
    match (status, code.rsplit('#').next().unwrap_or_default()) {
        (_, "ResourceNotFoundException") => Error::new(Kind::Config, "there is no table of this name"),
        (_, "ProvisionedThroughputExceededException" | "ThrottlingException" | "RequestLimitExceeded") => {
            Error::new(Kind::Busy, "the table takes no more requests just now")
        }
        (_, "TransactionConflictException" | "ReplicatedWriteConflictException") => {
            Error::new(Kind::Busy, "something else writes to this item just now")
        }
        (_, "ItemCollectionSizeLimitExceededException") => Error::new(Kind::Resources, "the table has no room"),
        (_, "ValidationException") => {
            Error::new(Kind::Config, "the table does not take the item: are its keys the ones that are set up?")
        }
        (_, "ExpiredTokenException" | "UnrecognizedClientException" | "InvalidSignatureException") => {
            Error::new(Kind::Denied, "the credentials are not good, or not any more")
        }
        (401 | 403, _) | (_, "AccessDeniedException") => Error::new(Kind::Denied, "the table does not allow it"),
        (429 | 500..=599, _) => Error::new(Kind::Unavailable, "the table failed"),
        (400..=499, _) => Error::new(Kind::InvalidInput, "the table refuses the request"),
        _ => Error::new(Kind::Unavailable, "the answer of the table could not be understood"),
    }
}
