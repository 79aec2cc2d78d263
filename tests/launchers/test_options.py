"""The command line's options and the configuration files."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dropdrift.launchers import options
from dropdrift.launchers.config_file import flag_of, options_of
from dropdrift.launchers.options import load_config, parse_config
from dropdrift.training.config import TrainConfig
from dropdrift.training.run_folder import save_config


@dataclass(frozen=True)
class Inner:
    """A section.

    Attributes:
        wait: Time between tries, in seconds.
        gate: Use the gate.
    """

    wait: float = 1.5
    gate: bool = True


@dataclass(frozen=True)
class Everything:
    """Every kind of option.

    Attributes:
        source: Folder to read.
        limit: Rows read; none: all.
        names: Names to keep.
        edges: Bucket edges.
        mode: How to fail.
        level: Level of detail.
    """

    source: Path
    limit: int | None = None
    names: tuple[str, ...] = ("a",)
    edges: tuple[float, ...] = ()
    mode: Literal["strict", "lenient"] = "strict"
    level: Literal[1, 2] = 1
    inner: Inner = field(default_factory=lambda: Inner(wait=9.0))

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 0:
            raise ValueError(f"limit is {self.limit}, must not be negative")


def parse(*arguments: str) -> Everything:
    return parse_config(Everything, arguments, prog="dropdrift try", description="Try.")


def parse_train(*arguments: str) -> TrainConfig:
    return parse_config(
        TrainConfig, arguments, prog="dropdrift train", description="Train.", recipe=True
    )


def test_without_arguments_the_defaults_hold() -> None:
    assert parse_train() == TrainConfig()


def test_overrides_of_every_form() -> None:
    config = parse_train(
        "--model.dcnv2.deep-widths", "512", "256", "--model.tasks", "click", "like",
        "--loop.epochs=3", "--data.batch_size", "64", "--resume",
        "--optimizer.learning-rate", "1e-4", "--sharding.types=row_wise", "--out", "runs/a b",
    )  # fmt: skip
    assert config.model.dcnv2.deep_widths == (512, 256)
    assert config.model.tasks == ("click", "like")
    assert (config.loop.epochs, config.data.batch_size, config.resume) == (3, 64, True)
    assert config.optimizer.learning_rate == 1e-4
    assert config.sharding.types == ("row_wise",)
    assert config.out == Path("runs/a b")


def test_a_tuple_may_be_empty_and_an_optional_none() -> None:
    assert parse("--source", "s", "--names", "--limit", "none") == Everything(Path("s"), None, ())
    assert parse("--source", "s", "--limit", "4", "--edges", "-1", "0.5").edges == (-1.0, 0.5)


def test_the_last_of_a_repeated_option_wins() -> None:
    assert parse("--source", "a", "--limit", "1", "--source", "b", "--limit=2").limit == 2
    assert not parse("--source=a", "--inner.no-gate", "--inner.gate", "--inner.no-gate").inner.gate
    assert parse("--source=a", "--no-inner.gate", "--inner.gate").inner.gate


def test_a_section_keeps_the_default_of_the_section_around_it() -> None:
    assert parse("--source", "a", "--inner.no-gate").inner == Inner(wait=9.0, gate=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--loop.epoch", "3"], r"unknown option --loop.epoch; did you mean --loop.epochs\?"),
        (["--batch-size", "3"], r"unknown option --batch-size; did you mean --data.batch-size\?"),
        (["--zzz"], "unknown option --zzz; dropdrift train --help lists them"),
        (["--loop.epochs", "many"], "--loop.epochs is 'many', must be a whole number"),
        (["--loop.epochs", "1.5"], "--loop.epochs is '1.5', must be a whole number"),
        (["--loop.epochs"], "--loop.epochs takes one value, found none"),
        (["--loop.epochs", "1", "2"], "--loop.epochs takes one value, found 2: 1 2"),
        (["--loop.timeout", "nan"], "--loop.timeout is nan, must be a finite number"),
        (["--loop.precision", "fp8"], "--loop.precision is 'fp8', must be one of fp32, bf16"),
        (["--model.dcnv2.deep-widths", "512", "x"], "deep-widths is 'x', must be a whole number"),
        (["--resume", "maybe"], "--resume is 'maybe', must be true or false"),
        (["--no-resume", "true"], "--no-resume takes no value, found 'true'"),
        (["train.yaml"], "unexpected argument 'train.yaml': options begin with --"),
        (["--loop.epochs", "0"], r"^loop.epochs is 0, must be positive$"),
        (["--recipe", "a", "b"], "--recipe takes one value, found 2: a b"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        parse_train(*arguments)
    assert "\n" not in str(error.value)


def test_a_missing_required_option_is_named() -> None:
    with pytest.raises(ValueError, match="required option --source is missing"):
        parse("--limit", "3")


@pytest.fixture
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of recipes in place of the packaged one."""
    (tmp_path / "small.yaml").write_text(
        "loop: {epochs: 7, seed: 3}\noptimizer:\n  learning_rate: 1e-2\nmodel: {tasks: [click]}\n"
    )
    (tmp_path / "other.yaml").write_text("")
    monkeypatch.setattr(options._RECIPES, "_folder", tmp_path)
    return tmp_path


def test_overrides_win_over_the_recipe_and_the_recipe_over_defaults(recipes: Path) -> None:
    for recipe in ("small", str(recipes / "small.yaml")):
        config = parse_train("--loop.seed", "5", "--recipe", recipe)
        assert (config.loop.epochs, config.loop.seed, config.loop.log_every) == (7, 5, 50)
        assert config.optimizer.learning_rate == 0.01
        assert config.model.tasks == ("click",)
    assert parse_train("--recipe=other") == TrainConfig()


def test_an_unknown_recipe_lists_those_there_are(recipes: Path) -> None:
    expected = (
        r"unknown recipe 'smal'; did you mean small\?; there are: other, small; or give a YAML"
    )
    with pytest.raises(ValueError, match=expected):
        parse_train("--recipe", "smal")
    with pytest.raises(ValueError, match=r"mine.yaml does not exist"):
        parse_train("--recipe", str(recipes / "mine.yaml"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("loop: {epoch: 3}", r"unknown key 'loop.epoch'; did you mean epochs\?"),
        ("optimiser: {}", r"unknown key 'optimiser'; did you mean optimizer\?"),
        ("loop: {epochs: three}", "loop.epochs is 'three', must be a whole number"),
        ("loop: {epochs: true}", "loop.epochs is True, must be a whole number"),
        (f"loop: {{timeout: {'9' * 400}}}", "loop.timeout is 9+, must be a finite number"),
        ("resume: 1", "resume is 1, must be true or false"),
        ("out: 3", "out is 3, must be text"),
        ("model: {tasks: click}", "model.tasks is 'click', must be a list"),
        ("loop: 3", "loop is 3, must be a mapping"),
        ("[1, 2]", r"the file is \[1, 2\], must be a mapping"),
        ("loop: {epochs: [", "is not valid YAML"),
        ("loop: !!python/object:os.system {}", "is not valid YAML"),
        ("\x00", "is not valid YAML"),
    ],
)
def test_a_bad_recipe_names_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"bad\.yaml.*{message}") as error:
        parse_train("--recipe", str(path))
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("recipes")
def test_a_value_that_the_configuration_refuses_names_the_recipe() -> None:
    with pytest.raises(ValueError, match=r"loop.epochs is 0, .* \(with recipe small\)"):
        parse_train("--recipe", "small", "--loop.epochs", "0")


def test_the_help_documents_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leave:
        parse_train("--help")
    assert leave.value.code == 0
    shown = capsys.readouterr().out
    words = " ".join(shown.replace("│", " ").split())
    for name in options_of(TrainConfig):
        assert f"{flag_of(name)}" in words
    assert "--recipe NAME|FILE" in words
    assert "Seconds that a rank waits for another one, to come and in every exchange" in words
    assert "optimizer options" in words


@pytest.mark.usefixtures("recipes")
def test_the_help_shows_what_a_recipe_sets(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_train("--recipe", "small", "--help")
    words = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "Passes over the training part. (default: 7)" in words
    assert "set before all others: other, small, or a YAML file" in words


def test_the_help_marks_required_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse("-h")
    words = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "Folder to read. (required)" in words
    assert "How to fail. (default: strict)" in words


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
paths = names.filter(lambda name: "\x00" not in name).map(Path)
numbers = st.floats(allow_nan=False, allow_infinity=False)
configs = st.builds(
    Everything,
    source=paths,
    limit=st.none() | st.integers(min_value=0),
    names=st.lists(names).map(tuple),
    edges=st.lists(numbers).map(tuple),
    mode=st.sampled_from(["strict", "lenient"]),
    level=st.sampled_from([1, 2]),
    inner=st.builds(Inner, wait=numbers, gate=st.booleans()),
)


@settings(deadline=None, max_examples=50)
@given(config=configs)
def test_a_configuration_comes_back_from_its_file(
    tmp_path_factory: pytest.TempPathFactory, config: Everything
) -> None:
    path = tmp_path_factory.getbasetemp() / "config.yaml"
    save_config(config, path)
    assert load_config(Everything, path) == config


@settings(deadline=None, max_examples=50)
@given(config=configs)
def test_a_configuration_comes_back_from_its_options(config: Everything) -> None:
    arguments = [
        f"--source={config.source}", f"--limit={config.limit}", f"--mode={config.mode}",
        f"--level={config.level}", f"--inner.wait={config.inner.wait!r}",
        f"--inner.gate={config.inner.gate}", "--edges", *map(repr, config.edges),
    ]  # fmt: skip
    assert parse(*arguments) == replace(config, names=("a",))


def test_the_resolved_training_configuration_comes_back(tmp_path: Path) -> None:
    config = parse_train("--loop.epochs", "3", "--model.tasks", "click", "--out", "runs/x")
    save_config(config, tmp_path / "config.yaml")
    assert load_config(TrainConfig, tmp_path / "config.yaml") == config


def test_load_config_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("limit: -1\nsource: s\n")
    with pytest.raises(ValueError, match=r"config.yaml: limit is -1, must not be negative"):
        load_config(Everything, path)
    with pytest.raises(ValueError, match=r"none.yaml does not exist"):
        load_config(Everything, tmp_path / "none.yaml")
    with pytest.raises(ValueError, match=r"cannot be read"):
        load_config(Everything, tmp_path)


@pytest.mark.parametrize("name", options.recipe_names())
def test_every_recipe_that_comes_with_the_package_can_be_read(name: str) -> None:
    assert isinstance(parse_train("--recipe", name), TrainConfig)
