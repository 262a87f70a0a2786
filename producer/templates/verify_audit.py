"""Checks an exported audit log with nothing but Python's standard library.

    python verify_audit.py audit.jsonl [HEAD]

    leaf  = SHA-256(0x00 || body)
    chain = SHA-256(0x02 || previous chain || seq, 8 bytes, big-endian || leaf)

HEAD is `SEQ HEX` as `producerctl audit head` printed it at some time: the row of that number must have that value.
Exit 0: the chain is whole. Exit 1: it is not; the line says where.
"""

import hashlib
import json
import sys
from pathlib import Path


def check(lines: list[str], head: str) -> tuple[bool, str]:
    """Whether the chain is whole, and what was found."""
    chain = bytes(32)
    wanted = head.split()
    for number, line in enumerate(lines, 1):
        row = json.loads(line)
        body = row["body"].encode("utf-8", "surrogateescape")
        leaf = hashlib.sha256(b"\x00" + body).digest()
        chain = hashlib.sha256(b"\x02" + chain + number.to_bytes(8, "big") + leaf).digest()
        if row["seq"] != number:
            return False, f"row {number} is missing"
        if row["chain"] != chain.hex():
            return False, f"row {number} does not match its chain value"
        if wanted and int(wanted[0]) == number and wanted[1] != chain.hex():
            return False, f"row {number} is not the one that the head names"
    if wanted and int(wanted[0]) > len(lines):
        return False, f"the last {int(wanted[0]) - len(lines)} rows are gone"
    return True, f"{len(lines)} rows, head {len(lines)} {chain.hex()}"


if __name__ == "__main__":
    with Path(sys.argv[1]).open(encoding="utf-8") as file:
        ok, found = check(file.read().splitlines(), " ".join(sys.argv[2:]))
    sys.stdout.write(f"{'ok' if ok else 'NOT OK'}: {found}\n")
    sys.exit(0 if ok else 1)
