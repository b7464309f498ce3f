//! Texts that are not plain bytes: UTF-16, XML, HTML.

pub(super) mod markup;
pub(super) mod utf16;
