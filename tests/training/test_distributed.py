from __future__ import annotations

import pytest
import torch

from dropdrift.training.distributed import Ranks, process_group


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with (
        pytest.raises(ValueError, match="process 1 of this machine has no GPU"),
        process_group(timeout=10),
    ):
        pass


def test_machines_have_as_many_ranks_each() -> None:
    assert Ranks(0, 6, 2, torch.device("cpu")).nodes == 3
    with pytest.raises(ValueError, match="3 ranks are not 2 on each machine"):
        _ = Ranks(0, 3, 2, torch.device("cpu")).nodes
