"""Exports a published checkpoint for serving: whole tables, a signature, no optimiser state."""

from __future__ import annotations

from safetensors.torch import save_file

from ecdctr_spark.models.exchange import ALONE
from ecdctr_spark.models.memory import merge_memory
from ecdctr_spark.serving.predictor import SIGNATURE, WEIGHTS, Signature, read_signature
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.storage import Root, sealed
from ecdctr_spark.training.checkpoint import Checkpoint
from ecdctr_spark.training.manifests import identity


def export(checkpoint: Root, output: Root) -> None:
    """Publishes the export of a checkpoint as the folder `output`, replacing an older export there, also an unfinished
    one.

    Pooling over snapshots is merged into one vector per entity; predictions stay the same. Raises ConfigError where the
    checkpoint is incomplete or damaged, or where `output` holds something other than an export.
    """
    draft = output.draft(SIGNATURE)
    begun = output.path is None and draft.files()  # on an object store a draft is in its place
    if output.files() and not output.at(SIGNATURE).exists() and not begun:
        raise ConfigError(f"--output {output}: holds something other than an export; name a new folder")
    opened = Checkpoint.open(checkpoint)
    model = opened.model(ALONE)
    spec = merge_memory(opened.manifest.spec, model)
    draft.begin()
    with draft.writing(WEIGHTS) as path:
        save_file(model.state_dict(), path)
    signature = Signature(
        model_id=opened.manifest.model_id, spec=spec, made_from=opened.identity, weights=draft.files()[WEIGHTS]
    )
    draft.publish(sealed(signature))


def current(exported: Root, checkpoint: Root) -> bool:
    """Whether the export was made from this checkpoint by this version. False where there is no export, or where the
    model was trained again since. Raises ConfigError where there is no checkpoint."""
    made_from = identity(checkpoint)
    try:
        return read_signature(exported).made_from == made_from
    except ConfigError:  # there is none, or another version wrote it
        return False
