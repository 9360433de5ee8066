"""What MkDocs asks of this project: pages made from the code, in place of pages that repeat it."""

from cli import cli_page
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from python_api import FACES, api_page
from schemas import schemas_page


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    pages = {"reference/cli.md": cli_page(), "reference/serving.md": schemas_page()}
    pages |= {f"reference/python/{module.rpartition('.')[2]}.md": api_page(module) for module in FACES}
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files
