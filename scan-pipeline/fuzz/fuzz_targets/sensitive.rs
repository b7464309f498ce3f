//! The detectors: kernel and rules against the oracle, and pieces against the whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scan_pipeline::engine::sensitive::{Form, check};

fuzz_target!(|bytes: &[u8]| {
    let Some((&[how, cut], text)) = bytes.split_first_chunk() else { return };
    // The oracle takes its time.
    if text.len() > 4096 {
        return;
    }
    match how % 4 {
        0 => check::against_the_oracle(text),
        // The kernel goes in pieces of 4 KiB: with the text where two of them meet.
        1 => check::against_the_oracle(&[&vec![b'\n'; 4096 - usize::from(cut)], text].concat()),
        2 => check::in_pieces_as_a_whole(Form::Plain, text, usize::from(cut)),
        _ => check::in_pieces_as_a_whole(Form::Markup, text, usize::from(cut)),
    }
});
