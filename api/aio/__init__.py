"""Pilots and executors for programs with an event loop (asyncio), which never stops for them."""

from .executor import AsyncExecutor as AsyncExecutor
from .manager import AsyncManager as AsyncManager
