"""Kernels that the tests start, which talk through files of sockets.

A kernel that talks over TCP is told five free ports before it runs; whatever takes one of them in between ends it ("Kernel died
before replying to kernel_info"). Two runs of notebooks beside each other do so once in a great many starts.
"""

import tempfile
import uuid
from pathlib import Path

from jupyter_client.manager import KernelManager
from traitlets import default


class PortlessKernelManager(KernelManager):
    """A kernel's manager as Jupyter's own, but for its transport."""

    @default("transport")
    def _by_files(self) -> str:
        return "ipc"

    @default("ip")
    def _named_shortly(self) -> str:
        """What the files' names begin with. A system takes about a hundred characters; Jupyter's own folder can be longer."""
        return str(Path(tempfile.gettempdir()) / f"kernel-{uuid.uuid4().hex}")
