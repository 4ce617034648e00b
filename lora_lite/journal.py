"""What merge writes over, kept so that it can be put back bit for bit."""

import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lora_lite.atomic import Step, at_once
from lora_lite.memory import raw

# Bytes. What is more goes into a temporary file without a name, which ends with the process however that
# ends: a large model is not held twice.
IN_MEMORY = 2**26


@dataclass(frozen=True)
class _Entry:
    """Tensors that are written over, where the journal has them, and what else is to be undone."""

    tensors: Sequence[Tensor]
    at: int
    back: Sequence[Step]


class Journal:
    """The old contents of tensors, one entry after the other.

    entries  what take_back() would put back. To clear the list is to say that all is done.
    """

    def __init__(self) -> None:
        self.entries: list[_Entry] = []
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115

    def keep(self, tensors: Iterable[Tensor], back: Sequence[Step]) -> None:
        """Before it is written over: what these tensors hold, and what else takes the writing back.

        Raises OSError where the folder for temporary files is full.
        """
        views = [tensor.detach() for tensor in tensors]
        at = self._file.seek(0, os.SEEK_END)
        try:
            for view in views:
                held = view.cpu().contiguous()
                self._file.write(raw(held))
            # Now, and not when it is read back and too late.
            self._file.flush()
        except OSError as error:
            place = tempfile.gettempdir()
            raise OSError(
                error.errno,
                f"merge keeps the weights that it writes over in {place} until it is done: {error.strerror}."
                " Nothing was merged. Set TMPDIR to a folder with room for the adapted layers' weights.",
            ) from error
        self.entries.append(_Entry(views, at, back))

    def close(self) -> None:
        """Give the room back."""
        self._file.close()

    def take_back(self) -> None:
        """Put everything back, the last entry first."""
        try:
            while self.entries:
                self._put_back(self.entries[-1])
        except KeyboardInterrupt:
            # An impatient second one. The first is on its way to whoever called merge: the weights come
            # first, and to put an entry back twice does no harm.
            self.take_back()

    def _put_back(self, entry: _Entry) -> None:
        self._file.seek(entry.at)
        steps: list[Step] = []
        for view in entry.tensors:
            held = torch.empty(view.shape, dtype=view.dtype)
            self._file.readinto(raw(held))
            steps.append((view.copy_, held))
        at_once([*steps, *entry.back, (self.entries.pop,)])
