"""The same targets as run.py, with inputs that atheris (libFuzzer) chooses by the code that they reach.

    python tests/fuzz/guided.py [--inputs N] [--seed S]

atheris is in the dependency group `fuzz`, not in `dev`: it has wheels for a few versions of Python on Linux alone. The
first byte of an input chooses the target. An exception that is none of ours, an input that takes ten seconds, or more
than 512 MiB end the run with its input and another exit code than 0.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

try:
    import atheris
except ImportError:
    sys.exit("atheris is missing: pip install --group fuzz (not every Python has a wheel of it)")

with atheris.instrument_imports(include=["producer"]):
    from fuzz_targets import FINE, SEEDS, TARGETS, yaml


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=7)
    asked = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="guided"))
    file = directory / "producer.yaml"
    corpus = directory / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(SEEDS):
        for first in (*range(len(TARGETS)), 255):
            (corpus / f"{number}-{first}").write_bytes(bytes([first]) + seed)

    def one(data: bytes) -> None:
        first, rest = (data[0], data[1:]) if data else (0, b"")
        try:
            if first == 255:
                yaml(rest, file)
            else:
                TARGETS[first % len(TARGETS)](rest, random.Random(first))
        except FINE:
            return

    limits = ["-max_len=4096", "-timeout=10", "-rss_limit_mb=512", f"-artifact_prefix={directory}/"]
    atheris.Setup([sys.argv[0], f"-runs={asked.inputs}", f"-seed={asked.seed}", *limits, str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
