"""From a published checkpoint to what is served: whole tables, no optimiser state, one signature."""

from __future__ import annotations

import shutil
from pathlib import Path

from safetensors.torch import save_file

from ecdctr_spark.models.exchange import ALONE
from ecdctr_spark.models.memory import merge_memory
from ecdctr_spark.serving.predictor import SIGNATURE, WEIGHTS, Signature, sha256
from ecdctr_spark.settings.base import ConfigError
from ecdctr_spark.training.checkpoint import Checkpoint, load


def export(checkpoint: Path, output: Path) -> None:
    """Writes the folder `output` in one move, replacing an older export of that name.

    Attention over monthly snapshots, of a CPM, is merged into one vector an entity: predictions stay the same. Raises
    ConfigError where the checkpoint is not whole, or where `output` holds something else than an export.
    """
    if output.exists() and not (output / SIGNATURE).is_file() and any(output.iterdir()):
        raise ConfigError(f"--output {output}: holds something else than an export; name a new folder")
    model_id = Checkpoint.open(checkpoint).manifest.model_id
    spec, model = load(checkpoint, ALONE)
    spec = merge_memory(spec, model)
    writing = output.with_name(f"{output.name}.writing")
    shutil.rmtree(writing, ignore_errors=True)  # of an export that was killed
    writing.mkdir(parents=True)
    save_file(model.state_dict(), writing / WEIGHTS)
    signature = Signature(model_id=model_id, spec=spec, sha256=sha256(writing / WEIGHTS))
    (writing / SIGNATURE).write_text(signature.model_dump_json(indent=1), encoding="utf-8")
    if output.exists():
        shutil.rmtree(output)
    writing.rename(output)
