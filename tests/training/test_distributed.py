from __future__ import annotations

import pytest
import torch

from dropdrift.training.distributed import process_group


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with (
        pytest.raises(ValueError, match="process 1 of this machine has no GPU"),
        process_group(timeout=10),
    ):
        pass
