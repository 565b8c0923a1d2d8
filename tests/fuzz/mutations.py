"""Damage to files and values, drawn by a seeded generator: the same seed damages in the same way."""

import gzip
import io
import json
import lzma
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

RAW = "\ue000{}\ue001"
"""A text that becomes the raw text of `RAWS` once the JSON is written: Python cannot print these values."""
RAWS = {
    "digits": "9" * 5000,
    "deep lists": "[" * 10_000 + "]" * 10_000,
    "deep mappings": '{"a":' * 10_000 + "1" + "}" * 10_000,
    "open lists": "[" * 10_000,
    "levels": "[" * 99 + "]" * 99,
    "infinity": "1e999",
    "negative infinity": "-Infinity",
    "NaN": "NaN",
    "twice": '{"role": "user", "role": "user", "content": "x", "a": 1, "a": 2}',
    "word": "undefined",
}

BAD: list[tuple[str, Any]] = [
    ("null", None), ("true", True), ("false", False), ("0", 0), ("-1", -1), ("2", 2), ("1.5", 1.5),
    ("0.1", 0.1), ("-0.0", -0.0), ("1e308", 1e308), ("-1e308", -1e308), ("5e-324", 5e-324),
    ("2**31", 2**31), ("2**63", 2**63), ("2**64", 2**64), ("10**18", 10**18), ("10**400", 10**400),
    ("-10**400", -(10**400)), ("empty text", ""), ("space", " \t\n"), ("NUL", "a\x00b"), ("surrogate", "\ud800"),
    ("surrogate in text", "x\udfffy"), ("long text", "long " * 40_000), ("one long word", "x" * 200_000),
    ("digits of Arabic", "١٢٣"), ("number as text", "1"), ("nan as text", "nan"), ("inf as text", "1e999"),
    ("path", "../../etc/passwd"), ("memory", "/proc/self/mem"), ("markup", "<script>alert(1)</script>"),
    ("escape", "\x1b[31mred\x1b[0m"), ("formula", "=1+1"), ("format", "{0.__class__} %s {x} {{"),
    ("turned", "\u202eabc"), ("separator", "a\u2028b"), ("empty list", []), ("empty mapping", {}),
    ("list in list", [[]]), ("list of null", [None]), ("list of text", ["a", "b"]), ("list of numbers", [1, 0]),
    ("list of 50,000", [0] * 50_000), ("mapping of null", {"": None}), ("mapping of list", {"a": [1]}),
    ("message", {"role": "user", "content": "x"}), ("messages", [{"role": "assistant", "content": ""}]),
    *((f"raw {name}", RAW.format(name)) for name in RAWS),
]  # fmt: skip


def written(value: Any, rng: random.Random | None = None) -> str:
    """Return the JSON of a value, with raw texts in it."""
    try:
        text = json.dumps(value, ensure_ascii=rng is None or rng.random() < 0.8)
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(value)
    for name, raw in RAWS.items():
        for spelled in (json.dumps(RAW.format(name)), f'"{RAW.format(name)}"'):
            text = text.replace(spelled, raw)
    return text


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value inside `value`, its own first."""
    found = [path]
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        found += places(one, (*path, key))
    return found


def damaged_value(value: Any, rng: random.Random) -> tuple[Any, str]:
    """Return a copy of a JSON value with one place damaged, and what was done."""
    found = json.loads(json.dumps(value))
    by_depth: dict[int, list[tuple[Any, ...]]] = {}
    for place in places(found):
        by_depth.setdefault(len(place), []).append(place)
    # Every level is as likely: a list of texts would take all.
    place = rng.choice(by_depth[rng.choice(sorted(by_depth))])
    at = "".join(f"[{key!r}]" for key in place)
    if not place:
        name, bad = rng.choice(BAD)
        return bad, f"all becomes {name}"
    owner = found
    for key in place[:-1]:
        owner = owner[key]
    return found, f"{at} {_damage(owner, place[-1], rng)}"


def _damage(owner: Any, key: Any, rng: random.Random) -> str:
    """Damage `owner[key]` in place; return what was done."""
    how = rng.choices(["bad", "drop", "rename", "wrap", "other", "twice", "type"], [60, 10, 5, 5, 8, 5, 7])[0]
    value = owner[key]
    if how == "drop":
        del owner[key]
    elif how == "rename" and isinstance(owner, dict):
        new = rng.choice([f"{key}x", str(key).upper(), f" {key}", "", "id", "é", "\ud800"])
        owner[new] = owner.pop(key)
        return f"is renamed to {new!r}"
    elif how == "wrap":
        owner[key] = rng.choice([[value], {"value": value}, [[value, value]], {key if isinstance(key, str) else "k": value}])  # fmt: skip
    elif how == "other":
        others = list(owner.values()) if isinstance(owner, dict) else owner
        owner[key] = rng.choice(others)
    elif how == "twice" and isinstance(owner, list):
        owner.insert(key, value)
    elif how == "type" and isinstance(value, str):
        owner[key] = len(value)
    elif how == "type" and isinstance(value, int | float):
        owner[key] = str(value)
    elif how == "type" and isinstance(value, list):
        owner[key] = {str(n): v for n, v in enumerate(value)}
    elif how == "type" and isinstance(value, dict):
        owner[key] = list(value.values())
    else:
        name, owner[key] = rng.choice(BAD)
        return f"becomes {name}"
    return how


def _cut(raw: bytes, rng: random.Random) -> bytes:
    return raw[: rng.randrange(max(len(raw), 1))]


def _flip(raw: bytes, rng: random.Random) -> bytes:
    found = bytearray(raw)
    for _ in range(rng.choice([1, 1, 4, 40])):
        if found:
            found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)
    return bytes(found)


def _insert(raw: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(raw) + 1)
    what = [b"\x00", b"\xff\xfe", b"\xc3", b"\n", b"\n" * 5000, b"\r", b"{", b"]", b'"', b",", b"\xed\xa0\x80", b"\x1a",
            b"\xef\xbb\xbf", "\u2028".encode()]  # fmt: skip
    return raw[:at] + rng.choice(what) + raw[at:]


def _recoded(raw: bytes, rng: random.Random) -> bytes:
    code = rng.choice(["utf-16", "utf-16-le", "utf-32", "utf-8-sig", "latin-1", "cp1252"])
    return raw.decode("utf-8", "replace").replace('"', '"é', 1).encode(code, "replace")


def _swapped(raw: bytes, rng: random.Random) -> bytes:
    a, b = sorted(rng.randrange(len(raw) + 1) for _ in range(2))
    return raw[b:] + raw[a:b] + raw[:a]


def _doubled(raw: bytes, rng: random.Random) -> bytes:
    lines = raw.splitlines(keepends=True) or [b""]
    at = rng.randrange(len(lines))
    return b"".join([*lines[:at], lines[at], *lines[at:]])


BYTES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "cut": _cut,
    "bits flipped": _flip,
    "bytes put in": _insert,
    "recoded": _recoded,
    "parts swapped": _swapped,
    "a line twice": _doubled,
    "twice": lambda raw, _: raw + raw,
    "empty": lambda *_: b"",
    "white": lambda _, rng: rng.choice([b" ", b"\n", b"\n" * 1000, b"\xef\xbb\xbf", b"\t \r\n"]),
    "a word": lambda _, rng: rng.choice([b"null", b"[]", b"{}", b"0", b'""', b"[[]]", b"[null]", b"-", b"---\n...", b"%YAML 9"]),
    "noise": lambda _, rng: rng.randbytes(rng.choice([1, 10, 1000])),
    "zeros": lambda raw, _: bytes(len(raw)),
}  # fmt: skip


def damage_bytes(path: Path, rng: random.Random) -> str:
    """Damage the bytes of a file; return what was done. A packed file is damaged inside or outside."""
    name = rng.choice(list(BYTES))
    raw = path.read_bytes()
    if path.suffix in (".gz", ".xz") and rng.random() < 0.5:
        unpack, pack = (gzip.decompress, gzip.compress) if path.suffix == ".gz" else (lzma.decompress, lzma.compress)  # fmt: skip
        path.write_bytes(pack(BYTES[name](unpack(raw), rng)))
        return f"{name}, inside"
    path.write_bytes(BYTES[name](raw, rng))
    return name


def damage_values(path: Path, rng: random.Random) -> str:
    """Damage one value of a JSON, JSON Lines, YAML or Parquet file; return what was done."""
    if path.suffix == ".yaml":
        import yaml

        bad, told = damaged_value(yaml.safe_load(path.read_text()), rng)
        path.write_text(written(bad))
        return told
    if path.suffix == ".parquet":
        return _damage_parquet(path, rng)
    text = unpacked(path)
    is_lines = ".jsonl" in path.name
    value = [json.loads(line) for line in text.splitlines()] if is_lines else json.loads(text)
    if not is_lines:
        bad, told = damaged_value(value, rng)
        repack(path, written(bad, rng))
        return told
    n = rng.randrange(len(value))
    bad, told = damaged_value(value[n], rng)
    if rng.random() < 0.1 and isinstance(bad, dict) and bad:  # a key twice
        line = written(bad, rng)
        key, one = rng.choice(list(bad.items()))
        lines = [line[:-1] + ", " + written({key: one})[1:]]
        told += f" and {key!r} twice"
    else:
        lines = [written(bad, rng)]
    repack(path, "".join(f"{line}\n" for line in [*map(written, value[:n]), *lines, *map(written, value[n + 1 :])]))  # fmt: skip
    return f"row {n + 1} {told}"


def unpacked(path: Path) -> str:
    """Return the text of a plain, .gz, .xz or .zst file."""
    raw = path.read_bytes()
    if path.suffix == ".zst":
        import pyarrow

        return str(pyarrow.CompressedInputStream(pyarrow.BufferReader(raw), "zstd").read().decode())
    return {".gz": gzip.decompress, ".xz": lzma.decompress}.get(path.suffix, bytes)(raw).decode()


def repack(path: Path, text: str) -> None:
    """Write the text of a plain, .gz, .xz or .zst file."""
    raw = text.encode("utf-8", "surrogatepass")
    if path.suffix == ".zst":
        import pyarrow

        path.write_bytes(pyarrow.compress(raw, codec="zstd", asbytes=True))
        return
    path.write_bytes({".gz": gzip.compress, ".xz": lzma.compress}.get(path.suffix, bytes)(raw))


def _damage_parquet(path: Path, rng: random.Random) -> str:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    how = rng.choice(["value", "column", "drop", "rename", "empty", "twice"])
    names = table.column_names
    k = rng.randrange(len(names))
    if how == "value":
        rows = table.to_pylist()
        n = rng.randrange(len(rows))
        rows[n], told = damaged_value(rows[n], rng)
        try:
            table = pyarrow.Table.from_pylist(rows)
        except Exception:  # no column holds such values: all of them become this one
            how = "column"
    if how == "column":
        name, bad = rng.choice(
            [b for b in BAD if "raw" not in b[0] and "surrogate" not in b[0] and "mapping" not in b[0]]
        )
        try:
            table = table.set_column(k, names[k], pyarrow.array([bad] * len(table)))
        except Exception:
            table = table.set_column(k, names[k], pyarrow.nulls(len(table)))
        told = f"{names[k]!r} becomes {name}"
    elif how == "drop":
        table, told = table.drop_columns([names[k]]), f"without {names[k]!r}"
    elif how == "rename":
        table, told = (
            table.rename_columns([*names[:k], f"{names[k]}x", *names[k + 1 :]]),
            f"{names[k]!r} renamed",
        )
    elif how == "empty":
        table, told = table.slice(0, 0), "no rows"
    elif how == "twice":
        table, told = table.append_column(names[k], table.column(k)), f"{names[k]!r} twice"
    try:
        pyarrow.parquet.write_table(table, path)
    except Exception as error:
        path.write_bytes(path.read_bytes()[:50])
        told = f"cut, as {type(error).__name__}"
    return told


def damage_safetensors(path: Path, rng: random.Random) -> str:
    """Damage the header of a safetensors file, or what its length is said to be."""
    raw = path.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    head, data = json.loads(raw[8 : 8 + size]), raw[8 + size :]
    if rng.random() < 0.4:
        said = rng.choice([0, 1, size - 1, size + 1, len(raw), 2**32, 2**63, 2**64 - 1, 100_000_001])
        path.write_bytes(struct.pack("<Q", said) + raw[8:])
        return f"a header of {said} bytes"
    bad, told = damaged_value(head, rng)
    text = written(bad).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + (data if rng.random() < 0.8 else data[:-7]))
    return f"header {told}"


def damage_npz(path: Path, rng: random.Random) -> str:
    """Damage the head of an array in an `.npz` file: its type, shape, length or version; or a part of it."""
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    name = rng.choice(sorted(parts))
    raw = parts[name]
    heads = [
        "{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999,), }",
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
        "{'descr': '<U9999999', 'fortran_order': False, 'shape': (3,), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }",
        "{'descr': '<f4', 'fortran_order': True, 'shape': (), }",
        "{'descr': '<c16', 'fortran_order': False, 'shape': (2, 2), }",
        "{'descr': '<M8[s]', 'fortran_order': False, 'shape': (1,), }",
        "{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,), }",
        "(" * 3000,
        "{'descr': '<f8'}",
        "",
    ]
    how = rng.choice(["head", "head", "drop", "version", "bytes"])
    told = f"{name} {how}"
    if how == "head":
        head = rng.choice(heads)
        parts[name] = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head) % 65536) + head.encode() + raw[128:]
        told = f"{name} {head[:60]}"
    elif how == "drop":
        del parts[name]
    elif how == "version":
        parts[name] = raw[:6] + bytes([rng.randrange(256), rng.randrange(256)]) + raw[8:]
    else:
        parts[name] = BYTES[rng.choice(list(BYTES))](raw, rng)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for part, content in parts.items():
            file.writestr(part, content)
    path.write_bytes(buffer.getvalue())
    return told


def damage_sqlite(path: Path, rng: random.Random) -> str:
    """Damage the tables of an SQLite file: their rows, their columns, their names."""
    import sqlite3

    statements = [
        "DROP TABLE scores", "DROP TABLE meta", "DELETE FROM meta", "DELETE FROM meta WHERE key = 'fingerprint'",
        "DELETE FROM meta WHERE key = 'schema'", "UPDATE meta SET value = 'x'", "UPDATE meta SET value = x'ff00'",
        "UPDATE scores SET reward = 'text'", "UPDATE scores SET reward = x'00'", "UPDATE scores SET reward = 9e999",
        "UPDATE scores SET n_tokens = 'many'", "UPDATE scores SET n_tokens = 9223372036854775807",
        "UPDATE scores SET n_tokens = -1", "UPDATE scores SET truncated = 'maybe'", "UPDATE scores SET truncated = 7",
        "ALTER TABLE scores RENAME TO other", "ALTER TABLE scores RENAME COLUMN reward TO r",
        "ALTER TABLE scores ADD COLUMN more TEXT", "ALTER TABLE meta RENAME COLUMN value TO v",
        "PRAGMA application_id = 0", "PRAGMA application_id = 7", "PRAGMA user_version = 99", "PRAGMA encoding = 'UTF-16'",
        "CREATE VIEW v AS SELECT * FROM scores", "CREATE TRIGGER t BEFORE INSERT ON scores BEGIN SELECT RAISE(FAIL, 'no'); END",
        "PRAGMA journal_mode = DELETE",
    ]  # fmt: skip
    statement = rng.choice(statements)
    with sqlite3.connect(path, isolation_level=None) as db:
        try:
            db.execute(statement)
        except sqlite3.Error as error:
            statement = f"{statement} ({error})"
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    return statement


SPECIAL: dict[str, Callable[[Path, random.Random], str]] = {
    ".safetensors": damage_safetensors,
    ".npz": damage_npz,
    ".sqlite": damage_sqlite,
}


def damage(path: Path, rng: random.Random) -> str:
    """Damage a file in the way of its format, or its bytes; return what was done."""
    if rng.random() < 0.25:
        return damage_bytes(path, rng)
    if path.suffix in SPECIAL:
        return SPECIAL[path.suffix](path, rng)
    if any(s in path.name for s in (".json", ".yaml", ".parquet")):
        try:
            return damage_values(path, rng)
        except (ValueError, RecursionError):
            return damage_bytes(path, rng)
    return damage_bytes(path, rng)
