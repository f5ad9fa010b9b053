"""Training of base networks under the noise that they will be smoothed with."""

from rs_plugin.training.fit import EVALUATION_DRAWS, EVALUATION_SEED, TrainResult, accuracy, train
from rs_plugin.training.recipe import TrainConfig, command_line, default_name

__all__ = [
    "EVALUATION_DRAWS",
    "EVALUATION_SEED",
    "TrainConfig",
    "TrainResult",
    "accuracy",
    "command_line",
    "default_name",
    "train",
]
