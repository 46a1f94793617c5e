"""Train, Load and Save Cache Predictor, and Plot Predictor Training."""

from __future__ import annotations

import comfy.samplers
from comfy_api.latest import io, ui

from ..tokencache_core.predictor.file import SUFFIX, read_trained_cache
from ..tokencache_core.predictor.token_scores import KINDS
from ..tokencache_core.settings import DEFAULTS, MAX_ORDER, CacheSettings
from ..tokencache_core.training.chart import training_chart
from ..tokencache_core.training.plan import LOSSES, TrainingPlan
from .folders.bundled_files import file_names, path_of
from .folders.models_folder import FOLDER, file_to_write
from .folders.predictor_folder import keep_in, plain_export
from .host.progress_on_page import workflow_id
from .host.train_predictor import train_predictor
from .sockets import PredictorType


class LoadCachePredictor(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TokenCacheLoadPredictor",
            display_name="Load Cache Predictor",
            category="TokenCache",
            description="Loads a trained Cache Predictor, for Apply TokenCache.",
            search_aliases=["cache predictor", "load predictor", "repair", "token cache lora"],
            inputs=[
                io.Combo.Input(
                    "predictor_name",
                    options=file_names(FOLDER, SUFFIX, FOLDER),
                    tooltip="A .safetensors file in models/tokencache. It works with the model that it was trained "
                    "on. Press R to list a new file.",
                )
            ],
            outputs=[PredictorType.Output(display_name="predictor", tooltip="For Apply TokenCache.")],
        )

    @classmethod
    def execute(cls, predictor_name: str) -> io.NodeOutput:
        return io.NodeOutput(read_trained_cache(path_of(FOLDER, predictor_name, FOLDER)))


class TrainCachePredictor(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TokenCacheTrainPredictor",
            display_name="Train Cache Predictor",
            category="TokenCache",
            description="Trains a Cache Predictor for this model from its own sampling runs, without a data set, and "
            "says whether it helps.",
            search_aliases=["train", "cache predictor", "token cache training", "repair", "distill"],
            is_output_node=True,
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model to train for. It is not changed; its weights are shared, not copied."
                ),
                io.Conditioning.Input(
                    "positive", tooltip="What the training runs draw. A few prompts or classes are enough."
                ),
                io.Conditioning.Input("negative", tooltip="The negative that you sample with."),
                io.Latent.Input(
                    "latent_image", tooltip="An empty latent, which sets the size and the batch of the training runs."
                ),
                io.String.Input(
                    "save_as",
                    default="my_predictor",
                    tooltip="Name of the file in models/tokencache; if it is taken, a number is added. The work is "
                    "also kept there if you interrupt.",
                ),
                io.Float.Input(
                    "minutes",
                    default=15.0,
                    min=0.01,
                    max=1440.0,
                    step=0.5,
                    tooltip="How long to train. You can stop or interrupt it at any time and keep the work.",
                ),
                io.Int.Input("steps", default=20, min=4, max=1000, tooltip="Denoise steps, as you sample."),
                io.Float.Input("cfg", default=4.0, min=0.0, max=100.0, step=0.1, tooltip="Guidance, as you sample."),
                io.Combo.Input(
                    "sampler_name",
                    options=comfy.samplers.KSampler.SAMPLERS,
                    default="euler",
                    tooltip="As you sample. Samplers that add no noise of their own gain most.",
                ),
                io.Combo.Input(
                    "scheduler", options=comfy.samplers.KSampler.SCHEDULERS, default="simple", tooltip="As you sample."
                ),
                io.Int.Input(
                    "interval",
                    default=4,
                    min=2,
                    max=100,
                    advanced=True,
                    tooltip="Every how many steps an I-step comes. The training learns the P-steps in between.",
                ),
                io.Int.Input(
                    "last_blocks",
                    default=1,
                    min=0,
                    max=128,
                    advanced=True,
                    tooltip="Number of final blocks that also run on P-steps and carry the LoRA repair. 0: no LoRA.",
                ),
                io.Float.Input(
                    "cache_ratio",
                    default=0.9,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    advanced=True,
                    tooltip="Share of the other blocks' tokens that P-steps do not compute. 1, with predictor none, "
                    "trains a learned forecast.",
                ),
                io.Int.Input(
                    "forecast_order",
                    default=DEFAULTS.order,
                    min=0,
                    max=MAX_ORDER,
                    advanced=True,
                    tooltip="Order of the forecast, as in Apply TokenCache.",
                ),
                io.Int.Input("rank", default=16, min=1, max=256, advanced=True, tooltip="Rank of the LoRA adapters."),
                io.Combo.Input(
                    "predictor",
                    options=[*KINDS, "none"],
                    default=KINDS[0],
                    advanced=True,
                    tooltip="What chooses the tokens that P-steps compute. block: a copy of the model's first block, "
                    "as in the paper. light: a small network. none: trains a learned forecast instead.",
                ),
                io.Int.Input(
                    "forecast_hidden",
                    default=96,
                    min=0,
                    max=4096,
                    advanced=True,
                    tooltip="With predictor none: width of the small network that learns the forecast. 0: the plain "
                    "forecast.",
                ),
                io.Combo.Input(
                    "loss",
                    options=list(LOSSES),
                    default=LOSSES[0],
                    advanced=True,
                    tooltip="What is made small. run: the error at the end of the run, through all its steps. drift: "
                    "the error after each window of P-steps; takes less memory. step: each P-step's own error, as in "
                    "the paper.",
                ),
                io.Boolean.Input(
                    "every_step",
                    default=False,
                    advanced=True,
                    tooltip="Predict the scores on every P-step, as in the paper, rather than once per window of "
                    "P-steps. The loss step needs it.",
                ),
                io.Float.Input(
                    "learning_rate",
                    default=1e-3,
                    min=1e-6,
                    max=0.1,
                    step=1e-6,
                    advanced=True,
                    tooltip="Learning rate of Adam. Lower it if training diverges.",
                ),
                io.Boolean.Input(
                    "checkpointing",
                    default=False,
                    advanced=True,
                    tooltip="Takes less memory and more time: the last blocks run again for their gradient. The loss "
                    "run always does this.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=100_000,
                    advanced=True,
                    tooltip="Seed of the runs' noise and of the adapters' first values.",
                ),
                io.Int.Input(
                    "accumulate",
                    optional=True,
                    default=1,
                    min=1,
                    max=1000,
                    advanced=True,
                    tooltip="Number of losses averaged for one update of the weights. More is steadier and slower.",
                ),
                io.Float.Input(
                    "sparsity",
                    optional=True,
                    default=0.0,
                    min=0.0,
                    max=1000.0,
                    step=0.0001,
                    round=False,
                    advanced=True,
                    tooltip="With a predictor: the weight of the mean score in the loss (lambda in the paper).",
                ),
                io.Boolean.Input(
                    "soft",
                    optional=True,
                    default=False,
                    advanced=True,
                    tooltip="With a predictor: mix computed and reused updates by the scores themselves, as in the "
                    "paper, rather than by the choice that the scores make.",
                ),
            ],
            outputs=[
                PredictorType.Output(display_name="predictor", tooltip="For Apply TokenCache; the same as in the file.")
            ],
        )

    @classmethod
    def execute(
        cls,
        model,
        positive,
        negative,
        latent_image,
        save_as,
        minutes,
        steps,
        cfg,
        sampler_name,
        scheduler,
        interval,
        last_blocks,
        cache_ratio,
        forecast_order,
        rank,
        predictor,
        forecast_hidden,
        loss,
        every_step,
        learning_rate,
        checkpointing,
        seed,
        accumulate=1,
        sparsity=0.0,
        soft=False,
    ) -> io.NodeOutput:
        file = file_to_write(save_as, SUFFIX)
        settings = CacheSettings(cache_ratio=cache_ratio, order=forecast_order, fitted=False, last_blocks=last_blocks)
        plan = TrainingPlan(
            settings,
            interval,
            rank,
            forecast_hidden,
            "" if predictor == "none" else predictor,
            loss=loss,
            every_step=every_step,
            learning_rate=learning_rate,
            checkpointing=checkpointing,
            seed=seed,
            accumulate=accumulate,
            sparsity=sparsity,
            soft=soft,
        )
        return io.NodeOutput(
            train_predictor(
                model,
                positive,
                negative,
                latent_image["samples"],
                plan,
                sampler_name=sampler_name,
                scheduler=scheduler,
                steps=steps,
                cfg=cfg,
                minutes=minutes,
                keep=keep_in(file),
                workflow=workflow_id(getattr(cls.hidden, "extra_pnginfo", None)),
            )
        )


class SaveCachePredictor(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TokenCacheSavePredictor",
            display_name="Save Cache Predictor",
            category="TokenCache",
            description="Writes a predictor to models/tokencache and, if its model is connected, its repair as a "
            "plain LoRA.",
            search_aliases=["save predictor", "export lora", "token cache"],
            is_output_node=True,
            inputs=[
                PredictorType.Input("predictor", tooltip="From Train Cache Predictor or Load Cache Predictor."),
                io.String.Input(
                    "save_as",
                    default="my_predictor",
                    tooltip="Name of the file. If it is taken, a number is added; nothing is overwritten.",
                ),
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip="The predictor's model. If connected, the repair is also written to models/loras for any "
                    "LoRA loader; as a LoRA it acts on every step.",
                ),
            ],
            outputs=[],
        )

    @classmethod
    def execute(cls, predictor, save_as, model=None) -> io.NodeOutput:
        file = file_to_write(save_as, SUFFIX)
        export = None if model is None else plain_export(predictor, model, file.stem)
        keep_in(file)(predictor)
        if export is not None:
            export()
        return io.NodeOutput()


class PlotPredictorTraining(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TokenCachePlotTraining",
            display_name="Plot Predictor Training",
            category="TokenCache",
            description="Draws how a predictor's training went: how far its runs strayed from the plain model, over "
            "time.",
            search_aliases=["loss", "training curve", "plot", "token cache"],
            is_output_node=True,
            inputs=[PredictorType.Input("predictor", tooltip="From Train Cache Predictor or Load Cache Predictor.")],
            outputs=[
                io.Image.Output(tooltip="The chart: drift over minutes, on a logarithmic scale; lower is better.")
            ],
        )

    @classmethod
    def execute(cls, predictor) -> io.NodeOutput:
        chart = training_chart(predictor.log)
        return io.NodeOutput(chart, ui=ui.PreviewImage(chart, cls=cls))


NODES = [TrainCachePredictor, LoadCachePredictor, SaveCachePredictor, PlotPredictorTraining]
