"""Tiles: everybody in one of them, deep inside, and large enough to be seen."""

import numpy as np
import pytest

from crowdseg.masks.crowd import Crowd
from crowdseg.masks.tiles import HEAD, MAX_ZOOM, make_tiles

SIDE = 1024


def random_crowd(seed, size, number):
    generator = np.random.default_rng(seed)
    return Crowd.of(generator.uniform(0, 1, (number, 2)) * [size[1], size[0]], size)


def zoom(tile):
    return SIDE / max(span.stop - span.start for span in tile.window)


def depth(tile, points, size):
    """Distance to the nearest rim that cuts something off, as a share of the tile's side; below 0 outside."""
    rows, columns = tile.window
    x, y = points.T
    sides = [
        y - rows.start + 0.5 if rows.start else np.full(len(x), np.inf),
        x - columns.start + 0.5 if columns.start else np.full(len(x), np.inf),
        rows.stop - 0.5 - y if rows.stop < size[0] else np.full(len(x), np.inf),
        columns.stop - 0.5 - x if columns.stop < size[1] else np.full(len(x), np.inf),
    ]
    return np.min(sides, axis=0) * zoom(tile) / SIDE


@pytest.mark.parametrize(
    ("size", "number"), [((768, 1024), 3000), ((768, 1024), 400), ((300, 2400), 900), ((2000, 1500), 5000)]
)
def test_everybody_is_in_one_tile_deep_inside_and_large_enough(size, number):
    crowd = random_crowd(0, size, number)
    tiles = make_tiles(crowd, SIDE)
    assert np.array_equal(np.sort(np.concatenate([tile.people for tile in tiles])), np.arange(number))
    finest = max(MAX_ZOOM, SIDE / max(size))
    for tile in tiles:
        assert zoom(tile) <= finest
        assert np.median(2 * crowd.radii[tile.people]) * zoom(tile) >= HEAD or zoom(tile) == finest
        mine = depth(tile, crowd.points[tile.people], size)
        assert (mine >= 1 / 6 - 0.01).all()
        for other in tiles:
            assert (depth(other, crowd.points[tile.people], size) <= mine + 1e-9).all()


def test_large_heads_need_one_tile():
    crowd = random_crowd(1, (600, 800), 20)
    (tile,) = make_tiles(crowd, SIDE)
    assert tile.window == (slice(0, 600), slice(0, 800)) and len(tile.people) == 20


def test_an_image_smaller_than_the_finest_tile_is_one():
    assert len(make_tiles(random_crowd(2, (150, 160), 3000), SIDE)) == 1


def test_tiles_follow_the_density():
    """A dense half gets small tiles, a sparse half large ones."""
    generator = np.random.default_rng(3)
    dense, sparse = generator.uniform(0, 512, (3000, 2)), generator.uniform(0, 1, (60, 2)) * [512, 1024] + [1024, 0]
    crowd = Crowd.of(np.concatenate([dense, sparse]), (1024, 1536))
    tiles = make_tiles(crowd, SIDE)
    zooms = {index: zoom(tile) for tile in tiles for index in tile.people.tolist()}
    assert np.median([zooms[index] for index in range(3000)]) == MAX_ZOOM
    assert np.median([zooms[index] for index in range(3000, 3060)]) < MAX_ZOOM / 2


def test_no_more_tiles_than_the_finest_grid_has():
    """1024 x 768 at 4 x: tiles of 256 px that advance by two thirds."""
    crowd = random_crowd(4, (768, 1024), 6000)
    assert len(make_tiles(crowd, SIDE)) <= 6 * 5


def test_points_on_one_spot_are_together():
    crowd = Crowd.of(np.full((5000, 2), 40.0), (700, 900))
    (tile,) = make_tiles(crowd, SIDE)
    assert len(tile.people) == 5000 and zoom(tile) == MAX_ZOOM
