"""The commands of the manual (README and docs), and a folder in which they are run as a stranger would."""

import os
import re
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from preloaded import Preloaded

from support import ROOT, environment

# In a folder of their own, which lets another worker run them: they need nothing of what the demo leaves behind.
ALONE = (
    "docs/how-to/own-model.md",
    "docs/how-to/own-vocabulary.md",
    "docs/how-to/photos.md",
    "docs/how-to/from-python.md",
    "docs/how-to/train.md",
    "docs/explanation/benchmarks.md",
)


class Block(NamedTuple):
    """What stands between two fences: its page, language and text."""

    page: str
    language: str
    text: str

    @property
    def title(self) -> str:
        return re.sub(r"\W+", "-", self.text.strip().splitlines()[0])[:40]


def _pages(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield f"docs/{nav}"
    else:
        for entry in nav.values() if isinstance(nav, dict) else nav:
            yield from _pages(entry)


# In the order in which a reader follows them: later commands build on what earlier ones have left.
SITE = tuple(_pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
# The pages that are not here are made when the site is built, of what the code says. Those on coming from an original
# have a test of their own, `test_coming_from`: their blocks build on each other.
PAGES = {
    page: (ROOT / page).read_text(encoding="utf-8")
    for page in ("README.md", *SITE)
    if (ROOT / page).is_file() and not page.startswith("docs/coming-from/")
}
SHOWN = [
    Block(page, language, text)
    for page, content in PAGES.items()
    for language, text in re.findall(r"^```(bash|python)\n(.*?)^```$", content, re.DOTALL | re.MULTILINE)
]
# A block that several pages show is run where it comes first.
BLOCKS = [block for i, block in enumerate(SHOWN) if block.text not in {earlier.text for earlier in SHOWN[:i]}]


class Folder:
    """The folder a user works in, the commands that are started there, and the server that a block left running."""

    def __init__(self, path: Path, preloaded: Preloaded) -> None:
        self.path = path
        self.server: subprocess.Popen | None = None
        self.preloaded = preloaded
        # Kernels are compiled once for all tests, as they are for all commands of a user.
        self.environment = environment(HF_HUB_OFFLINE="1", MLFLOW_WORKERS="1")
        self.environment["PATH"] = os.pathsep.join([str(preloaded.folder), self.environment["PATH"]])

    def run(self, language: str, block: str, **extra: str) -> subprocess.CompletedProcess[str]:
        command = ["python", "-c", block] if language == "python" else ["bash", "-euo", "pipefail", "-c", block]
        env = self.environment | extra
        return subprocess.run(command, cwd=self.path, env=env, capture_output=True, text=True, timeout=1200)

    def start(self, block: str) -> None:
        self.stop()
        log = (self.path / "server.log").open("w")
        self.server = subprocess.Popen(
            ["bash", "-c", block], cwd=self.path, env=self.environment, stdout=log, stderr=log, start_new_session=True
        )
        log.close()

    def wait_for(self, address: str) -> str:
        for _ in range(360):
            assert self.server
            assert self.server.poll() is None, (self.path / "server.log").read_text()[-2000:]
            try:
                with urllib.request.urlopen(address, timeout=5) as answer:
                    return answer.read().decode()
            except OSError:
                time.sleep(0.5)
        raise AssertionError(f"{address} did not answer: {(self.path / 'server.log').read_text()[-2000:]}")

    def stop(self) -> None:
        if self.server and self.server.poll() is None:
            os.killpg(self.server.pid, signal.SIGTERM)
            self.server.wait(timeout=60)
        self.server = None

    def run_block(self, block: Block) -> str:
        """Its standard output; a server is started and left running. Fails where the block does."""
        if block.text.startswith(("conceptry ui", "mlflow models serve")):
            port = re.search(r"--port (\d+)", block.text)
            assert port
            self.start(block.text)
            page = self.wait_for(f"http://127.0.0.1:{port[1]}/{'ping' if 'serve' in block.text else ''}")
            assert "MLflow" in page or "serve" in block.text
            return ""
        # The package is installed already: by the line that runs the tests.
        done = self.run(block.language, block.text.removeprefix("pip install . && "))
        if "ViT-B-32@" in block.text and done.returncode:
            line = done.stderr.strip().splitlines()[-1]  # without a network: one sentence that says so
            assert line.startswith("conceptry: ")
            assert "cannot be downloaded" in line
            return ""
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout


def new_folder(path: Path, preloaded: Preloaded) -> Folder:
    """A folder with what the commands read of the repository."""
    for name in ("MLproject", "python_env.yaml"):
        shutil.copy(ROOT / name, path)
    return Folder(path, preloaded)
