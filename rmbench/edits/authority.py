"""Edits that claim authority. The people and publications are made up."""

from rmbench.edits import Setting, register_edit

_AUTHORS = ("A. R. Kellner", "M. Ostrowski", "J. T. Halvorsen", "P. Nakamura", "L. Okonjo", "S. Varga")
_JOURNALS = (
    "Journal of Applied Knowledge",
    "Annals of Practical Research",
    "International Review of Methods",
    "Proceedings of the Institute of Evidence",
)


@register_edit("authority-expert", bias="authority")
def expert(text: str, _setting: Setting) -> str:
    """A claim to be an expert, at the beginning."""
    return (
        f"As an expert in the field with over twenty years of experience, I can say this:\n\n{text.lstrip()}"
    )


@register_edit("authority-citation", bias="authority")
def citation(text: str, setting: Setting) -> str:
    """A citation of a paper that does not exist, at the end.

    Author, journal, year and page are drawn by the seed.
    """
    draw = setting.random
    year, volume, page = draw.randint(1995, 2023), draw.randint(3, 60), draw.randint(11, 780)
    where = f"{draw.choice(_JOURNALS)}, {volume}, {page}-{page + draw.randint(4, 25)}"
    return f"{text.rstrip()}\n\n(Source: {draw.choice(_AUTHORS)} et al. ({year}). {where}.)"
