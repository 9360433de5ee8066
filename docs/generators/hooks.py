"""What MkDocs asks of this project: pages made from the code, in place of pages that repeat it."""

from pathlib import Path

from cli import cli_page
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from python_api import FACES, api_page
from schemas import schemas_page


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Leave out of the navigation the pages for users of the originals that are not written yet."""
    docs = Path(config.docs_dir)
    assert config.nav
    for section in config.nav:
        if "Coming from" in section:
            section["Coming from"] = [
                page for page in section["Coming from"] if all((docs / path).exists() for path in _paths(page))
            ]
    return config


def _paths(page: str | dict[str, str]) -> list[str]:
    return [page] if isinstance(page, str) else list(page.values())


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    pages = {"reference/cli.md": cli_page(), "reference/serving.md": schemas_page()}
    pages |= {f"reference/python/{module.rpartition('.')[2]}.md": api_page(module) for module in FACES}
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files
