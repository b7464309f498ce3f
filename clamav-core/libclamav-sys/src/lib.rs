//! Raw bindings to libclamav: the functions and constants that `clamav-core` uses, and nothing on top.
//!
//! The bindings in `bindings.rs` are checked in, so that a plain build needs neither libclang nor bindgen.
//! `shim.c` is compiled with each build and holds them against the installed header: sizes, offsets, the
//! values of enumerators and the types of callbacks. After a change of libclamav, regenerate them with
//! `cargo build -p libclamav-sys --features regenerate`.
//!
//! Tested against libclamav 1.4 (Debian 12). The build script sets the cfg `libclamav_1_5` for 1.5 and later,
//! which makes room for its scan callbacks; no claim is made for a version that these tests were not run on.
//!
//! libclamav is GPL-2.0-only; these bindings are MIT OR Apache-2.0.

#[allow(missing_docs, non_camel_case_types, unreachable_pub, rustdoc::all, clippy::all)]
mod bindings;

pub use bindings::*;

/// The version of the installed header that the bindings were checked against at compile time (0x0104 is 1.4).
pub fn header_series() -> u32 {
    // SAFETY: the shim's function takes nothing, touches no state and returns a constant.
    unsafe { clamav_shim_header_series() }
}

unsafe extern "C" {
    fn clamav_shim_header_series() -> u32;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    #[test]
    fn library_and_header_are_of_one_series() {
        // SAFETY: cl_retver returns a pointer to a static NUL-terminated string.
        let version = unsafe { CStr::from_ptr(cl_retver()) };
        let version = version.to_str().expect("a version is ASCII");
        let mut parts = version.split('.');
        let mut number = || -> u32 { parts.next().and_then(|p| p.parse().ok()).expect("a number") };
        assert_eq!(header_series(), (number() << 8) | number(), "{version}");
    }
}
