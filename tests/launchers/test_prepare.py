import dataclasses

import pytest

from dropdrift.data.adaptors.criteo import CriteoSource
from dropdrift.data.adaptors.kuairand import KuaiRandSource
from dropdrift.data.adaptors.movielens import MovieLensSource
from dropdrift.data.synthetic import SyntheticSource
from dropdrift.launchers.prepare import LAYOUTS


@pytest.mark.parametrize(
    ("layout", "source"),
    [
        ("kuairand", KuaiRandSource),
        ("criteo", CriteoSource),
        ("movielens", MovieLensSource),
        ("synthetic", SyntheticSource),
    ],
)
def test_options_and_source_agree(layout, source, tmp_path):
    """The options are written out, so that the help needs no adaptor: defaults stand twice."""
    options_type, make_source = LAYOUTS[layout]
    names = {field.name for field in dataclasses.fields(options_type)}
    arguments = {"out": tmp_path} | ({"source": tmp_path} if "source" in names else {})
    made = make_source(options_type(**arguments))
    for field in dataclasses.fields(source):
        if field.default is not dataclasses.MISSING:
            assert field.name in names
            assert getattr(made, field.name) == field.default, field.name
