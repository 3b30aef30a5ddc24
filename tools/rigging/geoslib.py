"""basemap's `_geoslib` over shapely.

basemap has no wheel for Linux on aarch64, and this is all of it that is compiled. Put in its place in the
channel's package for that platform; never imported by the rig.
"""

from typing import Any

import numpy
import shapely


class BaseGeometry:
    """A geometry and the coordinates it was made of: an array of two columns."""

    def __init__(self, coordinates: Any) -> None:
        self.boundary = numpy.array(coordinates, dtype=float)
        self.geometry = self._made_of(self.boundary)

    def is_valid(self) -> bool:
        return bool(shapely.is_valid(self.geometry))

    def geom_type(self) -> str:
        return str(self.geometry.geom_type)

    def within(self, other: "BaseGeometry") -> bool:
        return bool(shapely.within(self.geometry, other.geometry))

    def intersects(self, other: "BaseGeometry") -> bool:
        return bool(shapely.intersects(self.geometry, other.geometry))

    def intersection(self, other: "BaseGeometry") -> list["BaseGeometry"]:
        return _wrapped(shapely.intersection(self.geometry, other.geometry))

    def union(self, other: "BaseGeometry") -> "BaseGeometry":
        return _largest(shapely.union(self.geometry, other.geometry))

    def simplify(self, tolerance: float) -> "BaseGeometry":
        return _largest(shapely.simplify(self.geometry, tolerance, preserve_topology=True))

    def fix(self) -> "BaseGeometry":
        return _largest(shapely.buffer(self.geometry, 0))

    @staticmethod
    def _made_of(coordinates: Any) -> Any:
        raise NotImplementedError

    def area(self) -> float:
        return float(shapely.area(self.geometry))

    def get_coords(self) -> tuple[Any, ...]:
        return tuple(self.boundary.T)


class Polygon(BaseGeometry):
    @staticmethod
    def _made_of(coordinates: Any) -> Any:
        return shapely.polygons(coordinates)


class LineString(BaseGeometry):
    @staticmethod
    def _made_of(coordinates: Any) -> Any:
        return shapely.linestrings(coordinates)

    def fix(self) -> BaseGeometry:
        return self


class Point(BaseGeometry):
    @staticmethod
    def _made_of(coordinates: Any) -> Any:
        return shapely.points(coordinates)


def _wrapped(geometry: Any) -> list[BaseGeometry]:
    """The polygons and lines of a result; points are of no use to a map."""
    kinds: dict[str, type[BaseGeometry]] = {
        "Polygon": Polygon,
        "LineString": LineString,
        "LinearRing": LineString,
    }
    found: list[BaseGeometry] = []
    for part in shapely.get_parts(geometry):
        if part.geom_type in ("GeometryCollection", "MultiPolygon", "MultiLineString"):
            found += _wrapped(part)
        elif part.geom_type in kinds and not part.is_empty:
            ring = shapely.get_exterior_ring(part) if part.geom_type == "Polygon" else part
            found.append(kinds[part.geom_type](shapely.get_coordinates(ring)))
    return found


def _largest(geometry: Any) -> BaseGeometry:
    return max(_wrapped(geometry), key=lambda part: (part.area(), len(part.boundary)))
