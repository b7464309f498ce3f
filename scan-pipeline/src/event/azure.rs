//! Events of Azure Blob Storage, in the schema of CloudEvents or of Event Grid.

use super::json::{Object, excerpt, unreadable};
use super::{Created, Event, LONGEST_KEY, Sequencer, bucket, etag, without_nul};
use crate::Result;
use crate::model::ObjectRef;
use crate::model::key::percent_decoded;

/// An event whose type begins with `Microsoft.`.
pub(super) fn read(kind: &str, message: &Object) -> Result<Event> {
    let why = match kind.strip_prefix("Microsoft.Storage.") {
        Some("BlobCreated") => return created(kind, message),
        Some("BlobRenamed") => return renamed(message),
        Some("BlobDeleted" | "DirectoryDeleted") => "an object was removed",
        Some("BlobTierChanged" | "AsyncOperationInitiated") => "the same bytes are stored in another tier",
        Some("DirectoryCreated") => "a directory is no object",
        Some("BlobInventoryPolicyCompleted" | "LifecyclePolicyCompleted") => "it is about no object's bytes",
        Some("DirectoryRenamed") => {
            let why =
                "a directory was renamed, and the event does not name the files in it; start a job over the new one";
            return Err(unreadable(why));
        }
        // One of these is a subscription to be confirmed, with a code that is not repeated.
        _ => return Err(unreadable(format!("is an event {} of Azure, which is not understood", excerpt(kind)))),
    };
    Ok(Event::ignored(kind, why))
}

fn created(kind: &str, message: &Object) -> Result<Event> {
    let data = message.object("data")?;
    let api = data.required("api")?;
    if matches!(api, "CreateFile" | "SftpCreate") {
        let why = "the file is empty as yet; another event comes when it is written";
        return Ok(Event::ignored(&format!("{kind} by {api}"), why));
    }
    let mut created = located(data.required("url")?, message.text("subject")?)?;
    created.object.etag = etag(data.text("eTag")?)?;
    // Where files are written in pieces, the length may be that of one of them.
    created.object.size = if data.has("contentOffset") { None } else { data.whole("contentLength")? };
    created.sequencer = data.text("sequencer")?.and_then(Sequencer::new);
    Ok(Event::Created(created))
}

/// The same bytes under another key, which may be the first that is watched.
fn renamed(message: &Object) -> Result<Event> {
    let data = message.object("data")?;
    let mut created = located(data.required("destinationUrl")?, message.text("subject")?)?;
    created.sequencer = data.text("sequencer")?.and_then(Sequencer::new);
    Ok(Event::Created(created))
}

/// The container and blob of an address such as `https://account.blob.core.windows.net/container/a/b.txt`.
fn located(address: &str, subject: Option<&str>) -> Result<Created> {
    let no_blob = || unreadable(format!("{} is no address of a blob", excerpt(address)));
    let rest = address.strip_prefix("https://").or_else(|| address.strip_prefix("http://")).ok_or_else(no_blob)?;
    // By hand: what reads addresses would resolve `a/../b`, and cut off what follows a `#`, which Event Grid writes as
    // it is.
    let (host, path) = rest.split_once('/').ok_or_else(no_blob)?;
    let account = match host.split_once('.') {
        Some((account, _)) if [".blob.", ".dfs."].iter().any(|service| host.contains(service)) => account,
        _ => return Err(no_blob()),
    };
    // What lies at the top is in a container of its own.
    let (container, blob) = path.split_once('/').unwrap_or(("$root", path));
    let blob = name(blob, subject)?;
    let mut created = Created::new(ObjectRef::new(bucket("az", container)?, blob));
    created.account = Some(account.to_owned());
    Ok(created)
}

/// The blob's name. The address may be percent-encoded or not, and does not say which; the subject holds the name as
/// it is. Where a percent sign leaves a doubt, and the subject does not end it, there is no saying which object it is.
fn name(in_address: &str, subject: Option<&str>) -> Result<String> {
    let in_subject = subject.and_then(|subject| Some(subject.split_once("/blobs/")?.1));
    let name = match (in_address.contains('%'), percent_decoded(in_address), in_subject) {
        (false, _, _) => in_address.to_owned(),
        (true, Some(decoded), None) => decoded,
        (true, Some(decoded), Some(plain)) if decoded == plain => decoded,
        (true, None, Some(plain)) if in_address == plain => plain.to_owned(),
        _ => {
            let why = "the blob's name has a percent sign, and address and subject do not agree on what it means";
            return Err(unreadable(format!("{why}: {}", excerpt(in_address))));
        }
    };
    if name.is_empty() || name.chars().count() > LONGEST_KEY {
        return Err(unreadable(format!("a blob's name has 1 to {LONGEST_KEY} characters")));
    }
    if name.contains(char::REPLACEMENT_CHARACTER) {
        // Seen with emoji. The name that it stands for is lost.
        return Err(unreadable(format!("the blob's name has a character that Event Grid lost: {}", excerpt(&name))));
    }
    without_nul("key", &name).map(|()| name)
}
