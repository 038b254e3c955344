"""Write the dashboards into their folder: `python -m deploy.grafana.generator`."""

from pathlib import Path

from deploy.grafana.generator.boards import BOARDS

FOLDER = Path(__file__).parents[1] / "dashboards"

if __name__ == "__main__":
    for board in BOARDS:
        (FOLDER / board.file_name).write_text(board.as_json(), encoding="utf-8")
