"""All routes: the router and the OpenAPI document are made from this one table."""

from typing import Any

from zpmeow.api.cache_routes import CACHE_ROUTES
from zpmeow.api.code_routes import CODE_ROUTES
from zpmeow.api.docs_routes import docs_routes
from zpmeow.api.engine_routes import ENGINE_ROUTES
from zpmeow.api.log_routes import LOG_ROUTES
from zpmeow.api.route import Route
from zpmeow.api.session_routes import SESSION_ROUTES
from zpmeow.api.system_routes import SYSTEM_ROUTES

API_ROUTES: tuple[Route[Any], ...] = (
    *SESSION_ROUTES,
    *CODE_ROUTES,
    *ENGINE_ROUTES,
    *CACHE_ROUTES,
    *LOG_ROUTES,
    *SYSTEM_ROUTES,
)
ROUTES: tuple[Route[Any], ...] = (*API_ROUTES, *docs_routes(API_ROUTES))
