"""`rmbench data`: counts against a recount by hand, each thing that spoils numbers, and what a model reads."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rmbench.cli.main import run

PLAIN = [
    {"prompt": f"What is the sum of {k} and one, please?", "chosen": f"{k + 1}" + "!" * (k % 2), "rejected": f"{k + 2}"}
    for k in range(30)
]  # fmt: skip


def write(path: Path, *rows: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def inspect(path: Path, capsys: pytest.CaptureFixture[str], *options: str) -> Any:
    code = run(["data", str(path), "--json", *options])
    told = capsys.readouterr()
    assert code == 0, told.err
    return json.loads(told.out)


def warnings(found: Any) -> dict[str, tuple[int, str]]:
    return {each["name"]: (each["n"], each["example"]) for each in found["warnings"]}


def test_counts_and_lengths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    again = {"prompt": PLAIN[0]["prompt"], "chosen": "one", "rejected": "two"}
    same = {"prompt": "Same?", "chosen": "x", "rejected": "x"}
    found = inspect(write(tmp_path / "x.jsonl", *PLAIN, again, same, {"prompt": "Q"}), capsys)
    (split,) = found["splits"]
    counts = {key: split[key] for key in ("rows", "items", "pairs", "responses", "prompts", "shared_prompts")}
    assert counts == {
        "rows": 33,
        "items": 31,
        "pairs": 31,
        "responses": 62,
        "prompts": 30,
        "shared_prompts": 1,
    }
    assert split["dropped"] == {"identical responses": 1, "missing key": 1}
    assert split["read_as"] == ["x.jsonl: 'chosen' is better than 'rejected'"]
    lengths = sorted(len(row["prompt"]) for row in [*PLAIN, again])
    told = split["characters"]["prompt"]
    assert told == {"n": 31, "median": lengths[15], "p95": lengths[29], "longest": lengths[-1]}
    assert split["characters"]["worse reply"]["longest"] == 3
    assert warnings(found) == {
        "pairs with identical sides": (1, "x.jsonl, line 32"),
        "rows that do not fit": (1, f"{tmp_path}/x.jsonl, line 33, key 'chosen': the key is missing"),
    }


SPOILED: dict[str, tuple[dict[str, Any], str]] = {
    "chatml": ({"rejected": "<|im_start|>assistant\nNo."}, "text that is templated already"),
    "mistral": ({"prompt": "[INST] Why? [/INST]"}, "text that is templated already"),
    "llama": ({"prompt": "<|start_header_id|>user<|end_header_id|>\n\nWhy?<|eot_id|>"}, "text that is templated already"),
    "gemma": ({"chosen": "<start_of_turn>model\nBecause."}, "text that is templated already"),
    "an end": ({"chosen": "Because.</s>"}, "text that is templated already"),
    "in a system message": (
        {"prompt": [{"role": "system", "content": "<<SYS>>x"}, {"role": "user", "content": "Why?"}]},
        "text that is templated already",
    ),
    "a transcript": ({"prompt": "Talk.\nUser: hello\nAssistant: hi\nUser: Why?"}, "a transcript in one turn"),
    "a transcript as the reply": ({"chosen": "Because.\n\nHuman: And?\n\nAssistant: So."}, "a transcript in one turn"),
    "a repeated prompt": (
        {"prompt": "Why is the sky blue today?", "chosen": "Why is the sky blue today? Light."},
        "replies that repeat their prompt",
    ),
    "an empty reply": ({"rejected": " \n"}, "replies without any text"),
    "a call with text": (
        {
            "chosen": [
                {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}
            ]
        },
        "arguments of calls as JSON text",
    ),
    "mojibake": ({"chosen": "It was a cafÃ© day"}, "broken encoding"),
    "mojibake of a dash": ({"chosen": "so â€” it is"}, "broken encoding"),
    "a lost sign": ({"chosen": "caf\ufffd"}, "broken encoding"),
    "another script": ({"chosen": "Потому что"}, "prompt and reply in different scripts"),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILED)
def test_what_spoils_numbers_is_found_with_its_line(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes, expected = SPOILED[name]
    row = {"prompt": "Why?", "chosen": "Because.", "rejected": "No."} | changes
    found = inspect(write(tmp_path / "x.jsonl", PLAIN[0], row), capsys)
    told = warnings(found)
    assert set(told) == {expected}
    assert told[expected][0] == 1
    assert "x.jsonl, line 2" in told[expected][1]
    assert all(each["advice"] for each in found["warnings"])


CLEAN = [
    "</s> ends a line in HTML: <s>this</s> is struck", "The user: a person. It is human.", "Ça va? Ãgil",
    "Assistant: I am one", "naïve café – “quoted”", "1 + 1 = 2", "List[INST]",
]  # fmt: skip


@pytest.mark.parametrize("text", CLEAN[:6])
def test_text_that_only_looks_like_it_is_left_alone(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"prompt": "Why?", "chosen": text, "rejected": "No."}
    assert warnings(inspect(write(tmp_path / "x.jsonl", row), capsys)) == {}


def test_twins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = {"prompt": "Why?", "chosen": "Because.", "rejected": "No."}
    turned = {"prompt": "Why?", "chosen": "No.", "rejected": "Because."}
    told = warnings(inspect(write(tmp_path / "x.jsonl", pair, pair, turned), capsys))
    assert told["items that stand twice"] == (1, "x.jsonl, line 2: Why?")
    assert told["pairs that stand in both orders"] == (1, "x.jsonl, line 3: Why?")


@pytest.mark.parametrize(("chosen", "side"), [("a much longer reply", "better"), ("x", "worse")])
def test_a_longer_side(chosen: str, side: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"prompt": f"Q{k}", "chosen": chosen, "rejected": "short one"} for k in range(20)]
    (warning,) = inspect(write(tmp_path / "x.jsonl", *rows), capsys)["warnings"]
    assert (warning["name"], warning["n"], warning["of"]) == ("one side is longer", 20, 20)
    assert warning["example"].startswith(f"the {side} reply; x.jsonl, line 1")
    assert not inspect(write(tmp_path / "y.jsonl", *rows[:19]), capsys)["warnings"]


@pytest.mark.parametrize(
    "names",
    [
        ("train.jsonl", "test.jsonl"),
        ("data/train-00000-of-00001.jsonl", "data/test_prefs-00000-of-00001.jsonl"),
    ],
)
def test_a_folder_with_several_splits(
    names: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "set" / names[0], *PLAIN)
    write(
        tmp_path / "set" / names[1],
        PLAIN[3] | {"chosen": "other"},
        {"prompt": "New?", "chosen": "a", "rejected": "b"},
    )
    found = inspect(tmp_path / "set", capsys)
    assert {split["split"]: split["items"] for split in found["splits"]} == {
        "train": 30, names[1].rpartition("/")[2].partition("-")[0].partition(".")[0]: 2,
    }  # fmt: skip
    assert [overlap["prompts"] for overlap in found["overlaps"]] == [1]
    assert warnings(found)["prompts of one split that are in another"][0] == 1


def test_pools_and_graded_gold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"prompt": "Why?", "responses": ["a", "bb", "ccc"], "scores": [1, 2, 3]}
    (split,) = inspect(write(tmp_path / "x.jsonl", row), capsys)["splits"]
    assert (split["pairs"], split["responses"], split["gold"]) == (0, 3, {"graded": 1})
    assert split["characters"]["reply"] == {"n": 3, "median": 2, "p95": 3, "longest": 3}


def test_nothing_that_fits_is_an_error_with_the_first_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "x.jsonl", {"foo": 1}, {"foo": 2})
    assert run(["data", str(path)]) == 2
    assert "line 1: no layout of preference data that is known" in capsys.readouterr().err
    assert run(["data", str(tmp_path / "none.jsonl")]) == 2
    assert "there is no such file or folder" in capsys.readouterr().err
    assert run(["data", str(path), "-M", "a=b"]) == 2
    assert "give --model MODEL with it" in capsys.readouterr().err


def test_columns_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "x.jsonl", {"ask": "Why?", "good": "a", "nasty": "b"})
    found = inspect(path, capsys, "-T", "columns=prompt:ask,chosen:good,rejected:nasty")
    assert found["splits"][0]["items"] == 1


THINKS = (
    "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'].split('</think>')[-1] }}"
    "{{ eos_token }}{% endfor %}"
)


def test_a_model_shows_what_it_reads(
    make_checkpoint: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tokens against the tokenizer's own, one conversation at a time."""
    from transformers import AutoTokenizer

    folder = make_checkpoint(template=THINKS)
    long = "the lazy dog " * 100
    rows = [
        {
            "prompt": "What is the capital of France?",
            "chosen": "<think>hm</think>Paris.",
            "rejected": "The fox.",
        },
        {"prompt": "Tell me all.", "chosen": long + "a", "rejected": long + "z"},
        {"prompt": "a", "chosen": f"b {long}", "rejected": f"c {long}"},
    ]
    found = inspect(write(tmp_path / "x.jsonl", *rows), capsys, "--model", str(folder), "--device", "cpu")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = []
    for row in rows:
        for side in ("chosen", "rejected"):
            turns = [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row[side]}]
            text = tokenizer.apply_chat_template(turns, tokenize=False)
            ids.append(tokenizer(text, add_special_tokens=False)["input_ids"])
    model = found["model"]
    most = model["max_length"]
    lengths = sorted(min(len(each), most) for each in ids)
    assert model["tokens"] == {"n": 6, "median": (lengths[2] + lengths[3]) / 2, "p95": most, "longest": most}
    assert model["cut"] == sum(len(each) > most for each in ids) == 4
    assert model["pairs_the_same"] == 1, "the two differ in their cut beginnings alone"
    assert [(s["response"], s["n_tokens"], s["is_cut"]) for s in model["items"]] == [
        (1, len(ids[0]), False), (2, len(ids[1]), False), (1, most, True), (2, most, True),
    ]  # fmt: skip
    assert model["items"][0]["text"] == tokenizer.decode(ids[0])
    assert {shown["read_at"] for shown in model["items"]} == {"</s>"}
    told = warnings(found)
    assert told["replies that the chat template changes"][0] == 1
    assert told["conversations that are cut"][0] == 4
    assert told["pairs that are the same after the cut"] == (
        1,
        told["pairs that are the same after the cut"][1],
    )
    assert run(["data", str(tmp_path / "x.jsonl"), "-m", str(folder), "--items", "1", "--device", "cpu"]) == 0
    text = capsys.readouterr().out
    assert f"reads at most {most} tokens; 4 of 6 conversations are cut" in text
    assert "the reward is read at '</s>'" in text
    assert "Paris." in text


def test_a_model_that_reads_characters_is_said_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "x.jsonl", *PLAIN)
    found = inspect(path, capsys, "--model", "length")
    assert found["splits"][0]["items"] == 30
    assert found["model"]["tokens"] is None
    assert run(["data", str(path), "--model", "length"]) == 0
    assert "length does not say which tokens it reads" in capsys.readouterr().out


def test_it_needs_no_torch(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", *PLAIN)
    code = (
        "import sys\nfrom rmbench.cli.main import run\n"
        f"assert run(['data', {str(path)!r}]) == 0\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
