import pytest
import torch

from dropdrift.models.config import DCNv2Config
from dropdrift.models.dcnv2 import CrossLayer, DCNv2


def test_full_cross_layer_is_equation_1():
    layer = CrossLayer(5, rank=0)
    x0, x = torch.randn(2, 3, 5, generator=torch.manual_seed(0))
    expected = x0 * (x @ layer.weight.weight.T + layer.weight.bias) + x
    torch.testing.assert_close(layer(x0, x), expected)


def test_low_rank_cross_layer_is_equation_2():
    layer = CrossLayer(5, rank=2)
    x0, x = torch.randn(2, 3, 5, generator=torch.manual_seed(0))
    into, out = layer.weight
    assert into.weight.shape == (2, 5)
    expected = x0 * (x @ into.weight.T @ out.weight.T + out.bias) + x
    torch.testing.assert_close(layer(x0, x), expected)


@pytest.mark.parametrize("structure", ["parallel", "stacked"])
@pytest.mark.parametrize("cross_rank", [0, 4])
@pytest.mark.parametrize(("cross_layers", "deep_widths"), [(2, (16, 8)), (0, (8,)), (3, ())])
def test_every_structure_gives_z_and_trains_all_its_parameters(
    structure, cross_rank, cross_layers, deep_widths
):
    config = DCNv2Config(structure, cross_layers, cross_rank, deep_widths, z_width=6)
    torch.manual_seed(0)
    extractor = DCNv2(12, config)
    z = extractor(torch.randn(4, 12))
    assert z.shape == (4, 6)
    z.square().sum().backward()
    for name, parameter in extractor.named_parameters():
        assert parameter.grad is not None, name


def test_rows_do_not_influence_each_other():
    torch.manual_seed(0)
    extractor = DCNv2(12, DCNv2Config(deep_widths=(16,)))
    rows = torch.randn(5, 12)
    torch.testing.assert_close(extractor(rows)[2:3], extractor(rows[2:3]))


def test_parallel_and_stacked_differ_in_what_the_deep_network_reads():
    parallel = DCNv2(12, DCNv2Config("parallel", deep_widths=(8,)))
    stacked = DCNv2(12, DCNv2Config("stacked", deep_widths=(8,)))
    assert parallel.project.in_features == 12 + 8
    assert stacked.project.in_features == 8


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"cross_layers": -1}, "cross_layers"),
        ({"z_width": 0}, "z_width"),
        ({"deep_widths": (8, 0)}, "deep_widths"),
        ({"cross_layers": 0, "deep_widths": ()}, "neither"),
    ],
)
def test_impossible_options_are_refused(options, name):
    with pytest.raises(ValueError, match=name):
        DCNv2Config(**options)
