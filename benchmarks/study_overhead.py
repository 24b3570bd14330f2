"""Wall time of `study run weighting` against a bare two-process loop that trains the same trials.

The peer is `multiprocessing.Pool` over `trainables.session.Session`: no Ray, no MLflow, no rows, no checkpoints, no
report. Both start cold, as processes of their own, on a corpus that neither has prepared. Run:

    python benchmarks/study_overhead.py [--set seeds=1]

Targets: at most 1.3 times the peer; at most 6 minutes on two cores for the shipped definition.
"""

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TARGET_RATIO = 1.3
TARGET_SECONDS = 360.0


def bare_loop(overrides: list[str], cache: str) -> None:
    """Train every trial of the definition with a pool of processes and nothing else."""
    os.environ["STUDY_CACHE"] = cache
    from study import corpus_job, definition
    from study.plan import make_plan
    from study.progress import make_display
    from study.ray_start import available_cpus
    from trainables import corpora

    chosen = definition.load("weighting", overrides)
    corpus = corpora.create(chosen.corpus.name, **chosen.corpus.options)
    store = corpus_job.prepare_store(chosen, corpus, make_display(quiet=True))
    trials = make_plan(chosen, corpus).trials(str(store.path))
    with multiprocessing.get_context("spawn").Pool(available_cpus()) as pool:
        rows = pool.map(train, [trial.as_dict() for trial in trials], chunksize=1)
    print(f"{len(rows)} trials", file=sys.stderr)


def train(fields: dict) -> int:
    """Train one trial on one thread and return its number of rows."""
    import torch

    from trainables.session import Session
    from trainables.specification import TrialSpecification

    torch.set_num_threads(1)
    return len(list(Session(TrialSpecification(**fields)).run()))


def timed(command: list[str], **environment: str) -> float:
    """Return the seconds a command takes; a failing one ends the benchmark."""
    start = time.perf_counter()
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1", **environment})
    return time.perf_counter() - start


def main() -> None:
    """Print both times and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    parser.add_argument("--bare", metavar="CACHE", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bare:
        bare_loop(arguments.overrides, arguments.bare)
        return
    overrides = [part for override in arguments.overrides for part in ("--set", override)]
    with tempfile.TemporaryDirectory() as folder:
        home, caches = Path(folder) / "studies", [str(Path(folder) / name) for name in ("peer", "ours")]
        peer = timed([sys.executable, __file__, "--bare", caches[0], *overrides])
        command = [sys.executable, "-m", "study.cli", "run", "weighting", "--quiet", "--home", str(home), *overrides]
        ours = timed(command, STUDY_CACHE=caches[1])
    print(f"bare two-process loop  {peer:7.1f} s")
    print(f"study run weighting    {ours:7.1f} s   (target for the shipped definition: {TARGET_SECONDS:.0f} s)")
    print(f"ratio                  {ours / peer:7.2f}     (target: {TARGET_RATIO})")


if __name__ == "__main__":
    main()
