"""All dashboards, in the order in which one looks at them."""

from typing import Final

from deploy.grafana.generator.board import Board
from deploy.grafana.generator.cache import CACHE
from deploy.grafana.generator.database import DATABASE
from deploy.grafana.generator.engines import ENGINES
from deploy.grafana.generator.http import HTTP
from deploy.grafana.generator.overview import OVERVIEW
from deploy.grafana.generator.runtime import RUNTIME

BOARDS: Final[tuple[Board, ...]] = (OVERVIEW, CACHE, DATABASE, HTTP, ENGINES, RUNTIME)
