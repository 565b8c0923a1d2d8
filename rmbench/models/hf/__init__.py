"""Hugging Face checkpoints as reward models. The schemes are declared here, so that listing them is light."""

from rmbench.models import register_scheme

register_scheme(
    "hf",
    rule="hf:FOLDER or hf:org/name@revision (a Hugging Face sequence classifier)",
    kind="pattern",
    patterns={
        "FOLDER": "a Hugging Face sequence classifier with one label, or a PEFT adapter of one",
        "org/name[@revision]": "the same, from the Hugging Face Hub",
    },
)("rmbench.models.hf.classifier:load_hf")

register_scheme(
    "dpo",
    rule="dpo:policy=PATH,ref=PATH (a language model's implicit reward)",
    patterns={
        "dpo:policy=P,ref=R": "a language model's implicit reward, with or without a reference",
    },
)("rmbench.models.hf.dpo:load_dpo")

register_scheme(
    "process",
    rule="process:FOLDER (a model that rates steps)",
    patterns={
        "process:FOLDER": "a process reward model, which rates steps: their values made one number",
    },
)("rmbench.models.hf.process:load_process")
