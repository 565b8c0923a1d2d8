"""Attention: torch's kernel and plain matrix products, against the formula in double precision."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rmbench.models.hf import attention as hf_attention
from rmbench.models.hf import device as hf_device
from rmbench.models.hf.attention import PRODUCTS, attention
from rmbench.models.hf.classifier import load_hf
from rmbench.models.runtime import Runtime
from rmbench.types import Turn


def formula(q: Any, k: Any, v: Any, mask: Any, causal: bool, scale: float | None) -> Any:
    """softmax(scale q k' + mask) v, a head at a time."""
    out = torch.empty(q.shape, dtype=torch.float64)
    repeats = q.shape[1] // k.shape[1]
    for n in range(q.shape[0]):
        for h in range(q.shape[1]):
            own = h // repeats
            scores = q[n, h].double() @ k[n, own].double().T
            scores = scores * (q.shape[3] ** -0.5 if scale is None else scale)
            if mask is not None:
                scores = scores + mask[n, 0].double()
            if causal:
                scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), float("-inf"))
            out[n, h] = scores.softmax(-1) @ v[n, own].double()
    return out


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(
        st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(1, 9), st.integers(1, 40),
        st.sampled_from((4, 16)),
    ),
    kind=st.sampled_from(("plain", "mask", "causal")),
    scale=st.sampled_from((None, 0.2)),
    dtype=st.sampled_from((torch.float32, torch.bfloat16)),
    cells=st.sampled_from((1, 200, 300_000)),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_attention_is_the_formula(
    shape: Any, kind: str, scale: float | None, dtype: Any, cells: int, seed: int
) -> None:
    n, own, repeats, n_queries, n_keys, width = shape
    n_keys = n_queries if kind == "causal" else n_keys
    rng = torch.Generator().manual_seed(seed)
    q, k, v = (
        torch.randn(n, heads, length, width, generator=rng).to(dtype)
        for heads, length in ((own * repeats, n_queries), (own, n_keys), (own, n_keys))
    )
    mask = None
    if kind == "mask":
        hidden = torch.rand(n, 1, n_queries, n_keys, generator=rng) < 0.3
        hidden[..., 0] = False
        mask = torch.zeros(hidden.shape, dtype=dtype).masked_fill_(hidden, float("-inf"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hf_attention, "CELLS_AT_ONCE", cells)
        patch.setattr(hf_device, "cpu_multiplies_bfloat16", lambda: True)
        found = attention(q, k, v, mask, causal=kind == "causal", scale=scale)
    assert found.dtype == dtype
    gap = (found.double() - formula(q, k, v, mask, kind == "causal", scale)).abs().max()
    assert gap < (1e-5 if dtype == torch.float32 else 0.06)


@pytest.fixture
def with_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every processor can compute in bfloat16; those without instructions are only slower."""
    monkeypatch.setattr(hf_device, "cpu_multiplies_bfloat16", lambda: True)


TALK = [
    (Turn(role="user", content="Say one thing about rain."), Turn(role="assistant", content=reply))
    for reply in ("Rain is wet.", "It falls from clouds, mostly in autumn, and rivers carry it away.", "No.")
]


@pytest.mark.usefixtures("with_instructions")
def test_an_encoder_in_bfloat16_attends_by_products_and_scores_as_with_torchs_kernel(
    make_checkpoint: Callable[..., Path],
) -> None:
    folder = make_checkpoint("bert", template=None)

    def rewards(dtype: Any, attn: Any) -> list[float]:
        model = load_hf(str(folder), runtime=Runtime(device="cpu", offline=True, dtype=dtype), attn=attn)
        is_ours = model.fingerprint()["attention"] == PRODUCTS
        assert is_ours == (dtype == "bfloat16" and attn == "auto")
        return [scored.reward for scored in model.score(TALK)]

    exact = rewards("float32", "auto")
    assert len(set(exact)) == 3
    assert rewards("bfloat16", "auto") == pytest.approx(exact, abs=0.03)
    assert rewards("bfloat16", "sdpa") == pytest.approx(exact, abs=0.03)
    assert rewards("float32", "sdpa") == exact


@pytest.mark.usefixtures("with_instructions")
def test_products_leave_what_they_do_not_know_to_torchs_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setitem(
        hf_attention.transformers.AttentionInterface._global_mapping, "sdpa",
        lambda *_, **more: asked.append(more) or ("theirs", None),
    )  # fmt: skip
    module, x = torch.nn.Module(), torch.zeros(1, 2, 3, 4, dtype=torch.bfloat16)
    assert hf_attention.attend_with_products(module, x, x, x, None, position_bias=x)[0] == "theirs"
    assert hf_attention.attend_with_products(module, x, x, x, None, is_causal=True)[0] == "theirs"
    assert asked[0]["position_bias"] is x
    assert asked[1]["is_causal"] is True
    assert hf_attention.attend_with_products(module, x, x, x, None)[0].shape == (1, 3, 2, 4)


@pytest.mark.slow
@pytest.mark.usefixtures("with_instructions")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own compiler
@pytest.mark.parametrize(("arch", "dtype"), [("llama", "float32"), ("bert", "float32"), ("bert", "bfloat16")])
def test_a_compiled_model_gives_the_same_rewards(
    make_checkpoint: Callable[..., Path], arch: str, dtype: Any
) -> None:
    folder, runtime = make_checkpoint(arch), Runtime(device="cpu", offline=True, dtype=dtype)
    plain, compiled = (load_hf(str(folder), runtime=runtime, torch_compile=c) for c in (False, True))
    assert compiled.fingerprint() != plain.fingerprint()
    for batch in (TALK, TALK[:1], TALK[::-1]):
        found, expected = ([s.reward for s in model.score(batch)] for model in (compiled, plain))
        assert found == pytest.approx(expected, abs=1e-5 if dtype == "float32" else 0.06)
    assert compiled.joint_length(TALK) == plain.joint_length(TALK)


@pytest.mark.slow
def test_without_a_compiler_a_compiled_model_is_refused_in_one_line(
    make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    env = os.environ | {"CXX": str(tmp_path / "none"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-m", "rmbench", "eval", "--model", f"hf:{make_checkpoint('llama')}", "-M",
         "torch_compile=yes", "--task", "preference", "--results", str(tmp_path / "results")],
        env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "torch cannot compile it here" in done.stderr
    assert not (tmp_path / "results").exists()
