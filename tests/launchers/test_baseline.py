"""``dropdrift baseline``, and what ``dropdrift evaluate`` does with a matching run's options."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from dropdrift.training.config import MAX_SEED, TrainConfig
from dropdrift.training.matching.result import MatchingResult
from dropdrift.training.run_folder import save_config


@pytest.mark.parametrize("name", ["popularity", "transitions"])
def test_a_baseline_is_measured_printed_and_written(succeed, interactions_folder, tmp_path, name):
    out = tmp_path / "made" / f"evaluation-{name}.json"
    ended = succeed(
        *("baseline", name, "--data.path", interactions_folder),
        *("--part", "validation", "--ks", "1", "10", "--out", out),
    )
    assert f"{name}: validation part, standard protocol, time order" in ended.output
    assert ended.output.endswith(f"Written to {out}\n")
    result = MatchingResult.load(out)
    assert (result.name, result.rows, result.variants[0].among_all.ks) == (name, 40, (1, 10))
    assert result.provenance["config"]["baseline"] == name
    assert pq.read_table(out.with_name(f"ranks-{name}.parquet")).num_rows == 40


def test_nothing_is_written_unless_asked_for(succeed, interactions_folder):
    before = set(interactions_folder.rglob("*"))
    ended = succeed("baseline", "popularity", "--data.path", interactions_folder)
    assert "Written" not in ended.output
    assert set(interactions_folder.rglob("*")) == before


def test_the_help_lists_baselines_and_their_options(succeed):
    assert "transitions" in succeed("baseline", "--help").output
    assert "--transition.decay" in succeed("baseline", "transitions", "--help").output
    assert "--transition.decay" not in succeed("baseline", "popularity", "--help").output


def test_a_baseline_that_there_is_not(mistake):
    assert mistake("baseline", "random") == (
        "unknown baseline 'random'; there are: popularity, transitions"
    )


def test_data_of_another_kind(mistake, prepared_folder):
    told = mistake("baseline", "popularity", "--data.path", prepared_folder)
    assert told == f"{prepared_folder} holds impressions: prepare it with --task matching"


def test_data_that_is_not_there(mistake, tmp_path):
    told = mistake("baseline", "popularity", "--data.path", tmp_path / "none")
    assert str(tmp_path / "none") in told


def test_users_who_have_too_few_interactions(mistake, interactions_folder):
    told = mistake(
        *("baseline", "popularity", "--data.path", interactions_folder),
        *("--data.sequence.min-interactions", "99"),
    )
    assert "no user has 99 interactions" in told


def test_a_part_without_rows(mistake, write_interactions, tmp_path):
    """With three interactions each, none is left of the training part to be predicted."""
    folder = write_interactions(tmp_path / "short", [[0, 1, 2], [1, 2, 0]])
    told = mistake(
        *("baseline", "popularity", "--data.path", folder, "--part", "train"),
        *("--data.sequence.min-interactions", "3"),
    )
    assert "no user has enough interactions for part 'train'" in told


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ks", "10", "5"], "ks is 10 5, must be positive whole numbers, ascending"),
        (["--ks"], "ks is empty, must be positive whole numbers, ascending"),
        (["--transition.decay", "0"], "transition.decay is 0.0, must be in (0, 1]"),
        (["--transition.distance", "0"], "transition.distance is 0, must be positive"),
    ],
)
def test_wrong_options_of_a_baseline(mistake, options, message):
    assert mistake("baseline", "transitions", *options) == message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ks", "0"], "ks is 0, must be positive whole numbers, ascending"),
        (
            ["--noise-seeds", "0"],
            f"noise_seeds is 0, must be positive and, added to seed, at most {MAX_SEED}",
        ),
        (
            ["--transition-weights", "-1"],
            "transition_weights is -1.0, must be different numbers that are not negative",
        ),
        (
            ["--transition-weights", "1", "1"],
            "transition_weights is 1.0 1.0, must be different numbers that are not negative",
        ),
        (
            ["--transition-weights"],
            "transition_weights is empty, must be different numbers that are not negative",
        ),
    ],
)
def test_wrong_options_of_an_evaluation(mistake, tmp_path, options, message):
    assert mistake("evaluate", "--run-folder", tmp_path, *options) == message


@pytest.mark.parametrize(
    "options",
    [
        ["--ks", "3"],
        ["--noise-seeds", "2"],
        ["--transition-weights", "0", "1"],
        ["--transition.decay", "0.5"],
    ],
)
def test_a_ranking_run_has_no_use_for_options_of_matching(
    mistake, tmp_path: Path, options: list[str]
) -> None:
    save_config(TrainConfig(), tmp_path / "config.yaml")
    flag = options[0].split(".")[0]
    assert mistake("evaluate", "--run-folder", tmp_path, *options) == (
        f"{flag} is for matching models, and {tmp_path} holds a ranking model"
    )
