"""From the options to the method."""

from __future__ import annotations

from typing import assert_never

from dropdrift.data.schema import Schema
from dropdrift.models.config import ModelConfig
from dropdrift.models.methods.asymdiffrec import AsymDiffRec
from dropdrift.models.methods.base_alone import BaseAlone
from dropdrift.models.methods.cdae import CDAE
from dropdrift.models.methods.diffrec import DiffRec
from dropdrift.models.methods.feature_dropout import FeatureDropout
from dropdrift.models.methods.feature_mask import FeatureMask
from dropdrift.models.methods.forward_process import blocks_of
from dropdrift.models.methods.method import Method
from dropdrift.models.methods.multivae import MultiVAE
from dropdrift.models.methods.self_supervised import SelfSupervised


def make_method(schema: Schema, config: ModelConfig, seed: int) -> Method:
    """The method of ``config.method``.

    Args:
        schema: fields and tables.
        config: the model's options.
        seed: the run's, for all that the method draws.
    """
    widths, z_width = schema.widths, config.dcnv2.z_width
    match config.method:
        case "base":
            return BaseAlone()
        case "asymdiffrec":
            blocks = blocks_of(schema, config.asymdiffrec.blocks)
            rates = tuple(field.missing_rate for field in schema.fields)
            return AsymDiffRec(widths, z_width, rates, config.asymdiffrec, seed, blocks)
        case "cdae":
            return CDAE(widths, z_width, config.cdae, seed)
        case "multivae":
            return MultiVAE(widths, z_width, config.multivae, seed)
        case "ssl":
            groups = tuple(field.group for field in schema.fields)
            return SelfSupervised(groups, widths, z_width, config.ssl, seed)
        case "diffrec":
            return DiffRec(z_width, config.diffrec, seed)
        case "feature_mask":
            blocks = blocks_of(schema, config.feature_mask.blocks)
            return FeatureMask(widths, config.feature_mask, seed, blocks)
        case "feature_dropout":
            blocks = blocks_of(schema, config.feature_dropout.blocks)
            return FeatureDropout(widths, config.feature_dropout, seed, blocks)
        case _:
            assert_never(config.method)
