import os
import pickle

import numpy as np
import pytest

from tools.pickled_arrays import read_pickle_of_arrays


@pytest.mark.parametrize("protocol", [3, 4])
def test_arrays_of_numbers_are_read(protocol):
    content = {("a", "x"): np.arange(6.0).reshape(2, 3), ("b",): np.asfortranarray(np.arange(6).reshape(2, 3))}
    found = read_pickle_of_arrays(pickle.dumps(content, protocol=protocol))
    assert found.keys() == content.keys()
    for key, array in content.items():
        np.testing.assert_array_equal(found[key], array)
        assert found[key].dtype == array.dtype


class Evil:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("place", ["value", "key", "whole", "beside"])
def test_pickle_that_calls_anything_is_refused_and_nothing_runs(tmp_path, protocol, place):
    target = tmp_path / "made"
    for function, argument in ((os.mkdir, str(target)), (eval, f"__import__('os').mkdir({str(target)!r})")):
        evil = Evil(function, argument)
        content = {
            "value": {("a", "x"): evil},
            "key": {(evil,): np.ones(1)},
            "whole": evil,
            "beside": {("a", "x"): np.ones(1), ("b", "x"): [evil]},
        }[place]
        with pytest.raises(ValueError, match="refused this one: it asks for"):
            read_pickle_of_arrays(pickle.dumps(content, protocol=protocol))
    assert not target.exists()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (pickle.dumps({("a",): np.array([{}], dtype=object)}, protocol=4), "something other than numbers"),
        (pickle.dumps({("a",): np.array(["text"])}, protocol=4), "something other than numbers"),
        (pickle.dumps({"a": np.ones(2)}, protocol=4), "it has the key 'a'"),
        (pickle.dumps({("a",): 1.0}, protocol=4), "`a` is a float"),
        (pickle.dumps([1], protocol=4), "it holds a list"),
        (pickle.dumps({("a",): np.ones(2)}, protocol=4)[:-30], "refused"),
        (b"", "refused"),
        (b"cnumpy\nload\n(S'x'\ntR.", "it asks for `numpy.load`"),
        (b"cnumpy.core.multiarray\nscalar\n.", "it asks for `numpy.core.multiarray.scalar`"),
        (b"cnumpy\nndarray\n(I9\ntR.", "it holds a ndarray"),
        (b"(cnumpy.core.multiarray\n_reconstruct\nS'other'\n(I0\ntS'b'\ntR.", "refused"),
        (b"cnumpy\ndtype\n}S'__init__'\nI1\nsb.", "refused"),
        (b"Pother\n.", "refused"),
    ],
)
def test_pickle_of_anything_else_is_refused(data, reason):
    with pytest.raises(ValueError, match=f"expected a pickle of arrays .*{reason}"):
        read_pickle_of_arrays(data)


def test_refused_pickle_does_not_change_the_reader():
    with pytest.raises(ValueError, match="refused"):
        read_pickle_of_arrays(b"cnumpy\ndtype\n}S'code'\nI1\nsb.")
    content = {("a",): np.ones(2)}
    found = read_pickle_of_arrays(pickle.dumps(content, protocol=4))
    np.testing.assert_array_equal(found["a",], content["a",])
