"""What workers are given comes out as it went in, and nothing else is unpickled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, scalar_dtypes

from analysis.engine.parcels import forget, pack
from probes.schema import Array

AS_THEY_LIE = (lambda array: array, np.asfortranarray, lambda array: array[::2], lambda array: array[:0])


@given(array=arrays(scalar_dtypes().map(lambda dtype: dtype.newbyteorder("=")), array_shapes(max_dims=2)), how=st.permutations(AS_THEY_LIE))
def test_arrays_come_out_as_they_went_in(array: Array, how: list, tmp_path_factory: pytest.TempPathFactory) -> None:  # type: ignore[type-arg]
    folder = tmp_path_factory.mktemp("parcels")
    what = {"some": [each(array) for each in how], "other": array}
    found = pack(what, folder, "arrays").content()
    for one, other in zip([*what["some"], what["other"]], [*found["some"], found["other"]], strict=True):
        np.testing.assert_array_equal(one, other)
        assert (one.dtype, one.flags.writeable) == (other.dtype, other.flags.writeable)


def test_two_that_differ_in_arrays_alone_are_two(tmp_path: Path) -> None:
    for number in (23, 101):
        assert pack(np.full(1000, number), tmp_path, "array").content()[-1] == number


def test_what_a_process_writes_there_is_its_own(tmp_path: Path) -> None:
    parcel = pack(np.zeros(1000), tmp_path, "array")
    parcel.content()[:] = 23
    forget()
    assert not parcel.content().any()


def test_what_others_wrote_is_not_unpacked(tmp_path: Path) -> None:
    parcel = pack({"flows": 23}, tmp_path, "flows")
    assert parcel.content() == {"flows": 23}
    again = pack({"flows": 101}, tmp_path, "other")
    for content in (parcel.path.read_bytes(), b""):
        again.path.write_bytes(content)
        with pytest.raises(OSError, match="is not what was written there"):
            again.content()
