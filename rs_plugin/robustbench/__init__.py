"""What a RobustBench user expects: its models and ours by one call, ``benchmark``, and ``model_info`` files."""

from rs_plugin.robustbench.attacks import attack_certificates, attacked_accuracy
from rs_plugin.robustbench.evaluator import benchmark
from rs_plugin.robustbench.registration import register
from rs_plugin.robustbench.shim import import_robustbench

__all__ = ["attack_certificates", "attacked_accuracy", "benchmark", "import_robustbench", "register"]
