"""Reading TensorBoard's event files: records of length, checksum, protobuf, checksum."""

import struct
from collections.abc import Iterator
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event


def scalars(folder: Path) -> Iterator[tuple[str, int]]:
    """Yield (name, step) of every scalar in the one event file of `folder`."""
    (path,) = folder.glob("events.out.tfevents.*")
    raw, at = path.read_bytes(), 0
    while at < len(raw):
        (length,) = struct.unpack_from("<Q", raw, at)
        event = Event.FromString(raw[at + 12 : at + 12 + length])
        yield from ((value.tag, event.step) for value in event.summary.value)
        at += 16 + length
