//! Messages of queues: something comes out of each of them, and nothing panics.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scan_pipeline::event::lambda::Batch;
use scan_pipeline::event::{self, Event};
use scan_pipeline::model::{BucketUrl, ObjectRef};
use scan_pipeline::{ErrorKind, Result};

fn is_sound(object: &ObjectRef) {
    assert!(!object.key.is_empty() && object.key.len() <= 4096 && !object.key.contains('\0'));
    let address: Result<BucketUrl> = object.bucket.as_str().parse();
    assert_eq!(address.expect("an address"), object.bucket);
    assert!(object.version.as_deref() != Some("") && object.etag.as_deref() != Some(""));
}

fuzz_target!(|bytes: &[u8]| {
    let events = event::decode(bytes);
    assert!(!events.is_empty());
    for event in &events {
        match event {
            Event::Created(created) => is_sound(&created.object),
            Event::ScannedElsewhere(scanned) => is_sound(&scanned.object),
            Event::Ignored(ignored) => assert!(!ignored.to_string().contains('\n')),
            Event::Unreadable(why) => {
                assert!(why.kind() == ErrorKind::InvalidInput && !why.is_retryable() && why.to_string().len() < 2000);
            }
        }
    }
    if let Ok(batch) = Batch::parse(bytes) {
        let answer = batch.answer(&[true, false]);
        assert!(answer.ids().count() <= batch.messages().len());
        assert!(answer.ids().all(|id| batch.messages().iter().any(|message| message.id == id)));
    }
});
