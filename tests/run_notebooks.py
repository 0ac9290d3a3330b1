"""Runs the notebooks. `python tests/run_notebooks.py` writes them again with their outputs, for readers on the web."""

from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def executed(path: Path, *further: str) -> nbformat.NotebookNode:
    """Return a notebook as it is after a run, with `further` code cells behind its own."""
    book = nbformat.read(path, as_version=4)
    book.cells += [nbformat.v4.new_code_cell(source) for source in further]
    resources = {"metadata": {"path": path.parent}}
    client = NotebookClient(book, timeout=120, kernel_name="python3", resources=resources, record_timing=False)
    return stripped(client.execute())


def stripped(book: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Remove what differs from run to run or from machine to machine, but for the outputs themselves."""
    book.metadata = nbformat.from_dict(METADATA)
    for cell in book.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.execution_count = None
            for output in cell.outputs:
                if output.output_type == "execute_result":
                    output.execution_count = None
                if "metadata" in output:
                    output.metadata = {}
    return book


if __name__ == "__main__":
    for notebook in NOTEBOOKS:
        nbformat.write(executed(notebook), notebook)
