"""The record of a full run."""

import pytest
import torch

from tokencache_core.schedules.run_record import RunRecorder


def test_the_recorder_keeps_each_step_once_and_tells_what_is_missing():
    recorder = RunRecorder((2.0, 1.0, 0.0), scale=lambda sigma: 0.5 * (sigma == 1.0))
    recorder.saw(torch.tensor([[4.0, 0.0]]), torch.tensor([[0.0, 0.0]]), 2.0)
    recorder.saw(torch.zeros(1, 2), torch.ones(1, 2), 1.5)  # between the steps
    assert not recorder.complete
    with pytest.raises(ValueError, match=r"steps \[1\]"):
        recorder.record(lambda sigma: sigma / 4)
    recorder.saw(torch.tensor([[0.0, 6.0]]), torch.tensor([[1.0, 3.0]]), 1.0)
    found = recorder.record(lambda sigma: sigma / 4)
    # directions (2, 0) and (-1, 3), of which the network was given (0, 0) and (0, 3)
    assert found.taus == (0.5, 0.25) and found.products.tolist() == [[[2.0, -1.0], [-1.0, 0.5]]]
    assert found.sigmas == (2.0, 1.0, 0.0) and found.scales == (0.0, 0.5)
