//! On macOS a library has to be told that the interpreter brings what it does not link.

fn main() {
    pyo3_build_config::add_extension_module_link_args();
}
