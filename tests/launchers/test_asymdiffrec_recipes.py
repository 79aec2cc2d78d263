"""AsymDiffRec's recipes: the default's, the paper's, and the base that they are compared with."""

from __future__ import annotations

import dataclasses

import pytest

from dropdrift.launchers.options import find_recipe, load_config
from dropdrift.models.methods.config import AsymDiffRecConfig, BlockDropConfig
from dropdrift.training.config import RecipeConfig


def recipe(name: str) -> RecipeConfig:
    return load_config(RecipeConfig, find_recipe(name))


def test_the_default_recipe_is_the_defaults_of_the_options():
    assert recipe("asymdiffrec").model.asymdiffrec == AsymDiffRecConfig()


@pytest.mark.parametrize("name", ["asymdiffrec-paper", "asymdiffrec-paper-kuairand"])
def test_the_papers_recipe_is_the_papers_column(name):
    config = recipe(name).model
    assert config.method == "asymdiffrec"
    assert config.asymdiffrec == AsymDiffRecConfig(
        reconstruction_weight=1.0,
        auxiliary_weight=1.0,
        reconstruction_norm="sum",
        stop_gradient=False,
        max_drop_rate=1.0,
        drop_rate=None,
        serving="denoised",
        blocks=BlockDropConfig(user=0.0, item=0.0, identifiers=0.0),
    )


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("asymdiffrec", "dcnv2"),
        ("asymdiffrec-kuairand", "dcnv2-kuairand"),
        ("asymdiffrec-paper-kuairand", "dcnv2-kuairand"),
        ("asymdiffrec-demo", "dcnv2-demo"),
    ],
)
def test_a_recipe_and_its_base_differ_in_the_method_alone(name, base):
    ours, theirs = recipe(name), recipe(base)
    assert theirs.model.method == "base"
    model = dataclasses.replace(ours.model, method="base", asymdiffrec=theirs.model.asymdiffrec)
    assert dataclasses.replace(ours, model=model) == theirs
