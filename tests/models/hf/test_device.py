"""What the process does with memory it frees."""

import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from rmbench.models.hf.device import keep_freed_memory
kept = {keep} and keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        held = [torch.ones(10240, 1024) for _ in range(2)]  # of 40 MiB: above any threshold of its own
        del held
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(kept, faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="about glibc's allocator")
@pytest.mark.long
def test_freed_memory_is_not_given_back_to_be_cleared_again() -> None:
    def run(keep: bool) -> tuple[str, int]:
        command = [sys.executable, "-c", FAULTS.format(keep=keep)]
        kept, n = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        return kept, int(n)

    kept, few = run(keep=True)
    if kept == "False":
        pytest.skip("this library of C does not let its allocator be told")
    _, many = run(keep=False)
    pages = 20 * 80 * 2**20 // 4096
    assert few < pages / 50
    assert many > 10 * few  # or the system does not clear pages, and the option is needless
