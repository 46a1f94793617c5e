"""The folders in which predictors, presets and calibrations are kept, and the files that come with the pack."""
