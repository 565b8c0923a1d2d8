"""`rmbench` with FSDP over CPU processes: accelerate itself shards on accelerators only."""

import sys
from typing import Any

import accelerate.state
from accelerate.utils import DistributedType

from rmbench.cli.main import run

_start = accelerate.state.AcceleratorState.__init__


def _start_sharded(self: Any, *args: Any, **options: Any) -> None:
    _start(self, *args, **options)
    if (plugin := options.get("fsdp_plugin")) is not None:
        accelerate.state.PartialState._shared_state["distributed_type"] = DistributedType.FSDP
        self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, plugin


accelerate.state.AcceleratorState.__init__ = _start_sharded  # type: ignore[method-assign]
sys.exit(run(sys.argv[1:]))
