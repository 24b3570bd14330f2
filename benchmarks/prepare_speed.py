"""Preparing a corpus of films, as a ratio to the ``ffmpeg`` command line on the same files with as many processes.

    python benchmarks/prepare_speed.py            # needs ffmpeg on the PATH, or --ffmpeg PROGRAM

Both cut the same box out of the same 720 x 480 films, scale it to the same size at 25 frames a second, and make 16 kHz
mono sound of it; ours also hashes, journals and flushes a store. The films are made first, of moving noise, so that
decoding costs what it costs with real pictures. Each round runs every candidate once; the figures are of the fastest.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pandas as pd

from trainables.batch import InputSettings
from trainables.corpora import COLUMNS, Corpus, open_store, prepare

WIDTH, HEIGHT, RATE, SOUND_RATE = 720, 480, 30, 44_100
BOX = (48, 128, 224, 224)
SIZE = 96


class Films(Corpus):
    """Every ``.avi`` file in a folder is an utterance."""

    name = "films"
    classes: Mapping[str, tuple[str, ...]] = {}
    modalities = ("audio", "video")

    def read(self, root: Path) -> pd.DataFrame:
        """Return the table of the films."""
        rows = [
            {"utterance": path.stem, "speaker": "nobody", "audio": path.name, "video": path.name, "crop": BOX}
            for path in sorted(root.glob("*.avi"))
        ]
        return pd.DataFrame(rows, columns=COLUMNS)


def make_films(folder: Path, count: int, seconds: float) -> None:
    """Write films of drifting noise with a tone."""
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
                frame = av.VideoFrame.from_ndarray(
                    np.ascontiguousarray(cloth[shift : shift + HEIGHT, shift : shift + WIDTH]), format="rgb24"
                )
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


def by_us(films: Path, processes: int) -> float:
    """Return the seconds that ``prepare`` takes."""
    with tempfile.TemporaryDirectory() as cache:
        start = time.perf_counter()
        prepare(Films(), films, InputSettings(60.0, SIZE), Path(cache), workers=processes)
        return time.perf_counter() - start


def opening(utterances: int) -> float:
    """Return the milliseconds that opening a store of so many utterances takes, the fastest of ten."""
    from trainables.corpora import create

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


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=int, default=96)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ffmpeg", default=shutil.which("ffmpeg"))
    arguments = parser.parse_args()
    print(f"opening a store of 10,000 utterances: {opening(10_000):.1f} ms (target 50)")
    if arguments.ffmpeg is None:
        print("no ffmpeg on the PATH: install it, or name it with --ffmpeg", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        films = Path(folder)
        make_films(films, arguments.films, arguments.seconds)
        candidates: dict[str, Callable[[], float]] = {
            "ours, 1 process": lambda: by_us(films, 1),
            "ours, 2 processes": lambda: by_us(films, 2),
            "ffmpeg, 1 process": lambda: by_ffmpeg(arguments.ffmpeg, films, 1),
            "ffmpeg, 2 processes": lambda: by_ffmpeg(arguments.ffmpeg, films, 2),
        }
        best = dict.fromkeys(candidates, float("inf"))
        for _ in range(arguments.rounds):
            for name, run in candidates.items():
                best[name] = min(best[name], run())
    for name, seconds in best.items():
        print(f"{name:<20} {seconds:7.2f} s   {arguments.films * arguments.seconds / seconds:6.1f} x real time")
    print(f"throughput over ffmpeg: {best['ffmpeg, 1 process'] / best['ours, 1 process']:.2f} (1 process), ", end="")
    print(f"{best['ffmpeg, 2 processes'] / best['ours, 2 processes']:.2f} (2 processes; target 0.8)")
    print(f"from one process to two: {best['ours, 1 process'] / best['ours, 2 processes']:.2f} (target 1.8)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
