"""The rules on any torch module: labels by name, parameter groups, initial weights."""

from paper_repro.apply.exports import TRAINERS, Export, TrainerName, export
from paper_repro.apply.mapping import FAMILIES, Labelled, Mapping, Pattern, label_parameters
from paper_repro.apply.parameterized import Form, Parameterized, parameterize

__all__ = [
    "FAMILIES",
    "TRAINERS",
    "Export",
    "Form",
    "Labelled",
    "Mapping",
    "Parameterized",
    "Pattern",
    "TrainerName",
    "export",
    "label_parameters",
    "parameterize",
]
