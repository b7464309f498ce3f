//! What follows from an answer, or from none.

use std::error::Error as StdError;
use std::fmt::Write as _;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{HeaderMap, RETRY_AFTER};
use hyper::{Response, StatusCode};

use super::address::Refused;
use super::client::NoAnswer;
use crate::handler::HandlerError;
use crate::model::Timestamp;

/// Most bytes of an answer that are read.
const MOST: usize = 64 << 10;
/// Most characters of it that are shown.
const SHOWN: usize = 200;
/// Longest time in which the rest of an answer is read, so that the connection can be used again.
const DRAIN: Duration = Duration::from_secs(1);

/// The status of a delivery, or why it is none. `to` names the receiver.
pub(super) async fn judge(mut response: Response<Incoming>, to: &str) -> Result<StatusCode, HandlerError> {
    let status = response.status();
    if status.is_success() {
        // What it says is of no interest, and if it hangs, it was delivered all the same.
        let _ = tokio::time::timeout(DRAIN, text(&mut response)).await;
        return Ok(status);
    }
    if status.is_redirection() {
        let why = format!("{to} answered {status}; redirects are not followed, so give the address that it leads to");
        return Err(HandlerError::fatal(why));
    }
    let after = retry_after(response.headers(), Timestamp::now());
    let body = tokio::time::timeout(DRAIN, text(&mut response)).await.unwrap_or_default();
    let mut why = format!("{to} answered {status}");
    if !body.is_empty() {
        let _ = write!(why, ": {body}");
    }
    let again = status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
        || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS);
    Err(match (again, after) {
        (true, Some(after)) => HandlerError::retryable_after(why, after),
        (true, None) => HandlerError::retryable(why),
        (false, _) => HandlerError::fatal(why),
    })
}

/// Why there was no answer. Everything that can change with time is retryable, a certificate that is not trusted
/// included: it may be renewed, and the step's retry policy says when to give up.
pub(super) fn no_answer(error: NoAnswer, to: &str) -> HandlerError {
    let error = match error {
        NoAnswer::Timeout => return HandlerError::retryable(format!("{to} did not answer in time")),
        NoAnswer::Broken(error) => error,
    };
    let mut causes = Vec::new();
    let mut cause: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(why) = cause {
        if let Some(refused) = why.downcast_ref::<Refused>() {
            return HandlerError::fatal(format!("{to}: {refused}"));
        }
        causes.push(why.to_string());
        cause = why.source();
    }
    // Layers repeat each other's words; the innermost knows.
    let why = causes.pop().unwrap_or_else(|| error.to_string());
    if error.is_connect() {
        HandlerError::retryable(format!("{to} could not be reached: {why}"))
    } else {
        HandlerError::retryable(format!("{to} gave no answer: {why}"))
    }
}

/// The beginning of an answer, on one line.
async fn text(response: &mut Response<Incoming>) -> String {
    let mut bytes = Vec::new();
    while let Some(Ok(frame)) = response.frame().await {
        let Ok(part) = frame.into_data() else { continue };
        let room = MOST - bytes.len();
        bytes.extend_from_slice(&part[..part.len().min(room)]);
        if part.len() >= room {
            break;
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.trim().chars().take(SHOWN).map(plain).collect()
}

/// The wait that is asked for, in seconds or up to a date.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match value.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => Some(http_date(value)?.since(now)),
    }
}

/// A date as HTTP has it: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(text: &str) -> Option<Timestamp> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let [_, day, month, year, time, "GMT"] = text.split(' ').collect::<Vec<_>>()[..] else { return None };
    let month = i64::try_from(MONTHS.iter().position(|name| *name == month)?).ok()? + 1;
    let (day, year) = (day.parse::<i64>().ok()?, year.parse::<i64>().ok()?);
    let [hour, minute, second] = time.split(':').collect::<Vec<_>>()[..] else { return None };
    let [hour, minute, second] =
        [hour, minute, second].map(|part| part.parse::<i64>().ok().filter(|n| (0..=60).contains(n)));
    if !(1..=31).contains(&day) || !(1970..=9999).contains(&year) {
        return None;
    }
    // Howard Hinnant's days_from_civil: years start in March, so that the leap day ends them.
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let (era, year_of_era) = (year / 400, year % 400);
    let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    Some(Timestamp(((days * 24 + hour?) * 60 + minute?) * 60_000 + second? * 1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read() {
        for (text, expected) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", "1994-11-06T08:49:37.000Z"),
            ("Thu, 29 Feb 2024 23:59:59 GMT", "2024-02-29T23:59:59.000Z"),
            ("Thu, 01 Jan 1970 00:00:00 GMT", "1970-01-01T00:00:00.000Z"),
            ("Fri, 31 Dec 2100 12:00:00 GMT", "2100-12-31T12:00:00.000Z"),
        ] {
            assert_eq!(http_date(text).expect("a date").to_string(), expected);
        }
        for text in
            ["", "soon", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 1994 08:49 GMT", "Sun, x Nov 1994 08:49:37 GMT"]
        {
            assert_eq!(http_date(text), None, "{text}");
        }
    }

    #[test]
    fn waits_are_read() {
        let now = http_date("Sun, 06 Nov 1994 08:49:37 GMT").expect("a date");
        for (value, wait) in [
            ("120", Some(120)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, value.parse().expect("a value"))]);
            assert_eq!(retry_after(&headers, now), wait.map(Duration::from_secs), "{value}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
