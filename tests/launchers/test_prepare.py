import dataclasses
import json
from typing import get_args, get_type_hints

import pytest

from dropdrift.data.adaptors.criteo import CriteoSource
from dropdrift.data.adaptors.kuairand import LABELS, KuaiRandSource
from dropdrift.data.adaptors.kuairand_interactions import KuaiRandInteractions
from dropdrift.data.adaptors.movielens import MovieLensSource
from dropdrift.data.adaptors.movielens_interactions import MovieLensInteractions
from dropdrift.data.synthetic import SyntheticSource
from dropdrift.launchers.prepare import LAYOUTS
from dropdrift.launchers.prepare_matching import MATCHING_LAYOUTS

DESCRIPTION = "{kind: interactions, name: shop, user: who, item: what, time: when, items: ITEMS}"
ITEMS = "{source: products.csv, item: code, title: name}"


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
    _check_agree(*LAYOUTS[layout], source, tmp_path)


@pytest.mark.parametrize(
    ("layout", "source"),
    [("kuairand", KuaiRandInteractions), ("movielens", MovieLensInteractions)],
)
def test_options_and_source_agree_for_matching(layout, source, tmp_path):
    _check_agree(*MATCHING_LAYOUTS[layout], source, tmp_path)


def _check_agree(options_type, make_source, source, tmp_path):
    names = {field.name for field in dataclasses.fields(options_type)}
    arguments = {"out": tmp_path} | ({"source": tmp_path} if "source" in names else {})
    made = make_source(options_type(**arguments))
    for field in dataclasses.fields(source):
        if field.default is not dataclasses.MISSING:
            assert field.name in names
            assert getattr(made, field.name) == field.default, field.name


@pytest.fixture
def shop(tmp_path):
    """The arguments that prepare a small table of interactions."""
    (tmp_path / "bought.csv").write_text("who,what,when\n1,a,5\n1,b,3\n2,c,1\n2,c,2\n")
    (tmp_path / "products.csv").write_text("code,name\na,Ale\nb,Bun\n")
    (tmp_path / "shop.yaml").write_text(DESCRIPTION.replace("ITEMS", ITEMS))
    source, description = tmp_path / "bought.csv", tmp_path / "shop.yaml"
    return ["table", "--source", source, "--description", description, "--out", tmp_path / "out"]


def test_a_table_is_prepared_for_matching(shop, succeed, tmp_path):
    ended = succeed("prepare", *shop, "--task", "matching")
    lines = [line for line in ended.output.splitlines() if line]
    assert lines == [
        f"{tmp_path / 'out'}: 2 users, 3 items, 4 interactions (50.000% of the pairs); sequences "
        "of 2 to 2, median 2; 1 fields",
        "items without side features, since they are not listed: 1",
    ]
    statistics = json.loads((tmp_path / "out" / "statistics.json").read_text())
    assert statistics["kind"] == "interactions"
    assert statistics["provenance"]["config"]["task"] == "matching"


def test_rows_that_were_set_aside_are_told(shop, succeed, tmp_path):
    with (tmp_path / "bought.csv").open("a") as stream:
        stream.write("3,,4\n3,a,soon\n")
    ended = succeed("prepare", *shop, "--task=matching", "--bad-rows", "quarantine")
    assert f"2 rows set aside, listed in {tmp_path / 'out' / 'quarantine.jsonl'}" in ended.output
    assert "2 users" in ended.output


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["--task", "matching", "--source", "none.csv"], "none.csv does not exist"),
        (
            ["--task", "ranking"],
            "shop.yaml: describes interactions, which are prepared by '--task matching'",
        ),
        (["--task", "retrieval"], "--task is 'retrieval', must be one of ranking, matching"),
        (["--task", "matching", "--tab", "1"], "unknown option --tab"),
    ],
)
def test_mistakes_are_one_line(changed, message, shop, mistake):
    assert message in mistake("prepare", *shop, *changed)


def test_a_layout_without_interactions_is_named(mistake, tmp_path):
    line = mistake("prepare", "criteo", "--task", "matching", "--out", tmp_path / "out")
    assert line == (
        "--task matching: layout 'criteo' has no interactions; there are: movielens, kuairand, "
        "table"
    )


def test_an_empty_table_is_told(shop, mistake, tmp_path):
    (tmp_path / "bought.csv").write_text("who,what,when\n")
    line = mistake("prepare", *shop, "--task", "matching")
    assert line == "data set 'shop' has no interaction"


@pytest.mark.parametrize("layout", MATCHING_LAYOUTS)
def test_the_help_is_that_of_the_task(layout, command):
    ended = command("prepare", layout, "--task", "matching", "--help")
    assert ended.code == 0
    assert f"dropdrift prepare {layout} --task matching" in " ".join(ended.output.split())
    assert ("--interaction" in ended.output) == (layout == "kuairand")
    assert "--task" in command("prepare", layout, "--help").output
    assert "--task matching" in command("prepare", "--help").output


def test_the_interactions_of_the_help_are_the_labels_of_the_log():
    options_type, _ = MATCHING_LAYOUTS["kuairand"]
    assert get_args(get_type_hints(options_type)["interaction"]) == LABELS
