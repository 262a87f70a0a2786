"""Landlock: put this process under rules from a file, and become another program. Also a script of its own.

`python -I -S confine.py RULES -- PROGRAM ARGUMENT...`, standard library alone. RULES is JSON: {"read": [path...],
"list": [path...], "write": [path...]}; what is in none of them can be neither read nor changed nor run.

1. Below version 3 Landlock does not stop truncation, so a file could be emptied that may not be opened: refused.
2. From version 6 on signals and abstract Unix sockets outside are out of reach as well.
3. Whatever goes wrong, the program is not started: exit 126 and one line.
"""

from __future__ import annotations

import ctypes
import json
import os
import struct
import sys

LEAST_ABI = 3
CREATE, ADD, RESTRICT = 444, 445, 446  # the system calls' numbers, the same on every architecture
VERSION = 1
PATH_BENEATH = 1
NO_NEW_PRIVS = 38

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
REFER, TRUNCATE = 1 << 13, 1 << 14
ALL = (1 << 15) - 1  # every right on files up to version 3
DEVICES = 1 << 6 | 1 << 11  # making them: granted nowhere
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE
READ = EXECUTE | READ_FILE | READ_DIR
SCOPES = 3  # abstract Unix sockets, signals


def abi() -> int:
    """The version of the kernel's Landlock; 0: there is none."""
    if not sys.platform.startswith("linux"):
        return 0
    return max(0, _call(CREATE, None, ctypes.c_size_t(0), VERSION))


def restrict(rules: dict[str, list[str]]) -> None:
    """Put this process, and all that it starts, under the rules. Raises OSError."""
    version = abi()
    if version < LEAST_ABI:
        raise OSError(f"Landlock {version} is too old")
    handled = struct.pack("=QQQ", ALL, 0, SCOPES if version >= 6 else 0)
    size = 24 if version >= 6 else 8
    ruleset = _must(CREATE, handled, ctypes.c_size_t(size), 0)
    for name, access in (("read", READ), ("list", READ_DIR), ("write", ALL & ~DEVICES)):
        for path in rules.get(name, []):
            _allow(ruleset, path, access)
    if ctypes.CDLL(None, use_errno=True).prctl(NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")
    _must(RESTRICT, ruleset, 0)
    os.close(ruleset)


def _allow(ruleset: int, path: str, access: int) -> None:
    """One rule. A path that is gone by now, or that is a link by now, gets none."""
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        mode = os.fstat(handle).st_mode & 0o170000
        if mode == 0o120000:
            return
        if mode != 0o040000:
            access &= OF_FILES
        _must(ADD, ruleset, PATH_BENEATH, struct.pack("=Qi", access, handle), 0)
    finally:
        os.close(handle)


def _call(number: int, *arguments: object) -> int:
    return int(ctypes.CDLL(None, use_errno=True).syscall(number, *arguments))


def _must(number: int, *arguments: object) -> int:
    answer = _call(number, *arguments)
    if answer < 0:
        raise OSError(ctypes.get_errno(), f"system call {number}: {os.strerror(ctypes.get_errno())}")
    return answer


def main(words: list[str]) -> int:
    """See above."""
    try:
        rules, mark, *command = words
        if mark != "--" or not command:
            raise ValueError("usage: confine.py RULES -- PROGRAM ARGUMENT...")
        with open(rules, encoding="utf-8") as file:  # noqa: PTH123
            restrict(json.load(file))
        os.execv(command[0], command)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"sandbox: {error}\n")
    return 126


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
