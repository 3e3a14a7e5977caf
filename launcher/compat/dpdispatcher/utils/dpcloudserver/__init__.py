"""What scripts for DPDispatcher's cloud machines use besides these."""

from .client import Client, RequestInfoException
from .retcode import RETCODE
from .zip_file import unzip_file, zip_file_list

__all__ = ["RETCODE", "Client", "RequestInfoException", "unzip_file", "zip_file_list"]
