"""Our own schema and plain pairs: what is read, and what every kind of bad row says."""

import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from rmbench.errors import DataError
from rmbench.metrics import PanelRow, build_panel, measure_suite
from rmbench.tasks import read_task_items
from rmbench.tasks.containers import estimated_rows_of
from rmbench.tasks.items import ItemSet
from rmbench.tasks.rows import BadRows, rows_of
from rmbench.tasks.spec import DataSpec, TaskSpec, load_task

ITEM: dict[str, Any] = {"id": "a", "prompt": "Q", "responses": ["x", "y"], "gold": [1, 0]}
PAIR: dict[str, Any] = {"prompt": "Q", "chosen": "x", "rejected": "y"}


def spec_for(reader: str, **options: Any) -> TaskSpec:
    from dataclasses import replace

    return replace(load_task("preference"), data=DataSpec(reader=reader, options=options))


def read(path: Path, reader: str = "jsonl", *, on_bad: str = "fail", **options: Any) -> ItemSet:
    return read_task_items(spec_for(reader, **options), path, on_bad=on_bad, offline=True)


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows), "utf-8")
    return path


def chat(*turns: str) -> list[dict[str, str]]:
    """Return messages from texts such as "user:Hi"."""
    return [dict(zip(("role", "content"), t.split(":", 1), strict=True)) for t in turns]


def test_an_item_with_everything(tmp_path: Path) -> None:
    row = {
        "id": 7,
        "prompt": chat("system:Be brief.", "user:Hi", "assistant:Hello", "user:Name three primes."),
        "responses": ["2, 3, 5", "1, 2, 3", "4"],
        "gold": [3, 1.5, 0],
        "gold_kind": "graded",
        "cluster": "primes",
        "strata": {"topic": "maths"},
        "tags": [{"generator": "a"}, {"generator": None}, {}],
    }
    (item,) = read(write(tmp_path / "x.jsonl", row)).items
    assert item.id == "7"
    assert [t["role"] for t in item.prompt] == ["system", "user", "assistant", "user"]
    assert [r.gold for r in item.responses] == [3.0, 1.5, 0.0]
    assert (item.cluster, item.strata, item.gold_kind) == ("primes", {"topic": "maths"}, "graded")
    assert [r.tags for r in item.responses] == [{"generator": "a"}, {}, {}]
    assert item.conversation(1)[-1] == {"role": "assistant", "content": "1, 2, 3"}


def test_an_item_with_little(tmp_path: Path) -> None:
    rows = [{"prompt": "Q", "responses": ["x", "y"]}, {"prompt": "Q", "responses": ["x", "z"]}]
    a, b = read(write(tmp_path / "few.jsonl", *rows)).items
    assert (a.id, b.id) == ("few:1", "few:2")
    assert a.cluster == b.cluster, "the same prompt is one cluster"
    assert a.responses[0].gold is None


@pytest.mark.parametrize(
    ("row", "gold", "kind"),
    [
        (PAIR, (1.0, 0.0), "label"),
        ({**PAIR, "strength": 2.5}, (2.5, 0.0), "graded"),
        ({**PAIR, "p_chosen": 0.75}, (0.75, 0.25), "probability"),
        ({**PAIR, "p_chosen": 0.25}, (0.25, 0.75), "probability"),
        ({"prompt": chat("user:Q"), "chosen": chat("assistant:x"), "rejected": chat("assistant:y")}, (1.0, 0.0), "label"),
        ({"prompt": "Q", "chosen": chat("user:Q", "assistant:x"), "rejected": chat("user:Q", "assistant:y")}, (1.0, 0.0), "label"),
        ({"chosen": chat("user:Q", "assistant:x"), "rejected": chat("user:Q", "assistant:y")}, (1.0, 0.0), "label"),
    ],
)  # fmt: skip
def test_pairs(tmp_path: Path, row: dict[str, Any], gold: tuple[float, float], kind: str) -> None:
    (item,) = read(write(tmp_path / "p.jsonl", row), "pairs").items
    assert [r.text for r in item.responses] == ["x", "y"]
    assert tuple(r.gold for r in item.responses) == gold
    assert item.gold_kind == kind
    assert item.prompt == ({"role": "user", "content": "Q"},)


def test_a_subset_is_a_stratum_and_a_system_message_is_kept(tmp_path: Path) -> None:
    row = {
        "chosen": chat("system:S", "user:Q", "assistant:x"),
        "rejected": chat("system:S", "user:Q", "assistant:y"),
        "subset": "chat",
    }
    (item,) = read(write(tmp_path / "p.jsonl", row), "pairs").items
    assert item.prompt[0] == {"role": "system", "content": "S"}
    assert item.strata == {"subset": "chat"}


NAN = '{"id": "a", "prompt": "Q", "responses": ["x", "y"], "gold": [NaN, 0]}'

BAD_ITEMS = [
    ("{'id': 1}", None, "not valid JSON", "line is not JSON"),
    ("[1, 2]", None, "list; expected an object", "row is not an object"),
    ({**ITEM, "respones": []}, "respones", "did you mean 'responses'", "unknown key"),
    ({"id": "a", "responses": ["x", "y"]}, "prompt", "the key is missing", "missing key"),
    ({**ITEM, "prompt": ""}, "prompt", "empty", "empty text"),
    ({**ITEM, "prompt": 3}, "prompt", "a number; expected text or a list of messages", "prompt is no conversation"),
    ({**ITEM, "prompt": []}, "prompt", "expected text or a list of messages", "prompt is no conversation"),
    ({**ITEM, "prompt": ["Q"]}, "prompt[0]", 'expected {"role"', "prompt is no conversation"),
    ({**ITEM, "prompt": chat("human:Q")}, "prompt[0].role", "'human'; expected one of system", "unknown role"),
    ({**ITEM, "prompt": [{"role": "user", "content": None}]}, "prompt[0].content", "null", "text is not a string"),
    ({**ITEM, "prompt": chat("user:Q", "assistant:A")}, "prompt", "ends with an assistant turn", "prompt ends with a reply"),
    ({**ITEM, "responses": ["x"]}, "responses", "at least two", "fewer than two responses"),
    ({**ITEM, "responses": "xy"}, "responses", "at least two", "fewer than two responses"),
    ({**ITEM, "responses": ["x", None]}, "responses[1]", "null; expected text", "text is not a string"),
    ({**ITEM, "responses": ["x", 5]}, "responses[1]", "a number; expected text", "text is not a string"),
    ({**ITEM, "gold": [1]}, "gold", "1 values; expected one per response, 2", "gold and responses differ in length"),
    ({**ITEM, "gold": 1}, "gold", "expected one per response", "gold and responses differ in length"),
    ({**ITEM, "gold": [1, "0"]}, "gold[1]", "expected a number", "gold is not a number"),
    ({**ITEM, "gold": [True, False]}, "gold[0]", "true or false", "gold is not a number"),
    ({**ITEM, "gold": [1, None]}, "gold[1]", "null", "gold is not a number"),
    (NAN, "gold[0]", "finite", "gold is not finite"),
    ({**ITEM, "gold_kind": "grade"}, "gold_kind", "label, probability, graded", "unknown gold_kind"),
    ({**ITEM, "gold_kind": "probability", "gold": [0.7, 0.2]}, "gold", "sum to 1", "gold is no probability"),
    ({**ITEM, "tags": [{}]}, "tags", "2 objects", "tags do not fit"),
    ({**ITEM, "strata": ["a"]}, "strata", "mapping", "strata do not fit"),
    ({**ITEM, "strata": {"a": 1}}, "strata", "mapping", "strata do not fit"),
    ({**ITEM, "id": ""}, "id", "expected text or a whole number", "id does not fit"),
    ({**ITEM, "id": 1.5}, "id", "expected text or a whole number", "id does not fit"),
    ({**ITEM, "id": "first"}, "id", "is the id of x.jsonl, line 1 already", "duplicate id"),
]  # fmt: skip

BAD_PAIRS = [
    ({**PAIR, "rejected": chat("user:x")}, "rejected", "does not end with an assistant", "no reply at the end"),
    ({**PAIR, "rejected": chat("user:R", "assistant:y")}, "rejected", "differs from 'prompt'", "prompts differ"),
    ({"chosen": chat("user:Q", "assistant:x"), "rejected": chat("user:R", "assistant:y")}, "rejected", "differs from 'chosen'", "prompts differ"),
    ({"chosen": "x", "rejected": "y"}, "prompt", "missing", "missing key"),
    ({"prompt": "Q", "chosen": "x"}, "rejected", "the key is missing", "missing key"),
    ({**PAIR, "p_chosen": 1.2}, "p_chosen", "[0, 1]", "p_chosen is no probability"),
    ({**PAIR, "strength": 0}, "strength", "above 0", "strength is not positive"),
    ({**PAIR, "strength": 1, "p_chosen": 0.5}, "strength", "together with", "two golds"),
    ({**PAIR, "rejectd": "y"}, "rejectd", "did you mean 'rejected'", "unknown key"),
]  # fmt: skip

CASES = [("jsonl", {**ITEM, "id": "first"}, *c) for c in BAD_ITEMS] + [("pairs", PAIR, *c) for c in BAD_PAIRS]


@pytest.mark.parametrize(("reader", "good", "bad", "key", "said", "reason"), CASES)
def test_a_bad_row_names_file_line_key_and_expectation_or_is_skipped_and_counted(
    tmp_path: Path, reader: str, good: Any, bad: Any, key: str | None, said: str, reason: str
) -> None:
    path = write(tmp_path / "x.jsonl", good, bad, {**good, "id": "last"} if reader == "jsonl" else good)
    with pytest.raises(DataError) as caught:
        read(path, reader)
    message = str(caught.value)
    assert f"{path}, line 2" in message
    assert said in message
    assert key is None or f"key {key!r}" in message
    assert "\n" not in message
    skipped = read(path, reader, on_bad="skip")
    assert len(skipped.items) == 2
    assert skipped.dropped == {reason: 1}


def content(items: ItemSet) -> list[tuple[Any, ...]]:
    return [(i.id, i.prompt, [(r.text, r.gold) for r in i.responses]) for i in items.items]


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    odd = "line\u2028separator \u0085 next, \U0001f600 emoji, \ttab, \x00 null"
    return [{**ITEM, "id": f"r{k}", "prompt": f"{odd} {k}"} for k in range(5)]


def test_every_container_holds_the_same_items(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    plain = write(tmp_path / "a.jsonl", *rows)
    raw = plain.read_bytes()
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(raw))
    (tmp_path / "c.jsonl.xz").write_bytes(lzma.compress(raw))
    (tmp_path / "d.json").write_text(json.dumps(rows))
    (tmp_path / "e.json").write_bytes(raw)  # lines under a .json name, as some publish
    (tmp_path / "f.json.gz").write_bytes(gzip.compress(json.dumps(rows, indent=1).encode()))
    (tmp_path / "g.jsonl").write_bytes(raw.replace(b"\n", b"\r\n\r\n"))
    first = read(plain)
    for name in ("b.jsonl.gz", "c.jsonl.xz", "d.json", "e.json", "f.json.gz", "g.jsonl"):
        other = read(tmp_path / name)
        assert content(other) == content(first), name
        assert other.data_hash == first.data_hash, name


def test_parquet_holds_the_same_items(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=2)
    assert content(read(path)) == content(read(write(tmp_path / "a.jsonl", *rows)))


@pytest.mark.parametrize("name", ["a[1].parquet", "d[1]/x.parquet", "*.parquet", "s3:a.parquet"])
def test_a_parquet_name_is_no_pattern(tmp_path: Path, name: str) -> None:
    """Beside each file lies the one that its name means as a pattern."""
    for other in (name, "a1.parquet", "d1/x.parquet"):
        path = tmp_path / other
        path.parent.mkdir(exist_ok=True)
        parquet.write_table(pyarrow.Table.from_pylist([{**ITEM, "id": other}]), path)
    assert [item.id for item in read(tmp_path / name).items] == [name]
    assert estimated_rows_of(tmp_path / name) == 1


def test_parquet_columns_of_mixed_types_are_read_as_json(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "p"}]
    path = tmp_path / "a.parquet"
    mixed = pyarrow.json_()
    columns = {
        "prompt": pyarrow.array([json.dumps(turns), json.dumps("p")], pyarrow.string()).cast(mixed),
        "responses": pyarrow.array([["a", "b"]] * 2),
        "gold": pyarrow.array([[0.0, 1.0]] * 2),
        "strata": pyarrow.StructArray.from_arrays([pyarrow.array(['"s"', None]).cast(mixed)], ["kind"]),
    }
    parquet.write_table(pyarrow.table(columns), path)
    found = [row.value for row in rows_of(path, BadRows(skip=False))]
    assert [row["prompt"] for row in found] == [turns, "p"]
    assert [row["strata"] for row in found] == [{"kind": "s"}, {"kind": None}]


def test_two_parquet_columns_of_one_name_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    twice = pyarrow.Table.from_arrays([pyarrow.array(["p"]), pyarrow.array(["q"])], ["prompt", "prompt"])
    parquet.write_table(twice, path)
    with pytest.raises(DataError, match=r"a\.parquet, key 'prompt': two columns have this name"):
        read(path)


def test_a_folder_is_all_its_files_in_order(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write(tmp_path / f"{name}.jsonl", {**ITEM, "id": name})
    (tmp_path / "notes.txt").write_text("not data")
    assert [i.id for i in read(tmp_path).items] == ["a", "b"]


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "bom.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(ITEM).encode())
    assert len(read(path).items) == 1


@pytest.mark.parametrize("suffix", ["jsonl.gz", "jsonl.xz", "json.gz", "json.xz", "parquet", "json", "jsonl"])
@pytest.mark.parametrize("damage", ["cut off", "random bytes", "empty"])
def test_a_damaged_file_is_named(
    tmp_path: Path, suffix: str, damage: str, rows: list[dict[str, Any]]
) -> None:
    import random

    lines = "".join(json.dumps(r) + "\n" for r in rows).encode()
    whole = json.dumps(rows).encode() if suffix.startswith("json") and "jsonl" not in suffix else lines
    pack = {"gz": gzip.compress, "xz": lzma.compress}.get(suffix.rpartition(".")[2], bytes)
    raw = {
        "cut off": pack(whole)[:-25],
        "random bytes": random.Random(1).randbytes(300),
        "empty": b"",
    }[damage]
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"x\.") as caught:
        read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("make", ["nothing", "empty folder", "blank lines"])
def test_no_data_is_an_error(tmp_path: Path, make: str) -> None:
    path = tmp_path / "x.jsonl"
    if make == "empty folder":
        path.mkdir()
    elif make == "blank lines":
        path.write_text("\n\n")
    with pytest.raises(DataError, match=r"x\.jsonl"):
        read(path)


def test_the_hash_is_that_of_the_content(tmp_path: Path) -> None:
    base = read(write(tmp_path / "a.jsonl", ITEM)).data_hash
    assert read(write(tmp_path / "b.jsonl", {**ITEM, "tags": [{"generator": "x"}, {}]})).data_hash == base
    for change in ({"gold": [0, 1]}, {"prompt": "q"}, {"cluster": "c"}, {"strata": {"a": "b"}}, {"id": "b"}):
        assert read(write(tmp_path / "c.jsonl", {**ITEM, **change})).data_hash != base


def test_an_empty_file_is_named_whatever_was_left_out_before_it(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", ITEM, {**ITEM, "gold": [1]})
    write(tmp_path / "b.jsonl")
    with pytest.raises(DataError, match=r"b\.jsonl: the file is empty"):
        read(tmp_path, on_bad="skip")


@pytest.mark.parametrize("gold", [1e101, -1e308, 10**200])
def test_gold_whose_squares_would_overflow_is_refused(tmp_path: Path, gold: float) -> None:
    rows = [{"id": "a", "prompt": "p", "responses": ["x", "y"], "gold": [gold, 0]}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=r"key 'gold\[0\]': .*expected a number from -1e\+100 to 1e\+100"):
        read_task_items(load_task("bon"), tmp_path / "a.jsonl")


def test_whole_numbers_that_no_float_holds_are_refused(tmp_path: Path) -> None:
    text = '{"id": "a", "prompt": "p", "responses": ["x", "y"], "gold": [1' + "0" * 400 + ", 0]}"
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(DataError, match="a number of 401 digits; expected at most 308"):
        read_task_items(load_task("bon"), tmp_path / "a.jsonl")


def test_clusters_keep_their_names_to_the_last_character(tmp_path: Path) -> None:
    """numpy's own texts drop a null character at the end, and two prompts would become one."""
    panel = build_panel(
        PanelRow(
            id=str(k),
            rewards=[1, 0],
            gold=[1, 0],
            lengths=[1, 1],
            cluster=c,
            strata={"s": c},
            gold_kind="label",
        )
        for k, c in enumerate(["a", "a\\x00", "b", "a"])
    )
    assert panel.cluster_names == ("a", "a\\x00", "b")
    assert panel.cluster.tolist() == [0, 1, 2, 0]
    found = measure_suite(panel, ["preference"], {"ties": "half"}, ["s"])
    assert set(found.strata["s"]) == {"a", "a\\x00", "b"}


@pytest.mark.parametrize(
    "change",
    [{"gold_kind": 0}, {"gold_kind": ""}, {"sampling": [1]}, {"sampling": "x"}, {"sampling": {"policy": 3}}],
)
def test_an_optional_key_of_another_type_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    rows = [{"id": "a", "prompt": "p", "responses": ["x", "y"], "gold": [1, 0], **change}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=f"key '{next(iter(change))}'"):
        read_task_items(load_task("bon"), tmp_path / "a.jsonl")
