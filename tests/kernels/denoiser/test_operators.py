from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch
from torch import nn

from dropdrift.kernels.denoiser import Denoiser, denoise, drop_and_denoise, reference
from dropdrift.kernels.feature_dropout import drop_words, pack_words

KEY = {"seed": 2**63 + 11, "step": 5, "first_row": 1000}
OPERATORS = torch.ops.dropdrift
OURS = ["torch", "triton"]


def differentiated(function, problem):
    """Output and gradients of ``function(*leaves)``."""
    leaves = problem.leaves()
    out = function(*leaves)
    return (out.detach(), *torch.autograd.grad(out, leaves, problem.grad))


def call(problem, *leaves, **options):
    return denoise(problem.words, *leaves, activation=problem.activation, **options)


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize("save_hidden", [False, True])
@pytest.mark.parametrize("activation", reference.ACTIVATIONS)
@pytest.mark.parametrize("backend", [*OURS, "reference", ""])
def test_output_and_every_gradient(make_problem, backend, activation, save_hidden):
    options = {"backend": backend, "save_hidden": save_hidden}
    low = torch.float16 if backend == "triton" else torch.bfloat16
    for dtype in (torch.float32, low):
        problem = make_problem(257, 45, 24, 33, activation, dtype)
        problem.check(differentiated(lambda *t, p=problem: call(p, *t, **options), problem))


@pytest.mark.parametrize("backend", [*OURS, "reference"])
def test_zero_rows(make_problem, backend):
    problem = make_problem(0, 33, 16, 32)
    out, *gradients = differentiated(lambda *t: call(problem, *t, backend=backend), problem)
    assert out.shape == (0, 16)
    assert gradients[0].shape == (0, 16)
    for gradient, tensor in zip(gradients[1:], problem.floating[1:], strict=True):
        assert torch.equal(gradient, torch.zeros_like(tensor))


@pytest.mark.parametrize("backend", OURS)
def test_strides_do_not_matter(make_problem, backend):
    """Rows and columns of something larger, transposed weights, a gradient of one number."""
    problem = make_problem(70, 45, 24, 33)
    words = torch.cat([problem.words, problem.words + 1], dim=1)[:, : problem.words.shape[1]]
    noisy = torch.stack([problem.noisy, problem.noisy - 1], dim=2)[..., 0]
    weight1, weight2 = problem.weight1.T.contiguous().T, problem.weight2.T.contiguous().T
    assert not any(t.is_contiguous() for t in (words, noisy, weight1, weight2))
    strided = replace(problem, words=words, noisy=noisy, weight1=weight1, weight2=weight2)
    leaves = [t.detach().requires_grad_() for t in strided.floating]
    out = call(strided, *leaves, backend=backend)
    gradients = torch.autograd.grad(out.sum(), leaves)
    expected = replace(problem, grad=torch.ones_like(problem.grad))
    expected.check((out.detach(), *gradients))


@pytest.mark.parametrize("backend", [*OURS, "reference"])
@pytest.mark.parametrize("chance", [{}, {"max_rate": 0.4}, {"rate": 0.25}])
def test_words_and_denoiser_in_one(make_problem, backend, chance):
    problem = make_problem(130, 45, 24, 33, "silu")
    words = drop_words(problem.words, 45, **KEY, **chance)
    assert not torch.equal(words, problem.words)
    missing = torch.cat([problem.words, ~problem.words], dim=1)[:, : words.shape[1]]
    made = []

    def both(*leaves):
        options = {**KEY, **chance, "activation": "silu", "backend": backend}
        out, words = drop_and_denoise(missing, *leaves, **options)
        made.append(words)
        return out

    replace(problem, words=words).check(differentiated(both, problem))
    assert torch.equal(made[0], words)
    assert not made[0].requires_grad


def arguments(problem, operator):
    """Of the registered operator: as the public function would call it, and to be kept hidden."""
    hidden = torch.randn(len(problem.noisy), len(problem.bias1), generator=torch.manual_seed(0))
    leaves = problem.leaves()
    draw = (-7, 5, 1000, 0.5, None)
    return {
        "denoise": (problem.words, *leaves, "gelu", True),
        "drop_and_denoise": (problem.words, *leaves, *draw, "gelu", False),
        "denoise_backward": (problem.grad, *problem.tensors[:-1], hidden, "gelu"),
    }[operator]


@pytest.mark.parametrize("backend", OURS)
@pytest.mark.parametrize("operator", ["denoise", "drop_and_denoise", "denoise_backward"])
def test_registrations_are_sound(make_problem, operator, backend):
    problem = make_problem(40, 33, 16, 32)
    outcome = torch.library.opcheck(
        getattr(OPERATORS, operator).default, (*arguments(problem, operator), backend)
    )
    assert set(outcome.values()) == {"SUCCESS"}


@pytest.mark.parametrize(
    ("backend", "compiler"),
    [
        pytest.param(
            "",
            "inductor",
            marks=pytest.mark.skipif(not shutil.which("g++"), reason="torch compiles with g++"),
        ),
        ("", "aot_eager"),
        ("reference", "aot_eager"),
    ],
)
def test_compiled_whole_with_any_number_of_rows(make_problem, backend, compiler):
    def function(words, *leaves):
        return denoise(words, *leaves, activation="silu", backend=backend).square()

    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend=compiler)
    for rows in (3, 130):
        problem = make_problem(rows, 33, 16, 24, "silu", torch.float64)
        results = [
            differentiated(lambda *t, f=f, p=problem: f(p.words, *t), problem)
            for f in (compiled, function)
        ]
        for ours, eager in zip(*results, strict=True):
            torch.testing.assert_close(ours, eager)


def test_words_and_denoiser_in_one_compiled(make_problem):
    problem = make_problem(130, 33, 16, 24)

    def function(missing, step, *tensors):
        key = {**KEY, "step": step}
        out, words = drop_and_denoise(missing, *tensors, **key)
        return out * 2, words

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    for step in (5, 6, 7):
        out, words = compiled(problem.words, step, *problem.floating)
        expected = drop_words(problem.words, 33, **{**KEY, "step": step})
        assert torch.equal(words, expected)
        torch.testing.assert_close(out, 2 * denoise(words, *problem.floating))


def test_exported_with_any_number_of_rows(make_problem):
    denoiser = Denoiser(33, 16, 24, "gelu")
    first, second = make_problem(20, 33, 16, 24), make_problem(47, 33, 16, 24)
    rows = torch.export.Dim("rows", min=2, max=1000)
    program = torch.export.export(
        denoiser, (first.words, first.noisy), dynamic_shapes=({0: rows}, {0: rows})
    )
    assert OPERATORS.denoise.default in {node.target for node in program.graph.nodes}
    expected = denoiser(second.words, second.noisy)
    torch.testing.assert_close(program.module()(second.words, second.noisy), expected)


@pytest.mark.parametrize("backend", ["torch", "reference"])
def test_autocast_computes_in_its_type_and_keeps_the_weights_gradients(make_problem, backend):
    problem = make_problem(130, 45, 24, 33)
    leaves = problem.leaves()
    with torch.autocast("cpu", torch.bfloat16):
        out = call(problem, *leaves, backend=backend)
    assert out.dtype == torch.bfloat16
    gradients = torch.autograd.grad(out, leaves, problem.grad.to(torch.bfloat16))
    assert {g.dtype for g in gradients} == {torch.float32}
    low = problem.to(torch.bfloat16)
    expected = differentiated(lambda *t: call(low, *t, backend=backend), low)
    for ours, theirs in zip((out, *gradients), expected, strict=True):
        assert torch.equal(ours.to(torch.bfloat16), theirs)


def test_autocast_leaves_float64_alone_and_other_devices(make_problem):
    problem = make_problem(10, 33, 16, 32, dtype=torch.float64)
    with torch.autocast("cpu", torch.bfloat16):
        assert call(problem, *problem.floating).dtype == torch.float64
    problem = make_problem(10, 33, 16, 32)
    with torch.autocast("cuda", torch.float16, enabled=torch.cuda.is_available()):
        assert call(problem, *problem.floating).dtype == torch.float32


@pytest.mark.parametrize("backend", OURS)
def test_a_backward_under_autocast_is_in_the_forwards_type(make_problem, backend):
    problem = make_problem(130, 45, 24, 33)
    leaves = problem.leaves()
    out = call(problem, *leaves, backend=backend)
    with torch.autocast("cpu", torch.bfloat16):
        gradients = torch.autograd.grad(out, leaves, problem.grad)
    problem.check((out.detach(), *gradients))


def saved_bytes(function, *beyond):
    """Bytes of storage that the backward of ``function()`` keeps, other than of ``beyond``."""
    known = {tensor.untyped_storage().data_ptr() for tensor in beyond}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = function()
    assert out.requires_grad
    return sum(kept.values())


@pytest.mark.parametrize("backend", OURS)
def test_what_is_saved_for_the_backward(make_problem, backend):
    """At the paper's N = 200: words, 28 bytes a row; the hidden layer only if it is wanted."""
    rows, hidden = 64, 128
    problem = make_problem(rows, 200, 16, hidden, dtype=torch.float16)
    leaves = problem.leaves()

    def fused(save_hidden):
        options = {"save_hidden": save_hidden, "backend": backend}
        return drop_and_denoise(problem.words, *leaves, **KEY, **options)[0]

    assert saved_bytes(lambda: fused(False), *leaves) == 28 * rows
    assert saved_bytes(lambda: fused(True), *leaves) == (28 + 2 * hidden) * rows
    given = saved_bytes(lambda: call(problem, *leaves, backend=backend), *leaves, problem.words)
    assert given == 0
    plain = saved_bytes(lambda: call(problem, *leaves, backend="reference"), *leaves)
    assert plain >= 2 * (216 + hidden) * rows


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activation": "tanh"}, "activation is 'tanh', there are: 'relu', 'silu', 'gelu'"),
        ({"backend": "cuda"}, "backend is 'cuda'"),
        ({"words": torch.zeros(6, 1, dtype=torch.int32)}, r"words is torch.int32 \[6, 1\]"),
        ({"words": torch.zeros(6, 3, dtype=torch.int32)}, r"words is torch.int32 \[6, 3\]"),
        ({"words": torch.zeros(6, 2, dtype=torch.int64)}, r"words is torch.int64"),
        ({"words": torch.zeros(5, 2, dtype=torch.int32)}, "words has 5 rows, but noisy has 6"),
        ({"words": torch.zeros(6, 2, dtype=torch.int32, device="meta")}, "words is on meta"),
        ({"noisy": torch.zeros(6, 16, dtype=torch.int32)}, "noisy is torch.int32"),
        ({"noisy": torch.zeros(6, 2, 8)}, r"noisy is torch.float32 \[6, 2, 8\]"),
        ({"weight1": torch.zeros(32, 16)}, "at least one field"),
        ({"weight1": torch.zeros(49)}, "weight1 is torch.float32"),
        ({"weight1": torch.zeros(32, 49, dtype=torch.float16)}, "weight1 is torch.float16"),
        ({"bias1": torch.zeros(31)}, r"bias1 is torch.float32 \[31\] on cpu, must be \[32\]"),
        ({"weight2": torch.zeros(32, 16)}, r"weight2 is .* must be \[16, 32\]"),
        ({"weight2": torch.zeros(16, 32, device="meta")}, "weight2 is .* on meta, must be"),
        ({"bias2": torch.zeros(16, dtype=torch.float64)}, "bias2 is torch.float64"),
    ],
)
def test_mistakes_are_named(make_problem, change, message):
    problem = make_problem(6, 33, 16, 32)
    names = ("words", "noisy", "weight1", "bias1", "weight2", "bias2")
    given = {**dict(zip(names, problem.tensors, strict=True)), **change}
    with pytest.raises(ValueError, match=message):
        denoise(**given)
    given["missing"] = given.pop("words")
    with pytest.raises(ValueError, match=message.replace("words", "missing")):
        drop_and_denoise(**given, **KEY)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((513, 16, 32), "1 to 512 fields, not 513"),
        ((3, 15, 32), "16 to 256 width, not 15"),
        ((3, 257, 32), "16 to 256 width, not 257"),
        ((3, 16, 31), "32 to 1024 hidden units, not 31"),
    ],
)
def test_sizes_beyond_the_kernels_are_named_and_run_without_them(make_problem, sizes, message):
    problem = make_problem(5, *sizes)
    with pytest.raises(ValueError, match=message):
        call(problem, *problem.floating, backend="triton")
    problem.check(differentiated(lambda *t: call(problem, *t), problem))


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ({"rate": 1.5}, "rate is 1.5"),
        ({"max_rate": -1.0}, "max_rate is -1.0"),
        ({"seed": 2**64}, "seed is"),
        ({"step": 2**32}, "step is"),
        ({"first_row": 2**32 - 5}, "first_row is"),
    ],
)
def test_impossible_draws_are_named(make_problem, key, message):
    problem = make_problem(6, 33, 16, 32)
    with pytest.raises(ValueError, match=message):
        drop_and_denoise(*problem.tensors, **{**KEY, **key})


def test_the_reference_is_no_operator(make_problem):
    problem = make_problem(6, 33, 16, 32)
    with pytest.raises(ValueError, match="'reference'"):
        OPERATORS.denoise(*problem.tensors, "relu", False, "reference")


def test_learning_with_the_operator_and_with_the_reference():
    """Many steps of an optimizer end at the same weights."""
    generator = torch.manual_seed(0)
    words = pack_words(torch.rand(256, 45, generator=generator) < 0.4)
    noisy, target = (torch.randn(256, 8, generator=generator) for _ in range(2))
    ends = []
    for backend in ("torch", "reference"):
        torch.manual_seed(1)
        denoiser = Denoiser(45, 8, 16, backend=backend)
        optimizer = torch.optim.Adam(denoiser.parameters(), lr=0.01)
        for _ in range(50):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(denoiser(words, noisy), target)
            loss.backward()
            optimizer.step()
        ends.append([loss.detach(), *denoiser.parameters()])
    for ours, theirs in zip(*ends, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
