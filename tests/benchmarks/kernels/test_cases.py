"""What each case costs at least, what it checks, and how its calls are made."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dropdrift.benchmarks.kernels import calls
from dropdrift.benchmarks.kernels.cases import case as cases
from dropdrift.benchmarks.kernels.cases.case import Case, Cost, Result, sets_needed
from dropdrift.benchmarks.kernels.cases.denoiser import denoiser_case
from dropdrift.benchmarks.kernels.cases.mask_features import mask_features_case
from dropdrift.benchmarks.kernels.cases.mask_words import mask_words_case
from dropdrift.benchmarks.kernels.measure import floor_ms
from dropdrift.benchmarks.kernels.record import Ceilings, MatmulRate
from dropdrift.benchmarks.kernels.sizes import Size

CPU = torch.device("cpu")
SIZE = Size(rows=1_000, fields=40, width=16, hidden=32)
CEILINGS = Ceilings(2.0, (MatmulRate("float32", 0.5), MatmulRate("bfloat16", 0.001)))


@pytest.fixture(scope="module")
def denoiser() -> Case:
    return denoiser_case("denoiser", SIZE, "bfloat16", "relu", 7, CPU)


def test_the_denoisers_floor_worked_out_by_hand(denoiser: Case) -> None:
    """Two words a row, 8 bytes; z is 32 bytes a row; 2 bytes for each of 2,352 weights."""
    weights = 2 * (32 * 56 + 32 + 16 * 32 + 16)
    assert weights == 4_704
    forward = Cost(8_000 + 8_000 + 32_000 + 32_000 + 4_704, 2 * 1_000 * 32 * (56 + 16))
    # dW2, dh, dz_T and dW1: 16 + 16 + 16 + 56 columns by 32 units; words, z_T, dz_0' and dz_T.
    backward = Cost(8_000 + 3 * 32_000 + 2 * 4_704, 2 * 1_000 * 32 * 104)
    assert denoiser.cost("forward") == forward
    assert denoiser.cost("backward") == backward
    assert denoiser.cost("both") == Cost(198_112, 11_264_000)
    # 4.608 MFLOP at 1 GFLOP/s; 84,704 bytes at 2 GB/s would be 0.042 ms.
    assert floor_ms(forward, CEILINGS, "bfloat16") == pytest.approx(4.608)
    assert floor_ms(forward, CEILINGS, "float32") == pytest.approx(0.042352)


def test_the_floor_of_words_is_that_of_their_bytes() -> None:
    case = mask_words_case(SIZE, 7, CPU)
    assert case.cost("forward") == Cost(16_000, 0)
    assert floor_ms(case.cost("forward"), CEILINGS, case.shape.dtype) == pytest.approx(0.008)


def test_masking_reads_only_what_is_kept() -> None:
    case = mask_features_case(SIZE, "float32", 7, CPU)
    _, words, keep = case.inputs(0)
    kept = int(keep.sum())
    assert 0.3 < kept / 40_000 < 0.6
    expected = Cost(4 * (16 * kept + 1_000 * 40 * 16) + words.nbytes, 0)
    assert case.cost("forward") == case.cost("backward") == expected


def test_inputs_go_beyond_a_gpus_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    class Properties:
        L2_cache_size = 50_000_000

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Properties)
    gpu = torch.device("cuda")
    assert sets_needed(gpu, 30_000_000) == 4  # 120 MB for a cache of 50
    assert sets_needed(gpu, 10**9) == 1
    assert sets_needed(gpu, 100) == cases.MOST_SETS
    assert sets_needed(CPU, 100) == 1


def rotated(denoiser: Case) -> Case:
    """With three sets of inputs, as on a GPU."""
    return replace(denoiser, sets=3)


def test_calls_go_through_the_sets_of_inputs(denoiser: Case) -> None:
    seen = []

    def provider(number: int) -> Result:
        seen.append((number, torch.is_grad_enabled()))
        return Result(torch.zeros(1), torch.zeros(1))

    prepare = calls.preparation(rotated(denoiser), provider, "forward")
    for number in range(5):
        prepare(number)()
    assert seen == [(number, False) for number in (0, 1, 2, 0, 1)]


def test_the_forward_of_a_backward_alone_is_done_before(denoiser: Case) -> None:
    forwards = []
    eager = denoiser.provider("eager")

    def provider(number: int) -> Result:
        forwards.append(number)
        return eager(number)

    call = calls.preparation(denoiser, provider, "backward")(0)
    assert forwards == [0]
    gradients = call()
    assert isinstance(gradients, tuple)
    assert [g.shape for g in gradients] == [leaf.shape for leaf in denoiser.gradients.leaves(0)]
    assert forwards == [0]
    calls.preparation(denoiser, provider, "both")(0)()
    assert forwards == [0, 0]


def test_saved_is_what_a_backward_needs_beyond_the_inputs(denoiser: Case) -> None:
    """Of eager [s, z_T] and the hidden layer; relu keeps its result, which W2's product needs."""
    saved = calls.saved_bytes(denoiser, denoiser.provider("eager"))
    assert saved == 2 * 1_000 * (56 + 32)
    # Split, s and the hidden layer: z_T is an input.
    assert calls.saved_bytes(denoiser, denoiser.provider("eager-split")) == 2 * 1_000 * (40 + 32)
    # The words alone, where the hidden layer is computed again.
    assert calls.saved_bytes(denoiser, denoiser.provider("dropdrift-torch")) == 8_000
    kept = calls.saved_bytes(denoiser, denoiser.provider("dropdrift-torch-save"))
    assert kept == 8_000 + 2 * 1_000 * 32


@pytest.mark.parametrize("op", ["denoiser", "drop-and-denoise"])
@pytest.mark.parametrize("activation", ["relu", "silu", "gelu"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_who_computes_the_denoiser_passes(op, activation, dtype) -> None:
    torch.manual_seed(0)
    case = denoiser_case(op, Size(300, 33, 16, 48), dtype, activation, 7, CPU)
    for name in ("eager", "eager-split", "dropdrift-torch", "dropdrift-torch-save"):
        result, gradients = calls.results(case, case.provider(name), "both")
        verdict = case.verdict(name, result, gradients)
        assert not verdict.reason, (name, verdict)
        assert verdict.error > 0


def spoilt(tensor: Tensor, row: int) -> Tensor:
    tensor = tensor.detach().clone()
    tensor[row] = -tensor[row]
    return tensor


@pytest.mark.parametrize("which", range(5))
def test_a_wrong_gradient_is_found(denoiser: Case, which: int) -> None:
    result, gradients = calls.results(denoiser, denoiser.provider("eager"), "both")
    assert gradients is not None
    assert not denoiser.verdict("eager", result, gradients).reason
    wrong = [g.clone() for g in gradients]
    wrong[which] = spoilt(wrong[which], 3)
    name = ("dz_T", "dW1", "db1", "dW2", "db2")[which]
    assert denoiser.verdict("eager", result, tuple(wrong)).reason.startswith(f"{name}: ")


def test_a_wrong_row_of_the_output_is_found(denoiser: Case) -> None:
    result, _ = calls.results(denoiser, denoiser.provider("dropdrift-torch"), "forward")
    assert result.output is not None
    wrong = replace(result, output=spoilt(result.output, 999))
    assert denoiser.verdict("dropdrift-torch", wrong, None).reason.startswith("z_0': ")


def test_words_that_are_not_the_references_are_found(denoiser: Case) -> None:
    """One more field of one row dropped: as likely a mask, but not the one of this seed."""
    words = denoiser.provider("dropdrift-torch")(0).mask.clone()
    flag = 1 << int(torch.nonzero((words[5, 0] >> torch.arange(31)) & 1 == 0)[0])
    words[5, 0] |= flag
    wrong = Result(torch.zeros(1_000, 16), words)
    reason = denoiser.verdict("dropdrift-torch", wrong, None).reason
    assert reason == "mask: the words are not the reference's"
    words_case = mask_words_case(SIZE, 7, CPU)
    assert words_case.verdict("dropdrift-torch", Result(None, words), None).reason
    right = words_case.provider("dropdrift-torch")(0)
    assert not words_case.verdict("dropdrift-torch", right, None).reason


def test_masking_must_be_exact() -> None:
    case = mask_features_case(Size(64, 33), "bfloat16", 7, CPU)
    for name in ("eager", "dropdrift-torch"):
        result, gradients = calls.results(case, case.provider(name), "both")
        assert case.verdict(name, result, gradients) == cases.Verdict(0.0, 0.0)
        wrong = result.output.detach().clone()
        place = wrong[7].nonzero()[0]
        wrong[7, place] *= 1.01
        assert case.verdict(name, replace(result, output=wrong), None).reason.startswith("x_T: ")
        wrong = gradients[0].clone()
        wrong[7, (wrong[7] == 0).nonzero()[0]] = 1e-3
        assert case.verdict(name, result, (wrong,)).reason.startswith("dx_0: ")
