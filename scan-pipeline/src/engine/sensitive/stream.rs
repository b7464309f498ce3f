//! Bytes that come in pieces, and which way they take.

use std::fmt;
use std::sync::Arc;

use super::lane::Lane;
use super::text::markup::Markup;
use super::text::utf16::{Stretches, Wide};
use super::{Findings, Form, Inner};
use crate::model::Finding;

/// Bytes that come in pieces. However they are cut, the findings are those of the whole. It takes 2 MiB of memory at most,
/// and that of as many findings as the limit.
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
    /// Behind a byte order mark, which proves nothing: what is no UTF-16 is read as well.
    Wide(Wide, Box<Lane>, Box<Plain>),
    Markup(Box<Flow>, Box<Stretches<Markup>>),
    /// Likewise.
    MarkedMarkup(Box<Flow>, Wide, Box<Markup>),
}

/// Markup in bytes as they lie there.
struct Flow {
    markup: Markup,
    /// Where the next byte stands.
    next: u64,
}

impl Flow {
    fn new(markup: Markup) -> Self {
        Self { markup, next: 0 }
    }

    fn push(&mut self, bytes: &[u8]) {
        for (place, byte) in (self.next..).zip(bytes) {
            self.markup.push(*byte, place);
        }
        self.next += bytes.len() as u64;
    }
}

/// Bytes as they lie there, and the stretches of UTF-16 in them.
pub(super) struct Plain {
    bytes: Lane,
    stretches: Stretches<Lane>,
}

impl Plain {
    /// `but` is what is read by somebody else.
    pub(super) fn new(inner: &Arc<Inner>, path: &Arc<str>, outer: bool, but: Option<&Wide>) -> Self {
        let stretches = Stretches::new(Lane::pieces(inner, path, outer), but);
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

    #[cfg(test)]
    fn held(&self) -> usize {
        self.bytes.held() + self.stretches.to().held()
    }

    fn finish(mut self) -> Vec<(Vec<Finding>, u64)> {
        let stretches = &mut self.stretches;
        let bytes = self.bytes.finish(&mut |part, wide, place| look_wider(stretches, part, wide, place));
        vec![bytes, self.stretches.finish().finish(&mut |_, _, _| {})]
    }
}

/// Takes the stretches of UTF-16 from a part, if the kernel saw any or one may go on.
fn look_wider(stretches: &mut Stretches<Lane>, part: &[u8], wide: bool, place: u64) {
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
            let came = bytes.len().min(2 - head.len());
            head.extend_from_slice(&bytes[..came]);
            if head.len() < 2 {
                return;
            }
            let head = std::mem::take(head);
            self.way = self.choose(&head);
            self.go_on(&head);
            return self.go_on(&bytes[came..]);
        }
        self.go_on(bytes);
    }

    /// How many bytes of memory the texts take.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        match &self.way {
            Way::Unknown(head) => head.capacity(),
            Way::Plain(plain) => plain.held(),
            Way::Wide(_, lane, plain) => lane.held() + plain.held(),
            Way::Markup(flow, stretches) => flow.markup.held() + stretches.to().held(),
            Way::MarkedMarkup(flow, _, wide) => flow.markup.held() + wide.held(),
        }
    }

    /// The way for what begins like this.
    fn choose(&self, head: &[u8]) -> Way {
        let lane = || Lane::pieces(&self.inner, &self.path, self.outer);
        let plain = |but| Box::new(Plain::new(&self.inner, &self.path, self.outer, but));
        let markup = |step| Markup::new(lane(), lane(), step);
        match (self.form, Wide::begin(head)) {
            (Form::Plain, None) => Way::Plain(plain(None)),
            (Form::Plain, Some(wide)) => {
                let plain = plain(Some(&wide));
                Way::Wide(wide, Box::new(lane()), plain)
            }
            (Form::Markup, None) => {
                Way::Markup(Box::new(Flow::new(markup(1))), Box::new(Stretches::new(markup(2), None)))
            }
            (Form::Markup, Some(wide)) => Way::MarkedMarkup(Box::new(Flow::new(markup(1))), wide, Box::new(markup(2))),
        }
    }

    fn go_on(&mut self, bytes: &[u8]) {
        match &mut self.way {
            Way::Unknown(_) => {}
            Way::Plain(plain) => plain.push(bytes),
            Way::Wide(wide, lane, plain) => {
                wide.push(bytes, |byte, place| lane.put(byte, place, 2));
                plain.push(bytes);
            }
            Way::Markup(markup, stretches) => {
                stretches.push(bytes, markup.next);
                markup.push(bytes);
            }
            Way::MarkedMarkup(markup, wide, other) => {
                wide.push(bytes, |byte, place| other.push(byte, place));
                markup.push(bytes);
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
        let lane = |mut lane: Lane| lane.finish(&mut |_, _, _| {});
        let markup = |markup: Markup| markup.finish().into_iter().map(lane);
        let found = match self.way {
            Way::Unknown(_) => Vec::new(),
            Way::Plain(plain) => plain.finish(),
            Way::Wide(_, wide, plain) => plain.finish().into_iter().chain([lane(*wide)]).collect(),
            Way::Markup(flow, stretches) => markup(flow.markup).chain(markup(stretches.finish())).collect(),
            Way::MarkedMarkup(flow, _, wide) => markup(flow.markup).chain(markup(*wide)).collect(),
        };
        Findings::merge(found, most)
    }
}
