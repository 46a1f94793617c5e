"""Training the Cache Predictor, the learned forecast and the LoRA repair on a model's own runs, without a data set.

Uses runs, predictor and what is below them.
"""
