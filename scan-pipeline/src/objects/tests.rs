//! The behaviour suite on the buckets that need no server.

use std::sync::Arc;

use super::{MemoryBucket, ObjectOps};
use crate::testkit::object_suite::ObjectFixture;

fn with_sibling(bucket: MemoryBucket) -> ObjectFixture {
    let other = bucket.sibling("other").expect("an address");
    ObjectFixture::new(Arc::new(bucket), Arc::new(other))
}

mod memory {
    use super::*;

    async fn fixture() -> ObjectFixture {
        with_sibling(MemoryBucket::new("suite").expect("an address"))
    }

    crate::object_suite!(fixture);
}

mod memory_with_versions {
    use super::*;

    async fn fixture() -> ObjectFixture {
        with_sibling(MemoryBucket::versioned("suite").expect("an address"))
    }

    crate::object_suite!(fixture);
}

mod memory_with_content_etags {
    use super::*;

    async fn fixture() -> ObjectFixture {
        with_sibling(MemoryBucket::with_content_etags("suite").expect("an address"))
    }

    crate::object_suite!(fixture);
}

/// Copies pass through this process where the backend cannot make them.
mod memory_between_worlds {
    use super::*;

    async fn fixture() -> ObjectFixture {
        let bucket = MemoryBucket::new("suite").expect("an address");
        let other = MemoryBucket::versioned("other").expect("an address");
        assert_ne!(bucket.url(), other.url());
        ObjectFixture::new(Arc::new(bucket), Arc::new(other))
    }

    crate::object_suite!(fixture);
}
