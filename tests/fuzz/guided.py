"""The same targets as run.py, with inputs that atheris (libFuzzer) chooses by the code that they reach.

    python tests/fuzz/guided.py [--inputs N] [--seed S]

atheris is in the dependency group `fuzz`, not in `dev`: it has wheels for a few versions of Python on Linux alone. The
first byte of an input chooses the target, and the type of a message. PyYAML is looked into like our own code: most of
what an input may do to a producer.yaml happens there. An exception that is none of ours, an input that takes ten
seconds, or more than 512 MiB end the run with its input and another exit code than 0.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

try:
    import atheris
except ImportError:
    sys.exit("atheris is missing: pip install --group fuzz (not every Python has a wheel of it)")

with atheris.instrument_imports(include=["producer", "yaml"]):
    from fuzz_seeds import MESSAGES, REQUESTS, STREAMS, TOKENS, TOOLS, WORDS, YAMLS
    from fuzz_targets import FINE, NAMES, TARGETS, frames, request, stream, tool, yaml

YAML = 255  # the first byte of a producer.yaml; another is a target's number, and the type of a message


def begin(corpus: Path) -> None:
    """The inputs to begin with."""
    corpus.mkdir()
    place = {target: number for number, target in enumerate(TARGETS)}
    first = {name: len(TARGETS) * number + place[frames] for number, name in enumerate(NAMES)}
    inputs = [
        *((first[name.encode()], body) for name, body in MESSAGES.items()),
        *(
            (place[target], seed)
            for target, seeds in ((tool, TOOLS), (request, REQUESTS), (stream, STREAMS))
            for seed in seeds
        ),
        *((YAML, seed) for seed in YAMLS),
    ]
    for number, (byte, seed) in enumerate(inputs):
        (corpus / str(number)).write_bytes(bytes([byte]) + seed)


def dictionary(file: Path) -> None:
    """The words to build with, as libFuzzer wants them."""
    words = [*TOKENS, *(word.encode() for word in WORDS)]
    file.write_text("".join('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in words))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=7)
    asked = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="guided"))
    file = directory / "producer.yaml"
    begin(directory / "corpus")
    dictionary(directory / "words")

    def one(data: bytes) -> None:
        first, rest = (data[0], data[1:]) if data else (0, b"")
        try:
            if first == YAML:
                yaml(rest, file)
            else:
                TARGETS[first % len(TARGETS)](rest, first // len(TARGETS))
        except FINE:
            return

    limits = ["-max_len=4096", "-timeout=10", "-rss_limit_mb=512", f"-artifact_prefix={directory}/"]
    atheris.Setup(
        [
            sys.argv[0],
            f"-runs={asked.inputs}",
            f"-seed={asked.seed}",
            *limits,
            f"-dict={directory}/words",
            str(directory / "corpus"),
        ],
        one,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
