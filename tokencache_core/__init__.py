"""TokenCache (arXiv 2409.18523) in plain PyTorch: the method without a host. The story, from the outside in:

*A MODEL* enters Apply TokenCache (`nodes/host/model_hooks.py`), or a DiT enters `dit.sampling.cached_sample`. What the
user chose is a `settings.CacheSettings` and a `schedules.schedule.Schedule`; what the engine must know of the model is
a `blocks.spec.BlockSpec` per block class.

*A sampling run* opens a `engine.session.Session`: wiring over three parts. The `engine.timeline` knows which step an
evaluation belongs to and which steps are I-steps (computed in full) and P-steps (mostly reused). The `engine.store` has
what the run keeps between steps. The `engine.log` has its evaluations and becomes the report (`engine.record`). Closing
the session frees everything.

*A denoise step* is one `Session.evaluation`, an I-step or a P-step by its sigma. On an I-step the `engine.corrector`
takes back a part of what the P-steps before it got wrong. An evaluation may take several calls of the network, one for
each set of conditionings; each set of rows has a cache of its own, and a set without one runs in full.

*A call of the network* goes through `engine.network_call.cached_blocks`, which swaps every block's forward for one that
the block's *span* runs, and puts it back. A span (`engine.spans`) is a group of neighbouring blocks with one fate on
P-steps; `engine.allocation` says how many tokens each block computes, and so which blocks are one span.

*A span* on an I-step lets its blocks run in full and keeps their update: what they add to each token. On a P-step it
reuses the update for all tokens, or computes some of them and reuses it for the others:
`engine.spans.compute_or_reuse`, the paper's equation. Which tokens are computed is the choice of a planner
(`engine.token_choice`, or a trained `predictor.predicted_choice`); they attend to the keys and values of all tokens
(`engine.attention_context`, reached through `engine.attention_hook`).

*A token* that is not computed takes its input plus its cached update, held or extrapolated through the last I-steps
(`engine.forecast`), along a line or a parabola or between them, as the run's own I-steps show (`engine.fitted_term`).

*Where I-steps lie* (`schedules`): an `automatic` schedule places them by a `calibration` of the model, or where
`known_models` would have them. *Calibrating* (`tuning.calibrate_places`) finds the places from one full run: its
`schedules.run_record` lets a `schedules.run_simulator` try any places without running anything, and a few real runs
decide.

*Training* (`training.trainer`) follows cached runs of the model's own beside its plain ones, and teaches the parts that
a run may be given (`predictor.trained_parts`): token scores, a learned forecast, a LoRA repair. *Tuning*
(`tuning.tuner`) finds, by short runs, the settings that reach a speed-up or a likeness. *Measuring* (`bench`,
`experiments`) sets all of it beside what else the time could buy.
"""
