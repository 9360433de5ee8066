"""Self-contained HTML pages: a template that is filled with text from outside and needs no network.

The template holds exactly one <style> and one <script>, and fields like {{title}}. Its field {{policy}} becomes a
Content-Security-Policy that allows no address, and only that very script and style, by their SHA-256; so markup in a
name could not run even if it became markup.
"""

import base64
import hashlib
import html
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from conceptry.models.errors import visible

# In JSON these stand in strings alone, where their escapes mean the same.
_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def fill(package: str, name: str, parts: Mapping[str, str]) -> str:
    """Fill the template `name` of `package`: its fields become `parts`, which are HTML, and its policy is set."""
    template = resources.files(package).joinpath(name).read_text("utf-8")
    known = {"policy": _policy(template), **parts}
    # In one pass, so that a name like {{title}} stays what it is.
    filled = re.sub(r"\{\{(\w+)\}\}", lambda field: known[field[1]], template)
    return filled.encode(errors="replace").decode()  # half a pair of surrogates is no text that a file can hold


def write(text: str, path: str | Path) -> None:
    """Write a page: the digests in its policy are of lines that end in \\n."""
    Path(path).write_text(text, encoding="utf-8", newline="\n")


def html_text(text: object) -> str:
    """Escape any text for HTML: no markup, and no mark that would turn the direction of what follows."""
    return html.escape(visible(str(text)))


def script_json(json_text: str) -> str:
    """Escape JSON for a <script type="application/json">: no character of it can end the element."""
    return json_text.translate(_ESCAPES)


def _policy(template: str) -> str:
    style = _digest(re.findall(r"<style>(.*?)</style>", template, re.DOTALL))
    script = _digest(re.findall(r"<script>(.*?)</script>", template, re.DOTALL))
    sources = f"style-src {style}; script-src {script}; img-src data:"
    return f"default-src 'none'; {sources}; base-uri 'none'; form-action 'none'"


def _digest(elements: list[str]) -> str:
    (text,) = elements  # exactly one in the template
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
