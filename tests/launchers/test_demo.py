from pathlib import Path

import pytest

from dropdrift.launchers import bench, demo
from dropdrift.training.result import EvaluationResult


@pytest.mark.timeout(200)
def test_the_demonstration_compares_both_models(tmp_path: Path, capsys) -> None:
    out = tmp_path / "demo"
    assert demo.run(["--out", str(out), "--rows", "8000", "--seeds", "1"]) == 0
    printed = capsys.readouterr().out
    assert "collect, complete rows" in printed
    assert "50% of fields" in printed
    assert "true probabilities reaches AUC 0.8" in printed
    results = [
        EvaluationResult.load(out / model / "seed-1" / "evaluation-test.json")
        for model in demo.MODELS
    ]
    base, asymdiffrec = (result.tasks["collect"].complete for result in results)
    assert base.rows == asymdiffrec.rows == 800
    assert base.auc != asymdiffrec.auc
    assert "<svg" in (out / "report.html").read_text()


@pytest.mark.timeout(200)
def test_the_benchmark_times_both_models_and_the_loader(prepared_folder, tmp_path, capsys) -> None:
    result = tmp_path / "costs.json"
    options = ["--data", str(prepared_folder), "--steps", "3", "--repetitions", "2"]
    options += ["--method", "multivae"]
    recipe = tmp_path / "small.yaml"
    recipe.write_text("data: {batch_size: 64}\nmodel: {dcnv2: {deep_widths: [16]}}\n")
    assert (
        bench.run(["training-step", *options, "--recipe", str(recipe), "--out", str(result)]) == 0
    )
    printed = capsys.readouterr().out
    assert "multivae" in printed
    assert "ratio" in printed
    assert '"loader_ratio"' in result.read_text()
    assert '"method": "multivae"' in result.read_text()
    with pytest.raises(ValueError, match="steps is 500"):
        bench.run(["--data", str(prepared_folder), "--steps", "500", "--recipe", str(recipe)])
