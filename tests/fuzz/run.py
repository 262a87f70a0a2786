"""Random inputs to what reads text from outside: YAML, JSON, frames, tool arguments, streams. No traceback, no leak.

    python tests/fuzz/run.py [--inputs N] [--seed S]

Every input is derived from the seed. An error of ours (ProducerError, Invalid) is an answer; any other is printed with
its input and ends the run with 1. The resident memory is printed at the start and at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from pathlib import Path

import psutil
from fuzz_seeds import YAMLS
from fuzz_targets import FINE, TARGETS, mutated, seeds_of, yaml


def fuzz(inputs: int, seed: int) -> list[str]:
    """Feed so many inputs; what went wrong, a line each."""
    random_, problems = random.Random(seed), []
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "producer.yaml"
        for number in range(inputs):
            target, choice = TARGETS[number % len(TARGETS)], random_.randrange(1 << 12)
            as_yaml = number % 20 == 0  # reading it takes a hundred times as long as the others
            data = mutated(YAMLS if as_yaml else seeds_of(target, choice), random_)
            try:
                if as_yaml:
                    yaml(data, file)
                else:
                    target(data, choice)
            except FINE:
                continue
            except Exception as error:
                problems.append(f"{target.__name__} {data!r}: {type(error).__name__}: {error}")
                if len(problems) == 20:
                    break
    return problems


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    process = psutil.Process(os.getpid())
    before = process.memory_info().rss >> 20
    problems = fuzz(asked.inputs, asked.seed)
    after = process.memory_info().rss >> 20
    print("\n".join(problems) or "no traceback")
    print(json.dumps({"inputs": asked.inputs, "seed": asked.seed, "rss_mib": [before, after]}))
    return int(bool(problems) or after - before > 100)


if __name__ == "__main__":
    sys.exit(main())
