"""Time of `study --help` against `python -c "import typer"` in the same run; target: under 0.4 s.

Also names the heavy modules that importing the command line pulled in: there must be none.
"""

import statistics
import subprocess
import sys
import time

HEAVY = ("torch", "ray", "mlflow", "pandas", "numpy", "matplotlib", "scipy")
REPEATS = 7


def median_seconds(command: list[str]) -> float:
    """Return the median time of several runs of a command."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    """Print the times, their ratio, and the heavy modules that were imported."""
    peer = median_seconds([sys.executable, "-c", "import typer"])
    ours = median_seconds([sys.executable, "-m", "study.cli", "--help"])
    listing = f"import sys, study.cli; print(*[name for name in {HEAVY} if name in sys.modules])"
    heavy = subprocess.run([sys.executable, "-c", listing], check=True, capture_output=True, text=True).stdout.strip()
    print(f"python -c 'import typer'  {peer:.2f} s")
    print(f"study --help              {ours:.2f} s   (target: 0.40 s)")
    print(f"ratio                     {ours / peer:.2f}")
    print(f"heavy modules imported    {heavy or 'none'}")


if __name__ == "__main__":
    main()
