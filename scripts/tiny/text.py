"""The tokenizer of the small transformer: whole words without case, and marks for what that loses.

A small model learns "contains the word river" faster when `River` and `river` are one token: an upper-case
letter becomes a mark and its lower-case form, a line break becomes a mark, digits stand alone.
"""

import string
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

UPPER, LINE = "\u2191", "\u21b5"
_SPECIAL = ["[PAD]", "[UNK]", "[SEP]", "[EOS]"]
_MIN_COUNT = 3
TEMPLATE = "{% for turn in messages %}{{ turn.content }}{{ '[EOS]' if turn.role == 'assistant' else '[SEP]' }}{% endfor %}"


def make_tokenizer(texts: Iterable[str], vocabulary: int, folder: Path) -> PreTrainedTokenizerFast:
    """Make a WordPiece vocabulary from `texts`, the same for the same texts, and write the tokenizer into `folder`."""
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
    seen: Counter[str] = Counter()
    for text in texts:
        normal = core.normalizer.normalize_str(text)
        seen.update(word for word, _ in core.pre_tokenizer.pre_tokenize_str(normal))
    ids = {token: k for k, token in enumerate(_vocabulary(seen, vocabulary))}
    core.model = models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=60)
    core.add_special_tokens(_SPECIAL)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]", sep_token="[SEP]", eos_token="[EOS]",
        model_input_names=["input_ids", "attention_mask"], model_max_length=512, chat_template=TEMPLATE,
    )  # fmt: skip
    tokenizer.save_pretrained(folder)
    return tokenizer


def _vocabulary(seen: Counter[str], size: int) -> list[str]:
    """Return special tokens, characters, pieces of words and words; at most `size`, ties by the alphabet.

    The trainers of the library break ties at random.
    """
    starts, rest, characters = Counter[str](), Counter[str](), Counter[str]()
    for word, count in seen.items():
        for character in word:
            characters[character] += count
        for n in range(2, 5):
            starts[word[:n]] += 1
            rest.update(f"##{word[k : k + n]}" for k in range(1, len(word) - n + 1))
    alphabet = [c for c in _most(characters, 200) if c.isalpha()]
    tokens = [*_SPECIAL, *_most(characters, 200), *(f"##{c}" for c in alphabet)]
    tokens += [*_most(starts, size // 8), *_most(rest, size // 8)]
    known = set(tokens)
    words = [w for w in _most(seen, size) if w not in known and seen[w] >= _MIN_COUNT]
    return list(dict.fromkeys(tokens + words))[:size]


def _most(counts: Counter[str], n: int) -> list[str]:
    return sorted(counts, key=lambda key: (-counts[key], key))[:n]
