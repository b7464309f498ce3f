"""What to say when the native module cannot be loaded."""

from __future__ import annotations

import re

_ABSENT = re.compile(
    r"libclamav\.so[.\d]*: cannot open shared object file: No such file"  # glibc
    r"|Error loading shared library libclamav\.so[.\d]*: No such file"  # musl
    r"|Library not loaded: \S*libclamav[.\d]*\.dylib"  # macOS
)


def explain(why: str) -> str:
    """One sentence that says what to install, where it is libclamav that is missing."""
    if _ABSENT.search(why):
        return (
            "libclamav is not installed: install it with `apt install libclamav12` on Debian and Ubuntu, `dnf install "
            "clamav-lib` on Fedora, `apk add clamav-libs` on Alpine, or `brew install clamav` on macOS."
        )
    if "libclamav" in why or re.search(r"(undefined symbol|symbol not found).*\bcl_", why):
        return f"libclamav is there, and cannot be used; this package needs its version 1.4: {why}"
    return f"the native module of scan-pipeline cannot be loaded: {why}"
