"""What to say when the native module cannot be loaded."""

from __future__ import annotations


def explain(why: str) -> str:
    """One sentence that says what to install, where it is libclamav that is missing."""
    if "libclamav" in why:
        return (
            "libclamav is not installed: install it with `apt install libclamav12` on Debian and Ubuntu, `dnf install "
            "clamav-lib` on Fedora, `apk add clamav-libs` on Alpine, or `brew install clamav` on macOS."
        )
    return f"the native module of scan-pipeline cannot be loaded: {why}"
