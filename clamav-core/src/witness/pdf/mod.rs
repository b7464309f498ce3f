//! PDF streams (ISO 32000-1, 7.3.8 and 7.4) that readers decode and libclamav does not.
//!
//! libclamav takes the names behind `/Filter` for the filters, in the order in which they come by: it follows no
//! reference, ends at `/Crypt` and undoes no predictor. It ends a stream at the first `endstream` or `endobj` whatever
//! `/Length` says, knows the first 65,536 objects only, and passes over streams that are LZW or run-length encoded or
//! mention an image. Each such stream is decoded here, as far as readers would, and handed on to be scanned.

mod filters;
mod syntax;
#[cfg(test)]
mod tests;

use filters::*;
use syntax::*;

use super::{Account, TINY};
use crate::ReasonKind::{TooLarge, Unsupported};

/// How far in `%PDF-` may begin.
const HEADER_WITHIN: usize = 1024;

/// libclamav finds 65,536 objects in one file; some of those that it counts are none here.
const OBJECTS_SEEN: usize = 60_000;

/// How many objects are listed here.
const MOST_OBJECTS: usize = 1 << 21;

/// Definitions of one object, filters of one stream, references in a row, keys of interest in one dictionary.
const MOST_ALIKE: usize = 64;

pub(super) fn is_pdf(bytes: &[u8]) -> bool {
    let head = bytes.get(..HEADER_WITHIN + 5).unwrap_or(bytes);
    memchr::memmem::find(head, b"%PDF-").is_some()
}

pub(super) fn examine(bytes: &[u8], spare: u64, account: &mut Account) {
    let mut file = File {
        bytes,
        objects: objects(bytes),
        by_number: Vec::new(),
        has_object_streams: memchr::memmem::find(bytes, b"ObjStm").is_some(),
        encrypted: false,
        work: spare.saturating_mul(2).saturating_add((bytes.len() as u64).saturating_mul(8)).saturating_add(1 << 16),
    };
    if file.objects.len() > MOST_OBJECTS {
        return account.gap(Unsupported, "a PDF of more than two million objects");
    }
    file.by_number = file.objects.clone();
    file.by_number.sort_by_key(|object| (object.number, object.body));
    file.encrypted = file.is_encrypted();
    let mut left = spare;
    for at in 0..file.objects.len() {
        let Some(object) = file.objects.get(at).copied() else { break };
        let stream = match file.stream(object.body) {
            Ok(Some(stream)) => stream,
            Ok(None) => continue,
            Err(trouble) => return account.gap(Unsupported, trouble.detail(object.body)),
        };
        match file.unseen(&stream, object.body, at >= OBJECTS_SEEN, left) {
            Ok(None) => {}
            Ok(Some(decoded)) if decoded.len() as u64 <= TINY => {}
            Ok(Some(decoded)) => {
                left = left.saturating_sub(decoded.len() as u64);
                account.unpacked.push((format!("stream at {}", stream.start), decoded));
            }
            Err(Trouble::TooLarge) => return account.gap(TooLarge, "decoded PDF streams"),
            Err(trouble @ Trouble::Tangled) => return account.gap(Unsupported, trouble.detail(stream.start)),
            Err(trouble) => account.gap(Unsupported, trouble.detail(stream.start)),
        }
    }
}

/// Why a stream is not decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    TooLarge,
    Tangled,
    Unresolved,
    Ambiguous,
    Predictor,
    Encrypted,
}

impl Trouble {
    fn detail(self, at: usize) -> String {
        match self {
            Self::TooLarge => format!("the PDF stream at {at} is too large"),
            Self::Tangled => format!("the objects of the PDF are entangled at {at}"),
            Self::Unresolved => format!("the filter of the PDF stream at {at} is defined elsewhere"),
            Self::Ambiguous => format!("the PDF stream at {at} has several filters to choose from"),
            Self::Predictor => format!("the PDF stream at {at} has an unknown predictor"),
            Self::Encrypted => format!("the encrypted PDF stream at {at} has a filter that libclamav does not undo"),
        }
    }
}

/// `12 0 obj`, and where what follows it starts.
#[derive(Debug, Clone, Copy)]
struct Object {
    number: u64,
    body: usize,
}

/// One more than [`MOST_OBJECTS`] at most, in the order of the file.
fn objects(bytes: &[u8]) -> Vec<Object> {
    memchr::memmem::find_iter(bytes, b"obj")
        .filter_map(|at| {
            let (_, generation) = number_before(bytes, at)?;
            let (number, start) = number_before(bytes, generation)?;
            // "1 0 obj" and not "10 obj": something has to part the two numbers.
            (start < generation && bytes.get(generation - 1).is_some_and(|byte| is_space(*byte)))
                .then_some(Object { number, body: at + 3 })
        })
        .take(MOST_OBJECTS + 1)
        .collect()
}

/// A stream object.
struct Stream<'a> {
    dictionary: Dictionary<'a>,
    /// Where its bytes start.
    start: usize,
    /// Where the word `stream` is.
    keyword: usize,
}

struct File<'a> {
    bytes: &'a [u8],
    /// In the order of the file.
    objects: Vec<Object>,
    by_number: Vec<Object>,
    has_object_streams: bool,
    encrypted: bool,
    /// How many bytes may still be looked at, all passes together.
    work: u64,
}

impl<'a> File<'a> {
    fn spend(&mut self, bytes: usize) -> Result<(), Trouble> {
        self.work = self.work.checked_sub(bytes as u64).ok_or(Trouble::Tangled)?;
        Ok(())
    }

    /// The dictionary at or behind `at`, and where it ends.
    fn dictionary(&mut self, at: usize) -> Result<Option<(Dictionary<'a>, usize)>, Trouble> {
        let start = skip_space(self.bytes, at);
        if !self.bytes.get(start..).is_some_and(|rest| rest.starts_with(b"<<")) {
            self.spend(start.saturating_sub(at))?;
            return Ok(None);
        }
        let range = value(self.bytes, start);
        self.spend(range.as_ref().map_or(self.bytes.len(), |range| range.end).saturating_sub(at).saturating_mul(2))?;
        let Some(range) = range else { return Ok(None) };
        let end = range.end;
        Ok(self.bytes.get(range).and_then(Dictionary::read).map(|dictionary| (dictionary, end)))
    }

    /// The stream of the object whose body is at `at`, if it is one.
    fn stream(&mut self, at: usize) -> Result<Option<Stream<'a>>, Trouble> {
        let Some((dictionary, end)) = self.dictionary(at)? else { return Ok(None) };
        let keyword = skip_space(self.bytes, end);
        let Some(rest) = self.bytes.get(keyword..).and_then(|rest| rest.strip_prefix(b"stream")) else {
            return Ok(None);
        };
        let newline = match rest {
            [b'\r', b'\n', ..] => 2,
            [b'\r' | b'\n', ..] => 1,
            _ => 0,
        };
        Ok(Some(Stream { dictionary, start: keyword + 6 + newline, keyword }))
    }

    fn is_encrypted(&mut self) -> bool {
        let trailers: Vec<usize> = memchr::memmem::find_iter(self.bytes, b"/Encrypt")
            .take(MOST_ALIKE)
            .map(|at| {
                let from = at.saturating_sub(1 << 16);
                let before = self.bytes.get(from..at).unwrap_or_default();
                let trailer = memchr::memmem::rfind(before, b"trailer").map_or(0, |at| at + 7);
                let object = memchr::memmem::rfind(before, b" obj").map_or(0, |at| at + 4);
                from + trailer.max(object)
            })
            .collect();
        trailers.into_iter().any(|at| {
            let Ok(Some((dictionary, _))) = self.dictionary(at) else { return false };
            let is_trailer = dictionary.has_name(b"Type", b"XRef")
                || self.bytes.get(..at).is_some_and(|before| before.ends_with(b"trailer"));
            let Some(encrypt) = dictionary.get(b"Encrypt").filter(|_| is_trailer) else { return false };
            matches!(self.resolve(encrypt), Ok(Some(value)) if value.starts_with(b"<<"))
        })
    }

    /// Where a reference leads; other values stand for themselves. `None` is null.
    fn resolve(&mut self, operand: &'a [u8]) -> Result<Option<&'a [u8]>, Trouble> {
        let mut operand = operand;
        for _ in 0..8 {
            let Some(reference) = operand.strip_suffix(b"R").and_then(|numbers| {
                let numbers = numbers.trim_ascii_start();
                number(numbers.get(..regular_end(numbers, 0))?)
            }) else {
                return Ok(Some(operand).filter(|operand| *operand != b"null"));
            };
            let values = self.definitions(reference)?;
            match values.split_first() {
                // It may be an object in an object stream; an object that is nowhere is null.
                None if self.has_object_streams => return Err(Trouble::Unresolved),
                None => return Ok(None),
                Some((first, others)) if others.iter().all(|other| other == first) => operand = first,
                Some(_) => return Err(Trouble::Ambiguous),
            }
        }
        Err(Trouble::Unresolved)
    }

    /// All that is defined for an object.
    fn definitions(&mut self, reference: u64) -> Result<Vec<&'a [u8]>, Trouble> {
        let from = self.by_number.partition_point(|object| object.number < reference);
        let to = self.by_number.partition_point(|object| object.number <= reference);
        if to - from > MOST_ALIKE {
            return Err(Trouble::Ambiguous);
        }
        let mut values = Vec::new();
        for at in from..to {
            let Some(object) = self.by_number.get(at) else { break };
            let body = object.body;
            let found = operand(self.bytes, body);
            self.spend(found.as_ref().map_or(self.bytes.len(), |(_, end)| *end).saturating_sub(body))?;
            values.extend(found.and_then(|(range, _)| self.bytes.get(range)));
        }
        Ok(values)
    }

    fn filters(&mut self, dictionary: &Dictionary<'a>) -> Result<Vec<Filter>, Trouble> {
        let Some(given) = dictionary.only(b"Filter", b"F")? else { return Ok(Vec::new()) };
        let Some(given) = self.resolve(given)? else { return Ok(Vec::new()) };
        let mut filters = Vec::new();
        for item in items(given)? {
            match self.resolve(item)?.and_then(name) {
                Some(name) => filters.push(Filter::of(&name)),
                None if given.starts_with(b"[") => filters.push(Filter::Unknown),
                None => {} // `/F (a file)`
            }
        }
        Ok(filters)
    }

    fn parameters(&mut self, dictionary: &Dictionary<'a>) -> Result<Vec<Parameters>, Trouble> {
        let Some(given) = dictionary.only(b"DecodeParms", b"DP")? else { return Ok(Vec::new()) };
        let Some(given) = self.resolve(given)? else { return Ok(Vec::new()) };
        let mut all = Vec::new();
        for item in items(given)? {
            let mut parameters = Parameters::default();
            if let Some(inner) = self.resolve(item)?
                && let Some(inner) = Dictionary::read(inner)
            {
                for (key, field) in [
                    (&b"Predictor"[..], &mut parameters.predictor),
                    (b"Colors", &mut parameters.colors),
                    (b"BitsPerComponent", &mut parameters.bits),
                    (b"Columns", &mut parameters.columns),
                    (b"EarlyChange", &mut parameters.early),
                ] {
                    if let Some(value) = inner.only(key, key)?
                        && let Some(value) = self.resolve(value)?
                    {
                        *field = number(value).ok_or(Trouble::Predictor)?;
                    }
                }
                parameters.identity = inner.get(b"Name").is_none() || inner.has_name(b"Name", b"Identity");
            }
            all.push(parameters);
        }
        Ok(all)
    }

    /// Where the stream ends for readers, and where for libclamav.
    fn ends(&mut self, stream: &Stream<'a>) -> Result<(usize, usize), Trouble> {
        let rest = self.bytes.get(stream.start..).unwrap_or_default();
        let of_object = memchr::memmem::find(rest, b"endobj").unwrap_or(rest.len());
        let body = rest.get(..of_object).unwrap_or_default();
        let seen = stream.start + memchr::memmem::find(body, b"endstream").unwrap_or(of_object);
        self.spend(of_object)?;
        let mut end = None;
        for given in stream.dictionary.all(b"Length") {
            let values = match given.strip_suffix(b"R").map(<[u8]>::trim_ascii_start) {
                Some(numbers) => match numbers.get(..regular_end(numbers, 0)).and_then(number) {
                    Some(reference) => self.definitions(reference).or_else(|trouble| match trouble {
                        Trouble::Tangled => Err(trouble),
                        _ => Ok(Vec::new()),
                    })?,
                    None => Vec::new(),
                },
                None => vec![given],
            };
            // Of several lengths those that lead to the end of a stream are believed.
            for length in values.into_iter().filter_map(number) {
                let Some(at) = usize::try_from(length).ok().and_then(|length| stream.start.checked_add(length)) else {
                    continue;
                };
                let behind = self.bytes.get(at..).unwrap_or_default();
                let spaces = behind.iter().take(16).position(|byte| !is_space(*byte)).unwrap_or(0);
                if behind.get(spaces..).is_some_and(|behind| behind.starts_with(b"endstream")) {
                    end = end.max(Some(at));
                }
            }
        }
        Ok((end.unwrap_or(seen), seen))
    }

    /// What a reader gets from the stream, where libclamav does not get it.
    fn unseen(&mut self, stream: &Stream<'a>, body: usize, late: bool, most: u64) -> Result<Option<Vec<u8>>, Trouble> {
        let dictionary = &stream.dictionary;
        let embedded = dictionary.has_name(b"Type", b"EmbeddedFile");
        let has = |long: &[u8], short: &[u8]| dictionary.get(long).or(dictionary.get(short)).is_some();
        let is_image =
            dictionary.has_name(b"Subtype", b"Image") && !embedded && has(b"Width", b"W") && has(b"Height", b"H");
        // Of pictures libclamav looks at JPEGs only, and there is nothing but dots in the others.
        let filters = match self.filters(dictionary) {
            Err(Trouble::Unresolved | Trouble::Ambiguous) if is_image => return Ok(None),
            other => other?,
        };
        if is_image && !filters.contains(&Filter::Jpeg) || filters.contains(&Filter::Unknown) {
            return Ok(None);
        }
        let parameters = self.parameters(dictionary)?;
        let chain = || filters.iter().copied().take_while(|filter| !filter.is_picture());
        let predicted = chain().enumerate().any(|(at, filter)| {
            matches!(filter, Filter::Flate | Filter::Lzw)
                && parameters.get(at).is_some_and(|parameters| parameters.predictor > 1)
        });
        let internal = dictionary.has_name(b"Type", b"XRef") || dictionary.has_name(b"Type", b"ObjStm");
        let before = self.bytes.get(body..stream.keyword).unwrap_or_default();
        self.spend(before.len())?;
        let seen = as_seen(before);
        let differs = !chain().eq(seen.filters.iter().copied().take_while(|filter| !filter.is_picture()));
        let crypt = filters.contains(&Filter::Crypt);
        if self.encrypted {
            // libclamav decrypts it, or says that it could not; what is left as it is can still be read here.
            let identity = parameters.first().is_none_or(|first| first.identity);
            if !crypt || !identity {
                return if (predicted && !internal) || differs { Err(Trouble::Encrypted) } else { Ok(None) };
            }
        }
        let (end, seen_end) = self.ends(stream)?;
        let raw = self.bytes.get(stream.start..end).unwrap_or_default();
        let unusual = late
            || predicted
            || differs
            || crypt
            || chain().any(|filter| matches!(filter, Filter::Lzw | Filter::RunLength | Filter::AsciiHex))
            || chain().next() == Some(Filter::Ascii85) && is_odd_ascii85(raw)
            || seen.image && !is_image && !seen.filters.contains(&Filter::Jpeg)
            || end > seen_end
            || memchr::memmem::find(before, b"stream").is_some();
        if !unusual {
            return Ok(None);
        }
        let mut decoded: Option<Vec<u8>> = None;
        for (at, filter) in chain().enumerate() {
            let input = decoded.as_deref().unwrap_or(raw);
            self.work = self.work.checked_sub(input.len() as u64).ok_or(Trouble::Tangled)?;
            let parameters = parameters.get(at).copied().unwrap_or_default();
            let output = match filter {
                Filter::Crypt => continue,
                Filter::Flate => parameters.unpredict(inflate(input, most)?)?,
                Filter::Lzw => parameters.unpredict(lzw(input, parameters.early != 0, most)?)?,
                Filter::RunLength => run_length(input, most)?,
                Filter::Ascii85 => ascii85(input, most)?,
                _ => ascii_hex(input),
            };
            self.work = self.work.saturating_sub(output.len() as u64);
            decoded = Some(output);
        }
        let decoded = match decoded {
            Some(decoded) => decoded,
            None => {
                self.work = self.work.checked_sub(raw.len() as u64).ok_or(Trouble::Tangled)?;
                raw.to_vec()
            }
        };
        if decoded.len() as u64 > most { Err(Trouble::TooLarge) } else { Ok(Some(decoded)) }
    }
}
