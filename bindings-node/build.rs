//! Lets the addon find node's symbols when it is loaded.

fn main() {
    napi_build::setup();
}
