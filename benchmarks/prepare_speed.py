"""Preparing a corpus of films, as a ratio to the ``ffmpeg`` command line on the same files with the same cores.

    python benchmarks/prepare_speed.py            # needs ffmpeg on the PATH, or --ffmpeg PROGRAM
    python benchmarks/prepare_speed.py --memory --seconds 60      # instead: memory of all processes, with long films
    python benchmarks/prepare_speed.py --faces    # instead: what it costs to find faces

Both cut the same box out of the same 720 x 480 films, scale it to the same size at 25 frames a second, and make 16 kHz
mono sound of it; ours also hashes, journals and flushes a store. The films are made first, of moving noise, so that
decoding costs what it costs with real pictures. Every candidate is held to as many cores as it has processes. Each
round runs every candidate once; the figures are of the fastest. CPU time is told too: on a machine that others use as
well, it is what says how much more two processes have to do than one.
"""

import argparse
import contextlib
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pandas as pd

from trainables.corpora import COLUMNS, Corpus, create, open_store, prepare
from trainables.inputs import InputSettings

WIDTH, HEIGHT, RATE, SOUND_RATE = 720, 480, 30, 44_100
BOX = (48, 128, 224, 224)
SIZE = 96


class Films(Corpus):
    """Every ``.avi`` file in a folder is an utterance."""

    name = "films"
    classes: Mapping[str, tuple[str, ...]] = {}
    modalities = ("audio", "video")

    def __init__(self, *, crop: str = "fixed") -> None:
        self.crop = crop

    def read(self, root: Path) -> pd.DataFrame:
        """Return the table of the films."""
        rows = [
            {"utterance": path.stem, "speaker": "nobody", "audio": path.name, "video": path.name, "crop": BOX}
            for path in sorted(root.glob("*.avi"))
        ]
        return pd.DataFrame(rows, columns=COLUMNS)


def make_films(folder: Path, count: int, seconds: float, *, with_face: bool = False) -> None:
    """Write films of drifting noise with a tone, and with a face of ``BOX``'s size in it if asked for."""
    actor = create("synthetic", num_speakers=2, utterances_per_speaker=1)
    face = actor.load_video(Path(), {"utterance": "s000_u000"}, BOX[2])
    draws = np.random.default_rng(0)
    cloth = draws.integers(0, 255, (HEIGHT + 64, WIDTH + 64, 3), np.uint8)
    for number in range(count):
        with av.open(str(folder / f"{number:04d}.avi"), "w") as container:
            picture = container.add_stream("mpeg4", rate=RATE)
            picture.width, picture.height, picture.pix_fmt, picture.bit_rate = WIDTH, HEIGHT, "yuv420p", 2_000_000
            sound = container.add_stream("pcm_s16le", rate=SOUND_RATE)
            sound.layout = "stereo"
            for moment in range(round(seconds * RATE)):
                shift = (moment + number) % 64
                scene = np.ascontiguousarray(cloth[shift : shift + HEIGHT, shift : shift + WIDTH])
                if with_face:
                    scene[BOX[1] : BOX[1] + BOX[3], BOX[0] : BOX[0] + BOX[2]] = face[moment % len(face)]
                frame = av.VideoFrame.from_ndarray(scene, format="rgb24")
                frame.pts = moment
                container.mux(picture.encode(frame))
            container.mux(picture.encode())
            tone = (8000 * np.sin(np.arange(round(seconds * SOUND_RATE)) * 0.05)).astype(np.int16)
            block = av.AudioFrame.from_ndarray(np.repeat(tone, 2).reshape(1, -1), format="s16", layout="stereo")
            block.rate, block.pts = SOUND_RATE, 0
            container.mux(sound.encode(block))
            container.mux(sound.encode())


def by_ffmpeg(program: str, films: Path, processes: int) -> float:
    """Return the seconds that so many ``ffmpeg`` processes at a time take, one thread each."""
    x, y, width, height = BOX
    scale = f"crop={width}:{height}:{x}:{y},scale={SIZE}:{SIZE}:flags=area,fps=25"

    def run(path: Path) -> None:
        with tempfile.TemporaryDirectory() as out:
            command = [program, "-v", "error", "-threads", "1", "-i", str(path)]
            command += ["-map", "0:v", "-vf", scale, "-pix_fmt", "rgb24", "-f", "rawvideo", f"{out}/frames"]
            command += ["-map", "0:a", "-ac", "1", "-ar", "16000", "-f", "s16le", f"{out}/sound"]
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL)

    start = time.perf_counter()
    with ThreadPoolExecutor(processes) as pool:
        list(pool.map(run, sorted(films.glob("*.avi"))))
    return time.perf_counter() - start


def by_us(films: Path, processes: int, crop: str = "fixed", max_seconds: float = 60.0) -> float:
    """Return the seconds that ``prepare`` takes."""
    with tempfile.TemporaryDirectory() as cache:
        start = time.perf_counter()
        prepare(Films(crop=crop), films, InputSettings(max_seconds, SIZE), Path(cache), workers=processes)
        return time.perf_counter() - start


def unrelated(films: Path, processes: int) -> float:
    """Return the seconds until so many unrelated ``prepare``, each of its share of the films, are all done.

    They share nothing but the machine: no number of processes of one ``prepare`` can be quicker here.
    """
    with tempfile.TemporaryDirectory(dir=films) as folder:
        shares = [Path(folder) / str(number) for number in range(processes)]
        for number, film in enumerate(sorted(films.glob("*.avi"))):
            share = shares[number % processes]
            share.mkdir(exist_ok=True)
            os.link(film, share / film.name)
        with ProcessPoolExecutor(processes, multiprocessing.get_context("fork")) as pool:
            return max(pool.map(by_us, shares, [1] * processes))


def finding_faces(arguments: argparse.Namespace) -> None:
    """Print what it costs to find the face: in films that have one, and in films without, where all looks are spent."""
    for with_face in (True, False):
        with tempfile.TemporaryDirectory() as folder:
            make_films(Path(folder), arguments.films, arguments.seconds, with_face=with_face)
            for processes in (1, 2):
                best = {"fixed": float("inf"), "detected": float("inf")}
                for _ in range(arguments.rounds):
                    best = {crop: min(best[crop], by_us(Path(folder), processes, crop)) for crop in best}
                kind = "with a face" if with_face else "without one"
                print(f"films {kind}, processes: {processes}; fixed box {best['fixed']:.2f} s, detected ", end="")
                print(f"{best['detected']:.2f} s, ratio {best['detected'] / best['fixed']:.2f}")


@contextlib.contextmanager
def on_cores(count: int) -> Iterator[None]:
    """Hold this process, and those it starts, to so many cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_seconds() -> float:
    """Return the CPU time that this process and those it waited for have taken."""
    return sum(sum(resource.getrusage(whose)[:2]) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def memory_mb(pid: int) -> float:
    """Return the memory of a process and all it started in MB; pages that several share count once in all."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        own = next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        started = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (OSError, StopIteration):
        return 0.0
    return own * 1024 / 1e6 + sum(memory_mb(int(child)) for child in started)


def most_memory(films: Path, processes: int, max_seconds: float) -> float:
    """Return the most memory in MB that ``prepare`` holds, of all processes, looked at ten times a second."""
    most, stopped = [0.0], threading.Event()

    def look() -> None:
        while not stopped.wait(0.1):
            most[0] = max(most[0], memory_mb(os.getpid()))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        by_us(films, processes, max_seconds=max_seconds)
    finally:
        stopped.set()
        thread.join()
    return most[0]


def opening(utterances: int) -> float:
    """Return the milliseconds that opening a store of so many utterances takes, the fastest of ten."""
    with tempfile.TemporaryDirectory() as cache:
        corpus = create("synthetic", num_speakers=2, utterances_per_speaker=1)
        store = prepare(corpus, None, InputSettings(0.2, 8), Path(cache))
        table = pd.concat([store.table] * (utterances // 2), ignore_index=True)
        table["utterance"] = [f"u{number}" for number in range(len(table))]
        path = store.path / "utterances.parquet"
        table.to_parquet(path)
        manifest = store.path / "manifest.json"
        content = manifest.read_text().replace(
            f'"utterances.parquet": {store.manifest["sizes"]["utterances.parquet"]}',
            f'"utterances.parquet": {path.stat().st_size}',
        )
        manifest.write_text(content)
        times = []
        for _ in range(10):
            start = time.perf_counter()
            open_store(store.path).audio(utterances - 1)
            times.append(time.perf_counter() - start)
        return 1e3 * min(times)


def measure_memory(films: int, seconds: float) -> int:
    """Print the most memory while a corpus and one of twice the size are prepared."""
    with tempfile.TemporaryDirectory() as folder:
        make_films(Path(folder), 1, seconds)
        for count, max_seconds in ((films, 6.0), (films, seconds), (2 * films, seconds)):
            for number in range(1, count):
                with contextlib.suppress(FileExistsError):
                    os.link(f"{folder}/0000.avi", f"{folder}/{number:04d}.avi")
            most = most_memory(Path(folder), 2, max_seconds)
            print(f"{count} films of {seconds:.0f} s, {max_seconds:.0f} s of them wanted: ", end="")
            print(f"{most:.0f} MB at most, of three processes (target 1000)", flush=True)
    return 0


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=int, default=96)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ffmpeg", default=shutil.which("ffmpeg"))
    parser.add_argument("--memory", action="store_true", help="only memory, at two sizes of the corpus")
    parser.add_argument("--faces", action="store_true", help="only what it costs to find faces")
    arguments = parser.parse_args()
    if arguments.memory:
        return measure_memory(arguments.films, arguments.seconds)
    if arguments.faces:
        finding_faces(arguments)
        return 0
    print(f"opening a store of 10,000 utterances: {opening(10_000):.1f} ms (target 50)")
    if arguments.ffmpeg is None:
        print("no ffmpeg on the PATH: install it, or name it with --ffmpeg", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        films = Path(folder)
        make_films(films, arguments.films, arguments.seconds)
        candidates: dict[str, tuple[int, Callable[[Path, int], float]]] = {
            f"{name}, {count} process{'es' if count > 1 else ''}": (count, run)
            for name, run in (("ours", by_us), ("ffmpeg", lambda films, n: by_ffmpeg(arguments.ffmpeg, films, n)))
            for count in (1, 2)
        }
        candidates["unrelated, 2 processes"] = (2, unrelated)
        best, work = dict.fromkeys(candidates, float("inf")), dict.fromkeys(candidates, float("inf"))
        for _ in range(arguments.rounds):
            for name, (count, run) in candidates.items():
                before = cpu_seconds()
                with on_cores(count):
                    best[name] = min(best[name], run(films, count))
                work[name] = min(work[name], cpu_seconds() - before)
    for name, seconds in best.items():
        speed = arguments.films * arguments.seconds / seconds
        print(f"{name:<22} {seconds:7.2f} s   {speed:6.1f} x real time   {work[name]:7.2f} s of CPU")
    print(f"throughput over ffmpeg: {best['ffmpeg, 1 process'] / best['ours, 1 process']:.2f} (1 process), ", end="")
    print(f"{best['ffmpeg, 2 processes'] / best['ours, 2 processes']:.2f} (2 processes; target 0.8)")
    for name in ("ours", "ffmpeg"):
        one, two = f"{name}, 1 process", f"{name}, 2 processes"
        print(f"{name} from one core to two: {best[one] / best[two]:.2f}", end="")
        print(
            f"; by CPU time, were both cores free: {2 * work[one] / work[two]:.2f}" + " (target 1.8)" * (name == "ours")
        )
    gained = best["ours, 1 process"] / best["unrelated, 2 processes"]
    print(
        f"two unrelated runs, half the films each: {gained:.2f}, all that the second core can give on this machine; ",
        end="",
    )
    print(f"ours reaches {best['unrelated, 2 processes'] / best['ours, 2 processes']:.2f} of it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
