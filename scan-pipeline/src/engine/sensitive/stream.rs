//! Bytes that come in pieces, and which way they take.

use std::fmt;
use std::sync::Arc;

use super::lane::Lane;
use super::text::markup::Markup;
use super::text::utf16::{Stretches, Wide};
use super::{Findings, Form, Inner};
use crate::model::Finding;

/// Bytes that come in pieces. However they are cut, the findings are those of the whole. It keeps a few hundred KiB of
/// them, and as many findings as the limit.
///
/// ```
/// use scan_pipeline::engine::sensitive::Detectors;
///
/// let detectors = Detectors::builder().build()?;
/// let mut stream = detectors.stream("letter.txt");
/// for piece in ["write to som", "ebody@example.c", "om, please"] {
///     stream.push(piece.as_bytes());
/// }
/// let found = stream.finish();
/// assert_eq!((found[0].detector.as_str(), found[0].masked_match.as_str()), ("email", "********@*******.***"));
/// # Ok::<(), scan_pipeline::Error>(())
/// ```
pub struct Stream {
    inner: Arc<Inner>,
    path: Arc<str>,
    form: Form,
    outer: bool,
    way: Way,
}

/// What the bytes go through.
enum Way {
    /// Not known before the second byte.
    Unknown(Vec<u8>),
    Plain(Box<Plain>),
    Wide(Wide, Box<Lane>),
    Markup(Option<Wide>, Box<Markup>, u64),
}

/// Bytes as they lie there, and the stretches of UTF-16 in them.
pub(super) struct Plain {
    bytes: Lane,
    stretches: Stretches,
}

impl Plain {
    pub(super) fn new(inner: &Arc<Inner>, path: &Arc<str>, outer: bool) -> Self {
        let stretches = Stretches::new(Lane::pieces(inner, path, outer));
        Self { bytes: Lane::same(inner, path, outer), stretches }
    }

    fn push(&mut self, bytes: &[u8]) {
        let stretches = &mut self.stretches;
        self.bytes.push(bytes, &mut |part, wide, place| look_wider(stretches, part, wide, place));
    }

    /// Everything at once.
    pub(super) fn whole(mut self, bytes: &[u8]) -> Vec<(Vec<Finding>, u64)> {
        let stretches = &mut self.stretches;
        self.bytes.whole(bytes, &mut |part, wide, place| look_wider(stretches, part, wide, place));
        self.finish()
    }

    fn finish(mut self) -> Vec<(Vec<Finding>, u64)> {
        let stretches = &mut self.stretches;
        let bytes = self.bytes.finish(&mut |part, wide, place| look_wider(stretches, part, wide, place));
        vec![bytes, self.stretches.into_lane().finish(&mut |_, _, _| {})]
    }
}

/// Takes the stretches of UTF-16 from a part, if the kernel saw any or one may go on.
fn look_wider(stretches: &mut Stretches, part: &[u8], wide: bool, place: u64) {
    if wide || stretches.goes_on(place) {
        stretches.push(part, place);
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the bytes.
        f.debug_struct("Stream").field("path", &self.path).field("form", &self.form).finish_non_exhaustive()
    }
}

impl Stream {
    pub(super) fn new(inner: &Arc<Inner>, path: &Arc<str>, form: Form, outer: bool) -> Self {
        Self { inner: Arc::clone(inner), path: Arc::clone(path), form, outer, way: Way::Unknown(Vec::new()) }
    }

    /// Takes the next piece, of any length.
    pub fn push(&mut self, bytes: &[u8]) {
        if let Way::Unknown(head) = &mut self.way {
            head.extend_from_slice(&bytes[..bytes.len().min(2)]);
            if head.len() < 2 {
                return;
            }
            let (head, rest) = (std::mem::take(head), &bytes[bytes.len().min(2)..]);
            self.way = self.choose(&head);
            // The mark itself is no text.
            let marked = Wide::begin(&head).is_some();
            self.go_on(if marked { &head[2..] } else { &head });
            return self.go_on(rest);
        }
        self.go_on(bytes);
    }

    /// How many bytes of memory the texts take.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        match &self.way {
            Way::Unknown(head) => head.capacity(),
            Way::Plain(plain) => plain.bytes.held() + plain.stretches.held(),
            Way::Wide(_, lane) => lane.held(),
            Way::Markup(_, markup, _) => markup.held(),
        }
    }

    /// The way for what begins like this.
    fn choose(&self, head: &[u8]) -> Way {
        let lane = || Lane::pieces(&self.inner, &self.path, self.outer);
        match (self.form, Wide::begin(head)) {
            (Form::Plain, None) => Way::Plain(Box::new(Plain::new(&self.inner, &self.path, self.outer))),
            (Form::Plain, Some(wide)) => Way::Wide(wide, Box::new(lane())),
            (Form::Markup, wide) => {
                let step = if wide.is_some() { 2 } else { 1 };
                Way::Markup(wide, Box::new(Markup::new(lane(), lane(), step)), 0)
            }
        }
    }

    fn go_on(&mut self, bytes: &[u8]) {
        match &mut self.way {
            Way::Unknown(_) => {}
            Way::Plain(plain) => plain.push(bytes),
            Way::Wide(wide, lane) => wide.push(bytes, |byte, place| lane.put(byte, place, 2)),
            Way::Markup(Some(wide), markup, _) => wide.push(bytes, |byte, place| markup.push(byte, place)),
            Way::Markup(None, markup, next) => {
                for (place, byte) in (*next..).zip(bytes) {
                    markup.push(*byte, place);
                }
                *next += bytes.len() as u64;
            }
        }
    }

    /// Ends the bytes and gives what was found in them, at most as many as the limit.
    pub fn finish(self) -> Vec<Finding> {
        self.finish_counted().list
    }

    /// The same, with how many findings there were beyond the limit.
    pub fn finish_counted(mut self) -> Findings {
        if let Way::Unknown(head) = &mut self.way {
            let head = std::mem::take(head);
            self.way = self.choose(&head);
            self.go_on(&head);
        }
        let most = self.inner.max_findings;
        let found = match self.way {
            Way::Unknown(_) => Vec::new(),
            Way::Plain(plain) => plain.finish(),
            Way::Wide(_, mut lane) => vec![lane.finish(&mut |_, _, _| {})],
            Way::Markup(_, markup, _) => {
                markup.finish().into_iter().map(|mut lane| lane.finish(&mut |_, _, _| {})).collect()
            }
        };
        Findings::merge(found, most)
    }
}
