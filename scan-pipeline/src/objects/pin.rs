//! What all leaves say and check alike.

use std::collections::BTreeMap;

use super::PutOptions;
use crate::content::Content;
use crate::model::{BucketUrl, ObjectRef, Tags};
use crate::{Error, ErrorKind, Result};

/// Refuses references to another bucket.
pub(crate) fn check_bucket(url: &BucketUrl, object: &ObjectRef) -> Result<()> {
    if object.bucket == *url {
        return Ok(());
    }
    let why = format!("is in another bucket; this one is {url}");
    Err(Error::new(ErrorKind::InvalidInput, why).about(object.to_string()))
}

/// There is no object, or not the version that was asked for.
pub(crate) fn gone(object: &ObjectRef) -> Error {
    Error::new(ErrorKind::Gone, "the object is not there, or not any more").about(object.to_string())
}

/// Another state is there.
pub(crate) fn superseded(object: &ObjectRef) -> Error {
    let why = "the object is another one now than the one that was asked for";
    Error::new(ErrorKind::Superseded, why).about(object.to_string())
}

/// The key is taken, and `only_new` was asked for.
pub(crate) fn exists(object: &ObjectRef) -> Error {
    Error::new(ErrorKind::Exists, "an object with this key is there already").about(object.to_string())
}

/// The backend cannot carry this key as it is.
pub(crate) fn bad_key(url: &BucketUrl, key: &str, why: &str) -> Error {
    let message = format!("the key cannot be carried exactly by this bucket: {why}");
    Error::new(ErrorKind::InvalidInput, message).about(format!("{url}/{}", key.escape_debug()))
}

/// Refuses contents other than those that were expected.
pub(crate) fn check_expected(object: &ObjectRef, content: &Content, options: &PutOptions) -> Result<()> {
    match options.expect {
        Some(expected) if expected != content.sha256() => {
            let why = format!("the content has the SHA-256 {}, and {expected} was expected", content.sha256());
            Err(Error::new(ErrorKind::Superseded, why).about(object.to_string()))
        }
        _ => Ok(()),
    }
}

/// The tags of a new object.
pub(crate) fn tags_of(options: &PutOptions) -> Tags {
    Tags::new().merge(&options.tags).tags
}

/// Metadata of the source with that of the options over it, names in small letters.
pub(crate) fn merged_metadata(
    source: &BTreeMap<String, String>,
    over: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    source.iter().chain(over).map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect()
}
