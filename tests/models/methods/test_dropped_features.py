"""The controls: plain feature dropout, and feature-mask training."""

from __future__ import annotations

import torch

from dropdrift.kernels.feature_dropout import drop_words, mask_features
from dropdrift.models.losses import task_loss
from dropdrift.models.methods.config import FeatureDropoutConfig, FeatureMaskConfig
from dropdrift.models.methods.feature_dropout import FeatureDropout
from dropdrift.models.methods.feature_mask import FeatureMask

WIDTHS, SEED, STEP, FIRST = (4, 8, 4, 4, 8), 5, 3, 17


def dropped_loss(base, embedded, missing, labels, max_rate=1.0):
    words = drop_words(missing, 5, seed=SEED, step=STEP, first_row=FIRST, max_rate=max_rate)
    return task_loss(base.head(base.extract(mask_features(embedded, words, WIDTHS))), labels)


def test_feature_dropout_trains_on_the_forward_process_alone(batch):
    base, embedded, missing, labels = batch
    model = FeatureDropout(WIDTHS, FeatureDropoutConfig(max_drop_rate=0.6), SEED)
    total, parts = model.losses(base, embedded, missing, labels, STEP, FIRST)
    torch.testing.assert_close(total, dropped_loss(base, embedded, missing, labels, 0.6))
    assert parts["main"] == total


def test_feature_mask_trains_on_both_rows(batch):
    base, embedded, missing, labels = batch
    model = FeatureMask(WIDTHS, FeatureMaskConfig(weight=0.7), SEED)
    total, parts = model.losses(base, embedded, missing, labels, STEP, FIRST)
    main = task_loss(base.head(base.extract(embedded)), labels)
    masked = dropped_loss(base, embedded, missing, labels)
    torch.testing.assert_close(total, main + 0.7 * masked)
    torch.testing.assert_close(parts["masked"], masked.detach())
    assert model.serve(embedded, missing) is embedded
