"""Signed checkpoints: what is in them, who may have signed, and that no rollback, gap or damage leads them astray."""

from __future__ import annotations

import importlib.util
import sqlite3
from contextlib import closing
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from ledger_rig import Desk

from producer.core.checkpoint import Key, Signed
from producer.core.merkle import Frontier, leaf
from producer.errors import AuditKeyUnusable, LedgerError
from producer.ledger import signing
from producer.ledger.audit import Head
from producer.ledger.checkpoints import every, kept, newest
from producer.ledger.signing import KeyRing, Signer
from producer.ledger.verify import tail, verify


def sign(desk: Desk) -> Signed | None:
    with desk.transaction():
        return desk.checkpoints.sign()


def rows(desk: Desk, number: int) -> None:
    with desk.transaction():
        for _ in range(number):
            desk.audit.append("something", "me", number=desk.audit.head().seq)


def root(desk: Desk, size: int) -> bytes:
    frontier = Frontier()
    frontier.extend(leaf(body) for (body,) in desk.db.rows("SELECT body FROM audit WHERE seq <= ? ORDER BY seq", size))
    return frontier.root()


def whole(desk: Desk, path: Path) -> bool:
    heads = [head for head in (desk.audit.kept(), kept(path)) if head]
    verdict = verify(desk.db, heads, KeyRing.read(path))
    assert verdict.ok, verdict.problem
    assert tail(desk.db, path).problem is None
    return True


# ---- what they say


def test_a_checkpoint_covers_all_rows_with_their_root_and_is_kept_beside_the_ledger(desk: Desk, tmp_path: Path) -> None:
    for number in (1, 2, 30, 7):
        rows(desk, number)
        signed = sign(desk)
        assert signed and signed.size == desk.audit.head().seq and signed.checkpoint.root == root(desk, signed.size)
        assert kept(tmp_path) == signed
        assert KeyRing.read(tmp_path).problem(signed) is None
        assert desk.checkpoints.unsigned() == 0 and sign(desk) is None, "nothing new, nothing signed"
        assert whole(desk, tmp_path)
    assert [one.size for one in every(desk.db)] == [2, 4, 34, 41]


def test_rows_of_the_same_transaction_are_covered(desk: Desk) -> None:
    with desk.transaction():
        desk.audit.append("one", "me")
        assert desk.checkpoints.unsigned() == 2
        first = desk.checkpoints.sign()
        desk.audit.append("two", "me")
        second = desk.checkpoints.sign()
    assert first and second and (first.size, second.size) == (2, 3)
    assert second.checkpoint.root == root(desk, 3)


def test_what_is_undone_is_in_no_root(desk: Desk, tmp_path: Path) -> None:
    rows(desk, 5)
    before = sign(desk)
    with pytest.raises(ZeroDivisionError), desk.transaction():
        desk.audit.append("undone", "me")
        desk.checkpoints.sign()
        raise ZeroDivisionError
    assert kept(tmp_path) == before
    with desk.transaction():
        desk.audit.append("stays", "me")
        with pytest.raises(ZeroDivisionError), desk.db.savepoint():
            desk.audit.append("undone", "me")
            raise ZeroDivisionError
        desk.audit.append("stays too", "me")
        signed = desk.checkpoints.sign()
    assert signed and signed.size == 8 and signed.checkpoint.root == root(desk, 8)
    assert whole(desk, tmp_path)


def test_what_is_remembered_and_what_is_read_make_the_same_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producer.ledger.checkpoints._REMEMBERED", 10)
    monkeypatch.setattr("producer.ledger.checkpoints._PAGE", 4)
    for number in (3, 9, 25, 2):  # also over the end of the store
        desk = Desk(tmp_path)
        rows(desk, number)
        first = sign(desk)
        rows(desk, number)
        second = sign(desk)
        assert first and first.checkpoint.root == root(desk, first.size)
        assert second and second.checkpoint.root == root(desk, second.size)
        assert whole(desk, tmp_path)
        desk.close()


def test_a_ledger_without_private_places_is_not_signed(tmp_path: Path) -> None:
    desk = Desk(tmp_path, head=False)
    assert sign(desk) is None and newest(desk.db) is None
    desk.close()


@pytest.mark.parametrize("sql", [
    "UPDATE checkpoints SET note = 'x'", "DELETE FROM checkpoints",
    "INSERT INTO checkpoints VALUES (1, 'x', x'')", "INSERT OR REPLACE INTO checkpoints VALUES (21, 'x', x'')",
    "REPLACE INTO checkpoints VALUES (3, 'x', x'')",
])  # fmt: skip
def test_the_table_refuses_every_change_but_a_later_one(desk: Desk, sql: str) -> None:
    rows(desk, 20)
    sign(desk)
    with pytest.raises(LedgerError, match="checkpoints:"), desk.transaction():
        desk.db.run(sql)


# ---- keys


def test_the_key_is_private_and_made_once(desk: Desk, tmp_path: Path) -> None:
    rows(desk, 1)
    sign(desk)
    secret = (tmp_path / "audit.key").read_bytes()
    assert (tmp_path / "audit.key").stat().st_mode & 0o777 == 0o600
    again = signing.load(tmp_path, {})
    assert (tmp_path / "audit.key").read_bytes() == secret
    assert KeyRing.read(tmp_path).keys == (again.public,)
    assert sorted(entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")) == []


def test_a_key_from_the_service_manager_comes_first_and_is_not_copied(tmp_path: Path) -> None:
    credentials, state = tmp_path / "c", tmp_path / "s"
    credentials.mkdir()
    state.mkdir()
    (credentials / "audit.key").write_text(signing.fresh())
    env = {"CREDENTIALS_DIRECTORY": str(credentials)}
    signer = signing.load(state, env)
    assert [entry.name for entry in state.iterdir()] == ["audit.pub"]
    own = signing.load(state, {})
    assert own.public != signer.public and KeyRing.read(state).keys == (signer.public, own.public)
    assert signing.load(state, {"CREDENTIALS_DIRECTORY": str(state / "none")}).public == own.public


@pytest.mark.parametrize("text", ["", "nonsense", "PRIVATE+KEY+x+00000000+AQ==", "x+00000000+" + "A" * 44])
def test_a_key_that_is_none_is_refused_with_its_path(tmp_path: Path, text: str) -> None:
    (tmp_path / "audit.key").write_text(text)
    with pytest.raises(AuditKeyUnusable, match=r"audit\.key"):
        signing.load(tmp_path, {})
    assert (tmp_path / "audit.key").read_text() == text, "nothing is put in its place"


def test_lines_that_are_no_key_are_passed_over(tmp_path: Path) -> None:
    good = signing.load(tmp_path, {}).public
    (tmp_path / "audit.pub").write_bytes(b"\xff\n# a note\n" + good.text().encode() + b"\nx+y+z\n")
    assert KeyRing.read(tmp_path).keys == (good,)


def test_after_a_new_key_both_count(desk: Desk, tmp_path: Path) -> None:
    rows(desk, 3)
    sign(desk)
    desk.close()
    (tmp_path / "audit.key").unlink()
    desk = Desk(tmp_path)
    rows(desk, 3)
    sign(desk)
    assert len(KeyRing.read(tmp_path).keys) == 2 and whole(desk, tmp_path)
    first, second = (Signed.parse(one.note).checkpoint.origin for one in every(desk.db))
    assert first != second, "a new key is a new name"
    desk.close()


# ---- the checker's own Ed25519

RFC_8032 = [  # section 7.1: secret key, public key, message, signature
    ("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
     "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
     "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"),
    ("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
     "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
     "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"),
    ("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
     "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
     "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"),
    ("833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
     "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
     "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
     "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704"),
]  # fmt: skip


@pytest.fixture(scope="module")
def checker() -> Any:
    with resources.as_file(resources.files("producer").joinpath("templates", "verify_audit.py")) as path:
        spec = importlib.util.spec_from_file_location("verify_audit", path)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module


@pytest.mark.parametrize("vector", RFC_8032, ids=["1", "2", "3", "SHA(abc)"])
def test_the_vectors_of_rfc_8032(checker: Any, vector: tuple[str, str, str, str]) -> None:
    secret, public, message, signature = map(bytes.fromhex, vector)
    signer = Signer(Key("x", secret))
    assert signer.public.raw == public and signer._key.sign(message) == signature
    assert checker.genuine(public, message, signature)
    for at in range(0, 512, 37):
        wrong = bytearray(signature)
        wrong[at // 8] ^= 1 << at % 8
        assert not checker.genuine(public, message, bytes(wrong))
    assert not checker.genuine(public, message + b"x", signature)
    assert not checker.genuine(public, message, signature[:-1])
    order = 2**252 + 27742317777372353535851937790883648493
    more = (int.from_bytes(signature[32:], "little") + order).to_bytes(32, "little")
    assert not checker.genuine(public, message, signature[:32] + more), "the same number, written otherwise"


def test_it_agrees_with_the_library_on_keys_of_chance(checker: Any) -> None:
    for number in range(25):
        key, message = Ed25519PrivateKey.generate(), bytes(number)
        public, signature = key.public_key().public_bytes_raw(), key.sign(message)
        assert checker.genuine(public, message, signature)
        other = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
        assert not checker.genuine(other, message, signature)


# ---- damage


def behind(desk: Desk, *statements: str) -> None:
    """What somebody does who can write the file."""
    with closing(sqlite3.connect(desk.db.path)) as connection, connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.execute(statement)


@pytest.fixture
def signed(desk: Desk) -> Desk:
    """A ledger of 31 rows, signed at 11 and 21."""
    for _ in range(2):
        rows(desk, 10)
        sign(desk)
    rows(desk, 10)
    return desk


TAIL = {
    "UPDATE audit SET body = CAST(replace(CAST(body AS TEXT), '\"me\"', '\"you\"') AS BLOB) WHERE seq = 25": "row 25 does",
    "UPDATE audit SET chain = zeroblob(32) WHERE seq = 21": "row 21 does",
    "UPDATE audit SET chain = zeroblob(32) WHERE seq = 20": "row 21 does",
    "DELETE FROM audit WHERE seq = 24": "row 24 is missing",
    "DELETE FROM audit WHERE seq > 15": "the last 6 rows are gone",
    "DELETE FROM audit": "the last 21 rows are gone",
    "DELETE FROM checkpoints WHERE size = 21": "row 21 that is kept outside the ledger is not in it",
    "UPDATE checkpoints SET note = replace(note, '21', '20') WHERE size = 21": "another root",
    "UPDATE checkpoints SET note = 'x' WHERE size = 21": "cannot be read",
    "UPDATE checkpoints SET frontier = zeroblob(96) WHERE size = 21": "another root",
    "UPDATE checkpoints SET frontier = x'' WHERE size = 21": "no frontier",
    "UPDATE checkpoints SET size = 22 WHERE size = 21": "another root",
    "INSERT INTO checkpoints VALUES (1000000, 'x', x'')": "no frontier",
}


@pytest.mark.parametrize("statement", TAIL)
def test_what_happened_to_the_end_of_the_log_is_noticed_at_a_start(
    signed: Desk, tmp_path: Path, statement: str
) -> None:
    assert tail(signed.db, tmp_path).problem is None
    behind(signed, statement)
    found = tail(signed.db, tmp_path)
    assert found.problem and TAIL[statement] in found.problem
    rows_are_whole = statement.startswith("DELETE FROM checkpoints")
    assert verify(signed.db, [kept(tmp_path)], KeyRing.read(tmp_path)).ok is rows_are_whole


@pytest.mark.parametrize("statement", [one for one in TAIL if not one.startswith("DELETE FROM checkpoints")])
def test_the_store_goes_on_with_a_damaged_log_and_the_damage_stays_to_be_found(
    signed: Desk, tmp_path: Path, statement: str
) -> None:
    head = kept(tmp_path)
    behind(signed, statement)
    signed.close()
    desk = Desk(tmp_path)
    rows(desk, 3)
    sign(desk)
    rows(desk, 3)
    sign(desk)
    assert not verify(desk.db, [head], KeyRing.read(tmp_path)).ok
    desk.close()


def test_an_older_part_of_the_log_is_not_looked_at_at_a_start(signed: Desk, tmp_path: Path) -> None:
    """That is what `audit verify` is for."""
    behind(signed, "UPDATE audit SET body = CAST('{}' AS BLOB) WHERE seq = 5")
    assert tail(signed.db, tmp_path).problem is None
    assert verify(signed.db).first_bad_seq == 5


def test_one_pass_serves_any_number_of_heads(signed: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It used to read the chain once for each head."""
    read = []
    real = signed.db.rows

    def counted(sql: str, *values: object) -> list[tuple[Any, ...]]:
        if "FROM audit WHERE" in sql:
            read.append(sql)
        return real(sql, *values)

    heads = [Head(seq, chain) for seq, chain in real("SELECT seq, chain FROM audit")]
    monkeypatch.setattr(signed.db, "rows", counted)
    assert verify(signed.db, heads).ok
    assert len(read) == 2, "the rows, and that there are no more"


def test_a_head_of_nothing_is_the_start_of_every_log(signed: Desk) -> None:
    assert verify(signed.db, [Head(0, bytes(32))]).ok
    assert not verify(signed.db, [Head(0, bytes(31) + b"x")]).ok
