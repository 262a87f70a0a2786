"""Checks an exported audit log with nothing but Python's standard library.

    python verify_audit.py [--head FILE] [--key KEY] [DIRECTORY]

    leaf  = SHA-256(0x00 || body)                     the chain's, and RFC 6962's
    chain = SHA-256(0x02 || previous chain || seq, 8 bytes, big-endian || leaf)
    root  = RFC 6962's Merkle tree over the leaves    signed in checkpoints.jsonl (C2SP signed notes, Ed25519)

FILE: heads that you kept elsewhere: as `producerctl audit head` printed them, lines of a journal, or `SEQ HEX`.
KEY: the public key as you kept it elsewhere. Without it the keys of the export itself are believed, which proves
nothing against whoever made the export. Exit 0: all of it holds. Exit 1: it does not; the line says where.
"""

import argparse
import base64
import hashlib
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path

Point = tuple[int, int, int, int]
Signed = tuple[str, int, bytes, bytes, bytes]  # origin, size, root, key id, signature

# ---- Ed25519 verification, RFC 8032 section 5.1.7, without the cofactor

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
ROOT_OF_MINUS_1 = pow(2, (P - 1) // 4, P)


def point(data: bytes) -> Point | None:
    """A point of the curve from its 32 bytes, as (X, Y, Z, T); None where there is none."""
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT_OF_MINUS_1 % P
    if y >= P or (x * x - square) % P or (x == 0 and sign):
        return None
    x = P - x if x & 1 != sign else x
    return (x, y, 1, x * y % P)


def add(p: Point, q: Point) -> Point:
    """The sum of two points."""
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def times(number: int, p: Point) -> Point:
    """A point, ``number`` times."""
    total: Point = (0, 1, 1, 0)
    while number:
        if number & 1:
            total = add(total, p)
        p, number = add(p, p), number >> 1
    return total


BASE = (
    15112221349535400772501151409588531511454012693041857206046113283949847762202,
    4 * pow(5, -1, P) % P,
    1,
    46827403850823179245072216630277197565144205554125654976674165829533817101731,
)


def genuine(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether an Ed25519 signature is that of the public key."""
    a, r, s = point(public), point(signature[:32]), int.from_bytes(signature[32:], "little")
    if len(signature) != 64 or a is None or r is None or s >= L:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    left, right = times(s, BASE), add(r, times(h, a))
    same_x = (left[0] * right[2] - right[0] * left[2]) % P == 0
    return same_x and (left[1] * right[2] - right[1] * left[2]) % P == 0


# ---- checkpoints

NOTE = re.compile(
    r"^([A-Za-z0-9._/-]+)\n(\d+)\n([A-Za-z0-9+/=]+)\n\n(?:— (?!\1 )\S+ \S+\n)*— \1 ([A-Za-z0-9+/=]+)$", re.M
)
LINE = re.compile(r"([A-Za-z0-9._/-]+) (\d+) ([A-Za-z0-9+/]{43}=) ([A-Za-z0-9+/]{91}=)")


def checkpoints(text: str) -> list[Signed]:
    """Every signed checkpoint in a text."""
    found = []
    for origin, size, root, tail in NOTE.findall(text) + LINE.findall(text):
        end = base64.b64decode(tail)
        found.append((origin, int(size), base64.b64decode(root), end[:4], end[4:]))
    return found


def keys(lines: Iterable[str]) -> dict[tuple[str, bytes], bytes]:
    """Public keys by name and id."""
    found = {}
    for line in lines:
        name, _, data = line.strip().split("+", 2)
        raw = base64.b64decode(data)
        if raw[:1] == b"\x01":
            found[name, hashlib.sha256(name.encode() + b"\n" + raw).digest()[:4]] = raw[1:]
    return found


def signed(checkpoint: Signed, known: dict[tuple[str, bytes], bytes]) -> str | None:
    """What is wrong with a checkpoint's signature, or None."""
    origin, size, root, key, signature = checkpoint
    if (origin, key) not in known:
        return f"the checkpoint of row {size} is signed by a key that is not known: {origin} {key.hex()}"
    text = f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n".encode()
    return None if genuine(known[origin, key], text, signature) else f"the signature at row {size} is not genuine"


# ---- the log


def root_of(peaks: list[bytes]) -> bytes:
    """The RFC 6962 root from the full trees, the largest first."""
    root = peaks[-1] if peaks else hashlib.sha256(b"").digest()
    for peak in reversed(peaks[:-1]):
        root = hashlib.sha256(b"\x01" + peak + root).digest()
    return root


def check(rows: Iterable[str], roots: dict[int, set[bytes]], chains: dict[int, str]) -> tuple[int, bytes, str | None]:
    """Go over the rows; (rows, chain, None), or what is wrong. ``roots``, ``chains``: what must stand at which row."""
    chain, number = bytes(32), 0
    peaks: list[bytes] = []
    seen: set[int] = set()
    for line in rows:
        row = json.loads(line)
        number += 1
        tree = hashlib.sha256(b"\x00" + row["body"].encode("utf-8", "surrogateescape")).digest()
        chain = hashlib.sha256(b"\x02" + chain + number.to_bytes(8, "big") + tree).digest()
        if row["seq"] != number:
            return number, chain, f"row {number} is missing"
        if row["chain"] != chain.hex():
            return number, chain, f"row {number} does not match its chain value"
        carry = number - 1
        while carry & 1:
            tree, carry = hashlib.sha256(b"\x01" + peaks.pop() + tree).digest(), carry >> 1
        peaks.append(tree)
        if chains.get(number, chain.hex()) != chain.hex():
            return number, chain, f"row {number} is not the one that the head names"
        if number in roots and roots[number] != {root_of(peaks)}:
            return number, chain, f"the first {number} rows are not those of a checkpoint"
        seen.add(number)
    beyond = sorted(size for size in {*roots, *chains} if size and size not in seen)
    return number, chain, f"the last {beyond[-1] - number} rows are gone" if beyond else None


def main() -> int:
    """Check the export; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", nargs="?", default=".", type=Path)
    parser.add_argument("--head", action="append", default=[], type=Path)
    parser.add_argument("--key", action="append", default=[])
    given = parser.parse_args()
    text = (given.directory / "checkpoints.jsonl").read_text(encoding="utf-8")
    made = [one for line in text.splitlines() for one in checkpoints(json.loads(line)["note"])]
    broken = len(made) != len(text.splitlines())
    chains: dict[int, str] = {}
    for file in given.head:
        found = checkpoints(file.read_text(encoding="utf-8", errors="replace"))
        if not found:
            seq, value = file.read_text(encoding="ascii").split()
            chains[int(seq)] = value
        made += found
    known = keys(
        " ".join(given.key).split() or (given.directory / "audit.pub").read_text(encoding="ascii").splitlines()
    )
    roots: dict[int, set[bytes]] = {}
    for one in made:
        roots.setdefault(one[1], set()).add(one[2])
    with (given.directory / "audit.jsonl").open(encoding="utf-8") as file:
        number, chain, problem = check(file, roots, chains)
    problem = problem or ("a checkpoint cannot be read" if broken else None)
    problem = problem or next(filter(None, (signed(one, known) for one in dict.fromkeys(made))), None)
    last = max(roots, default=0)
    verdict = problem or f"{number} rows, head {number} {chain.hex()}, signed up to row {last}"
    sys.stdout.write(f"{'NOT OK' if problem else 'ok'}: {verdict}\n")
    if not given.key:
        sys.stdout.write("the keys are those of the export itself: name the one you kept elsewhere with --key\n")
    return 1 if problem else 0


if __name__ == "__main__":
    try:
        code = main()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        sys.stdout.write(f"NOT OK: it cannot be read: {type(error).__name__}: {error}\n")
        code = 1
    sys.exit(code)
