"""Find the things near a place, by cells.

Layer: state.  Threads: a grid belongs to the thread that owns the state.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from itertools import product
from math import floor
from typing import Generic, TypeVar

from hubthread.checks import check_number

__all__ = ["Grid"]

K = TypeVar("K", bound=Hashable)


class Grid(Generic[K]):
    """Places of a plane, sorted into square cells, for ``StateSync.views``.

    ::

        def logic(frame, arena):
            arena.grid.fill((key, each.x, each.y) for key, each in arena.players.items())

        def near(ctx, arena):
            me = arena.players.get(ctx.connection_id)
            return arena.grid.near(me.x, me.y, 300) if me else ()

    :param cell: the side of a cell.  The radius of a view is a good size.
    :raises SettingError: for a side that is not above zero.
    """

    def __init__(self, cell: float) -> None:
        check_number("cell", cell, 0)
        self._cell = cell
        self._cells: dict[tuple[int, int], list[tuple[K, float, float]]] = {}

    def fill(self, places: Iterable[tuple[K, float, float]]) -> None:
        """Replace all places.

        :param places: the key, x and y of each place.
        """
        cells: dict[tuple[int, int], list[tuple[K, float, float]]] = {}
        size = self._cell
        for place in places:
            key = floor(place[1] / size), floor(place[2] / size)
            found = cells.get(key)
            if found is None:
                cells[key] = [place]
            else:
                found.append(place)
        self._cells = cells

    def near(self, x: float, y: float, radius: float) -> list[K]:
        """Return the keys of the places at most ``radius`` away from ``x`` and ``y``."""
        size, cells, most = self._cell, self._cells, radius * radius
        wide = 2 * (radius / size + 1)
        found: Iterable[list[tuple[K, float, float]]]
        if wide * wide > len(cells):  # fewer cells have places than the view has cells
            found = cells.values()
        else:
            columns = range(floor((x - radius) / size), floor((x + radius) / size) + 1)
            rows = range(floor((y - radius) / size), floor((y + radius) / size) + 1)
            found = [cells[cell] for cell in product(columns, rows) if cell in cells]
        keys = []
        for places in found:
            for key, to_x, to_y in places:
                if (to_x - x) ** 2 + (to_y - y) ** 2 <= most:
                    keys.append(key)
        return keys
