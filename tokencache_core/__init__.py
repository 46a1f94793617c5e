"""TokenCache (arXiv 2409.18523) in plain PyTorch: the method without a host. Its story, from the outside in:

*A MODEL* enters Apply TokenCache (`nodes/host/model_hooks.py`), or a DiT enters `cached.cached_sample`. What the user chose is
a `settings.CacheSettings` and a `schedule.Schedule`; what the engine must know of the model is a `block_spec.BlockSpec`
per block class.

*A sampling run*, at the sigmas of a `sigma_schedule.SigmaSchedule` where there is no host to choose them, opens a `session.Session`. It knows the run's steps by
their `noise_time`, asks the schedule which are I-steps (an `automatic_schedule` has them where a calibration of the model says, or `known_models` would; an `error_bound` finds
them as the run goes), and holds all state: closing it frees the caches and leaves a `report.Report`.

*A denoise step* is one `Session.evaluation`, an I-step or a P-step by its sigma. An I-step shows what the P-steps before it
got wrong, and its `corrector` takes back a part of that. An evaluation may take several calls of the
network, one for each set of conditionings; each set of rows has a cache of its own, and a set without one runs whole.

*A call of the network* goes through `forward.cached_blocks`, which swaps every block's forward for `Forward.run_block`
and puts it back. On an I-step a block runs whole and its update (what it adds to each token) is kept in a `history`. On
a P-step `allocation` says how many tokens each block computes, and `plan` which ones, by a score of `scores` or by a
trained `cache_predictor` (`predicted_plan`).

*A block* on a P-step, or a run of neighbours that compute the same tokens or none (`block_runs`), is `block_step.compute_or_reuse`: the
paper's equation. A run has one update, the sum of its blocks'. Computed tokens attend to every token's keys and values, the others' forecast (`context`).

*A token* that is not computed takes its input plus its cached update, held or extrapolated through the last I-steps
(`history`), and where a whole run of blocks reuses, corrected by a `learned_forecast`.

*Training* (`cli_train`, `training`) follows cached runs of the model's own beside its plain ones. Where they end, by the gradient of the whole
run (`end_to_end`), or how far they have come apart after each window of P-steps (`distill`), teaches the learned forecast, the Cache
Predictor (through `mixed_tokens`) and `adapters` on the last K blocks, whose result is a `lora.LoraRepair`, added on P-steps alone. A run is given them as
`trained_parts.TrainedParts`; they are kept in a file (`trained_cache`, `predictor_file`) with the `fingerprint` of the model.

*Calibrating* (`cli_calibrate`, `calibrate_places`) finds where a model's I-steps should lie from one whole run: its `run_record` lets a
`run_simulator` try any places without running anything, a search over it makes `place_proposals`, and a few real runs decide (`place_trials`). The result is a `place_calibration`, a small file.

*Tuning* (`cli_tune`, `tuner`) finds, by short runs (`probe`), the settings that reach a speed-up or a likeness on a model, out of a
`tuning_space` with known caches as its corners, and by a `place_search` where the I-steps should lie; they are kept as a `preset`, and run by a
`placed_schedule`. *Measuring* (`cli_bench`, `bench`) sets all of it beside what else the time could buy.
"""
