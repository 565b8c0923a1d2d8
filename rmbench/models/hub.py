"""Whether the Hugging Face Hub answers: one request of seconds, before a library retries for a minute."""

import time

from rmbench.errors import first_line

PATIENCE_S = 5.0
"""Seconds of that request."""
_LASTS_S = 60.0
_told: dict[str, tuple[float, str]] = {}


def why_no_hub() -> str:
    """Return why the Hub cannot be asked, in a few words; empty if it answers. Known for a minute."""
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    address = constants.ENDPOINT
    at, why = _told.get(address, (0.0, ""))
    if not at or time.monotonic() - at > _LASTS_S:
        try:
            get_session().head(address, timeout=PATIENCE_S)
            why = ""
        except Exception as error:  # whatever the transport of the installed client raises
            why = f"{address} does not answer: {first_line(error)}"
        _told[address] = (time.monotonic(), why)
    return why
