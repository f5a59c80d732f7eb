"""What plug-ins hand to the core: light descriptors, no physics.

A descriptor names a model and where its class lives. The class is imported only
when a user selects the model.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass

from diffuse_core.errors import PluginError
from diffuse_core.report_item import ReportItem as ReportItem

MODEL_API = 1
"""Version of the model contracts in `diffuse_core.models`."""

DEFAULT = "default"
"""Word of a selector that stands for the models selected by default."""

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_FACTORY = re.compile(r"\w+(\.\w+)*:\w+")


@dataclass(frozen=True)
class Kind:
    """One kind of model: how users select it and how results are composed.

    Attributes:
        name: Kind, also the name of its PHIL scope.
        hook: Name of the hook that lists the models of this kind.
        selector: Name of the PHIL parameter, inside the scope, that selects.
        contract: Name of the abstract class in `diffuse_core.models`.
        choose: "many" (any number), "one" (exactly one) or "ordered" (any
            number, in the user's order).
    """

    name: str
    hook: str
    selector: str
    contract: str
    choose: str


KINDS = {
    k.name: k
    for k in (
        Kind("mask", "diffuse_mask_models", "models", "MaskModel", "many"),
        Kind(
            "correction",
            "diffuse_correction_models",
            "models",
            "CorrectionModel",
            "many",
        ),
        Kind(
            "background",
            "diffuse_background_models",
            "models",
            "BackgroundModel",
            "many",
        ),
        Kind("mapping", "diffuse_mapping_models", "model", "Mapper", "one"),
        Kind(
            "scaling",
            "diffuse_scaling_components",
            "components",
            "ScalingComponent",
            "ordered",
        ),
    )
}


_RESERVED = {k.selector for k in KINDS.values()} | {DEFAULT, "none", "auto", "include"}


@dataclass(frozen=True, eq=False)
class ModelPlugin:
    """One model that a plug-in offers.

    Attributes:
        name: What the user writes in PHIL: `[a-z][a-z0-9_]*`.
        factory: "package.module:Class", or the class itself; the class has
            `from_params(params, run)`, see `diffuse_core.models.Model`.
        summary: One sentence for users; the `.help` of the model's scope.
        phil: Contents of the model's own PHIL scope (without the scope).
        default: Selected unless the user says otherwise.
        api: `MODEL_API` that the model was written for.

    Raises:
        PluginError: A field is unusable; the message says which and why.
    """

    name: str
    factory: str | type
    summary: str
    phil: str = ""
    default: bool = False
    api: int = MODEL_API

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise PluginError(
                f"The model name {self.name!r} must be lower-case letters, digits "
                "and underscores, starting with a letter."
            )
        if self.name in _RESERVED:
            raise PluginError(
                f"The model name {self.name!r} has a meaning of its own in PHIL; "
                "choose another name."
            )
        if self.api != MODEL_API:
            raise PluginError(
                f"The model {self.name!r} was written for model API {self.api}, but "
                f"this program provides {MODEL_API}: install matching versions."
            )
        if not isinstance(self.factory, type) and not _FACTORY.fullmatch(
            str(self.factory)
        ):
            raise PluginError(
                f"The factory {self.factory!r} of model {self.name!r} must be a class "
                "or have the form 'package.module:Class'."
            )
        if not isinstance(self.summary, str) or not self.summary.strip():
            raise PluginError(
                f"The model {self.name!r} needs a summary, one sentence for users."
            )
        if not isinstance(self.phil, str):
            raise PluginError(
                f"The phil of model {self.name!r} must be text, "
                f"not {type(self.phil).__name__}."
            )

    def load(self) -> type:
        """The model class, imported now if it was given as a string.

        Raises:
            PluginError: The module or the class can't be imported.
        """
        if not isinstance(self.factory, str):
            return self.factory
        module, attribute = self.factory.split(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except Exception as error:
            raise PluginError(
                f"The model {self.name!r} can't be imported from {self.factory!r} "
                f"({type(error).__name__}: {error})."
            ) from error
