import numpy as np

from crowdseg import rle
from crowdseg.metrics import inside


def test_points_in_a_region():
    region = np.zeros((4, 6), bool)
    region[1, 2:5] = True
    points = np.array([[2.0, 1.0], [4.4, 1.4], [4.6, 1.0], [2.0, 2.0], [-1.0, 1.0], [50.0, 1.0]])
    assert inside(points, [rle.from_mask(region)]).tolist() == [True, True, False, False, False, False]
    assert not inside(points, []).any()
    assert inside(np.zeros((0, 2)), [rle.from_mask(region)]).shape == (0,)
