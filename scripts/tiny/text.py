"""The tokenizer of the small transformer: whole words without case, and marks for what that loses.

A small model learns "contains the word river" faster when `River` and `river` are one token: an upper-case
letter becomes a mark and its lower-case form, a line break becomes a mark, digits stand alone.
"""

import string
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

UPPER, LINE = "\u2191", "\u21b5"
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


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
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", core.token_to_id("[CLS]")), ("[SEP]", core.token_to_id("[SEP]"))],
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"], model_max_length=384,
    )  # fmt: skip
    tokenizer.save_pretrained(folder)
    return tokenizer
