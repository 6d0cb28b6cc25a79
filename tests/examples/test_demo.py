"""Run ``make demo`` on a small folder."""

import subprocess
import sys

from tests.support import ROOT


def test_the_demo_loses_nothing(tmp_path):
    for number in range(300):
        (tmp_path / f"module_{number}.py").write_text(f"# {number}\n" * 3000)
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "demo.py"), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if line[:4].isalpha())
    assert report["files"].startswith("300 in")
    total = sum(path.stat().st_size for path in tmp_path.glob("*.py"))
    assert report["bytes"] == f"{total:,}"
    assert 6 <= int(report["retried"]) <= 8  # 2 for each; the killed worker's try may count too
    assert report["dead"].startswith("3 ")
    assert report["lost"] == "0"
    assert "with SIGKILL" in report["killed"]


def test_an_empty_folder_is_told(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "demo.py"), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "no Python files" in done.stderr
