"""The pages build without a warning, and without any driver at hand."""

import subprocess
import sys

import pytest

from tests.docs.snippets import ROOT

pytest.importorskip("sphinx")

BUILD = """
import sys
for driver in ("redis", "greenstalk", "boto3", "botocore"):
    sys.modules[driver] = None  # an import of it fails
from sphinx.cmd.build import main
sys.exit(main(sys.argv[1:]))
"""


def test_sphinx_has_nothing_to_warn_of(tmp_path):
    arguments = ["-W", "--keep-going", "-q", "-b", "html", "-d", str(tmp_path / "trees")]
    built = tmp_path / "html"
    done = subprocess.run(
        [sys.executable, "-c", BUILD, *arguments, str(ROOT / "docs"), str(built)],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "latergator" in (built / "deployment.html").read_text()
