"""`pilotfish.Executor`: Python functions as tasks of a pilot, through the interface of `concurrent.futures`."""

from .command import Command as Command
from .command import CommandError as CommandError
from .command import CommandResult as CommandResult
from .ecosystem import dask_scheduler as dask_scheduler
from .ecosystem import register_joblib as register_joblib
from .executor import Executor as Executor
from .future import Future as Future
from .future import LostCallError as LostCallError
from .future import RemoteError as RemoteError
from .future import RemoteTraceback as RemoteTraceback
from .options import TaskFunction as TaskFunction
from .options import task as task
from .pool import Pool as Pool
from .progress import as_completed as as_completed
from .progress import wait as wait
