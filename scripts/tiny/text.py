"""The tokenizer of the small transformer: whole words without case, and marks for what that loses.

A small model learns "contains the word river" faster when `River` and `river` are one token: an upper-case
letter becomes a mark and its lower-case form, a line break becomes a mark, digits stand alone.
"""

import string
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

UPPER, LINE = "\u2191", "\u21b5"
_SPECIAL = ["[PAD]", "[UNK]", "[SEP]", "[EOS]"]
TEMPLATE = "{% for turn in messages %}{{ turn.content }}{{ '[EOS]' if turn.role == 'assistant' else '[SEP]' }}{% endfor %}"


def make_tokenizer(texts: Iterable[str], vocabulary: int, folder: Path) -> PreTrainedTokenizerFast:
    """Learn a WordPiece vocabulary from `texts` and write the tokenizer into `folder`."""
    core = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=60))
    core.normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Replace("\n", f" {LINE} "),
            *(normalizers.Replace(c, f"{UPPER}{c.lower()}") for c in string.ascii_uppercase),
        ]
    )
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Split(Regex(f"[{UPPER}{LINE}]"), behavior="isolated"),
            pre_tokenizers.Punctuation(),
            pre_tokenizers.Digits(individual_digits=True),
        ]
    )
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary,
        min_frequency=3,
        special_tokens=_SPECIAL,
        limit_alphabet=200,
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]", sep_token="[SEP]", eos_token="[EOS]",
        model_input_names=["input_ids", "attention_mask"], model_max_length=512, chat_template=TEMPLATE,
    )  # fmt: skip
    tokenizer.save_pretrained(folder)
    return tokenizer
