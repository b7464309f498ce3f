//! From an object to its last action.

/// The scheme of the pseudo-buckets of uploads, which are no objects.
pub(crate) const UPLOAD_SCHEME: &str = "upload";
