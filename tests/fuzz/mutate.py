"""Seeded changes of files: of their structure where they have one, else of their bytes.

Each takes a random generator and the bytes of a good file, and returns the bytes of another, most often bad, one.
"""

import io
import json
import random
import sqlite3
import struct
import tempfile
import zipfile
import zlib
from contextlib import closing, suppress
from pathlib import Path

import numpy as np

MAX_BYTES = 2**23  # of a spoilt JSON text, twice what is read
SCALARS = [
    *(None, True, False, 0, -1, 1, 2, 255, 2**31, 2**32, 2**63, 2**64, 10**12, 10**30, 10**400, -(10**400)),
    *(0.5, -0.5, 1.5, 1e-320, 1e30, 1e308, float("nan"), float("inf"), float("-inf")),
    *("", "x", "0", "1", "false", "NaN", "x" * 5_000, "x" * 200_000, "[/x]", "\0", "\ud800", "\x1b[2J", "é" * 300),
    *("../../x", "/dev/zero", "/dev/stdin", "~nosuchuser/x", "~", "/", "os:system", "json:loads", "planted-20"),
]


def value(rng):
    """Something that hardly fits anywhere."""
    kind = rng.random()
    if kind < 0.75:
        return rng.choice(SCALARS)
    if kind < 0.85:
        return [rng.choice(SCALARS) for _ in range(rng.choice([0, 1, 3, 300]))]
    if kind < 0.95:
        return {str(index): rng.choice(SCALARS) for index in range(rng.choice([0, 1, 3, 300]))}
    nested = rng.choice(SCALARS)
    for _ in range(rng.choice([3, 100, 190, 250])):
        nested = [nested] if rng.random() < 0.5 else {"a": nested}
    return nested


def _places(values, place=()):
    """The paths of all values in a JSON value."""
    yield place
    items = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, inside in items:
        yield from _places(inside, (*place, key))


def json_values(rng, values):
    """The values with one to three of them replaced, removed, added, or repeated."""
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        *way, last = rng.choice([place for place in _places(values) if place] or [("x",)])
        parent = values
        for key in way:
            parent = parent[key]
        if not isinstance(parent, dict | list):
            return value(rng)
        act = rng.random()
        if act < 0.6:
            parent[last] = value(rng)
        elif act < 0.75:
            del parent[last]
        elif isinstance(parent, dict):
            parent[rng.choice(["x", "", "name", "__class__", "\0", "x" * 10_000])] = value(rng)
        else:
            times = rng.choice([2, 100, 3_000])
            parent *= times if times * len(json.dumps(values)) < MAX_BYTES else 2
    return values


def json_text(rng, content):
    """A JSON text of other values, or another text."""
    if rng.random() < 0.25:
        return any_bytes(rng, content)
    text, size = [], 0
    for part in json.JSONEncoder().iterencode(json_values(rng, json.loads(content))):
        text.append(part)  # a list in many places that was changed in one of them may be gigabytes
        size += len(part)
        if size > MAX_BYTES:
            break
    text = "".join(text)
    if rng.random() < 0.05:
        text = text.replace("0", "9" * 5_000, 1)
    return text.encode()


def any_bytes(rng, content):
    """Other bytes: cut, flipped, inserted, removed, repeated, overwritten."""
    content = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        at = rng.randrange(len(content) + 1)
        if rng.random() < 0.5:
            at = min(at, rng.randrange(200))  # headers matter most
        length = rng.choice([1, 1, 2, 4, 8, 64, 1_000])
        act = rng.randrange(6)
        if act == 0:
            del content[at:]
        elif act == 1:
            for index in range(at, min(at + length, len(content))):
                content[index] ^= 1 << rng.randrange(8)
        elif act == 2:
            content[at:at] = rng.randbytes(length)
        elif act == 3:
            del content[at : at + length]
        elif act == 4:
            content[at:at] = content[at : at + length] * rng.choice([1, 3])
        else:
            content[at : at + length] = rng.choice([b"\0", b"\xff", b"\x7f"]) * min(length, len(content) - at)
    return bytes(content)


def safetensors(rng, content):
    """Another header, or other bytes."""
    act = rng.random()
    length = int.from_bytes(content[:8], "little")
    header, data = content[8 : 8 + length], content[8 + length :]
    if act < 0.3:
        return any_bytes(rng, content)
    if act < 0.45:
        at = rng.randrange(max(1, len(data) // 4)) * 4
        bad = struct.pack("<f", rng.choice([float("nan"), float("inf"), -1e38, -1.0]))
        return content[: 8 + length] + data[:at] + bad + data[at + 4 :]
    header = json_text(rng, header)
    claimed = len(header) if rng.random() < 0.8 else rng.choice([0, 1, 2**31, 2**63, len(content) * 2, len(header) + 1])
    if rng.random() < 0.1:
        data = data[: rng.randrange(len(data) + 1)]
    return claimed.to_bytes(8, "little") + header + data


def zip_file(rng, content):
    """Other entries: changed, renamed, compressed otherwise, repeated, bombs; or other bytes."""
    if rng.random() < 0.4:
        return any_bytes(rng, content)
    packed, method = io.BytesIO(), rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    if rng.random() < 0.15:
        method = rng.choice([zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(packed, "w", method) as new:
        chosen = rng.choice(old.namelist())
        for name in old.namelist():
            inside = old.read(name)
            if name == chosen:
                act = rng.random()
                if act < 0.5:
                    inside = npy(rng) if rng.random() < 0.5 else npy_header(rng, inside)
                elif act < 0.7:
                    inside = any_bytes(rng, inside)
                elif act < 0.8:
                    inside += bytes(rng.choice([1, 2**20, 2**26]))
                elif act < 0.9:
                    name = rng.choice(["/", "images", "../x.npy", name + "x", "x" * 300])  # noqa: PLW2901
                else:
                    continue
            with suppress(ValueError):
                new.writestr(name, inside)
    return packed.getvalue()


def npy(rng):
    """An array of a kind that no image set has."""
    shapes = [
        (),
        (0,),
        (3,),
        (40,),
        (40, 8, 8),
        (40, 8, 8, 3),
        (40, 0, 0),
        (1, 1, 1, 1, 1),
        (40, 3, 8, 8),
        (1, 9_000, 1),
    ]
    kinds = ["u1", "i8", "f4", "f8", "c8", "b1", "U3", "S2", "M8[s]", "m8[D]", "V4", "f2", ">i4", "u8", "O"]
    shape, kind = rng.choice(shapes), rng.choice(kinds)
    array = np.zeros(shape, np.dtype(kind) if rng.random() < 0.9 else np.dtype([("a", "u1"), ("b", "f4")]))
    if array.dtype.kind == "f" and rng.random() < 0.5:
        array = array + rng.choice([float("nan"), float("inf"), -3, 1e4])
    packed = io.BytesIO()
    np.save(packed, np.asfortranarray(array) if rng.random() < 0.3 else array, allow_pickle=True)
    return packed.getvalue()


def npy_header(rng, content):
    """The same data under another header."""
    shape = rng.choice(
        ["(10**9,)", "(1000000000000,)", "(-1, 8, 8)", "(40,)", "(2**70,)", "()", "(40, 8, 8)", "[40]", "(" * 90]
    )
    descr = rng.choice(
        ["'|u1'", "'<i8'", "'|O'", "'<U99999999'", "[('a', '<f4', (99999, 99999))]", "None", "{}", "'V0'", "(("]
    )
    header = f"{{'descr': {descr}, 'fortran_order': {rng.choice(['False', 'True', '3'])}, 'shape': {shape}, }}"
    header = header.encode() + b" " * rng.choice([0, 10, 20_000]) + b"\n"
    version = rng.choice([(1, 0), (2, 0), (3, 0), (9, 9)])
    length = struct.pack("<H" if version == (1, 0) else "<I", len(header) if rng.random() < 0.9 else 65_535)
    return b"\x93NUMPY" + bytes(version) + length + header + content[128:]


ATTACKS = [
    "CREATE TRIGGER t AFTER INSERT ON evaluations BEGIN DELETE FROM evaluations; END",
    "CREATE TRIGGER t AFTER INSERT ON evaluations BEGIN INSERT INTO evaluations SELECT * FROM evaluations; END",
    "CREATE VIEW v AS SELECT * FROM evaluations",
    "CREATE TABLE t (x)",
    "CREATE INDEX i ON evaluations (macs)",
    "DROP TABLE evaluations",
    "ALTER TABLE evaluations ADD COLUMN more TEXT",
    "ALTER TABLE evaluations RENAME COLUMN macs TO scam",
    "DELETE FROM evaluations",
    "UPDATE evaluations SET accuracy = -5e300",
    "UPDATE evaluations SET loss = 9e999",
    "UPDATE evaluations SET macs = -1",
    "UPDATE evaluations SET mask = zeroblob(100000) WHERE rowid IN (SELECT rowid FROM evaluations LIMIT 1)",
    "UPDATE evaluations SET fingerprint = 'x'",
    "PRAGMA user_version = 9",
    "PRAGMA application_id = 9",
    "UPDATE sqlite_schema SET sql = replace(sql, ' STRICT', '')",
    "UPDATE sqlite_schema SET sql = replace(sql, 'REAL', 'TEXT')",
    "UPDATE sqlite_schema SET rootpage = 3",
    "UPDATE sqlite_schema SET type = 'view', rootpage = 0",
    "INSERT INTO sqlite_schema VALUES ('trigger', 't', 'evaluations', 0, 'CREATE TRIGGER t AFTER INSERT ON evaluations "
    "BEGIN SELECT load_extension(''x''); END')",
]
OF_RECORDS = [
    "DELETE FROM history WHERE number = 2",
    "UPDATE history SET number = number + 1000",
    "UPDATE history SET mask = zeroblob(1) WHERE number = 1",
    "UPDATE history SET mask = x'ffffffff' WHERE number = 1",
    "UPDATE history SET objective = 5 WHERE number = 1",
    "UPDATE history SET episode = -3",
    "UPDATE history SET episode = 9223372036854775807",
    "UPDATE history SET seconds = 9e999",
    "CREATE TRIGGER t AFTER INSERT ON history BEGIN DELETE FROM history; END",
]


def database(rng, content, attacks=ATTACKS):
    """Other rows, tables, types, triggers; or other bytes, here and there."""
    if rng.random() < 0.4:
        content = bytearray(content)
        for _ in range(rng.choice([1, 3, 30])):
            content[rng.randrange(len(content))] = rng.randrange(256)
        return bytes(content) if rng.random() < 0.7 else bytes(content[: rng.randrange(len(content))])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        path.write_bytes(content)
        with closing(sqlite3.connect(path, isolation_level=None)) as opened:
            for pragma in ("writable_schema = 1", "ignore_check_constraints = 1", "journal_mode = delete"):
                opened.execute(f"PRAGMA {pragma}")
            for _ in range(rng.choice([1, 1, 2])):
                with suppress(sqlite3.Error, sqlite3.Warning):
                    opened.execute(rng.choice(attacks))
        return path.read_bytes()


def record(rng, content):
    """A record of a run with other rows."""
    return database(rng, content, ATTACKS + OF_RECORDS * 2)


def image(rng, content):
    """Other bytes of an image; of a PNG, often another header with its right checksum."""
    if content[:8] == b"\x89PNG\r\n\x1a\n" and rng.random() < 0.3:
        sizes = [0, 1, 8, 9_000, 30_000, 2**31 - 1, 2**32 - 1]
        header = struct.pack(
            ">IIBBBBB", rng.choice(sizes), rng.choice(sizes), rng.choice([1, 8, 16]), rng.randrange(8), 0, 0, 0
        )
        chunk = b"IHDR" + header
        return content[:12] + chunk + zlib.crc32(chunk).to_bytes(4, "big") + content[33:]
    if rng.random() < 0.1:
        return b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(x) run\n" + content
    return any_bytes(rng, content)


def generator(kind, seed):
    """The random generator of one case."""
    return random.Random(f"{kind} {seed}")
