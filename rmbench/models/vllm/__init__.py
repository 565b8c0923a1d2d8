"""Reward models run by vLLM."""

from rmbench.models import register_scheme

register_scheme(
    "vllm",
    rule="vllm:FOLDER, vllm:org/name or vllm:URL (a classifier run by vLLM)",
    patterns={
        "vllm:FOLDER|URL": "a sequence classifier run by vLLM, in this machine or behind a server",
    },
)("rmbench.models.vllm.load:load_vllm")
