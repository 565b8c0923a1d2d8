"""Reward models behind a server of SGLang."""

from rmbench.models import register_scheme

register_scheme(
    "sglang",
    rule="sglang:URL (a classifier behind a server of SGLang)",
    patterns={"sglang:URL": "a sequence classifier behind a server of SGLang (--is-embedding)"},
)("rmbench.models.sglang.load:load_sglang")
