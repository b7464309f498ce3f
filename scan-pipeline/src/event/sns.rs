//! The envelope that SNS puts around a message, unless it delivers raw.

use super::json::{Object, excerpt, unreadable};
use crate::Result;

/// Whether it is SNS's. Other formats have a `type` in small letters.
pub(super) fn is_envelope(message: &Object) -> bool {
    message.has("Type") && (message.has("Message") || message.has("TopicArn"))
}

/// The message inside.
pub(super) fn inner(envelope: &Object) -> Result<&str> {
    match envelope.required("Type")? {
        "Notification" => envelope.required("Message"),
        // These hold a token, which is not repeated. Confirming is for whoever set up the topic.
        kind @ ("SubscriptionConfirmation" | "UnsubscribeConfirmation") => Err(unreadable(format!(
            "is a {kind} of the SNS topic {}: confirm it by hand, or let SNS and SQS be of one account",
            excerpt(envelope.text("TopicArn")?.unwrap_or("(none)"))
        ))),
        other => Err(unreadable(format!("is a message {} of SNS, which is not understood", excerpt(other)))),
    }
}
