"""What is installed of the dependencies, and whether it is new enough: `make audit-deps`.

1. It looks at what is installed here, and at nothing else: no network, no database of vulnerabilities.
2. Native means a file with the mark of a program (ELF, Mach-O), whatever it is called: those nobody reads as source.
3. A bound names the fault that lies below it; the exit status is 1 where one is not kept.
"""

from __future__ import annotations

import sys
import tomllib
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROGRAMS = (b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")
PLAIN = (".py", ".pyc", ".pyi", ".txt", ".md", ".json", ".typed", ".js", ".ts", ".html", ".css", ".map", ".png")
NOT_KNOWN = """\
No database of vulnerabilities was consulted. Not known, therefore: whether one of these versions has a published fault
other than those that the bounds above name; whether a maintainer's account or a wheel on the index was taken over; what the native code
links in (OpenSSL, libsodium) beyond the versions above; and what the claude CLI, which comes inside
claude-agent-sdk as a program without source, does. Where the network may be used: `pip-audit`, and the index's own
advisories."""


@dataclass(frozen=True)
class Bound:
    """The oldest version of something that is good enough, and what was wrong before."""

    name: str
    found: str
    least: str
    reason: str

    @property
    def kept(self) -> bool:
        return Version(self.found) >= Version(self.least)


@dataclass
class Package:
    """One installed distribution; ``by``: who requires it, ``native``: how many files of machine code it has."""

    name: str
    version: str
    licence: str
    native: int
    by: set[str] = field(default_factory=set)


def declared(root: Path = ROOT) -> dict[str, list[str]]:
    """The requirements that pyproject.toml names: of the program, and of each group."""
    text = tomllib.loads((root / "pyproject.toml").read_text())
    return {"ai-producer": text["project"]["dependencies"], **text["dependency-groups"]}


def installed(requirements: dict[str, list[str]]) -> tuple[dict[str, Package], list[str]]:
    """Everything that those need here, and what is missing. A marker that does not hold here asks for nothing."""
    found: dict[str, Package] = {}
    missing: list[str] = []
    looked: set[tuple[str, str]] = set()
    queue = [(by, Requirement(text)) for by, texts in requirements.items() for text in texts]
    while queue:
        by, wanted = queue.pop()
        name = canonicalize_name(wanted.name)
        try:
            dist = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            missing.append(f"{name} (for {by})")
            continue
        if name not in found:
            found[name] = Package(name, dist.version, licence(dist), native(dist))
        found[name].by.add(by)
        for extra in {"", *wanted.extras} - {extra for seen, extra in looked if seen == name}:
            looked.add((name, extra))
            for text in dist.requires or []:
                needed = Requirement(text)
                if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                    queue.append((name, needed))
    return found, sorted(missing)


def licence(dist: metadata.Distribution) -> str:
    """What the distribution says of itself: the expression, else the classifiers, else its first line of text."""
    about = dist.metadata
    if text := about.get("License-Expression"):
        return str(text)
    classes = [each.rsplit(" :: ", 1)[1] for each in about.get_all("Classifier") or [] if each.startswith("License ::")]
    text = str(about.get("License") or "").strip().split("\n")[0]
    return " / ".join(each for each in classes if each != "OSI Approved") or text[:40] or "not said"


def native(dist: metadata.Distribution) -> int:
    """How many of its files are machine code."""
    count = 0
    for each in dist.files or []:
        path = Path(str(dist.locate_file(each)))
        if path.suffix in PLAIN or not path.is_file():
            continue
        with path.open("rb") as file:
            count += file.read(4) in PROGRAMS
    return count


def bounds() -> list[Bound]:
    """What has to be new enough, measured at the library that is loaded and not at the wheel's name."""
    import apsw
    import cryptography
    import zmq

    return [
        Bound("SQLite in apsw", apsw.sqlite_lib_version(), "3.51.3", "3.7.0 to 3.51.2 can damage a database when the write-ahead log is reset while another connection writes"),
        Bound("libzmq in pyzmq", zmq.zmq_version(), "4.3.3", "before 4.3.2 a peer without a key could overflow a CURVE server's stack (CVE-2019-13132); before 4.3.3 one could starve it (CVE-2020-15166)"),
        Bound("pyzmq", zmq.__version__, "26.2", "what pyproject.toml asks for; its wheels bring libzmq 4.3.5"),
        Bound("cryptography", cryptography.__version__, "44.0.1", "wheels up to 44.0.0 carry an OpenSSL with CVE-2024-12797"),
    ]  # fmt: skip


def table(packages: dict[str, Package]) -> list[str]:
    """One line a package."""
    lines = [f"{'package':<27} {'version':<20} {'native':<7} {'licence':<40} required by"]
    for each in sorted(packages.values(), key=lambda package: package.name):
        files = str(each.native or "-")
        lines.append(
            f"{each.name:<27} {each.version:<20} {files:<7} {each.licence[:40]:<40} {', '.join(sorted(each.by))}"
        )
    return lines


def main() -> int:
    """Print it all; 1 where a bound is not kept or something that is needed is not there."""
    asked = declared()
    optional = [*asked.pop("chaos", []), *asked.pop("fuzz", [])]
    packages, missing = installed(asked)
    extra, absent = installed({"optional": optional})
    for name, package in extra.items():
        packages.setdefault(name, package).by.update(package.by)
    checked = bounds()
    print("\n".join(table(packages)))
    print(f"\n{len(packages)} packages, {sum(bool(p.native) for p in packages.values())} of them with native code")
    for each in checked:
        print(f"{'ok ' if each.kept else 'OLD'} {each.name} {each.found}, at least {each.least}: {each.reason}")
    for each in [p.name for p in packages.values() if p.licence == "not said"]:
        print(f"??? {each} does not say its licence in its metadata")
    for each in missing + [f"{name}, optional" for name in absent]:
        print(f"not installed: {each}")
    print(f"\n{NOT_KNOWN}")
    return int(bool(missing) or not all(each.kept for each in checked))


if __name__ == "__main__":
    sys.exit(main())
