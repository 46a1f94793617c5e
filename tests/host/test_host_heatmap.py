"""Cache Heatmap Preview in the real host: what it gives to the page, what it exports, and that it never stops a
workflow.
"""

from __future__ import annotations

import json
from pathlib import Path

import folder_paths
import pytest
import torch
from comfy_execution.graph_utils import ExecutionBlocker
from tiny_models import tiny_dit
from tokencache_pack.nodes.cache import ApplyTokenCache
from tokencache_pack.nodes.heatmap import TokenHeatmapPreview
from tokencache_pack.nodes.host.report_handle import ReportHandle
from tokencache_pack.tokencache_core.schedules.schedule import UniformSchedule

APPLY = {"cache_ratio": 0.75, "forecast_order": 1, "last_blocks": 1, "context": "stale", "shares": "uniform"}


@pytest.fixture(scope="module")
def handle(tmp_path_factory: pytest.TempPathFactory) -> ReportHandle:
    """Of a run of two pictures in six steps."""
    tiny = tiny_dit(tmp_path_factory.mktemp("dit") / "dit.safetensors")
    model, handle = ApplyTokenCache.execute(tiny.model, **APPLY, schedule=UniformSchedule(3, 2)).result
    tiny.sample(model, batch=2)
    return handle


def test_it_is_an_output_node_whose_old_inputs_suffice():
    schema = TokenHeatmapPreview.define_schema()
    assert schema.is_output_node and [item.id for item in schema.inputs if not item.optional] == ["image"]


def test_the_page_gets_small_data_and_pictures_from_the_hosts_temporary_folder(handle: ReportHandle):
    shown = json.loads(json.dumps(TokenHeatmapPreview.execute(torch.rand(2, 64, 64, 3), handle).ui))
    assert set(shown) == {"tokencache_player", "tokencache_pictures"}
    for picture in shown["tokencache_pictures"]:
        assert (
            picture["type"] == "temp"
            and (Path(folder_paths.get_temp_directory()) / picture["subfolder"] / picture["filename"]).is_file()
        )
    data = shown["tokencache_player"][0]
    steps = handle.latest().steps
    assert [step["kind"] for step in data["steps"]] == [step.kind for step in steps]
    chosen = [group[2] for group in data["steps"][2]["groups"]]
    assert isinstance(chosen[0], int) and chosen[-1] == "all"  # the last block is whole
    # blocks that compute the same tokens share a map
    assert data["maps"]["count"] == sum(step.kind == "P" for step in steps)


def test_the_steps_as_a_batch(handle: ReportHandle):
    picture = torch.rand(2, 64, 64, 3)
    assert isinstance(TokenHeatmapPreview.execute(picture, handle).result[2], ExecutionBlocker)
    assert TokenHeatmapPreview.execute(picture, handle, export_steps="all steps").result[2].shape == (12, 256, 256, 3)
    one = TokenHeatmapPreview.execute(picture, handle, export_steps="P-steps", export_block=1).result[2]
    assert one.shape[0] == 2 * sum(step.kind == "P" for step in handle.latest().steps)


def test_nothing_sampled_is_a_sentence_and_the_picture_passes():
    picture = torch.rand(1, 16, 16, 3)
    shown = TokenHeatmapPreview.execute(picture, ReportHandle())
    (note,) = shown.ui["tokencache_player"][0]["notes"]
    assert all(output is picture for output in shown.result) and note.startswith("No sampling run has finished yet")


@pytest.mark.parametrize(
    ("pictures", "choices", "says"),
    [
        (3, {}, "made 2 pictures, but 3 pictures are connected"),
        (2, {"export_steps": "all steps", "export_block": 99}, "there is no block 99"),
    ],
)
def test_what_does_not_fit_the_run_is_a_sentence(handle: ReportHandle, pictures: int, choices: dict, says: str):
    shown = TokenHeatmapPreview.execute(torch.rand(pictures, 16, 16, 3), handle, **choices)
    assert says in shown.ui["tokencache_player"][0]["notes"][0] and len(shown.result) == 3


def test_large_pictures_reach_the_page_reduced(handle: ReportHandle):
    from PIL import Image

    shown = TokenHeatmapPreview.execute(torch.rand(2, 1200, 2400, 3), handle).ui["tokencache_pictures"][0]
    assert Image.open(Path(folder_paths.get_temp_directory()) / shown["filename"]).size == (1024, 512)
