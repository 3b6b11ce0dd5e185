"""Our scores beside those of lm-evaluation-harness's own command, on the same model and files.

    python -m benchmarks.harness TASK.jsonl … --model DIR --limit 10

The command runs in a process of its own, loads the model by itself and reads the files by its own
loader, from task files that hold nothing of ours.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from probes.setup import load_model
from probes.tasks import files
from probes.tasks.harness import Harness, Tasks

PREFIX = "native_"
QUERY = "{{query | trim}}{% if 'Question:' in query %}\nAnswer:{% endif %}"


def native(path: Path, folder: Path) -> None:
    """Writes the task of a file of JSON Lines for the harness's own loader."""
    config = files.read_task_files(path)
    del config["custom_dataset"]
    config |= {
        "task": PREFIX + config["task"],
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(path)}},
    }
    if config["doc_to_text"] == "query":
        config["doc_to_text"] = QUERY
    if config["output_type"] == "loglikelihood":
        config["doc_to_target"] = "{{' ' + continuation}}"
    (folder / f"{config['task']}.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")


def of_own_command(model: Path, folder: Path, *, limit: int) -> Any:
    """What the harness's own command says of the tasks in a folder, by their names."""
    names = [path.stem for path in folder.glob(f"{PREFIX}*.yaml")]
    done = subprocess.run(
        [
            sys.executable, "-m", "lm_eval", "run", "--model", "hf",
            "--model_args", f"pretrained={model},dtype=float32", "--device", "cpu",
            "--tasks", ",".join(names), "--include_path", str(folder), "--batch_size", "4",
            "--limit", str(limit), "--output_path", str(folder / "out.json"),
        ],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    (path,) = folder.glob("out*.json")
    return json.loads(path.read_text())["results"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path)
    parser.add_argument("--model", metavar="DIR", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=10)
    options = parser.parse_args()
    tasks = Tasks.read(list(map(str, options.files)), limit=options.limit)
    ours = Harness(load_model(options.model), tasks).scores()
    with tempfile.TemporaryDirectory() as folder:
        for path in options.files:
            native(path, Path(folder))
        theirs = of_own_command(options.model, Path(folder), limit=options.limit)
    for name, score in ours.items():
        reported = theirs[PREFIX + name][f"{score.metric},none"]
        print(f"{name:16} {score.metric} {score.value!r:22} {reported!r:22} "
              f"{'equal' if score.value == reported else 'DIFFERENT'}")  # fmt: skip


if __name__ == "__main__":
    main()
