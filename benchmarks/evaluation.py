"""A whole evaluation of 200 generated slices, all metrics and figures, against their Inception features alone.

The built-in dataset at 128×128; autoencoder and denoiser are hardly trained, since time doesn't depend on how good
the images are. What an evaluation finds in the store is there: the real features and floor, the autoencoder's
reconstructions and the drawn images. The two take turns in one process, and the medians are compared. Ends with
exit code 1 where the ratio is 2.5 or more.

    python benchmarks/evaluation.py --report
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from timing import alternate, publish

from latentsweep.datasets.preparation import prepare
from latentsweep.stages import FIGURES
from latentsweep.stages.pipeline import Pipeline
from latentsweep.stages.real_features import extractor
from latentsweep.stages.samples import IMAGES
from latentsweep.stages.table import EVALUATION
from latentsweep.storage.store import Store
from trainables.loop.checkpoint import load_tensors
from trainables.loop.settings import Execution
from trainables.measures.weights import find_weights
from trainables.recipes import SMOKE

LIMIT = 2.5
RECIPE = SMOKE.replace(
    **{
        "data.image_size": 128,
        "evaluation.samples": 200,
        "vae.max_steps": 60,
        "diffusion.steps": 20,
        "sampling.steps": 10,
    }
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="timed turns of each")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--report", action="store_true", help="write benchmarks/reports/<date>-evaluation.md")
    arguments = parser.parse_args()
    execution = Execution(threads=arguments.threads)

    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        dataset = prepare("demo", home=home, source=None)
        weights = find_weights()
        pipeline = Pipeline(Store(home / "store"), dataset, RECIPE, 0, execution, weights)
        for each in EVALUATION.inputs:
            pipeline.obtain(each)
        images = load_tensors(pipeline.samples().file(IMAGES))[0]["images"].numpy()
        network = extractor(weights, str(execution.prepare()))
        target = home / "evaluation"
        target.mkdir()
        seconds = alternate(
            {
                "features": lambda: network.features(images),
                "evaluation": lambda: EVALUATION.run(pipeline, target),
            },
            rounds=arguments.rounds,
            warmup=1,
        )
        drawn = len(list((target / FIGURES).glob("*.png")))

    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratio = medians["evaluation"] / medians["features"]
    rows = [
        {
            "what": "all metrics and figures of generated slices",
            "against": "their Inception features alone",
            "at_least": f"less than {LIMIT:g} times",
            "measured": f"{ratio:.2f} times",
            "holds": ratio < LIMIT,
        }
    ]
    text = [
        f"All metrics and {drawn} figures of {len(images)} generated slices of 128×128, their Inception features "
        "among them, against those features alone, in turns in one process.",
        "",
        "| features alone, s | whole evaluation, s | ratio of medians |",
        "| --- | --- | --- |",
        f"| {medians['features']:.1f} | {medians['evaluation']:.1f} | {ratio:.2f} |",
    ]
    return publish(
        "evaluation",
        f"Evaluation of {len(images)} slices",
        text,
        report=arguments.report,
        rows=rows,
        libraries=("torch",),
    )


if __name__ == "__main__":
    raise SystemExit(main())
