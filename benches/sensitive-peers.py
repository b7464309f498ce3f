#!/usr/bin/env python3
"""Presidio and detect-secrets on text like that of the `detectors` bench, in MB/s of processor time.

    pip install presidio-analyzer detect-secrets
    benches/sensitive-peers.py [KIB]

Presidio runs its recognisers for cards, social security numbers, addresses and phones by themselves, without a language
model. What is not installed is named and left out.
"""
import random
import sys
import tempfile
import time

WORDS = "the of and a letter to in was with for river that his table as on evening which had nobody knew when".split()
HITS = [
    "write to anna.b@example.com about it",
    "call me at (415) 555-2671 or later",
    "charge card 4012 8888 8888 1881 for it",
]


def natural(size):
    generator, lines, length = random.Random(1), [], 0
    while length < size:
        line = " ".join(generator.choice(WORDS) for _ in range(generator.randint(8, 19))) + " ."
        if generator.random() < 0.1:
            line += "\n" + generator.choice(HITS)
        lines.append(line)
        length += len(line) + 1
    return lines


def speed(name, lines, run):
    size = sum(len(line) + 1 for line in lines)
    before = time.process_time()
    found = run()
    took = time.process_time() - before
    print(f"{name:40} {size / took / 1e6:8.3f} MB/s, {found} found")


def presidio(lines):
    import tldextract
    # With the list of domains that came with it: nothing is fetched.
    tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(suffix_list_urls=())
    from presidio_analyzer.predefined_recognizers import (
        CreditCardRecognizer, EmailRecognizer, PhoneRecognizer, UsSsnRecognizer)
    all = [(CreditCardRecognizer(), "CREDIT_CARD"), (EmailRecognizer(), "EMAIL_ADDRESS"),
           (PhoneRecognizer(), "PHONE_NUMBER"), (UsSsnRecognizer(), "US_SSN")]
    speed("Presidio, four recognisers", lines,
          lambda: sum(len(one.analyze(line, [entity], None) or []) for line in lines for one, entity in all))


def detect_secrets(lines):
    from detect_secrets.core.scan import scan_file
    from detect_secrets.settings import default_settings
    with default_settings(), tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(lines) + "\n")
        file.flush()
        speed("detect-secrets, default plugins", lines, lambda: sum(1 for _ in scan_file(file.name)))


def main():
    size = int(sys.argv[1] if len(sys.argv) > 1 else 256) * 1024
    lines = natural(size)
    for peer in (presidio, detect_secrets):
        try:
            peer(lines)
        except ImportError as why:
            print(f"NOT MEASURED: {peer.__name__} ({why})")


if __name__ == "__main__":
    main()
