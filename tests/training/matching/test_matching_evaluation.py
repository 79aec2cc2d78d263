"""Evaluation of a trained run, against a slow reference and over several ranks."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from dropdrift.data.config import DataConfig, SequenceConfig
from dropdrift.data.interactions.loader import SequenceLoader
from dropdrift.data.loading.loader import Cursor
from dropdrift.data.schema import Schema
from dropdrift.models.config import ModelConfig
from dropdrift.models.matching.config import ItemConfig
from dropdrift.models.t2diff.config import DiffusionConfig, T2DiffConfig
from dropdrift.training.build import matching_model
from dropdrift.training.config import EvaluateConfig, LoopConfig, TrainConfig
from dropdrift.training.distributed import process_group
from dropdrift.training.evaluation import restore_model
from dropdrift.training.matching.catalogue import catalogue_vectors
from dropdrift.training.matching.evaluation import evaluate_matching
from dropdrift.training.matching.result import MatchingResult
from dropdrift.training.run_folder import RunFolder
from dropdrift.training.trainer import train

pytestmark = pytest.mark.timeout(200)

KINDS = ("sasrec", "t2diff")


@pytest.fixture(scope="module")
def configs(interactions_folder, tmp_path_factory) -> dict[str, TrainConfig]:
    """A trained run of each kind of model."""
    made = {}
    for kind in KINDS:
        made[kind] = TrainConfig(
            out=tmp_path_factory.mktemp("matching") / kind,
            data=DataConfig(
                interactions_folder,
                batch_size=16,
                sequence=SequenceConfig(window=16, stretch=16),
            ),
            model=ModelConfig(
                kind=kind,
                item=ItemConfig(width=16),
                t2diff=T2DiffConfig(diffusion=DiffusionConfig(steps=5, window=8, levels=2)),
            ),
            loop=LoopConfig(epochs=3, select_by="ndcg"),
        )
        train(made[kind], show_progress=False)
    return made


def evaluated(config: TrainConfig, **options) -> MatchingResult:
    result = evaluate_matching(EvaluateConfig(config.out, **options), config, show_progress=False)
    assert result is not None
    return result


def ranks_of(result: MatchingResult) -> list[tuple[int, int]]:
    assert result.ranks is not None
    columns = (result.ranks[name].to_pylist() for name in ("rank_all", "rank_unseen"))
    return list(zip(*columns, strict=True))


def slow_ranks(config: TrainConfig, noise_seed: int) -> list[tuple[int, int]]:
    """One row a batch and one item after the other."""
    schema = Schema.load(config.out)
    ranks = []
    with process_group(60) as process:
        data = dataclasses.replace(config.data, batch_size=1)
        loader = SequenceLoader(data.path, "test", schema, data, training=False)
        sharded = restore_model(RunFolder(config.out), schema, config, process)
        sharded.eval()
        model = matching_model(sharded)
        x, vectors = catalogue_vectors(model, loader.catalogue, process.device, rows=7)
        for row, batch in enumerate(loader.batches(Cursor())):
            user = model.user_vectors(x, batch, noise_seed)[0]
            scores = vectors.double() @ user.double()
            target = int(batch.targets[0, -1])
            had = set(loader.seen(row, 1)[1].tolist())
            ahead = [i for i in range(30) if i != target and scores[i] >= scores[target]]
            ranks.append((1 + len(ahead), 1 + sum(item not in had for item in ahead)))
    return ranks


@pytest.mark.parametrize("kind", KINDS)
def test_ranks_are_those_of_a_slow_reference(configs, kind):
    result = evaluated(configs[kind], batch_size=7, seed=3)
    assert ranks_of(result) == slow_ranks(configs[kind], 3)
    assert ranks_of(evaluated(configs[kind], batch_size=64, seed=3)) == ranks_of(result)


@pytest.mark.parametrize("kind", KINDS)
def test_validation_is_that_of_training(configs, kind):
    """The best checkpoint's, as the trainer has measured it."""
    config = configs[kind]
    outcome = json.loads((config.out / "result.json").read_text())
    result = evaluated(config, part="validation")
    measured = result.variants[0].among_unseen.as_numbers()
    assert {name: outcome["validation"][name] for name in measured} == pytest.approx(measured)
    assert (result.protocol, result.order, result.users, result.items) == (
        "standard",
        "time",
        40,
        30,
    )
    assert result.seed == config.loop.seed


def test_weights_of_transition_counts_are_measured_at_once(configs):
    config = configs["sasrec"]
    alone = evaluated(config)
    both = evaluated(config, transition_weights=(0.0, 5.0), noise_seeds=2)
    assert [(v.transition_weight, v.noise_seed) for v in both.variants] == [
        (0.0, 0),
        (5.0, 0),
        (0.0, 1),
        (5.0, 1),
    ]
    # SASRec draws no noise, and a weight of 0 is the model alone.
    assert both.variants[0].among_all == both.variants[2].among_all == alone.variants[0].among_all
    # What follows what is nearly all there is to be learned here.
    assert both.variants[1].among_all.mean_rank < alone.variants[0].among_all.mean_rank
    assert both.ranks is not None
    weights = both.ranks["transition_weight"].to_numpy()
    assert np.array_equal(weights, np.repeat([0.0, 5.0, 0.0, 5.0], 40))
    by_hand = both.ranks["rank_all"].to_numpy()[weights == 5.0][:40]
    assert both.variants[1].among_all.mean_rank == pytest.approx(by_hand.mean())


def test_noise_seeds_are_those_asked_for(configs):
    three = evaluated(configs["t2diff"], noise_seeds=3, seed=4)
    assert [v.noise_seed for v in three.variants] == [4, 5, 6]
    last = evaluated(configs["t2diff"], seed=6)
    assert last.variants[0].among_all == three.variants[2].among_all


def test_two_ranks_evaluate_as_one(configs, launch, tmp_path):
    config, out = configs["t2diff"], tmp_path / "two.json"
    one = evaluated(config, batch_size=12, part="validation", transition_weights=(0.5,))
    options = ["--batch-size", "12", "--part", "validation", "--transition-weights", "0.5"]
    where = ["--run-folder", config.out, "--out", out]
    done = launch(2, "-m", "dropdrift", "evaluate", *options, *where)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("Written to") == 1
    assert MatchingResult.load(out).variants == one.variants
    assert pq.read_table(tmp_path / "ranks-two.parquet") == one.ranks


def test_data_that_is_not_the_runs_is_refused(configs, write_interactions, tmp_path):
    other = write_interactions(tmp_path / "other", [[0, 1, 2, 3, 4, 5]] * 3, items=9)
    with pytest.raises(ValueError, match="is not what the model was trained for"):
        evaluated(configs["sasrec"], data=other)
    with pytest.raises(ValueError, match="is not there: give --data"):
        evaluated(configs["sasrec"], data=tmp_path / "nowhere")


def test_scores_that_are_not_finite_are_told(configs, monkeypatch):
    """As a run that has diverged would give."""
    from dropdrift.models.matching.model import MatchingModel

    vectors = MatchingModel.item_vectors
    monkeypatch.setattr(MatchingModel, "item_vectors", lambda self, x: vectors(self, x) / 0)
    with pytest.raises(ValueError, match="scores are not all finite"):
        evaluated(configs["sasrec"])
