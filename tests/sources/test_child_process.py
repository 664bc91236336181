"""Pipes of child processes."""

import subprocess
import sys

MANY = """
import os, resource
from streamtag.sources.child_process import can_read

most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 4096), most))
out, into = os.pipe()
os.dup2(out, 2000)  # select() takes numbers below 1024
print(can_read(2000, 0.0))
os.write(into, b"x")
print(can_read(2000, 30.0))
os.read(2000, 1)
os.close(into)
print(can_read(2000, 30.0))  # the end
"""


def test_a_pipe_may_have_any_number() -> None:
    done = subprocess.run([sys.executable, "-c", MANY], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["False", "True", "True"], done.stderr
