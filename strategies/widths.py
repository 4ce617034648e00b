"""Widths of nested models, all of whose layers a variant takes."""

from dataclasses import dataclass

import lora_lite as ll
from strategies.options import Options, accepts, menu, remembered

READOUT = 3


@dataclass(frozen=True)
class Widths:
    """Of the residual stream, the inner layers that go with it, and the readout."""

    width: int
    inners: tuple[int, ...]
    readout: int


@remembered
def nested_widths(variant: str, chosen: Options) -> tuple[Widths, ...]:
    """Widths with which the variant takes every layer, with these options, a rank included; the usual ones,
    and only where it takes none of those, others of its menu.
    """
    dims = menu(variant, tuple(option for option in chosen if option[0] != "r")).dims
    for widths, inners, readouts in (((4, 5, 8), (4, 6, 9), (READOUT, 4, 8)), (dims, dims, dims)):
        found = [w for width in widths if (w := _around(variant, chosen, width, inners, readouts))]
        if found:
            return tuple(found[:3])
    return ()


def _around(
    variant: str, chosen: Options, width: int, inners: tuple[int, ...], readouts: tuple[int, ...]
) -> Widths | None:
    def takes(d_in: int, d_out: int) -> bool:
        return accepts(variant, d_in, d_out, chosen)

    # A norm, a nonlinearity and rounding take directions from what calibration sees: a few are always left.
    if ll.VARIANTS[variant].needs_calibration and (dict(chosen).get("r") or 0) > min(READOUT, width - 1):
        return None
    readout = next((o for o in readouts if takes(width, o)), None)
    fits = tuple(i for i in inners if takes(width, i) and takes(i, width))
    return Widths(width, fits[:3], readout) if fits and readout is not None else None
